// tools/ting/trace_table.cc
// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "tools/ting/trace_report.h"

namespace ting::tool {
namespace {

using Kind = TraceEvent::Kind;

constexpr size_t kNameWidth = 60;

void Remove(std::string& text, std::string_view part) {
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at)) text.erase(at, part.size());
}

// Calls of one kernel, or of all kernels of one op.
struct Sum {
  int64_t calls = 0;
  double us = 0, gap_us = 0, flops = 0, bytes = 0;
  double counted_us = 0;  // of calls whose work is known
};

struct OpSum {
  Sum all;
  int64_t nodes = 0;  // runs of nodes
  std::map<std::string, Sum> kernels;
};

struct Sums {
  std::map<std::string, OpSum> ops;  // by op and implementation
  double us = 0;                     // of all calls
  double span_us = 0, idle_us = 0;   // of the GPU, all streams together
  int64_t activities = 0, gaps = 0;
};

std::string OpName(const TraceEvent& event) {
  if (!event.op.empty()) return event.op + " " + event.implementation;
  return event.graph.empty() ? "(not known)" : "(" + event.graph + ": inputs and results)";
}

std::string KernelTitle(const TraceEvent& event) {
  return (event.part.empty() ? "" : event.part + ": ") + ShortKernelName(event.name);
}

void AddCall(const TraceEvent& event, StreamEnds::Call call, Sums& sums) {
  OpSum& op = sums.ops[OpName(event)];
  for (Sum* sum : {&op.all, &op.kernels[KernelTitle(event)]}) {
    ++sum->calls, sum->us += call.own_us, sum->gap_us += call.idle_us;
    if (sum == &op.all) continue;  // whose work is the nodes'
    sum->flops += event.flops, sum->bytes += event.bytes;
    sum->counted_us += event.flops > 0 || event.bytes > 0 ? call.own_us : 0;
  }
  sums.us += call.own_us;
}

Sums SumUp(const std::vector<TraceEvent>& events) {
  Sums sums;
  StreamEnds streams;
  int64_t first_ns = 0, end_ns = 0;
  for (const TraceEvent& event : events) {
    if (event.kind == Kind::kNode) {
      OpSum& op = sums.ops[OpName(event)];
      ++op.nodes, op.all.flops += event.flops, op.all.bytes += event.bytes;
    }
    if (!OnStream(event)) continue;
    if (sums.activities++ == 0) first_ns = end_ns = event.start_ns;
    sums.gaps += event.start_ns > end_ns ? 1 : 0;
    sums.idle_us += static_cast<double>(std::max<int64_t>(event.start_ns - end_ns, 0)) / 1e3;
    end_ns = std::max(end_ns, event.end_ns);
    AddCall(event, streams.Add(event), sums);
  }
  sums.span_us = static_cast<double>(end_ns - first_ns) / 1e3;
  return sums;
}

std::string Rates(double flops, double bytes, double us) {
  const auto rate = [&](double amount, double unit) {
    return amount > 0 && us > 0 ? fmt::format("{:.1f}", amount / us * 1e6 / unit) : std::string("-");
  };
  return fmt::format("{:>9} {:>8}", rate(flops, 1e12), rate(bytes, 1e9));
}

std::string TableLine(const std::string& name, int64_t calls, const Sum& sum, double all_us, const std::string& rates) {
  const auto each = static_cast<double>(std::max<int64_t>(sum.calls, 1));
  return fmt::format("{:<{}} {:>7} {:>9.2f} {:>11.1f} {:>5.1f}% {:>7.2f} {}\n",
                     name.size() > kNameWidth ? name.substr(0, kNameWidth - 2) + ".." : name, kNameWidth, calls,
                     sum.us / static_cast<double>(std::max<int64_t>(calls, 1)), sum.us,
                     all_us > 0 ? 100 * sum.us / all_us : 0, sum.gap_us / each, rates);
}

template <typename Value, typename Us>
std::vector<std::pair<std::string, Value>> LongestFirst(const std::map<std::string, Value>& sums, const Us& us) {
  std::vector<std::pair<std::string, Value>> rows(sums.begin(), sums.end());
  std::stable_sort(rows.begin(), rows.end(), [&](const auto& a, const auto& b) { return us(a.second) > us(b.second); });
  return rows;
}

}  // namespace

StreamEnds::Call StreamEnds::Add(const TraceEvent& event) {
  int64_t& end_ns = ends_ns_.try_emplace({event.device, event.track}, event.start_ns).first->second;
  const Call call{static_cast<double>(std::max<int64_t>(event.end_ns - std::max(event.start_ns, end_ns), 0)) / 1e3,
                  static_cast<double>(std::max<int64_t>(event.start_ns - end_ns, 0)) / 1e3};
  end_ns = std::max(end_ns, event.end_ns);
  return call;
}

bool OnStream(const TraceEvent& event) { return event.kind != Kind::kNode && event.kind != Kind::kRange; }

std::string ShortKernelName(const std::string& name) {
  std::string text = name;
  Remove(text, "(anonymous namespace)::");
  Remove(text, "ting::cuda::");
  Remove(text, "ting::");
  if (text.starts_with("void ")) text.erase(0, 5);
  int depth = 0;  // the parameters begin at the first parenthesis outside of <>
  for (size_t i = 0; i < text.size(); ++i) {
    depth += text[i] == '<' ? 1 : text[i] == '>' ? -1 : 0;
    if (text[i] == '(' && depth == 0) return text.substr(0, i);
  }
  return text;
}

std::string TraceTable(const StageTrace& trace) {
  const Sums sums = SumUp(trace.events);
  std::string text = fmt::format(
      "{}, batch {}: {} steps traced, {:.1f} us each from first to last activity; GPU idle {:.1f} % of it, in {} gaps "
      "of {:.2f} us\n",
      trace.stage, trace.batch, trace.steps, sums.span_us / std::max(trace.steps, 1),
      sums.span_us > 0 ? 100 * sums.idle_us / sums.span_us : 0, sums.gaps,
      sums.gaps > 0 ? sums.idle_us / static_cast<double>(sums.gaps) : 0);
  text += fmt::format("{:<{}} {:>7} {:>9} {:>11} {:>6} {:>7} {:>9} {:>8}\n", "op / kernel", kNameWidth, "calls",
                      "mean us", "total us", "share", "gap us", "TFLOP/s", "GB/s");
  for (const auto& [name, op] : LongestFirst(sums.ops, [](const OpSum& o) { return o.all.us; })) {
    const int64_t runs = op.nodes > 0 ? op.nodes : op.all.calls;
    text += TableLine(name, runs, op.all, sums.us, Rates(op.all.flops, op.all.bytes, op.all.us));
    for (const auto& [kernel, sum] : LongestFirst(op.kernels, [](const Sum& s) { return s.us; })) {
      text += TableLine("  " + kernel, sum.calls, sum, sums.us, Rates(sum.flops, sum.bytes, sum.counted_us));
    }
  }
  return text;
}

}  // namespace ting::tool
