// src/kernels/cuda/cublaslt.h
// SPDX-License-Identifier: Apache-2.0
//
// Matrix products by cuBLASLt, for the types and shapes that have no kernel of our own. The library is loaded when a
// product first needs it, so that the program starts on machines without the toolkit.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "kernels/tuning.h"
#include "tensor/dtype.h"
#include "ting/status.h"

namespace ting::cuda {

struct CublasLtApi;  // the functions, found by dlsym

// c [M, N] f32 = a [M, K] w [N, K]^T, all row-major. Operands f32, f16 or bf16 (both alike); sums in f32.
struct MatrixProduct {
  const void* a = nullptr;
  const void* w = nullptr;
  float* c = nullptr;
  int64_t M = 0, N = 0, K = 0;
  int64_t a_stride = 0, c_stride = 0;  // elements from row to row; w's is K
  DType operands = DType::kF32;
  bool tf32 = false;  // f32 operands rounded to tf32: ten bits of mantissa
};

// The product's name in tuning records.
TuningProduct TuningProductOf(const MatrixProduct& product);

class CublasLt {
 public:
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;

  // `tuning` has the algorithms that measured fastest; it outlives the object.
  static Result<std::unique_ptr<CublasLt>> Create(TuningTable* tuning);
  ~CublasLt();
  // `workspace`: kWorkspaceBytes of device memory of this stream. `batch_invariant`: one algorithm whatever M, so that
  // a row's sum has the same order in every batch. Any number of threads may call.
  // That algorithm is the library's own choice: records of others, which may sum in another order, are not looked at.
  Status Multiply(const MatrixProduct& product, bool batch_invariant, void* workspace, cudaStream_t stream);

  // At most so many algorithms for the product, as records have them; what the library thinks best comes first.
  Result<std::vector<TuningConfig>> Algorithms(const MatrixProduct& product, int most);
  // By one of them; refused where the library says that it cannot run.
  Status MultiplyBy(const TuningConfig& algorithm, const MatrixProduct& product, void* workspace, cudaStream_t stream);

 private:
  struct Choice;  // an algorithm and its descriptors
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int, bool>;

  explicit CublasLt(TuningTable* tuning);
  Result<const Choice*> Choose(const MatrixProduct& product, bool batch_invariant);
  Status ChooseAlgorithm(const MatrixProduct& product, bool batch_invariant, Choice& choice);
  Status Queue(const Choice& choice, const MatrixProduct& product, void* workspace, cudaStream_t stream);

  TuningTable* tuning_;
  std::shared_ptr<const CublasLtApi> api_;
  void* handle_ = nullptr;
  std::mutex mutex_;
  std::map<Key, std::unique_ptr<Choice>> choices_;
};

}  // namespace ting::cuda
