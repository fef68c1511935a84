// tests/kernels/cuda/cuda_backend_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Every implementation of the CUDA backend on every case of kernel_cases.h, in every type that it computes in: close to
// ref, nothing written beside its outputs, shapes padded as the executor pads them and what is past the rows in use
// NaN.
#include "kernels/cuda/cuda_backend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/params.h"
#include "kernels/ref/ref_kernels.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/support/gpu_test.h"

namespace ting::testing {
namespace {

using cuda::Compute;
using Bytes = std::vector<unsigned char>;

struct Setting {
  Compute compute;
  const char* name;
  Tolerance tolerance;  // for ops with products
};
// f32: as the CPU's, with cuBLASLt's orders of sums. Others: each rounding is 2^-11 (f16, tf32) or 2^-8 (bf16) of an
// operand; four chained products and a softmax.
constexpr Setting kSettings[] = {{Compute::kF32, "f32", {2e-6F, 6e-5F}},
                                 {Compute::kTF32, "tf32", {1e-3F, 8e-3F}},
                                 {Compute::kF16, "f16", {1e-3F, 8e-3F}},
                                 {Compute::kBF16, "bf16", {4e-3F, 5e-2F}}};

bool HasProducts(const std::string& op) {
  return op != "add" && op != "add_positions" && op != "layer_norm" && op != "embed";
}

// f32 values in the storage type.
Bytes Narrow(std::span<const float> values, DType dtype) {
  if (dtype == DType::kF32) {
    Bytes bytes(values.size_bytes());
    if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }
  Bytes bytes(values.size() * 2);
  for (size_t i = 0; i < values.size(); ++i) {
    const __half half = __float2half_rn(values[i]);
    const __nv_bfloat16 bfloat = __float2bfloat16_rn(values[i]);
    std::memcpy(&bytes[2 * i], dtype == DType::kF16 ? static_cast<const void*>(&half) : &bfloat, 2);
  }
  return bytes;
}

// Inputs that hold what this backend's own kernels write: keys and values of the decoder.
bool IsMemory(const std::string& op, size_t input) {
  return (op == "cross_attention" && input == 1) || (op == "tree_attention" && input == 4);
}

// One call with everything in device memory. Rows are padded: past those in use inputs are NaN.
class GpuCall {
 public:
  GpuCall(const std::string& op, const OpCall& call, DType storage, int64_t pad) : call_(call) {
    for (size_t i = 0; i < call.inputs.size(); ++i) AddInput(op, i, storage, pad);
    for (const OutputSpec& output : call.outputs) {
      const Shape shape = Padded(output.shape, pad);
      outputs_.push_back(
          std::make_unique<cuda::DeviceArray<unsigned char>>(shape.num_elements() * DTypeSize(output.dtype)));
      output_views_.push_back({outputs_.back()->data(), output.dtype, shape});
    }
  }

  Status Run(Kernel& kernel, cuda::CudaStream& stream) {
    std::vector<const RowSet*> no_rows(call_.inputs.size(), nullptr);
    KernelContext context{views_, output_views_, no_rows, &call_.options, nullptr, &stream, rows_};
    cuda::DeviceArray<unsigned char> workspace(kernel.WorkspaceBytes(context) + 64);
    context.workspace = reinterpret_cast<std::byte*>(workspace.data());
    EXPECT_CUDA(cudaDeviceSynchronize());  // the stream does not wait for copies out of pageable memory
    Status status = kernel.Run(context);
    if (status.ok()) status = stream.Synchronize();
    workspace.Download();
    return status;
  }

  // Output `i` without its padding.
  HostTensor Output(size_t i) {
    const OutputSpec& spec = call_.outputs[i];
    const Bytes all = outputs_[i]->Download();
    const size_t used = spec.shape.num_elements() * DTypeSize(spec.dtype);
    HostTensor tensor{spec.dtype, spec.shape, std::vector<std::byte>(used)};
    if (used > 0) std::memcpy(tensor.bytes.data(), all.data(), used);
    return tensor;
  }

 private:
  static Shape Padded(const Shape& shape, int64_t pad) {
    Shape padded;
    for (int axis = 0; axis < shape.rank(); ++axis) padded.Append(shape[axis] + (axis == 0 ? pad : 0));
    return padded;
  }
  void AddInput(const std::string& op, size_t i, DType storage, int64_t pad) {
    const HostTensor& input = call_.inputs[i];
    const bool narrow = IsMemory(op, i);
    Bytes bytes(input.bytes.size());
    if (!bytes.empty()) std::memcpy(bytes.data(), input.bytes.data(), bytes.size());
    if (narrow) bytes = Narrow(input.floats(), storage);
    const Shape shape = Padded(input.shape, pad);
    // Integers past those in use: zeros, as the executor sends them.
    bytes.resize(shape.num_elements() * DTypeSize(narrow ? storage : input.dtype),
                 input.dtype == DType::kS32 ? 0 : 0xFF);
    arrays_.push_back(std::make_unique<cuda::DeviceArray<unsigned char>>(bytes));
    const bool typed = narrow && op == "cross_attention";
    views_.push_back({arrays_.back()->data(), typed ? storage : input.dtype, shape});
    rows_.push_back(RowsOf(i, input.shape[0], pad));
  }
  DeviceRows RowsOf(size_t i, int64_t rows, int64_t pad) {
    if (i >= call_.lengths.size() || call_.lengths[i].empty()) {
      counts_.push_back(std::make_unique<cuda::DeviceArray<int32_t>>(std::vector<int32_t>{static_cast<int32_t>(rows)}));
      return {nullptr, counts_.back()->data(), 0, 0};
    }
    const RowSet set = RowSet::FromLengths(call_.lengths[i]);
    std::vector<int32_t> offsets(set.offsets().begin(), set.offsets().end());
    if (pad > 0) offsets.insert(offsets.end(), 3, offsets.back());
    counts_.push_back(std::make_unique<cuda::DeviceArray<int32_t>>(offsets));
    const int sequences = static_cast<int>(offsets.size()) - 1;
    const int32_t longest = *std::max_element(call_.lengths[i].begin(), call_.lengths[i].end());
    return {counts_.back()->data(), counts_.back()->data() + sequences, sequences, longest + pad};
  }

