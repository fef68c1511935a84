// src/kernels/cpu/feed_forward.cc
// SPDX-License-Identifier: Apache-2.0
//
// feed_forward: norm, two products and the residual as one chain a tile of rows; the hidden rows never leave the
// thread's second-level cache. Few rows: each product's panels are shared out instead.
#include "kernels/feed_forward.h"

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rows_job.h"

namespace ting::cpu {
namespace {

class FeedForward : public Kernel {
 public:
  FeedForward(const IsaTable& isa, const FeedForwardParams& params, PackedMatrix w1, PackedMatrix w2)
      : isa_(isa),
        norm_(Norm::From(params.norm)),
        post_(Norm::From(params.post)),
        w1_(std::move(w1)),
        w2_(std::move(w2)),
        activation_(EpilogueOf(params.activation)),
        residual_(params.residual) {}

  size_t WorkspaceBytes(const KernelContext& context) const override {
    Carver carver(nullptr);
    Carve(context, carver);
    return carver.used();
  }
  Status Run(const KernelContext& context) override {
    const int64_t R = context.inputs[0].rows();
    if (R == 0) return {};
    Carver carver(context.workspace);
    const Scratch scratch = Carve(context, carver);
    ThreadPool& pool = Pool(context);
    if (FewRows(R, pool.num_threads())) {
      const Rows rows = At(context, scratch, 0, 0, R);
      Prepare(rows);
      ParallelPanels(isa_, pool, First(rows, 0, w1_.num_panels()));
      if (staged()) ConvertStage(rows, 0, w1_.N());
      ParallelPanels(isa_, pool, Second(rows));
      Post(rows);
      return {};
    }
    const RowTiles tiles = SplitRows(R, pool.num_threads(), isa_, w1_.mode());
    pool.ParallelFor(tiles.tiles, [&](int64_t tile, int thread) {
      const Rows rows = At(context, scratch, thread * tiles.largest(), tiles.begin(tile), tiles.size(tile));
      Prepare(rows);
      FirstOfTile(rows);
      isa_.gemm(Second(rows));
      Post(rows);
    });
    return {};
  }

 private:
  struct Scratch {
    std::byte *a, *hidden, *stage;
  };
  struct Rows {
    const float* x;
    float* y;
    std::byte *a, *hidden;
    float* stage;
    int64_t count;
  };
  Scratch Carve(const KernelContext& context, Carver& carver) const {
    const int64_t R = context.inputs[0].rows();
    const int threads = Pool(context).num_threads();
    const int64_t rows = FewRows(R, threads) ? R : threads * SplitRows(R, threads, isa_, w1_.mode()).largest();
    const int64_t stage_rows = staged() ? rows : 0;
    return {carver.Take(rows * w1_.row_bytes()), carver.Take(rows * w2_.row_bytes()),
            carver.Take(stage_rows * StageColumns(FewRows(R, threads)) * 4)};
  }
  // Products write no blocks of s8x2: hidden values pass through a stage in f32, a block's columns at a time or, where
  // panels are shared out, all.
  bool staged() const { return w2_.mode() == GemmMode::kS8x2; }
  int64_t StageColumns(bool few) const { return few ? w1_.N() : std::min(w1_.N(), kBlockValuesS8x2); }
  Rows At(const KernelContext& context, const Scratch& scratch, int64_t scratch_row, int64_t first,
          int64_t count) const {
    const int64_t D = w1_.K();
    return {context.inputs[0].as<float>() + first * D,
            context.outputs[0].as<float>() + first * D,
            scratch.a + scratch_row * w1_.row_bytes(),
            scratch.hidden + scratch_row * w2_.row_bytes(),
            reinterpret_cast<float*>(scratch.stage) + scratch_row * StageColumns(false),
            count};
  }
  void Prepare(const Rows& rows) const {
    PrepareRows(isa_, rows.x, w1_.K(), norm_, rows.count, w1_.K(), w1_.mode(), rows.a, w1_.row_bytes());
    w2_.ZeroTails(rows.hidden, rows.count);
  }
  // Hidden columns from `panel` on, `panels` panels of them.
  GemmArgs First(const Rows& rows, int64_t panel, int64_t panels) const {
    GemmArgs g = w1_.Product(rows.a, w1_.row_bytes(), rows.count);
    g.epilogue = activation_;
    if (staged()) {
      SkipPanels(g, panel);
      g.last_panel = panels, g.N = std::min(panels * kPanelWidth, w1_.N() - panel * kPanelWidth);
      g.c = rows.stage, g.c_row_bytes = g.N * 4;
      return g;
    }
    g.c = rows.hidden, g.c_mode = w2_.mode(), g.c_row_bytes = w2_.row_bytes();
    g.c_factors_bytes = w2_.padded_K() * 2;
    return g;
  }
  // The stage, hidden columns [first, first + count), to blocks.
  void ConvertStage(const Rows& rows, int64_t first, int64_t count) const {
    std::byte* const blocks = rows.hidden + first / kBlockValuesS8x2 * kBlockBytesS8x2;
    PrepareRows(isa_, rows.stage, count, Norm{}, rows.count, count, w2_.mode(), blocks, w2_.row_bytes());
  }
  void FirstOfTile(const Rows& rows) const {
    if (!staged()) return isa_.gemm(First(rows, 0, w1_.num_panels()));
    constexpr int64_t kBlockPanels = kBlockValuesS8x2 / kPanelWidth;
    for (int64_t panel = 0; panel < w1_.num_panels(); panel += kBlockPanels) {
      const GemmArgs g = First(rows, panel, std::min(kBlockPanels, w1_.num_panels() - panel));
      isa_.gemm(g);
      ConvertStage(rows, panel * kPanelWidth, g.N);
    }
  }
  GemmArgs Second(const Rows& rows) const {
    GemmArgs g = w2_.Product(rows.hidden, w2_.row_bytes(), rows.count);
    if (residual_ != 0) g.scale = residual_, g.residual = rows.x, g.residual_stride = w2_.N();
    g.c = rows.y, g.c_row_bytes = w2_.N() * 4;
    return g;
  }
  void Post(const Rows& rows) const {
    if (post_.gamma == nullptr) return;
    PrepareRows(isa_, rows.y, w2_.N(), post_, rows.count, w2_.N(), GemmMode::kF32, rows.y, w2_.N() * 4);
  }

  const IsaTable& isa_;
  Norm norm_, post_;
  PackedMatrix w1_, w2_;
  Epilogue activation_;
  float residual_;
};

}  // namespace

Result<std::unique_ptr<Kernel>> CreateFeedForward(const OpDesc& desc, const IsaTable& isa) {
  TING_ASSIGN_OR_RETURN(const FeedForwardParams params, ParseFeedForward(desc));
  TING_ASSIGN_OR_RETURN(PackedMatrix w1, PackedMatrix::Create(params.w1, isa));
  TING_ASSIGN_OR_RETURN(PackedMatrix w2, PackedMatrix::Create(params.w2, isa));
  return std::unique_ptr<Kernel>(std::make_unique<FeedForward>(isa, params, std::move(w1), std::move(w2)));
}

}  // namespace ting::cpu
