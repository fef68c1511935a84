// src/frontend/cuda/fbank_kernels.cu
// SPDX-License-Identifier: Apache-2.0
#include "frontend/cuda/fbank_kernels.h"

namespace ting::cuda_fbank {
namespace {

constexpr int kSharedBytes = 48 << 10;  // what a block has without asking
constexpr int kPowerPadding = 4;        // floats behind a frame's power: for its shift, and 16-byte addresses

// Half a warp. Both halves run the same code and meet each other too: a mask that is known costs nothing.
struct HalfWarpLanes {
  static constexpr unsigned kAll = 0xffffffffU;

  __device__ int lane() const { return static_cast<int>(threadIdx.x % kLanes); }
  __device__ void Sync() const { __syncwarp(); }
  template <class T>
  __device__ T Shuffle(T value, int from) const {
    return __shfl_sync(kAll, value, from, kLanes);
  }
  __device__ int Count(bool value) const {
    return __popc(__ballot_sync(kAll, value) & 0xffffU << threadIdx.x % 32 / kLanes * kLanes);
  }
  template <class T>
  __device__ T Sum(T value) const {
    for (int offset = kLanes / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kAll, value, offset);
    return value;
  }
};

// The sequence that frame f is of: the last one that begins at or before it. Sequences without frames begin where the
// next one does. A frame's lanes probe 16 places at once: two rounds of loads for up to 256 sequences.
__device__ int SequenceOf(const FbankBatch& batch, int32_t f) {
  const HalfWarpLanes lanes;
  int low = 0;
  for (int size = batch.num_sequences, step; size > 1; size = step) {
    step = (size + kLanes - 1) / kLanes;
    const int probe = low + lanes.lane() * step;
    low += step * (lanes.Count(probe < batch.num_sequences && batch.frame_offsets[probe] <= f) - 1);
  }
  return low;
}

// How frames share a block; kLength as FrameTransform's. The usual frame's power takes the place of its points.
template <int kLength>
struct BlockShape {
  static constexpr int kMaxFrames = 4;
  static constexpr int kMinBlocks = 8;  // of a multiprocessor: 128 registers a thread
  static constexpr int Frames(int /*points*/) { return kMaxFrames; }
  static constexpr int PowerAt(int /*points*/) { return 0; }
  static constexpr int FrameBytes(int points) { return PaddedPoints(points) * static_cast<int>(sizeof(Complex)); }
};
template <>
struct BlockShape<0> {
  static constexpr int kMaxFrames = 8;
  static constexpr int kMinBlocks = 1;
  static constexpr int Frames(int points) { return points <= 256 ? kMaxFrames : points == 512 ? 4 : 2; }
  static constexpr int PowerAt(int points) { return PaddedPoints(points) * static_cast<int>(sizeof(Complex)); }
  static constexpr int FrameBytes(int points) {
    return PowerAt(points) + (points + kPowerPadding) * static_cast<int>(sizeof(float));
  }
};
static_assert(BlockShape<kUsualLength>::Frames(256) * BlockShape<kUsualLength>::FrameBytes(256) <= kSharedBytes);
static_assert(BlockShape<0>::Frames(256) * BlockShape<0>::FrameBytes(256) <= kSharedBytes);
static_assert(BlockShape<0>::Frames(kMaxPoints) * BlockShape<0>::FrameBytes(kMaxPoints) <= kSharedBytes);

// One frame to 16 threads; frames of all sequences one after the other.
template <class Sample, int kLength>
__global__ void __launch_bounds__(BlockShape<kLength>::kMaxFrames * kLanes, BlockShape<kLength>::kMinBlocks)
    FbankKernel(const DeviceTables tables, const Sample* __restrict__ samples, const FbankBatch batch,
                float* __restrict__ features) {
  using Shape = BlockShape<kLength>;
  extern __shared__ __align__(16) char memory[];
  const int slot = static_cast<int>(threadIdx.x) / kLanes;
  const int32_t num_frames = min(batch.frame_offsets[batch.num_sequences], batch.max_frames);
  const int32_t own_frame = static_cast<int32_t>(blockIdx.x * (blockDim.x / kLanes)) + slot;
  if (own_frame / 2 * 2 >= num_frames) return;       // both halves of a warp stay or go
  const int32_t f = min(own_frame, num_frames - 1);  // a half without a frame computes the other's again
  const int b = SequenceOf(batch, f);
  const Sample* first = samples + batch.sample_offsets[b] + int64_t{f - batch.frame_offsets[b]} * tables.frame_shift;

  const int points = kLength > 0 ? kUsualPoints : tables.points;
  char* const own = memory + slot * Shape::FrameBytes(points);
  // The halves of a warp read the same bins in different banks.
  auto* power = reinterpret_cast<float*>(own + Shape::PowerAt(points)) + slot % 2;
  FrameTransform<HalfWarpLanes, kLength>(HalfWarpLanes(), tables, reinterpret_cast<Complex*>(own), power)
      .Run(first, features + int64_t{f} * tables.num_mel);
}

template <int kLength, class Sample>
cudaError_t Launch(const DeviceTables& tables, const Sample* samples, const FbankBatch& batch, float* features,
                   cudaStream_t stream) {
  using Shape = BlockShape<kLength>;
  const int frames = Shape::Frames(tables.points);
  const unsigned blocks = (static_cast<unsigned>(batch.max_frames) + frames - 1) / frames;
  const size_t shared = static_cast<size_t>(frames) * Shape::FrameBytes(tables.points);
  FbankKernel<Sample, kLength><<<blocks, frames * kLanes, shared, stream>>>(tables, samples, batch, features);
  return cudaGetLastError();
}

template <class Sample>
cudaError_t LaunchAny(const DeviceTables& tables, const Sample* samples, const FbankBatch& batch, float* features,
                      cudaStream_t stream) {
  if (batch.max_frames <= 0 || batch.num_sequences <= 0) return cudaSuccess;
  if (tables.frame_length == kUsualLength) return Launch<kUsualLength>(tables, samples, batch, features, stream);
  return Launch<0>(tables, samples, batch, features, stream);
}

}  // namespace

cudaError_t LaunchFbank(const DeviceTables& tables, const int16_t* samples, const FbankBatch& batch, float* features,
                        cudaStream_t stream) {
  return LaunchAny(tables, samples, batch, features, stream);
}
cudaError_t LaunchFbank(const DeviceTables& tables, const float* samples, const FbankBatch& batch, float* features,
                        cudaStream_t stream) {
  return LaunchAny(tables, samples, batch, features, stream);
}

}  // namespace ting::cuda_fbank
