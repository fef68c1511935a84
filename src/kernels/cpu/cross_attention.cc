// src/kernels/cpu/cross_attention.cc
// SPDX-License-Identifier: Apache-2.0
//
// cross_attention: the memory's keys and values come ready; rows of one sequence share one packing of them.
#include <cmath>

#include "kernels/attention.h"
#include "kernels/cpu/head_attention.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/qkv.h"

namespace ting::cpu {
namespace {

class CrossAttention : public Kernel {
 public:
  CrossAttention(const IsaTable& isa, const AttentionParams& params, PackedMatrix q, PackedMatrix o)
      : isa_(isa),
        D_(params.D),
        heads_(params.heads),
        residual_(params.residual),
        key_column_(params.key_column),
        norm_(Norm::From(params.norm)),
        q_(std::move(q)),
        o_(std::move(o)),
        zeros_(isa, nullptr, {}, params.heads) {
    if (!params.folded) scale_ = 1.0F / std::sqrt(static_cast<float>(params.head_width()));
  }

  size_t WorkspaceBytes(const KernelContext& context) const override {
    if (!HasSequences(context, 1)) return 0;  // Run says so
    Carver carver(nullptr);
    // Which rows look where is data, which is not known yet: the longest sequence decides.
    spans_.assign(1, {0, context.inputs[0].rows(), 0, Longest(*context.input_rows[1])});
    return Compute(context, nullptr, carver), carver.used();
  }
  Status Run(const KernelContext& context) override {
    if (!HasSequences(context, 1)) return NoSequences("cross_attention", 1);
    if (context.inputs[0].rows() == 0) return {};
    if (key_column_ + 2 * D_ > context.inputs[1].shape[1]) {
      return InvalidArgument("cross_attention: key_column {} and width {} do not fit a memory of {} columns",
                             key_column_, D_, context.inputs[1].shape[1]);
    }
    TING_RETURN_IF_ERROR(ListSpans(context));
    TING_ASSIGN_OR_RETURN(const std::shared_ptr<const PositionRows> zeros, zeros_.Get(Longest(*context.input_rows[1])));
    Carver carver(context.workspace);
    Compute(context, zeros.get(), carver);
    return {};
  }

 private:
  static int64_t Longest(const RowSet& sequences) {
    int64_t longest = 0;
    for (int b = 0; b < sequences.num_sequences(); ++b) longest = std::max<int64_t>(longest, sequences.length(b));
    return longest;
  }
  // Runs of rows that look at the same sequence.
  Status ListSpans(const KernelContext& context) {
    const RowSet& memory = *context.input_rows[1];
    const auto* sequence = context.inputs[2].as<int32_t>();
    spans_.clear();
    for (int64_t r = 0; r < context.inputs[0].rows(); ++r) {
      if (sequence[r] < 0 || sequence[r] >= memory.num_sequences()) {
        return InvalidArgument("cross_attention: row {} looks at sequence {}, but there are {}", r, sequence[r],
                               memory.num_sequences());
      }
      if (r > 0 && sequence[r] == sequence[r - 1]) {
        ++spans_.back().rows;
      } else {
        spans_.push_back({r, 1, memory.begin(sequence[r]), memory.length(sequence[r])});
      }
    }
    return {};
  }
  void Compute(const KernelContext& context, const PositionRows* zeros, Carver& carver) const {
    const bool run = zeros != nullptr;
    const int64_t R = context.inputs[0].rows();
    ThreadPool& pool = Pool(context);
    const int64_t stride = D_ + kPanelWidth;
    auto* q = carver.Take<float>(R * stride);
    std::byte* heads = carver.Take(R * o_.ready_row_bytes());

    LinearStage in;
    in.matrix = &q_, in.norm = norm_;
    in.x = context.inputs[0].as<float>(), in.x_stride = D_;
    in.c = q, in.c_row_bytes = stride * 4;
    RunStage(isa_, pool, in, R, carver);

    HeadAttention h;
    h.D = D_, h.heads = heads_;
    h.q = q, h.q_stride = stride;
    h.k = Offset(context.inputs[1].as<float>(), key_column_), h.v = Offset(h.k, D_),
    h.key_stride = context.inputs[1].shape[1];
    h.scale = scale_, h.positions = zeros;
    h.out = heads, h.out_mode = o_.ready_mode(), h.out_row_bytes = o_.ready_row_bytes();
    RunHeads(isa_, pool, h, spans_, tasks_, carver, run);
    if (run) o_.ZeroTails(heads, R);

    LinearStage out;
    out.matrix = &o_;
    out.ready = heads, out.ready_row_bytes = o_.ready_row_bytes();
    if (residual_) out.residual = context.inputs[0].as<float>(), out.residual_stride = D_;
    out.c = run ? context.outputs[0].data : nullptr, out.c_row_bytes = D_ * 4;
    RunStage(isa_, pool, out, R, carver);
  }

  const IsaTable& isa_;
  int64_t D_;
  int heads_;
  bool residual_;
  int64_t key_column_;
  Norm norm_;
  PackedMatrix q_, o_;
  PositionTable zeros_;
  float scale_ = 1;
  mutable std::vector<AttentionSpan> spans_;
  mutable std::vector<AttentionTask> tasks_;
};

}  // namespace

Result<std::unique_ptr<Kernel>> CreateCrossAttention(const OpDesc& desc, const IsaTable& isa) {
  TING_ASSIGN_OR_RETURN(const AttentionParams params, ParseCrossAttention(desc));
  TING_RETURN_IF_ERROR(CheckHeadWidth(desc, params));
  TING_ASSIGN_OR_RETURN(PackedMatrix q, PackedMatrix::Create(params.q, isa));
  TING_ASSIGN_OR_RETURN(PackedMatrix o, PackedMatrix::Create(params.o, isa));
  return std::unique_ptr<Kernel>(std::make_unique<CrossAttention>(isa, params, std::move(q), std::move(o)));
}

}  // namespace ting::cpu
