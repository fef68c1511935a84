// src/kernels/cuda/row_gemm_choice.cc
// SPDX-License-Identifier: Apache-2.0
//
// How row_gemm cuts a product.
#include "kernels/cuda/row_gemm_choice.h"

#include <algorithm>
#include <optional>

#include "kernels/cuda/row_gemm_kernel.h"

namespace ting::cuda {

bool ByFours(const RowGemmArguments& a) {
  const bool y = AlignedTo16(a.y) && a.y_stride % 4 == 0 && a.N % 4 == 0;
  return y && (a.residual == nullptr || (AlignedTo16(a.residual) && a.residual_stride % 4 == 0));
}

bool SupportsStationary(const RowGemmArguments& a, const RowGemmConfig& config) {
  const bool cut_fits = config.tile_n == stationary::kGroupN && config.tiles_per_block == stationary::kGroups &&
                        config.split == 1 && config.share == 1 && config.rows >= 1 && config.rows <= kMaxRows;
  const bool is_float = a.output == RowGemmOutput::kFloat, f32_rows = a.x_f32 != nullptr;
  const bool tiles_fit = config.rows % stationary::kWarpRows == 0 && config.rows <= stationary::kHalfTileRows;
  const bool output_fits =
      is_float ? !f32_rows && ByFours(a) : f32_rows && tiles_fit && a.activation == Activation::kNone;
  return cut_fits && output_fits && a.K == stationary::kK && a.N % stationary::kBlockN == 0;
}

int RowGemmSegments(int64_t K) {
  if (K <= kRowGemmResidentK) return 1;
  return K <= 3072 ? 4 : 8;
}

namespace {

// Rows of a tile of f32 rows: few, if half of the blocks that the device holds at once are enough for them (every block
// fetches its columns of W); otherwise as many tiles a block as there must be, all alike.
int64_t StationaryTileRows(const RowGemmArguments& a, int64_t row_blocks) {
  for (const int64_t rows : {16, 32}) {
    if (2 * CeilDiv(a.M, rows) <= row_blocks) return rows;
  }
  const int64_t tiles = CeilDiv(a.M, row_blocks * stationary::kHalfTileRows);
  if (tiles <= 1) return stationary::kHalfTileRows;
  return CeilDiv(a.M, row_blocks * tiles * stationary::kWarpRows) * stationary::kWarpRows;
}

}  // namespace

RowGemmConfig StationaryConfig(const RowGemmArguments& arguments, int multiprocessors) {
  const int64_t column_blocks = CeilDiv(arguments.N, stationary::kBlockN);
  const int64_t row_blocks = std::max<int64_t>(multiprocessors / column_blocks, 1);
  const int64_t rows = arguments.output == RowGemmOutput::kFloat
                           ? std::max<int64_t>(CeilDiv(arguments.M, row_blocks), 1)
                           : StationaryTileRows(arguments, row_blocks);
  return {stationary::kGroups, stationary::kGroupN, stationary::kGroups, 1, 1, static_cast<int>(rows)};
}

namespace {

// K in a ring: one tile a block. Few rows leave most of the device idle unless K is split over clusters as well; a
// cluster of 8 blocks pays as long as all of them run at once. Then as many blocks as the device takes at once.
RowGemmConfig ChooseForLongK(int64_t row_blocks, int64_t K) {
  if (K <= 3072) {
    constexpr int64_t kFewRows = 8, kManyRows = 62;  // blocks of 64 rows
    if (row_blocks <= kFewRows) return {1, 32, 1, RowGemmSegments(K), 1};
    return row_blocks < kManyRows ? RowGemmConfig{1, 64, 1, 1, 1} : RowGemmConfig{2, 128, 1, 1, 1};
  }
  constexpr int64_t kSmallTiles = 2, kMediumTiles = 4, kSplit = 12, kOneTile = 31, kWideTile = 66;
  if (row_blocks <= kSmallTiles) return {1, 64, 1, RowGemmSegments(K), 1};
  if (row_blocks <= kMediumTiles) return {1, 128, 1, RowGemmSegments(K), 1};
  if (row_blocks <= kSplit) return {2, 128, 1, RowGemmSegments(K), 1};
  if (row_blocks <= kOneTile) return {1, 64, 1, 1, 1};
  return row_blocks <= kWideTile ? RowGemmConfig{1, 128, 1, 1, 1} : RowGemmConfig{2, 128, 1, 1, 1};
}

// Tiles for a block that owns `columns` columns. Two warpgroups pay where a block has several tiles and its rows must
// be normalised first; otherwise a second block on the multiprocessor overlaps as well.
RowGemmConfig ChooseTiles(int64_t columns, int least_tile, bool turns) {
  if (columns <= 32 && least_tile <= 32) return {1, 32, 1, 1, 1};
  if (columns <= 64) return {1, 64, 1, 1, 1};
  if (turns && columns <= 128) return {2, 64, 2, 1, 1};
  const int tiles = static_cast<int>(std::min<int64_t>(CeilDiv(columns, 128), kMaxColumnsPerBlock / 128));
  if (turns) return {2, 128, std::max(tiles, 2), 1, 1};
  return {1, 128, tiles, 1, 1};
}

// Rows to be normalised, if they do not fill the device: the smallest blocks of which it takes all at once with room to
// spare, because the time until a block's rows are there is what counts.
std::optional<RowGemmConfig> ChooseForFewRows(const RowGemmArguments& a, int multiprocessors) {
  for (const RowGemmConfig& config : {RowGemmConfig{2, 64, 2, 1, 1, 16}, RowGemmConfig{2, 64, 2, 1, 1, 32},
                                      RowGemmConfig{2, 64, 2, 1, 1, 64}, RowGemmConfig{2, 128, 2, 1, 1, 64}}) {
    if (config.rows < 64 && a.K != 256) continue;
    const int64_t blocks = CeilDiv(a.M, config.rows) * CeilDiv(a.N, config.tile_n * config.tiles_per_block);
    if (blocks <= multiprocessors * 3 / 4) return config;
  }
  return std::nullopt;
}

// The weight-stationary form, where it measured faster inside a model (H100, f16): rows added to a residual, many of
// them; rows to be normalised, however many.
std::optional<RowGemmConfig> ChooseStationary(const RowGemmArguments& a, int multiprocessors) {
  constexpr int64_t kLeastRows = 48;  // a block; 61 took 7.5 us against 8.6, but 20 took 4.9 against 3.9
  const int64_t column_blocks = CeilDiv(a.N, stationary::kBlockN);
  const bool faster = a.output == RowGemmOutput::kFloat ? column_blocks == 1 && a.M >= kLeastRows * multiprocessors
                                                        : a.x_f32 != nullptr && column_blocks <= 3;
  if (!faster) return std::nullopt;
  const RowGemmConfig config = StationaryConfig(a, multiprocessors);
  if (!SupportsStationary(a, config)) return std::nullopt;
  return config;
}

}  // namespace

// Fitted to the times of every configuration at 124, 992, 1984 and 7936 rows (tests/kernels/cuda/row_gemm_bench.cc):
// the choices are within about 10 % of the best of each shape. Blocks that normalise their rows repeat that for every
// block of columns, so they get about one block a multiprocessor; the others run best two at a time.
RowGemmConfig ChooseRowGemmConfig(const RowGemmArguments& arguments, int multiprocessors) {
  const int64_t row_blocks = std::max<int64_t>(CeilDiv(arguments.M, 64), 1);
  if (arguments.K > kRowGemmResidentK) return ChooseForLongK(row_blocks, arguments.K);
  if (const auto config = ChooseStationary(arguments, multiprocessors)) return *config;
  constexpr int64_t kManyColumns = 2048;  // the norm is then a small part
  const bool turns = arguments.x_f32 != nullptr && arguments.N < kManyColumns;
  if (turns && arguments.N >= 128) {
    if (const auto config = ChooseForFewRows(arguments, multiprocessors)) return *config;
  }
  const int64_t slots = turns ? multiprocessors + multiprocessors / 16 : 2 * multiprocessors;
  const int64_t column_blocks = std::max<int64_t>(slots / row_blocks, 1);
  const bool whole_tiles = arguments.output == RowGemmOutput::kGlu || row_blocks > 16;
  return ChooseTiles(CeilDiv(arguments.N, column_blocks), whole_tiles ? 64 : 32, turns);
}

}  // namespace ting::cuda
