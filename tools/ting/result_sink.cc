// tools/ting/result_sink.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/result_sink.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/mmap_file.h"
#include "base/status_macros.h"
#include "tools/ting/text_lines.h"

namespace ting::tool {
namespace {

namespace fs = std::filesystem;

// What a failure leaves in a file.
std::string FailureText(ResultFormat format, const ResultWriter& writer, const std::string& key,
                        const Status& failure) {
  if (format == ResultFormat::kText) return "\n";
  RecognitionResult result;
  result.status = failure;
  return writer.Write(key, result);
}

class StreamSink : public ResultSink {
 public:
  // `name` is for messages. `file`, if open, is where results go; otherwise `out`.
  StreamSink(const SinkOptions& options, std::ofstream file, std::ostream* out)
      : options_(options),
        name_(options.path.empty() ? "standard output" : options.path),
        writer_(MakeResultWriter(options.format)),
        file_(std::move(file)),
        out_(file_.is_open() ? &file_ : out) {}

  void SetDone(std::unordered_set<std::string> done) { done_ = std::move(done); }

  bool IsDone(const std::string& key) const override { return done_.contains(key); }
  Status Write(const std::string& key, const RecognitionResult& result) override {
    return Put(writer_->Write(key, result));
  }
  Status WriteFailure(const std::string& key, const Status& failure) override {
    return Put(FailureText(options_.format, *writer_, key, failure));
  }

 private:
  Status Put(const std::string& text) {
    if (!std::exchange(header_written_, true)) *out_ << writer_->Header();
    out_->write(text.data(), static_cast<std::streamsize>(text.size())).flush();
    if (out_->good()) return {};
    return Status(StatusCode::kUnavailable, name_ + ": writing failed; is the disk full or the reader gone?");
  }

  const SinkOptions options_;
  const std::string name_;
  const std::unique_ptr<ResultWriter> writer_;
  std::ofstream file_;
  std::ostream* const out_;
  bool header_written_ = false;
  std::unordered_set<std::string> done_;
};

class FolderSink : public ResultSink {
 public:
  explicit FolderSink(const SinkOptions& options) : options_(options), writer_(MakeResultWriter(options.format)) {}

  bool IsDone(const std::string& key) const override {
    std::error_code ignored;
    return options_.resume && fs::exists(PathOf(key), ignored);
  }

  Status Write(const std::string& key, const RecognitionResult& result) override {
    return WriteWhole(key, writer_->Header() + writer_->Write(key, result));
  }
  Status WriteFailure(const std::string& key, const Status& failure) override {
    if (options_.format != ResultFormat::kJsonl) return {};  // no file: nothing that looks like a result
    return WriteWhole(key, FailureText(options_.format, *writer_, key, failure));
  }

 private:
  Status WriteWhole(const std::string& key, const std::string& text) {
    if (key.find('/') != std::string::npos) {
      return InvalidArgument("the key {} holds a '/' and cannot name a file; change the key or the output", key);
    }
    const std::string path = PathOf(key), partial = path + ".part";
    std::ofstream file(partial, std::ios::binary | std::ios::trunc);
    file << text;
    file.close();
    std::error_code error;
    if (file) fs::rename(partial, path, error);
    if (file && !error) return {};
    return Status(StatusCode::kUnavailable, path + ": writing failed; is the folder writable and the disk not full?");
  }

  std::string PathOf(const std::string& key) const {
    return (fs::path(options_.path) / (key + "." + std::string(writer_->extension()))).string();
  }

