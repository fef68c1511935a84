// tools/ting/inputs.h
// SPDX-License-Identifier: Apache-2.0
//
// From what a user writes (files, folders, globs, lists, "-") to a list of recordings with unique keys.
//   file          one recording; key = its name without the last extension
//   folder        every audio file below it, sorted by path
//   glob          every match, sorted (for shells that do not expand it)
//   *.scp         Kaldi: "key path" a line. A pipe ("… |") is refused by name: a list must not run programs
//   *.jsonl *.list *.json   one object a line with "key", "wav" and, if known, "txt" (WeNet's raw data.list)
//   *.tsv         "key<TAB>text…" a line; the recording is clips/KEY.* or KEY.* beside the list
//   -             standard input, key "stdin"
// Relative paths in a list are tried as they stand, then beside the list. Keys go into formats that separate fields
// by spaces, so white space in a file name becomes "_". The same key twice in lists is an error: results could not be
// told apart; two files of the same name get "-2", "-3", …, and a note.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ting/status.h"

namespace ting::tool {

struct Input {
  std::string key;
  std::string path;                 // "-": standard input
  std::optional<std::string> text;  // the transcript, where the list holds one
  Status problem;                   // not OK: known to be unreadable, e.g. a pipe
};

struct InputSet {
  std::vector<Input> inputs;
  std::vector<std::string> notes;  // for the user's eyes
};

Result<InputSet> ExpandInputs(const std::vector<std::string>& arguments);

// "id text" lines, or "id<TAB>text<TAB>…" where the file's name ends in .tsv. In the file's order.
using Transcripts = std::vector<std::pair<std::string, std::string>>;
Result<Transcripts> ReadTranscripts(const std::string& path);

}  // namespace ting::tool
