// src/kernels/cuda/subsample.cc
// SPDX-License-Identifier: Apache-2.0
//
// subsample_conv2d: the convolutions (conv_kernels.h), then one product. Rows between the stages have their own
// offsets, made on the device from the features'. Two ways: ConvPair for what WeNet's models have, on Hopper, or stage
// after stage.
#include "base/status_macros.h"
#include "kernels/cuda/conv_kernels.h"
#include "kernels/cuda/kernels.h"
#include "kernels/subsample_conv2d.h"

namespace ting::cuda {
namespace {

// What both ways have of a node.
struct SubsampleParts {
  CudaBackend* backend;
  SubsampleParams params;
  std::vector<DeviceMatrix> convs;
  RowProduct out;
  const float *mean = nullptr, *istd = nullptr;  // null without CMVN
};

class SubsampleStageByStage : public CudaKernel {
 public:
  explicit SubsampleStageByStage(SubsampleParts parts) : parts_(std::move(parts)) {}

 protected:
  Status Step(const KernelContext& context, Carver& carver) override {
    const DeviceRows& rows = context.device_rows.empty() ? no_rows_ : context.device_rows[0];
    const int64_t sequences = rows.max_sequences, T = context.outputs[0].rows();
    // A stage has no more rows than this: each later one divides by its stride, and rounding adds less than a row a
    // sequence and stage.
    int64_t bound = context.inputs[0].rows();
    ConvArguments conv;
    conv.storage = parts_.backend->storage();
    conv.F_in = context.inputs[0].shape[1], conv.B = sequences;
    conv.features = context.inputs[0].as<float>(), conv.mean = parts_.mean, conv.istd = parts_.istd;
    conv.in_offsets = rows.offsets;
    for (size_t i = 0; i < parts_.convs.size(); ++i) {
      const ConvStage& stage = parts_.params.stages[i];
      bound = i + 1 == parts_.convs.size() ? T : bound / stage.stride + sequences;
      conv.kernel = stage.kernel, conv.stride = stage.stride, conv.C_out = parts_.params.C;
      conv.weight = parts_.convs[i].data, conv.bias = parts_.convs[i].bias, conv.max_rows_out = bound;
      auto* offsets = carver.Take<int32_t>(sequences + 1);
      conv.out_offsets = offsets;
      conv.y =
          carver.Take(bound * conv.F_out() * parts_.params.C * static_cast<int64_t>(parts_.backend->element_bytes()));
      if (context.workspace != nullptr) TING_RETURN_IF_ERROR(RunStage(conv, offsets, StreamOf(context).handle()));
      conv.x = conv.y, conv.features = nullptr, conv.mean = conv.istd = nullptr;
      conv.F_in = conv.F_out(), conv.C_in = parts_.params.C, conv.in_offsets = offsets;
    }
    RowRange range{T, nullptr, 0};
    if (context.workspace != nullptr) range.count = conv.in_offsets + sequences;
    return parts_.out.Run(context, conv.x, nullptr, context.outputs[0].data, range, carver);
  }

 private:
  static Status RunStage(const ConvArguments& conv, int32_t* out_offsets, cudaStream_t stream) {
    TING_RETURN_IF_ERROR(
        StageOffsets(conv.in_offsets, static_cast<int>(conv.B), conv.kernel, conv.stride, out_offsets, stream));
    return ConvGeneric(conv, stream);
  }

  SubsampleParts parts_;
  DeviceRows no_rows_;
};

class SubsamplePair : public CudaKernel {
 public:
  explicit SubsamplePair(SubsampleParts parts) : parts_(std::move(parts)) {}

