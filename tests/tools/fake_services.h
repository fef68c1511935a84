// tests/tools/fake_services.h
// SPDX-License-Identifier: Apache-2.0
//
// The program without a model. A "recording" is a small file that holds its own transcript, one sample a byte, so
// that every way from the command line to the output is real but for audio decoding and recognition.
//   content "bad…"    cannot be read        content "short…"  is read, but cannot be recognised
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "base/mmap_file.h"
#include "base/status_macros.h"
#include "tools/ting/command_line.h"

namespace ting::testing {

// What the fake recognisers of a run were asked, from any lane.
struct FakeLog {
  std::mutex mutex;
  std::vector<int> batch_sizes;
  DecodeOptions last_options;
  double least_ms = 0;  // what recognisers say that the roofline allows of the encoder, a call
  // Recognisers of this device find it gone; the others begin when one of them has.
  std::string lost_device;
  std::condition_variable lost;
  bool is_lost = false;

  size_t num_calls() {
    const std::lock_guard lock(mutex);
    return batch_sizes.size();
  }
};

class FakeRecognizer : public Recognizer {
 public:
  using Recognizer::Recognize;
  explicit FakeRecognizer(FakeLog* log, std::string device = "cpu") : log_(log), device_(std::move(device)) {
    info_.family = "fake conformer";
    info_.num_parameters = 8'700'000;
    info_.vocab_size = 4233;
    info_.source = "fake";
    info_.details = {{"note", "for tests"}};
  }

  const ModelInfo& info() const override { return info_; }
  Result<std::unique_ptr<Recognizer>> Clone() override {
    return std::unique_ptr<Recognizer>(std::make_unique<FakeRecognizer>(log_, device_));
  }

  std::vector<RecognitionResult> Recognize(std::span<const Audio> batch, const DecodeOptions& options,
                                           StageTimes* times) override {
    std::vector<RecognitionResult> results(batch.size());
    {
      std::unique_lock lock(log_->mutex);
      if (device_ == log_->lost_device) {
        log_->is_lost = true;
        log_->lost.notify_all();
        for (RecognitionResult& result : results) result.status = Unavailable("the GPU went away");
        return results;
      }
      log_->lost.wait(lock, [&] { return log_->lost_device.empty() || log_->is_lost; });
      log_->batch_sizes.push_back(static_cast<int>(batch.size()));
      log_->last_options = options;
    }
    if (times != nullptr) times->encoder_ms += 8, times->decoder_ms += 2, times->encoder_least_ms += log_->least_ms;
    for (size_t i = 0; i < batch.size(); ++i) results[i] = RecognizeOne(batch[i], options);
    return results;
  }

  Result<std::vector<float>> Features(const Audio&) override { return Unimplemented("no features in a fake"); }
  Result<std::vector<float>> CtcLogProbs(std::span<const float>, const DecodeOptions&) override {
    return Unimplemented("no log-probabilities in a fake");
  }
  std::vector<NodeProfile> Profile() const override {
    return {{"encoder", "block0/ffn", "feed_forward", "cpu", 10, 30.0},
            {"encoder", "block1/ffn", "feed_forward", "cpu", 10, 30.0},
            {"encoder", "norm", "layer_norm", "ref", 10, 40.0}};
  }
  Result<std::vector<NodeDispatch>> Dispatch() const override { return FakeDispatch(); }
  static std::vector<NodeDispatch> FakeDispatch() {
    return {{"encoder", "block0/ffn", "feed_forward", "cpu.avx2", {"cpu.amx: no AMX here"}},
            {"encoder", "block1/ffn", "feed_forward", "cpu.avx2", {"cpu.amx: no AMX here"}}};
  }
  std::string GraphText() const override { return "graph encoder {}\n"; }

 private:
  static RecognitionResult RecognizeOne(const Audio& audio, const DecodeOptions& options) {
    RecognitionResult result;
    result.audio_s = audio.seconds();
    const std::string text(audio.samples.begin(), audio.samples.end());
    if (text.starts_with("short")) {
      result.status = InvalidArgument("too short: no encoder frame");
      return result;
    }
    for (int i = 0; i < options.nbest; ++i) {
      Hypothesis hypothesis;
      hypothesis.text = text + std::string(i, '?');
      hypothesis.score = -1.0 - 0.25 * i;
      for (const char c : text) {
        const int start_ms = 40 * static_cast<int>(hypothesis.words.size());
        hypothesis.words.push_back({std::string(1, c), start_ms, start_ms + 40, 0.5});
        hypothesis.tokens.push_back({c, std::string(1, c), start_ms / 40, start_ms, start_ms + 40, 0.5});
      }
      result.nbest.push_back(std::move(hypothesis));
    }
    return result;
  }

