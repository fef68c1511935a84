// src/kernels/cpu/linear.cc
// SPDX-License-Identifier: Apache-2.0
//
// linear: one stage.
#include "kernels/linear.h"

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rows_job.h"

namespace ting::cpu {
namespace {

class Linear : public Kernel {
 public:
  Linear(const IsaTable& isa, PackedMatrix matrix, Activation activation)
      : isa_(isa), matrix_(std::move(matrix)), activation_(activation) {}

  size_t WorkspaceBytes(const KernelContext& context) const override {
    Carver carver(nullptr);
    Stage(context, false, carver);
    return carver.used();
  }
  Status Run(const KernelContext& context) override {
    Carver carver(context.workspace);
    Stage(context, true, carver);
    return {};
  }

 private:
  void Stage(const KernelContext& context, bool run, Carver& carver) const {
    LinearStage stage;
    stage.matrix = &matrix_;
    stage.x = context.inputs[0].as<float>(), stage.x_stride = matrix_.K();
    stage.epilogue = EpilogueOf(activation_);
    stage.c = run ? context.outputs[0].data : nullptr;
    stage.c_row_bytes = matrix_.N() * 4;
    RunStage(isa_, Pool(context), stage, context.inputs[0].rows(), carver);
  }

  const IsaTable& isa_;
  PackedMatrix matrix_;
  Activation activation_;
};

}  // namespace

Result<std::unique_ptr<Kernel>> CreateLinear(const OpDesc& desc, const IsaTable& isa) {
  TING_ASSIGN_OR_RETURN(const LinearOpParams params, ParseLinear(desc));
  TING_ASSIGN_OR_RETURN(PackedMatrix matrix, PackedMatrix::Create(params.linear, isa));
  return std::unique_ptr<Kernel>(std::make_unique<Linear>(isa, std::move(matrix), params.activation));
}

}  // namespace ting::cpu
