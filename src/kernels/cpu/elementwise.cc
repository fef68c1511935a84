// src/kernels/cpu/elementwise.cc
// SPDX-License-Identifier: Apache-2.0
//
// layer_norm, add, add_positions and embed: a pass over memory each, shared out by rows. Sinusoids are computed once
// and kept, twice as many whenever a longer sequence arrives.
#include "kernels/elementwise.h"

#include "base/bfloat16.h"
#include "kernels/attribute_reader.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rows_job.h"
#include "kernels/embed.h"
#include "kernels/layer_norm.h"

namespace ting::cpu {
namespace {

constexpr int64_t kRowsPerTask = 64;

template <typename Body>
void ForRows(ThreadPool& pool, int64_t rows, Body body) {
  pool.ParallelFor((rows + kRowsPerTask - 1) / kRowsPerTask,
                   [&](int64_t task, int) { body(task * kRowsPerTask, std::min(rows, (task + 1) * kRowsPerTask)); });
}

class Sinusoids {
 public:
  const float* Get(int64_t positions, int64_t D) {
    if (positions > count_) {
      const int64_t count = std::max<int64_t>({positions, 2 * count_, 256});
      rows_.resize(count * D);
      for (int64_t p = count_; p < count; ++p) PositionRow(p, D, rows_.data() + p * D);
      count_ = count;
    }
    return rows_.data();
  }

 private:
  std::vector<float> rows_;
  int64_t count_ = 0;
};

class LayerNorm : public Kernel {
 public:
  LayerNorm(const IsaTable& isa, const NormParams& params) : isa_(isa), norm_(Norm::From(params)) {}
  Status Run(const KernelContext& context) override {
    const int64_t D = context.inputs[0].shape[1];
    const auto* x = context.inputs[0].as<float>();
    auto* y = context.outputs[0].as<float>();
    ForRows(Pool(context), context.inputs[0].rows(), [&](int64_t first, int64_t last) {
      PrepareRows(isa_, x + first * D, D, norm_, last - first, D, GemmMode::kF32, y + first * D, D * 4);
    });
    return {};
  }

 private:
  const IsaTable& isa_;
  Norm norm_;
};

class Add : public Kernel {
 public:
  Add(const IsaTable& isa, float scale) : isa_(isa), scale_(scale) {}
  Status Run(const KernelContext& context) override {
    const int64_t D = context.inputs[0].shape[1];
    const auto *a = context.inputs[0].as<float>(), *b = context.inputs[1].as<float>();
    auto* y = context.outputs[0].as<float>();
    ForRows(Pool(context), context.inputs[0].rows(), [&](int64_t first, int64_t last) {
      isa_.add_scaled(a + first * D, b + first * D, scale_, (last - first) * D, y + first * D);
    });
    return {};
  }

 private:
  const IsaTable& isa_;
  float scale_;
};

class AddPositions : public Kernel {
 public:
  explicit AddPositions(const IsaTable& isa) : isa_(isa) {}
  Status Run(const KernelContext& context) override {
    if (!HasSequences(context, 0)) return NoSequences("add_positions", 0);
    const int64_t D = context.inputs[0].shape[1];
    const auto* x = context.inputs[0].as<float>();
    auto* y = context.outputs[0].as<float>();
    const RowSet& sequences = *context.input_rows[0];
    for (int b = 0; b < sequences.num_sequences(); ++b) {
      const int64_t begin = sequences.begin(b), length = sequences.length(b);
      const float* positions = sinusoids_.Get(length, D);
      ForRows(Pool(context), length, [&](int64_t first, int64_t last) {
        const int64_t at = (begin + first) * D;
        isa_.add_scaled(x + at, positions + first * D, 1.0F, (last - first) * D, y + at);
      });
    }
    return {};
  }

 private:
  const IsaTable& isa_;
  Sinusoids sinusoids_;
};

class Embed : public Kernel {
 public:
  Embed(const IsaTable& isa, const EmbedParams& params) : isa_(isa), params_(params) {}
  Status Run(const KernelContext& context) override {
    const int64_t U = context.inputs[0].num_elements(), V = params_.table.shape[0], D = params_.table.shape[1];
    const auto *tokens = context.inputs[0].as<int32_t>(), *positions = context.inputs[1].as<int32_t>();
    int32_t last_position = -1;
    for (int64_t r = 0; r < U; ++r) {
      if (tokens[r] < 0 || tokens[r] >= V) {
        return InvalidArgument("embed: row {} has token {}, outside the {} of the table", r, tokens[r], V);
      }
      if (positions[r] < 0) return InvalidArgument("embed: row {} has position {}", r, positions[r]);
      last_position = std::max(last_position, positions[r]);
    }
    const float* sinusoids = sinusoids_.Get(int64_t{last_position} + 1, D);
    auto* y = context.outputs[0].as<float>();
    ForRows(Pool(context), U, [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) EmbedRow(tokens[r], sinusoids + positions[r] * D, D, y + r * D);
    });
    return {};
  }

 private:
  void EmbedRow(int64_t token, const float* position, int64_t D, float* y) const {
    if (params_.table.dtype == DType::kF32) {
      isa_.add_scaled(position, params_.table.as<float>() + token * D, params_.scale, D, y);
      return;
    }
    const auto* row = params_.table.as<BFloat16>() + token * D;
    for (int64_t d = 0; d < D; ++d) y[d] = static_cast<float>(row[d]) * params_.scale + position[d];
  }

  const IsaTable& isa_;
  EmbedParams params_;
  Sinusoids sinusoids_;
};

}  // namespace

Result<std::unique_ptr<Kernel>> CreateLayerNorm(const OpDesc& desc, const IsaTable& isa) {
  TING_ASSIGN_OR_RETURN(const NormParams params, ParseLayerNorm(desc));
  return std::unique_ptr<Kernel>(std::make_unique<LayerNorm>(isa, params));
}
Result<std::unique_ptr<Kernel>> CreateAdd(const OpDesc& desc, const IsaTable& isa) {
  TING_ASSIGN_OR_RETURN(const double scale, ReadNumber(desc, "scale", 1.0));
  return std::unique_ptr<Kernel>(std::make_unique<Add>(isa, static_cast<float>(scale)));
}
Result<std::unique_ptr<Kernel>> CreateAddPositions(const OpDesc&, const IsaTable& isa) {
  return std::unique_ptr<Kernel>(std::make_unique<AddPositions>(isa));
}
Result<std::unique_ptr<Kernel>> CreateEmbed(const OpDesc& desc, const IsaTable& isa) {
  TING_ASSIGN_OR_RETURN(const EmbedParams params, ParseEmbed(desc));
  return std::unique_ptr<Kernel>(std::make_unique<Embed>(isa, params));
}

}  // namespace ting::cpu
