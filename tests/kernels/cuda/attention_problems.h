// tests/kernels/cuda/attention_problems.h
// SPDX-License-Identifier: Apache-2.0
//
// Random problems for the attention kernels with what is expected of them: plain loops in f64 over inputs that are
// rounded to the dtype. Strides are 8 elements wider than the rows; everything that must not be read is NaN.
#pragma once

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cuda/attention_kernels.h"
#include "tests/support/gpu_test.h"

namespace ting::cuda {

inline constexpr int kGap = 8;  // elements between rows

template <typename T>
std::vector<T> RandomRows(int rows, int64_t stride, int64_t columns, float spread, std::mt19937& random) {
  std::normal_distribution<float> normal(0, spread);
  std::vector<T> values(rows * stride, Poison<T>());
  for (int r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) values[r * stride + c] = Rounded<T>(normal(random));
  }
  return values;
}

// One query row and head against keys in f64. score(j) and value(j) (a pointer to the head's columns) of the keys seen.
template <typename Score, typename Value>
std::vector<double> AttendInF64(int first, int last, int width, Score score, Value value) {
  std::vector<double> weights(std::max(last - first, 0)), context(width);
  if (weights.empty()) return context;
  for (int j = first; j < last; ++j) weights[j - first] = score(j);
  const double largest = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - largest);
  for (int j = first; j < last; ++j) {
    const float* v = value(j);
    for (int d = 0; d < width; ++d) context[d] += weights[j - first] / sum * v[d];
  }
  return context;
}

inline double DotInF64(const float* a, const float* b, int width) {
  double sum = 0;
  for (int d = 0; d < width; ++d) sum += static_cast<double>(a[d]) * b[d];
  return sum;
}

inline std::vector<int32_t> OffsetsOf(const std::vector<int>& lengths, int padded) {
  std::vector<int32_t> offsets(padded + 1, 0);
  for (int b = 0; b < padded; ++b)
    offsets[b + 1] = offsets[b] + (b < static_cast<int>(lengths.size()) ? lengths[b] : 0);
  return offsets;
}

struct SelfOptions {
  int heads = 4, width = 64;
  bool relative = true;
  int chunk = 0, left = -1;
  bool dependent = false;
  int padded_rows = 37, padded_sequences = 3;  // beyond the real ones
  float spread = 1;                            // of q, k and v
};

template <typename T>
struct SelfProblem {
  SelfProblem(const std::vector<int>& lengths_in, const SelfOptions& options_in, int seed)
      : lengths(lengths_in), options(options_in), random(seed) {
    total = std::accumulate(lengths.begin(), lengths.end(), 0);
    longest = *std::max_element(lengths.begin(), lengths.end());
    D = options.heads * options.width;
    stride = 3 * D + kGap;
    qkv = RandomRows<T>(total, stride, 3 * D, options.spread, random);
    positions = RandomRows<T>(longest, D + kGap, D, 1, random);
    bias = RandomRows<float>(longest, options.heads + 1, options.heads, 1, random);
    exact_qkv = Floats(qkv);
    exact_positions = Floats(positions);
  }
  // Sequence b of this problem by itself, to run.
  SelfProblem Alone(int b) const {
    SelfProblem alone = *this;
    const int begin = std::accumulate(lengths.begin(), lengths.begin() + b, 0);
    alone.lengths = {lengths[b]};
    alone.total = lengths[b];
    alone.qkv.assign(qkv.begin() + begin * stride, qkv.begin() + (begin + lengths[b]) * stride);
    alone.options.padded_rows = alone.options.padded_sequences = 0;
    return alone;
  }

