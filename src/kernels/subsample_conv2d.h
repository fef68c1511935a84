// src/kernels/subsample_conv2d.h
// SPDX-License-Identifier: Apache-2.0
//
// subsample_conv2d: features to encoder rows: x' = (x - mean) * istd; two or three 2-D convolutions without padding,
// each with ReLU; a linear over (frequency, channel); times `scale`.
// Inputs     x f32 [F, num_mel] (row set: features)      Outputs  y f32 [T, D] (row set: derived, SubsampledFrames)
// Weights    mean, istd [num_mel] (optional: no CMVN); conv0.w [C, k·k], conv0.b [C]; conv1.w [C, k·k·C], conv1.b;
//            conv2.w, conv2.b (conv2d8 only); out.w [D, F'·C], out.b
//            Convolution weights are matrices [C_out, (time tap, frequency tap, C_in)], out.w's columns are
//            (frequency, channel): channels innermost, unlike PyTorch; the importer permutes.
// Attributes kind = conv2d (3×3 stride 2, 3×3 stride 2; rate 4) | conv2d2 (3×3 s 2, 3×3 s 1; rate 2) |
//            conv2d6 (3×3 s 2, 5×5 s 3; rate 6) | conv2d8 (three 3×3 s 2; rate 8); scale (1; sqrt(D) in WeNet)
// Refuses    a sequence with no output frame (the caller checks with SubsampledFrames)
// Numerics   as `linear`
// Reference  WeNet Conv2dSubsampling4/6/8
#pragma once

#include <vector>

#include "kernels/params.h"

namespace ting {

struct ConvStage {
  int kernel = 3, stride = 2;
};

struct SubsampleParams {
  int64_t num_mel = 0;  // 0 without CMVN: any width of features that fits out.w
  int64_t C = 0, D = 0;
  std::vector<ConvStage> stages;
  std::vector<LinearParams> convs;
  LinearParams out;
  WeightView mean, istd;
  float scale = 1;
};
Result<SubsampleParams> ParseSubsampleConv2d(const OpDesc& desc);

Result<std::vector<ConvStage>> SubsampleStages(const std::string& kind);
// Frames (or frequencies) left after the stages: each n -> (n - kernel) / stride + 1; 0 if none is left.
int64_t SubsampledFrames(const std::vector<ConvStage>& stages, int64_t frames);

}  // namespace ting
