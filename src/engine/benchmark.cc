// src/engine/benchmark.cc
// SPDX-License-Identifier: Apache-2.0
#include "ting/benchmark.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <random>
#include <string_view>

#include "base/status_macros.h"
#include "engine/tuning.h"
#include "engine/u2_runner.h"

namespace ting {
namespace {

std::vector<float> RandomFeatures(int64_t count) {
  std::mt19937 random(2);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random()) * 0x1p-29F + 6.0F;  // log-mel: 6 to 14
  return values;
}

TokenTree RandomTree(const StageBenchmarkOptions& options, int batch, const ModelInfo& info, TokenDirection direction) {
  std::mt19937 random(3);
  std::vector<std::vector<int32_t>> tokens(static_cast<size_t>(batch) * options.beam);
  std::vector<TokenLists> lists(batch);
  for (size_t i = 0; i < tokens.size(); ++i) {
    for (int n = 0; n < options.tokens; ++n) {
      tokens[i].push_back(1 + static_cast<int32_t>(random() % (info.vocab_size - 2)));
    }
    lists[i / options.beam].emplace_back(tokens[i]);
  }
  return BuildTokenTree(lists, direction, info.sos_id, info.eos_id);
}

// Milliseconds of one `step` in a row of them; the median of five rows after a warm-up.
Result<double> TimeSteps(Stream& stream, int repetitions, const std::function<Status()>& step) {
  using Clock = std::chrono::steady_clock;
  for (int i = 0; i < 3; ++i) TING_RETURN_IF_ERROR(step());  // plans, records, replays
  std::vector<double> ms;
  for (int run = 0; run < 5; ++run) {
    TING_RETURN_IF_ERROR(stream.Synchronize());
    const auto start = Clock::now();
    for (int i = 0; i < repetitions; ++i) TING_RETURN_IF_ERROR(step());
    TING_RETURN_IF_ERROR(stream.Synchronize());
    ms.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count() / repetitions);
  }
  std::nth_element(ms.begin(), ms.begin() + 2, ms.end());
  return ms[2];
}

using Step = std::function<Status()>;

// The steps of one batch size, each given to a measurement once what it needs is on the device.
class Benchmark {
 public:
  Benchmark(const U2Model& model, Device& device, U2Runner& runner, const StageBenchmarkOptions& options, int batch)
      : model_(model), device_(device), runner_(runner), options_(options), batch_(batch) {}

  using Measure = std::function<Status(const char* stage, const Step& step)>;
  Status Run(const Measure& measure) {
    const RowSet rows = RowSet::FromLengths(std::vector<int32_t>(batch_, options_.frames));
    TING_RETURN_IF_ERROR(MakeFeatures(rows));
    StepOutput encoder;
    TING_RETURN_IF_ERROR(measure("encoder", [&]() -> Status {
      const int k = std::min(options_.beam, model_.info.vocab_size);
      TING_ASSIGN_OR_RETURN(const EncodedTopK encoded, runner_.EncodeTopK(Features(), /*on_host=*/false, rows, k, {}));
      encoder = encoded.encoder;
      return Status();
    }));
    if (model_.info.left_decoder_layers == 0) return Status();
    TING_RETURN_IF_ERROR(RunDecoder(DecoderSide::kLeft, TokenDirection::kLeftToRight, encoder, measure));
    if (model_.info.right_decoder_layers == 0) return Status();
    return RunDecoder(DecoderSide::kRight, TokenDirection::kRightToLeft, encoder, measure);
  }

 private:
  Status MakeFeatures(const RowSet& rows) {
    const int64_t padded = device_.PadRows(rows.num_rows()) * model_.info.num_mel_bins;
    host_ = RandomFeatures(padded);
    if (device_.uses_host_memory()) return Status();
    TING_ASSIGN_OR_RETURN(features_, device_.Allocate(host_.size() * sizeof(float)));
    TING_RETURN_IF_ERROR(runner_.stream().CopyToDevice(features_->data(), host_.data(), host_.size() * sizeof(float)));
    return runner_.stream().Synchronize();
  }
  const float* Features() const { return features_ ? reinterpret_cast<const float*>(features_->data()) : host_.data(); }
  Status RunDecoder(DecoderSide side, TokenDirection direction, const StepOutput& encoder, const Measure& measure) {
    const TokenTree tree = RandomTree(options_, batch_, model_.info, direction);
    return measure(side == DecoderSide::kLeft ? "left decoder" : "right decoder",
                   [&] { return runner_.QueueScore(side, encoder, tree); });
  }

