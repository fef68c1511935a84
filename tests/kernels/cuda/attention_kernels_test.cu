// tests/kernels/cuda/attention_kernels_test.cu
// SPDX-License-Identifier: Apache-2.0
//
// Self and cross attention against loops in f64, on shapes around the tiles (32 and 64 rows, 32 to 128 keys), with
// all masks; a sequence alone against the same one in a batch, bit by bit; nothing written beyond the rows.
#include "tests/kernels/cuda/attention_problems.h"
#include "tests/support/take_case.h"

namespace ting::cuda {
namespace {

// Norm of a row's error over the norm of the row: two roundings to the dtype (probabilities, context), with a factor of
// four for rows whose values cancel; in f32 the exponential's 2^-22 and the order of the sums.
template <typename T>
double Bound() {
  if constexpr (std::is_same_v<T, __half>) return 4 * std::exp2(-11);
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return 4 * std::exp2(-8);
  return 1e-5;
}

template <typename T>
class Attention : public testing::Test {
 protected:
  void SetUp() override { TING_SKIP_WITHOUT_GPU(); }
};
using Types = testing::Types<float, __half, __nv_bfloat16>;
TYPED_TEST_SUITE(Attention, Types);

TYPED_TEST(Attention, SelfLengthsAroundTheTiles) {
  for (const int length : {1, 2, 31, 32, 33, 63, 64, 65, 124, 125, 128, 129, 500}) {
    const SelfProblem<TypeParam> problem({length}, {}, length);
    EXPECT_LE(problem.WorstError(problem.Run()), Bound<TypeParam>()) << "T = " << length;
  }
}

TYPED_TEST(Attention, SelfLongSequence) {
  SelfOptions options;
  options.heads = 2;
  const SelfProblem<TypeParam> problem({3000, 7}, options, 1);
  EXPECT_LE(problem.WorstError(problem.Run()), Bound<TypeParam>());
}

TYPED_TEST(Attention, SelfHeads) {
  for (const int heads : {1, 4, 8}) {
    for (const int width : {8, 32, 48, 64, 80, 96, 128}) {
      for (const bool relative : {false, true}) {
        if (!TakeCase()) continue;
        SelfOptions options;
        options.heads = heads;
        options.width = width;
        options.relative = relative;
        const SelfProblem<TypeParam> problem({65, 124, 0, 3}, options, heads * width);
        EXPECT_LE(problem.WorstError(problem.Run()), Bound<TypeParam>())
            << heads << " heads of " << width << (relative ? " with positions" : "");
      }
    }
  }
}

TYPED_TEST(Attention, SelfChunks) {
  for (const int chunk : {1, 4, 16, 64}) {
    for (const int left : {0, 1, 4, -1}) {
      SelfOptions options;
      options.chunk = chunk;
      options.left = left;
      const SelfProblem<TypeParam> problem({124, 1, 0, 250, 64}, options, chunk);
      EXPECT_LE(problem.WorstError(problem.Run()), Bound<TypeParam>()) << "chunks of " << chunk << ", left " << left;
    }
  }
}

TYPED_TEST(Attention, SelfChunksInALongSequence) {  // skips key blocks at both ends
  SelfOptions options;
  options.heads = 1;
  options.chunk = 16;
  options.left = 4;
  const SelfProblem<TypeParam> problem({1500}, options, 2);
  EXPECT_LE(problem.WorstError(problem.Run()), Bound<TypeParam>());
}

// Alone a sequence gets small tiles and small bounds; in the batch the other ones, and another place.
TYPED_TEST(Attention, SelfBitsDoNotDependOnTheBatch) {
  for (const int chunk : {0, 16}) {
    SelfOptions options;
    options.chunk = chunk;
    options.left = 2;
    options.padded_rows = 5000;  // blocks enough for large tiles
    const SelfProblem<TypeParam> batch({124, 1, 65, 0, 500, 2, 63, 125, 64, 32, 200}, options, 3);
    const std::vector<TypeParam> context = batch.Run();
    EXPECT_LE(batch.WorstError(context), Bound<TypeParam>());
    size_t begin = 0;
    for (size_t b = 0; b < batch.lengths.size(); ++b) {
      const size_t count = batch.lengths[b] * batch.D;
      if (count == 0) continue;
      const std::vector<TypeParam> alone = batch.Alone(static_cast<int>(b)).Run();
      EXPECT_EQ(memcmp(alone.data(), context.data() + begin, count * sizeof(TypeParam)), 0)
          << "sequence " << b << ", chunk " << chunk;
      begin += count;
    }
  }
}

TYPED_TEST(Attention, SelfManySequences) {  // more sequences than a block has threads
  std::vector<int> lengths(700);
  for (size_t b = 0; b < lengths.size(); ++b) lengths[b] = static_cast<int>(b * 7 % 5);
  const SelfProblem<TypeParam> problem(lengths, {}, 4);
  EXPECT_LE(problem.WorstError(problem.Run()), Bound<TypeParam>());
}

TYPED_TEST(Attention, SelfLargeScores) {  // softmax close to a maximum: no overflow before it is subtracted
  SelfOptions options;
  options.spread = 12;
  const SelfProblem<TypeParam> problem({124}, options, 5);
  // Scores of hundreds are sums of thousands: an f32 sum is off by 2^-12 or so.
  EXPECT_LE(problem.WorstError(problem.Run()), Bound<TypeParam>() + 1e-3);
}

TYPED_TEST(Attention, SelfInAGraphWithDependentLaunches) {
  SelfOptions options;
  options.dependent = true;
  const SelfProblem<TypeParam> problem({124, 65}, options, 6);
  const std::vector<TypeParam> once = problem.Run();
  cudaStream_t stream = nullptr;
  EXPECT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const std::vector<TypeParam> replayed = problem.Run(stream, 5);
  EXPECT_CUDA(cudaStreamDestroy(stream));
  ASSERT_EQ(once.size(), replayed.size());
  EXPECT_EQ(memcmp(once.data(), replayed.data(), once.size() * sizeof(TypeParam)), 0);
}

struct CrossSizes {
  std::vector<int> memory, queries;  // rows of each sequence
  int heads = 4, width = 64, padded_rows = 0;
  bool dependent = false;
};

// Two layers' keys in the memory; the second layer's are used. The context, which is right or the test fails.
template <typename T>
std::vector<T> RunCross(const CrossSizes& sizes) {
  std::mt19937 random(7);
  const int sequences = static_cast<int>(sizes.memory.size()), padded_sequences = sequences + 2;
  const int memory_rows = std::accumulate(sizes.memory.begin(), sizes.memory.end(), 0);
  const int U = std::accumulate(sizes.queries.begin(), sizes.queries.end(), 0), rows = U + sizes.padded_rows;
  const int64_t D = sizes.heads * sizes.width, memory_stride = 4 * D + kGap, q_stride = D + kGap;
  const std::vector<T> memory = RandomRows<T>(memory_rows, memory_stride, 4 * D, 1, random);
  const std::vector<T> q = RandomRows<T>(U, q_stride, D, 1, random);
  std::vector<int32_t> sequence;
  for (int b = 0; b < sequences; ++b) sequence.insert(sequence.end(), sizes.queries[b], b);
  const std::vector<int32_t> offsets = OffsetsOf(sizes.memory, padded_sequences);
  std::vector<T> padded_q = q;
  padded_q.resize(rows * q_stride, Poison<T>());
  std::vector<int32_t> padded_sequence = sequence;
  padded_sequence.resize(rows, -1);

  const DeviceArray<T> d_memory(memory), d_q(padded_q), d_context(rows * D);
  const DeviceArray<int32_t> d_sequence(padded_sequence), d_offsets(offsets), d_num_rows(std::vector<int32_t>{U});
  CrossAttentionArgs args;
  args.dtype = DTypeOf<T>();
  args.heads = sizes.heads;
  args.head_width = sizes.width;
  args.scale = 0.125F;
  args.dependent = sizes.dependent;
  args.context = d_context.data();
  args.context_stride = D;
  args.q = d_q.data();
  args.q_stride = q_stride;
  args.sequence = d_sequence.data();
  args.num_rows = d_num_rows.data();
  args.rows = rows;
  args.memory = d_memory.data();
  args.memory_stride = memory_stride;
  args.key_column = 2 * D;
  args.offsets = d_offsets.data();
  args.sequences = padded_sequences;
  EXPECT_OK(LaunchCrossAttention(args, nullptr));
  const std::vector<T> context = d_context.Download();

  const std::vector<float> exact_memory = Floats(memory), exact_q = Floats(q);
  double worst = 0;
  for (int r = 0; r < U; ++r) {
    for (int h = 0; h < sizes.heads; ++h) {
      const auto key = [&](int j) {
        return &exact_memory[(offsets[sequence[r]] + j) * memory_stride + 2 * D + h * sizes.width];
      };
      const std::vector<double> expected = AttendInF64(
          0, sizes.memory[sequence[r]], sizes.width,
          [&](int j) { return 0.125 * DotInF64(&exact_q[r * q_stride + h * sizes.width], key(j), sizes.width); },
          [&](int j) { return key(j) + D; });
      worst = std::max(worst, RelativeError(&context[r * D + h * sizes.width], expected.data(), sizes.width));
    }
  }
  EXPECT_LE(worst, Bound<T>());
  size_t written = 0;
  for (size_t i = U * D; i < context.size(); ++i) written += !SameBits(context[i], Poison<T>());
  EXPECT_EQ(written, 0U) << "elements beyond the rows";
  return {context.begin(), context.begin() + U * D};
}

TYPED_TEST(Attention, CrossOneSequence) {
  for (const int queries : {1, 10, 31, 32, 33, 64, 65}) RunCross<TypeParam>({{124}, {queries}});
}
TYPED_TEST(Attention, CrossRagged) {
  RunCross<TypeParam>({{124, 1, 65, 500, 128, 64}, {10, 1, 60, 33, 0, 200}, 4, 64, 11});
}
TYPED_TEST(Attention, CrossLargeTiles) { RunCross<TypeParam>({{124, 65, 300}, {70, 10, 130}, 8, 64, 3000}); }
TYPED_TEST(Attention, CrossBitsDoNotDependOnTheBounds) {
  CrossSizes sizes{{124, 1, 300, 129, 0, 128, 64}, {170, 5, 400, 64, 3, 193, 191}};
  const std::vector<TypeParam> small = RunCross<TypeParam>(sizes);
  sizes.padded_rows = 9000, sizes.dependent = true;
  const std::vector<TypeParam> large = RunCross<TypeParam>(sizes);
  EXPECT_EQ(memcmp(small.data(), large.data(), small.size() * sizeof(TypeParam)), 0);
}
TYPED_TEST(Attention, CrossEmptyMemory) { RunCross<TypeParam>({{0, 20, 0}, {3, 4, 5}, 4, 64, 1}); }
TYPED_TEST(Attention, CrossWidths) {
  for (const int width : {32, 48, 80, 96, 128}) RunCross<TypeParam>({{124, 30}, {12, 40}, 4, width, 3});
}

TEST(AttentionArguments, RefusesWhatItCannotDo) {  // needs no GPU
  SelfAttentionArgs args;
  args.heads = 4;
  args.head_width = 12;
  EXPECT_EQ(LaunchSelfAttention(args, nullptr).code(), StatusCode::kUnimplemented);
  args.head_width = 64;
  args.qkv_stride = 769;
  EXPECT_EQ(LaunchSelfAttention(args, nullptr).code(), StatusCode::kInvalidArgument);
  args.dtype = DType::kS8;
  EXPECT_EQ(LaunchSelfAttention(args, nullptr).code(), StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace ting::cuda
