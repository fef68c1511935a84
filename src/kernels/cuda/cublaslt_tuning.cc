// src/kernels/cuda/cublaslt_tuning.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cublaslt_tuning.h"

#include "base/status_macros.h"

namespace ting::cuda {
namespace {

constexpr int kMostAlgorithms = 16;

class LtTunable : public Tunable {
 public:
  LtTunable(CudaBackend& backend, const DeviceMatrix& matrix) : backend_(backend), matrix_(matrix) {}

  size_t WeightBytes() const override { return static_cast<size_t>(matrix_.N * matrix_.K) * backend_.element_bytes(); }
  size_t InputBytes(int64_t rows) const override {
    return static_cast<size_t>(rows * matrix_.K) * backend_.element_bytes();
  }
  size_t OutputBytes(int64_t rows) const override { return static_cast<size_t>(rows * matrix_.N) * sizeof(float); }
  std::vector<TuningConfig> Candidates(int64_t rows) const override {
    const auto lt = backend_.Lt();
    if (!lt.ok()) return {};
    auto algorithms =
        (*lt)->Algorithms(ProductOf(backend_, nullptr, rows, matrix_.K, matrix_, nullptr), kMostAlgorithms);
    return algorithms.ok() ? *std::move(algorithms) : std::vector<TuningConfig>();
  }
  Status Run(const TuningConfig& config, const TuningCall& call) const override {
    TING_ASSIGN_OR_RETURN(CublasLt * lt, backend_.Lt());
    DeviceMatrix matrix = matrix_;
    matrix.data = call.weights;
    const MatrixProduct product = ProductOf(backend_, call.x, call.rows, matrix.K, matrix, static_cast<float*>(call.y));
    if (config.empty()) return lt->Multiply(product, false, call.lt_workspace, call.stream);
    return lt->MultiplyBy(config, product, call.lt_workspace, call.stream);
  }

 private:
  CudaBackend& backend_;
  DeviceMatrix matrix_;
};

}  // namespace

void AddLtTunable(CudaBackend& backend, const DeviceMatrix& matrix) {
  if (backend.options().batch_invariant) return;
  backend.AddTunable(TuningProductOf(ProductOf(backend, nullptr, 0, matrix.K, matrix, nullptr)),
                     std::make_unique<LtTunable>(backend, matrix));
}

}  // namespace ting::cuda
