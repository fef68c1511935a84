// src/models/u2/row_bounds.h
// SPDX-License-Identifier: Apache-2.0
//
// What operand_bounds.h says of graphs, for one op: how large the numbers of a row become on their way through it.
#pragma once

#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/conv_module.h"
#include "kernels/feed_forward.h"
#include "kernels/subsample_conv2d.h"
#include "models/u2/operand_bounds.h"

namespace ting {

using Bounds = std::vector<double>;  // of each number of a row

double Most(const Bounds& bounds);
Bounds Sum(Bounds a, double scale, const Bounds& b);  // of a + scale * b; infinite where the widths differ

// What is known of the rows that an op reads.
struct Rows {
  Bounds each;
  std::vector<float> gamma, beta;  // not empty: LayerNorm gave them
};
Rows Through(const NormParams& norm, Rows rows);

// One node. Its operands that are larger than `largest` take its place.
class NodeBounds {
 public:
  NodeBounds(std::string place, OperandBound& largest) : place_(std::move(place)), largest_(&largest) {}

  // A number of 16 bits.
  void Note(double most);
  void Note(const Bounds& bounds) { Note(Most(bounds)); }

  // Each output of scale * (W x + b). A row of W may be several times as long as x: taps of a convolution, whose
  // channels lie innermost.
  Bounds Product(const Rows& x, const LinearParams& linear, double scale = 1);

  // The outputs of the ops.
  Rows FeedForward(const FeedForwardParams& p, const Rows& x);
  Rows SelfAttention(const AttentionParams& p, const Rows& x);  // relative or not, and along trees
  Rows CrossAttention(const AttentionParams& p, const Rows& x, const Bounds& memory);
  Rows ConvModule(const ConvModuleParams& p, const Rows& x);
  Rows Subsample(const SubsampleParams& p, const Rows& features);

 private:
  Rows Attention(const AttentionParams& p, const Rows& x, const Bounds& q, const Bounds& k, const Bounds& v);

  std::string place_;
  OperandBound* largest_;
};

}  // namespace ting
