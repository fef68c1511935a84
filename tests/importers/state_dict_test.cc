// tests/importers/state_dict_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "importers/checkpoint/state_dict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "base/bfloat16.h"
#include "tests/importers/crafted_checkpoint.h"

namespace ting {
namespace {

using testing::CraftedTensor;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::PickleProgram;
using testing::PickleStateDict;
using testing::PickleText;
using testing::WriteCheckpoint;

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

Result<StateDict> Parse(const std::string& file) {
  auto owner = std::make_shared<std::string>(file);
  return StateDict::Parse(testing::AsBytes(*owner), owner);
}

std::string Refusal(const std::string& file) {
  const auto dict = Parse(file);
  return dict.ok() ? "accepted" : dict.status().message();
}

std::string OneTensor(const CraftedTensor& tensor, const std::string& storage) {
  return WriteCheckpoint(PickleProgram(PickleStateDict({tensor})), {{"0", storage}});
}

const std::string kSixFloats = Bytes<float>({1, 2, 3, 4, 5, 6});

TEST(StateDict, ReadsAndConverts) {
  const std::string file =
      WriteCheckpoint(PickleProgram(PickleStateDict({
                          {.name = "f32", .key = "0", .storage_elements = 3, .shape = {3}, .stride = {1}},
                          {.name = "f16",
                           .storage_class = "HalfStorage",
                           .key = "1",
                           .storage_elements = 4,
                           .shape = {2, 2},
                           .stride = {2, 1}},
                          {.name = "bf16",
                           .storage_class = "BFloat16Storage",
                           .key = "2",
                           .storage_elements = 2,
                           .shape = {2},
                           .stride = {1}},
                          {.name = "f64",
                           .storage_class = "DoubleStorage",
                           .key = "3",
                           .storage_elements = 2,
                           .shape = {2, 1},
                           .stride = {1, 1}},
                          {.name = "count",
                           .storage_class = "LongStorage",
                           .key = "4",
                           .storage_elements = 1,
                           .shape = {},
                           .stride = {}},
                          {.name = "none", .key = "0", .storage_elements = 3, .shape = {0, 5}, .stride = {5, 1}},
                      })),
                      {{"0", Bytes<float>({1.5F, -2, 3e-40F})},
                       {"1", Bytes<uint16_t>({0x3c00, 0xc000, 0x0001, 0x7c00})},
                       {"2", Bytes<uint16_t>({0x3f80, 0xc040})},
                       {"3", Bytes<double>({0.1, -1e300})},
                       {"4", Bytes<int64_t>({7})}});
  const auto dict = Parse(file);
  ASSERT_TRUE(dict.ok()) << dict.status().ToString();
  EXPECT_THAT(dict->names(), ElementsAre("f32", "f16", "bf16", "f64", "count", "none"));
  EXPECT_THAT(*dict->ReadF32("f32"), ElementsAre(1.5F, -2.0F, 3e-40F));
  EXPECT_THAT(*dict->ReadF32("f16"), ElementsAre(1.0F, -2.0F, 0x1p-24F, std::numeric_limits<float>::infinity()));
  EXPECT_THAT(*dict->ReadF32("bf16"), ElementsAre(1.0F, -3.0F));
  EXPECT_THAT(*dict->ReadF32("f64"), ElementsAre(0.1F, -std::numeric_limits<float>::infinity()));
  EXPECT_THAT(*dict->ReadF32("none"), ElementsAre());
  EXPECT_THAT(dict->Find("f16")->shape, ElementsAre(2, 2));
  EXPECT_EQ(dict->Find("count")->num_elements, 1);
  EXPECT_EQ(dict->Find("count")->dtype, DType::kS64);
  EXPECT_THAT(dict->ReadF32("count").status().message(), HasSubstr("tensor count holds s64"));
  EXPECT_EQ(dict->ReadF32("absent").status().code(), StatusCode::kNotFound);
  EXPECT_FALSE(dict->Has("absent"));
}

TEST(StateDict, CountsParametersWithoutBuffers) {
  std::vector<testing::NamedShape> tensors{{"encoder.w", {3, 4}}, {"encoder.b", {3}}};
  for (const char* buffer :
       {"encoder.embed.pos_enc.pe", "encoder.conv.norm.running_mean", "encoder.conv.norm.running_var",
        "encoder.conv.norm.num_batches_tracked", "encoder.global_cmvn.mean"}) {
    tensors.push_back({buffer, {100}});
  }
  const auto dict = Parse(testing::WriteFloatCheckpoint(tensors));
  ASSERT_TRUE(dict.ok()) << dict.status().ToString();
  EXPECT_EQ(dict->num_parameters(), 15);
}

TEST(StateDict, MakesStridedTensorsContiguous) {
  // A transposed view, a slice with an offset, and a column.
  const std::string file =
      WriteCheckpoint(PickleProgram(PickleStateDict({
                          {.name = "transposed", .storage_elements = 6, .shape = {3, 2}, .stride = {1, 3}},
                          {.name = "rows", .storage_elements = 6, .offset = 3, .shape = {1, 3}, .stride = {77, 1}},
                          {.name = "unit_axis", .storage_elements = 6, .shape = {3, 1, 2}, .stride = {1, INT64_MAX, 3}},
                          {.name = "column", .storage_elements = 6, .offset = 2, .shape = {2}, .stride = {3}},
                      })),
                      {{"0", kSixFloats}});
  const auto dict = Parse(file);
  ASSERT_TRUE(dict.ok()) << dict.status().ToString();
  EXPECT_THAT(*dict->ReadF32("transposed"), ElementsAre(1, 4, 2, 5, 3, 6));
  EXPECT_THAT(*dict->ReadF32("rows"), ElementsAre(4, 5, 6));
  EXPECT_THAT(*dict->ReadF32("unit_axis"), ElementsAre(1, 4, 2, 5, 3, 6));
  EXPECT_THAT(*dict->ReadF32("column"), ElementsAre(3, 6));
}

TEST(StateDict, FindsStateDictInTrainingCheckpoints) {
  const CraftedTensor tensor{.name = "w", .storage_elements = 6, .shape = {6}, .stride = {1}};
  for (const char* key : {"model", "state_dict", "model_state_dict", "module"}) {
    const std::string file = WriteCheckpoint(
        PickleProgram("}(" + PickleText("epoch") + "K\x05" + PickleText(key) + PickleStateDict({tensor}) + "u"),
        {{"0", kSixFloats}});
    const auto dict = Parse(file);
    ASSERT_TRUE(dict.ok()) << dict.status().ToString();
    EXPECT_TRUE(dict->Has("w"));
  }
  EXPECT_THAT(Refusal(WriteCheckpoint(PickleProgram("}" + PickleText("optimizer") + PickleStateDict({tensor}) + "s"),
                                      {{"0", kSixFloats}})),
              HasSubstr("no tensors, nor a state_dict"));
  EXPECT_THAT(Refusal(WriteCheckpoint(PickleProgram("]"), {})), HasSubstr("holds a list, not a dictionary"));
}

TEST(StateDict, AcceptsAnyFolderAndZip64) {
  const std::string pickle =
      PickleProgram(PickleStateDict({{.name = "w", .storage_elements = 6, .shape = {6}, .stride = {1}}}));
  for (const char* folder : {"", "archive/", "avg_30/"}) {
    EXPECT_EQ(Refusal(WriteCheckpoint(pickle, {{"0", kSixFloats}}, folder)), "accepted") << folder;
  }
  EXPECT_EQ(Refusal(WriteCheckpoint(pickle, {{"0", kSixFloats}}, "final/", {.zip64 = true})), "accepted");
}

TEST(StateDict, RefusesTensorsOutsideTheirStorage) {
  const auto refusal = [](int64_t elements, int64_t offset, std::vector<int64_t> shape, std::vector<int64_t> stride) {
    return Refusal(OneTensor({.name = "enc.w",
                              .storage_elements = elements,
                              .offset = offset,
                              .shape = std::move(shape),
                              .stride = std::move(stride)},
                             kSixFloats));
  };
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(refusal(6, 0, {2, 3}, {3, 1}), "accepted");
  EXPECT_THAT(refusal(6, 1, {2, 3}, {3, 1}), HasSubstr("tensor enc.w: offset 1 and shape [2, 3] leave its storage"));
  EXPECT_THAT(refusal(6, 0, {7}, {1}), HasSubstr("leave its storage of 6"));
  EXPECT_THAT(refusal(6, 0, {2}, {6}), HasSubstr("leave its storage of 6"));
  EXPECT_THAT(refusal(6, 6, {1}, {1}), HasSubstr("leave its storage"));
  EXPECT_THAT(refusal(7, 0, {2}, {1}), HasSubstr("should have 7 elements but has 24 bytes"));
  EXPECT_THAT(refusal(kHuge, 0, {2}, {1}), HasSubstr("should have"));
  EXPECT_THAT(refusal(6, -1, {2}, {1}), HasSubstr("impossible"));
  EXPECT_THAT(refusal(6, 0, {-2}, {1}), HasSubstr("impossible"));
  EXPECT_THAT(refusal(6, 5, {2}, {-1}), HasSubstr("impossible"));
  EXPECT_THAT(refusal(6, kHuge, {2}, {1}), HasSubstr("leave its storage"));
  EXPECT_THAT(refusal(6, 0, {kHuge, 2}, {1, 1}), HasSubstr("impossible"));
  EXPECT_THAT(refusal(6, 0, {2, 2}, {kHuge, kHuge}), HasSubstr("impossible"));
  EXPECT_THAT(refusal(6, 0, {2, 3}, {3}), HasSubstr("2 sizes but 1 strides"));
  EXPECT_THAT(refusal(6, 0, std::vector<int64_t>(9, 1), std::vector<int64_t>(9, 1)), HasSubstr("9 axes"));
  EXPECT_THAT(refusal(6, 0, {1000, 6}, {0, 1}), HasSubstr("expanded"));
}

TEST(StateDict, BoundsCopiesOfStridedTensors) {
  std::vector<CraftedTensor> views;
  for (int i = 0; i < 10000; ++i) {
    views.push_back({.name = std::to_string(i), .storage_elements = 100000, .shape = {50000, 2}, .stride = {1, 50000}});
  }
  const std::string file = WriteCheckpoint(PickleProgram(PickleStateDict(views)), {{"0", std::string(400000, 'x')}});
  EXPECT_THAT(Refusal(file), HasSubstr("copying strided tensors"));
}

TEST(StateDict, RefusesByName) {
  const CraftedTensor tensor{.name = "w", .storage_elements = 6, .shape = {6}, .stride = {1}};
  CraftedTensor other = tensor;
  other.key = "5";
  EXPECT_THAT(Refusal(OneTensor(other, kSixFloats)), HasSubstr("tensor w: its storage 5 is not in the zip"));
  other = tensor;
  other.storage_class = "ShortStorage";
  EXPECT_THAT(Refusal(OneTensor(other, kSixFloats)), HasSubstr("tensor w: its type int16"));
  EXPECT_THAT(Refusal(WriteCheckpoint(PickleProgram(PickleStateDict({tensor, tensor})), {{"0", kSixFloats}})),
              HasSubstr("tensor w: the name occurs twice"));
  EXPECT_THAT(Refusal(testing::WriteZip({{"a/data.pkl", "x"}, {"b/data.pkl", "x"}})), HasSubstr("two data.pkl"));
  EXPECT_THAT(Refusal(testing::WriteZip({{"a/readme", "x"}})), HasSubstr("no data.pkl"));
  EXPECT_THAT(Refusal(testing::WriteZip({{"a/data.pkl", PickleProgram("}")}, {"a/byteorder", "big"}})),
              HasSubstr("byte order big"));
}

TEST(StateDict, RefusesOtherFormatsWithAdvice) {
  EXPECT_THAT(Refusal(testing::WriteZip({{"final/data.pkl", "x"}, {"final/code/__torch__/m.py", "x"}})),
              HasSubstr("TorchScript export"));
  EXPECT_THAT(Refusal(std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15)),
              HasSubstr("PyTorch before 1.6"));
  EXPECT_THAT(Refusal(""), HasSubstr("empty"));
  EXPECT_THAT(Refusal("version https://git-lfs.github.com/spec/v1"), HasSubstr("not a PyTorch checkpoint"));
  EXPECT_EQ(StateDict::Open("/nonexistent/final.pt").status().code(), StatusCode::kNotFound);
}

TEST(StateDict, RefusesEveryTruncation) {
  const std::string file = testing::WriteFloatCheckpoint({{"a", {2, 3}}, {"b", {5}}});
  ASSERT_EQ(Refusal(file), "accepted");
  for (size_t size = 0; size < file.size(); ++size) EXPECT_NE(Refusal(file.substr(0, size)), "accepted") << size;
}

// Whatever is damaged, what is accepted can be read in full without leaving the file (run under ASan).
TEST(StateDict, SurvivesRandomDamage) {
  std::mt19937 random(2);
  const std::string good = testing::WriteFloatCheckpoint({{"a", {2, 3}}, {"b", {5}}});
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string file = good;
    for (int i = 0; i < 1 + round % 3; ++i) file[random() % file.size()] = static_cast<char>(random());
    const auto dict = Parse(file);
    if (!dict.ok()) continue;
    ++accepted;
    for (const std::string& name : dict->names()) (void)dict->ReadF32(name).ok();
  }
  EXPECT_GT(accepted, 1000);  // damage in the numbers alone is not noticed, so many must be
}

}  // namespace
}  // namespace ting
