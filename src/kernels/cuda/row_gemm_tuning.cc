// src/kernels/cuda/row_gemm_tuning.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/row_gemm_tuning.h"

#include <set>
#include <utility>

#include "base/status_macros.h"
#include "kernels/cuda/launch.h"

namespace ting::cuda {
namespace {

const char* OutputName(RowGemmOutput output) {
  return output == RowGemmOutput::kGlu ? "glu" : output == RowGemmOutput::kHalf ? "half" : "float";
}

// Blocks of more columns than there are would run, but no choice and no measurement makes them.
Status CheckRecord(const RowGemmArguments& arguments, const RowGemmConfig& config) {
  if (int64_t{config.tiles_per_block - 1} * config.tile_n >= arguments.N) {
    return InvalidArgument("row_gemm: blocks of {} x {} columns for {}", config.tiles_per_block, config.tile_n,
                           arguments.N);
  }
  return SupportsRowGemm(arguments, config);
}

class RowGemmTunable : public Tunable {
 public:
  explicit RowGemmTunable(const RowGemmArguments& arguments) : arguments_(arguments) {}

  size_t WeightBytes() const override { return static_cast<size_t>(arguments_.N * arguments_.K) * 2; }
  size_t InputBytes(int64_t rows) const override {
    return static_cast<size_t>(rows * arguments_.K) * (arguments_.x_f32 != nullptr ? 4 : 2);
  }
  size_t OutputBytes(int64_t rows) const override {
    return static_cast<size_t>(rows * arguments_.N) * (arguments_.output == RowGemmOutput::kFloat ? 4 : 2);
  }
  std::vector<TuningConfig> Candidates(int64_t rows) const override {
    RowGemmArguments arguments = arguments_;
    arguments.M = rows;
    std::vector<TuningConfig> candidates;
    for (const RowGemmConfig& config : RowGemmConfigs(arguments)) candidates.push_back(ToTuningConfig(config));
    return candidates;
  }
  Status Run(const TuningConfig& config, const TuningCall& call) const override {
    RowGemmArguments a = arguments_;
    a.M = call.rows, a.num_rows = nullptr;
    if (arguments_.x_f32 != nullptr) {
      a.x_f32 = static_cast<const float*>(call.x);
    } else {
      a.x = call.x;
    }
    a.weight = call.weights, a.y = call.y, a.dependent = call.dependent;
    if (a.residual != nullptr) a.residual = call.residual;
    const auto parsed = RowGemmConfigOf(config);
    return parsed ? RowGemm(a, *parsed, call.stream) : RowGemm(a, call.stream);
  }

 private:
  RowGemmArguments arguments_;
};

}  // namespace

TuningProduct TuningProductOf(const RowGemmArguments& a) {
  const char* before = a.gamma != nullptr ? "norm " : a.x_f32 != nullptr ? "f32 " : "";
  std::string form = std::string(before) + OutputName(a.output);
  if (a.activation != Activation::kNone) form += std::string(" ") + ActivationName(a.activation);
  return {"row_gemm", std::string(DTypeName(a.type)), a.N, a.K, std::move(form)};
}

TuningConfig ToTuningConfig(const RowGemmConfig& config) {
  return {{"groups", config.groups}, {"tile_n", config.tile_n}, {"tiles_per_block", config.tiles_per_block},
          {"split", config.split},   {"share", config.share},   {"rows", config.rows}};
}

std::optional<RowGemmConfig> RowGemmConfigOf(const TuningConfig& config) {
  const auto groups = ConfigValue(config, "groups", 1, 4);
  const auto tile_n = ConfigValue(config, "tile_n", 32, 128);
  const auto tiles_per_block = ConfigValue(config, "tiles_per_block", 1, 1024);
  const auto split = ConfigValue(config, "split", 1, 16);
  const auto share = ConfigValue(config, "share", 1, 2);
  const auto rows = ConfigValue(config, "rows", 1, 1 << 22);
  if (config.size() != 6 || !groups || !tile_n || !tiles_per_block || !split || !share || !rows) return std::nullopt;
  return RowGemmConfig{*groups, *tile_n, *tiles_per_block, *split, *share, *rows};
}

std::vector<RowGemmConfig> RowGemmConfigs(const RowGemmArguments& arguments) {
  std::vector<RowGemmConfig> configs;
  const int segments = RowGemmSegments(arguments.K);
  for (RowGemmConfig config : {RowGemmConfig{1, 32}, {2, 32}, {1, 64}, {2, 64}, {1, 128}, {2, 128}}) {
    const auto tiles = static_cast<int>((arguments.N + config.tile_n - 1) / config.tile_n);
    std::set<int> per_block;
    for (int blocks = 1; blocks <= tiles; ++blocks) per_block.insert((tiles + blocks - 1) / blocks);
    for (const int tiles_per_block : per_block) {
      config.tiles_per_block = tiles_per_block;
      for (const auto& [split, share] : std::set<std::pair<int, int>>{{1, 1}, {1, 2}, {segments, 1}}) {
        config.split = split, config.share = share;
        for (config.rows = 16; config.rows <= 64; config.rows *= 2) {
          if (SupportsRowGemm(arguments, config).ok()) configs.push_back(config);
        }
      }
    }
  }
  if (const Result<int> multiprocessors = Multiprocessors(); multiprocessors.ok()) {
    const RowGemmConfig stationary = StationaryConfig(arguments, *multiprocessors);
    if (SupportsRowGemm(arguments, stationary).ok()) configs.push_back(stationary);
  }
  return configs;
}

RowGemmConfig TunedRowGemmConfig(const RowGemmArguments& arguments, const TuningProduct& product, int multiprocessors,
                                 TuningTable& table) {
  const int64_t rows = PadRows(arguments.M);
  if (const auto record = table.Find(product, rows)) {
    const auto config = RowGemmConfigOf(*record);
    const Status status = config ? CheckRecord(arguments, *config)
                                 : Status(StatusCode::kInvalidArgument, "it is no configuration of row_gemm");
    if (status.ok()) return *config;
    table.Ignore(product, rows, status.message());
  }
  return ChooseRowGemmConfig(arguments, multiprocessors);
}

std::unique_ptr<Tunable> MakeRowGemmTunable(const RowGemmArguments& arguments) {
  return std::make_unique<RowGemmTunable>(arguments);
}

}  // namespace ting::cuda
