// src/kernels/cpu/output_head.cc
// SPDX-License-Identifier: Apache-2.0
//
// The three vocabulary heads. A tile of rows meets the vocabulary 512 columns at a time; each block of logits is
// read once more, from the second-level cache, for the running maximum, the sum and the k best. Only log_softmax
// writes [R, V]. Blocks start at fixed columns, so a row's sum does not depend on the tiles or threads.
#include "kernels/output_head.h"

#include <cmath>
#include <limits>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rows_job.h"

namespace ting::cpu {
namespace {

enum class HeadKind { kFull, kTopK, kTarget };

constexpr int64_t kBlockPanels = 32, kBlockColumns = kBlockPanels * kPanelWidth;

struct RowState {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0;
  int64_t filled = 0;
  float log_sum() const { return static_cast<float>(double{max} + std::log(double{sum})); }
};

class OutputHead : public Kernel {
 public:
  OutputHead(const IsaTable& isa, const OutputHeadParams& params, PackedMatrix head, HeadKind kind)
      : isa_(isa), kind_(kind), norm_(Norm::From(params.norm)), head_(std::move(head)), blank_(params.blank) {}

  size_t WorkspaceBytes(const KernelContext& context) const override {
    Carver carver(nullptr);
    Carve(context, carver);
    return carver.used();
  }
  Status Run(const KernelContext& context) override {
    const int64_t R = context.inputs[0].rows();
    if (kind_ == HeadKind::kTarget) TING_RETURN_IF_ERROR(CheckTargets(context));
    if (kind_ == HeadKind::kTopK && context.outputs[0].shape[1] > head_.N()) {
      return InvalidArgument("log_softmax_topk: k = {} exceeds the {} outputs", context.outputs[0].shape[1], head_.N());
    }
    if (R == 0) return {};
    Carver carver(context.workspace);
    const Scratch scratch = Carve(context, carver);
    ThreadPool& pool = Pool(context);
    if (FewRows(R, pool.num_threads())) {
      RunFew(context, scratch, pool, R);
      return {};
    }
    const RowTiles tiles = SplitRows(R, pool.num_threads(), isa_, head_.mode());
    pool.ParallelFor(tiles.tiles, [&](int64_t tile, int thread) {
      const int64_t at = thread * tiles.largest();
      RunTile(context, tiles.begin(tile), tiles.size(tile), scratch.a + at * head_.row_bytes(),
              scratch.logits + at * kLogitStride, scratch.states + at);
    });
    return {};
  }

 private:
  static constexpr int64_t kLogitStride = kBlockColumns + kPanelWidth;
  struct Scratch {
    std::byte* a;
    float* logits;
    RowState* states;
  };

  Scratch Carve(const KernelContext& context, Carver& carver) const {
    const int64_t R = context.inputs[0].rows();
    const int threads = Pool(context).num_threads();
    const bool few = FewRows(R, threads);
    const int64_t rows = few ? R : threads * SplitRows(R, threads, isa_, head_.mode()).largest();
    const int64_t stride = !few ? kLogitStride : kind_ == HeadKind::kFull ? 0 : head_.N();
    return {carver.Take(rows * head_.row_bytes()), carver.Take<float>(rows * stride), carver.Take<RowState>(rows)};
  }

  Status CheckTargets(const KernelContext& context) const {
    const auto* rows = context.inputs[1].as<int32_t>();
    const auto* ids = context.inputs[2].as<int32_t>();
    for (int64_t g = 0; g < context.inputs[1].num_elements(); ++g) {
      if (rows[g] < 0 || rows[g] >= context.inputs[0].rows() || (g > 0 && rows[g] < rows[g - 1])) {
        return InvalidArgument("target_logp: target {} names row {} of {}; rows ascend", g, rows[g],
                               context.inputs[0].rows());
      }
      if (ids[g] < 0 || ids[g] >= head_.N()) {
        return InvalidArgument("target_logp: target {} is {}, outside the {} outputs", g, ids[g], head_.N());
      }
    }
    return {};
  }

  // A block of logits of rows [first, first + rows): those of columns from `column`.
  struct Block {
    float* logits;
    int64_t stride, column, columns;
  };

  void Penalise(const KernelContext& context, const Block& block, int64_t rows) const {
    const float penalty = context.options == nullptr ? 0.0F : context.options->blank_penalty;
    if (penalty == 0 || blank_ < block.column || blank_ >= block.column + block.columns) return;
    for (int64_t r = 0; r < rows; ++r) block.logits[r * block.stride + blank_ - block.column] -= penalty;
  }

  void ReduceBlock(const KernelContext& context, const Block& block, int64_t first, int64_t rows,
                   RowState* states) const {
    Penalise(context, block, rows);
    for (int64_t r = 0; r < rows; ++r) {
      ReduceArgs args;
      args.logits = block.logits + r * block.stride;
      args.columns = block.columns, args.first_column = block.column;
      args.max = &states[r].max, args.sum = &states[r].sum, args.filled = &states[r].filled;
      if (kind_ == HeadKind::kTopK) {
        args.k = context.outputs[0].shape[1];
        args.values = context.outputs[0].as<float>() + (first + r) * args.k;
        args.ids = context.outputs[1].as<int32_t>() + (first + r) * args.k;
      }
      isa_.reduce(args);
    }
    if (kind_ == HeadKind::kTarget) {
      ForTargets(context, first, rows, [&](int64_t g, int64_t r, int64_t id) {
        if (id < block.column || id >= block.column + block.columns) return;
        context.outputs[0].as<float>()[g] = block.logits[r * block.stride + id - block.column];
      });
    }
  }

