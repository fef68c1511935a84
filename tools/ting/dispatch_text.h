// tools/ting/dispatch_text.h
// SPDX-License-Identifier: Apache-2.0
//
// What --verbose=dispatch prints: which implementation runs each kind of graph node, and why the better ones refused.
#pragma once

#include <string>
#include <vector>

#include "ting/recognizer.h"

namespace ting::tool {

// A line for all nodes of a graph that have the op, the implementation and the refusals in common, in the order of
// their first node: "encoder: 12 x conv_module: cuda.hopper; refused: cuda.fused: …".
std::string DispatchText(const std::vector<NodeDispatch>& nodes);

}  // namespace ting::tool
