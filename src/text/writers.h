// src/text/writers.h
// SPDX-License-Identifier: Apache-2.0
//
// Recognition results as files. Pure functions from (key, result) to bytes: nothing is opened or printed here, so a
// caller may write results in any order and from any thread.
//   text   the best text, one line
//   kaldi  "key text", one line: the format of WeNet's and Kaldi's text files
//   jsonl  one object a line: key, text, times, every hypothesis with its scores, tokens and words; failures as well
//   srt    SubRip subtitles           vtt   WebVTT subtitles          ctm   NIST: "key 1 start duration word conf"
// A result whose status is not OK writes nothing except in jsonl ("error"): the caller reports it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "ting/result.h"
#include "ting/status.h"

namespace ting {

enum class ResultFormat { kText, kKaldi, kJsonl, kSrt, kVtt, kCtm };

// From its name above; the error lists the names.
Result<ResultFormat> ParseResultFormat(std::string_view name);

// Subtitles (text/cues.h has the rule).
struct WriterOptions {
  int32_t max_cue_columns = 42;  // display columns; a CJK character has two
  int32_t max_cue_ms = 7000;
  int32_t pause_ms = 800;  // silence between two words that always ends a cue
  int32_t hold_ms = 300;   // a cue stays this long after its last word, if the next one lets it
};

class ResultWriter {
 public:
  virtual ~ResultWriter() = default;

  // What precedes the first result of a file ("WEBVTT"), often nothing.
  virtual std::string Header() const { return {}; }
  // The bytes of one result, with the line break that ends it.
  virtual std::string Write(std::string_view key, const RecognitionResult& result) const = 0;
  // How `key` stands in the file, for a reader that looks for it: kaldi and ctm have '_' for white space, jsonl has
  // U+FFFD for bytes that are not UTF-8.
  virtual std::string WrittenKey(std::string_view key) const { return std::string(key); }
  // Whether every result needs a file of its own, since its times count from the start of that recording (srt, vtt).
  virtual bool one_file_per_result() const { return false; }
  // Whether the format is of use only if words have times (srt, vtt, ctm). Without them (attention search) srt and vtt
  // have one cue over the whole recording, and ctm has zeros.
  virtual bool needs_times() const { return false; }
  virtual std::string_view extension() const = 0;  // without the dot
};

std::unique_ptr<ResultWriter> MakeResultWriter(ResultFormat format, const WriterOptions& options = {});

}  // namespace ting
