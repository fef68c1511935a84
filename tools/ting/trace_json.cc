// tools/ting/trace_json.cc
// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/status_macros.h"
#include "tools/ting/trace_report.h"

namespace ting::tool {
namespace {

using Json = nlohmann::ordered_json;
using Kind = TraceEvent::Kind;

constexpr uint32_t kHostPid = 1, kFirstGpuPid = 100;
constexpr uint32_t kTracksPerStream = 32;  // the first for module nodes; more are not drawn apart

struct Place {
  uint32_t pid = 0, tid = 0;
  auto operator<=>(const Place&) const = default;
};

// Where each event is drawn. Slices of one track must not overlap.
class Tracks {
 public:
  Place Of(const TraceEvent& event) {
    if (event.kind == Kind::kRange) return Named({kHostPid, event.track}, fmt::format("thread {}", event.track));
    const Place first{kFirstGpuPid + event.device, event.track * kTracksPerStream};
    const std::string stream = fmt::format("stream {}", event.track);
    if (event.kind == Kind::kNode) return Named(first, stream + ": module nodes");
    Place place{first.pid, first.tid + 1};
    while (event.start_ns < ends_[place] && place.tid + 1 < first.tid + kTracksPerStream) ++place.tid;
    ends_[place] = event.end_ns;
    return Named(place, place.tid == first.tid + 1 ? stream : stream + ": begun early");
  }
  void Describe(std::vector<Json>& events) const {
    std::set<uint32_t> pids;
    for (const auto& [place, name] : names_) {
      if (pids.insert(place.pid).second) {
        const std::string process = place.pid == kHostPid ? "host" : fmt::format("GPU {}", place.pid - kFirstGpuPid);
        events.push_back({{"ph", "M"}, {"name", "process_name"}, {"pid", place.pid}, {"args", {{"name", process}}}});
      }
      for (const auto& [key, value] :
           {std::pair<const char*, Json>("thread_name", {{"name", name}}),
            std::pair<const char*, Json>("thread_sort_index", {{"sort_index", place.tid}})}) {
        events.push_back({{"ph", "M"}, {"name", key}, {"pid", place.pid}, {"tid", place.tid}, {"args", value}});
      }
    }
  }

 private:
  Place Named(Place place, const std::string& name) {
    names_[place] = name;
    return place;
  }
  std::map<Place, std::string> names_;
  std::map<Place, int64_t> ends_;
};

// `own_us`: the call's own time on its stream, as in the table; 0 for what is on none.
Json ArgumentsOf(const StageTrace& trace, const TraceEvent& event, double own_us) {
  Json args = {{"stage", fmt::format("{}, batch {}", trace.stage, trace.batch)}};
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) args[name] = value;
  };
  add("graph", event.graph);
  add("node", event.node.empty() ? "" : "%" + event.node);
  add("op", event.op);
  add("implementation", event.implementation);
  add("part", event.part);
  if (event.kind == Kind::kKernel) args["kernel"] = event.name;
  add("geometry", event.geometry);
  if (event.num_bytes > 0) args["copied_bytes"] = event.num_bytes;
  if (event.step > 0) args["step"] = event.step;
  if (OnStream(event)) args["own_us"] = own_us;
  const double us = OnStream(event) ? own_us : event.us();
  if (event.flops > 0 && us > 0) args["TFLOP/s"] = event.flops / us / 1e6;
  if (event.bytes > 0 && us > 0) args["GB/s"] = event.bytes / us / 1e3;
  return args;
}

const char* Category(Kind kind) {
  constexpr const char* kNames[] = {"kernel", "copy", "fill", "node", "host"};
  return kNames[static_cast<int>(kind)];
}

// Module nodes are drawn up to where the next one begins.
std::vector<int64_t> DrawnEnds(const std::vector<TraceEvent>& events) {
  std::vector<int64_t> ends(events.size());
  std::map<std::pair<uint32_t, uint32_t>, int64_t> next_starts;
  for (size_t i = events.size(); i-- > 0;) {
    const TraceEvent& event = events[i];
    ends[i] = event.end_ns;
    if (event.kind != Kind::kNode) continue;
    const auto [next, last] = next_starts.try_emplace({event.device, event.track}, event.end_ns);
    if (!last) ends[i] = std::min(event.end_ns, next->second);
    next->second = event.start_ns;
  }
  return ends;
}

// Writes the events of traces one after the other.
class Writer {
 public:
  explicit Writer(int64_t first_ns) : first_ns_(first_ns) {}
  void Add(const StageTrace& trace) {
    const std::vector<int64_t> ends = DrawnEnds(trace.events);
    for (size_t i = 0; i < trace.events.size(); ++i) {
      const TraceEvent& event = trace.events[i];
      const double own_us = OnStream(event) ? streams_.Add(event).own_us : 0;
      const Place place = tracks_.Of(event);
      AddLine({{"ph", "X"},
               {"name", event.kind == Kind::kKernel ? ShortKernelName(event.name) : event.name},
               {"cat", Category(event.kind)},
               {"pid", place.pid},
               {"tid", place.tid},
               {"ts", static_cast<double>(event.start_ns - first_ns_) / 1e3},
               {"dur", static_cast<double>(ends[i] - event.start_ns) / 1e3},
               {"args", ArgumentsOf(trace, event, own_us)}});
    }
  }
  std::string Finish() {
    std::vector<Json> descriptions;
    tracks_.Describe(descriptions);
    for (const Json& description : descriptions) AddLine(description);
    return "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[" + lines_ + "]}\n";
  }

 private:
  void AddLine(const Json& event) {
    lines_ += (lines_.empty() ? "\n" : ",\n") + event.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  int64_t first_ns_;
  StreamEnds streams_;
  Tracks tracks_;
  std::string lines_;
};

}  // namespace

std::string TraceJson(const std::vector<StageTrace>& traces) {
  int64_t first_ns = INT64_MAX;
  for (const StageTrace& trace : traces) {
    for (const TraceEvent& event : trace.events) first_ns = std::min(first_ns, event.start_ns);
  }
  Writer writer(first_ns);
  for (const StageTrace& trace : traces) writer.Add(trace);
  return writer.Finish();
}

Status WriteTrace(const std::string& path, const std::vector<StageTrace>& traces) {
  std::ofstream file(path, std::ios::binary);
  file << TraceJson(traces);
  file.close();
  if (file) return {};
  return InvalidArgument("{}: cannot be written", path);
}

}  // namespace ting::tool
