// tools/ting/dispatch_text.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/dispatch_text.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace ting::tool {
namespace {

struct Group {
  const NodeDispatch* first = nullptr;
  int count = 0;
};

bool Alike(const NodeDispatch& a, const NodeDispatch& b) {
  return a.graph == b.graph && a.op == b.op && a.implementation == b.implementation && a.refusals == b.refusals;
}

}  // namespace

std::string DispatchText(const std::vector<NodeDispatch>& nodes) {
  std::vector<Group> groups;
  for (const NodeDispatch& node : nodes) {
    const auto it = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return Alike(*g.first, node); });
    if (it == groups.end()) {
      groups.push_back({&node, 1});
    } else {
      ++it->count;
    }
  }
  std::string text;
  for (const auto& [first, count] : groups) {
    text += fmt::format("{}: {} x {}: {}", first->graph, count, first->op,
                        first->implementation.empty() ? "nothing" : first->implementation);
    if (!first->refusals.empty()) text += fmt::format("; refused: {}", fmt::join(first->refusals, "; "));
    text += '\n';
  }
  return text;
}

}  // namespace ting::tool
