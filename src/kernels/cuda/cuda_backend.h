// src/kernels/cuda/cuda_backend.h
// SPDX-License-Identifier: Apache-2.0
//
// What the CUDA kernels of one device share: the type they compute in, constants in the device's memory, library
// handles. And the stream they queue on.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/tunable.h"
#include "kernels/kernel.h"
#include "kernels/params.h"
#include "kernels/tuning.h"
#include "ting/status.h"

namespace ting::cuda {

// Type of the operands of products. Everything else is f32, in each of them.
enum class Compute { kF32, kTF32, kF16, kBF16 };

inline DType StorageOf(Compute compute) {
  return compute == Compute::kF16 ? DType::kF16 : compute == Compute::kBF16 ? DType::kBF16 : DType::kF32;
}

// Device memory that is freed with the object.
class DeviceMemory {
 public:
  static Result<DeviceMemory> Allocate(size_t bytes);
  DeviceMemory() = default;
  DeviceMemory(DeviceMemory&& other) noexcept { swap(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept { return swap(other), *this; }
  ~DeviceMemory();
  void* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void swap(DeviceMemory& other) { std::swap(data_, other.data_), std::swap(size_, other.size_); }
  void* data_ = nullptr;
  size_t size_ = 0;
};

// A weight matrix [N, K], row-major, of the storage type, with its bias f32 [N] (zeros where the model has none).
struct DeviceMatrix {
  const void* data = nullptr;
  const float* bias = nullptr;
  int64_t N = 0, K = 0;
};

// LayerNorm's parameters; gamma is null where there is no norm.
struct DeviceNorm {
  const float* gamma = nullptr;
  const float* beta = nullptr;
  float eps = 1e-5F;
};

// Row n of the device's matrix is row rows[n] of the weight; empty: as it is.
struct MatrixOrder {
  std::string name;
  std::vector<int64_t> rows;
};

struct CudaOptions {
  int ordinal = 0;
  Compute compute = Compute::kF16;
  bool batch_invariant = false;
};

class CudaBackend : public BackendState {
 public:
  static Result<std::unique_ptr<CudaBackend>> Create(const CudaOptions& options);

  const CudaOptions& options() const { return options_; }
  Compute compute() const { return options_.compute; }
  DType storage() const { return StorageOf(options_.compute); }
  size_t element_bytes() const { return DTypeSize(storage()); }
  const cudaDeviceProp& properties() const { return properties_; }
  // The kernels written for Hopper's own instructions run here, and in the types they take.
  bool hopper() const { return properties_.major == 9 && element_bytes() == 2; }

  // Constants, shared by all kernels that ask for the same key; `make` fills the host copy. Keys of weights hold their
  // address: they live as long as the model.
  Result<const void*> Constant(const std::string& key, size_t bytes, const std::function<void(std::byte*)>& make);
  Result<const float*> Vector(const WeightView& weight);  // null for an absent one
  // `key` names the weight where `linear` is a temporary copy; empty: its address does.
  Result<DeviceMatrix> Matrix(const LinearParams& linear, const std::string& key = "", const MatrixOrder& order = {});
  Result<DeviceNorm> Norm(const NormParams& norm);
  Result<const float*> Floats(const std::string& key, std::span<const float> values);
  Result<const float*> Zeros(int64_t count);

  Result<CublasLt*> Lt();

  TuningTable& tuning() { return tuning_; }
  // Kernels with choices name their products when they are created; the first Tunable of a product is kept.
  void AddTunable(const TuningProduct& product, std::unique_ptr<Tunable> tunable);
  // Called while no kernel is being created.
  const std::map<TuningProduct, std::unique_ptr<Tunable>>& tunables() const { return tunables_; }

 private:
  CudaBackend(const CudaOptions& options, const cudaDeviceProp& properties)
      : options_(options), properties_(properties) {}

  CudaOptions options_;
  cudaDeviceProp properties_;
  std::mutex mutex_;
  std::map<std::string, DeviceMemory> constants_;
  TuningTable tuning_;
  std::map<TuningProduct, std::unique_ptr<Tunable>> tunables_;
  std::unique_ptr<CublasLt> lt_;
};

inline CudaBackend& BackendOf(const OpDesc& desc) { return *static_cast<CudaBackend*>(desc.backend); }

class CudaStream : public Stream {
 public:
  static Result<std::unique_ptr<CudaStream>> Create();
  ~CudaStream() override;
  cudaStream_t handle() const { return handle_; }
  void* lt_workspace() const { return workspace_.data(); }  // CublasLt::kWorkspaceBytes

  Status CopyToDevice(void* device, const void* host, size_t bytes) override;
  Status SendToDevice(void* device, const void* host, size_t bytes) override;
  Status CopyToHost(void* host, const void* device, size_t bytes) override;
  Status Synchronize() override;

 private:
  CudaStream() = default;
  cudaStream_t handle_ = nullptr;
  DeviceMemory workspace_;
};

inline CudaStream& StreamOf(const KernelContext& context) { return *static_cast<CudaStream*>(context.stream); }

// The product of M rows of K elements by `matrix` into y [M, N] f32, in the backend's type.
MatrixProduct ProductOf(const CudaBackend& backend, const void* a, int64_t M, int64_t a_stride,
                        const DeviceMatrix& matrix, float* y);

// Runs a step's products by cuBLASLt; y [M, N] f32 with rows of N.
Status Multiply(CudaBackend& backend, const KernelContext& context, const void* a, int64_t M, int64_t a_stride,
                const DeviceMatrix& matrix, float* y);

}  // namespace ting::cuda
