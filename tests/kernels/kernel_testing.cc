// tests/kernels/kernel_testing.cc
// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/kernel_testing.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/status_macros.h"
#include "kernels/params.h"

namespace ting::testing {
namespace {

constexpr size_t kCanaryBytes = 64;
constexpr std::byte kCanary{0xa5};
constexpr std::byte kPoison{0xff};  // four of them are a NaN, and -1 as an integer

// Bytes with a canary on both sides; the data itself is 64-byte aligned, the rear canary follows the last byte.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(size_t bytes) : bytes_(bytes) {
    buffer_ = std::move(AlignedBuffer::Allocate(bytes + 2 * kCanaryBytes)).value();
    std::memset(buffer_.data(), static_cast<int>(kCanary), buffer_.size());
    std::memset(data(), static_cast<int>(kPoison), bytes);
  }
  std::byte* data() { return buffer_.data() + kCanaryBytes; }
  std::vector<std::byte> Copy() { return {data(), data() + bytes_}; }
  bool Intact() {
    const auto is_canary = [](std::byte b) { return b == kCanary; };
    return std::all_of(buffer_.data(), data(), is_canary) &&
           std::all_of(data() + bytes_, data() + bytes_ + kCanaryBytes, is_canary);
  }

 private:
  size_t bytes_;
  AlignedBuffer buffer_;
};

size_t BytesOf(DType dtype, const Shape& shape) { return shape.num_elements() * DTypeSize(dtype); }

// The memory and views of one call.
struct Arena {
  std::vector<GuardedBuffer> input_buffers, output_buffers;
  std::vector<TensorView> inputs, outputs;
  std::vector<RowSet> row_sets;
  std::vector<const RowSet*> rows;

  explicit Arena(const OpCall& call) {
    for (const HostTensor& input : call.inputs) {
      GuardedBuffer& buffer = input_buffers.emplace_back(input.bytes.size());
      if (!input.bytes.empty()) std::memcpy(buffer.data(), input.bytes.data(), input.bytes.size());
      inputs.push_back({buffer.data(), input.dtype, input.shape});
    }
    for (const OutputSpec& output : call.outputs) {
      GuardedBuffer& buffer = output_buffers.emplace_back(BytesOf(output.dtype, output.shape));
      outputs.push_back({buffer.data(), output.dtype, output.shape});
    }
    for (const auto& lengths : call.lengths) row_sets.push_back(RowSet::FromLengths(lengths));
    for (size_t i = 0; i < inputs.size(); ++i) {
      rows.push_back(i < row_sets.size() && !call.lengths[i].empty() ? &row_sets[i] : nullptr);
    }
  }
};

std::vector<TensorView> WithoutData(std::vector<TensorView> views) {
  for (TensorView& view : views) view.data = nullptr;
  return views;
}

void CheckMemory(const char* name, const OpCall& call, Arena& arena, GuardedBuffer& workspace) {
  EXPECT_TRUE(workspace.Intact()) << name << " wrote outside its workspace";
  for (size_t i = 0; i < call.outputs.size(); ++i) {
    EXPECT_TRUE(arena.output_buffers[i].Intact()) << name << " wrote outside output " << i;
  }
  for (size_t i = 0; i < call.inputs.size(); ++i) {
    EXPECT_TRUE(arena.input_buffers[i].Intact()) << name << " wrote outside input " << i;
    if (call.inputs[i].state) continue;
    EXPECT_EQ(arena.input_buffers[i].Copy(), call.inputs[i].bytes) << name << " changed input " << i;
  }
}

}  // namespace

std::vector<float> Rng::Floats(int64_t count, float low, float high) {
  std::vector<float> out(count);
  for (float& value : out) value = Float(low, high);
  return out;
}

std::vector<float> Rng::SmallInts(int64_t count, int32_t limit) {
  std::vector<float> out(count);
  for (float& value : out) value = static_cast<float>(Int(-limit, limit));
  return out;
}

std::vector<int32_t> Rng::Ints(int64_t count, int32_t low, int32_t high) {
  std::vector<int32_t> out(count);
  for (int32_t& value : out) value = Int(low, high);
  return out;
}

HostTensor HostTensor::F32(Shape shape, std::span<const float> values) {
  TING_CHECK(shape.num_elements() == static_cast<int64_t>(values.size()), "a test's tensor has as many values");
  HostTensor tensor{DType::kF32, shape, std::vector<std::byte>(values.size_bytes())};
  if (!values.empty()) std::memcpy(tensor.bytes.data(), values.data(), values.size_bytes());
  return tensor;
}

HostTensor HostTensor::S32(std::span<const int32_t> values) {
  HostTensor tensor{DType::kS32, {static_cast<int64_t>(values.size())}, std::vector<std::byte>(values.size_bytes())};
  if (!values.empty()) std::memcpy(tensor.bytes.data(), values.data(), values.size_bytes());
  return tensor;
}

