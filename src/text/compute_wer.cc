// src/text/compute_wer.cc
// SPDX-License-Identifier: Apache-2.0
#include "text/compute_wer.h"

#include <algorithm>
#include <unordered_map>

#include "base/status_macros.h"
#include "text/token_table.h"
#include "text/unicode.h"
#include "text/wer_tokens.h"

namespace ting {
namespace {

using Tokens = std::vector<std::string>;

// The alignment of one pair takes a byte a cell.
constexpr size_t kMaxCells = size_t{1} << 31;

enum class Step : uint8_t { kNone, kDelete, kInsert, kMatch, kSubstitute };

struct Pair {
  const Tokens& reference;
  const Tokens& hypothesis;
};

// Row-major [reference + 1, hypothesis + 1]: the last step of a cheapest alignment of the two prefixes. Of equal costs
// deletion wins over insertion, and insertion over match and substitution.
std::vector<Step> FindSteps(const Pair& pair) {
  const size_t rows = pair.reference.size() + 1, columns = pair.hypothesis.size() + 1;
  std::vector<Step> steps(rows * columns, Step::kInsert);
  std::vector<int64_t> above(columns), row(columns);
  for (size_t j = 0; j < columns; ++j) row[j] = static_cast<int64_t>(j);
  steps[0] = Step::kNone;
  for (size_t i = 1; i < rows; ++i) {
    std::swap(above, row);
    row[0] = static_cast<int64_t>(i);
    steps[i * columns] = Step::kDelete;
    for (size_t j = 1; j < columns; ++j) {
      const bool same = pair.reference[i - 1] == pair.hypothesis[j - 1];
      const int64_t diagonal = above[j - 1] + (same ? 0 : 1);
      row[j] = above[j] + 1;
      Step step = Step::kDelete;
      if (row[j - 1] + 1 < row[j]) row[j] = row[j - 1] + 1, step = Step::kInsert;
      if (diagonal < row[j]) row[j] = diagonal, step = same ? Step::kMatch : Step::kSubstitute;
      steps[i * columns + j] = step;
    }
  }
  return steps;
}

// Counts by token: a cluster's are the sums over its tokens. Insertions count for the token of the hypothesis, all
// else for the token of the reference.
using TokenCounts = std::unordered_map<std::string, WerCounts>;

void Count(Step step, const std::string& token, WerCounts* utterance, TokenCounts* tokens) {
  for (WerCounts* counts : {utterance, &(*tokens)[token]}) {
    counts->reference_tokens += step != Step::kInsert;
    counts->correct += step == Step::kMatch;
    counts->substitutions += step == Step::kSubstitute;
    counts->deletions += step == Step::kDelete;
    counts->insertions += step == Step::kInsert;
  }
}

void Align(const Pair& pair, UtteranceWer* out, TokenCounts* tokens) {
  const std::vector<Step> steps = FindSteps(pair);
  const size_t columns = pair.hypothesis.size() + 1;
  size_t i = pair.reference.size(), j = pair.hypothesis.size();
  while (i > 0 || j > 0) {
    const Step step = steps[i * columns + j];
    const bool uses_reference = step != Step::kInsert, uses_hypothesis = step != Step::kDelete;
    Count(step, uses_reference ? pair.reference[i - 1] : pair.hypothesis[j - 1], &out->counts, tokens);
    out->reference.push_back(uses_reference ? pair.reference[i - 1] : "");
    out->hypothesis.push_back(uses_hypothesis ? pair.hypothesis[j - 1] : "");
    i -= uses_reference;
    j -= uses_hypothesis;
  }
  std::reverse(out->reference.begin(), out->reference.end());
  std::reverse(out->hypothesis.begin(), out->hypothesis.end());
}

struct Utterance {
  std::string id;
  Tokens tokens;
};

// The non-empty lines of a text; "\n", "\r" and "\r\n" end a line.
Result<std::vector<Utterance>> ReadLines(std::string_view text, const WerOptions& options) {
  std::vector<Utterance> utterances;
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t size = std::min(text.find_first_of("\r\n"), text.size());
    const std::string_view line = text.substr(0, size);
    text.remove_prefix(size);
    text.remove_prefix(text.starts_with("\r\n") ? 2 : text.empty() ? 0 : 1);
    if (!IsValidUtf8(line)) return InvalidArgument("line {} is not valid UTF-8; convert the file to UTF-8", number);
    Tokens tokens = SplitWerLine(line, options.characters);
    if (tokens.empty()) continue;
    Utterance utterance{std::move(tokens.front()), {}};
    tokens.erase(tokens.begin());
    utterance.tokens = NormalizeWerTokens(tokens, options);
    utterances.push_back(std::move(utterance));
  }
  return utterances;
}

WerOptions WithUpperIgnoreWords(const WerOptions& options) {
  WerOptions out = options;
  if (options.case_sensitive) return out;
  out.ignore_words.clear();
  for (const std::string& word : options.ignore_words) out.ignore_words.insert(ToUpper(word));
  return out;
}

// Clusters in the order in which their first token appears, the hypothesis of an utterance before its reference.
class Clusters {
 public:
  void Add(const Tokens& tokens) {
    for (const std::string& token : tokens) {
      if (!seen_.insert(token).second) continue;
      const std::string_view name = WerClusterOf(token);
      const auto same = [&](const auto& cluster) { return cluster.first == name; };
      if (std::none_of(names_.begin(), names_.end(), same)) names_.emplace_back(name, WerCounts{});
    }
  }
  std::vector<std::pair<std::string, WerCounts>> Sum(const TokenCounts& tokens) && {
    for (const auto& [token, counts] : tokens) {
      const std::string_view name = WerClusterOf(token);
      for (auto& cluster : names_) {
        if (cluster.first == name) Accumulate(counts, &cluster.second);
      }
    }
    return std::move(names_);
  }
  static void Accumulate(const WerCounts& from, WerCounts* to) {
    to->reference_tokens += from.reference_tokens;
    to->correct += from.correct;
    to->substitutions += from.substitutions;
    to->deletions += from.deletions;
    to->insertions += from.insertions;
  }

