// src/kernels/cpu/subsample_conv2d.cc
// SPDX-License-Identifier: Apache-2.0
//
// subsample_conv2d: the first convolution by vector code for a few frames at a time, channels innermost; the next
// ones as products that read those frames in place. An output pixel's receptive field is kernel x kernel pixels of C
// contiguous values, so its row of A is that many runs, and pixels of one output frame are a constant stride apart:
// no im2col. Frames are few enough that they and a pair of weight panels stay in the second-level cache. The
// linear follows on the tile's rows.
#include "kernels/subsample_conv2d.h"

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rows_job.h"

namespace ting::cpu {
namespace {

// Frames that a thread holds at a time: of the 1 MB that a core's second-level cache has, or of the 2 MB where there is
// AMX, whose products are so fast that the weights should be fetched for more rows at once.
constexpr int64_t kFrameBufferBytes = 400 << 10, kTileFrameBufferBytes = 1400 << 10;
constexpr int64_t kMostFrames = 16;

// The same product, cut along the frames.
void ExchangeRowsAndGroups(GemmArgs& g) {
  std::swap(g.rows, g.groups);
  std::swap(g.a_row_bytes, g.a_group_bytes);
  std::swap(g.c_row_bytes, g.c_group_bytes);
}

// A convolution after the first. Its frequencies follow from the features' width (Measure).
struct Conv {
  ConvStage stage;
  PackedMatrix matrix;
  int64_t in_pixel_bytes = 0;
  std::vector<int64_t> segment_bytes;
  int64_t in_frequencies = 0, out_frequencies = 0;
};

class SubsampleConv2d : public Kernel {
 public:
  static Result<std::unique_ptr<Kernel>> Create(const SubsampleParams& params, const IsaTable& isa) {
    std::unique_ptr<SubsampleConv2d> kernel(new SubsampleConv2d(isa, params));
    kernel->PackFirst();
    for (size_t s = 1; s < params.stages.size(); ++s) {
      Conv conv;
      conv.stage = params.stages[s];
      TING_ASSIGN_OR_RETURN(conv.matrix, PackedMatrix::Create(params.convs[s], isa, params.C));
      conv.in_pixel_bytes = ScratchRowBytes(conv.matrix.mode(), params.C);
      kernel->convs_.push_back(std::move(conv));
    }
    TING_ASSIGN_OR_RETURN(kernel->out_, PackedMatrix::Create(params.out, isa, params.C));
    return std::unique_ptr<Kernel>(std::move(kernel));
  }

  size_t WorkspaceBytes(const KernelContext& context) const override {
    if (!HasSequences(context, 0)) return 0;  // Run says so
    Carver carver(nullptr);
    if (Measure(context.inputs[0].shape[1])) Carve(OutputRows(context), context, carver);
    return carver.used();
  }

  Status Run(const KernelContext& context) override {
    if (!HasSequences(context, 0)) return NoSequences("subsample_conv2d", 0);
    const RowSet& features = *context.input_rows[0];
    if (!Measure(context.inputs[0].shape[1])) {
      return InvalidArgument("subsample_conv2d: {} features a frame do not lead to the {} inputs of out.w",
                             context.inputs[0].shape[1], out_.K());
    }
    offsets_.assign(1, 0);
    for (int b = 0; b < features.num_sequences(); ++b) {
      const int64_t frames = SubsampledFrames(params_.stages, features.length(b));
      if (frames <= 0) {
        return InvalidArgument("subsample_conv2d: sequence {} has {} frames, too few for one output frame", b,
                               features.length(b));
      }
      offsets_.push_back(offsets_.back() + frames);
    }
    const int64_t R = offsets_.back();
    if (R == 0) return {};
    Carver carver(context.workspace);
    const Scratch scratch = Carve(R, context, carver);
    ThreadPool& pool = Pool(context);
    const RowTiles tiles = SplitRows(R, pool.num_threads(), isa_, out_.mode());
    const bool few = FewRows(R, pool.num_threads());
    pool.ParallelFor(tiles.tiles, [&](int64_t tile, int thread) {
      const int64_t first = tiles.begin(tile), count = tiles.size(tile);
      std::byte* hidden = scratch.hidden + (few ? first : thread * tiles.largest()) * hidden_row_bytes();
      ConvRows(context, scratch.Thread(thread), first, count, hidden);
      if (!few) isa_.gemm(Linear(context, hidden, first, count));
    });
    if (few) ParallelPanels(isa_, pool, Linear(context, scratch.hidden, 0, R));
    return {};
  }