  template <typename Body>
  void ForTargets(const KernelContext& context, int64_t first, int64_t rows, Body body) const {
    const auto* row = context.inputs[1].as<int32_t>();
    const int64_t count = context.inputs[1].num_elements();
    for (int64_t g = std::lower_bound(row, row + count, first) - row; g < count && row[g] < first + rows; ++g) {
      body(g, row[g] - first, context.inputs[2].as<int32_t>()[g]);
    }
  }

  void FinishRows(const KernelContext& context, int64_t first, int64_t rows, const RowState* states) const {
    auto* out = context.outputs[0].as<float>();
    if (kind_ == HeadKind::kTarget) {
      ForTargets(context, first, rows, [&](int64_t g, int64_t r, int64_t) { out[g] -= states[r].log_sum(); });
      return;
    }
    const int64_t width = context.outputs[0].shape[1];
    for (int64_t r = 0; r < rows; ++r) isa_.add_constant(-states[r].log_sum(), width, out + (first + r) * width);
  }

  void RunTile(const KernelContext& context, int64_t first, int64_t rows, std::byte* a, float* logits,
               RowState* states) const {
    PrepareRows(isa_, context.inputs[0].as<float>() + first * head_.K(), head_.K(), norm_, rows, head_.K(),
                head_.mode(), a, head_.row_bytes());
    std::fill_n(states, rows, RowState{});
    for (int64_t panel = 0; panel < head_.num_panels(); panel += kBlockPanels) {
      Block block{logits, kLogitStride, panel * kPanelWidth, 0};
      if (kind_ == HeadKind::kFull) {
        block.stride = head_.N();
        block.logits = context.outputs[0].as<float>() + first * head_.N() + block.column;
      }
      GemmArgs g = head_.Product(a, head_.row_bytes(), rows);
      SkipPanels(g, panel);
      g.N = block.columns = std::min(kBlockColumns, head_.N() - block.column);
      g.last_panel = std::min(kBlockPanels, head_.num_panels() - panel);
      g.c = block.logits, g.c_row_bytes = block.stride * 4;
      isa_.gemm(g);
      ReduceBlock(context, block, first, rows, states);
    }
    FinishRows(context, first, rows, states);
  }

  // Few rows: all logits first, the panels shared out, then the rows.
  void RunFew(const KernelContext& context, const Scratch& scratch, ThreadPool& pool, int64_t R) const {
    PrepareRows(isa_, context.inputs[0].as<float>(), head_.K(), norm_, R, head_.K(), head_.mode(), scratch.a,
                head_.row_bytes());
    float* logits = kind_ == HeadKind::kFull ? context.outputs[0].as<float>() : scratch.logits;
    GemmArgs g = head_.Product(scratch.a, head_.row_bytes(), R);
    g.c = logits, g.c_row_bytes = head_.N() * 4;
    ParallelPanels(isa_, pool, g);
    pool.ParallelFor(R, [&](int64_t r, int) {
      RowState state;
      for (int64_t column = 0; column < head_.N(); column += kBlockColumns) {
        const Block block{logits + r * head_.N() + column, head_.N(), column,
                          std::min(kBlockColumns, head_.N() - column)};
        ReduceBlock(context, block, r, 1, &state);
      }
      FinishRows(context, r, 1, &state);
    });
  }

  const IsaTable& isa_;
  HeadKind kind_;
  Norm norm_;
  PackedMatrix head_;
  int64_t blank_;
};

Result<std::unique_ptr<Kernel>> CreateHead(const OpDesc& desc, const IsaTable& isa, HeadKind kind) {
  TING_ASSIGN_OR_RETURN(const OutputHeadParams params, ParseOutputHead(desc));
  TING_ASSIGN_OR_RETURN(PackedMatrix head, PackedMatrix::Create(params.head, isa));
  return std::unique_ptr<Kernel>(std::make_unique<OutputHead>(isa, params, std::move(head), kind));
}

}  // namespace

Result<std::unique_ptr<Kernel>> CreateLogSoftmax(const OpDesc& desc, const IsaTable& isa) {
  return CreateHead(desc, isa, HeadKind::kFull);
}
Result<std::unique_ptr<Kernel>> CreateLogSoftmaxTopK(const OpDesc& desc, const IsaTable& isa) {
  return CreateHead(desc, isa, HeadKind::kTopK);
}
Result<std::unique_ptr<Kernel>> CreateTargetLogp(const OpDesc& desc, const IsaTable& isa) {
  return CreateHead(desc, isa, HeadKind::kTarget);
}

}  // namespace ting::cpu