 private:
  std::unordered_set<std::string> seen_;
  std::vector<std::pair<std::string, WerCounts>> names_;
};

Status CheckSize(const Utterance& reference, const Tokens& hypothesis) {
  if ((reference.tokens.size() + 1) <= kMaxCells / (hypothesis.size() + 1)) return Status();
  return ResourceExhausted("utterance {}: {} against {} tokens is too much for one alignment; split the utterance",
                           reference.id, reference.tokens.size(), hypothesis.size());
}

std::string FormatRate(std::string_view name, std::string_view separator, const WerCounts& counts) {
  return fmt::format("{}{}{:4.2f} % N={} C={} S={} D={} I={}\n", name, separator, counts.rate(),
                     counts.reference_tokens, counts.correct, counts.substitutions, counts.deletions,
                     counts.insertions);
}

void AppendUtterance(const UtteranceWer& utterance, std::string* out) {
  std::string lab = "lab: ", rec = "rec: ";
  for (size_t i = 0; i < utterance.reference.size(); ++i) {
    const int64_t lab_width = DisplayWidth(utterance.reference[i]);
    const int64_t rec_width = DisplayWidth(utterance.hypothesis[i]);
    const int64_t width = std::max(lab_width, rec_width);
    lab.append(utterance.reference[i]).append(width - lab_width + 1, ' ');
    rec.append(utterance.hypothesis[i]).append(width - rec_width + 1, ' ');
  }
  *out += "\nutt: " + utterance.id + "\n" + FormatRate("WER", ": ", utterance.counts);
  // The script prints no alignment where both sides are empty.
  if (!utterance.reference.empty()) *out += lab + "\n" + rec + "\n\n";
}

}  // namespace

double WerCounts::rate() const {
  return reference_tokens == 0 ? 0.0 : static_cast<double>(errors()) * 100.0 / static_cast<double>(reference_tokens);
}

Result<WerReport> ComputeWer(std::string_view references, std::string_view hypotheses, const WerOptions& options) {
  const WerOptions normal = WithUpperIgnoreWords(options);
  auto read_references = ReadLines(references, normal);
  if (!read_references.ok()) return read_references.status().WithContext("references");
  auto read_hypotheses = ReadLines(hypotheses, normal);
  if (!read_hypotheses.ok()) return read_hypotheses.status().WithContext("hypotheses");

  std::unordered_map<std::string_view, const Tokens*> by_id;  // of an id that comes twice, the last line counts
  for (const Utterance& hypothesis : *read_hypotheses) by_id[hypothesis.id] = &hypothesis.tokens;

  WerReport report;
  TokenCounts tokens;
  Clusters clusters;
  std::unordered_set<std::string_view> scored;
  for (const Utterance& reference : *read_references) {
    const auto found = by_id.find(reference.id);
    if (found == by_id.end()) {
      ++report.missing_hypotheses;
      continue;
    }
    if (!scored.insert(reference.id).second) {
      return InvalidArgument("references: the id {} occurs a second time; give every utterance one line", reference.id);
    }
    TING_RETURN_IF_ERROR(CheckSize(reference, *found->second));
    clusters.Add(*found->second);
    clusters.Add(reference.tokens);
    UtteranceWer& utterance = report.utterances.emplace_back();
    utterance.id = reference.id;
    Align({reference.tokens, *found->second}, &utterance, &tokens);
    Clusters::Accumulate(utterance.counts, &report.overall);
  }
  report.clusters = std::move(clusters).Sum(tokens);
  return report;
}

std::string FormatWerReport(const WerReport& report, WerDetail detail) {
  const std::string overall = FormatRate("Overall", " -> ", report.overall);
  if (detail == WerDetail::kSummary) return overall + "\n";
  const std::string rule(75, '=');
  std::string out;
  for (const UtteranceWer& utterance : report.utterances) AppendUtterance(utterance, &out);
  out += rule + "\n\n" + overall;
  for (const auto& [name, counts] : report.clusters) out += FormatRate(name, " -> ", counts);
  return out + "\n" + rule + "\n";
}

}  // namespace ting