 private:
  struct Scratch {
    std::byte *hidden = nullptr, *frames = nullptr;
    int64_t frames_bytes = 0;
    std::byte* Thread(int thread) const { return frames + thread * frames_bytes; }
  };

  SubsampleConv2d(const IsaTable& isa, const SubsampleParams& params) : isa_(isa), params_(params) {}

  void PackFirst() {
    const int64_t C = params_.C, taps = params_.convs[0].K(), padded = AlignUp(C, kPanelWidth);
    const std::vector<float> w = UnpackMatrix(params_.convs[0].weight);
    first_w_.assign(taps * padded, 0.0F), first_bias_.assign(padded, 0.0F);
    for (int64_t c = 0; c < C; ++c) {
      for (int64_t tap = 0; tap < taps; ++tap) first_w_[tap * padded + c] = w[c * taps + tap];
      if (params_.convs[0].bias.present()) first_bias_[c] = params_.convs[0].bias.as<float>()[c];
    }
  }

  // All that depends on the features' width, which only the mean of CMVN tells before the first step. False: the
  // width does not fit the weights.
  bool Measure(int64_t num_mel) const {
    if (num_mel == num_mel_) return true;
    if (SubsampledFrames(params_.stages, num_mel) * params_.C != out_.K()) return false;
    int64_t frequencies = frequencies_ = (num_mel - params_.stages[0].kernel) / params_.stages[0].stride + 1;
    for (Conv& conv : convs_) {
      conv.in_frequencies = frequencies;
      conv.out_frequencies = (frequencies - conv.stage.kernel) / conv.stage.stride + 1;
      conv.segment_bytes.clear();
      for (int t = 0; t < conv.stage.kernel; ++t) {
        for (int f = 0; f < conv.stage.kernel; ++f) {
          conv.segment_bytes.push_back((t * frequencies + f) * conv.in_pixel_bytes);
        }
      }
      frequencies = conv.out_frequencies;
    }
    out_segments_.clear();
    for (int64_t f = 0; f < frequencies; ++f) out_segments_.push_back(f * PieceBytes(out_.mode(), params_.C));
    frames_ = 1;
    const int64_t buffer = UsesTiles(isa_, convs_[0].matrix.mode()) ? kTileFrameBufferBytes : kFrameBufferBytes;
    while (frames_ < kMostFrames && FrameBytes(frames_ + 1) <= buffer) ++frames_;
    num_mel_ = num_mel;
    return true;
  }

