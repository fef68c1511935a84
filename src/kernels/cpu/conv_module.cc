// src/kernels/cpu/conv_module.cc
// SPDX-License-Identifier: Apache-2.0
//
// conv_module: a stage norm -> pw1 -> GLU for all rows, then, a tile of rows at a time, depthwise convolution, norm,
// swish, pw2 and residual. GLU is the epilogue of pw1's product: a panel of outputs meets the panel of its gates in
// the registers of one tile. A batch norm that the passes have not folded is folded here.
#include "kernels/conv_module.h"

#include <cmath>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rows_job.h"

namespace ting::cpu {
namespace {

constexpr int kMostTaps = 252, kDepthwiseScratchRows = 5;  // as isa/conv.inc.h wants

int64_t Panels(int64_t n) { return (n + kPanelWidth - 1) / kPanelWidth; }

// Halves of pw1 that each start at a panel.
Result<PackedMatrix> PackGlu(const LinearParams& pw1, const IsaTable& isa) {
  const int64_t D = pw1.N() / 2, K = pw1.K(), padded = Panels(D) * kPanelWidth;
  if (padded == D) return PackedMatrix::Create(pw1, isa);
  const std::vector<float> source = UnpackMatrix(pw1.weight);
  const std::span<const float> its = MatrixFactors(pw1.weight);
  std::vector<float> rows(2 * padded * K), bias(2 * padded), factors(its.empty() ? 0 : 2 * padded);
  for (int64_t half = 0; half < 2; ++half) {
    std::copy_n(source.begin() + half * D * K, D * K, rows.begin() + half * padded * K);
    if (pw1.bias.present()) std::copy_n(pw1.bias.as<float>() + half * D, D, bias.begin() + half * padded);
    if (!its.empty()) std::copy_n(its.begin() + half * D, D, factors.begin() + half * padded);
  }
  return PackedMatrix::CreateFromRows(rows.data(), bias.data(), 2 * padded, K, pw1.weight.dtype, isa, factors);
}

struct Depthwise {
  std::vector<float> w, bias, before;  // [taps, D], [D], [D]
};

Depthwise PrepareDepthwise(const ConvModuleParams& params) {
  const int64_t D = params.D;
  Depthwise depthwise;
  depthwise.w.assign(params.dw.as<float>(), params.dw.as<float>() + params.taps * D);
  depthwise.bias.assign(D, 0.0F);
  if (params.dw_bias.present()) std::copy_n(params.dw_bias.as<float>(), D, depthwise.bias.begin());
  if (params.conv_norm == ConvNorm::kBatchNorm) {
    for (int64_t d = 0; d < D; ++d) {
      const double scale = params.gamma.as<float>()[d] / std::sqrt(double{params.var.as<float>()[d]} + params.eps);
      for (int k = 0; k < params.taps; ++k) depthwise.w[k * D + d] = static_cast<float>(depthwise.w[k * D + d] * scale);
      depthwise.bias[d] = static_cast<float>((double{depthwise.bias[d]} - params.mean.as<float>()[d]) * scale +
                                             params.beta.as<float>()[d]);
    }
  }
  depthwise.before.assign(D, 0.0F);
  if (params.pw1.bias.present()) {
    const auto* b = params.pw1.bias.as<float>();
    for (int64_t d = 0; d < D; ++d)
      depthwise.before[d] = static_cast<float>(b[d] / (1.0 + std::exp(-double{b[D + d]})));
  }
  return depthwise;
}

class ConvModule : public Kernel {
 public:
  ConvModule(const IsaTable& isa, const ConvModuleParams& params, PackedMatrix pw1, PackedMatrix pw2)
      : isa_(isa),
        params_(params),
        norm_(Norm::From(params.norm)),
        pw1_(std::move(pw1)),
        pw2_(std::move(pw2)),
        depthwise_(PrepareDepthwise(params)) {}

