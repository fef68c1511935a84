// src/kernels/cuda/output_head.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/output_head.h"

#include <algorithm>

#include "base/status_macros.h"
#include "kernels/cuda/fused_head.h"
#include "kernels/cuda/kernels.h"

namespace ting::cuda {
namespace {

// Logits of so many rows at a time: 35 MB at 4,233 symbols stay in the second-level cache between product and softmax.
constexpr int64_t kBlockRows = 2048;

enum class Read { kAll, kTopK, kTargets };

class OutputHead : public CudaKernel {
 public:
  OutputHead(RowProduct product, Read read, int64_t blank) : product_(std::move(product)), read_(read), blank_(blank) {}

 protected:
  static float PenaltyOf(const KernelContext& context) {
    return context.options != nullptr ? context.options->blank_penalty : 0.0F;
  }
  Status Step(const KernelContext& context, Carver& carver) override {
    const RowRange all = RangeOf(context);
    const int64_t block = std::min(kBlockRows, all.rows);
    auto* logits = carver.Take<float>(block * product_.N());
    Carver rest = carver;
    for (int64_t first = 0; first == 0 || first < all.rows; first += block) {
      const RowRange range{std::min(block, all.rows - first), all.count, first};
      carver = rest;  // every block in the same place
      const float* x = context.inputs[0].as<float>();
      if (context.workspace != nullptr) x += first * product_.K();
      TING_RETURN_IF_ERROR(product_.Run(context, x, nullptr, logits, range, carver));
      if (context.workspace == nullptr || all.rows == 0) return Status();
      TING_RETURN_IF_ERROR(ReadLogits(context, logits, range));
    }
    return Status();
  }

 private:
  Status ReadLogits(const KernelContext& context, const float* logits, RowRange range) const {
    const cudaStream_t stream = StreamOf(context).handle();
    const int64_t V = product_.N();
    const float penalty = PenaltyOf(context);
    auto* logp = context.outputs[0].as<float>();
    if (read_ == Read::kTargets) {
      return TargetRows(logits, V, nullptr, V, blank_, penalty, range, context.inputs[1].as<int32_t>(),
                        context.inputs[2].as<int32_t>(), RangeOf(context, 1), logp, stream);
    }
    if (read_ == Read::kAll) {
      return LogSoftmaxRows(logits, V, nullptr, V, blank_, penalty, range, logp + range.first * V, stream);
    }
    const int64_t k = context.outputs[0].shape[1];
    return TopKRows(logits, V, nullptr, V, blank_, penalty, range, k, logp + range.first * k,
                    context.outputs[1].as<int32_t>() + range.first * k, stream);
  }

  RowProduct product_;
  Read read_;
  int64_t blank_;
};

// The logits stay on the chip. More than FusedHead::kMaxK best, which only the step says, go the other way.
class FusedOutputHead : public OutputHead {
 public:
  FusedOutputHead(FusedHead head, RowProduct product, Read read, int64_t blank)
      : OutputHead(product, read, blank), head_(std::move(head)), read_(read), V_(product.N()), K_(product.K()) {}

 protected:
  Status Step(const KernelContext& context, Carver& carver) override {
    if (read_ == Read::kTargets) return Targets(context, carver);
    const int64_t k = context.outputs[0].shape[1];
    return k > FusedHead::kMaxK ? OutputHead::Step(context, carver) : TopK(context, k, carver);
  }

 private:
  Status Targets(const KernelContext& context, Carver& carver) const {
    const RowRange rows = RangeOf(context);
    std::byte* workspace = carver.Take(static_cast<int64_t>(head_.TargetBytes(rows.rows)));
    if (context.workspace == nullptr) return Status();
    const FusedHeadTargets targets{context.inputs[1].as<int32_t>(), context.inputs[2].as<int32_t>(),
                                   RangeOf(context, 1)};
    return head_.Targets({context.inputs[0].as<float>(), rows, PenaltyOf(context)}, targets,
                         context.outputs[0].as<float>(), FusedHead::ChooseConfig(rows.rows, V_, K_), workspace,
                         StreamOf(context).handle(), /*dependent=*/true);
  }
  Status TopK(const KernelContext& context, int64_t k, Carver& carver) const {
    const RowRange all = RangeOf(context);
    const int64_t block = std::min(head_.MaxTopKRows(), all.rows);
    std::byte* workspace = carver.Take(static_cast<int64_t>(head_.TopKBytes(block)));
    if (context.workspace == nullptr) return Status();
    for (int64_t first = 0; first < all.rows; first += block) {
      const FusedHeadInput input{context.inputs[0].as<float>() + first * K_,
                                 {std::min(block, all.rows - first), all.count, first},
                                 PenaltyOf(context)};
      TING_RETURN_IF_ERROR(head_.TopK(input, k, context.outputs[0].as<float>() + first * k,
                                      context.outputs[1].as<int32_t>() + first * k,
                                      FusedHead::ChooseConfig(input.range.rows, V_, K_), workspace,
                                      StreamOf(context).handle(), /*dependent=*/true));
    }
    return Status();
  }

  FusedHead head_;
  Read read_;
  int64_t V_, K_;
};

Read ReadOf(const OpDesc& desc) {
  return desc.op == "target_logp" ? Read::kTargets : desc.op == "log_softmax" ? Read::kAll : Read::kTopK;
}
Result<RowProduct> MakeProduct(const OpDesc& desc, const OutputHeadParams& params, Road road) {
  RowProductSpec spec;
  spec.linear = params.head, spec.norm = params.norm;
  return RowProduct::Create(BackendOf(desc), spec, road);
}

}  // namespace

Result<std::unique_ptr<Kernel>> CreateOutputHead(const OpDesc& desc, Road road) {
  TING_ASSIGN_OR_RETURN(const OutputHeadParams params, ParseOutputHead(desc));
  TING_ASSIGN_OR_RETURN(RowProduct product, MakeProduct(desc, params, road));
  return std::unique_ptr<Kernel>(std::make_unique<OutputHead>(std::move(product), ReadOf(desc), params.blank));
}

Result<std::unique_ptr<Kernel>> CreateFusedOutputHead(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const OutputHeadParams params, ParseOutputHead(desc));
  TING_ASSIGN_OR_RETURN(const RowProduct product, MakeProduct(desc, params, Road::kHopper));
  CudaBackend& backend = BackendOf(desc);
  TING_ASSIGN_OR_RETURN(const DeviceMatrix matrix, backend.Matrix(params.head));
  TING_ASSIGN_OR_RETURN(const DeviceNorm norm, backend.Norm(params.norm));
  FusedHeadWeights weights;
  weights.type = backend.storage();
  weights.V = matrix.N, weights.K = matrix.K, weights.w = matrix.data, weights.bias = matrix.bias;
  weights.gamma = norm.gamma, weights.beta = norm.beta, weights.eps = norm.eps, weights.blank = params.blank;
  TING_ASSIGN_OR_RETURN(FusedHead head, FusedHead::Create(weights));
  return std::unique_ptr<Kernel>(
      std::make_unique<FusedOutputHead>(std::move(head), product, ReadOf(desc), params.blank));
}

}  // namespace ting::cuda
