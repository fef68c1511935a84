// tests/support/random_graph.h
// SPDX-License-Identifier: Apache-2.0
//
// Random valid encoder-like graphs with random weights: the material of property tests. The same seed gives the same
// graph. Unfused on purpose (norms, sums and batch norms apart), so that every pass finds work.
#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "graph/graph.h"

namespace ting::testing {

class RandomGraph {
 public:
  explicit RandomGraph(uint32_t seed) : random_(seed) {}

  // One graph over %x f32[R, width]: a chain of 1 to 6 residual blocks of random kinds, some sharing values.
  Module Make() {
    module_.graphs.clear();
    graph_ = Graph{};
    graph_.name = "random";
    heads_ = Pick({1, 2, 3});
    width_ = heads_ * Pick({4, 8, 12});
    ValueId x = graph_.AddInput("x", Type());
    const int blocks = Pick({1, 2, 3, 4, 5, 6});
    for (int i = 0; i < blocks; ++i) x = Block(x, "b" + std::to_string(i));
    graph_.outputs = {x};
    module_.graphs[graph_.name] = graph_;
    return std::move(module_);
  }
  int64_t width() const { return width_; }

 private:
  int64_t Pick(std::initializer_list<int64_t> from) { return *(from.begin() + random_() % from.size()); }
  bool Coin() { return random_() % 2 == 0; }
  TensorType Type() const { return {DType::kF32, {Dim::Symbol("R"), Dim::Fixed(width_)}}; }

  void Put(Node& node, const std::string& name, const std::string& slot, const Shape& shape, float low, float high) {
    std::uniform_real_distribution<float> uniform(low, high);
    std::vector<float> values(shape.num_elements());
    for (float& value : values) value = uniform(random_);
    const std::string weight = "random." + name + "." + slot;
    (void)module_.weights.PutF32(weight, shape, values);
    node.weights[slot] = weight;
  }
  void Linear(Node& node, const std::string& name, const std::string& slot, int64_t N, int64_t K) {
    Put(node, name, slot + ".w", {N, K}, -0.5F, 0.5F);
    if (Coin()) Put(node, name, slot + ".b", {N}, -0.5F, 0.5F);
  }
  ValueId Add(Node node, const std::string& name) {
    node.outputs = {graph_.AddValue(name, Type())};
    graph_.nodes.push_back(node);
    return graph_.nodes.back().outputs[0];
  }
  ValueId Norm(ValueId x, const std::string& name) {
    Node node{"layer_norm", {x}, {}, {}, {}};
    Put(node, name, "norm.gamma", {width_}, 0.5F, 1.5F);
    Put(node, name, "norm.beta", {width_}, -0.5F, 0.5F);
    return Add(std::move(node), name);
  }
  ValueId Block(ValueId x, const std::string& name) {
    const ValueId in = Coin() ? Norm(x, name + ".norm") : x;
    const ValueId f = Op(in, name);
    ValueId y = f;
    if (Coin()) {
      Node sum{"add", {x, f}, {}, {}, {}};
      sum.attributes.Set("scale", Coin() ? 1.0 : 0.5);
      y = Add(std::move(sum), name + ".sum");
    }
    if (Coin()) y = Norm(y, name + ".out");
    if (random_() % 4 == 0) y = Add(Node{"add", {y, in}, {}, {}, {}}, name + ".extra");  // a second use of `in`
    return y;
  }
  ValueId Op(ValueId in, const std::string& name) {
    Node node{"", {in}, {}, {}, {}};
    switch (random_() % 4) {
      case 0: {
        node.op = "feed_forward";
        node.attributes.Set("activation", std::string(Coin() ? "swish" : "relu"));
        const int64_t hidden = Pick({5, 16, 33});
        Linear(node, name, "w1", hidden, width_);
        Linear(node, name, "w2", width_, hidden);
        break;
      }
      case 1:
        Attention(node, name, "self_attention");
        break;
      case 2:
        Attention(node, name, "rel_attention");
        Put(node, name, "pos.w", {width_, width_}, -0.5F, 0.5F);
        Put(node, name, "pos_u", {width_}, -0.5F, 0.5F);
        Put(node, name, "pos_v", {width_}, -0.5F, 0.5F);
        break;
      default:
        Convolution(node, name);
        break;
    }
    return Add(std::move(node), name);
  }
  void Attention(Node& node, const std::string& name, const char* op) {
    node.op = op;
    node.attributes.Set("heads", heads_);
    for (const char* part : {"q", "k", "v", "o"}) Linear(node, name, part, width_, width_);
  }
  void Convolution(Node& node, const std::string& name) {
    node.op = "conv_module";
    const bool causal = Coin();
    const bool batch = Coin();
    node.attributes.Set("causal", int64_t{causal});
    node.attributes.Set("conv_norm", std::string(batch ? "batch_norm" : "layer_norm"));
    Linear(node, name, "pw1", 2 * width_, width_);
    Linear(node, name, "pw2", width_, width_);
    Put(node, name, "dw.w", {causal ? Pick({2, 4, 8}) : Pick({1, 3, 15}), width_}, -0.5F, 0.5F);
    if (Coin()) Put(node, name, "dw.b", {width_}, -0.5F, 0.5F);
    Put(node, name, "conv_norm.gamma", {width_}, 0.5F, 1.5F);
    Put(node, name, "conv_norm.beta", {width_}, -0.5F, 0.5F);
    if (!batch) return;
    Put(node, name, "conv_norm.mean", {width_}, -0.5F, 0.5F);
    Put(node, name, "conv_norm.var", {width_}, 0.5F, 2.0F);
  }

  std::mt19937 random_;
  Module module_;
  Graph graph_;
  int64_t heads_ = 1, width_ = 4;
};

}  // namespace ting::testing
