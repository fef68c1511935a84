// tests/fuzz/graph_text_fuzz.cc
// SPDX-License-Identifier: Apache-2.0
//
// Any text as a graph: a graph that prints and reads back the same, or a sentence. The verifier must answer too.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "graph/parser.h"
#include "graph/printer.h"
#include "graph/verifier.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto graph = ting::ParseGraph(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!graph.ok()) {
    if (graph.status().message().empty()) std::abort();
    return 0;
  }
  (void)ting::VerifyGraph(*graph, {});
  const auto again = ting::ParseGraph(ting::PrintGraph(*graph));
  if (!again.ok() || !(*again == *graph)) std::abort();
  return 0;
}
