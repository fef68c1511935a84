// src/kernels/cpu/rows_job.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/rows_job.h"

namespace ting::cpu {
namespace {

constexpr int64_t kTileRows = 56;  // four blocks of 14
// Where products are so fast that fetching the weights takes longer: seven blocks of 16. 128 and
// 192 rows were no faster.
constexpr int64_t kFastTileRows = 112;

GemmArgs StageProduct(const LinearStage& stage, const void* a, int64_t a_row_bytes, int64_t first, int64_t rows) {
  GemmArgs g = stage.matrix->Product(a, a_row_bytes, rows);
  g.epilogue = stage.epilogue;
  g.scale = stage.scale;
  if (stage.residual != nullptr) g.residual = stage.residual + first * stage.residual_stride;
  g.residual_stride = stage.residual_stride;
  if (stage.epilogue == Epilogue::kGlu) {
    g.glu_panels = stage.glu_panels;
    g.last_panel = stage.glu_panels;
    g.N = stage.glu_panels * kPanelWidth;
  }
  g.c = static_cast<std::byte*>(stage.c) + first * stage.c_row_bytes;
  g.c_mode = stage.c_mode;
  g.c_row_bytes = stage.c_row_bytes;
  return g;
}

}  // namespace

RowTiles SplitRows(int64_t rows, int threads, const IsaTable& isa, GemmMode mode) {
  if (rows <= 0) return {};
  const int64_t largest = UsesTiles(isa, mode) ? kFastTileRows : kTileRows / isa.max_rows * isa.max_rows;
  int64_t tiles = (rows + largest - 1) / largest;
  tiles = (tiles + threads - 1) / threads * threads;
  return {rows, std::min(tiles, rows)};
}

bool ListGroups(const RowSet& sequences, int threads, std::vector<RowGroup>& groups) {
  groups.clear();
  for (int b = 0; b < sequences.num_sequences(); ++b) {
    if (groups.empty() || groups.back().rows >= kTileRows) groups.push_back({b, b, sequences.begin(b), 0});
    groups.back().last_sequence = b + 1;
    groups.back().rows += sequences.length(b);
  }
  if (static_cast<int>(groups.size()) < 3 * threads) return false;
  std::sort(groups.begin(), groups.end(), [](const RowGroup& a, const RowGroup& b) {
    return a.rows != b.rows ? a.rows > b.rows : a.first_row < b.first_row;
  });
  return true;
}

ThreadPool& SerialPool() {
  static ThreadPool pool(1);
  return pool;
}

Epilogue EpilogueOf(Activation activation) {
  switch (activation) {
    case Activation::kNone:
      return Epilogue::kNone;
    case Activation::kRelu:
      return Epilogue::kRelu;
    case Activation::kSwish:
      return Epilogue::kSwish;
    case Activation::kGelu:
      return Epilogue::kGelu;
  }
  return Epilogue::kNone;
}

void PrepareRows(const IsaTable& isa, const float* x, int64_t x_stride, const Norm& norm, int64_t rows, int64_t D,
                 GemmMode mode, void* y, int64_t y_row_bytes) {
  NormArgs args;
  args.x = x, args.x_stride = x_stride, args.rows = rows, args.D = D;
  args.padded_D = PaddedK(mode, D);
  args.gamma = norm.gamma, args.beta = norm.beta, args.eps = norm.eps;
  args.y = y, args.y_mode = mode, args.y_row_bytes = y_row_bytes;
  isa.norm_rows(args);
}

void ParallelPanels(const IsaTable& isa, ThreadPool& pool, const GemmArgs& product) {
  const int64_t panels = product.last_panel - product.first_panel;
  const int64_t pairs = (panels + 1) / 2;
  const int64_t tasks = std::min<int64_t>(pairs, pool.num_threads());
  pool.ParallelFor(tasks, [&](int64_t task, int) {
    GemmArgs g = product;
    g.first_panel = product.first_panel + pairs * task / tasks * 2;
    g.last_panel = std::min(product.last_panel, product.first_panel + pairs * (task + 1) / tasks * 2);
    isa.gemm(g);
  });
}

void RunStage(const IsaTable& isa, ThreadPool& pool, LinearStage stage, int64_t rows, Carver& carver) {
  if (stage.ready_row_bytes != 0 && stage.matrix->ready_mode() != stage.matrix->mode()) {
    stage.x = static_cast<const float*>(stage.ready), stage.x_stride = stage.ready_row_bytes / 4;
    stage.ready = nullptr, stage.ready_row_bytes = 0;
  }
  const int threads = pool.num_threads();
  const PackedMatrix& w = *stage.matrix;
  const bool few = FewRows(rows, threads);
  const RowTiles tiles = SplitRows(rows, threads, isa, w.mode());
  const bool prepare = stage.ready == nullptr && stage.ready_row_bytes == 0;
  std::byte* scratch = nullptr;
  if (prepare) scratch = carver.Take((few ? rows : threads * tiles.largest()) * w.row_bytes());
  if (stage.c == nullptr) return;
  const auto prepare_rows = [&](int64_t first, int64_t count, void* out) {
    PrepareRows(isa, stage.x + first * stage.x_stride, stage.x_stride, stage.norm, count, w.K(), w.mode(), out,
                w.row_bytes());
  };
  if (few) {
    if (prepare) {
      const int64_t blocks = std::min<int64_t>(rows, threads);
      pool.ParallelFor(blocks, [&](int64_t block, int) {
        const int64_t first = rows * block / blocks;
        prepare_rows(first, rows * (block + 1) / blocks - first, scratch + first * w.row_bytes());
      });
    }
    ParallelPanels(isa, pool,
                   prepare ? StageProduct(stage, scratch, w.row_bytes(), 0, rows)
                           : StageProduct(stage, stage.ready, stage.ready_row_bytes, 0, rows));
    return;
  }
  pool.ParallelFor(tiles.tiles, [&](int64_t tile, int thread) {
    const int64_t first = tiles.begin(tile), count = tiles.size(tile);
    if (prepare) {
      std::byte* a = scratch + thread * tiles.largest() * w.row_bytes();
      prepare_rows(first, count, a);
      isa.gemm(StageProduct(stage, a, w.row_bytes(), first, count));
    } else {
      const auto* a = static_cast<const std::byte*>(stage.ready) + first * stage.ready_row_bytes;
      isa.gemm(StageProduct(stage, a, stage.ready_row_bytes, first, count));
    }
  });
}

}  // namespace ting::cpu
