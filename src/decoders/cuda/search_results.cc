// src/decoders/cuda/search_results.cc
// SPDX-License-Identifier: Apache-2.0
#include "decoders/cuda/search_results.h"

#include <cmath>

#include "base/status_macros.h"

namespace ting::cuda_ctc {
namespace {

Status CheckSequence(const SequenceHeader& sequence, int index) {
  if (sequence.num_hypotheses < 0) {
    return InvalidArgument("CTC search: the rows of sequence {} are outside those that were reserved", index);
  }
  if (sequence.refused_frame >= 0) {
    return InvalidArgument(
        "prefix beam search: a negative symbol, or a log-probability that is NaN or +inf, in frame {} of sequence {}; "
        "check the model",
        sequence.refused_frame, index);
  }
  return {};
}

PrefixHypothesis ReadHypothesis(const SearchOutput& output, const HypothesisHeader& header, int64_t begin) {
  PrefixHypothesis hypothesis;
  hypothesis.tokens.assign(output.tokens + begin, output.tokens + begin + header.num_tokens);
  hypothesis.times.assign(output.times + begin, output.times + begin + header.num_times);
  hypothesis.score = header.score;
  hypothesis.viterbi_score = header.viterbi_score;
  hypothesis.blank_score = header.blank_score;
  hypothesis.token_score = header.token_score;
  return hypothesis;
}

}  // namespace

Result<std::vector<std::vector<PrefixHypothesis>>> ReadPrefixHypotheses(const SearchOutput& output, int num_sequences,
                                                                        int beam) {
  std::vector<std::vector<PrefixHypothesis>> all(num_sequences);
  for (int b = 0; b < num_sequences; ++b) {
    const SequenceHeader& sequence = output.sequences[b];
    TING_RETURN_IF_ERROR(CheckSequence(sequence, b));
    for (int h = 0; h < sequence.num_hypotheses; ++h) {
      const int64_t begin = int64_t{sequence.first_row} * beam + int64_t{h} * sequence.num_frames;
      all[b].push_back(ReadHypothesis(output, output.hypotheses[int64_t{b} * beam + h], begin));
    }
  }
  return all;
}

Result<std::vector<GreedyResult>> ReadGreedyResults(const SearchOutput& output, int num_sequences) {
  std::vector<GreedyResult> all(num_sequences);
  for (int b = 0; b < num_sequences; ++b) {
    const SequenceHeader& sequence = output.sequences[b];
    TING_RETURN_IF_ERROR(CheckSequence(sequence, b));
    const int32_t count = output.hypotheses[b].num_tokens;
    const int32_t* tokens = output.tokens + sequence.first_row;
    const int32_t* times = output.times + sequence.first_row;
    all[b].tokens.assign(tokens, tokens + count);
    all[b].times.assign(times, times + count);
    all[b].score = output.hypotheses[b].score;
    for (int32_t i = 0; i < count; ++i) {
      all[b].confidences.push_back(std::exp(static_cast<double>(output.peaks[sequence.first_row + i])));
    }
  }
  return all;
}

}  // namespace ting::cuda_ctc
