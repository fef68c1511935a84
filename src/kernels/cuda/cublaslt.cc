// src/kernels/cuda/cublaslt.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cublaslt.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include "base/status_macros.h"

namespace ting::cuda {

struct CublasLtApi {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
};

namespace {

Status Check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return Status();
  if (status == CUBLAS_STATUS_ALLOC_FAILED) return ResourceExhausted("cuBLASLt is out of memory ({})", what);
  return Internal("cuBLASLt: error {} in {}", static_cast<int>(status), what);
}

Result<std::shared_ptr<const CublasLtApi>> LoadApi() {
  void* library = nullptr;
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) {
    if ((library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) != nullptr) break;
  }
  if (library == nullptr) {
    return FailedPrecondition(
        "libcublasLt cannot be loaded ({}); install the CUDA toolkit's cuBLAS or put its folder on "
        "LD_LIBRARY_PATH",
        dlerror());
  }
  auto api = std::make_shared<CublasLtApi>();
  bool complete = true;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    complete = complete && function != nullptr;
  };
  find(api->create, "cublasLtCreate");
  find(api->destroy, "cublasLtDestroy");
  find(api->matmul, "cublasLtMatmul");
  find(api->desc_create, "cublasLtMatmulDescCreate");
  find(api->desc_destroy, "cublasLtMatmulDescDestroy");
  find(api->desc_set, "cublasLtMatmulDescSetAttribute");
  find(api->layout_create, "cublasLtMatrixLayoutCreate");
  find(api->layout_destroy, "cublasLtMatrixLayoutDestroy");
  find(api->preference_create, "cublasLtMatmulPreferenceCreate");
  find(api->preference_destroy, "cublasLtMatmulPreferenceDestroy");
  find(api->preference_set, "cublasLtMatmulPreferenceSetAttribute");
  find(api->heuristic, "cublasLtMatmulAlgoGetHeuristic");
  if (!complete) return FailedPrecondition("libcublasLt lacks functions; install version 12 or 13");
  return std::shared_ptr<const CublasLtApi>(std::move(api));
}

cudaDataType DataType(DType dtype) {
  return dtype == DType::kF16 ? CUDA_R_16F : dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F;
}

// M of the product whose algorithm serves every M in batch-invariant mode.
constexpr int64_t kInvariantRows = 2048;

}  // namespace

struct CublasLt::Choice {
  explicit Choice(std::shared_ptr<const CublasLtApi> functions) : api(std::move(functions)) {}
  ~Choice() {
    if (desc != nullptr) api->desc_destroy(desc);
    for (cublasLtMatrixLayout_t layout : {w, a, c}) {
      if (layout != nullptr) api->layout_destroy(layout);
    }
  }
  // The library thinks in columns: c^T [N, M] = (w^T)^T a^T.
  Status Describe(const MatrixProduct& p, int64_t M) {
    const auto type = DataType(p.operands);
    const auto compute = p.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    TING_RETURN_IF_ERROR(Check(api->desc_create(&desc, compute, CUDA_R_32F), "MatmulDescCreate"));
    const cublasOperation_t transpose = CUBLAS_OP_T;
    TING_RETURN_IF_ERROR(
        Check(api->desc_set(desc, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose), "TRANSA"));
    TING_RETURN_IF_ERROR(Check(api->layout_create(&w, type, p.K, p.N, p.K), "layout of w"));
    TING_RETURN_IF_ERROR(Check(api->layout_create(&a, type, p.K, M, p.a_stride), "layout of a"));
    return Check(api->layout_create(&c, CUDA_R_32F, p.N, M, p.c_stride), "layout of c");
  }
  Status FindAlgorithm(void* handle, bool batch_invariant) {
    cublasLtMatmulPreference_t preference = nullptr;
    TING_RETURN_IF_ERROR(Check(api->preference_create(&preference), "PreferenceCreate"));
    const size_t bytes = kWorkspaceBytes;
    api->preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
    const uint32_t no_split = CUBLASLT_REDUCTION_SCHEME_NONE;
    if (batch_invariant) {
      api->preference_set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &no_split, sizeof no_split);
    }
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    const cublasStatus_t status =
        api->heuristic(static_cast<cublasLtHandle_t>(handle), desc, w, a, c, c, preference, 1, &result, &found);
    api->preference_destroy(preference);
    TING_RETURN_IF_ERROR(Check(status, "AlgoGetHeuristic"));
    if (found == 0) return Unimplemented("cuBLASLt has no algorithm for this product");
    algorithm = result.algo;
    return Status();
  }

  std::shared_ptr<const CublasLtApi> api;
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t w = nullptr, a = nullptr, c = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
};

Result<std::unique_ptr<CublasLt>> CublasLt::Create() {
  std::unique_ptr<CublasLt> lt(new CublasLt());
  TING_ASSIGN_OR_RETURN(lt->api_, LoadApi());
  TING_RETURN_IF_ERROR(Check(lt->api_->create(reinterpret_cast<cublasLtHandle_t*>(&lt->handle_)), "Create"));
  return lt;
}

CublasLt::~CublasLt() {
  choices_.clear();
  if (handle_ != nullptr) api_->destroy(static_cast<cublasLtHandle_t>(handle_));
}

Result<const CublasLt::Choice*> CublasLt::Choose(const MatrixProduct& p, bool batch_invariant) {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<Choice>& choice =
      choices_[{p.M, p.N, p.K, p.a_stride, p.c_stride, static_cast<int>(p.operands) * 2 + p.tf32, batch_invariant}];
  if (choice) return choice.get();
  auto made = std::make_unique<Choice>(api_);
  TING_RETURN_IF_ERROR(made->Describe(p, p.M));
  if (batch_invariant) {
    Choice fixed(api_);
    TING_RETURN_IF_ERROR(fixed.Describe(p, kInvariantRows));
    TING_RETURN_IF_ERROR(fixed.FindAlgorithm(handle_, true));
    made->algorithm = fixed.algorithm;
  } else {
    TING_RETURN_IF_ERROR(made->FindAlgorithm(handle_, false));
  }
  choice = std::move(made);
  return choice.get();
}

Status CublasLt::Multiply(const MatrixProduct& p, bool batch_invariant, void* workspace, cudaStream_t stream) {
  if (p.M == 0) return Status();
  auto choice = Choose(p, batch_invariant);
  if (!choice.ok()) return choice.status().WithContext(fmt::format("product of {} x {} x {}", p.M, p.N, p.K));
  const float one = 1, zero = 0;
  const Choice& c = **choice;
  return Check(api_->matmul(static_cast<cublasLtHandle_t>(handle_), c.desc, &one, p.w, c.w, p.a, c.a, &zero, p.c, c.c,
                            p.c, c.c, &c.algorithm, workspace, kWorkspaceBytes, stream),
               "Matmul");
}

}  // namespace ting::cuda
