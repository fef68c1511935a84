// src/kernels/cuda/launch.h
// SPDX-License-Identifier: Apache-2.0
//
// Host side of every CUDA kernel: errors as Status, what a device and an operand must be, launches with their
// attributes, tensor maps for the copy engine.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <utility>

#include "tensor/dtype.h"
#include "ting/status.h"

namespace ting::cuda {

// OK, or what the runtime says; running out of memory and losing the device have codes of their own.
Status CudaStatus(cudaError_t error, const char* what);

#define TING_CUDA_RETURN_IF_ERROR(call)                                                          \
  do {                                                                                           \
    const cudaError_t ting_cuda_error = (call);                                                  \
    if (ting_cuda_error != cudaSuccess) return ::ting::cuda::CudaStatus(ting_cuda_error, #call); \
  } while (false)

// OK, or why the current device runs no kernel for Hopper; `kernel` begins the sentence.
Status CheckHopper(const char* kernel);
// The same of a type, for kernels that multiply 16-bit floating-point numbers.
Status CheckHalf(DType type, const char* kernel);
Result<int> Multiprocessors();  // of the current device
// Shared memory of a block, at most; cluster_barrier.cuh takes some for itself under racecheck.
#if defined(TING_RACECHECK)
inline constexpr int kHopperSharedBytes = 225 << 10;
#else
inline constexpr int kHopperSharedBytes = 227 << 10;
#endif

inline bool AlignedTo16(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }
inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct LaunchShape {
  dim3 grid;
  dim3 block;
  uint32_t shared_bytes = 0;
  int cluster = 1;         // blocks along x that share a cluster
  bool dependent = false;  // programmatic dependent launch: the kernel calls WaitForPreviousKernel before it reads
  bool together = false;   // blocks that share no cluster are placed near each other all the same (ClusterOf)
};

// The cluster of a launch. The device spreads blocks over all its groups of 16 or 18 multiprocessors, and a cluster
// lies within one: two small blocks in each group leave no place for the next kernel's clusters of 16, which then do
// not get ready before these blocks end. `together` makes clusters of up to eight, which fill one group after another.
dim3 ClusterOf(const LaunchShape& shape);

// Launches and returns the launch's own error; the kernel's come later, from the stream.
template <typename... Parameters, typename... Arguments>
Status Launch(void (*kernel)(Parameters...), const LaunchShape& shape, cudaStream_t stream, Arguments&&... arguments) {
  cudaLaunchAttribute attributes[2];
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  if (const dim3 cluster = ClusterOf(shape); cluster.x * cluster.y > 1) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs++].val.clusterDim = {cluster.x, cluster.y, 1};
  }
  if (shape.dependent) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  return CudaStatus(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), "kernel launch");
}

// How many clusters of such a launch the device holds at once (its grid does not count).
template <typename... Parameters>
Status ActiveClusters(void (*kernel)(Parameters...), const LaunchShape& shape, int* clusters) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(shape.cluster), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(shape.cluster));
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.attrs = &attribute, config.numAttrs = 1;
  return CudaStatus(cudaOccupancyMaxActiveClusters(clusters, kernel, &config), "occupancy");
}

// Lets `kernel` use that much shared memory on the current device; `cluster` > 8 is allowed, too. The limit only rises:
// threads that launch the same kernel with different amounts must not lower it for one another. Cheap to repeat.
Status AllowSharedMemory(const void* kernel, uint32_t bytes, int cluster);
template <typename... Parameters>
Status AllowShared(void (*kernel)(Parameters...), uint32_t bytes, int cluster = 1) {
  return AllowSharedMemory(reinterpret_cast<const void*>(kernel), bytes, cluster);
}

// A [rows, columns] matrix of f16, bf16 or f32 with `row_stride` elements from row to row (rows may overlap), read in
// boxes of box_rows x box_columns. 16-bit boxes of 64 columns are swizzled by 128 bytes (hopper.cuh), of 32 by 64.
// Reads beyond the matrix give zeros. `data` and the stride in bytes must be multiples of 16.
Result<CUtensorMap> MakeTensorMap(DType type, const void* data, int64_t rows, int64_t columns, int64_t row_stride,
                                  int box_rows, int box_columns);

// A [rows, columns] 16-bit matrix without gaps, columns a multiple of 64, as tiles of 64 columns. A box is box_rows
// rows of box_tiles neighbouring tiles, each swizzled, one after the other; its coordinates are 0, row and tile.
Result<CUtensorMap> MakeTilesMap(DType type, const void* data, int64_t rows, int64_t columns, int box_rows,
                                 int box_tiles);
// The same of rows that are row_stride elements apart; f32 tiles have 32 columns, 128 bytes as well.
Result<CUtensorMap> MakeTilesMap(DType type, const void* data, int64_t rows, int64_t columns, int64_t row_stride,
                                 int box_rows, int box_tiles);

}  // namespace ting::cuda
