// src/kernels/ref/subsample_conv2d.cc
// SPDX-License-Identifier: Apache-2.0
//
// Convolutions as matrix products over gathered patches, one output frame at a time. Activations of a stage are
// [frame, frequency, channel], so that out.w's columns meet them as they lie.
#include "kernels/subsample_conv2d.h"

#include <algorithm>
#include <vector>

#include "kernels/ref/ref_call.h"
#include "kernels/ref/ref_math.h"
#include "kernels/ref/ref_ops.h"

namespace ting::ref {
namespace {

int64_t Left(const ConvStage& stage, int64_t n) { return n < stage.kernel ? 0 : (n - stage.kernel) / stage.stride + 1; }

// [frames, width, channels]
struct Plane {
  int64_t frames = 0, width = 0, channels = 1;
  int64_t size() const { return frames * width * channels; }
};

Plane After(const ConvStage& stage, int64_t channels, const Plane& in) {
  return {Left(stage, in.frames), Left(stage, in.width), channels};
}

class SubsampleConv2d : public RefKernel {
 public:
  SubsampleConv2d(const OpDesc& desc, const SubsampleParams& params)
      : RefKernel(desc), params_(params), out_(params.out) {
    for (const LinearParams& conv : params.convs) convs_.emplace_back(conv);
  }

  size_t WorkspaceBytes(const KernelContext& context) const override {
    Workspace workspace(nullptr);
    const int64_t num_mel = context.inputs.empty() ? 0 : context.inputs[0].shape[1];
    Plan(LongestSequence(RowSetOrNull(context, 0)), num_mel, workspace);
    return workspace.bytes();
  }

  Status Run(const KernelContext& context) override {
    TING_RETURN_IF_ERROR(CheckCounts(context, 1, 1));
    TING_RETURN_IF_ERROR(CheckInput(context, 0, DType::kF32, {-1, params_.num_mel > 0 ? params_.num_mel : -1}));
    TING_ASSIGN_OR_RETURN(const RowSet* sequences, RequireRowSet(context, 0));
    const int64_t num_mel = context.inputs[0].shape[1];
    TING_ASSIGN_OR_RETURN(const int64_t frames, OutputFrames(*sequences, num_mel));
    TING_RETURN_IF_ERROR(CheckOutput(context, 0, DType::kF32, {frames, params_.D}));
    Workspace workspace(context.workspace);
    const Buffers buffers = Plan(LongestSequence(sequences), num_mel, workspace);
    float* y = context.outputs[0].as<float>();
    for (int b = 0; b < sequences->num_sequences(); ++b) {
      const Plane features{sequences->length(b), num_mel};
      y += RunSequence(context.inputs[0].as<float>() + sequences->begin(b) * num_mel, features, buffers, y);
    }
    return Status();
  }

 private:
  struct Buffers {
    float* stage[2];  // the planes of the stages take turns
    float* patches;   // of one output frame
    double* scratch;
  };
  Buffers Plan(int64_t frames, int64_t num_mel, Workspace& workspace) const {
    int64_t sizes[2] = {frames * num_mel, 0}, patches = 0, scratch = out_.ScratchSize();
    Plane plane{frames, num_mel};
    for (size_t i = 0; i < convs_.size(); ++i) {
      plane = After(params_.stages[i], params_.C, plane);
      sizes[(i + 1) % 2] = std::max(sizes[(i + 1) % 2], plane.size());
      patches = std::max(patches, plane.width * convs_[i].K());
      scratch = std::max(scratch, convs_[i].ScratchSize());
    }
    Buffers buffers;
    for (int i = 0; i < 2; ++i) buffers.stage[i] = workspace.Take<float>(sizes[i]);
    buffers.patches = workspace.Take<float>(patches);
    buffers.scratch = workspace.Take<double>(scratch);
    return buffers;
  }

  Result<int64_t> OutputFrames(const RowSet& sequences, int64_t num_mel) const {
    const int64_t width = SubsampledFrames(params_.stages, num_mel);
    if (width * params_.C != out_.K()) {
      return InvalidArgument("{}: input 0 has {} features, which leave {} x {} values, but out.w is {}", where(),
                             num_mel, width, params_.C, params_.out.weight.shape.ToString());
    }
    int64_t total = 0;
    for (int b = 0; b < sequences.num_sequences(); ++b) {
      const int64_t frames = SubsampledFrames(params_.stages, sequences.length(b));
      if (frames == 0) {
        return InvalidArgument("{}: sequence {} has {} frames, too few for one output frame", where(), b,
                               sequences.length(b));
      }
      total += frames;
    }
    return total;
  }

  // Returns how many floats it wrote to y.
  int64_t RunSequence(const float* features, const Plane& in, const Buffers& buffers, float* y) const {
    Normalize(features, in, buffers.stage[0]);
    Plane plane = in;
    for (size_t i = 0; i < convs_.size(); ++i) {
      const Plane next = After(params_.stages[i], params_.C, plane);
      for (int64_t t = 0; t < next.frames; ++t) {
        float* frame = buffers.stage[(i + 1) % 2] + t * next.width * next.channels;
        GatherPatches(params_.stages[i], buffers.stage[i % 2], plane, t, next.width, buffers.patches);
        convs_[i].Apply(buffers.patches, next.width, frame, buffers.scratch);
        ActivateAll(Activation::kRelu, frame, next.width * next.channels);
      }
      plane = next;
    }
    out_.Apply(buffers.stage[convs_.size() % 2], plane.frames, y, buffers.scratch);
    for (int64_t i = 0; i < plane.frames * params_.D; ++i) y[i] *= params_.scale;
    return plane.frames * params_.D;
  }

  void Normalize(const float* features, const Plane& in, float* out) const {
    std::copy_n(features, in.size(), out);
    if (!params_.mean.present()) return;
    const float* mean = params_.mean.as<float>();
    const float* istd = params_.istd.as<float>();
    for (int64_t i = 0; i < in.size(); ++i) {
      const int64_t f = i % in.width;
      out[i] = static_cast<float>((static_cast<double>(features[i]) - mean[f]) * istd[f]);
    }
  }

  // Rows of (time tap, frequency tap, channel) for each frequency of output frame t.
  static void GatherPatches(const ConvStage& stage, const float* in, const Plane& plane, int64_t t, int64_t width,
                            float* patches) {
    const int64_t run = stage.kernel * plane.channels;  // neighbours in frequency lie together
    for (int64_t f = 0; f < width; ++f) {
      for (int tap = 0; tap < stage.kernel; ++tap) {
        const int64_t source = (t * stage.stride + tap) * plane.width + f * stage.stride;
        patches = std::copy_n(in + source * plane.channels, run, patches);
      }
    }
  }

  SubsampleParams params_;
  std::vector<Linear> convs_;
  Linear out_;
};

}  // namespace

Result<std::unique_ptr<Kernel>> MakeSubsampleConv2d(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const SubsampleParams params, ParseSubsampleConv2d(desc));
  return std::unique_ptr<Kernel>(new SubsampleConv2d(desc, params));
}

}  // namespace ting::ref
