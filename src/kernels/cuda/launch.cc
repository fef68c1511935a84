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

}  // namespace

Status CudaStatus(cudaError_t error, const char* what) { return CudaErrorStatus(error, what); }

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

Result<CUtensorMap> MakeTensorMap(TmaType type, const void* data, int64_t rows, int64_t columns, int64_t row_stride,
                                  int box_rows, int box_columns) {
  static const Result<EncodeFunction> encode = FindEncode();
  TING_RETURN_IF_ERROR(encode.status());
  const bool half = type != TmaType::kF32;
  const CUtensorMapDataType types[] = {CU_TENSOR_MAP_DATA_TYPE_FLOAT16, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                                       CU_TENSOR_MAP_DATA_TYPE_FLOAT32};
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(row_stride) * (half ? 2 : 4)};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(box_columns), static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[] = {1, 1};
  CUtensorMap map;
  const CUresult result = (*encode)(&map, types[static_cast<int>(type)], 2, const_cast<void*>(data), sizes, strides,
                                    box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                    half && box_columns == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
                                    CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result == CUDA_SUCCESS) return map;
  return Internal("no tensor map for [{}, {}] with stride {} and boxes of {} x {} (driver error {})", rows, columns,
                  row_stride, box_rows, box_columns, static_cast<int>(result));
}

}  // namespace ting::cuda
