// src/engine/benchmark.cc
// SPDX-License-Identifier: Apache-2.0
#include "ting/benchmark.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <random>

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

class Benchmark {
 public:
  Benchmark(const U2Model& model, Device& device, U2Runner& runner, const StageBenchmarkOptions& options)
      : model_(model), device_(device), runner_(runner), options_(options) {}

  Result<StageBenchmark> Run(int batch) {
    StageBenchmark result{batch, 0, 0};
    const RowSet rows = RowSet::FromLengths(std::vector<int32_t>(batch, options_.frames));
    TING_RETURN_IF_ERROR(MakeFeatures(rows));
    StepOutput encoder;
    const auto encode = [&]() -> Status {
      TING_ASSIGN_OR_RETURN(encoder, runner_.Encode(Features(), /*on_host=*/false, rows, {}));
      return runner_.CtcTopK(encoder, std::min(options_.beam, model_.info.vocab_size), {}).status();
    };
    TING_ASSIGN_OR_RETURN(result.encoder_ms, TimeSteps(runner_.stream(), options_.repetitions, encode));
    if (model_.info.left_decoder_layers == 0) return result;
    TING_ASSIGN_OR_RETURN(double ms, TimeDecoder(DecoderSide::kLeft, TokenDirection::kLeftToRight, batch, encoder));
    result.decoder_ms = ms;
    if (model_.info.right_decoder_layers == 0) return result;
    TING_ASSIGN_OR_RETURN(ms, TimeDecoder(DecoderSide::kRight, TokenDirection::kRightToLeft, batch, encoder));
    result.decoder_ms += ms;
    return result;
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
  Result<double> TimeDecoder(DecoderSide side, TokenDirection direction, int batch, const StepOutput& encoder) {
    const TokenTree tree = RandomTree(options_, batch, model_.info, direction);
    return TimeSteps(runner_.stream(), options_.repetitions, [&]() -> Status {
      TING_RETURN_IF_ERROR(runner_.PrepareDecoder(side, encoder));
      return runner_.QueueScore(side, tree);
    });
  }

  const U2Model& model_;
  Device& device_;
  U2Runner& runner_;
  const StageBenchmarkOptions& options_;
  std::vector<float> host_;
  std::unique_ptr<DeviceBuffer> features_;
};

}  // namespace

Result<std::vector<StageBenchmark>> BenchmarkStages(const std::string& path, const RecognizerOptions& options,
                                                    const StageBenchmarkOptions& benchmark) {
  TING_ASSIGN_OR_RETURN(const U2Model model, LoadU2ModelFor(options.device, path, options.precision));
  ThreadPool pool(options.num_threads);
  TING_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, CreateDevice(options, model.info.precision, pool));
  LoadTuning(model, options, *device);
  TING_ASSIGN_OR_RETURN(const std::unique_ptr<U2Runner> runner, U2Runner::Create(model, *device, options.profile));
  std::vector<StageBenchmark> results;
  for (const int batch : benchmark.batches) {
    TING_ASSIGN_OR_RETURN(const StageBenchmark result, Benchmark(model, *device, *runner, benchmark).Run(batch));
    results.push_back(result);
  }
  return results;
}

}  // namespace ting
