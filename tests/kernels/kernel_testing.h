// tests/kernels/kernel_testing.h
// SPDX-License-Identifier: Apache-2.0
//
// What every kernel test needs: a node with weights (TestOp) in any weight format, one call of a kernel on it (OpCall,
// RunOp) with guarded memory, and comparison of the results with a tolerance.
//
//   TestOp op("linear");
//   op.Matrix("linear.w", N, K, rng.Floats(N * K)).Vector("linear.b", rng.Floats(N));
//   OpCall call;
//   call.inputs = {HostTensor::F32({R, K}, rng.Floats(R * K))};
//   call.lengths = {{3, R - 3}};
//   call.outputs = {{DType::kF32, {R, N}}};
//   const PackedOp packed = op.Pack({DType::kBF16, Layout::kPanel16});
//   ExpectClose(RunOp(CpuKernels(), packed.desc, call, &stream).outputs[0],
//               RunOp(RefKernels(), packed.desc, call).outputs[0], ToleranceOf(op.op(), DType::kBF16));
//
// Guards of RunOp: canaries before and after every output, state and the workspace; outputs and workspace start as
// NaN bytes, so that an element that is read or left unwritten shows; inputs that are no state must not change.
// tests/kernels/kernel_cases.h lists calls for every op; a backend adds its entries to backend_test.cc.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/kernel.h"

namespace ting::testing {

// The same numbers on every machine (std::uniform_real_distribution promises none).
class Rng {
 public:
  explicit Rng(uint32_t seed) : engine_(seed) {}
  float Float(float low, float high) {
    return low + (high - low) * static_cast<float>(engine_() >> 8) * 0x1p-24F;  // 24 bits fill a mantissa
  }
  int32_t Int(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(engine_() % (high - low + 1));
  }  // ends in
  std::vector<float> Floats(int64_t count, float low = -1, float high = 1);
  std::vector<float> SmallInts(int64_t count, int32_t limit = 4);  // sums of their products are exact in f32
  std::vector<int32_t> Ints(int64_t count, int32_t low, int32_t high);

 private:
  std::mt19937 engine_;
};

struct HostTensor {
  DType dtype = DType::kF32;
  Shape shape;
  std::vector<std::byte> bytes;
  bool state = false;  // an input that the kernel may write (tree_attention's pool)

  static HostTensor F32(Shape shape, std::span<const float> values);
  static HostTensor S32(std::span<const int32_t> values);  // rank 1
  std::span<const float> floats() const { return {reinterpret_cast<const float*>(bytes.data()), bytes.size() / 4}; }
  std::span<const int32_t> ints() const { return {reinterpret_cast<const int32_t*>(bytes.data()), bytes.size() / 4}; }
};

struct OutputSpec {
  DType dtype = DType::kF32;
  Shape shape;
};

struct OpCall {
  std::vector<HostTensor> inputs;
  std::vector<std::vector<int32_t>> lengths;  // of the row set of each input; missing or empty: no row set
  std::vector<OutputSpec> outputs;
  StepOptions options;
};

struct WeightFormat {
  DType dtype = DType::kF32;
  Layout layout = Layout::kRowMajor;
};
std::string FormatName(WeightFormat format);  // "f32_row_major"

// A desc and the memory its weights lie in (64-byte aligned; stays in place when a PackedOp is moved).
struct PackedOp {
  OpDesc desc;
  std::vector<AlignedBuffer> buffers;
};

// A node with logical weights, from which descs of any format are packed.
class TestOp {
 public:
  explicit TestOp(std::string op, std::string node = "test_node") : op_(std::move(op)), node_(std::move(node)) {}
  TestOp& Set(const std::string& attribute, Attribute value);
  TestOp& Vector(const std::string& slot, std::vector<float> values);
  TestOp& Matrix(const std::string& slot, int64_t N, int64_t K, std::vector<float> values);
  // A matrix that is looked up, not multiplied: `table` takes the format's type (f32 for bf16x2) but stays row-major,
  // `dw.w` is f32.
  TestOp& Table(const std::string& slot, int64_t N, int64_t K, std::vector<float> values);
  TestOp& PlainMatrix(const std::string& slot, int64_t N, int64_t K, std::vector<float> values);
  TestOp& Erase(const std::string& slot);

  // Matrix prefix.w and vector prefix.b / gamma about 1 and beta about 0, random. Matrices are scaled by 1 / sqrt(K).
  TestOp& RandomLinear(Rng& rng, const std::string& prefix, int64_t N, int64_t K);
  TestOp& RandomNorm(Rng& rng, const std::string& prefix, int64_t D);

  const std::string& op() const { return op_; }
  const std::vector<float>& values(const std::string& slot) const { return weights_.at(slot).values; }
  PackedOp Pack(WeightFormat format = {}) const;

 private:
  enum class Kind { kVector, kMatrix, kTable, kPlain };
  struct Weight {
    Kind kind = Kind::kVector;
    Shape shape;
    std::vector<float> values;
  };
  TestOp& Add(const std::string& slot, Kind kind, Shape shape, std::vector<float> values);

  std::string op_, node_;
  Attributes attributes_;
  std::map<std::string, Weight> weights_;
};

// Entries of `entries` for desc.op that do not refuse it, in order.
std::vector<const KernelEntry*> EntriesFor(std::span<const KernelEntry> entries, const OpDesc& desc);

struct OpOutcome {
  Status status;
  std::vector<HostTensor> outputs;
  std::vector<HostTensor> inputs;  // as the kernel left them: states may differ
};
// Creates the kernel and runs it once. A broken canary or a changed input fails the test.
OpOutcome RunEntry(const KernelEntry& entry, const OpDesc& desc, const OpCall& call, Stream* stream = nullptr);
// The same with the first entry that does not refuse; its status must be OK, or the test fails.
OpOutcome RunOp(std::span<const KernelEntry> entries, const OpDesc& desc, const OpCall& call, Stream* stream = nullptr);

// |actual - expected| <= absolute + relative * max |expected|: rounding grows with the terms of a sum, not with what
// is left after they cancel, so the scale is the tensor's, not the element's.
struct Tolerance {
  float absolute = 0, relative = 0;
};
// How far a backend may be from ref on the cases of kernel_cases.h, given the weights' type.
Tolerance ToleranceOf(const std::string& op, DType weights);

// Finite everywhere, not all zero (unless empty or expected so), close; prints the worst element.
void ExpectClose(const HostTensor& actual, const HostTensor& expected, Tolerance tolerance,
                 const std::string& what = "");
void ExpectSameBits(const HostTensor& actual, const HostTensor& expected, const std::string& what = "");

}  // namespace ting::testing
