// src/kernels/cuda/cublaslt.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cublaslt.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <cstdint>
#include <iterator>

#include "base/cuda_status.h"
#include "base/status_macros.h"
#include "kernels/cuda/tunable.h"

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
  decltype(&cublasLtMatmulAlgoInit) algo_init = nullptr;
  decltype(&cublasLtMatmulAlgoCheck) algo_check = nullptr;
  decltype(&cublasLtMatmulAlgoConfigGetAttribute) algo_get = nullptr;
  decltype(&cublasLtMatmulAlgoConfigSetAttribute) algo_set = nullptr;
};

namespace {

Status Check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return Status();
  if (status == CUBLAS_STATUS_ALLOC_FAILED) return ResourceExhausted("cuBLASLt is out of memory ({})", what);
  TING_RETURN_IF_ERROR(CudaErrorStatus(GpuLoss(), what));
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
  find(api->algo_init, "cublasLtMatmulAlgoInit");
  find(api->algo_check, "cublasLtMatmulAlgoCheck");
  find(api->algo_get, "cublasLtMatmulAlgoConfigGetAttribute");
  find(api->algo_set, "cublasLtMatmulAlgoConfigSetAttribute");
  if (!complete) return FailedPrecondition("libcublasLt lacks functions; install version 12 or 13");
  return std::shared_ptr<const CublasLtApi>(std::move(api));
}

cudaDataType DataType(DType dtype) {
  return dtype == DType::kF16 ? CUDA_R_16F : dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F;
}

cublasComputeType_t ComputeType(bool tf32) { return tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F; }

// M of the product whose algorithm serves every M in batch-invariant mode.
constexpr int64_t kInvariantRows = 2048;

// What makes an algorithm beside its number, with the bytes that the library stores each in.
struct AlgorithmAttribute {
  const char* name;
  cublasLtMatmulAlgoConfigAttributes_t attribute;
  size_t bytes;
};
constexpr AlgorithmAttribute kAlgorithmAttributes[] = {{"tile", CUBLASLT_ALGO_CONFIG_TILE_ID, 4},
                                                       {"split", CUBLASLT_ALGO_CONFIG_SPLITK_NUM, 4},
                                                       {"reduction", CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, 4},
                                                       {"swizzle", CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, 4},
                                                       {"custom", CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, 4},
                                                       {"stages", CUBLASLT_ALGO_CONFIG_STAGES_ID, 4},
                                                       {"inner_shape", CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, 2},
                                                       {"cluster_shape", CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, 2}};

// Names and numbers of an algorithm; none where the library does not tell one of them.
TuningConfig ConfigOf(const CublasLtApi& api, const cublasLtMatmulAlgo_t& algorithm) {
  TuningConfig config;
  int32_t id = 0;
  size_t written = 0;
  if (api.algo_get(&algorithm, CUBLASLT_ALGO_CONFIG_ID, &id, sizeof id, &written) != CUBLAS_STATUS_SUCCESS) return {};
  config["id"] = id;
  for (const AlgorithmAttribute& a : kAlgorithmAttributes) {
    uint32_t value = 0;
    if (api.algo_get(&algorithm, a.attribute, &value, a.bytes, &written) != CUBLAS_STATUS_SUCCESS) return {};
    config[a.name] = value;
  }
  return config;
}

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
    TING_RETURN_IF_ERROR(Check(api->desc_create(&desc, ComputeType(p.tf32), CUDA_R_32F), "MatmulDescCreate"));
    const cublasOperation_t transpose = CUBLAS_OP_T;
    TING_RETURN_IF_ERROR(
        Check(api->desc_set(desc, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose), "TRANSA"));
    TING_RETURN_IF_ERROR(Check(api->layout_create(&w, type, p.K, p.N, p.K), "layout of w"));
    TING_RETURN_IF_ERROR(Check(api->layout_create(&a, type, p.K, M, p.a_stride), "layout of a"));
    return Check(api->layout_create(&c, CUDA_R_32F, p.N, M, p.c_stride), "layout of c");
  }
  // At most `most` algorithms, best first; batch_invariant: without a split of K.
  Status FindAlgorithms(void* handle, bool batch_invariant, int most, std::vector<cublasLtMatmulAlgo_t>* algorithms) {
    cublasLtMatmulPreference_t preference = nullptr;
    TING_RETURN_IF_ERROR(Check(api->preference_create(&preference), "PreferenceCreate"));
    const size_t bytes = kWorkspaceBytes;
    api->preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
    const uint32_t no_split = CUBLASLT_REDUCTION_SCHEME_NONE;
    if (batch_invariant) {
      api->preference_set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &no_split, sizeof no_split);
    }
    std::vector<cublasLtMatmulHeuristicResult_t> results(most);
    int found = 0;
    const cublasStatus_t status = api->heuristic(static_cast<cublasLtHandle_t>(handle), desc, w, a, c, c, preference,
                                                 most, results.data(), &found);
    api->preference_destroy(preference);
    TING_RETURN_IF_ERROR(Check(status, "AlgoGetHeuristic"));
    if (found == 0) return Unimplemented("cuBLASLt has no algorithm for this product");
    for (int i = 0; i < found; ++i) algorithms->push_back(results[i].algo);
    return Status();
  }
  Status FindAlgorithm(void* handle, bool batch_invariant) {
    std::vector<cublasLtMatmulAlgo_t> best;
    TING_RETURN_IF_ERROR(FindAlgorithms(handle, batch_invariant, 1, &best));
    algorithm = best[0];
    return Status();
  }
  // The algorithm of a record, if the library runs it for these descriptors.
  Status SetAlgorithm(void* handle, const MatrixProduct& p, const TuningConfig& config) {
    const auto lt = static_cast<cublasLtHandle_t>(handle);
    const auto type = DataType(p.operands);
    const auto id = ConfigValue(config, "id", 0, INT32_MAX);
    if (!id || config.size() != std::size(kAlgorithmAttributes) + 1) return InvalidArgument("it is no algorithm");
    TING_RETURN_IF_ERROR(
        Check(api->algo_init(lt, ComputeType(p.tf32), CUDA_R_32F, type, type, CUDA_R_32F, CUDA_R_32F, *id, &algorithm),
              "AlgoInit"));
    for (const AlgorithmAttribute& attribute : kAlgorithmAttributes) {
      const auto value = ConfigValue(config, attribute.name, 0, attribute.bytes == 2 ? UINT16_MAX : INT32_MAX);
      if (!value) return InvalidArgument("its {} is missing or no such number", attribute.name);
      const auto bits = static_cast<uint32_t>(*value);  // little-endian: its first bytes are the 16-bit number
      TING_RETURN_IF_ERROR(
          Check(api->algo_set(&algorithm, attribute.attribute, &bits, attribute.bytes), attribute.name));
    }
    cublasLtMatmulHeuristicResult_t result{};
    TING_RETURN_IF_ERROR(Check(api->algo_check(lt, desc, w, a, c, c, &algorithm, &result), "AlgoCheck"));
    if (result.workspaceSize <= kWorkspaceBytes) return Status();
    return InvalidArgument("it needs {} bytes of workspace", result.workspaceSize);
  }

  std::shared_ptr<const CublasLtApi> api;
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t w = nullptr, a = nullptr, c = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
};

