// src/kernels/cpu/attention.cc
// SPDX-License-Identifier: Apache-2.0
//
// self_attention and rel_attention: a stage for q, k and v, the heads, a stage for the output and the residual.
#include "kernels/attention.h"

#include <cmath>

#include "kernels/cpu/head_attention.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/qkv.h"

namespace ting::cpu {

Result<PackedMatrix> PackQkv(const AttentionParams& params, const IsaTable& isa) {
  if (params.packed) return PackedMatrix::Create(params.qkv, isa);
  const LinearParams parts[] = {params.q, params.k, params.v};
  return PackedMatrix::CreateStacked(parts, isa);
}

Status CheckHeadWidth(const OpDesc& desc, const AttentionParams& params) {
  if (params.head_width() <= 1024) return {};
  return Unimplemented("node {} ({}): heads are {} wide; this backend takes at most 1024", desc.node, desc.op,
                       params.head_width());
}

namespace {

class SelfAttention : public Kernel {
 public:
  SelfAttention(const IsaTable& isa, const AttentionParams& params, PackedMatrix qkv, PackedMatrix o,
                std::unique_ptr<PackedMatrix> position_matrix, std::vector<float> key_bias)
      : isa_(isa),
        D_(params.D),
        heads_(params.heads),
        residual_(params.residual),
        norm_(Norm::From(params.norm)),
        qkv_(std::move(qkv)),
        o_(std::move(o)),
        positions_(isa, std::move(position_matrix), std::move(key_bias), params.heads) {
    if (!params.folded) scale_ = 1.0F / std::sqrt(static_cast<float>(params.head_width()));
    if (!params.folded && params.relative) u_ = params.pos_u.as<float>();
  }

  // Makes the first table at load time.
  Status Warm() { return positions_.Get(1).status(); }

  size_t WorkspaceBytes(const KernelContext& context) const override {
    if (!HasSequences(context, 0)) return 0;  // Run says so
    const RowSet& sequences = *context.input_rows[0];
    const int threads = Pool(context).num_threads();
    const AttentionSpan longest{0, 0, 0, Longest(sequences)};  // sizes depend on rows and on the longest span
    if (ListGroups(sequences, threads, groups_)) {
      return threads * GroupBytes(longest);
    }
    return Bytes({nullptr, nullptr, context.inputs[0].rows(), {&longest, 1}}, Pool(context));
  }
  Status Run(const KernelContext& context) override {
    if (!HasSequences(context, 0)) return NoSequences("attention", 0);
    const int64_t R = context.inputs[0].rows();
    if (R == 0) return {};
    const RowSet& sequences = *context.input_rows[0];
    const AttentionSpan longest{0, 0, 0, Longest(sequences)};
    TING_ASSIGN_OR_RETURN(const std::shared_ptr<const PositionRows> positions, positions_.Get(longest.keys));
    ThreadPool& pool = Pool(context);
    tasks_.resize(pool.num_threads());
    const auto* x = context.inputs[0].as<float>();
    auto* y = context.outputs[0].as<float>();
    if (!ListGroups(sequences, pool.num_threads(), groups_)) {
      ListSpans(sequences, {0, sequences.num_sequences(), 0, R}, spans_);
      Carver carver(context.workspace);
      Compute({x, y, R, spans_}, context.options, pool, positions.get(), tasks_[0], carver);
      return {};
    }
    const size_t each = GroupBytes(longest);
    group_spans_.resize(pool.num_threads());
    pool.ParallelFor(static_cast<int64_t>(groups_.size()), [&](int64_t i, int thread) {
      const RowGroup& group = groups_[i];
      if (group.rows == 0) return;
      ListSpans(sequences, group, group_spans_[thread]);
      Carver carver(context.workspace + thread * each);
      const Part part{x + group.first_row * D_, y + group.first_row * D_, group.rows, group_spans_[thread]};
      Compute(part, context.options, SerialPool(), positions.get(), tasks_[thread], carver);
    });
    return {};
  }

 private:
  // Rows of whole sequences; spans count from the first of them.
  struct Part {
    const float* x;
    float* y;
    int64_t rows;
    std::span<const AttentionSpan> spans;
  };

  static int64_t Longest(const RowSet& sequences) {
    int64_t longest = 0;
    for (int b = 0; b < sequences.num_sequences(); ++b) longest = std::max<int64_t>(longest, sequences.length(b));
    return longest;
  }
  static void ListSpans(const RowSet& sequences, const RowGroup& group, std::vector<AttentionSpan>& spans) {
    spans.clear();
    for (int b = group.first_sequence; b < group.last_sequence; ++b) {
      const int64_t first = sequences.begin(b) - group.first_row, rows = sequences.length(b);
      if (rows > 0) spans.push_back({first, rows, first, rows});
    }
  }
  size_t Bytes(const Part& part, ThreadPool& pool) const {
    Carver carver(nullptr);
    std::vector<AttentionTask> unused;
    Compute(part, nullptr, pool, nullptr, unused, carver);
    return carver.used();
  }

