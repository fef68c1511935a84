// src/graph/join_graphs.cc
// SPDX-License-Identifier: Apache-2.0
#include "graph/join_graphs.h"

#include <algorithm>
#include <set>
#include <vector>

namespace ting {
namespace {

// The value of first's outputs that is called `name`, or -1.
ValueId OutputNamed(const Graph& graph, const std::string& name) {
  const auto it = std::find_if(graph.outputs.begin(), graph.outputs.end(),
                               [&](ValueId id) { return graph.values[id].name == name; });
  return it == graph.outputs.end() ? -1 : *it;
}

class Joiner {
 public:
  Joiner(const std::string& name, const Graph& first, const Graph& second)
      : joined_(first), second_(second), place_(second.values.size(), -1) {
    joined_.name = name;
    for (const Value& value : joined_.values) names_.insert(value.name);
  }

  Status Link(const std::map<std::string, std::string>& links) {
    size_t found = 0;
    for (const ValueId id : second_.inputs) {
      const Value& input = second_.values[id];
      const auto link = links.find(input.name);
      if (link == links.end()) continue;
      place_[id] = OutputNamed(joined_, link->second);
      if (place_[id] < 0) return InvalidArgument("graph {}: it has no output %{}", joined_.name, link->second);
      if (joined_.values[place_[id]].type != input.type) {
        return InvalidArgument("graph {}: %{} and %{} are of different types", joined_.name, link->second, input.name);
      }
      ++found;
    }
    if (found == links.size()) return Status();
    return InvalidArgument("graph {}: {} links, but graph {} has {} of these inputs", joined_.name, links.size(),
                           second_.name, found);
  }

  Graph Join() {
    for (const ValueId id : second_.inputs) {
      if (place_[id] < 0) joined_.inputs.push_back(Place(id));
    }
    for (Node node : second_.nodes) {
      for (ValueId& id : node.inputs) id = Place(id);
      for (ValueId& id : node.outputs) id = Place(id);
      joined_.nodes.push_back(std::move(node));
    }
    for (const ValueId id : second_.outputs) joined_.outputs.push_back(Place(id));
    return std::move(joined_);
  }

 private:
  ValueId Place(ValueId id) {
    if (place_[id] >= 0) return place_[id];
    Value value = second_.values[id];
    if (!names_.insert(value.name).second) value.name = second_.name + "." + value.name;
    joined_.values.push_back(std::move(value));
    return place_[id] = static_cast<ValueId>(joined_.values.size()) - 1;
  }

  Graph joined_;
  const Graph& second_;
  std::vector<ValueId> place_;  // of second's values in the joined graph
  std::set<std::string> names_;
};

}  // namespace

Result<Graph> JoinGraphs(const std::string& name, const Graph& first, const Graph& second,
                         const std::map<std::string, std::string>& links) {
  Joiner joiner(name, first, second);
  if (const Status status = joiner.Link(links); !status.ok()) return status;
  return joiner.Join();
}

}  // namespace ting
