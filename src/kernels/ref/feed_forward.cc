// src/kernels/ref/feed_forward.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/feed_forward.h"

#include <algorithm>

#include "kernels/ref/ref_call.h"
#include "kernels/ref/ref_math.h"
#include "kernels/ref/ref_ops.h"

namespace ting::ref {
namespace {

class FeedForward : public RefKernel {
 public:
  FeedForward(const OpDesc& desc, const FeedForwardParams& params)
      : RefKernel(desc), params_(params), w1_(params.w1), w2_(params.w2) {}

  size_t WorkspaceBytes(const KernelContext& context) const override {
    Workspace workspace(nullptr);
    Plan(RowsOf(context, 0), workspace);
    return workspace.bytes();
  }

  Status Run(const KernelContext& context) override {
    const int64_t D = params_.D;
    TING_RETURN_IF_ERROR(CheckRowsToRows(context, D, D));
    const int64_t rows = context.inputs[0].rows();
    const float* x = context.inputs[0].as<float>();
    float* y = context.outputs[0].as<float>();
    Workspace workspace(context.workspace);
    const Buffers buffers = Plan(rows, workspace);
    const float* h = NormRows(params_.norm, x, rows, D, buffers.normed);
    w1_.Apply(h, rows, buffers.hidden, buffers.scratch);
    ActivateAll(params_.activation, buffers.hidden, rows * params_.F);
    w2_.Apply(buffers.hidden, rows, y, buffers.scratch);
    if (params_.residual != 0) {
      for (int64_t i = 0; i < rows * D; ++i) {
        y[i] = static_cast<float>(x[i] + static_cast<double>(params_.residual) * y[i]);
      }
    }
    NormRows(params_.post, y, rows, D, y);
    return Status();
  }

 private:
  struct Buffers {
    float* normed;  // [rows, D]
    float* hidden;  // [rows, F]
    double* scratch;
  };
  Buffers Plan(int64_t rows, Workspace& workspace) const {
    Buffers buffers;
    buffers.normed = workspace.Take<float>(rows * params_.D);
    buffers.hidden = workspace.Take<float>(rows * params_.F);
    buffers.scratch = workspace.Take<double>(std::max(w1_.ScratchSize(), w2_.ScratchSize()));
    return buffers;
  }

  FeedForwardParams params_;
  Linear w1_, w2_;
};

}  // namespace

Result<std::unique_ptr<Kernel>> MakeFeedForward(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const FeedForwardParams params, ParseFeedForward(desc));
  return std::unique_ptr<Kernel>(new FeedForward(desc, params));
}

}  // namespace ting::ref