  ModelInfo info_;
  FakeLog* log_;
  std::string device_;
};

// Sees one kernel, whatever runs.
class FakeTracer : public Tracer {
 public:
  Status Start() override { return {}; }
  Result<std::vector<TraceEvent>> Stop() override { return Events(); }
  static std::vector<TraceEvent> Events() {
    TraceEvent kernel;
    kernel.name = "FfnKernel", kernel.graph = "encoder", kernel.node = "b0.ffn", kernel.op = "feed_forward";
    kernel.implementation = "cuda.fused", kernel.start_ns = 1000, kernel.end_ns = 3000;
    return {kernel};
  }
};

// A folder for the test's files, and the program with its streams.
class ToolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::path(::testing::TempDir()) /
              (std::string("ting_") + test->test_suite_name() + "_" + test->name() + "_" + std::to_string(::getpid()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    services_.load = [this](const std::string& path,
                            const RecognizerOptions& options) -> Result<std::unique_ptr<Recognizer>> {
      load_options_ = options;
      if (path == "missing") return NotFound("no such model");
      return std::unique_ptr<Recognizer>(new FakeRecognizer(&log_));
    };
    services_.load_pool = [this](const std::string& path, const RecognizerOptions& options,
                                 const PoolOptions& pool) -> Result<std::unique_ptr<RecognizerPool>> {
      load_options_ = options, pool_options_ = pool;
      if (path == "missing") return NotFound("no such model");
      const std::vector<std::string> devices =
          options.device == "cuda:0,1" ? std::vector<std::string>{"cuda:0", "cuda:1"} : std::vector{options.device};
      std::vector<RecognizerPool::Lane> lanes;
      for (const std::string& device : devices) {
        for (int i = 0; i < std::max(pool.lanes, 1); ++i) {
          lanes.push_back({std::make_unique<FakeRecognizer>(&log_, device), device, std::max(options.num_threads, 1)});
        }
      }
      return std::make_unique<RecognizerPool>(std::move(lanes));
    };
    services_.read_audio = [this](const std::string& path, const ReadAudioOptions& options) -> Result<Audio> {
      TING_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
      auto audio = Decode(text, options);
      return audio.ok() ? std::move(audio) : Result<Audio>(audio.status().WithContext(path));
    };
    services_.read_audio_bytes = [this](std::span<const std::byte> bytes, const ReadAudioOptions& options) {
      return Decode(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), options);
    };
    services_.benchmark_stages = [](const std::string& model, const RecognizerOptions&,
                                    const StageBenchmarkOptions& options) -> Result<StageReport> {
      if (model != "random:aishell") return NotFound("no model named {}", model);
      StageReport report;
      for (const int batch : options.batches) report.batches.push_back({batch, 5.0 * batch, 0.5 * batch, 0.25 * batch});
      for (const int batch : options.batches) {
        if (options.traced_steps > 0) {
          report.traces.push_back({"encoder", batch, options.traced_steps, FakeTracer::Events()});
        }
      }
      report.dispatch = FakeRecognizer::FakeDispatch();
      return report;
    };
    services_.create_tracer = []() -> Result<std::unique_ptr<Tracer>> {
      return std::unique_ptr<Tracer>(new FakeTracer);
    };
    services_.tune_model = [this](const std::string& model, const RecognizerOptions& options,
                                  const TuneOptions& tune) -> Result<TuneReport> {
      load_options_ = options;
      if (!options.device.starts_with("cuda")) return FailedPrecondition("{} has nothing to tune", options.device);
      for (const int64_t rows : tune.rows) {
        tune.progress({"gemm of " + model, rows, rows > 100 ? "tile 64" : "", 4, 5});
      }
      options.note("a note");
      return TuneReport{"cache.json", static_cast<int>(tune.rows.size()), 1, 2};
    };
    services_.build_engine = [](const std::string& dir, const std::string& path,
                                Precision precision) -> Result<ModelInfo> {
      if (dir == "missing") return NotFound("missing/train.yaml: no such file");
      std::ofstream(path) << "engine of " << dir << (precision == Precision::kBF16 ? " bf16" : " f32");
      ModelInfo info;
      info.precision = precision == Precision::kBF16 ? Precision::kInt16 : precision;
      if (info.precision != precision) info.details = {{"bf16", "becomes int16"}};
      return info;
    };
    services_.in = &in_, services_.out = &out_, services_.err = &err_;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Result<Audio> Decode(const std::string& text, const ReadAudioOptions& options) {
    read_options_ = options;
    if (text.starts_with("bad")) return DataLoss("not audio: no known format");
    return Audio{std::vector<float>(text.begin(), text.end()), 16000};
  }

  // Writes a file below the test's folder; gives its path.
  std::string Write(const std::string& name, const std::string& content) {
    const auto path = folder_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path.string();
  }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  static std::string Read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  // Runs the program with fresh output streams.
  int Ting(const std::vector<std::string>& arguments) {
    out_.str(""), err_.str(""), log_.batch_sizes.clear();
    return tool::RunCommandLine(arguments, services_);
  }

  std::filesystem::path folder_;
  tool::Services services_;
  std::istringstream in_;
  std::ostringstream out_, err_;
  FakeLog log_;                     // its recognisers are gone when Ting returns
  RecognizerOptions load_options_;  // of the last load
  PoolOptions pool_options_;        // of the last pool
  ReadAudioOptions read_options_;   // of the last recording (its reader thread has ended when Ting returns)
};

}  // namespace ting::testing
