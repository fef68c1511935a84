// src/kernels/cuda/subsample.cc
// SPDX-License-Identifier: Apache-2.0
//
// subsample_conv2d: the convolutions (conv_kernels.h), then one product. Rows between the stages have their own offsets,
// made on the device from the features'.
#include "kernels/subsample_conv2d.h"

#include "base/status_macros.h"
#include "kernels/cuda/conv_kernels.h"
#include "kernels/cuda/kernels.h"

namespace ting::cuda {
namespace {

class SubsampleConv2d : public CudaKernel {
 public:
  SubsampleConv2d(CudaBackend& backend, const SubsampleParams& params, std::vector<DeviceMatrix> convs, RowProduct out)
      : backend_(backend), params_(params), convs_(std::move(convs)), out_(std::move(out)) {}
  Status SetCmvn() {
    if (!params_.mean.present()) return Status();
    TING_ASSIGN_OR_RETURN(mean_, backend_.Vector(params_.mean));
    TING_ASSIGN_OR_RETURN(istd_, backend_.Vector(params_.istd));
    return Status();
  }

 protected:
  Status Step(const KernelContext& context, Carver& carver) override {
    const DeviceRows& rows = context.device_rows.empty() ? no_rows_ : context.device_rows[0];
    const int64_t sequences = rows.max_sequences, T = context.outputs[0].rows();
    // A stage has no more rows than this: each later one divides by its stride, and rounding adds less than a row a
    // sequence and stage.
    int64_t bound = context.inputs[0].rows();
    ConvArguments conv;
    conv.storage = StorageType();
    conv.F_in = context.inputs[0].shape[1], conv.B = sequences;
    conv.features = context.inputs[0].as<float>(), conv.mean = mean_, conv.istd = istd_;
    conv.in_offsets = rows.offsets;
    for (size_t i = 0; i < convs_.size(); ++i) {
      const ConvStage& stage = params_.stages[i];
      bound = i + 1 == convs_.size() ? T : bound / stage.stride + sequences;
      conv.kernel = stage.kernel, conv.stride = stage.stride, conv.C_out = params_.C;
      conv.weight = convs_[i].data, conv.bias = convs_[i].bias, conv.max_rows_out = bound;
      auto* offsets = carver.Take<int32_t>(sequences + 1);
      conv.out_offsets = offsets;
      conv.y = carver.Take(bound * conv.F_out() * params_.C * static_cast<int64_t>(backend_.element_bytes()));
      if (context.workspace != nullptr) TING_RETURN_IF_ERROR(RunStage(conv, offsets, StreamOf(context).handle()));
      conv.x = conv.y, conv.features = nullptr, conv.mean = conv.istd = nullptr;
      conv.F_in = conv.F_out(), conv.C_in = params_.C, conv.in_offsets = offsets;
    }
    RowRange range{T, nullptr, 0};
    if (context.workspace != nullptr) range.count = conv.in_offsets + sequences;
    return out_.Run(context, conv.x, nullptr, context.outputs[0].data, range, carver);
  }

 private:
  ConvStorage StorageType() const {
    const DType dtype = backend_.storage();
    return dtype == DType::kF16 ? ConvStorage::kF16 : dtype == DType::kBF16 ? ConvStorage::kBF16 : ConvStorage::kF32;
  }
  static Status RunStage(const ConvArguments& conv, int32_t* out_offsets, cudaStream_t stream) {
    TING_RETURN_IF_ERROR(
        StageOffsets(conv.in_offsets, static_cast<int>(conv.B), conv.kernel, conv.stride, out_offsets, stream));
    return ConvGeneric(conv, stream);
  }

  CudaBackend& backend_;
  SubsampleParams params_;
  std::vector<DeviceMatrix> convs_;
  RowProduct out_;
  const float *mean_ = nullptr, *istd_ = nullptr;
  DeviceRows no_rows_;
};

}  // namespace

Result<std::unique_ptr<Kernel>> CreateSubsampleConv2d(const OpDesc& desc, Road road) {
  TING_ASSIGN_OR_RETURN(const SubsampleParams params, ParseSubsampleConv2d(desc));
  CudaBackend& backend = BackendOf(desc);
  std::vector<DeviceMatrix> convs;
  for (const LinearParams& conv : params.convs) {
    TING_ASSIGN_OR_RETURN(DeviceMatrix matrix, backend.Matrix(conv));
    convs.push_back(matrix);
  }
  // y = scale * (W x + b): the product's own scale.
  RowProductSpec spec;
  spec.linear = params.out, spec.x_stored = true, spec.scale = params.scale;
  TING_ASSIGN_OR_RETURN(RowProduct out, RowProduct::Create(backend, spec, road));
  auto kernel = std::make_unique<SubsampleConv2d>(backend, params, std::move(convs), std::move(out));
  TING_RETURN_IF_ERROR(kernel->SetCmvn());
  return std::unique_ptr<Kernel>(std::move(kernel));
}

}  // namespace ting::cuda
