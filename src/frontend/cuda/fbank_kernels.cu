// src/frontend/cuda/fbank_kernels.cu
// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include "frontend/cuda/fbank_kernels.h"

namespace ting::cuda_fbank {
namespace {

constexpr int kSharedBytes = 48 << 10;  // what a block has without asking

// Half a warp. Both halves run the same code, each meets its own lanes.
struct HalfWarpLanes {
  unsigned mask = 0xffffU << (threadIdx.x & 16);

  __device__ int lane() const { return static_cast<int>(threadIdx.x) & 15; }
  __device__ void Sync() const { __syncwarp(mask); }
  template <class T>
  __device__ T Sum(T value) const {
    for (int offset = kLanes / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(mask, value, offset);
    return value;
  }
};

// The sequence that frame f is of: the last one that begins at or before it. Sequences without frames begin where the
// next one does.
__device__ int SequenceOf(const FbankBatch& batch, int32_t f) {
  int low = 0, high = batch.num_sequences;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (batch.frame_offsets[middle] <= f ? low : high) = middle;
  }
  return low;
}

template <class Sample>
struct FrameOf;
template <>
struct FrameOf<int16_t> {
  using Type = Int16Frame;
};
template <>
struct FrameOf<float> {
  using Type = FloatFrame;
};

// Memory of one frame: the points of its transform, then their power.
constexpr int FrameBytes(int points) {
  return PaddedPoints(points) * static_cast<int>(sizeof(Complex)) + points * static_cast<int>(sizeof(float));
}
constexpr int FramesPerBlock(int points) { return points <= 256 ? 8 : points == 512 ? 4 : 2; }
static_assert(FramesPerBlock(256) * FrameBytes(256) <= kSharedBytes);
static_assert(FramesPerBlock(kMaxPoints) * FrameBytes(kMaxPoints) <= kSharedBytes);

// One frame to 16 threads; frames of all sequences one after the other.
template <class Sample, int kPoints>
__global__ void __launch_bounds__(FramesPerBlock(kPoints) * kLanes)
    FbankKernel(const DeviceTables tables, const Sample* __restrict__ samples, const FbankBatch batch,
                float* __restrict__ features) {
  extern __shared__ __align__(16) char memory[];
  const int slot = static_cast<int>(threadIdx.x) / kLanes;
  const int32_t f = static_cast<int32_t>(blockIdx.x * (blockDim.x / kLanes)) + slot;
  if (f >= batch.frame_offsets[batch.num_sequences] || f >= batch.max_frames) return;
  const int b = SequenceOf(batch, f);
  const Sample* first = samples + batch.sample_offsets[b] + int64_t{f - batch.frame_offsets[b]} * tables.frame_shift;

  const HalfWarpLanes lanes;
  const int points = kPoints > 0 ? kPoints : tables.points;
  auto* z = reinterpret_cast<Complex*>(memory + slot * FrameBytes(points));
  auto* power = reinterpret_cast<float*>(z + PaddedPoints(points));
  const typename FrameOf<Sample>::Type frame(lanes, first, tables.frame_length);
  FrameTransform<HalfWarpLanes, kPoints>(lanes, tables, z, power).Run(frame, features + int64_t{f} * tables.num_mel);
}

template <class Sample>
cudaError_t LaunchAny(const DeviceTables& tables, const Sample* samples, const FbankBatch& batch, float* features,
                      cudaStream_t stream) {
  if (batch.max_frames <= 0 || batch.num_sequences <= 0) return cudaSuccess;
  const int frames = FramesPerBlock(tables.points);
  const unsigned blocks = (static_cast<unsigned>(batch.max_frames) + frames - 1) / frames;
  const size_t shared = static_cast<size_t>(frames) * FrameBytes(tables.points);
  if (tables.points == 256) {
    FbankKernel<Sample, 256><<<blocks, frames * kLanes, shared, stream>>>(tables, samples, batch, features);
  } else {
    FbankKernel<Sample, 0><<<blocks, frames * kLanes, shared, stream>>>(tables, samples, batch, features);
  }
  return cudaGetLastError();
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
