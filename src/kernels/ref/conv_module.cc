// src/kernels/ref/conv_module.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv_module.h"

#include <cmath>
#include <vector>

#include "kernels/ref/ref_call.h"
#include "kernels/ref/ref_math.h"
#include "kernels/ref/ref_ops.h"

namespace ting::ref {
namespace {

float Glu(float value, float gate) { return static_cast<float>(value * Sigmoid(gate)); }

class ConvModule : public RefKernel {
 public:
  ConvModule(const OpDesc& desc, const ConvModuleParams& params)
      : RefKernel(desc), params_(params), pw1_(params.pw1), pw2_(params.pw2), outside_(params.D, 0.0F) {
    if (!params.causal || !params.pw1.bias.present()) return;  // GLU(0) is 0
    const float* bias = params.pw1.bias.as<float>();
    for (int64_t d = 0; d < params.D; ++d) outside_[d] = Glu(bias[d], bias[params.D + d]);
  }

  size_t WorkspaceBytes(const KernelContext& context) const override {
    Workspace workspace(nullptr);
    Plan(RowsOf(context, 0), workspace);
    return workspace.bytes();
  }

  Status Run(const KernelContext& context) override {
    const int64_t D = params_.D;
    TING_RETURN_IF_ERROR(CheckRowsToRows(context, D, D));
    TING_ASSIGN_OR_RETURN(const RowSet* sequences, RequireRowSet(context, 0));
    const int64_t rows = context.inputs[0].rows();
    const float* x = context.inputs[0].as<float>();
    float* y = context.outputs[0].as<float>();
    Workspace workspace(context.workspace);
    const Buffers buffers = Plan(rows, workspace);
    const float* h = NormRows(params_.norm, x, rows, D, buffers.rows);
    pw1_.Apply(h, rows, buffers.doubled, buffers.scratch);
    GluRows(rows, buffers);
    for (int b = 0; b < sequences->num_sequences(); ++b) {
      for (int64_t t = 0; t < sequences->length(b); ++t) {
        const int64_t at = sequences->begin(b) * D;
        ConvolveRow(buffers.gated + at, t, sequences->length(b), buffers.rows + at + t * D);
      }
    }
    pw2_.Apply(buffers.rows, rows, y, buffers.scratch);
    if (params_.residual) {
      for (int64_t i = 0; i < rows * D; ++i) y[i] += x[i];
    }
    return Status();
  }

 private:
  struct Buffers {
    float *rows, *doubled, *gated;  // [rows, D] (normed, then convolved), [rows, 2D], [rows, D]
    double* scratch;
  };
  Buffers Plan(int64_t rows, Workspace& workspace) const {
    Buffers buffers;
    buffers.rows = workspace.Take<float>(rows * params_.D);
    buffers.doubled = workspace.Take<float>(rows * 2 * params_.D);
    buffers.gated = workspace.Take<float>(rows * params_.D);
    buffers.scratch = workspace.Take<double>(pw1_.ScratchSize());
    return buffers;
  }

  void GluRows(int64_t rows, const Buffers& buffers) const {
    const int64_t D = params_.D;
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = buffers.doubled + r * 2 * D;
      for (int64_t d = 0; d < D; ++d) buffers.gated[r * D + d] = Glu(row[d], row[D + d]);
    }
  }

  // Depthwise convolution, conv_norm and activation of row t of a sequence of T gated rows.
  void ConvolveRow(const float* gated, int64_t t, int64_t T, float* out) const {
    const int64_t D = params_.D;
    const float* taps = params_.dw.as<float>();
    for (int64_t d = 0; d < D; ++d) {
      double sum = params_.dw_bias.present() ? params_.dw_bias.as<float>()[d] : 0.0F;
      for (int k = 0; k < params_.taps; ++k) {
        const int64_t source = t + k - params_.left();
        const bool inside = source >= 0 && source < T;
        sum += static_cast<double>(taps[k * D + d]) * (inside ? gated[source * D + d] : outside_[d]);
      }
      out[d] = static_cast<float>(sum);
    }
    NormalizeRow(out);
    ActivateAll(params_.activation, out, D);
  }

  void NormalizeRow(float* row) const {
    if (params_.conv_norm == ConvNorm::kNone) return;
    const float* gamma = params_.gamma.as<float>();
    const float* beta = params_.beta.as<float>();
    if (params_.conv_norm == ConvNorm::kLayerNorm) return LayerNormRow(row, params_.D, gamma, beta, params_.eps, row);
    for (int64_t d = 0; d < params_.D; ++d) {
      const double variance = static_cast<double>(params_.var.as<float>()[d]) + params_.eps;
      const double centred = static_cast<double>(row[d]) - params_.mean.as<float>()[d];
      row[d] = static_cast<float>(centred / std::sqrt(variance) * gamma[d] + beta[d]);
    }
  }

  ConvModuleParams params_;
  Linear pw1_, pw2_;
  std::vector<float> outside_;  // [D] what a tap reads outside the sequence: GLU(b1) if causal, otherwise 0
};

}  // namespace

Result<std::unique_ptr<Kernel>> MakeConvModule(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const ConvModuleParams params, ParseConvModule(desc));
  return std::unique_ptr<Kernel>(new ConvModule(desc, params));
}

}  // namespace ting::ref