  size_t WorkspaceBytes(const KernelContext& context) const override {
    if (!HasSequences(context, 0)) return 0;  // Run says so
    const int threads = Pool(context).num_threads();
    if (ListGroups(*context.input_rows[0], threads, groups_)) return threads * GroupBytes();
    return Bytes(context.inputs[0].rows(), Pool(context));
  }
  Status Run(const KernelContext& context) override {
    if (!HasSequences(context, 0)) return NoSequences("conv_module", 0);
    const int64_t R = context.inputs[0].rows();
    if (R == 0) return {};
    ThreadPool& pool = Pool(context);
    if (!ListGroups(*context.input_rows[0], pool.num_threads(), groups_)) {
      Carver carver(context.workspace);
      Compute({&context, 0, R}, pool, carver);
      return {};
    }
    const size_t each = GroupBytes();
    pool.ParallelFor(static_cast<int64_t>(groups_.size()), [&](int64_t i, int thread) {
      if (groups_[i].rows == 0) return;
      Carver carver(context.workspace + thread * each);
      Compute({&context, groups_[i].first_row, groups_[i].rows}, SerialPool(), carver);
    });
    return {};
  }

 private:
  // Rows [first, first + rows) of a step: whole sequences. Rows below count from `first`. No context: only counts.
  struct Part {
    const KernelContext* context;
    int64_t first, rows;
  };

  int64_t g_stride() const { return pw1_.N() / 2 + kPanelWidth; }
  size_t Bytes(int64_t rows, ThreadPool& pool) const {
    Carver carver(nullptr);
    Compute({nullptr, 0, rows}, pool, carver);
    return carver.used();
  }

  // What any of the groups needs: the largest does not always need most, for its tiles may be smaller.
  size_t GroupBytes() const {
    size_t bytes = 0;
    for (const RowGroup& group : groups_) bytes = std::max(bytes, Bytes(group.rows, SerialPool()));
    return bytes;
  }

  void Compute(const Part& part, ThreadPool& pool, Carver& carver) const {
    const bool run = part.context != nullptr;
    const int64_t R = part.rows, D = params_.D;
    const int threads = pool.num_threads();
    auto* g = carver.Take<float>(R * g_stride());
    LinearStage in;
    in.matrix = &pw1_, in.norm = norm_;
    in.x = run ? part.context->inputs[0].as<float>() + part.first * D : nullptr, in.x_stride = D;
    in.epilogue = Epilogue::kGlu, in.glu_panels = Panels(D);
    in.c = run ? g : nullptr, in.c_row_bytes = g_stride() * 4;
    RunStage(isa_, pool, in, R, carver);

    const bool few = FewRows(R, threads);
    const RowTiles tiles = SplitRows(R, threads, isa_, pw2_.mode());
    std::byte* a = carver.Take((few ? R : threads * tiles.largest()) * pw2_.row_bytes());
    const int64_t scratch_each = (kDepthwiseScratchRows + PlainRows(tiles.largest())) * D;
    auto* scratch = carver.Take<float>(threads * scratch_each);
    if (!run) return;
    if (few) {
      const int64_t blocks = std::min<int64_t>(R, threads);
      pool.ParallelFor(blocks, [&](int64_t block, int thread) {
        const int64_t first = R * block / blocks, last = R * (block + 1) / blocks;
        Middle(part, g, first, last, scratch + thread * scratch_each, a + first * pw2_.row_bytes());
      });
      ParallelPanels(isa_, pool, Out(part, a, 0, R));
      return;
    }
    pool.ParallelFor(tiles.tiles, [&](int64_t tile, int thread) {
      const int64_t first = tiles.begin(tile), count = tiles.size(tile);
      std::byte* mine = a + thread * tiles.largest() * pw2_.row_bytes();
      Middle(part, g, first, first + count, scratch + thread * scratch_each, mine);
      isa_.gemm(Out(part, mine, first, count));
    });
  }

