// include/ting/benchmark.h
// SPDX-License-Identifier: Apache-2.0
//
// Times of a model's stages without audio: the encoder with its CTC head on features of a given length, the attention
// decoder on hypotheses of a given length. Values are random; dense arithmetic takes as long as on speech.
#pragma once

#include <string>
#include <vector>

#include "ting/options.h"
#include "ting/recognizer.h"
#include "ting/status.h"
#include "ting/trace.h"

namespace ting {

struct StageBenchmarkOptions {
  std::vector<int> batches = {1, 8, 16, 64};
  int frames = 500;  // feature frames of an utterance: 5 s
  int beam = 10;     // symbols a frame of the CTC head, and hypotheses an utterance
  int tokens = 16;   // of a hypothesis; hypotheses share no beginnings
  int repetitions = 50;
  int traced_steps = 0;  // GPU: of every stage and batch, after all are timed; see StageTrace
};

struct StageBenchmark {
  int batch = 0;
  double audio_s = 0;  // that the features stand for
  // Of one step, when steps follow one another without a pause: the median of several such runs.
  double encoder_ms = 0;  // features in the device's memory to the best symbols of every frame
  double decoder_ms =
      0;  // tokens on the host to their log-probabilities on the device; both decoders where there are two
  // What a step asks for, and the least time that the device's roofline allows for it (0: its peaks are not known).
  double encoder_least_ms = 0, decoder_least_ms = 0;
  double encoder_flops = 0, decoder_flops = 0;
};

struct StageTrace {
  std::string stage;  // "encoder", "left decoder"
  int batch = 0, steps = 0;
  std::vector<TraceEvent> events;
};

struct StageReport {
  std::vector<StageBenchmark> batches;
  std::vector<StageTrace> traces;
  std::vector<NodeDispatch> dispatch;  // as Recognizer::Dispatch
};

// `model`: as Recognizer::Load takes it; "random:aishell" or "random:u2pp" is that architecture (12 blocks of width
// 256, 4,233 symbols) with random weights.
Result<StageReport> BenchmarkStages(const std::string& model, const RecognizerOptions& options,
                                    const StageBenchmarkOptions& benchmark);

}  // namespace ting
