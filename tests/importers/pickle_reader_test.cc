// tests/importers/pickle_reader_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "importers/checkpoint/pickle_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/importers/crafted_checkpoint.h"

namespace ting {
namespace {

using Kind = PickleValue::Kind;
using testing::AsBytes;
using ::testing::HasSubstr;
using testing::LittleEndian;
using testing::PickleGlobal;
using testing::PickleInt;
using testing::PickleProgram;
using testing::PickleTensor;
using testing::PickleText;
using testing::PickleTuple;

std::string Refusal(const std::string& body) {
  const std::string program = PickleProgram(body);
  const auto document = PickleDocument::Parse(AsBytes(program));
  return document.ok() ? "accepted" : document.status().message();
}

// The program must outlive the document, whose texts point into it.
struct Parsed {
  explicit Parsed(std::string text) : program(std::move(text)), document(PickleDocument::Parse(AsBytes(program))) {}
  const PickleValue& root() const { return document->root(); }
  const PickleValue& item(size_t i) const { return document->value(root().items.at(i)); }
  std::string program;
  Result<PickleDocument> document;
};

#define ASSERT_PARSED(parsed) ASSERT_TRUE((parsed).document.ok()) << (parsed).document.status().ToString()

TEST(PickleReader, ReadsScalars) {
  // (None, True, False, -2, 200, 60000, 2**40, -1, 1.5, "é")
  const std::string zero_long = std::string("\x8a\x00", 2);
  const Parsed parsed(PickleProgram("(N\x88\x89" + PickleInt(-2) + "K\xc8M\x60\xea" + PickleInt(int64_t{1} << 40) +
                                    "\x8a\x01\xff" + zero_long + "G" + std::string("\x3f\xf8\0\0\0\0\0\0", 8) +
                                    PickleText("\xc3\xa9") + "t"));
  ASSERT_PARSED(parsed);
  ASSERT_EQ(parsed.root().kind, Kind::kTuple);
  ASSERT_EQ(parsed.root().items.size(), 11U);
  EXPECT_EQ(parsed.item(0).kind, Kind::kNone);
  EXPECT_EQ(parsed.item(1).kind, Kind::kBool);
  EXPECT_EQ(parsed.item(1).integer, 1);
  EXPECT_EQ(parsed.item(2).integer, 0);
  EXPECT_EQ(parsed.item(3).integer, -2);
  EXPECT_EQ(parsed.item(4).integer, 200);
  EXPECT_EQ(parsed.item(5).integer, 60000);
  EXPECT_EQ(parsed.item(6).integer, int64_t{1} << 40);
  EXPECT_EQ(parsed.item(7).integer, -1);
  EXPECT_EQ(parsed.item(8).integer, 0);
  EXPECT_EQ(parsed.item(9).real, 1.5);
  EXPECT_EQ(parsed.item(10).text, "\xc3\xa9");
}

TEST(PickleReader, ReadsCollections) {
  // [ (), (1,), (1, 2), (1, 2, 3), {"a": []}, [5] ] with APPEND, APPENDS, SETITEM, LIST, DICT
  const Parsed parsed(PickleProgram("])a(K\x01\x85K\x01K\x02\x86K\x01K\x02K\x03\x87}" + PickleText("a") + "]s(K\x05l(" +
                                    PickleText("k") + "Ndee"));
  const Parsed well(PickleProgram("])a(K\x01\x85K\x01K\x02\x86K\x01K\x02K\x03\x87}" + PickleText("a") + "]s(K\x05l(" +
                                  PickleText("k") + "Nde"));
  EXPECT_FALSE(parsed.document.ok());  // one APPENDS too many
  ASSERT_PARSED(well);
  ASSERT_EQ(well.root().items.size(), 7U);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(well.item(i).items.size(), i);
  EXPECT_EQ(well.item(4).kind, Kind::kDict);
  EXPECT_EQ(well.document->value(well.item(4).items[1]).kind, Kind::kList);
  EXPECT_EQ(well.item(5).kind, Kind::kList);
  EXPECT_EQ(well.item(6).kind, Kind::kDict);
}

TEST(PickleReader, ReadsMemo) {
  // x = "s"; (x, x, x) through BINPUT, LONG_BINPUT, MEMOIZE and both gets
  const Parsed parsed(PickleProgram("(" + PickleText("s") + "q\x05h\x05r" + LittleEndian(300, 4) + "j" +
                                    LittleEndian(300, 4) + "\x94t"));
  ASSERT_PARSED(parsed);
  ASSERT_EQ(parsed.root().items.size(), 3U);
  EXPECT_EQ(parsed.root().items[0], parsed.root().items[2]);
}

TEST(PickleReader, ReadsProtocol4) {
  // FRAME, SHORT_BINUNICODE, STACK_GLOBAL, MEMOIZE, as torch.save(…, pickle_protocol=4)
  const Parsed parsed("\x80\x04\x95" + LittleEndian(0, 8) +
                      "\x8c\x0b"
                      "collections\x94\x8c\x0bOrderedDict\x94\x93\x94)R.");
  ASSERT_PARSED(parsed);
  EXPECT_EQ(parsed.root().kind, Kind::kDict);
}

TEST(PickleReader, ReadsTensor) {
  const Parsed parsed(PickleProgram(PickleTensor({.storage_class = "HalfStorage",
                                                  .key = "17",
                                                  .storage_elements = 12,
                                                  .offset = 3,
                                                  .shape = {2, 4},
                                                  .stride = {4, 1}})));
  ASSERT_PARSED(parsed);
  ASSERT_EQ(parsed.root().kind, Kind::kTensor);
  EXPECT_EQ(parsed.root().integer, 3);
  EXPECT_EQ(parsed.item(0).storage_type, StorageType::kHalf);
  EXPECT_EQ(parsed.item(0).text, "17");
  EXPECT_EQ(parsed.item(0).integer, 12);
  EXPECT_EQ(parsed.document->value(parsed.item(1).items[1]).integer, 4);
}

TEST(PickleReader, ReadsParameterAsItsTensor) {
  const std::string tensor = PickleTensor({.storage_elements = 1, .shape = {1}, .stride = {1}});
  const Parsed parsed(
      PickleProgram(PickleGlobal("torch._utils", "_rebuild_parameter") + PickleTuple({tensor, "\x88", "N"}) + "R"));
  ASSERT_PARSED(parsed);
  EXPECT_EQ(parsed.root().kind, Kind::kTensor);
}

TEST(PickleReader, ReadsEveryStorageClass) {
  const std::pair<const char*, size_t> classes[] = {
      {"FloatStorage", 4}, {"HalfStorage", 2},  {"BFloat16Storage", 2}, {"DoubleStorage", 8}, {"LongStorage", 8},
      {"IntStorage", 4},   {"ShortStorage", 2}, {"CharStorage", 1},     {"ByteStorage", 1},   {"BoolStorage", 1}};
  for (const auto& [name, size] : classes) {
    const Parsed parsed(PickleProgram(PickleGlobal("torch", name)));
    ASSERT_PARSED(parsed);
    EXPECT_EQ(StorageTypeSize(parsed.root().storage_type), size) << name;
  }
}

// state_dict carries module versions as an attribute; Python 2 calls OrderedDict with pairs.
TEST(PickleReader, IgnoresMetadataAndReadsPairs) {
  const std::string dict = PickleGlobal("collections", "OrderedDict") + "](" + PickleText("k") + "K\x07\x86" + "e\x85R";
  const Parsed parsed(PickleProgram(dict + "}" + PickleText("_metadata") + "}sb"));
  ASSERT_PARSED(parsed);
  ASSERT_EQ(parsed.root().items.size(), 2U);
  EXPECT_EQ(parsed.item(1).integer, 7);
}

TEST(PickleReader, RefusesGlobalsByName) {
  EXPECT_THAT(Refusal(PickleGlobal("os", "system") + "(" + PickleText("true") + "tR"), HasSubstr("class os.system"));
  EXPECT_THAT(Refusal(PickleGlobal("builtins", "eval")), HasSubstr("class builtins.eval"));
  EXPECT_THAT(Refusal(PickleGlobal("torch", "QInt8Storage")), HasSubstr("class torch.QInt8Storage"));
  EXPECT_THAT(Refusal(PickleGlobal("torch.nn", "OrderedDict")), HasSubstr("class torch.nn.OrderedDict"));
  EXPECT_THAT(Refusal(PickleText("os") + PickleText("system") + "\x93"), HasSubstr("class os.system"));
  EXPECT_THAT(Refusal(PickleGlobal("\x1b[31m", "x")), HasSubstr("class \\x1b[31m.x"));
}

TEST(PickleReader, RefusesOpcodesByName) {
  const std::pair<const char*, const char*> refused[] = {
      {"ios\nsystem\n", "INST"}, {"o", "OBJ"},    {"\x81", "NEWOBJ"},    {"\x82\x01", "EXT1"},
      {"P1\n", "PERSID"},        {"I1\n", "INT"}, {"\x8f", "EMPTY_SET"}, {"\x97", "NEXT_BUFFER"},
      {"\x96", "BYTEARRAY8"},    {"\xee", "0xee"}};
  for (const auto& [program, name] : refused) {
    EXPECT_THAT(Refusal(program), HasSubstr("opcode " + std::string(name) + " is not")) << name;
  }
}

TEST(PickleReader, RefusesWrongStacks) {
  for (const char* program : {"",
                              "R",
                              "NR",
                              "t",
                              "u",
                              "e",
                              "a",
                              "s",
                              "b",
                              "Nb",
                              "0",
                              "1",
                              "Q",
                              "\x85",
                              "(\x85",
                              "N(a",
                              "](Na",
                              "}(Nu",
                              "(Nd",
                              "q\1",
                              "h\1",
                              "NN",
                              "(N",
                              "\x94",
                              "\x93",
                              "N)R",
                              "}N)sQ",
                              "ccollections\nOrderedDict\nNR",
                              "ctorch\nFloatStorage\n)R"}) {
    EXPECT_NE(Refusal(program), "accepted") << program;
  }
  EXPECT_THAT(Refusal("K\x01\x85Q"), HasSubstr("persistent id"));
}

TEST(PickleReader, RefusesWrongTensorArguments) {
  const std::string rebuild = PickleGlobal("torch._utils", "_rebuild_tensor_v2");
  EXPECT_THAT(Refusal(rebuild + ")R"), HasSubstr("_rebuild_tensor_v2"));
  EXPECT_THAT(Refusal(rebuild + PickleTuple({"N", PickleInt(0), ")", ")"}) + "R"), HasSubstr("_rebuild_tensor_v2"));
  EXPECT_THAT(Refusal(PickleGlobal("torch._utils", "_rebuild_parameter") + ")R"), HasSubstr("without a tensor"));
}

TEST(PickleReader, RefusesHugeCounts) {
  EXPECT_THAT(Refusal("X\xff\xff\xff\x7f"
                      "abc"),
              HasSubstr("truncated"));
  EXPECT_THAT(Refusal("\x8d" + LittleEndian(~uint64_t{0}, 8)), HasSubstr("truncated"));
  EXPECT_THAT(Refusal("\x8a\x09"
                      "123456789"),
              HasSubstr("integer of 9 bytes"));
  EXPECT_THAT(Refusal("\x8b\xff\xff\xff\xff"), HasSubstr("integer of 4294967295 bytes"));
  EXPECT_THAT(Refusal("Nr\xff\xff\xff\xff"), HasSubstr("memo index 4294967295"));
  EXPECT_THAT(Refusal("\x80\x09"), HasSubstr("protocol 9"));
  EXPECT_THAT(Refusal("c" + std::string(5000, 'a')), HasSubstr("does not end"));
  const std::string large(kMaxPickleBytes + 1, 'N');
  EXPECT_EQ(PickleDocument::Parse(AsBytes(large)).status().code(), StatusCode::kResourceExhausted);
}

TEST(PickleReader, RefusesEveryTruncation) {
  const std::string program = PickleProgram(
      testing::PickleStateDict({{.name = "w", .storage_elements = 6, .shape = {2, 3}, .stride = {3, 1}}}));
  for (size_t size = 0; size < program.size(); ++size) {
    const std::string cut = program.substr(0, size);
    EXPECT_FALSE(PickleDocument::Parse(AsBytes(cut)).ok()) << size;
  }
}

// A nesting of a million lists must neither recurse when built nor when freed.
TEST(PickleReader, SurvivesDeepNesting) {
  std::string deep(900000, ']');
  deep += std::string(deep.size() - 1, 'a');
  const Parsed parsed(PickleProgram(deep));
  ASSERT_PARSED(parsed);
  EXPECT_EQ(parsed.root().items.size(), 1U);
  EXPECT_THAT(Refusal(std::string(2000000, '(')), HasSubstr("too deep"));
  EXPECT_THAT(Refusal(std::string(2000000, ']')), HasSubstr("values"));
}

// x0 = []; x1 = [x0, x0]; …: 2^200 leaves if expanded, 200 values here. And a list that contains itself.
TEST(PickleReader, SurvivesSharingAndCycles) {
  std::string program = "]q" + std::string(1, '\0');
  for (int i = 0; i < 200; ++i) {
    program +=
        "0](h" + std::string(1, static_cast<char>(i)) + "h" + static_cast<char>(i) + "eq" + static_cast<char>(i + 1);
  }
  const Parsed parsed(PickleProgram(program));
  ASSERT_PARSED(parsed);
  const std::string cycle = "]q" + std::string(1, '\0') + "h" + std::string(1, '\0') + "a";
  EXPECT_EQ(Refusal(cycle), "accepted");
}

// One long list handed to OrderedDict again and again must not multiply.
TEST(PickleReader, BoundsRepeatedCopies) {
  std::string program = PickleGlobal("collections", "OrderedDict") + "q" + std::string(1, '\0') + "0](";
  program += "K\x01K\x02\x86q\x01";
  for (int i = 0; i < 100000; ++i) program += "h\x01";
  program +=
      "eq\x02"
      "0";
  for (int i = 0; i < 200000; ++i) program += std::string("h\0h\x02\x85R0", 7);
  EXPECT_THAT(Refusal(program), HasSubstr("copied"));
}

}  // namespace
}  // namespace ting