  const SinkOptions options_;
  const std::unique_ptr<ResultWriter> writer_;
};

bool HoldsKeys(ResultFormat format) {
  return format == ResultFormat::kKaldi || format == ResultFormat::kJsonl || format == ResultFormat::kCtm;
}

Result<std::unordered_set<std::string>> PrepareResume(const SinkOptions& options) {
  std::error_code error;
  if (!fs::exists(options.path, error)) return std::unordered_set<std::string>();
  TING_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(options.path, size_t{16} << 30));
  Result<ResumePoint> point = FindResumePoint(options.format, text);
  if (!point.ok()) return point.status().WithContext(options.path);
  fs::resize_file(options.path, point->complete_bytes, error);
  if (error) return InvalidArgument("{}: cannot be cut to its complete lines: {}", options.path, error.message());
  return std::move(point->keys);
}

// The key of a line; empty where the line is not of this format.
std::string KeyOfLine(ResultFormat format, std::string_view line) {
  if (format != ResultFormat::kJsonl) return std::string(SplitKey(line).first);
  const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  const auto key = json.is_object() ? json.find("key") : json.end();
  return key != json.end() && key->is_string() ? key->get<std::string>() : "";
}

}  // namespace

bool IsFolderOutput(const SinkOptions& options) {
  std::error_code ignored;
  return options.path.ends_with('/') || (!options.path.empty() && fs::is_directory(options.path, ignored));
}

Status CheckSinkOptions(const SinkOptions& options) {
  if (!options.resume || IsFolderOutput(options)) return {};
  if (options.path.empty()) return InvalidArgument("--resume needs -o FILE, the output of the run to take up again");
  if (HoldsKeys(options.format)) return {};
  return InvalidArgument(
      "--resume cannot tell what a {} file holds; use --format kaldi, jsonl or ctm, or a folder after -o",
      FormatName(options.format));
}

const char* FormatName(ResultFormat format) {
  switch (format) {
    case ResultFormat::kText:
      return "text";
    case ResultFormat::kKaldi:
      return "kaldi";
    case ResultFormat::kJsonl:
      return "jsonl";
    case ResultFormat::kSrt:
      return "srt";
    case ResultFormat::kVtt:
      return "vtt";
    case ResultFormat::kCtm:
      return "ctm";
  }
  return "unknown";
}

Result<std::unique_ptr<ResultSink>> ResultSink::Open(const SinkOptions& options, std::ostream* standard_out) {
  if (options.path.empty()) {
    return std::unique_ptr<ResultSink>(new StreamSink(options, std::ofstream(), standard_out));
  }
  if (IsFolderOutput(options)) {
    std::error_code error;
    fs::create_directories(options.path, error);
    if (error) return InvalidArgument("{}: cannot be created: {}", options.path, error.message());
    return std::unique_ptr<ResultSink>(new FolderSink(options));
  }
  std::unordered_set<std::string> done;
  if (options.resume) {
    TING_ASSIGN_OR_RETURN(done, PrepareResume(options));
  }
  std::ofstream file(options.path, std::ios::binary | (options.resume ? std::ios::app : std::ios::trunc));
  if (!file) return InvalidArgument("{}: cannot be opened for writing", options.path);
  auto sink = std::make_unique<StreamSink>(options, std::move(file), nullptr);
  sink->SetDone(std::move(done));
  return std::unique_ptr<ResultSink>(std::move(sink));
}

Result<ResumePoint> FindResumePoint(ResultFormat format, std::string_view file) {
  ResumePoint point;
  std::string last_key;
  size_t last_key_at = 0;
  int number = 0;
  for (size_t at = 0, end; (end = file.find('\n', at)) != std::string_view::npos; at = end + 1) {
    ++number;
    const std::string_view line = file.substr(at, end - at);
    point.complete_bytes = end + 1;
    if (Trim(line).empty()) continue;
    const std::string key = KeyOfLine(format, line);
    if (key.empty())
      return InvalidArgument("line {} is not a {} result; --resume leaves it alone", number, FormatName(format));
    if (key != last_key) last_key = key, last_key_at = at;
    point.keys.insert(key);
  }
  if (format == ResultFormat::kCtm && !last_key.empty()) {
    point.keys.erase(last_key);
    point.complete_bytes = last_key_at;
  }
  return point;
}

}  // namespace ting::tool
