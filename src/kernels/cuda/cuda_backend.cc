// src/kernels/cuda/cuda_backend.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_backend.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstring>

#include "base/status_macros.h"
#include "kernels/cuda/host_copy.h"
#include "kernels/cuda/launch.h"

namespace ting::cuda {
namespace {

void Convert(const float* source, int64_t count, DType dtype, std::byte* out) {
  if (dtype == DType::kF32) {
    std::memcpy(out, source, count * sizeof(float));
  } else if (dtype == DType::kF16) {
    auto* at = reinterpret_cast<__half*>(out);
    for (int64_t i = 0; i < count; ++i) at[i] = __float2half_rn(std::clamp(source[i], -65504.0F, 65504.0F));
  } else {
    auto* at = reinterpret_cast<__nv_bfloat16*>(out);
    for (int64_t i = 0; i < count; ++i) at[i] = __float2bfloat16_rn(source[i]);
  }
}

}  // namespace

Result<DeviceMemory> DeviceMemory::Allocate(size_t bytes) {
  DeviceMemory memory;
  TING_CUDA_RETURN_IF_ERROR(cudaMalloc(&memory.data_, std::max<size_t>(bytes, 1)));
  memory.size_ = bytes;
  return memory;
}

DeviceMemory::~DeviceMemory() {
  if (data_ != nullptr) cudaFree(data_);
}

Result<std::unique_ptr<CudaBackend>> CudaBackend::Create(const CudaOptions& options) {
  int count = 0;
  TING_CUDA_RETURN_IF_ERROR(cudaGetDeviceCount(&count));
  if (options.ordinal < 0 || options.ordinal >= count) {
    return InvalidArgument("there is no GPU {}; this machine has {} (0 to {})", options.ordinal, count, count - 1);
  }
  TING_CUDA_RETURN_IF_ERROR(cudaSetDevice(options.ordinal));
  cudaDeviceProp properties{};
  TING_CUDA_RETURN_IF_ERROR(cudaGetDeviceProperties(&properties, options.ordinal));
  if (properties.major < 8) {
    return Unimplemented("{} has compute capability {}.{}; 8.0 (Ampere) is the least that is supported",
                         properties.name, properties.major, properties.minor);
  }
  return std::unique_ptr<CudaBackend>(new CudaBackend(options, properties));
}

Result<const void*> CudaBackend::Constant(const std::string& key, size_t bytes,
                                          const std::function<void(std::byte*)>& make) {
  const std::lock_guard lock(mutex_);
  if (const auto it = constants_.find(key); it != constants_.end()) return const_cast<const void*>(it->second.data());
  std::vector<std::byte> host(bytes);
  make(host.data());
  TING_ASSIGN_OR_RETURN(DeviceMemory memory, DeviceMemory::Allocate(bytes));
  TING_CUDA_RETURN_IF_ERROR(cudaMemcpy(memory.data(), host.data(), bytes, cudaMemcpyHostToDevice));
  // The copy may return before the last bytes have arrived, and steps' streams do not wait for the default one.
  TING_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(nullptr));
  return const_cast<const void*>((constants_[key] = std::move(memory)).data());
}

Result<const float*> CudaBackend::Vector(const WeightView& weight) {
  if (!weight.present()) return static_cast<const float*>(nullptr);
  return Floats(fmt::format("{}:f32", weight.data),
                {weight.as<float>(), static_cast<size_t>(weight.shape.num_elements())});
}

Result<const float*> CudaBackend::Floats(const std::string& key, std::span<const float> values) {
  TING_ASSIGN_OR_RETURN(const void* data, Constant(key, values.size_bytes(), [&](std::byte* out) {
                          std::memcpy(out, values.data(), values.size_bytes());
                        }));
  return static_cast<const float*>(data);
}

Result<const float*> CudaBackend::Zeros(int64_t count) {
  return Floats(fmt::format("zeros:{}", count), std::vector<float>(count, 0.0F));
}

