// bench/kernels/op_bench.cc
// SPDX-License-Identifier: Apache-2.0
//
// Whole ops of a 46 M parameter conformer (256 wide, 4 heads, 2048 hidden, 4233 outputs) at 104 and 832 rows (5 s of
// audio, alone and eight together), and at the 16 and 1 of a streaming chunk and of a step of the attention search,
// with 1 and 2 threads, in percent of as many cores' multiply-add rate. Only the matrix products count as work, so
// what norms, softmax and activations cost shows as a loss.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "base/aligned_buffer.h"
#include "bench/kernels/machine.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/params.h"

namespace ting::bench {
namespace {

constexpr int64_t kD = 256, kF = 2048, kV = 4233, kC = 256, kMel = 80;

class Node {
 public:
  Node(std::string op, DType dtype) : dtype_(dtype) { desc_.op = std::move(op), desc_.node = "bench"; }
  Node& Set(const std::string& name, Attribute value) { return desc_.attributes.Set(name, std::move(value)), *this; }
  Node& Matrix(const std::string& slot, int64_t N, int64_t K) { return Add(slot, dtype_, {N, K}, Layout::kPanel16); }
  Node& Vector(const std::string& slot, int64_t n) { return Add(slot, DType::kF32, {n}, Layout::kRowMajor); }
  Node& Plain(const std::string& slot, int64_t N, int64_t K) {
    return Add(slot, DType::kF32, {N, K}, Layout::kRowMajor);
  }
  Node& Linear(const std::string& prefix, int64_t N, int64_t K) {
    return Matrix(prefix + ".w", N, K).Vector(prefix + ".b", N);
  }
  Node& Norm(const std::string& prefix) { return Vector(prefix + ".gamma", kD).Vector(prefix + ".beta", kD); }

  std::unique_ptr<Kernel> Create() const {
    for (const KernelEntry& entry : CpuKernels()) {
      if (desc_.op != entry.op || entry.refuse(desc_).has_value()) continue;
      auto kernel = entry.create(desc_);
      if (!kernel.ok()) std::fprintf(stderr, "%s\n", kernel.status().ToString().c_str()), std::exit(1);
      return std::move(*kernel);
    }
    std::fprintf(stderr, "no kernel for %s\n", desc_.op.c_str());
    std::exit(1);
  }

