// bench/kernels/gemm_bench.cc
// SPDX-License-Identifier: Apache-2.0
//
// The packed product alone, one thread, on the shapes of a 46 M parameter conformer, in percent of the multiply-add
// rate that this process measures on registers; oneDNN's matmul with pre-packed weights beside it.
//   gemm_bench --benchmark_min_time=0.3       TING_CPU_ISA=avx2 gemm_bench
// Rows are cut into tiles of at most 56 as the kernels do. "best" is the fastest single call: on a shared machine
// the mean says more about the neighbours.
#include <benchmark/benchmark.h>
#if defined(TING_HAS_ONEDNN)
#include <omp.h>
#endif

#include <vector>

#include "base/aligned_buffer.h"
#include "bench/kernels/machine.h"
#include "bench/kernels/onednn_gemm.h"
#include "kernels/cpu/rows_job.h"

namespace ting::bench {
namespace {

struct Shape {
  int64_t R, K, N;
};

void Report(benchmark::State& state, const Shape& shape, DType dtype, double best_s) {
  const double flops = 2.0 * shape.R * shape.K * shape.N;
  state.counters["best_GFLOPs"] = flops / best_s * 1e-9;
  state.counters["best_percent"] = 100 * flops / best_s / ProductPeak(dtype);
}

template <typename Body>
void Time(benchmark::State& state, const Shape& shape, DType dtype, Body body) {
  double best = 1e9;
  for (auto _ : state) {
    const double start = Seconds();
    body();
    best = std::min(best, Seconds() - start);
  }
  Report(state, shape, dtype, best);
}

void Ours(benchmark::State& state, Shape shape, DType dtype) {
  const cpu::IsaTable& isa = Isa();
  std::vector<float> weights(shape.N * shape.K, 0.01F);
  auto matrix = cpu::PackedMatrix::CreateFromRows(weights.data(), nullptr, shape.N, shape.K, dtype, isa);
  AlignedBuffer a = AlignedBuffer::Allocate(shape.R * matrix->row_bytes()).value();
  AlignedBuffer c = AlignedBuffer::Allocate(shape.R * shape.N * sizeof(float)).value();
  std::memset(a.data(), 0, a.size());
  const cpu::RowTiles tiles = cpu::SplitRows(shape.R, 1, isa, matrix->mode());
  Time(state, shape, dtype, [&] {
    for (int64_t tile = 0; tile < tiles.tiles; ++tile) {
      const int64_t first = tiles.begin(tile);
      cpu::GemmArgs g = matrix->Product(a.data() + first * matrix->row_bytes(), matrix->row_bytes(), tiles.size(tile));
      g.c = c.data() + first * shape.N * 4, g.c_row_bytes = shape.N * 4;
      isa.gemm(g);
    }
  });
}

#if defined(TING_HAS_ONEDNN)
void OneDnn(benchmark::State& state, Shape shape, DType dtype) {
  const auto run = MakeOneDnnGemm(shape.R, shape.K, shape.N, dtype == DType::kBF16);
  if (!run) return state.SkipWithError("oneDNN has no such product on this machine");
  Time(state, shape, dtype, run);
}
#endif

void Register() {
  const std::pair<int64_t, int64_t> widths[] = {{256, 2048}, {2048, 256}, {256, 768},  {256, 256},
                                                {256, 512},  {256, 4233}, {4864, 256}, {2304, 256}};
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kBF16x2, Int16MatrixType()}) {
    if (dtype == DType::kBF16 && !Isa().bf16_products) continue;
    if (dtype == DType::kBF16x2 && !Isa().bf16_tiles) continue;
    if (HasFactors(dtype) && !Isa().s16_products) continue;
    for (const int64_t R : {104, 832}) {
      for (const auto& [K, N] : widths) {
        const Shape shape{R, K, N};
        const std::string name =
            std::string(DTypeName(dtype)) + "/" + std::to_string(R) + "x" + std::to_string(K) + "x" + std::to_string(N);
        benchmark::RegisterBenchmark(("ting/" + name).c_str(), Ours, shape, dtype);
#if defined(TING_HAS_ONEDNN)
        if (dtype == DType::kBF16x2 || HasFactors(dtype)) continue;
        benchmark::RegisterBenchmark(("onednn/" + name).c_str(), OneDnn, shape, dtype);
#endif
      }
    }
  }
}

}  // namespace
}  // namespace ting::bench

int main(int argc, char** argv) {
  std::printf("%s: %.1f GFLOP/s f32, %.1f bf16 on registers\n", ting::bench::Isa().name,
              ting::bench::PeakFlops(false) * 1e-9, ting::bench::PeakFlops(true) * 1e-9);
#if defined(TING_HAS_ONEDNN)
  omp_set_num_threads(1);
#endif
  benchmark::Initialize(&argc, argv);
  ting::bench::Register();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
