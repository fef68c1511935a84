// src/text/writers.cc
// SPDX-License-Identifier: Apache-2.0
#include "text/writers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/status_macros.h"
#include "text/cues.h"

namespace ting {
namespace {

using Json = nlohmann::ordered_json;

const Hypothesis& Best(const RecognitionResult& result) {
  static const Hypothesis empty;
  return result.nbest.empty() ? empty : result.nbest.front();
}

// Formats of lines and fields have no escapes: what would end a line becomes a space, and what would end a key '_'.
std::string OneLine(std::string_view text) {
  std::string line(text);
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return line;
}

std::string OneField(std::string_view text) {
  std::string field(text);
  std::replace_if(
      field.begin(), field.end(), [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }, '_');
  return field;
}

class TextWriter : public ResultWriter {
 public:
  std::string Write(std::string_view, const RecognitionResult& result) const override {
    return result.status.ok() ? OneLine(Best(result).text) + "\n" : "";
  }
  std::string_view extension() const override { return "txt"; }
};

class KaldiWriter : public ResultWriter {
 public:
  // Also an empty text is followed by its space, as in the files that WeNet writes.
  std::string Write(std::string_view key, const RecognitionResult& result) const override {
    return result.status.ok() ? WrittenKey(key) + " " + OneLine(Best(result).text) + "\n" : "";
  }
  std::string WrittenKey(std::string_view key) const override { return OneField(key); }
  std::string_view extension() const override { return "txt"; }
};

Json ToJson(const TokenSpan& token) {
  return {{"text", token.text},
          {"id", token.id},
          {"start_ms", token.start_ms},
          {"end_ms", token.end_ms},
          {"peak_frame", token.peak_frame},
          {"confidence", token.confidence}};
}

Json ToJson(const WordSpan& word) {
  return {{"text", word.text}, {"start_ms", word.start_ms}, {"end_ms", word.end_ms}, {"confidence", word.confidence}};
}

Json ToJson(const Hypothesis& hypothesis) {
  Json json = {{"text", hypothesis.text},
               {"score", hypothesis.score},
               {"ctc_score", hypothesis.ctc_score},
               {"attention_score", hypothesis.attention_score},
               {"confidence", hypothesis.confidence},
               {"words", Json::array()},
               {"tokens", Json::array()}};
  for (const WordSpan& word : hypothesis.words) json["words"].push_back(ToJson(word));
  for (const TokenSpan& token : hypothesis.tokens) json["tokens"].push_back(ToJson(token));
  return json;
}

// Numbers that JSON has not (a score of minus infinity) become null, bytes that are not UTF-8 (in a file name) U+FFFD.
class JsonLinesWriter : public ResultWriter {
 public:
  std::string Write(std::string_view key, const RecognitionResult& result) const override {
    Json json = {{"key", std::string(key)}, {"audio_s", result.audio_s}};
    if (result.status.ok()) {
      json["text"] = Best(result).text;
      json["nbest"] = Json::array();
      for (const Hypothesis& hypothesis : result.nbest) json["nbest"].push_back(ToJson(hypothesis));
    } else {
      json["error"] = {{"code", StatusCodeName(result.status.code())}, {"message", result.status.message()}};
    }
    return Dump(json) + "\n";
  }
  std::string WrittenKey(std::string_view key) const override {
    return Json::parse(Dump(Json(std::string(key)))).get<std::string>();
  }
  std::string_view extension() const override { return "jsonl"; }