std::string FormatName(WeightFormat format) {
  return std::string(DTypeName(format.dtype)) + (format.layout == Layout::kPanel16 ? "_panel16" : "_row_major");
}

TestOp& TestOp::Set(const std::string& attribute, Attribute value) {
  attributes_.Set(attribute, std::move(value));
  return *this;
}

TestOp& TestOp::Add(const std::string& slot, Kind kind, Shape shape, std::vector<float> values) {
  TING_CHECK(shape.num_elements() == static_cast<int64_t>(values.size()), "a test's weight has as many values");
  weights_[slot] = {kind, shape, std::move(values)};
  return *this;
}

TestOp& TestOp::Vector(const std::string& slot, std::vector<float> values) {
  const auto size = static_cast<int64_t>(values.size());
  return Add(slot, Kind::kVector, {size}, std::move(values));
}
TestOp& TestOp::Matrix(const std::string& slot, int64_t N, int64_t K, std::vector<float> values) {
  return Add(slot, Kind::kMatrix, {N, K}, std::move(values));
}
TestOp& TestOp::Table(const std::string& slot, int64_t N, int64_t K, std::vector<float> values) {
  return Add(slot, Kind::kTable, {N, K}, std::move(values));
}
TestOp& TestOp::PlainMatrix(const std::string& slot, int64_t N, int64_t K, std::vector<float> values) {
  return Add(slot, Kind::kPlain, {N, K}, std::move(values));
}
TestOp& TestOp::Erase(const std::string& slot) {
  weights_.erase(slot);
  return *this;
}

TestOp& TestOp::RandomLinear(Rng& rng, const std::string& prefix, int64_t N, int64_t K) {
  const float limit = std::sqrt(3.0F / static_cast<float>(K));  // variance 1 / K: outputs about as large as inputs
  Matrix(prefix + ".w", N, K, rng.Floats(N * K, -limit, limit));
  return Vector(prefix + ".b", rng.Floats(N, -0.5F, 0.5F));
}

TestOp& TestOp::RandomNorm(Rng& rng, const std::string& prefix, int64_t D) {
  Vector(prefix + ".gamma", rng.Floats(D, 0.5F, 1.5F));
  return Vector(prefix + ".beta", rng.Floats(D, -0.5F, 0.5F));
}

PackedOp TestOp::Pack(WeightFormat format) const {
  PackedOp packed;
  packed.desc.op = op_;
  packed.desc.node = node_;
  packed.desc.attributes = attributes_;
  for (const auto& [slot, weight] : weights_) {
    const bool narrow = weight.kind == Kind::kMatrix || weight.kind == Kind::kTable;
    const bool no_table = format.dtype == DType::kBF16x2 || HasFactors(format.dtype);  // no op looks these up
    const DType dtype = narrow && !(weight.kind == Kind::kTable && no_table) ? format.dtype : DType::kF32;
    const Layout layout = weight.kind == Kind::kMatrix ? format.layout : Layout::kRowMajor;
    AlignedBuffer& buffer = packed.buffers.emplace_back(
        std::move(AlignedBuffer::Allocate(WeightBytes(dtype, weight.shape, layout))).value());
    if (weight.kind == Kind::kVector) {
      std::memcpy(buffer.data(), weight.values.data(), weight.values.size() * sizeof(float));
    } else {
      PackMatrix(weight.values.data(), weight.shape[0], weight.shape[1], dtype, layout, buffer.data());
    }
    packed.desc.weights[slot] = {buffer.data(), dtype, weight.shape, layout};
  }
  return packed;
}

std::vector<const KernelEntry*> EntriesFor(std::span<const KernelEntry> entries, const OpDesc& desc) {
  std::vector<const KernelEntry*> found;
  for (const KernelEntry& entry : entries) {
    if (desc.op == entry.op && !entry.refuse(desc).has_value()) found.push_back(&entry);
  }
  return found;
}

OpOutcome RunEntry(const KernelEntry& entry, const OpDesc& desc, const OpCall& call, Stream* stream) {
  OpOutcome outcome;
  auto kernel = entry.create(desc);
  if (!kernel.ok()) return outcome.status = kernel.status(), outcome;
  Arena arena(call);
  const auto planned_inputs = WithoutData(arena.inputs), planned_outputs = WithoutData(arena.outputs);
  KernelContext context{planned_inputs, planned_outputs, arena.rows, &call.options, nullptr, stream};
  GuardedBuffer workspace((*kernel)->WorkspaceBytes(context));
  context.inputs = arena.inputs;
  context.outputs = arena.outputs;
  context.workspace = workspace.data();
  outcome.status = (*kernel)->Run(context);
  CheckMemory(entry.name, call, arena, workspace);
  for (size_t i = 0; i < call.outputs.size(); ++i) {
    outcome.outputs.push_back({call.outputs[i].dtype, call.outputs[i].shape, arena.output_buffers[i].Copy()});
  }
  for (size_t i = 0; i < call.inputs.size(); ++i) {
    outcome.inputs.push_back({call.inputs[i].dtype, call.inputs[i].shape, arena.input_buffers[i].Copy()});
  }
  return outcome;
}

