// tools/ting/trace_report.h
// SPDX-License-Identifier: Apache-2.0
//
// A trace for people: a table of where the GPU's time went, and a file for Perfetto (ui.perfetto.dev) and Chrome.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ting/benchmark.h"
#include "ting/status.h"

namespace ting::tool {

// By module op, the longest first, and below it by kernel: calls, mean and total microseconds, share, the mean idle
// time of the stream before a call, and the rates reached: the least operations and bytes that the node asks for
// (ting/trace.h) over the time of its kernels. A call's time runs from its start or, where a dependent launch began
// early to wait for the one in front, from the end of that one, so that times of a stream add up.
std::string TraceTable(const StageTrace& trace);

// Trace events in JSON: a process a GPU with, for each stream, a track of module nodes, one of kernels and copies, and
// as many more as it takes for those that began before the one in front had ended, as dependent launches do; and a
// process for the host with a track a thread.
std::string TraceJson(const std::vector<StageTrace>& traces);
Status WriteTrace(const std::string& path, const std::vector<StageTrace>& traces);

// How the calls of each stream follow one another; they are given in the order of their start.
class StreamEnds {
 public:
  struct Call {
    double own_us = 0;   // by which the call moves the end of its stream's work
    double idle_us = 0;  // of its stream before it
  };
  Call Add(const TraceEvent& event);

 private:
  std::map<std::pair<uint32_t, uint32_t>, int64_t> ends_ns_;  // by device and stream
};

// On the GPU's streams: kernels, copies and fills.
bool OnStream(const TraceEvent& event);

// "RowGemmKernel<__half, 128>" of "void ting::cuda::(anonymous namespace)::RowGemmKernel<__half, 128>(…)".
std::string ShortKernelName(const std::string& name);

}  // namespace ting::tool
