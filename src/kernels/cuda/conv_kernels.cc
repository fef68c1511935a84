// src/kernels/cuda/conv_kernels.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/conv_kernels.h"

#include <cuda_runtime.h>

#include "base/status_macros.h"
#include "kernels/cuda/conv_parameters.h"
#include "kernels/cuda/launch.h"

namespace ting::cuda {
namespace {

Status Check(const ConvArguments& a) {
  if (a.storage != DType::kF32 && a.storage != DType::kF16 && a.storage != DType::kBF16) {
    return Unimplemented("conv: stored in {}; it takes f32, f16 and bf16", DTypeName(a.storage));
  }
  if ((a.x != nullptr) == (a.features != nullptr)) return InvalidArgument("conv: give x or features");
  if ((a.mean != nullptr) != (a.istd != nullptr) || (a.mean != nullptr && a.features == nullptr)) {
    return InvalidArgument("conv: CMVN needs mean, istd and features");
  }
  if (a.kernel < 1 || a.stride < 1 || a.F_in < a.kernel || a.C_in < 1 || a.C_out < 1 || a.B < 0 ||
      (a.features != nullptr && a.C_in != 1)) {
    return InvalidArgument("conv: kernel {}, stride {} over {} frequencies of {} channels into {}", a.kernel, a.stride,
                           a.F_in, a.C_in, a.C_out);
  }
  constexpr int64_t kMost = int64_t{1} << 22;
  if (a.F_in * a.C_in > kMost || a.C_out > kMost || a.max_rows_out > kMost) {
    return Unimplemented("conv: {} rows of {} x {} are too many", a.max_rows_out, a.F_in, a.C_in);
  }
  return Status();
}

ConvParameters MakeParameters(const ConvArguments& a) {
  ConvParameters p{};
  p.x = a.features != nullptr ? a.features : a.x;
  p.mean = a.mean, p.istd = a.istd, p.in_offsets = a.in_offsets, p.out_offsets = a.out_offsets;
  p.weight = a.weight, p.bias = a.bias, p.y = a.y;
  p.B = static_cast<int>(a.B), p.kernel = a.kernel, p.stride = a.stride;
  p.F_in = static_cast<int>(a.F_in), p.F_out = static_cast<int>(a.F_out());
  p.C_in = static_cast<int>(a.C_in), p.C_out = static_cast<int>(a.C_out);
  return p;
}

}  // namespace

Status ConvGeneric(const ConvArguments& arguments, cudaStream_t stream) {
  TING_RETURN_IF_ERROR(Check(arguments));
  if (arguments.B == 0 || arguments.max_rows_out == 0) return Status();
  const ConvParameters parameters = MakeParameters(arguments);
  LaunchShape shape;
  shape.grid = ConvGenericGrid(parameters, arguments.max_rows_out);
  shape.block = dim3(kConvGenericThreads);
  return Launch(FindConvGeneric(arguments.storage, arguments.features != nullptr), shape, stream, parameters);
}

}  // namespace ting::cuda