  // Rows of f32 between the depthwise convolution and a matrix that takes whole runs.
  int64_t PlainRows(int64_t rows) const { return pw2_.ready_mode() != pw2_.mode() ? rows : 0; }

  // Rows [first, last) of the part, which may belong to several sequences, ready for pw2 at `a`.
  void Middle(const Part& part, const float* g, int64_t first, int64_t last, float* scratch, std::byte* a) const {
    const auto offsets = part.context->input_rows[0]->offsets();
    auto end = std::upper_bound(offsets.begin(), offsets.end(), part.first + first);
    for (int64_t row = first; row < last; ++end) {
      const int64_t begin = *(end - 1) - part.first, stop = std::min<int64_t>(*end - part.first, last);
      if (stop <= row) continue;  // an empty sequence
      DepthwiseArgs args;
      args.g = g + begin * g_stride(), args.g_stride = g_stride();
      args.T = *end - *(end - 1), args.D = params_.D, args.padded_D = pw2_.padded_K();
      args.first = row - begin, args.last = stop - begin;
      args.w = depthwise_.w.data(), args.bias = depthwise_.bias.data();
      args.taps = params_.taps, args.left = params_.left();
      if (params_.causal) args.before = depthwise_.before.data();
      if (params_.conv_norm == ConvNorm::kLayerNorm) {
        args.gamma = params_.gamma.as<float>(), args.beta = params_.beta.as<float>(), args.eps = params_.eps;
      }
      args.activation = EpilogueOf(params_.activation);
      args.scratch = scratch;
      std::byte* const y = a + (row - first) * pw2_.row_bytes();
      args.y = y, args.y_mode = pw2_.mode(), args.y_row_bytes = pw2_.row_bytes();
      const int64_t plain = PlainRows(stop - row);
      if (plain > 0) {
        args.y = scratch + kDepthwiseScratchRows * params_.D;
        args.y_mode = GemmMode::kF32, args.y_row_bytes = params_.D * 4, args.padded_D = params_.D;
      }
      isa_.depthwise(args);
      if (plain > 0) {
        PrepareRows(isa_, static_cast<const float*>(args.y), params_.D, {}, plain, params_.D, pw2_.mode(), y,
                    pw2_.row_bytes());
      }
      row = stop;
    }
  }
  GemmArgs Out(const Part& part, const std::byte* a, int64_t first, int64_t rows) const {
    const int64_t D = params_.D, at = (part.first + first) * D;
    GemmArgs product = pw2_.Product(a, pw2_.row_bytes(), rows);
    if (params_.residual) product.residual = part.context->inputs[0].as<float>() + at, product.residual_stride = D;
    product.c = part.context->outputs[0].as<float>() + at, product.c_row_bytes = D * 4;
    return product;
  }

  const IsaTable& isa_;
  ConvModuleParams params_;
  Norm norm_;
  PackedMatrix pw1_, pw2_;
  Depthwise depthwise_;
  mutable std::vector<RowGroup> groups_;  // kept for its memory
};

}  // namespace

Result<std::unique_ptr<Kernel>> CreateConvModule(const OpDesc& desc, const IsaTable& isa) {
  TING_ASSIGN_OR_RETURN(const ConvModuleParams params, ParseConvModule(desc));
  if (params.taps > kMostTaps) {
    return Unimplemented("node {} (conv_module): {} taps; this backend takes at most {}", desc.node, params.taps,
                         kMostTaps);
  }
  TING_ASSIGN_OR_RETURN(PackedMatrix pw1, PackGlu(params.pw1, isa));
  TING_ASSIGN_OR_RETURN(PackedMatrix pw2, PackedMatrix::Create(params.pw2, isa));
  return std::unique_ptr<Kernel>(std::make_unique<ConvModule>(isa, params, std::move(pw1), std::move(pw2)));
}

}  // namespace ting::cpu
