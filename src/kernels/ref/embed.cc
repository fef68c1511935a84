// src/kernels/ref/embed.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/embed.h"

#include <vector>

#include "kernels/ref/ref_call.h"
#include "kernels/ref/ref_ops.h"

namespace ting::ref {
namespace {

class Embed : public RefKernel {
 public:
  Embed(const OpDesc& desc, const EmbedParams& params)
      : RefKernel(desc),
        V_(params.table.shape[0]),
        D_(params.table.shape[1]),
        scale_(params.scale),
        table_(UnpackMatrix(params.table)) {}

  Status Run(const KernelContext& context) override {
    TING_RETURN_IF_ERROR(CheckCounts(context, 2, 1));
    TING_RETURN_IF_ERROR(CheckInput(context, 0, DType::kS32, {-1}));
    const int64_t U = context.inputs[0].rows();
    TING_RETURN_IF_ERROR(CheckInput(context, 1, DType::kS32, {U}));
    TING_RETURN_IF_ERROR(CheckOutput(context, 0, DType::kF32, {U, D_}));
    const auto* tokens = context.inputs[0].as<int32_t>();
    const auto* positions = context.inputs[1].as<int32_t>();
    TING_RETURN_IF_ERROR(CheckValues(tokens, positions, U));
    for (int64_t r = 0; r < U; ++r) {
      float* y = context.outputs[0].as<float>() + r * D_;
      const float* row = table_.data() + tokens[r] * D_;
      PositionRow(positions[r], D_, y);
      for (int64_t d = 0; d < D_; ++d) y[d] = static_cast<float>(static_cast<double>(row[d]) * scale_ + y[d]);
    }
    return Status();
  }

 private:
  Status CheckValues(const int32_t* tokens, const int32_t* positions, int64_t U) const {
    for (int64_t r = 0; r < U; ++r) {
      if (tokens[r] < 0 || tokens[r] >= V_) {
        return InvalidArgument("{}: token {} of row {} is outside [0, {})", where(), tokens[r], r, V_);
      }
      if (positions[r] < 0) return InvalidArgument("{}: position {} of row {} is negative", where(), positions[r], r);
    }
    return Status();
  }

  int64_t V_, D_;
  double scale_;
  std::vector<float> table_;
};

}  // namespace

Result<std::unique_ptr<Kernel>> MakeEmbed(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const EmbedParams params, ParseEmbed(desc));
  return std::unique_ptr<Kernel>(new Embed(desc, params));
}

}  // namespace ting::ref
