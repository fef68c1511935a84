// src/kernels/subsample_conv2d.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/subsample_conv2d.h"

#include "base/status_macros.h"
#include "kernels/attribute_reader.h"

namespace ting {
namespace {

Status ParseConvs(const OpDesc& desc, SubsampleParams& params) {
  int64_t in_channels = 1;
  for (size_t i = 0; i < params.stages.size(); ++i) {
    const int64_t taps = int64_t{params.stages[i].kernel} * params.stages[i].kernel;
    const int64_t C = i == 0 ? -1 : params.C;
    TING_ASSIGN_OR_RETURN(LinearParams conv, GetLinear(desc, "conv" + std::to_string(i), C, taps * in_channels));
    in_channels = params.C = conv.N();
    params.convs.push_back(conv);
  }
  return Status();
}

// mean and istd come together or not at all.
Status ParseCmvn(const OpDesc& desc, SubsampleParams& params) {
  if (!desc.HasWeight("mean") && !desc.HasWeight("istd")) return Status();
  TING_ASSIGN_OR_RETURN(params.mean, GetVector(desc, "mean", -1));
  params.num_mel = params.mean.shape[0];
  TING_ASSIGN_OR_RETURN(params.istd, GetVector(desc, "istd", params.num_mel));
  return Status();
}

Status ParseOut(const OpDesc& desc, SubsampleParams& params) {
  TING_ASSIGN_OR_RETURN(params.out, GetLinear(desc, "out", -1, -1));
  params.D = params.out.N();
  if (params.num_mel > 0) {
    const int64_t width = SubsampledFrames(params.stages, params.num_mel) * params.C;
    TING_ASSIGN_OR_RETURN(params.out, GetLinear(desc, "out", -1, width));
  } else if (params.out.K() % params.C != 0) {
    return InvalidArgument("node {} ({}): weight out.w is {}, expected [*,F x {}]: conv channels are innermost",
                           desc.node, desc.op, params.out.weight.shape.ToString(), params.C);
  }
  return Status();
}

}  // namespace

Result<SubsampleParams> ParseSubsampleConv2d(const OpDesc& desc) {
  SubsampleParams params;
  TING_ASSIGN_OR_RETURN(const std::string kind, ReadWord(desc, "kind", ""));
  auto stages = SubsampleStages(kind);
  if (!stages.ok()) return stages.status().WithContext("node " + desc.node + " (" + desc.op + ")");
  params.stages = *stages;
  TING_RETURN_IF_ERROR(ParseConvs(desc, params));
  TING_RETURN_IF_ERROR(ParseCmvn(desc, params));
  TING_RETURN_IF_ERROR(ParseOut(desc, params));
  TING_ASSIGN_OR_RETURN(const double scale, ReadNumber(desc, "scale", 1));
  params.scale = static_cast<float>(scale);
  return params;
}

Result<std::vector<ConvStage>> SubsampleStages(const std::string& kind) {
  if (kind == "conv2d") return std::vector<ConvStage>{{3, 2}, {3, 2}};
  if (kind == "conv2d2") return std::vector<ConvStage>{{3, 2}, {3, 1}};
  if (kind == "conv2d6") return std::vector<ConvStage>{{3, 2}, {5, 3}};
  if (kind == "conv2d8") return std::vector<ConvStage>{{3, 2}, {3, 2}, {3, 2}};
  return Unimplemented("subsampling kind '{}' is unknown; conv2d, conv2d2, conv2d6 and conv2d8 are supported", kind);
}

int64_t SubsampledFrames(const std::vector<ConvStage>& stages, int64_t frames) {
  for (const ConvStage& stage : stages) {
    if (frames < stage.kernel) return 0;
    frames = (frames - stage.kernel) / stage.stride + 1;
  }
  return frames;
}

}  // namespace ting
