// src/kernels/cuda/fused_ffn_tuning.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/fused_ffn_tuning.h"

#include "base/status_macros.h"

namespace ting::cuda {
namespace {

Status CheckRecord(const std::optional<FfnConfig>& config, int64_t F, std::optional<int> split) {
  if (!config) return InvalidArgument("it is no configuration of the fused feed-forward");
  if (split && config->split != *split) {
    return InvalidArgument("split {} would change the order of sums, which is that of split {}", config->split, *split);
  }
  return FusedFfn::SupportsConfig(*config, F);
}

class FusedFfnTunable : public Tunable {
 public:
  FusedFfnTunable(const FusedFfnWeights& weights, std::optional<int> split,
                  FfnConfig (*chooser)(int64_t rows, int64_t F))
      : weights_(weights), split_(split), chooser_(chooser) {}

  size_t WeightBytes() const override { return 2 * MatrixBytes(); }
  size_t InputBytes(int64_t rows) const override { return static_cast<size_t>(rows * weights_.D) * sizeof(float); }
  size_t OutputBytes(int64_t rows) const override { return InputBytes(rows); }
  std::vector<TuningConfig> Candidates(int64_t) const override {
    std::vector<TuningConfig> candidates;
    for (const int tile_rows : kFfnTileRows) {
      for (int split = 1; split <= 16; ++split) {
        for (const int sharing : {1, 2, 4}) {
          const FfnConfig config{tile_rows, split, sharing};
          if (CheckRecord(config, weights_.F, split_).ok()) candidates.push_back(ToTuningConfig(config));
        }
      }
    }
    return candidates;
  }
  Status Run(const TuningConfig& config, const TuningCall& call) const override {
    FusedFfnWeights weights = weights_;
    weights.w1 = call.weights;
    weights.w2 = static_cast<const std::byte*>(call.weights) + MatrixBytes();
    TING_ASSIGN_OR_RETURN(const FusedFfn ffn, FusedFfn::Create(weights));
    const FfnConfig cut = FfnConfigOf(config).value_or(chooser_(call.rows, weights_.F));
    return ffn.Run(static_cast<const float*>(call.x), static_cast<float*>(call.y), call.rows, nullptr, cut, call.stream,
                   call.dependent);
  }

 private:
  size_t MatrixBytes() const { return static_cast<size_t>(weights_.F * weights_.D) * 2; }

  FusedFfnWeights weights_;
  std::optional<int> split_;
  FfnConfig (*chooser_)(int64_t rows, int64_t F);
};

}  // namespace

TuningProduct TuningProductOf(const FusedFfnWeights& w, std::optional<int> split) {
  std::string form = ActivationName(w.activation);
  if (w.norm_gamma != nullptr) form = "norm " + form;
  if (w.post_gamma != nullptr) form += " norm";
  if (split) form += fmt::format(", split {}", *split);
  return {"fused_ffn", std::string(DTypeName(w.type)), w.F, w.D, std::move(form)};
}

TuningConfig ToTuningConfig(const FfnConfig& config) {
  return {{"tile_rows", config.tile_rows}, {"split", config.split}, {"sharing", config.sharing}};
}

std::optional<FfnConfig> FfnConfigOf(const TuningConfig& config) {
  const auto tile_rows = ConfigValue(config, "tile_rows", 32, 128);
  const auto split = ConfigValue(config, "split", 1, 16);
  const auto sharing = ConfigValue(config, "sharing", 1, 16);
  if (config.size() != 3 || !tile_rows || !split || !sharing) return std::nullopt;
  return FfnConfig{*tile_rows, *split, *sharing};
}

FfnConfig TunedFfnConfig(const TuningProduct& product, int64_t rows, const FfnConfig& chosen, std::optional<int> split,
                         TuningTable& table) {
  rows = PadRows(rows);
  const auto record = table.Find(product, rows);
  if (!record) return chosen;
  const auto config = FfnConfigOf(*record);
  const Status status = CheckRecord(config, product.N, split);
  if (status.ok()) return *config;
  table.Ignore(product, rows, status.message());
  return chosen;
}

std::unique_ptr<Tunable> MakeFusedFfnTunable(const FusedFfnWeights& weights, std::optional<int> split,
                                             FfnConfig (*chooser)(int64_t rows, int64_t F)) {
  return std::make_unique<FusedFfnTunable>(weights, split, chooser);
}

}  // namespace ting::cuda
