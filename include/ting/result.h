// include/ting/result.h
// SPDX-License-Identifier: Apache-2.0
//
// What recognition returns.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ting/status.h"

namespace ting {

// One unit of the model's vocabulary in a hypothesis.
struct TokenSpan {
  int32_t id = 0;
  std::string text;        // as in the unit file; "▁" marks a word start in BPE models
  int32_t peak_frame = 0;  // encoder frame in which CTC placed the token
  int32_t start_ms = 0;    // from the start of the audio
  int32_t end_ms = 0;
  double confidence = 0;  // 0 to 1; rescoring: probability of the token under the decoder(s)
};

// A word: a run of BPE pieces, a run of ASCII characters, or one CJK character.
struct WordSpan {
  std::string text;
  int32_t start_ms = 0;
  int32_t end_ms = 0;
  double confidence = 0;
};

struct Hypothesis {
  std::string text;
  // In the mode's own measure, log base e, higher is better: greedy: sum of the best log-probabilities;
  // prefix beam: log of the sum over alignments; attention: length-normalised decoder score;
  // rescoring: attention + ctc_weight * CTC.
  double score = 0;
  double ctc_score = 0;        // prefix beam and rescoring
  double attention_score = 0;  // attention and rescoring
  double confidence = 0;       // exp(attention score / (tokens + 1)) in rescoring
  std::vector<TokenSpan> tokens;
  std::vector<WordSpan> words;
};

struct RecognitionResult {
  Status status;  // of this utterance alone; the others of its batch are not affected
  double audio_s = 0;
  std::vector<Hypothesis> nbest;  // best first; never empty when status is OK (the text may be)
};

// Wall time of each stage of a call, summed over its utterances.
struct StageTimes {
  double frontend_ms = 0;  // samples to features
  double encoder_ms = 0;   // features to encoder output, CTC head included
  double search_ms = 0;    // CTC search
  double decoder_ms = 0;   // attention decoder: rescoring or attention search
  double text_ms = 0;      // tokens to text, words and times
  // The least that the device's roofline allows for the same work: arithmetic and memory at their peaks. Counted where
  // RecognizerOptions::count_work asks for it, 0 where the device's peaks are not known.
  double frontend_least_ms = 0, encoder_least_ms = 0, search_least_ms = 0, decoder_least_ms = 0;
  double total_ms() const { return frontend_ms + encoder_ms + search_ms + decoder_ms + text_ms; }
  double total_least_ms() const { return frontend_least_ms + encoder_least_ms + search_least_ms + decoder_least_ms; }
  StageTimes& operator+=(const StageTimes& o) {
    frontend_ms += o.frontend_ms, encoder_ms += o.encoder_ms, search_ms += o.search_ms;
    decoder_ms += o.decoder_ms, text_ms += o.text_ms;
    frontend_least_ms += o.frontend_least_ms, encoder_least_ms += o.encoder_least_ms;
    search_least_ms += o.search_least_ms, decoder_least_ms += o.decoder_least_ms;
    return *this;
  }
};

}  // namespace ting