  const U2Model& model_;
  Device& device_;
  U2Runner& runner_;
  const StageBenchmarkOptions& options_;
  int batch_;
  std::vector<float> host_;
  std::unique_ptr<DeviceBuffer> features_;
};

Status TimeBatch(Benchmark& benchmark, U2Runner& runner, int repetitions, StageBenchmark& result) {
  return benchmark.Run([&](const char* stage, const Step& step) -> Status {
    TING_ASSIGN_OR_RETURN(const double ms, TimeSteps(runner.stream(), repetitions, step));
    (stage == std::string_view("encoder") ? result.encoder_ms : result.decoder_ms) += ms;
    return Status();
  });
}

// By one step of each stage, on a runner that counts.
Status CountBatch(Benchmark& benchmark, U2Runner& runner, StageBenchmark& result) {
  const RunnerWork before = runner.work();
  TING_RETURN_IF_ERROR(benchmark.Run([](const char*, const Step& step) { return step(); }));
  TING_RETURN_IF_ERROR(runner.stream().Synchronize());
  const RunnerWork after = runner.work();
  result.encoder_flops = after.encoder.flops - before.encoder.flops;
  result.decoder_flops = after.decoder.flops - before.decoder.flops;
  result.encoder_least_ms = (after.encoder.least_s - before.encoder.least_s) * 1e3;
  result.decoder_least_ms = (after.decoder.least_s - before.decoder.least_s) * 1e3;
  return Status();
}

Status TraceBatch(Benchmark& benchmark, U2Runner& runner, Tracer& tracer, const StageTrace& of,
                  std::vector<StageTrace>& traces) {
  return benchmark.Run([&](const char* stage, const Step& step) -> Status {
    for (int i = 0; i < 3; ++i) TING_RETURN_IF_ERROR(step());  // plans, records, replays
    TING_RETURN_IF_ERROR(runner.stream().Synchronize());
    TING_RETURN_IF_ERROR(tracer.Start());
    for (int i = 0; i < of.steps; ++i) TING_RETURN_IF_ERROR(step());
    TING_RETURN_IF_ERROR(runner.stream().Synchronize());
    TING_ASSIGN_OR_RETURN(auto events, tracer.Stop());
    traces.push_back({stage, of.batch, of.steps, std::move(events)});
    return Status();
  });
}

// After all timing, and on a runner of its own: steps that were recorded before have no names in a trace.
Status TraceStages(const U2Model& model, Device& device, const StageBenchmarkOptions& options, StageReport& report) {
  TING_ASSIGN_OR_RETURN(const std::unique_ptr<Tracer> tracer, Tracer::Create());
  TING_ASSIGN_OR_RETURN(const std::unique_ptr<U2Runner> runner, U2Runner::Create(model, device, {}));
  for (const int batch : options.batches) {
    Benchmark benchmark(model, device, *runner, options, batch);
    TING_RETURN_IF_ERROR(TraceBatch(benchmark, *runner, *tracer, {"", batch, options.traced_steps, {}}, report.traces));
  }
  return Status();
}

}  // namespace

Result<StageReport> BenchmarkStages(const std::string& path, const RecognizerOptions& options,
                                    const StageBenchmarkOptions& benchmark) {
  TING_ASSIGN_OR_RETURN(const U2Model model, LoadU2ModelFor(options, path));
  ThreadPool pool(options.num_threads);
  TING_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, CreateDevice(options, model.info.precision, pool));
  LoadTuning(model, options, *device);
  TING_ASSIGN_OR_RETURN(const std::unique_ptr<U2Runner> runner, U2Runner::Create(model, *device, {options.profile}));
  StageReport report;
  TING_ASSIGN_OR_RETURN(report.dispatch, runner->Dispatch());
  for (const int batch : benchmark.batches) {
    StageBenchmark result{batch, batch * benchmark.frames * model.info.frame_shift_ms / 1e3};
    Benchmark steps(model, *device, *runner, benchmark, batch);
    TING_RETURN_IF_ERROR(TimeBatch(steps, *runner, benchmark.repetitions, result));
    report.batches.push_back(result);
  }
  runner->EnableWorkCount();  // after all timing: counting takes the host's time
  for (StageBenchmark& result : report.batches) {
    Benchmark steps(model, *device, *runner, benchmark, result.batch);
    if (device->peaks()) TING_RETURN_IF_ERROR(CountBatch(steps, *runner, result));
  }
  if (benchmark.traced_steps > 0) TING_RETURN_IF_ERROR(TraceStages(model, *device, benchmark, report));
  return report;
}

}  // namespace ting
