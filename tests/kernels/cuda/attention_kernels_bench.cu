// tests/kernels/cuda/attention_kernels_bench.cu
// SPDX-License-Identifier: Apache-2.0
//
// Microseconds of an attention in a graph of 20 launches, at the shapes of a 5 s utterance: 124 frames, 4 heads of 64
// columns; 30 token rows an utterance for the decoder. With and without dependent launches.
#include <cstdio>
#include <functional>

#include "tests/kernels/cuda/attention_problems.h"

namespace ting::cuda {
namespace {

constexpr int kFrames = 124, kTokens = 30, kHeads = 4, kWidth = 64, kWide = kHeads * kWidth;

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
  std::printf("%-12s %-5s B %3d  %8.2f us  %8.2f us dependent\n", name, DTypeName(args.dtype).data(), B, plain,
              dependent);
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
void BenchDecoder(int B) {
  std::mt19937 random(2);
  const int U = B * kTokens;
  std::vector<int32_t> sequence(U), slots(U), ancestors, ancestor_offsets = {0};
  for (int r = 0; r < U; ++r) {
    sequence[r] = r / kTokens;
    slots[r] = r;
    for (int a = r / kTokens * kTokens; a <= r; ++a) ancestors.push_back(a);
    ancestor_offsets.push_back(static_cast<int32_t>(ancestors.size()));
  }
  const DeviceArray<T> qkv(RandomRows<T>(U, 3 * kWide, 3 * kWide, 1, random)), context(U * kWide), pool(U * 2 * kWide);
  const DeviceArray<T> memory(RandomRows<T>(B * kFrames, 12 * kWide, 12 * kWide, 1, random));
  const DeviceArray<int32_t> offsets(OffsetsOf(std::vector<int>(B, kFrames), B)), d_sequence(sequence), d_slots(slots);
  const DeviceArray<int32_t> d_ancestors(ancestors), d_ancestor_offsets(ancestor_offsets);
  const DeviceArray<int32_t> num_rows(std::vector<int32_t>{U});
  auto cross = CommonArgs<T, CrossAttentionArgs>(context);
  cross.q = qkv.data();
  cross.q_stride = 3 * kWide;
  cross.sequence = d_sequence.data();
  cross.num_rows = num_rows.data();
  cross.rows = U;
  cross.memory = memory.data();
  cross.memory_stride = 12 * kWide;
  cross.offsets = offsets.data();
  cross.sequences = B;
  Print("cross", B, cross, LaunchCrossAttention);
  auto tree = CommonArgs<T, TreeAttentionArgs>(context);
  tree.qkv = qkv.data();
  tree.qkv_stride = 3 * kWide;
  tree.slots = d_slots.data();
  tree.ancestor_offsets = d_ancestor_offsets.data();
  tree.ancestors = d_ancestors.data();
  tree.num_rows = num_rows.data();
  tree.rows = U;
  tree.pool = pool.data();
  tree.pool_stride = 2 * kWide;
  Print("tree", B, tree, LaunchTreeAttention);
}

template <typename T>
void BenchAll() {
  for (const int B : {1, 8, 16, 64}) {
    BenchSelf<T>(B, kFrames);
    BenchDecoder<T>(B);
  }
  BenchSelf<T>(1, 3000);
}

}  // namespace
}  // namespace ting::cuda

int main() {
  if (const char* why = ting::cuda::WhyNoGpu(); *why != '\0') {
    std::printf("needs a GPU: %s\n", why);
    return 1;
  }
  ting::cuda::BenchAll<__half>();
  ting::cuda::BenchAll<float>();
  return testing::Test::HasFailure() ? 1 : 0;
}
