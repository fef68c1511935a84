// src/graph/parser.cc
// SPDX-License-Identifier: Apache-2.0
//
// A recursive-descent parser over a cursor. The first error stops it: later calls see `failed` and do nothing,
// so that the grammar below reads without an error test after each token.
#include "graph/parser.h"

#include <algorithm>
#include <charconv>
#include <unordered_map>

#include "base/status_macros.h"
#include "graph/printer.h"

namespace ting {
namespace {

constexpr size_t kMaxTextBytes = size_t{16} << 20;
constexpr size_t kMaxValues = 100000;

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  bool AtEnd() {
    SkipSpace();
    return at_ >= text_.size();
  }
  Result<Graph> ParseOne() {
    Graph graph;
    values_.clear();
    ParseHeader(graph);
    while (ok() && !Take("}")) ParseNode(graph);
    for (const std::string& name : output_names_) {
      if (ok()) graph.outputs.push_back(Lookup(name));
    }
    if (!ok()) return status_;
    return graph;
  }

 private:
  bool ok() const { return status_.ok(); }
  void Fail(const std::string& what) {
    if (!ok()) return;
    // Up to the last token: the cursor may stand behind white space already.
    const size_t last = text_.substr(0, std::min(at_, text_.size())).find_last_not_of(" \n\t\r");
    const std::string_view read = text_.substr(0, last == std::string_view::npos ? 0 : last);
    status_ = InvalidArgument("graph text, line {}: {}", std::count(read.begin(), read.end(), '\n') + 1, what);
  }
  void SkipSpace() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
      ++at_;
  }
  bool Take(std::string_view token) {
    SkipSpace();
    if (text_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }
  void Expect(std::string_view token) {
    if (ok() && !Take(token)) Fail("expected '" + std::string(token) + "'");
  }
  // Letters, digits, '_' and '.'.
  std::string Word() {
    SkipSpace();
    const size_t start = at_;
    while (at_ < text_.size() &&
           (std::isalnum(static_cast<unsigned char>(text_[at_])) != 0 || text_[at_] == '_' || text_[at_] == '.'))
      ++at_;
    if (at_ == start) Fail("expected a name");
    return std::string(text_.substr(start, at_ - start));
  }
  std::string ValueName() {
    Expect("%");
    return Word();
  }

  TensorType Type() {
    TensorType type;
    const std::string name = Word();
    const auto dtype = DTypeFromName(name);
    if (!dtype) Fail("'" + name + "' is no element type");
    type.dtype = dtype.value_or(DType::kF32);
    Expect("[");
    do {
      const std::string dim = Word();
      int64_t size = 0;
      const auto [end, error] = std::from_chars(dim.data(), dim.data() + dim.size(), size);
      const bool number = error == std::errc() && end == dim.data() + dim.size();
      type.dims.push_back(number ? Dim::Fixed(size) : Dim::Symbol(dim));
      if (type.dims.size() > Shape::kMaxRank) Fail("too many axes");
    } while (ok() && Take(","));
    Expect("]");
    return type;
  }

  ValueId Define(Graph& graph, const std::string& name, TensorType type, bool state) {
    if (ok() && graph.values.size() >= kMaxValues) Fail("too many values");
    if (ok() && values_.contains(name)) Fail("%" + name + " is defined twice");
    if (!ok()) return 0;
    return values_[name] = graph.AddValue(name, std::move(type), state);
  }
  ValueId Lookup(const std::string& name) {
    const auto it = values_.find(name);
    if (it != values_.end()) return it->second;
    Fail("%" + name + " is not defined");
    return 0;
  }

  void ParseHeader(Graph& graph) {
    Expect("graph");
    graph.name = Word();
    Expect("(");
    while (ok() && !Take(")")) {
      const std::string name = ValueName();
      Expect(":");
      const bool state = Take("state ");
      const TensorType type = Type();
      graph.inputs.push_back(Define(graph, name, type, state));
      if (!Take(",")) {
        Expect(")");
        break;
      }
    }
    Expect("->");
    Expect("(");
    output_names_.clear();
    do {
      output_names_.push_back(ValueName());
    } while (ok() && Take(","));
    Expect(")");
    Expect("{");
  }

  Attribute AttributeValue() {
    if (Take("\"")) {
      const size_t end = std::min(text_.find('"', at_), text_.size());
      std::string word(text_.substr(at_, end - at_));
      at_ = end;
      Expect("\"");
      return word;
    }
    SkipSpace();
    size_t end = at_;
    while (end < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[end])) != 0 ||
                                  std::string_view("+-.").find(text_[end]) != std::string_view::npos))
      ++end;
    const std::string_view token = text_.substr(at_, end - at_);
    at_ = end;
    int64_t integer = 0;
    if (const auto r = std::from_chars(token.data(), token.data() + token.size(), integer);
        r.ec == std::errc() && r.ptr == token.data() + token.size()) {
      return integer;
    }
    double number = 0;
    const auto r = std::from_chars(token.data(), token.data() + token.size(), number);
    if (r.ec != std::errc() || r.ptr != token.data() + token.size()) Fail("expected a number or a quoted word");
    return number;
  }

  void ParseNode(Graph& graph) {
    Node node;
    std::vector<std::pair<std::string, TensorType>> outputs;
    do {
      std::string name = ValueName();
      Expect(":");
      outputs.emplace_back(std::move(name), Type());
    } while (ok() && Take(","));
    Expect("=");
    node.op = Word();
    Expect("(");
    while (ok() && !Take(")")) {
      node.inputs.push_back(Lookup(ValueName()));
      if (!Take(",")) {
        Expect(")");
        break;
      }
    }
    if (Take("{")) ParseAttributes(node);
    if (Take("[")) ParseWeights(graph, node, outputs.front().first);
    for (auto& [name, type] : outputs) node.outputs.push_back(Define(graph, name, std::move(type), false));
    graph.nodes.push_back(std::move(node));
  }
  void ParseAttributes(Node& node) {
    do {
      const std::string name = Word();
      Expect("=");
      if (node.attributes.Has(name)) Fail("attribute " + name + " appears twice");
      node.attributes.Set(name, AttributeValue());
    } while (ok() && Take(","));
    Expect("}");
  }
  void ParseWeights(const Graph& graph, Node& node, const std::string& node_name) {
    do {
      const std::string slot = Word();
      if (node.weights.contains(slot)) Fail("slot " + slot + " appears twice");
      node.weights[slot] = Take("=") ? Word() : DefaultWeightName(graph, node_name, slot);
    } while (ok() && Take(","));
    Expect("]");
  }

  std::string_view text_;
  size_t at_ = 0;
  Status status_;
  std::unordered_map<std::string, ValueId> values_;
  std::vector<std::string> output_names_;
};

}  // namespace

Result<std::vector<Graph>> ParseGraphs(std::string_view text) {
  if (text.size() > kMaxTextBytes) return InvalidArgument("graph text of {} bytes is too large", text.size());
  Parser parser(text);
  std::vector<Graph> graphs;
  while (!parser.AtEnd()) {
    TING_ASSIGN_OR_RETURN(Graph graph, parser.ParseOne());
    graphs.push_back(std::move(graph));
  }
  return graphs;
}

Result<Graph> ParseGraph(std::string_view text) {
  TING_ASSIGN_OR_RETURN(auto graphs, ParseGraphs(text));
  if (graphs.size() != 1) return InvalidArgument("the text holds {} graphs, not one", graphs.size());
  return std::move(graphs[0]);
}

}  // namespace ting
