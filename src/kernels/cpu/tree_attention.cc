// src/kernels/cpu/tree_attention.cc
// SPDX-License-Identifier: Apache-2.0
//
// tree_attention: a stage for q, k and v, the keys and values into the pool, then each row against its ancestors.
// Rows have about fifteen of them, each row others, so there is nothing to pack.
#include <cmath>
#include <cstring>

#include "kernels/attention.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/qkv.h"
#include "kernels/cpu/rows_job.h"

namespace ting::cpu {
namespace {

class TreeAttention : public Kernel {
 public:
  TreeAttention(const IsaTable& isa, const AttentionParams& params, PackedMatrix qkv, PackedMatrix o)
      : isa_(isa),
        D_(params.D),
        heads_(params.heads),
        residual_(params.residual),
        norm_(Norm::From(params.norm)),
        qkv_(std::move(qkv)),
        o_(std::move(o)) {
    if (!params.folded) scale_ = 1.0F / std::sqrt(static_cast<float>(params.head_width()));
  }

  size_t WorkspaceBytes(const KernelContext& context) const override {
    Carver carver(nullptr);
    return Compute(context, false, carver), carver.used();
  }
  Status Run(const KernelContext& context) override {
    if (context.inputs[0].rows() == 0) return {};
    TING_RETURN_IF_ERROR(Check(context));
    Carver carver(context.workspace);
    Compute(context, true, carver);
    return {};
  }

 private:
  Status Check(const KernelContext& context) const {
    const int64_t U = context.inputs[0].rows(), P = context.inputs[4].rows();
    const int64_t A = context.inputs[3].num_elements();
    const auto* slots = context.inputs[1].as<int32_t>();
    const auto* offsets = context.inputs[2].as<int32_t>();
    const auto* ancestors = context.inputs[3].as<int32_t>();
    if (offsets[0] < 0 || offsets[U] > A) return InvalidArgument("tree_attention: ancestor offsets leave the list");
    for (int64_t r = 0; r < U; ++r) {
      if (slots[r] < 0 || slots[r] >= P) {
        return InvalidArgument("tree_attention: row {} has slot {}, but the pool has {} rows", r, slots[r], P);
      }
      if (offsets[r] > offsets[r + 1]) return InvalidArgument("tree_attention: ancestor offsets of row {} fall", r);
    }
    for (int64_t i = offsets[0]; i < offsets[U]; ++i) {
      if (ancestors[i] < 0 || ancestors[i] >= P) {
        return InvalidArgument("tree_attention: ancestor {} is {}, but the pool has {} rows", i, ancestors[i], P);
      }
    }
    return {};
  }

  void Compute(const KernelContext& context, bool run, Carver& carver) const {
    const int64_t U = context.inputs[0].rows(), A = context.inputs[3].num_elements();
    ThreadPool& pool = Pool(context);
    const int threads = pool.num_threads();
    const int64_t stride = 3 * D_ + kPanelWidth;
    auto* qkv = carver.Take<float>(U * stride);
    std::byte* heads = carver.Take(U * o_.ready_row_bytes());
    const int64_t scores_each = A + kPanelWidth;
    auto* scores = carver.Take<float>(threads * scores_each);

    LinearStage in;
    in.matrix = &qkv_, in.norm = norm_;
    in.x = context.inputs[0].as<float>(), in.x_stride = D_;
    in.c = qkv, in.c_row_bytes = stride * 4;
    RunStage(isa_, pool, in, U, carver);

    if (run) {
      Store(context, qkv, stride);
      RunRows(context, qkv, stride, heads, scores, scores_each);
      o_.ZeroTails(heads, U);
    }
    LinearStage out;
    out.matrix = &o_;
    out.ready = heads, out.ready_row_bytes = o_.ready_row_bytes();
    if (residual_) out.residual = context.inputs[0].as<float>(), out.residual_stride = D_;
    out.c = run ? context.outputs[0].data : nullptr, out.c_row_bytes = D_ * 4;
    RunStage(isa_, pool, out, U, carver);
  }

  void Store(const KernelContext& context, const float* qkv, int64_t stride) const {
    auto* kv = context.inputs[4].as<float>();
    const auto* slots = context.inputs[1].as<int32_t>();
    for (int64_t r = 0; r < context.inputs[0].rows(); ++r) {
      std::memcpy(kv + slots[r] * 2 * D_, qkv + r * stride + D_, static_cast<size_t>(2 * D_) * sizeof(float));
    }
  }
  void RunRows(const KernelContext& context, const float* qkv, int64_t stride, std::byte* heads, float* scores,
               int64_t scores_each) const {
    const int64_t U = context.inputs[0].rows();
    const auto* offsets = context.inputs[2].as<int32_t>();
    constexpr int64_t kRows = 8;  // a row takes about a microsecond: too little for a task
    Pool(context).ParallelFor((U + kRows - 1) / kRows, [&](int64_t task, int thread) {
      for (int64_t r = task * kRows; r < std::min(U, (task + 1) * kRows); ++r) {
        TreeArgs args;
        args.q = qkv + r * stride, args.scale = scale_;
        args.pool = context.inputs[4].as<float>();
        args.ancestors = context.inputs[3].as<int32_t>() + offsets[r];
        args.num_ancestors = offsets[r + 1] - offsets[r];
        args.D = D_, args.heads = heads_;
        args.scores = scores + thread * scores_each;
        args.out = heads + r * o_.ready_row_bytes(), args.out_mode = o_.ready_mode();
        isa_.tree_row(args);
      }
    });
  }

  const IsaTable& isa_;
  int64_t D_;
  int heads_;
  bool residual_;
  Norm norm_;
  PackedMatrix qkv_, o_;
  float scale_ = 1;
};

}  // namespace

Result<std::unique_ptr<Kernel>> CreateTreeAttention(const OpDesc& desc, const IsaTable& isa) {
  TING_ASSIGN_OR_RETURN(const AttentionParams params, ParseTreeAttention(desc));
  TING_ASSIGN_OR_RETURN(PackedMatrix qkv, PackQkv(params, isa));
  TING_ASSIGN_OR_RETURN(PackedMatrix o, PackedMatrix::Create(params.o, isa));
  return std::unique_ptr<Kernel>(std::make_unique<TreeAttention>(isa, params, std::move(qkv), std::move(o)));
}

}  // namespace ting::cpu
