// src/decoders/rescoring.cc
// SPDX-License-Identifier: Apache-2.0
#include "decoders/rescoring.h"

#include <algorithm>
#include <cmath>

#include "base/status_macros.h"

namespace ting {
namespace {

Status CheckScores(const char* which, int utterance, size_t num_hypotheses, const DecoderScores& scores) {
  const TokenTree& tree = *scores.tree;
  if (utterance < 0 || utterance >= tree.num_utterances()) {
    return InvalidArgument("rescoring: utterance {} of a {} tree of {}", utterance, which, tree.num_utterances());
  }
  if (static_cast<size_t>(tree.num_hypotheses(utterance)) != num_hypotheses) {
    return InvalidArgument("rescoring: {} CTC scores for the {} hypotheses of the {} tree", num_hypotheses,
                           tree.num_hypotheses(utterance), which);
  }
  if (scores.logp.size() != tree.target_ids.size()) {
    return InvalidArgument("rescoring: {} log-probabilities for the {} targets of the {} tree", scores.logp.size(),
                           tree.target_ids.size(), which);
  }
  return {};
}

double Sum(std::span<const int32_t> targets, std::span<const float> logp) {
  double sum = 0;
  for (const int32_t target : targets) sum += logp[target];
  return sum;
}

std::vector<double> TokenConfidences(std::span<const int32_t> left, std::span<const float> left_logp,
                                     std::span<const int32_t> right, std::span<const float> right_logp) {
  const size_t L = left.size() - 1;
  std::vector<double> confidences(L);
  for (size_t j = 0; j < L; ++j) {
    confidences[j] = std::exp(static_cast<double>(left_logp[left[j]]));
    if (right.empty()) continue;  // the right decoder reads y_j as its prediction L - 1 - j
    confidences[j] = (confidences[j] + std::exp(static_cast<double>(right_logp[right[L - 1 - j]]))) / 2;
  }
  return confidences;
}

RescoredHypothesis RescoreOne(int utterance, int index, double ctc_score, const DecoderScores& left,
                              const DecoderScores* right, const RescoringWeights& weights) {
  RescoredHypothesis h;
  const std::span<const int32_t> left_targets = left.tree->targets(utterance, index);
  std::span<const int32_t> right_targets;
  h.index = index;
  h.ctc_score = ctc_score;
  h.attention_score = h.left_score = Sum(left_targets, left.logp);
  if (right != nullptr) {
    right_targets = right->tree->targets(utterance, index);
    h.right_score = Sum(right_targets, right->logp);
    h.attention_score = h.left_score * (1 - weights.reverse_weight) + h.right_score * weights.reverse_weight;
  }
  h.confidence = std::exp(h.attention_score / static_cast<double>(left_targets.size()));
  // A weight of 0 switches CTC off, even where its score is -inf.
  h.score = h.attention_score + (weights.ctc_weight == 0 ? 0 : weights.ctc_weight * ctc_score);
  h.token_confidences = TokenConfidences(left_targets, left.logp, right_targets,
                                         right != nullptr ? right->logp : std::span<const float>());
  return h;
}

}  // namespace

Result<std::vector<RescoredHypothesis>> Rescore(int utterance, std::span<const double> ctc_scores,
                                                const DecoderScores& left, const DecoderScores& right,
                                                const RescoringWeights& weights) {
  if (!(weights.reverse_weight >= 0 && weights.reverse_weight <= 1) || !std::isfinite(weights.ctc_weight)) {
    return InvalidArgument("rescoring: reverse weight {} must be 0 to 1 and CTC weight {} finite",
                           weights.reverse_weight, weights.ctc_weight);
  }
  if (left.tree == nullptr) return InvalidArgument("rescoring: no scores of a left-to-right decoder");
  TING_RETURN_IF_ERROR(CheckScores("left", utterance, ctc_scores.size(), left));
  const bool both = weights.reverse_weight > 0;
  if (both && right.tree == nullptr) {
    return InvalidArgument("rescoring: reverse weight {}, but the model has no right-to-left decoder; use 0",
                           weights.reverse_weight);
  }
  if (both) TING_RETURN_IF_ERROR(CheckScores("right", utterance, ctc_scores.size(), right));

  std::vector<RescoredHypothesis> nbest;
  nbest.reserve(ctc_scores.size());
  for (size_t i = 0; i < ctc_scores.size(); ++i) {
    nbest.push_back(RescoreOne(utterance, static_cast<int>(i), ctc_scores[i], left, both ? &right : nullptr, weights));
    if (std::isnan(nbest.back().score)) {
      return InvalidArgument("rescoring: hypothesis {} has score NaN; check the model's weights", i);
    }
  }
  std::stable_sort(nbest.begin(), nbest.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
  return nbest;
}

}  // namespace ting