  // What any of the groups needs: the largest does not always need most, for its tiles may be smaller.
  size_t GroupBytes(const AttentionSpan& longest) const {
    size_t bytes = 0;
    for (const RowGroup& group : groups_) {
      bytes = std::max(bytes, Bytes({nullptr, nullptr, group.rows, {&longest, 1}}, SerialPool()));
    }
    return bytes;
  }

  // With no positions: counts the workspace.
  void Compute(const Part& part, const StepOptions* options, ThreadPool& pool, const PositionRows* positions,
               std::vector<AttentionTask>& tasks, Carver& carver) const {
    const bool run = positions != nullptr;
    const int64_t stride = 3 * D_ + kPanelWidth;
    auto* qkv = carver.Take<float>(part.rows * stride);
    std::byte* heads = carver.Take(part.rows * o_.ready_row_bytes());

    LinearStage in;
    in.matrix = &qkv_, in.norm = norm_;
    in.x = part.x, in.x_stride = D_;
    in.c = qkv, in.c_row_bytes = stride * 4;
    RunStage(isa_, pool, in, part.rows, carver);

    HeadAttention h;
    h.D = D_, h.heads = heads_;
    h.q = qkv, h.k = Offset(qkv, D_), h.v = Offset(qkv, 2 * D_), h.q_stride = h.key_stride = stride;
    h.u = u_, h.scale = scale_, h.positions = positions, h.options = options;
    h.out = heads, h.out_mode = o_.ready_mode(), h.out_row_bytes = o_.ready_row_bytes();
    RunHeads(isa_, pool, h, part.spans, tasks, carver, run);
    if (run) o_.ZeroTails(heads, part.rows);

    LinearStage out;
    out.matrix = &o_;
    out.ready = heads, out.ready_row_bytes = o_.ready_row_bytes();
    if (residual_) out.residual = part.x, out.residual_stride = D_;
    out.c = part.y, out.c_row_bytes = D_ * 4;
    RunStage(isa_, pool, out, part.rows, carver);
  }

  const IsaTable& isa_;
  int64_t D_;
  int heads_;
  bool residual_;
  Norm norm_;
  PackedMatrix qkv_, o_;
  PositionTable positions_;
  const float* u_ = nullptr;
  float scale_ = 1;
  // Kept for their memory:
  mutable std::vector<RowGroup> groups_;
  std::vector<AttentionSpan> spans_;
  std::vector<std::vector<AttentionSpan>> group_spans_;  // of each thread
  std::vector<std::vector<AttentionTask>> tasks_;        // of each thread
};

std::vector<float> KeyBias(const AttentionParams& params) {
  std::vector<float> bias(params.D);
  const float scale = 1.0F / std::sqrt(static_cast<float>(params.head_width()));
  for (int64_t d = 0; d < params.D; ++d) {
    bias[d] = params.folded ? params.key_bias.as<float>()[d]
                            : (params.pos_v.as<float>()[d] - params.pos_u.as<float>()[d]) * scale;
  }
  return bias;
}

}  // namespace

Result<std::unique_ptr<Kernel>> CreateSelfAttention(const OpDesc& desc, const IsaTable& isa) {
  TING_ASSIGN_OR_RETURN(const AttentionParams params, ParseSelfAttention(desc));
  TING_RETURN_IF_ERROR(CheckHeadWidth(desc, params));
  TING_ASSIGN_OR_RETURN(PackedMatrix qkv, PackQkv(params, isa));
  TING_ASSIGN_OR_RETURN(PackedMatrix o, PackedMatrix::Create(params.o, isa));
  std::unique_ptr<PackedMatrix> positions;
  std::vector<float> key_bias;
  if (params.relative) {
    TING_ASSIGN_OR_RETURN(PackedMatrix pos, PackedMatrix::Create(params.pos, isa));
    positions = std::make_unique<PackedMatrix>(std::move(pos));
    key_bias = KeyBias(params);
  }
  auto kernel = std::make_unique<SelfAttention>(isa, params, std::move(qkv), std::move(o), std::move(positions),
                                                std::move(key_bias));
  TING_RETURN_IF_ERROR(kernel->Warm());
  return std::unique_ptr<Kernel>(std::move(kernel));
}

}  // namespace ting::cpu