  // Rows of D; fails the test if anything else was written.
  std::vector<T> Run(cudaStream_t stream = nullptr, int launches = 1) const {
    const int rows = total + options.padded_rows,
              sequences = static_cast<int>(lengths.size()) + options.padded_sequences;
    std::vector<T> padded = qkv;
    padded.resize(rows * stride, Poison<T>());
    const DeviceArray<T> d_qkv(padded), d_positions(positions), d_context(rows * (D + kGap));
    const DeviceArray<float> d_bias(bias);
    const DeviceArray<int32_t> d_offsets(OffsetsOf(lengths, sequences));
    SelfAttentionArgs args;
    args.dtype = DTypeOf<T>();
    args.heads = options.heads;
    args.head_width = options.width;
    args.scale = Scale();
    args.context = d_context.data();
    args.context_stride = D + kGap;
    args.dependent = options.dependent;
    args.qkv = d_qkv.data();
    args.qkv_stride = stride;
    args.offsets = d_offsets.data();
    args.sequences = sequences;
    args.rows = rows;
    if (options.relative) {
      args.positions = d_positions.data();
      args.position_stride = D + kGap;
      args.key_bias = d_bias.data();
      args.bias_stride = options.heads + 1;
    }
    args.chunk_frames = options.chunk;
    args.num_left_chunks = options.left;
    if (launches > 1) {
      RunAsGraph(args, stream, launches);
    } else {
      EXPECT_OK(LaunchSelfAttention(args, stream));
    }
    return OnlyRows(d_context.Download(), total);
  }

  // Largest relative error of a row's head; in long sequences of every 61st row.
  double WorstError(const std::vector<T>& context) const {
    double worst = 0;
    for (int b = 0, begin = 0; b < static_cast<int>(lengths.size()); begin += lengths[b], ++b) {
      for (int i = 0; i < lengths[b]; ++i) {
        if (lengths[b] > 600 && i % 61 != 0 && i + 1 < lengths[b]) continue;
        for (int h = 0; h < options.heads; ++h) {
          const std::vector<double> expected = Expected(begin, lengths[b], i, h);
          const T* actual = &context[static_cast<int64_t>(begin + i) * D + h * options.width];
          worst = std::max(worst, RelativeError(actual, expected.data(), options.width));
        }
      }
    }
    return worst;
  }

  std::vector<int> lengths;
  SelfOptions options;
  std::mt19937 random;
  int total = 0, longest = 0;
  int64_t D = 0, stride = 0;
  std::vector<T> qkv, positions;
  std::vector<float> bias, exact_qkv, exact_positions;

 private:
  float Scale() const { return 1.0F / std::sqrt(static_cast<float>(options.width)); }

  std::vector<double> Expected(int begin, int length, int i, int h) const {
    int first = 0, last = length;
    if (options.chunk > 0) {
      if (options.left >= 0) first = std::max((i / options.chunk - options.left) * options.chunk, 0);
      last = std::min((i / options.chunk + 1) * options.chunk, length);
    }
    const int width = options.width;
    const auto row = [&](int j) { return &exact_qkv[static_cast<int64_t>(begin + j) * stride + h * width]; };
    const auto score = [&](int j) {
      double sum = DotInF64(row(i), row(j) + D, width);
      if (!options.relative) return sum * Scale();
      sum += DotInF64(row(i), &exact_positions[j * (D + kGap) + h * width], width);
      return sum * Scale() + bias[j * (options.heads + 1) + h];
    };
    return AttendInF64(first, last, width, score, [&](int j) { return row(j) + 2 * D; });
  }

  static void RunAsGraph(const SelfAttentionArgs& args, cudaStream_t stream, int launches) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < launches; ++i) EXPECT_OK(LaunchSelfAttention(args, stream));
    EXPECT_CUDA(cudaStreamEndCapture(stream, &graph));
    EXPECT_CUDA(cudaGraphInstantiate(&executable, graph, 0));
    EXPECT_CUDA(cudaGraphLaunch(executable, stream));
    EXPECT_CUDA(cudaStreamSynchronize(stream));
    EXPECT_CUDA(cudaGraphExecDestroy(executable));
    EXPECT_CUDA(cudaGraphDestroy(graph));
  }

  // The real rows without the gaps, which must hold their poison as do the rows beyond.
  std::vector<T> OnlyRows(const std::vector<T>& context, int rows) const {
    std::vector<T> result;
    size_t written = 0;
    for (size_t i = 0; i < context.size(); ++i) {
      const int64_t row = static_cast<int64_t>(i) / (D + kGap), column = static_cast<int64_t>(i) % (D + kGap);
      if (row < rows && column < D) {
        result.push_back(context[i]);
      } else {
        written += !SameBits(context[i], Poison<T>());
      }
    }
    EXPECT_EQ(written, 0U) << "elements beyond the rows were written";
    return result;
  }
};

}  // namespace ting::cuda
