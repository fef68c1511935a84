// src/decoders/cuda/ctc_search_kernels.cu
// SPDX-License-Identifier: Apache-2.0
//
// One warp an utterance and nothing to wait for beside it: a frame is a chain of dependent steps, in which a second
// warp would mostly meet the first at barriers. A GPU holds more such warps than a batch has utterances.
#include "decoders/cuda/ctc_search_kernels.h"
#include "decoders/cuda/search_warp.h"

namespace ting::cuda_ctc {
namespace {

constexpr unsigned kAll = 0xffffffffU;

struct WarpLanes {
  __device__ int lane() const { return static_cast<int>(threadIdx.x); }
  __device__ void Sync() const { __syncwarp(); }
  __device__ uint32_t Ballot(bool value) const { return __ballot_sync(kAll, value); }
  __device__ int32_t Min(int32_t value) const { return __reduce_min_sync(kAll, value); }
  __device__ int32_t Max(int32_t value) const { return __reduce_max_sync(kAll, value); }
  template <class T>
  __device__ T Broadcast(T value, int from) const {
    return __shfl_sync(kAll, value, from);
  }
  __device__ void AtomicOr(uint32_t* word, uint32_t bits) const { atomicOr(word, bits); }
  __device__ static int CountBits(uint32_t mask) { return __popc(mask); }
  __device__ static int FirstBit(uint32_t mask) { return __ffs(static_cast<int>(mask)) - 1; }
};

__global__ void __launch_bounds__(kMaxBeam) PrefixBeamKernel(const SearchRows rows, const PrefixBeamSettings settings,
                                                             const SoftplusCell* __restrict__ softplus,
                                                             const SearchScratch scratch, const SearchOutput output) {
  __shared__ PrefixBeamMemory memory;
  PrefixBeamUtterance(WarpLanes(), TableLogAdd{softplus}, rows, static_cast<int>(blockIdx.x), settings, &memory,
                      scratch, output);
}

__global__ void __launch_bounds__(kMaxBeam)
    GreedyKernel(const SearchRows rows, int32_t blank_id, const SearchScratch scratch, const SearchOutput output) {
  GreedyUtterance(WarpLanes(), rows, static_cast<int>(blockIdx.x), blank_id, scratch, output);
}

}  // namespace

cudaError_t LaunchPrefixBeam(const SearchRows& rows, int num_sequences, const PrefixBeamSettings& settings,
                             const SoftplusCell* softplus, const SearchScratch& scratch, const SearchOutput& output,
                             cudaStream_t stream) {
  if (num_sequences <= 0) return cudaSuccess;
  PrefixBeamKernel<<<num_sequences, kMaxBeam, 0, stream>>>(rows, settings, softplus, scratch, output);
  return cudaGetLastError();
}

cudaError_t LaunchGreedy(const SearchRows& rows, int num_sequences, int32_t blank_id, const SearchScratch& scratch,
                         const SearchOutput& output, cudaStream_t stream) {
  if (num_sequences <= 0) return cudaSuccess;
  GreedyKernel<<<num_sequences, kMaxBeam, 0, stream>>>(rows, blank_id, scratch, output);
  return cudaGetLastError();
}

}  // namespace ting::cuda_ctc