 private:
  Node& Add(const std::string& slot, DType dtype, Shape shape, Layout layout) {
    AlignedBuffer& buffer = buffers_.emplace_back(AlignedBuffer::Allocate(WeightBytes(dtype, shape, layout)).value());
    std::vector<float> values(shape.num_elements());
    uint32_t seed = static_cast<uint32_t>(buffers_.size());
    for (float& value : values) {  // +-(0.01 to 0.03)
      seed = seed * 1664525U + 1013904223U;
      value = (seed & 0x80000000U ? -0.01F : 0.01F) * (1.0F + static_cast<float>(seed >> 9 & 0xff) / 128.0F);
    }
    if (shape.rank() == 2) {
      PackMatrix(values.data(), shape[0], shape[1], dtype, layout, buffer.data());
    } else {
      std::memcpy(buffer.data(), values.data(), values.size() * sizeof(float));
    }
    desc_.weights[slot] = {buffer.data(), dtype, shape, layout};
    return *this;
  }
  DType dtype_;
  OpDesc desc_;
  std::vector<AlignedBuffer> buffers_;
};

struct Job {
  Node node;
  int64_t in_rows, in_width, out_rows, out_width;
  int sequences;
  double flops;
  bool topk = false;
};

Job MakeJob(const std::string& op, DType dtype, int64_t R) {
  const int sequences = static_cast<int>(std::max<int64_t>(R / 104, 1));
  const double d = kD, r = static_cast<double>(R);
  if (op == "feed_forward") {
    Node node(op, dtype);
    node.Norm("norm").Linear("w1", kF, kD).Linear("w2", kD, kF).Set("residual", 0.5);
    return {std::move(node), R, kD, R, kD, sequences, 2 * r * 2 * d * kF};
  }
  if (op == "rel_attention") {
    Node node(op, dtype);
    node.Norm("norm").Linear("qkv", 3 * kD, kD).Linear("o", kD, kD).Matrix("pos.w", kD, kD).Vector("key_bias", kD);
    node.Set("heads", int64_t{4}).Set("folded", int64_t{1}).Set("residual", int64_t{1});
    return {std::move(node), R, kD, R, kD, sequences, 2 * r * 4 * d * d + 4 * r * (r / sequences) * d};
  }
  if (op == "conv_module") {
    Node node(op, dtype);
    node.Norm("norm").Linear("pw1", 2 * kD, kD).Linear("pw2", kD, kD).Plain("dw.w", 15, kD).Vector("dw.b", kD);
    node.Set("conv_norm", std::string("none")).Set("residual", int64_t{1});
    return {std::move(node), R, kD, R, kD, sequences, 2 * r * 3 * d * d};
  }
  if (op == "subsample_conv2d") {
    Node node(op, dtype);
    node.Linear("conv0", kC, 9).Linear("conv1", kC, 9 * kC).Linear("out", kD, 19 * kC);
    node.Vector("mean", kMel).Vector("istd", kMel).Set("kind", std::string("conv2d")).Set("scale", 16.0);
    return {std::move(node), sequences * (4 * (R / sequences) + 3), kMel, R, kD,
            sequences,       2 * r * 19 * d * (9 * d + d)};
  }
  Node node("log_softmax_topk", dtype);
  node.Norm("norm").Linear("head", kV, kD);
  return {std::move(node), R, kD, R, 10, sequences, 2 * r * d * kV, true};
}

void RunJob(benchmark::State& state, const std::string& op, DType dtype, int64_t R, int threads) {
  const Job job = MakeJob(op, dtype, R);
  const auto kernel = job.node.Create();
  ThreadPool pool(threads);
  CpuStream stream(pool);
  std::vector<float> x(job.in_rows * job.in_width), y(job.out_rows * job.out_width);
  std::vector<int32_t> ids(job.topk ? y.size() : 0);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 2654435761U % 1000) / 500.0F - 1.0F;
  const std::vector<int32_t> lengths(job.sequences, static_cast<int32_t>(job.in_rows / job.sequences));
  const RowSet rows = RowSet::FromLengths(lengths);
  const std::vector<const RowSet*> row_sets = {&rows};
  const std::vector<TensorView> inputs = {{x.data(), DType::kF32, {job.in_rows, job.in_width}}};
  std::vector<TensorView> outputs = {{y.data(), DType::kF32, {job.out_rows, job.out_width}}};
  if (job.topk) outputs.push_back({ids.data(), DType::kS32, {job.out_rows, job.out_width}});
  const StepOptions options;
  KernelContext context{inputs, outputs, row_sets, &options, nullptr, &stream};
  AlignedBuffer workspace = AlignedBuffer::Allocate(kernel->WorkspaceBytes(context)).value();
  context.workspace = workspace.data();
  double best = 1e9;
  for (auto _ : state) {
    const double start = Seconds(threads > 1);
    if (!kernel->Run(context).ok()) return state.SkipWithError("failed");
    best = std::min(best, Seconds(threads > 1) - start);
  }
  state.counters["best_ms"] = best * 1e3;
  state.counters["best_GFLOPs"] = job.flops / best * 1e-9;
  state.counters["best_percent"] = 100 * job.flops / best / threads / ProductPeak(dtype);
}

}  // namespace
}  // namespace ting::bench

int main(int argc, char** argv) {
  using ting::DType;
  std::printf("%s: %.1f GFLOP/s f32, %.1f bf16 on registers\n", ting::bench::Isa().name,
              ting::bench::PeakFlops(false) * 1e-9, ting::bench::PeakFlops(true) * 1e-9);
  benchmark::Initialize(&argc, argv);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kBF16x2, ting::Int16MatrixType()}) {
    for (const char* op : {"feed_forward", "rel_attention", "conv_module", "subsample_conv2d", "log_softmax_topk"}) {
      for (const int64_t R : {1, 16, 104, 832}) {
        for (const int threads : {1, 2}) {
          const std::string name = std::string(op) + "/" + std::string(ting::DTypeName(dtype)) + "/rows" +
                                   std::to_string(R) + "/threads" + std::to_string(threads);
          benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
            ting::bench::RunJob(state, op, dtype, R, threads);
          })->UseRealTime();
        }
      }
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
