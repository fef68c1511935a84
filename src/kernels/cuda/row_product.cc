// src/kernels/cuda/row_product.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/row_product.h"

#include <numeric>
#include <vector>

#include "base/status_macros.h"
#include "kernels/cuda/cublaslt_tuning.h"
#include "kernels/cuda/long_product.h"
#include "kernels/cuda/row_gemm_tuning.h"

namespace ting::cuda {
namespace {

using Output = RowProductSpec::Output;

// Rows of the weight in the order that row_gemm's GLU wants.
std::vector<int64_t> GluOrder(int64_t N) {
  std::vector<int64_t> rows(N);
  std::iota(rows.begin(), rows.end(), 0);
  return InterleaveGlu(rows.data(), N / 2, 1);
}

}  // namespace

std::optional<std::string> RowProduct::RefuseHopper(const CudaBackend& backend, const LinearParams& linear,
                                                    Output output) {
  if (backend.properties().major != 9) return "the GPU is no Hopper";
  if (backend.element_bytes() != 2) return "products in f32 or tf32 are the library's";
  const int64_t multiple = output == Output::kGlu ? 64 : output == Output::kStored ? 32 : 1;
  if (linear.K() % 64 == 0 && linear.N() % multiple == 0) return std::nullopt;
  return fmt::format("a matrix of {} x {}; K must be a multiple of 64 and N of {}", linear.N(), linear.K(), multiple);
}

Result<RowProduct> RowProduct::Create(CudaBackend& backend, const RowProductSpec& spec, Road road) {
  RowProduct product(backend, spec, road);
  MatrixOrder order;
  if (road == Road::kHopper && spec.output == Output::kGlu) order = {"glu", GluOrder(spec.linear.N())};
  TING_ASSIGN_OR_RETURN(product.matrix_, backend.Matrix(spec.linear, spec.key, order));
  TING_ASSIGN_OR_RETURN(product.norm_, backend.Norm(spec.norm));
  TING_ASSIGN_OR_RETURN(product.post_, backend.Norm(spec.post));
  product.long_ = product.IsLong(spec);
  product.AddTunable();
  return product;
}

bool RowProduct::IsLong(const RowProductSpec& spec) const {
  const bool alone = spec.alone && x_stored_ && post_.gamma == nullptr;
  if (road_ != Road::kHopper || !alone || backend_->options().batch_invariant) return false;
  RowGemmArguments a = HopperArguments();
  a.x = matrix_.data;  // any pointer
  return SupportsLongProduct(a).ok();
}

void RowProduct::AddTunable() {
  if (road_ == Road::kLibrary) return AddLtTunable(*backend_, matrix_);
  RowGemmArguments a = HopperArguments();
  // Any pointers: they say what there is. Results of no more columns than the operand's are added to rows.
  if (ReadsFloats()) a.x_f32 = matrix_.bias;
  if (!ReadsFloats()) a.x = matrix_.data;
  if (output_ == Output::kFloat && a.N <= a.K) a.residual = matrix_.bias;
  tuning_ = TuningProductOf(a);
  backend_->AddTunable(tuning_, MakeRowGemmTunable(a));
}

bool RowProduct::CanScatter(int64_t first_column) const {
  constexpr int64_t kLongestRows = 512;  // row_gemm.h
  return road_ == Road::kHopper && output_ == Output::kStored && first_column % 128 == 0 && matrix_.K <= kLongestRows;
}

Status RowProduct::Run(const KernelContext& context, const void* x, const float* residual, void* y, RowRange range,
                       Carver& carver, const RowGemmScatter& scatter) const {
  return road_ == Road::kHopper ? RunHopper(context, x, residual, y, range, carver, scatter)
                                : RunLibrary(context, x, residual, y, range, carver);
}

Result<const void*> RowProduct::Stored(const KernelContext& context, const void* x, RowRange range,
                                       Carver& carver) const {
  const bool as_is = x_stored_ || (backend_->storage() == DType::kF32 && norm_.gamma == nullptr);
  if (as_is) return x;
  void* stored = carver.Take(range.rows * matrix_.K * static_cast<int64_t>(backend_->element_bytes()));
  if (context.workspace == nullptr) return static_cast<const void*>(stored);
  TING_RETURN_IF_ERROR(NormalizeRows(backend_->storage(), static_cast<const float*>(x), norm_, range, matrix_.K, stored,
                                     StreamOf(context).handle()));
  return static_cast<const void*>(stored);
}

RowGemmArguments RowProduct::HopperArguments() const {
  RowGemmArguments a;
  a.type = backend_->storage();
  a.N = matrix_.N, a.K = matrix_.K;
  if (ReadsFloats()) a.gamma = norm_.gamma, a.beta = norm_.beta, a.eps = norm_.eps;
  a.x_stride = a.K;
  a.weight = matrix_.data, a.bias = matrix_.bias;
  a.output = output_ == Output::kGlu      ? RowGemmOutput::kGlu
             : output_ == Output::kStored ? RowGemmOutput::kHalf
                                          : RowGemmOutput::kFloat;
  a.activation = activation_;
  a.y_stride = output_ == Output::kGlu ? a.N / 2 : a.N;
  a.residual_stride = a.N;
  a.scale = scale_;
  a.dependent = true;  // weights come while the kernel before ends
  a.starts_next = starts_next_;
  return a;
}

Status RowProduct::RunHopper(const KernelContext& context, const void* x, const float* residual, void* y,
                             RowRange range, Carver& carver, const RowGemmScatter& scatter) const {
  RowGemmArguments a = HopperArguments();
  a.M = range.rows;
  a.num_rows = range.first == 0 ? range.count : nullptr;  // parts of a matrix: rows past the end are scratch
  if (ReadsFloats()) {
    a.x_f32 = static_cast<const float*>(x);
  } else {
    TING_ASSIGN_OR_RETURN(a.x, Stored(context, x, range, carver));
  }
  if (context.workspace == nullptr) return Status();
  a.y = y, a.residual = residual, a.scatter = scatter;
  const cudaStream_t stream = StreamOf(context).handle();
  const int multiprocessors = backend_->properties().multiProcessorCount;
  if (long_ && PrefersLongProduct(a)) return LongProduct(a, ChooseLongProduct(a, multiprocessors), stream);
  TING_RETURN_IF_ERROR(RowGemm(a, TunedRowGemmConfig(a, tuning_, multiprocessors, backend_->tuning()), stream));
  if (post_.gamma == nullptr) return Status();
  auto* rows = static_cast<float*>(y);
  return NormalizeRows(DType::kF32, rows, post_, range, matrix_.N, rows, stream);
}

Status RowProduct::RunLibrary(const KernelContext& context, const void* x, const float* residual, void* y,
                              RowRange range, Carver& carver) const {
  TING_ASSIGN_OR_RETURN(const void* stored, Stored(context, x, range, carver));
  const bool in_place = output_ == Output::kFloat && residual != y;
  auto* sums = in_place ? static_cast<float*>(y) : carver.Take<float>(range.rows * matrix_.N);
  if (context.workspace == nullptr) return Status();
  TING_RETURN_IF_ERROR(Multiply(*backend_, context, stored, range.rows, matrix_.K, matrix_, sums));
  const cudaStream_t stream = StreamOf(context).handle();
  switch (output_) {
    case Output::kStored:
      return ActivateRows(backend_->storage(), sums, matrix_.bias, activation_, range, matrix_.N, y, stream);
    case Output::kGlu:
      return GluRows(backend_->storage(), sums, matrix_.bias, range, matrix_.N / 2, y, stream);
    case Output::kFloat:
      break;
  }
  return FinishRows(sums, matrix_.bias, residual, scale_, post_, range, matrix_.N, static_cast<float*>(y), stream);
}

}  // namespace ting::cuda
