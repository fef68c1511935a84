// src/kernels/cuda/launch.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/launch.h"

#include <map>
#include <mutex>
#include <utility>

#include "base/cuda_status.h"

namespace ting::cuda {
namespace {

using EncodeFunction = decltype(&cuTensorMapEncodeTiled);

// From the driver that the runtime found: linking libcuda would keep the program from starting without a driver.
Result<EncodeFunction> FindEncode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  TING_CUDA_RETURN_IF_ERROR(
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found));
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    return FailedPrecondition("the driver has no cuTensorMapEncodeTiled; update it to one for CUDA 12 or later");
  }
  return reinterpret_cast<EncodeFunction>(function);
}

Result<CUtensorMapDataType> MapTypeOf(DType type) {
  switch (type) {
    case DType::kF16:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case DType::kBF16:
      return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case DType::kF32:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    default:
      return Unimplemented("tensor maps of {}; they are of f16, bf16 or f32", DTypeName(type));
  }
}

CUtensorMapSwizzle SwizzleOf(int bytes) {
  return bytes == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
         : bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
                       : CU_TENSOR_MAP_SWIZZLE_NONE;
}

// Innermost dimension first; its elements lie side by side.
template <int kRank>
Result<CUtensorMap> EncodeMap(DType type, const void* data, const int64_t (&sizes)[kRank],
                              const int64_t (&strides)[kRank - 1], const int (&box)[kRank]) {
  static const Result<EncodeFunction> encode = FindEncode();
  TING_RETURN_IF_ERROR(encode.status());
  TING_ASSIGN_OR_RETURN(const CUtensorMapDataType map_type, MapTypeOf(type));
  const int element_bytes = static_cast<int>(DTypeSize(type));
  cuuint64_t map_sizes[kRank], map_strides[kRank - 1];
  cuuint32_t map_box[kRank], steps[kRank];
  for (int i = 0; i < kRank; ++i) {
    map_sizes[i] = static_cast<cuuint64_t>(sizes[i]), map_box[i] = static_cast<cuuint32_t>(box[i]), steps[i] = 1;
    if (i > 0) map_strides[i - 1] = static_cast<cuuint64_t>(strides[i - 1] * element_bytes);
  }
  CUtensorMap map;
  const CUresult result = (*encode)(&map, map_type, kRank, const_cast<void*>(data), map_sizes, map_strides, map_box,
                                    steps, CU_TENSOR_MAP_INTERLEAVE_NONE, SwizzleOf(box[0] * element_bytes),
                                    CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result == CUDA_SUCCESS) return map;
  return Internal("no tensor map of rank {} with rows of {} elements, {} apart, and boxes of {} x {} (driver error {})",
                  kRank, sizes[0], strides[0], box[1], box[0], static_cast<int>(result));
}

}  // namespace

dim3 ClusterOf(const LaunchShape& shape) {
  if (!shape.together || shape.cluster > 1) return dim3(static_cast<unsigned>(shape.cluster));
  constexpr unsigned kMostBlocks = 8;  // what every kernel may have
  const auto divisor = [](unsigned blocks, unsigned most) {
    while (blocks % most != 0) --most;
    return most;
  };
  const unsigned y = divisor(shape.grid.y, kMostBlocks);
  return dim3(divisor(shape.grid.x, kMostBlocks / y), y);
}

Status CudaStatus(cudaError_t error, const char* what) { return CudaErrorStatus(error, what); }

Status CheckHopper(const char* kernel) {
  int device = 0, major = 0;
  TING_CUDA_RETURN_IF_ERROR(cudaGetDevice(&device));
  TING_CUDA_RETURN_IF_ERROR(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  if (major == 9) return Status();
  return Unimplemented("{}: needs a GPU of compute capability 9.0, this one has {}.x", kernel, major);
}

Status CheckHalf(DType type, const char* kernel) {
  if (type == DType::kF16 || type == DType::kBF16) return Status();
  return Unimplemented("{}: computes in f16 and bf16, not in {}", kernel, DTypeName(type));
}

Result<int> Multiprocessors() {
  int device = 0, count = 0;
  TING_CUDA_RETURN_IF_ERROR(cudaGetDevice(&device));
  TING_CUDA_RETURN_IF_ERROR(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

Status AllowSharedMemory(const void* kernel, uint32_t bytes, int cluster) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, uint32_t> allowed;  // by kernel and device
  int device = 0;
  TING_CUDA_RETURN_IF_ERROR(cudaGetDevice(&device));
  const std::lock_guard lock(mutex);
  uint32_t& limit = allowed[{kernel, device}];
  if (bytes <= limit) return Status();
  if (cluster > 8) {
    TING_CUDA_RETURN_IF_ERROR(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
  }
  TING_CUDA_RETURN_IF_ERROR(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
  limit = bytes;
  return Status();
}

Result<CUtensorMap> MakeTensorMap(DType type, const void* data, int64_t rows, int64_t columns, int64_t row_stride,
                                  int box_rows, int box_columns) {
  const int64_t sizes[] = {columns, rows}, strides[] = {row_stride};
  const int box[] = {box_columns, box_rows};
  return EncodeMap<2>(type, data, sizes, strides, box);
}

Result<CUtensorMap> MakeTilesMap(DType type, const void* data, int64_t rows, int64_t columns, int box_rows,
                                 int box_tiles) {
  return MakeTilesMap(type, data, rows, columns, columns, box_rows, box_tiles);
}

Result<CUtensorMap> MakeTilesMap(DType type, const void* data, int64_t rows, int64_t columns, int64_t row_stride,
                                 int box_rows, int box_tiles) {
  const int width = type == DType::kF32 ? 32 : 64;
  const int64_t sizes[] = {width, rows, columns / width}, strides[] = {row_stride, width};
  const int box[] = {width, box_rows, box_tiles};
  return EncodeMap<3>(type, data, sizes, strides, box);
}

}  // namespace ting::cuda
