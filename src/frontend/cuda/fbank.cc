// src/frontend/cuda/fbank.cc
// SPDX-License-Identifier: Apache-2.0
#include "frontend/cuda/fbank.h"

#include <cstring>
#include <vector>

#include "base/cuda_status.h"
#include "frontend/cuda/fbank_kernels.h"
#include "frontend/cuda/fbank_tables_host.h"

namespace ting {
namespace {

// Puts arrays one after the other, each where any of them may begin.
class Packer {
 public:
  template <class T>
  size_t Add(const std::vector<T>& values) {  // returns where, in bytes
    const size_t at = units_.size(), bytes = values.size() * sizeof(T);
    units_.resize(at + (bytes + kUnit - 1) / kUnit);
    std::memcpy(static_cast<void*>(units_.data() + at), values.data(), bytes);
    return at * kUnit;
  }
  const void* data() const { return units_.data(); }
  size_t size_bytes() const { return units_.size() * kUnit; }

 private:
  static constexpr size_t kUnit = sizeof(cuda_fbank::Complex);
  std::vector<cuda_fbank::Complex> units_;
};

}  // namespace

struct CudaFbank::Memory {
  ~Memory() { (void)cudaFree(block); }

  Status Upload(const cuda_fbank::HostTables& host) {
    Packer packer;
    const size_t window = packer.Add(host.window), twiddles = packer.Add(host.twiddles);
    const size_t real_twiddles = packer.Add(host.real_twiddles), position = packer.Add(host.position);
    const size_t mel_count = packer.Add(host.mel_count), mel_start = packer.Add(host.mel_start);
    const size_t mel_weights = packer.Add(host.mel_weights);
    TING_RETURN_IF_CUDA_ERROR(cudaMalloc(&block, packer.size_bytes()));
    TING_RETURN_IF_CUDA_ERROR(cudaMemcpy(block, packer.data(), packer.size_bytes(), cudaMemcpyHostToDevice));
    TING_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(nullptr));  // other streams do not wait for the copy's end
    tables = host.view();
    tables.window = At<cuda_fbank::Complex>(window);
    tables.twiddles = At<cuda_fbank::Complex>(twiddles);
    tables.real_twiddles = At<cuda_fbank::Complex>(real_twiddles);
    tables.position = At<int32_t>(position);
    tables.mel_count = At<int32_t>(mel_count);
    tables.mel_start = At<int32_t>(mel_start);
    tables.mel_weights = At<cuda_fbank::MelWeights>(mel_weights);
    return {};
  }
  template <class T>
  const T* At(size_t offset) const {
    return reinterpret_cast<const T*>(static_cast<const char*>(block) + offset);
  }
  template <class Sample>
  Status Compute(const Sample* samples, const cuda_fbank::FbankBatch& batch, float* features, cudaStream_t stream) {
    if (batch.num_sequences < 0 || batch.max_frames < 0) {
      return InvalidArgument("filter bank: {} sequences of {} frames", batch.num_sequences, batch.max_frames);
    }
    TING_RETURN_IF_CUDA_ERROR(cuda_fbank::LaunchFbank(tables, samples, batch, features, stream));
    return {};
  }

  void* block = nullptr;
  cuda_fbank::DeviceTables tables;
};

CudaFbank::CudaFbank(std::unique_ptr<Memory> memory) : memory_(std::move(memory)) {}
CudaFbank::~CudaFbank() = default;
CudaFbank::CudaFbank(CudaFbank&&) noexcept = default;
CudaFbank& CudaFbank::operator=(CudaFbank&&) noexcept = default;

Result<CudaFbank> CudaFbank::Create(const FbankOptions& options) {
  TING_ASSIGN_OR_RETURN(const cuda_fbank::HostTables host, cuda_fbank::MakeHostTables(options));
  auto memory = std::make_unique<Memory>();
  TING_RETURN_IF_ERROR(memory->Upload(host));
  return CudaFbank(std::move(memory));
}

Status CudaFbank::Compute(const int16_t* samples, const int64_t* sample_offsets, const int32_t* frame_offsets,
                          int num_sequences, int max_frames, float* features, cudaStream_t stream) const {
  return memory_->Compute(samples, {sample_offsets, frame_offsets, num_sequences, max_frames}, features, stream);
}
Status CudaFbank::Compute(const float* samples, const int64_t* sample_offsets, const int32_t* frame_offsets,
                          int num_sequences, int max_frames, float* features, cudaStream_t stream) const {
  return memory_->Compute(samples, {sample_offsets, frame_offsets, num_sequences, max_frames}, features, stream);
}

}  // namespace ting
