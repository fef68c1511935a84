// tools/ting/golden.cc
// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>

#include "base/mmap_file.h"
#include "base/status_macros.h"
#include "tools/ting/model_options.h"
#include "tools/ting/scoring.h"
#include "tools/ting/text_lines.h"

namespace ting::tool {
namespace {

size_t ColumnOf(DecodeMode mode) {
  switch (mode) {
    case DecodeMode::kGreedy:
      return 1;
    case DecodeMode::kPrefixBeam:
      return 2;
    case DecodeMode::kRescoring:
      return 3;
    case DecodeMode::kAttention:
      break;
  }
  return 0;
}

std::string GapText(const std::vector<Hypothesis>& nbest) {
  if (nbest.size() < 2) return "no second hypothesis";
  return fmt::format("gap {:.6f} to \"{}\"", nbest[0].score - nbest[1].score, nbest[1].text);
}

}  // namespace

Result<Golden> Golden::Load(const std::string& path) {
  TING_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  Golden golden;
  int number = 0;
  for (const std::string_view line : SplitLines(text)) {
    ++number;
    const auto fields = SplitTabs(line);
    if (fields.size() != 4) {
      return InvalidArgument(
          "{} line {}: expected clip, greedy, prefix beam and rescoring between tabs, found {} fields", path, number,
          fields.size());
    }
    golden.rows_.emplace(fields[0], std::vector<std::string>(fields.begin(), fields.end()));
  }
  return golden;
}

const std::string* Golden::Find(const std::string& key, DecodeMode mode) const {
  const auto row = rows_.find(key);
  return row == rows_.end() || !HasMode(mode) ? nullptr : &row->second[ColumnOf(mode)];
}

Comparison Compare(const Golden& golden, DecodeMode mode, const std::vector<KeyedResult>& results) {
  Comparison comparison;
  for (const auto& [key, result] : results) {
    const std::string* expected = golden.Find(key, mode);
    if (expected == nullptr) {
      ++comparison.num_unknown;
      continue;
    }
    ++comparison.num_compared;
    const std::string& text = result->nbest.front().text;
    if (text == *expected) continue;
    ++comparison.num_different;
    comparison.lines += fmt::format("differs {} {}: golden \"{}\", ours \"{}\", {}\n", WenetModeName(mode), key,
                                    *expected, text, GapText(result->nbest));
  }
  return comparison;
}

}  // namespace ting::tool
