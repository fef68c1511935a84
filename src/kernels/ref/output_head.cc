// src/kernels/ref/output_head.cc
// SPDX-License-Identifier: Apache-2.0
//
// The three readings of a vocabulary layer share OutputHead: it makes the logits of a few rows at a time, so that top-k
// and target_logp never hold the [R, V] matrix.
#include "kernels/output_head.h"

#include <algorithm>

#include "kernels/ref/ref_call.h"
#include "kernels/ref/ref_math.h"
#include "kernels/ref/ref_ops.h"

namespace ting::ref {
namespace {

constexpr int64_t kBlockRows = 4;  // as many as share a pass over the weights (Linear)

class OutputHead : public RefKernel {
 public:
  OutputHead(const OpDesc& desc, const OutputHeadParams& params)
      : RefKernel(desc), params_(params), head_(params.head) {}

  size_t WorkspaceBytes(const KernelContext&) const override {
    Workspace workspace(nullptr);
    Plan(workspace);
    return workspace.bytes();
  }

 protected:
  struct Buffers {
    float* normed;  // [kBlockRows, D]
    float* logits;  // [kBlockRows, V]
    double* scratch;
  };
  Buffers Plan(Workspace& workspace) const {
    Buffers buffers;
    buffers.normed = workspace.Take<float>(kBlockRows * head_.K());
    buffers.logits = workspace.Take<float>(kBlockRows * head_.N());
    buffers.scratch = workspace.Take<double>(head_.ScratchSize());
    return buffers;
  }

  // Log-softmax of at most kBlockRows rows of x, left in buffers.logits.
  void LogProbs(const float* x, int64_t rows, float blank_penalty, const Buffers& buffers) const {
    const int64_t V = head_.N();
    const float* h = NormRows(params_.norm, x, rows, head_.K(), buffers.normed);
    head_.Apply(h, rows, buffers.logits, buffers.scratch);
    for (int64_t r = 0; r < rows; ++r) {
      float* row = buffers.logits + r * V;
      if (params_.blank >= 0) row[params_.blank] -= blank_penalty;
      const double total = LogSumExp(row, V);
      for (int64_t v = 0; v < V; ++v) row[v] = static_cast<float>(row[v] - total);
    }
  }

  int64_t D() const { return head_.K(); }
  int64_t V() const { return head_.N(); }

 private:
  OutputHeadParams params_;
  Linear head_;
};

class LogSoftmax : public OutputHead {
 public:
  using OutputHead::OutputHead;

  Status Run(const KernelContext& context) override {
    TING_RETURN_IF_ERROR(CheckRowsToRows(context, D(), V()));
    const int64_t rows = context.inputs[0].rows();
    Workspace workspace(context.workspace);
    const Buffers buffers = Plan(workspace);
    for (int64_t row = 0; row < rows; row += kBlockRows) {
      const int64_t count = std::min(kBlockRows, rows - row);
      LogProbs(context.inputs[0].as<float>() + row * D(), count, OptionsOf(context).blank_penalty, buffers);
      std::copy_n(buffers.logits, count * V(), context.outputs[0].as<float>() + row * V());
    }
    return Status();
  }
};

// The k largest of `logp`, descending, equal values by lower id. Ranked by the rounded log-probability, not by the
// logit, so that what the caller sees as equal is ordered as promised. Insertion: k is about 10.
void TopK(const float* logp, int64_t V, int64_t k, float* best, int32_t* ids) {
  int64_t found = 0;
  for (int64_t v = 0; v < V; ++v) {
    if (found == k && !(logp[v] > best[k - 1])) continue;
    int64_t at = found < k ? found++ : k - 1;
    for (; at > 0 && logp[v] > best[at - 1]; --at) {
      best[at] = best[at - 1];
      ids[at] = ids[at - 1];
    }
    best[at] = logp[v];
    ids[at] = static_cast<int32_t>(v);
  }
}

class LogSoftmaxTopk : public OutputHead {
 public:
  using OutputHead::OutputHead;