 private:
  static std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }
};

// The cues of the best hypothesis; without times one cue over the whole recording.
std::vector<Cue> CuesOf(const RecognitionResult& result, const WriterOptions& options) {
  const Hypothesis& best = Best(result);
  const auto audio_ms = static_cast<int32_t>(std::lround(result.audio_s * 1000));
  if (!result.status.ok() || best.text.empty()) return {};
  const bool timed =
      std::any_of(best.words.begin(), best.words.end(), [](const auto& word) { return word.end_ms > 0; });
  if (!timed) return {{0, std::max(audio_ms, 1), best.text}};
  return MakeCues(best.words, audio_ms, options);
}

std::string ClockTime(int32_t ms, char separator) {
  return fmt::format("{:02}:{:02}:{:02}{}{:03}", ms / 3600000, ms / 60000 % 60, ms / 1000 % 60, separator, ms % 1000);
}

class SrtWriter : public ResultWriter {
 public:
  explicit SrtWriter(const WriterOptions& options) : options_(options) {}
  std::string Write(std::string_view, const RecognitionResult& result) const override {
    std::string out;
    int64_t number = 0;
    for (const Cue& cue : CuesOf(result, options_)) {
      out += fmt::format("{}\n{} --> {}\n{}\n\n", ++number, ClockTime(cue.start_ms, ','), ClockTime(cue.end_ms, ','),
                         OneLine(cue.text));
    }
    return out;
  }
  bool one_file_per_result() const override { return true; }
  bool needs_times() const override { return true; }
  std::string_view extension() const override { return "srt"; }

 private:
  WriterOptions options_;
};

std::string EscapeMarkup(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

class VttWriter : public ResultWriter {
 public:
  explicit VttWriter(const WriterOptions& options) : options_(options) {}
  std::string Header() const override { return "WEBVTT\n\n"; }
  std::string Write(std::string_view, const RecognitionResult& result) const override {
    std::string out;
    for (const Cue& cue : CuesOf(result, options_)) {
      out += fmt::format("{} --> {}\n{}\n\n", ClockTime(cue.start_ms, '.'), ClockTime(cue.end_ms, '.'),
                         EscapeMarkup(OneLine(cue.text)));
    }
    return out;
  }
  bool one_file_per_result() const override { return true; }
  bool needs_times() const override { return true; }
  std::string_view extension() const override { return "vtt"; }

 private:
  WriterOptions options_;
};

// Seconds with three decimals: times are whole milliseconds, and stay exact.
class CtmWriter : public ResultWriter {
 public:
  std::string Write(std::string_view key, const RecognitionResult& result) const override {
    std::string out;
    if (!result.status.ok()) return out;
    for (const WordSpan& word : Best(result).words) {
      out += fmt::format("{} 1 {:.3f} {:.3f} {} {:.3f}\n", WrittenKey(key), word.start_ms / 1000.0,
                         (word.end_ms - word.start_ms) / 1000.0, OneField(word.text), word.confidence);
    }
    return out;
  }
  std::string WrittenKey(std::string_view key) const override { return OneField(key); }
  bool needs_times() const override { return true; }
  std::string_view extension() const override { return "ctm"; }
};

constexpr std::array<std::pair<std::string_view, ResultFormat>, 6> kFormats = {{{"text", ResultFormat::kText},
                                                                                {"kaldi", ResultFormat::kKaldi},
                                                                                {"jsonl", ResultFormat::kJsonl},
                                                                                {"srt", ResultFormat::kSrt},
                                                                                {"vtt", ResultFormat::kVtt},
                                                                                {"ctm", ResultFormat::kCtm}}};

}  // namespace

Result<ResultFormat> ParseResultFormat(std::string_view name) {
  for (const auto& [known, format] : kFormats) {
    if (name == known) return format;
  }
  return InvalidArgument("unknown format \"{}\"; use text, kaldi, jsonl, srt, vtt or ctm", name);
}

std::unique_ptr<ResultWriter> MakeResultWriter(ResultFormat format, const WriterOptions& options) {
  switch (format) {
    case ResultFormat::kText:
      return std::make_unique<TextWriter>();
    case ResultFormat::kKaldi:
      return std::make_unique<KaldiWriter>();
    case ResultFormat::kJsonl:
      return std::make_unique<JsonLinesWriter>();
    case ResultFormat::kSrt:
      return std::make_unique<SrtWriter>(options);
    case ResultFormat::kVtt:
      return std::make_unique<VttWriter>(options);
    case ResultFormat::kCtm:
      return std::make_unique<CtmWriter>();
  }
  return nullptr;
}

}  // namespace ting
