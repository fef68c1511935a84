// src/kernels/cuda/output_head.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/output_head.h"

#include <algorithm>

#include "base/status_macros.h"
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
    const float penalty = context.options != nullptr ? context.options->blank_penalty : 0.0F;
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

}  // namespace

Result<std::unique_ptr<Kernel>> CreateOutputHead(const OpDesc& desc, Road road) {
  TING_ASSIGN_OR_RETURN(const OutputHeadParams params, ParseOutputHead(desc));
  RowProductSpec spec;
  spec.linear = params.head, spec.norm = params.norm;
  TING_ASSIGN_OR_RETURN(RowProduct product, RowProduct::Create(BackendOf(desc), spec, road));
  const Read read = desc.op == "target_logp" ? Read::kTargets : desc.op == "log_softmax" ? Read::kAll : Read::kTopK;
  return std::unique_ptr<Kernel>(std::make_unique<OutputHead>(std::move(product), read, params.blank));
}

}  // namespace ting::cuda
