// tests/kernels/cuda/attention_kernels_bench.cu
// SPDX-License-Identifier: Apache-2.0
//
// Microseconds of an attention in a graph of 20 launches, at the shapes of a 5 s utterance: 124 frames, 4 heads of 64
// columns; for the decoder 10 hypotheses of 17 rows that share none. Data are in the L2 cache. With and without
// dependent launches, and, as in a model, each one after another kernel whose instructions have displaced its own.
#include <cstdio>
#include <functional>

#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/launch.h"
#include "tests/kernels/cuda/attention_problems.h"

namespace ting::cuda {
namespace {

constexpr int kFrames = 124, kHypotheses = 10, kTokens = 17, kRows = kHypotheses * kTokens;
constexpr int kHeads = 4, kWidth = 64, kWide = kHeads * kWidth, kLayers = 6;

// 128 KB of instructions.
__global__ void OtherCode(float* result, float factor) {
  WaitForPreviousKernel();
  float x = static_cast<float>(threadIdx.x), y = x + 1;
#pragma unroll
  for (int i = 0; i < 4096; ++i) {
    x = fmaf(x, factor, static_cast<float>(i));
    y = fmaf(y, factor, static_cast<float>(-i));
  }
  if (x == 0.123F && y == x) *result = x;  // never
}
Status LaunchOtherCode(cudaStream_t stream) {
  constexpr int kMultiprocessors = 132;
  LaunchShape shape{dim3(kMultiprocessors), dim3(32)};
  shape.dependent = true;
  return Launch(OtherCode, shape, stream, static_cast<float*>(nullptr), 0.5F);
}

// Median of 20 replays, over the launches of one.
double Microseconds(const std::function<Status(cudaStream_t)>& launch) {
  constexpr int kLaunches = 20, kReplays = 20;
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cudaEvent_t start = nullptr, stop = nullptr;
  EXPECT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  EXPECT_CUDA(cudaEventCreate(&start));
  EXPECT_CUDA(cudaEventCreate(&stop));
  EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < kLaunches; ++i) EXPECT_OK(launch(stream));
  EXPECT_CUDA(cudaStreamEndCapture(stream, &graph));
  EXPECT_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  std::vector<float> times;
  for (int i = 0; i < kReplays + 3; ++i) {
    float milliseconds = 0;
    EXPECT_CUDA(cudaEventRecord(start, stream));
    EXPECT_CUDA(cudaGraphLaunch(executable, stream));
    EXPECT_CUDA(cudaEventRecord(stop, stream));
    EXPECT_CUDA(cudaEventSynchronize(stop));
    EXPECT_CUDA(cudaEventElapsedTime(&milliseconds, start, stop));
    if (i >= 3) times.push_back(milliseconds);
  }
  EXPECT_CUDA(cudaGraphExecDestroy(executable));
  EXPECT_CUDA(cudaGraphDestroy(graph));
  EXPECT_CUDA(cudaEventDestroy(start));
  EXPECT_CUDA(cudaEventDestroy(stop));
  EXPECT_CUDA(cudaStreamDestroy(stream));
  std::sort(times.begin(), times.end());
  return times[times.size() / 2] * 1000 / kLaunches;
}

template <typename Args>
void Print(const char* name, int B, Args args, Status (*launch)(const Args&, cudaStream_t)) {
  args.dependent = false;
  const double plain = Microseconds([&](cudaStream_t stream) { return launch(args, stream); });
  args.dependent = true;
  const double dependent = Microseconds([&](cudaStream_t stream) { return launch(args, stream); });
  static const double other = Microseconds(LaunchOtherCode);
  const double both = Microseconds([&](cudaStream_t stream) {
    const Status status = LaunchOtherCode(stream);
    return status.ok() ? launch(args, stream) : status;
  });
  std::printf("%-8s %-5s B %3d  %7.2f us, dependent %7.2f, after other code %7.2f\n", name,
              DTypeName(args.dtype).data(), B, plain, dependent, both - other);
}

template <typename T, typename Args>
Args CommonArgs(const DeviceArray<T>& context) {
  Args args;
  args.dtype = DTypeOf<T>();
  args.heads = kHeads;
  args.head_width = kWidth;
  args.scale = 0.125F;
  args.context = context.data();
  args.context_stride = kWide;
  return args;
}

template <typename T>
void BenchSelf(int B, int frames) {
  std::mt19937 random(1);
  const int rows = B * frames;
  const DeviceArray<T> qkv(RandomRows<T>(rows, 3 * kWide, 3 * kWide, 1, random)), context(rows * kWide);
  const DeviceArray<T> positions(RandomRows<T>(frames, kWide, kWide, 1, random));
  const DeviceArray<float> bias(RandomRows<float>(frames, kHeads, kHeads, 1, random));
  const DeviceArray<int32_t> offsets(OffsetsOf(std::vector<int>(B, frames), B));
  auto args = CommonArgs<T, SelfAttentionArgs>(context);
  args.qkv = qkv.data();
  args.qkv_stride = 3 * kWide;
  args.offsets = offsets.data();
  args.sequences = B;
  args.rows = rows;
  char name[32];
  std::snprintf(name, sizeof name, "self %d", frames);
  Print(name, B, args, LaunchSelfAttention);
  args.positions = positions.data();
  args.position_stride = kWide;
  args.key_bias = bias.data();
  args.bias_stride = kHeads;
  std::snprintf(name, sizeof name, "rel %d", frames);
  Print(name, B, args, LaunchSelfAttention);
}

template <typename T>
void BenchCross(int B) {
  std::mt19937 random(2);
  const int U = B * kRows;
  std::vector<int32_t> sequence(U);
  for (int r = 0; r < U; ++r) sequence[r] = r / kRows;
  const DeviceArray<T> q(RandomRows<T>(U, kWide, kWide, 1, random)), context(U * kWide);
  const DeviceArray<T> memory(RandomRows<T>(B * kFrames, 2 * kLayers * kWide, 2 * kLayers * kWide, 1, random));
  const DeviceArray<int32_t> offsets(OffsetsOf(std::vector<int>(B, kFrames), B)), d_sequence(sequence);
  const DeviceArray<int32_t> num_rows(std::vector<int32_t>{U});
  auto args = CommonArgs<T, CrossAttentionArgs>(context);
  args.q = q.data();
  args.q_stride = kWide;
  args.sequence = d_sequence.data();
  args.num_rows = num_rows.data();
  args.rows = U;
  args.memory = memory.data();
  args.memory_stride = 2 * kLayers * kWide;
  args.offsets = offsets.data();
  args.sequences = B;
  Print("cross", B, args, LaunchCrossAttention);
}

template <typename T>
void BenchTree(int B) {
  std::mt19937 random(3);
  const int U = B * kRows;
  std::vector<int32_t> slots(U), ancestors, ancestor_offsets = {0};
  std::iota(slots.begin(), slots.end(), 0);
  for (int r = 0; r < U; ++r) {
    for (int a = r / kTokens * kTokens; a <= r; ++a) ancestors.push_back(a);
    ancestor_offsets.push_back(static_cast<int32_t>(ancestors.size()));
  }
  const DeviceArray<T> qkv(RandomRows<T>(U, 3 * kWide, 3 * kWide, 1, random)), context(U * kWide), pool(U * 2 * kWide);
  const DeviceArray<int32_t> d_slots(slots), d_ancestors(ancestors), d_ancestor_offsets(ancestor_offsets);
  const DeviceArray<int32_t> num_rows(std::vector<int32_t>{U});
  auto args = CommonArgs<T, TreeAttentionArgs>(context);
  args.qkv = qkv.data();
  args.qkv_stride = 3 * kWide;
  args.slots = d_slots.data();
  args.ancestor_offsets = d_ancestor_offsets.data();
  args.ancestors = d_ancestors.data();
  args.num_rows = num_rows.data();
  args.rows = U;
  args.pool = pool.data();
  args.pool_stride = 2 * kWide;
  Print("tree", B, args, LaunchTreeAttention);
}

template <typename T>
void BenchAll() {
  for (const int B : {1, 8, 16, 64}) {
    BenchSelf<T>(B, kFrames);
    BenchCross<T>(B);
    BenchTree<T>(B);
  }
  BenchSelf<T>(1, 3000);
}

}  // namespace
}  // namespace ting::cuda

int main() {
  if (const std::string why = ting::cuda::WhyNoGpu(); !why.empty()) {
    std::printf("%s\n", why.c_str());
    return 1;
  }
  ting::cuda::BenchAll<__half>();
  ting::cuda::BenchAll<float>();
  return testing::Test::HasFailure() ? 1 : 0;
}
