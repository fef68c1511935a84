// src/graph/printer.h
// SPDX-License-Identifier: Apache-2.0
//
// The text form of a graph, one node a line:
//
//   graph encoder(%features: f32[F, 80]) -> (%out) {
//     %x: f32[T, 256] = subsample_conv2d(%features) {kind = "conv2d", scale = 16.0} [conv0.b, conv0.w, …]
//     %ffm: f32[T, 256] = feed_forward(%x) {activation = "swish", residual = 0.5} [w1.b, w1.w = shared.w1, …]
//   }
//
// A slot alone stands for the weight "<graph>.<node>.<slot>". State inputs are written "%pool: state f32[P, 512]".
// The parser reads it back exactly.
#pragma once

#include <string>

#include "graph/graph.h"

namespace ting {

std::string PrintGraph(const Graph& graph);
std::string PrintType(const TensorType& type);  // "f32[T, 256]"
// The weight name that a slot written without one stands for.
std::string DefaultWeightName(const Graph& graph, const std::string& node, const std::string& slot);

}  // namespace ting
