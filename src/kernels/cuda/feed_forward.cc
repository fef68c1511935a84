// src/kernels/cuda/feed_forward.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/feed_forward.h"

#include "base/status_macros.h"
#include "kernels/cuda/fused_ffn.h"
#include "kernels/cuda/fused_ffn_tuning.h"
#include "kernels/cuda/kernels.h"

namespace ting::cuda {
namespace {

class FeedForward : public CudaKernel {
 public:
  FeedForward(RowProduct up, RowProduct down, bool residual, size_t element_bytes)
      : up_(std::move(up)), down_(std::move(down)), residual_(residual), element_bytes_(element_bytes) {}

 protected:
  Status Step(const KernelContext& context, Carver& carver) override {
    const RowRange range = RangeOf(context);
    const auto* x = context.inputs[0].as<float>();
    void* hidden = carver.Take(range.rows * up_.N() * static_cast<int64_t>(element_bytes_));
    TING_RETURN_IF_ERROR(up_.Run(context, x, nullptr, hidden, range, carver));
    return down_.Run(context, hidden, residual_ ? x : nullptr, context.outputs[0].data, range, carver);
  }

 private:
  RowProduct up_, down_;
  bool residual_;
  size_t element_bytes_;
};

// Sums depend on how the hidden units are split: in batch-invariant mode that is the same for any number of rows. Two
// slices are the fastest from 1,500 to 8,448 rows and cost a batch of one half as much again.
constexpr int kInvariantSplit = 2;
FfnConfig InvariantConfig(int64_t rows, int64_t F) {
  return FusedFfn::ChooseConfigOfSplit(rows, F, F >= 256 ? kInvariantSplit : 1);
}

// How the fused kernel is cut for some number of rows: as measured, or as chosen.
class FfnCuts {
 public:
  FfnCuts(CudaBackend& backend, const FusedFfnWeights& weights)
      : table_(&backend.tuning()),
        choose_(backend.options().batch_invariant ? InvariantConfig : FusedFfn::ChooseConfig),
        F_(weights.F) {
    if (backend.options().batch_invariant) split_ = choose_(1, F_).split;
    product_ = TuningProductOf(weights, split_);
    backend.AddTunable(product_, MakeFusedFfnTunable(weights, split_, choose_));
  }
  FfnConfig For(int64_t rows) const { return TunedFfnConfig(product_, rows, choose_(rows, F_), split_, *table_); }

 private:
  TuningTable* table_;
  FfnConfig (*choose_)(int64_t rows, int64_t F);
  int64_t F_;
  std::optional<int> split_;
  TuningProduct product_;
};

// Both products in one kernel: the hidden units never leave the chip.
class FusedFeedForward : public CudaKernel {
 public:
  FusedFeedForward(FusedFfn ffn, FfnCuts cuts) : ffn_(std::move(ffn)), cuts_(std::move(cuts)) {}

 protected:
  Status Step(const KernelContext& context, Carver&) override {
    if (context.workspace == nullptr) return Status();
    const RowRange range = RangeOf(context);
    return ffn_.Run(context.inputs[0].as<float>(), context.outputs[0].as<float>(), range.rows, range.count,
                    cuts_.For(range.rows), StreamOf(context).handle(), /*dependent=*/true);
  }

 private:
  FusedFfn ffn_;
  FfnCuts cuts_;
};

}  // namespace

Result<std::unique_ptr<Kernel>> CreateFeedForward(const OpDesc& desc, Road road) {
  TING_ASSIGN_OR_RETURN(const FeedForwardParams params, ParseFeedForward(desc));
  CudaBackend& backend = BackendOf(desc);
  RowProductSpec up, down;
  up.linear = params.w1, up.norm = params.norm, up.activation = params.activation;
  up.output = RowProductSpec::Output::kStored;
  down.linear = params.w2, down.post = params.post, down.x_stored = true;
  down.scale = params.residual == 0 ? 1.0F : params.residual;
  TING_ASSIGN_OR_RETURN(RowProduct first, RowProduct::Create(backend, up, road));
  TING_ASSIGN_OR_RETURN(RowProduct second, RowProduct::Create(backend, down, road));
  return std::unique_ptr<Kernel>(std::make_unique<FeedForward>(std::move(first), std::move(second),
                                                               params.residual != 0, backend.element_bytes()));
}

Result<std::unique_ptr<Kernel>> CreateFusedFeedForward(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const FeedForwardParams params, ParseFeedForward(desc));
  CudaBackend& backend = BackendOf(desc);
  TING_ASSIGN_OR_RETURN(const DeviceMatrix w1, backend.Matrix(params.w1));
  TING_ASSIGN_OR_RETURN(const DeviceMatrix w2, backend.Matrix(params.w2));
  TING_ASSIGN_OR_RETURN(const DeviceNorm norm, backend.Norm(params.norm));
  TING_ASSIGN_OR_RETURN(const DeviceNorm post, backend.Norm(params.post));
  FusedFfnWeights weights;
  weights.type = backend.storage();
  weights.D = params.D, weights.F = params.F;
  weights.w1 = w1.data, weights.w2 = w2.data, weights.b1 = w1.bias, weights.b2 = w2.bias;
  weights.norm_gamma = norm.gamma, weights.norm_beta = norm.beta, weights.norm_eps = norm.eps;
  weights.post_gamma = post.gamma, weights.post_beta = post.beta, weights.post_eps = post.eps;
  weights.activation = params.activation, weights.residual = params.residual;
  TING_ASSIGN_OR_RETURN(FusedFfn ffn, FusedFfn::Create(weights));
  return std::unique_ptr<Kernel>(std::make_unique<FusedFeedForward>(std::move(ffn), FfnCuts(backend, weights)));
}

}  // namespace ting::cuda