OpOutcome RunOp(std::span<const KernelEntry> entries, const OpDesc& desc, const OpCall& call, Stream* stream) {
  OpOutcome outcome;
  const auto candidates = EntriesFor(entries, desc);
  if (candidates.empty()) {
    outcome.status = NotFound("no kernel runs {} here", desc.op);
  } else {
    outcome = RunEntry(*candidates[0], desc, call, stream);
  }
  EXPECT_TRUE(outcome.status.ok()) << desc.op << ": " << outcome.status.ToString();
  if (outcome.outputs.empty()) {  // so that callers may index
    for (const OutputSpec& output : call.outputs) {
      outcome.outputs.push_back(
          {output.dtype, output.shape, std::vector<std::byte>(BytesOf(output.dtype, output.shape))});
    }
    outcome.inputs = call.inputs;
  }
  return outcome;
}

// f32: a dot product of K terms in f32 is off by about sqrt(K) * 2^-24 of the terms' scale; the longest here has 4864
// (4e-6), an op chains up to three and a norm between them multiplies by a few: 3e-5.
// bf16: other backends also round activations, 2^-9 each, independent over the terms, so about 2^-9 of the result's
// scale a product; three chained with their norms and a softmax: 2e-2.
// s16: activations round by 2^-15 of the largest of 32, 2.3 times as large as most of them: 8e-5, as above 4e-4.
// s8x2: activations round by 2^-16 of the largest of 256, about three times as large as most of them, and low by low is
// left out, as much again: twice that of s16. Where they become s16, weights are rounded once more.
// Ops without products: 1e-5 whatever the weights.
Tolerance ToleranceOf(const std::string& op, DType weights) {
  if (op == "add" || op == "add_positions" || op == "layer_norm" || op == "embed") return {1e-6F, 1e-5F};
  if (weights == DType::kBF16) return {1e-3F, 2e-2F};
  if (weights == DType::kBF16x2) return {1e-5F, 1e-4F};  // activations round by 2^-17, and low by low is left out
  if (weights == DType::kS16) return {2e-5F, 4e-4F};
  if (weights == DType::kS8x2) return {4e-5F, 1.5e-3F};
  return {1e-6F, 3e-5F};
}

void ExpectClose(const HostTensor& actual, const HostTensor& expected, Tolerance tolerance, const std::string& what) {
  ASSERT_EQ(actual.shape, expected.shape) << what;
  ASSERT_EQ(actual.dtype, expected.dtype) << what;
  if (actual.dtype != DType::kF32) return ExpectSameBits(actual, expected, what);
  const auto a = actual.floats(), e = expected.floats();
  float scale = 0, worst = -1;
  size_t at = 0;
  for (const float value : e) scale = std::max(scale, std::abs(value));
  for (size_t i = 0; i < e.size(); ++i) {
    ASSERT_TRUE(std::isfinite(e[i])) << what << ": expected[" << i << "] is " << e[i];
    ASSERT_TRUE(std::isfinite(a[i])) << what << ": actual[" << i << "] is " << a[i] << ", expected " << e[i];
    if (std::abs(a[i] - e[i]) > worst) worst = std::abs(a[i] - e[i]), at = i;
  }
  if (e.empty()) return;
  EXPECT_GT(scale, 0) << what << ": the expected tensor is all zero and proves nothing";
  EXPECT_LE(worst, tolerance.absolute + tolerance.relative * scale)
      << what << ": shape " << actual.shape.ToString() << ", element " << at << ": " << a[at] << ", expected " << e[at]
      << ", largest expected " << scale;
}

void ExpectSameBits(const HostTensor& actual, const HostTensor& expected, const std::string& what) {
  ASSERT_EQ(actual.shape, expected.shape) << what;
  ASSERT_EQ(actual.dtype, expected.dtype) << what;
  ASSERT_EQ(actual.bytes.size(), expected.bytes.size()) << what;
  const size_t width = DTypeSize(actual.dtype);
  for (size_t i = 0; i < actual.bytes.size(); i += width) {
    if (std::memcmp(&actual.bytes[i], &expected.bytes[i], width) == 0) continue;
    if (actual.dtype == DType::kF32) {
      FAIL() << what << ": element " << i / width << ": " << actual.floats()[i / width] << ", expected "
             << expected.floats()[i / width];
    }
    FAIL() << what << ": element " << i / width << " differs";
  }
}

}  // namespace ting::testing
