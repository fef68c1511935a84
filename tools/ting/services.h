// tools/ting/services.h
// SPDX-License-Identifier: Apache-2.0
//
// What the sub-commands need from outside: the library's entry points and the three standard streams. main.cc
// fills it with the real ones; the tests put a fake recogniser and string streams here, so that every path of the
// program runs without a model.
#pragma once

#include <cstddef>
#include <functional>
#include <istream>
#include <memory>
#include <ostream>
#include <span>
#include <string>

#include "ting/benchmark.h"
#include "ting/recognizer.h"
#include "ting/recognizer_pool.h"
#include "ting/tuning.h"

namespace ting::tool {

struct Services {
  std::function<Result<std::unique_ptr<Recognizer>>(const std::string& path, const RecognizerOptions& options)> load;
  std::function<Result<std::unique_ptr<RecognizerPool>>(const std::string& path, const RecognizerOptions& options,
                                                        const PoolOptions& pool)>
      load_pool;
  std::function<Result<Audio>(const std::string& path, const ReadAudioOptions& options)> read_audio;
  std::function<Result<Audio>(std::span<const std::byte> bytes, const ReadAudioOptions& options)> read_audio_bytes;
  std::function<Result<ModelInfo>(const std::string& model_dir, const std::string& engine_path, Precision precision)>
      build_engine;
  std::function<Result<StageReport>(const std::string& model, const RecognizerOptions& options,
                                    const StageBenchmarkOptions& benchmark)>
      benchmark_stages;
  std::function<Result<TuneReport>(const std::string& model, const RecognizerOptions& options, const TuneOptions& tune)>
      tune_model;
  std::function<Result<std::unique_ptr<Tracer>>()> create_tracer;
  std::istream* in = nullptr;
  std::ostream* out = nullptr;
  std::ostream* err = nullptr;
  bool err_is_terminal = false;  // draw a progress bar?
  // A long run calls catch_interrupt once, then asks `interrupted` between batches.
  std::function<void()> catch_interrupt = [] {};
  std::function<bool()> interrupted = [] { return false; };
};

}  // namespace ting::tool