  OpCall call_;
  std::vector<std::unique_ptr<cuda::DeviceArray<unsigned char>>> arrays_, outputs_;
  std::vector<std::unique_ptr<cuda::DeviceArray<int32_t>>> counts_;
  std::vector<TensorView> views_, output_views_;
  std::vector<DeviceRows> rows_;
};

// By ref's full log-softmax each id must have the log-probability that is claimed for it, and none may come twice.
void ExpectPlausibleIds(OpDesc desc, const KernelCase& test, const HostTensor& logp, const HostTensor& ids,
                        Tolerance tolerance, const std::string& what) {
  desc.op = "log_softmax";
  OpCall call = test.call;
  const int64_t rows = call.inputs[0].shape[0], V = desc.weights.at("head.w").shape[0], k = call.outputs[0].shape[1];
  call.outputs = {{DType::kF32, {rows, V}}};
  const HostTensor all = RunOp(RefKernels(), desc, call).outputs[0];
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < k; ++i) {
      const int32_t id = ids.ints()[r * k + i];
      ASSERT_TRUE(id >= 0 && id < V) << what << ": id " << id;
      for (int64_t j = 0; j < i; ++j) ASSERT_NE(id, ids.ints()[r * k + j]) << what << ": twice in row " << r;
      const float expected = all.floats()[r * V + id];
      EXPECT_NEAR(logp.floats()[r * k + i], expected,
                  tolerance.absolute + 4 * tolerance.relative * std::max(1.0F, std::abs(expected)))
          << what;
    }
  }
}

class CudaBackendTest : public ::testing::TestWithParam<std::tuple<Setting, std::string>> {
 protected:
  void SetUp() override {
    TING_SKIP_WITHOUT_GPU();
    backend_ = std::move(cuda::CudaBackend::Create({0, setting().compute, false})).value();
    stream_ = std::move(cuda::CudaStream::Create()).value();
  }
  const Setting& setting() const { return std::get<0>(GetParam()); }
  const std::string& op() const { return std::get<1>(GetParam()); }

  // The type of the keys and values that the decoder's attentions find in memory.
  DType HeadTypeOf(const OpDesc& desc) const {
    const auto o = desc.weights.find("o.w");
    if (o == desc.weights.end()) return backend_->storage();
    return cuda::HeadType(backend_->storage(), o->second.shape[0] / desc.attributes.Int("heads", 1));
  }
  void Check(const KernelEntry& entry, const OpDesc& desc, const KernelCase& test, int64_t pad) {
    const std::string what = std::string(entry.name) + ": " + test.name + (pad > 0 ? " padded" : "");
    auto kernel = entry.create(desc);
    ASSERT_TRUE(kernel.ok()) << what << ": " << kernel.status().ToString();
    GpuCall call(op(), test.call, HeadTypeOf(desc), pad);
    const Status status = call.Run(**kernel, *stream_);
    ASSERT_TRUE(status.ok()) << what << ": " << status.ToString();
    OpDesc host = desc;
    host.backend = nullptr;
    const OpOutcome expected = RunOp(RefKernels(), host, test.call);
    const Tolerance tolerance = HasProducts(op()) ? setting().tolerance : Tolerance{2e-6F, 2e-5F};
    const HostTensor actual = call.Output(0);
    ExpectClose(actual, expected.outputs[0], tolerance, what);
    if (op() == "log_softmax_topk") ExpectPlausibleIds(host, test, actual, call.Output(1), tolerance, what);
  }

  std::unique_ptr<cuda::CudaBackend> backend_;
  std::unique_ptr<cuda::CudaStream> stream_;
};

TEST_P(CudaBackendTest, AgreesWithRef) {
  int runs = 0;
  for (const KernelCase& test : CasesOf(op())) {
    PackedOp packed = test.op.Pack({DType::kF32, Layout::kPanel16});
    packed.desc.backend = backend_.get();
    for (const KernelEntry* entry : EntriesFor(CudaKernels(), packed.desc)) {
      for (const int64_t pad : {0, 37}) {
        Check(*entry, packed.desc, test, pad);
        if (HasFatalFailure()) return;
        ++runs;
      }
    }
    // The next case may lie at this one's addresses, which are the keys of constants on the device.
    backend_ = std::move(cuda::CudaBackend::Create({0, setting().compute, false})).value();
  }
  EXPECT_GT(runs, 0) << "every implementation refused every case";
}

std::string ParamName(const ::testing::TestParamInfo<std::tuple<Setting, std::string>>& info) {
  return std::string(std::get<0>(info.param).name) + "_" + std::get<1>(info.param);
}

INSTANTIATE_TEST_SUITE_P(Ops, CudaBackendTest,
                         ::testing::Combine(::testing::ValuesIn(kSettings), ::testing::ValuesIn(AllOps())), ParamName);

}  // namespace
}  // namespace ting::testing