Result<DeviceMatrix> CudaBackend::Matrix(const LinearParams& linear, const std::string& key, const MatrixOrder& order) {
  const int64_t N = linear.N(), K = linear.K();
  const auto source = [&](int64_t n) { return order.rows.empty() ? n : order.rows[n]; };
  const std::string name = (key.empty() ? fmt::format("{}", linear.weight.data) : key) + ":" + order.name;
  DeviceMatrix matrix{nullptr, nullptr, N, K};
  TING_ASSIGN_OR_RETURN(matrix.data, Constant(name + ":matrix", N * K * element_bytes(), [&](std::byte* out) {
                          const std::vector<float> rows = UnpackMatrix(linear.weight);
                          for (int64_t n = 0; n < N; ++n) {
                            Convert(rows.data() + source(n) * K, K, storage(), out + n * K * element_bytes());
                          }
                        }));
  if (!linear.bias.present()) {  // zeros: kernels need not ask
    TING_ASSIGN_OR_RETURN(matrix.bias, Zeros(N));
    return matrix;
  }
  std::vector<float> bias(N);
  for (int64_t n = 0; n < N; ++n) bias[n] = linear.bias.as<float>()[source(n)];
  TING_ASSIGN_OR_RETURN(matrix.bias, Floats(name + ":bias", bias));
  return matrix;
}

Result<DeviceNorm> CudaBackend::Norm(const NormParams& norm) {
  DeviceNorm device;
  if (!norm.present) return device;
  TING_ASSIGN_OR_RETURN(device.gamma, Vector(norm.gamma));
  TING_ASSIGN_OR_RETURN(device.beta, Vector(norm.beta));
  device.eps = norm.eps;
  return device;
}

Result<CublasLt*> CudaBackend::Lt() {
  const std::lock_guard lock(mutex_);
  if (!lt_) {
    TING_ASSIGN_OR_RETURN(lt_, CublasLt::Create(&tuning_));
  }
  return lt_.get();
}

void CudaBackend::AddTunable(const TuningProduct& product, std::unique_ptr<Tunable> tunable) {
  const std::lock_guard lock(mutex_);
  tunables_.try_emplace(product, std::move(tunable));
}

Result<std::unique_ptr<CudaStream>> CudaStream::Create() {
  std::unique_ptr<CudaStream> stream(new CudaStream());
  TING_CUDA_RETURN_IF_ERROR(cudaStreamCreateWithFlags(&stream->handle_, cudaStreamNonBlocking));
  TING_ASSIGN_OR_RETURN(stream->workspace_, DeviceMemory::Allocate(CublasLt::kWorkspaceBytes));
  return stream;
}

CudaStream::~CudaStream() {
  if (handle_ != nullptr) cudaStreamDestroy(handle_);
}

Status CudaStream::CopyToDevice(void* device, const void* host, size_t bytes) {
  if (bytes == 0) return Status();
  return CudaStatus(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, handle_), "copy to the GPU");
}
Status CudaStream::SendToDevice(void* device, const void* host, size_t bytes) {
  const bool by_kernel = bytes <= kMostHostCopyBytes && bytes % 16 == 0 && AlignedTo16(device);
  return by_kernel ? CopyFromPinned(device, host, bytes, handle_) : CopyToDevice(device, host, bytes);
}
Status CudaStream::CopyToHost(void* host, const void* device, size_t bytes) {
  if (bytes == 0) return Status();
  return CudaStatus(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, handle_), "copy from the GPU");
}
Status CudaStream::Synchronize() { return CudaStatus(cudaStreamSynchronize(handle_), "waiting for the GPU"); }

MatrixProduct ProductOf(const CudaBackend& backend, const void* a, int64_t M, int64_t a_stride,
                        const DeviceMatrix& matrix, float* y) {
  return {a,
          matrix.data,
          y,
          M,
          matrix.N,
          matrix.K,
          a_stride,
          matrix.N,
          backend.storage(),
          backend.compute() == Compute::kTF32};
}

Status Multiply(CudaBackend& backend, const KernelContext& context, const void* a, int64_t M, int64_t a_stride,
                const DeviceMatrix& matrix, float* y) {
  TING_ASSIGN_OR_RETURN(CublasLt * lt, backend.Lt());
  CudaStream& stream = StreamOf(context);
  return lt->Multiply(ProductOf(backend, a, M, a_stride, matrix, y), backend.options().batch_invariant,
                      stream.lt_workspace(), stream.handle());
}

}  // namespace ting::cuda