 protected:
  Status Step(const KernelContext& context, Carver& carver) override {
    const DeviceRows& rows = context.device_rows.empty() ? no_rows_ : context.device_rows[0];
    const int64_t T = context.outputs[0].rows();
    ConvPairArguments pair;
    pair.storage = parts_.backend->storage();
    pair.F_in = context.inputs[0].shape[1], pair.C = parts_.params.C;
    pair.features = context.inputs[0].as<float>(), pair.mean = parts_.mean, pair.istd = parts_.istd;
    pair.B = rows.max_sequences, pair.max_rows_out = T;
    for (int i = 0; i < 2; ++i) pair.weight[i] = parts_.convs[i].data, pair.bias[i] = parts_.convs[i].bias;
    auto* offsets = carver.Take<int32_t>(pair.B + 1);
    pair.in_offsets = rows.offsets, pair.out_offsets = offsets;
    pair.y = carver.Take(T * pair.F_out() * pair.C * static_cast<int64_t>(parts_.backend->element_bytes()));
    pair.dependent = true;
    RowRange range{T, nullptr, 0};
    if (context.workspace != nullptr) {
      // Two stages of kernel 3 and stride 2 leave as many rows as one of kernel 7 and stride 4.
      const cudaStream_t stream = StreamOf(context).handle();
      TING_RETURN_IF_ERROR(StageOffsets(pair.in_offsets, static_cast<int>(pair.B), 7, 4, offsets, stream));
      TING_RETURN_IF_ERROR(ConvPair(pair, stream));
      range.count = offsets + pair.B;
    }
    return parts_.out.Run(context, pair.y, nullptr, context.outputs[0].data, range, carver);
  }

 private:
  SubsampleParts parts_;
  DeviceRows no_rows_;
};

Result<SubsampleParts> MakeParts(const OpDesc& desc, Road road) {
  TING_ASSIGN_OR_RETURN(const SubsampleParams params, ParseSubsampleConv2d(desc));
  CudaBackend& backend = BackendOf(desc);
  // y = scale * (W x + b): the product's own scale.
  RowProductSpec spec;
  spec.linear = params.out, spec.x_stored = true, spec.scale = params.scale, spec.alone = true;
  TING_ASSIGN_OR_RETURN(RowProduct out, RowProduct::Create(backend, spec, road));
  SubsampleParts parts{&backend, params, {}, std::move(out)};
  for (const LinearParams& conv : params.convs) {
    TING_ASSIGN_OR_RETURN(DeviceMatrix matrix, backend.Matrix(conv));
    parts.convs.push_back(matrix);
  }
  if (params.mean.present()) {
    TING_ASSIGN_OR_RETURN(parts.mean, backend.Vector(params.mean));
    TING_ASSIGN_OR_RETURN(parts.istd, backend.Vector(params.istd));
  }
  return parts;
}

}  // namespace

std::optional<std::string> RefuseSubsamplePair(const OpDesc& desc) {
  const auto params = ParseSubsampleConv2d(desc);
  if (!params.ok()) return params.status().message();
  const std::vector<ConvStage>& stages = params->stages;
  if (stages.size() != 2 || stages[1].kernel != 3 || stages[1].stride != 2) return "a subsampling other than conv2d";
  // The most frequencies that leave as many as out.w has columns for.
  const int64_t F_in = params->num_mel > 0 ? params->num_mel : 4 * (params->out.K() / params->C) + 6;
  const Status status = SupportsConvPair(BackendOf(desc).storage(), params->C, F_in);
  if (status.ok()) return std::nullopt;
  return status.message();
}

Result<std::unique_ptr<Kernel>> CreateSubsampleConv2d(const OpDesc& desc, Road road) {
  TING_ASSIGN_OR_RETURN(SubsampleParts parts, MakeParts(desc, road));
  return std::unique_ptr<Kernel>(std::make_unique<SubsampleStageByStage>(std::move(parts)));
}

Result<std::unique_ptr<Kernel>> CreateSubsamplePair(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(SubsampleParts parts, MakeParts(desc, Road::kHopper));
  return std::unique_ptr<Kernel>(std::make_unique<SubsamplePair>(std::move(parts)));
}

}  // namespace ting::cuda
