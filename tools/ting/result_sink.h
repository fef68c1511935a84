// tools/ting/result_sink.h
// SPDX-License-Identifier: Apache-2.0
//
// Where results go: standard output, one file, or one file a recording in a folder. Each result is flushed when it
// is written, and a file is only ever appended to, so that whatever stops a run, the finished part is there.
//
// Resuming. One file (kaldi, jsonl, ctm): its keys are done; a half-written last line is cut off. ctm has several lines
// a recording, so the last recording is cut off whole and done again. Folder (any format): KEY.ext is written
// under another name and renamed when complete, so a file that is there is complete. text, srt and vtt in one file
// hold no keys: refused.
#pragma once

#include <fstream>
#include <memory>
#include <ostream>
#include <string>
#include <unordered_set>

#include "text/writers.h"
#include "ting/result.h"

namespace ting::tool {

struct SinkOptions {
  ResultFormat format = ResultFormat::kText;
  std::string path;  // empty: standard output; a folder, or a name that ends in '/': one file a recording
  bool resume = false;
};

bool IsFolderOutput(const SinkOptions& options);
const char* FormatName(ResultFormat format);

// Refuses what can be refused before any input is looked at (exit 2).
Status CheckSinkOptions(const SinkOptions& options);

class ResultSink {
 public:
  virtual ~ResultSink() = default;
  static Result<std::unique_ptr<ResultSink>> Open(const SinkOptions& options, std::ostream* standard_out);

  virtual bool IsDone(const std::string& key) const = 0;  // by the run that --resume takes up
  virtual Status Write(const std::string& key, const RecognitionResult& result) = 0;
  // A recording without a result. jsonl holds the reason, and counts it as done when it is taken up again; text gets
  // an empty line, so that line i stays input i; the other formats have no place for it.
  virtual Status WriteFailure(const std::string& key, const Status& failure) = 0;
};

// What a file of results holds. `complete_bytes`: where appending may go on.
struct ResumePoint {
  std::unordered_set<std::string> keys;
  size_t complete_bytes = 0;
};
Result<ResumePoint> FindResumePoint(ResultFormat format, std::string_view file);

}  // namespace ting::tool