  // Of the linear's input: a frequency's C values are a piece, with its factors.
  int64_t hidden_row_bytes() const {
    return static_cast<int64_t>(AlignUp(out_.K() / params_.C * PieceBytes(out_.mode(), params_.C))) + 64;
  }
  // Frames of the input of convs_[i] that `frames` output frames of the last one need.
  int64_t FramesBefore(size_t i, int64_t frames) const {
    for (size_t s = convs_.size(); s-- > i;) frames = (frames - 1) * convs_[s].stage.stride + convs_[s].stage.kernel;
    return frames;
  }
  int64_t FrameBytes(int64_t frames) const {
    int64_t bytes = 0;
    for (size_t i = 0; i < convs_.size(); ++i) {
      bytes += FramesBefore(i, frames) * convs_[i].in_frequencies * convs_[i].in_pixel_bytes;
    }
    return bytes + StageBytes(frames);
  }
  // Products write no blocks of s8x2: a convolution's pixels pass through a stage in f32.
  int64_t StageBytes(int64_t frames) const {
    int64_t pixels = 0;
    for (size_t i = 0; i < convs_.size(); ++i) {
      if (OutputMode(i) != GemmMode::kS8x2) continue;
      pixels = std::max(pixels, FramesBefore(i + 1, frames) * convs_[i].out_frequencies);
    }
    return pixels * params_.C * 4;
  }
  // What convs_[i] feeds.
  GemmMode OutputMode(size_t i) const { return i + 1 < convs_.size() ? convs_[i + 1].matrix.mode() : out_.mode(); }
  int64_t OutputRows(const KernelContext& context) const {
    const RowSet& features = *context.input_rows[0];
    int64_t rows = 0;
    for (int b = 0; b < features.num_sequences(); ++b) rows += SubsampledFrames(params_.stages, features.length(b));
    return rows;
  }
  // What the first convolution works in: its frames' features, and four pixels for integers.
  int64_t normalised_bytes() const {
    const int64_t pixels = IsInteger(convs_[0].matrix.mode()) ? 4 * static_cast<int64_t>(first_bias_.size()) : 0;
    return static_cast<int64_t>(AlignUp((params_.stages[0].kernel * num_mel_ + pixels) * 4));
  }
  Scratch Carve(int64_t R, const KernelContext& context, Carver& carver) const {
    const int threads = Pool(context).num_threads();
    const int64_t rows = FewRows(R, threads) ? R : threads * SplitRows(R, threads, isa_, out_.mode()).largest();
    Scratch scratch;
    scratch.frames_bytes = static_cast<int64_t>(AlignUp(FrameBytes(frames_))) + normalised_bytes();
    scratch.hidden = carver.Take(rows * hidden_row_bytes());
    scratch.frames = carver.Take(threads * scratch.frames_bytes);
    return scratch;
  }

  // Output rows [first, first + count), which may belong to several sequences, up to the linear's input.
  void ConvRows(const KernelContext& context, std::byte* scratch, int64_t first, int64_t count,
                std::byte* hidden) const {
    const RowSet& features = *context.input_rows[0];
    const auto* x = context.inputs[0].as<float>();
    auto sequence = std::upper_bound(offsets_.begin(), offsets_.end(), first) - offsets_.begin() - 1;
    for (int64_t row = first; row < first + count; ++sequence) {
      const int64_t stop = std::min(offsets_[sequence + 1], first + count);
      for (; row < stop; row += frames_) {
        const int64_t frames = std::min(frames_, stop - row);
        ConvFrames(x + features.begin(static_cast<int>(sequence)) * num_mel_, row - offsets_[sequence], frames, scratch,
                   hidden + (row - first) * hidden_row_bytes());
      }
      row = stop;
    }
  }

  // Output frames [first, first + frames) of one sequence.
  void ConvFrames(const float* x, int64_t first, int64_t frames, std::byte* scratch, std::byte* hidden) const {
    int64_t start = first;
    for (const Conv& conv : convs_) start *= conv.stage.stride;
    std::byte* buffer = scratch + normalised_bytes();
    FirstConv(x, start, FramesBefore(0, frames), scratch, buffer);
    for (size_t i = 0; i < convs_.size(); ++i) {
      const Conv& conv = convs_[i];
      const bool last = i + 1 == convs_.size();
      const int64_t pixels = FramesBefore(i, frames) * conv.in_frequencies;
      std::byte* next = last ? hidden : buffer + pixels * conv.in_pixel_bytes;
      GemmArgs g = conv.matrix.Product(buffer, conv.stage.stride * conv.in_pixel_bytes, conv.out_frequencies);
      g.groups = FramesBefore(i + 1, frames);
      g.a_group_bytes = conv.stage.stride * conv.in_frequencies * conv.in_pixel_bytes;
      g.segment_bytes = conv.segment_bytes.data();
      g.num_segments = static_cast<int64_t>(conv.segment_bytes.size());
      g.segment_k = params_.C;
      g.epilogue = Epilogue::kRelu;
      g.c = next;
      g.c_mode = OutputMode(i);
      g.c_row_bytes = last ? PieceBytes(out_.mode(), params_.C) : convs_[i + 1].in_pixel_bytes;
      g.c_factors_bytes = params_.C * 2;
      g.c_group_bytes = last ? hidden_row_bytes() : conv.out_frequencies * g.c_row_bytes;
      if (g.c_mode == GemmMode::kS8x2) {
        ProductInStage(g, scratch + normalised_bytes() + FrameBytes(frames_) - StageBytes(frames_));
      } else {
        Product(g);
      }
      buffer = next;
    }
    out_.ZeroTails(hidden, frames);
  }