TuningProduct TuningProductOf(const MatrixProduct& p) {
  return {"cublaslt", std::string(p.tf32 ? "tf32" : DTypeName(p.operands)), p.N, p.K, "float"};
}

CublasLt::CublasLt(TuningTable* tuning) : tuning_(tuning) {}

Result<std::unique_ptr<CublasLt>> CublasLt::Create(TuningTable* tuning) {
  std::unique_ptr<CublasLt> lt(new CublasLt(tuning));
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
  TING_RETURN_IF_ERROR(ChooseAlgorithm(p, batch_invariant, *made));
  choice = std::move(made);
  return choice.get();
}

Status CublasLt::ChooseAlgorithm(const MatrixProduct& p, bool batch_invariant, Choice& choice) {
  if (batch_invariant) {
    Choice fixed(api_);
    TING_RETURN_IF_ERROR(fixed.Describe(p, kInvariantRows));
    TING_RETURN_IF_ERROR(fixed.FindAlgorithm(handle_, true));
    choice.algorithm = fixed.algorithm;
    return Status();
  }
  const TuningProduct product = TuningProductOf(p);
  if (const auto record = tuning_->Find(product, PadRows(p.M))) {
    const Status status = choice.SetAlgorithm(handle_, p, *record);
    if (status.ok()) return status;
    tuning_->Ignore(product, PadRows(p.M), status.message());
  }
  return choice.FindAlgorithm(handle_, false);
}

Result<std::vector<TuningConfig>> CublasLt::Algorithms(const MatrixProduct& p, int most) {
  Choice choice(api_);
  TING_RETURN_IF_ERROR(choice.Describe(p, p.M));
  std::vector<cublasLtMatmulAlgo_t> algorithms;
  TING_RETURN_IF_ERROR(choice.FindAlgorithms(handle_, false, most, &algorithms));
  std::vector<TuningConfig> configs;
  for (const cublasLtMatmulAlgo_t& algorithm : algorithms) {
    TuningConfig config = ConfigOf(*api_, algorithm);
    if (!config.empty() && choice.SetAlgorithm(handle_, p, config).ok()) configs.push_back(std::move(config));
  }
  return configs;
}

Status CublasLt::Multiply(const MatrixProduct& p, bool batch_invariant, void* workspace, cudaStream_t stream) {
  if (p.M == 0) return Status();
  auto choice = Choose(p, batch_invariant);
  if (!choice.ok()) return choice.status().WithContext(fmt::format("product of {} x {} x {}", p.M, p.N, p.K));
  return Queue(**choice, p, workspace, stream);
}

Status CublasLt::MultiplyBy(const TuningConfig& algorithm, const MatrixProduct& p, void* workspace,
                            cudaStream_t stream) {
  Choice choice(api_);
  TING_RETURN_IF_ERROR(choice.Describe(p, p.M));
  TING_RETURN_IF_ERROR(choice.SetAlgorithm(handle_, p, algorithm));
  return Queue(choice, p, workspace, stream);
}

Status CublasLt::Queue(const Choice& c, const MatrixProduct& p, void* workspace, cudaStream_t stream) {
  const float one = 1, zero = 0;
  return Check(api_->matmul(static_cast<cublasLtHandle_t>(handle_), c.desc, &one, p.w, c.w, p.a, c.a, &zero, p.c, c.c,
                            p.c, c.c, &c.algorithm, workspace, kWorkspaceBytes, stream),
               "Matmul");
}

}  // namespace ting::cuda
