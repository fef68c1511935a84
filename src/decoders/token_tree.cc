// src/decoders/token_tree.cc
// SPDX-License-Identifier: Apache-2.0
#include "decoders/token_tree.h"

namespace ting {
namespace {

// Adds one utterance after another. A prediction is first noted as (row, rank among the row's predictions), because
// where a row's targets begin is known only when all hypotheses are in.
class Builder {
 public:
  Builder(TokenDirection direction, int32_t sos_id, int32_t eos_id)
      : reversed_(direction == TokenDirection::kRightToLeft), sos_id_(sos_id), eos_id_(eos_id) {
    tree_.utterance_offsets = {0};
    tree_.hypothesis_offsets = {0};
  }

  void AddUtterance(const TokenLists& hypotheses) {
    const int32_t utterance = static_cast<int32_t>(tree_.utterance_offsets.size()) - 1;
    const int32_t root = static_cast<int32_t>(nodes_.size());
    if (!hypotheses.empty()) AddRow(sos_id_, {}, utterance);
    for (const std::span<const int32_t> tokens : hypotheses) AddHypothesis(root, tokens, utterance);
    tree_.utterance_offsets.push_back(static_cast<int32_t>(tree_.hypothesis_offsets.size()) - 1);
  }

  TokenTree Finish() {
    std::vector<int32_t> first(nodes_.size() + 1, 0);
    for (size_t row = 0; row < nodes_.size(); ++row) {
      first[row + 1] = first[row] + nodes_[row].num_targets;
      tree_.target_rows.insert(tree_.target_rows.end(), nodes_[row].num_targets, static_cast<int32_t>(row));
    }
    tree_.target_ids.resize(tree_.target_rows.size());
    for (const Prediction& prediction : predictions_) {
      const int32_t target = first[prediction.row] + prediction.rank;
      tree_.target_ids[target] = prediction.id;
      tree_.target_index.push_back(target);
    }
    return std::move(tree_);
  }

 private:
  struct Node {  // beside row i of the tree
    int32_t first_child = -1;
    int32_t next_sibling = -1;
    int32_t rank = -1;      // among the predictions of its parent
    int32_t eos_rank = -1;  // of eos among the predictions of this row, -1: none yet
    int32_t num_targets = 0;
  };
  struct Prediction {
    int32_t row, rank, id;
  };

  void AddHypothesis(int32_t root, std::span<const int32_t> tokens, int32_t utterance) {
    path_.assign(1, root);
    for (size_t j = 0; j < tokens.size(); ++j) {
      const int32_t token = reversed_ ? tokens[tokens.size() - 1 - j] : tokens[j];
      const int32_t parent = path_.back();
      const int32_t child = FindOrAddChild(parent, token, utterance);
      predictions_.push_back({parent, nodes_[child].rank, token});
      path_.push_back(child);
    }
    predictions_.push_back({path_.back(), EosRank(path_.back()), eos_id_});
    tree_.hypothesis_offsets.push_back(static_cast<int32_t>(predictions_.size()));
  }

  int32_t FindOrAddChild(int32_t parent, int32_t token, int32_t utterance) {
    for (int32_t child = nodes_[parent].first_child; child >= 0; child = nodes_[child].next_sibling) {
      if (tree_.rows.tokens[child] == token) return child;
    }
    // A model may emit eos as an ordinary symbol; its prediction is then the one that ends a hypothesis here.
    const int32_t rank = token == eos_id_ ? EosRank(parent) : nodes_[parent].num_targets++;
    const int32_t child = AddRow(token, path_, utterance);
    nodes_[child].rank = rank;
    nodes_[child].next_sibling = nodes_[parent].first_child;
    nodes_[parent].first_child = child;
    return child;
  }

  int32_t EosRank(int32_t row) {
    Node& node = nodes_[row];
    if (node.eos_rank < 0) node.eos_rank = node.num_targets++;
    return node.eos_rank;
  }

  int32_t AddRow(int32_t token, std::span<const int32_t> parent_path, int32_t utterance) {
    const int32_t row = static_cast<int32_t>(nodes_.size());
    tree_.rows.Append(token, row, parent_path, utterance);
    nodes_.emplace_back();
    return row;
  }

  const bool reversed_;
  const int32_t sos_id_, eos_id_;
  TokenTree tree_;
  std::vector<Node> nodes_;
  std::vector<int32_t> path_;  // rows from the root to where the current hypothesis is
  std::vector<Prediction> predictions_;
};

}  // namespace

void TreeRows::Clear() {
  tokens.clear(), positions.clear(), slots.clear(), ancestors.clear(), sequence.clear();
  ancestor_offsets.assign(1, 0);
}

void TreeRows::Append(int32_t token, int32_t slot, std::span<const int32_t> parent_path, int32_t utterance) {
  tokens.push_back(token);
  positions.push_back(static_cast<int32_t>(parent_path.size()));
  slots.push_back(slot);
  ancestors.insert(ancestors.end(), parent_path.begin(), parent_path.end());
  ancestors.push_back(slot);
  ancestor_offsets.push_back(static_cast<int32_t>(ancestors.size()));
  sequence.push_back(utterance);
}

TokenTree BuildTokenTree(std::span<const TokenLists> utterances, TokenDirection direction, int32_t sos_id,
                         int32_t eos_id) {
  Builder builder(direction, sos_id, eos_id);
  for (const TokenLists& hypotheses : utterances) builder.AddUtterance(hypotheses);
  return builder.Finish();
}

}  // namespace ting