  Status Run(const KernelContext& context) override {
    TING_RETURN_IF_ERROR(CheckCounts(context, 1, 2));
    TING_RETURN_IF_ERROR(CheckInput(context, 0, DType::kF32, {-1, D()}));
    const int64_t rows = context.inputs[0].rows();
    const int64_t k = context.outputs[0].shape[1];
    TING_RETURN_IF_ERROR(CheckOutput(context, 0, DType::kF32, {rows, -1}));
    TING_RETURN_IF_ERROR(CheckOutput(context, 1, DType::kS32, {rows, k}));
    if (k < 1 || k > V()) {
      return InvalidArgument("{}: output 0 asks for the best {} of {} classes", where(), k, V());
    }
    Workspace workspace(context.workspace);
    const Buffers buffers = Plan(workspace);
    for (int64_t row = 0; row < rows; row += kBlockRows) {
      const int64_t count = std::min(kBlockRows, rows - row);
      LogProbs(context.inputs[0].as<float>() + row * D(), count, OptionsOf(context).blank_penalty, buffers);
      for (int64_t r = 0; r < count; ++r) {
        TopK(buffers.logits + r * V(), V(), k, context.outputs[0].as<float>() + (row + r) * k,
             context.outputs[1].as<int32_t>() + (row + r) * k);
      }
    }
    return Status();
  }
};

class TargetLogp : public OutputHead {
 public:
  using OutputHead::OutputHead;

  Status Run(const KernelContext& context) override {
    TING_RETURN_IF_ERROR(CheckCounts(context, 3, 1));
    TING_RETURN_IF_ERROR(CheckInput(context, 0, DType::kF32, {-1, D()}));
    TING_RETURN_IF_ERROR(CheckInput(context, 1, DType::kS32, {-1}));
    const int64_t U = context.inputs[0].rows(), G = context.inputs[1].rows();
    TING_RETURN_IF_ERROR(CheckInput(context, 2, DType::kS32, {G}));
    TING_RETURN_IF_ERROR(CheckOutput(context, 0, DType::kF32, {G}));
    const auto* rows = context.inputs[1].as<int32_t>();
    const auto* ids = context.inputs[2].as<int32_t>();
    TING_RETURN_IF_ERROR(CheckTargets(rows, ids, G, U));
    Workspace workspace(context.workspace);
    const Buffers buffers = Plan(workspace);
    for (int64_t g = 0; g < G;) {  // from the block of rows that holds rows[g] to the first target past it
      const int64_t first = rows[g] / kBlockRows * kBlockRows;
      const int64_t count = std::min(kBlockRows, U - first);
      LogProbs(context.inputs[0].as<float>() + first * D(), count, OptionsOf(context).blank_penalty, buffers);
      for (; g < G && rows[g] < first + count; ++g) {
        context.outputs[0].as<float>()[g] = buffers.logits[(rows[g] - first) * V() + ids[g]];
      }
    }
    return Status();
  }

 private:
  Status CheckTargets(const int32_t* rows, const int32_t* ids, int64_t G, int64_t U) const {
    for (int64_t g = 0; g < G; ++g) {
      if (rows[g] < 0 || rows[g] >= U) {
        return InvalidArgument("{}: row {} of target {} is outside [0, {})", where(), rows[g], g, U);
      }
      if (ids[g] < 0 || ids[g] >= V()) {
        return InvalidArgument("{}: id {} of target {} is outside [0, {})", where(), ids[g], g, V());
      }
      if (g > 0 && rows[g] < rows[g - 1]) {
        return InvalidArgument("{}: rows of targets must ascend, but {} follows {}", where(), rows[g], rows[g - 1]);
      }
    }
    return Status();
  }
};

template <typename Op>
Result<std::unique_ptr<Kernel>> Make(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const OutputHeadParams params, ParseOutputHead(desc));
  return std::unique_ptr<Kernel>(new Op(desc, params));
}

}  // namespace

Result<std::unique_ptr<Kernel>> MakeLogSoftmax(const OpDesc& desc) { return Make<LogSoftmax>(desc); }
Result<std::unique_ptr<Kernel>> MakeLogSoftmaxTopk(const OpDesc& desc) { return Make<LogSoftmaxTopk>(desc); }
Result<std::unique_ptr<Kernel>> MakeTargetLogp(const OpDesc& desc) { return Make<TargetLogp>(desc); }

}  // namespace ting::ref