  void Product(GemmArgs g) const {
    if (Tiles(g.groups, g.mode) * g.rows < Tiles(g.rows, g.mode) * g.groups) ExchangeRowsAndGroups(g);
    isa_.gemm(g);
  }
  // Pixels in f32, then in blocks.
  void ProductInStage(const GemmArgs& blocks, std::byte* stage) const {
    GemmArgs g = blocks;
    g.c = stage, g.c_mode = GemmMode::kF32;
    g.c_row_bytes = params_.C * 4, g.c_group_bytes = g.rows * g.c_row_bytes;
    Product(g);
    for (int64_t group = 0; group < g.groups; ++group) {
      PrepareRows(isa_, reinterpret_cast<const float*>(stage + group * g.c_group_bytes), params_.C, Norm{}, g.rows,
                  params_.C, blocks.c_mode, static_cast<std::byte*>(blocks.c) + group * blocks.c_group_bytes,
                  blocks.c_row_bytes);
    }
  }

  // Row tiles that `rows` rows of a group make: 19 frequencies are two of ten rows, 16 frames one.
  int64_t Tiles(int64_t rows, GemmMode mode) const {
    const int64_t most = UsesTiles(isa_, mode) ? kAmxRows : isa_.max_rows;
    return (rows + most - 1) / most;
  }

  void FirstConv(const float* x, int64_t first, int64_t frames, std::byte* normalised, std::byte* y) const {
    FirstConvArgs args;
    args.x = x, args.num_mel = num_mel_;
    if (params_.mean.present()) args.mean = params_.mean.as<float>(), args.istd = params_.istd.as<float>();
    args.kernel = params_.stages[0].kernel, args.stride = params_.stages[0].stride;
    args.w = first_w_.data(), args.bias = first_bias_.data();
    args.C = params_.C, args.padded_C = static_cast<int64_t>(first_bias_.size()), args.frequencies = frequencies_;
    args.first = first, args.frames = frames;
    args.scratch = reinterpret_cast<float*>(normalised);
    args.y = y, args.y_mode = convs_[0].matrix.mode();
    args.y_pixel_bytes = convs_[0].in_pixel_bytes, args.y_frame_bytes = frequencies_ * args.y_pixel_bytes;
    isa_.first_conv(args);
  }

  GemmArgs Linear(const KernelContext& context, const std::byte* hidden, int64_t first, int64_t rows) const {
    GemmArgs g = out_.Product(hidden, hidden_row_bytes(), rows);
    if (IsInteger(g.mode)) {
      g.segment_bytes = out_segments_.data(), g.num_segments = static_cast<int64_t>(out_segments_.size());
      g.segment_k = params_.C;
    }
    g.scale = params_.scale;
    g.c = context.outputs[0].as<float>() + first * params_.D, g.c_row_bytes = params_.D * 4;
    return g;
  }

  const IsaTable& isa_;
  SubsampleParams params_;
  std::vector<float> first_w_, first_bias_;
  PackedMatrix out_;
  std::vector<int64_t> offsets_;
  // By Measure, once:
  mutable std::vector<Conv> convs_;
  mutable std::vector<int64_t> out_segments_;
  mutable int64_t num_mel_ = 0, frequencies_ = 0;  // of the features, and after the first convolution
  mutable int64_t frames_ = 1;                     // output frames at a time
};

}  // namespace

Result<std::unique_ptr<Kernel>> CreateSubsampleConv2d(const OpDesc& desc, const IsaTable& isa) {
  TING_ASSIGN_OR_RETURN(const SubsampleParams params, ParseSubsampleConv2d(desc));
  return SubsampleConv2d::Create(params, isa);
}

}  // namespace ting::cpu
