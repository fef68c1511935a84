// src/runtime/trace_log.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/trace_log.h"

#include <algorithm>
#include <utility>

namespace ting {
namespace {

struct OpenRange {
  uint64_t id = 0;
  int64_t start_ns = 0;
};

struct ThreadRanges {
  const TraceLog* log = nullptr;  // whose ranges these are
  uint32_t thread = 0;
  std::vector<OpenRange> open;
};

// Small numbers for threads, in the order in which they first queue anything.
uint32_t NextThread() {
  static std::atomic<uint32_t> next = 0;
  return next++;
}

ThreadRanges& RangesOfThread(const TraceLog* log) {
  thread_local ThreadRanges ranges{nullptr, NextThread(), {}};
  if (ranges.log != log) ranges.log = log, ranges.open.clear();
  return ranges;
}

bool Same(const StepLabels& a, const StepLabels& b) {
  if (a.graph != b.graph || a.nodes.size() != b.nodes.size()) return false;
  return std::equal(a.nodes.begin(), a.nodes.end(), b.nodes.begin(),
                    [](const NodeLabel& x, const NodeLabel& y) { return x.text == y.text; });
}

void AddTo(const KernelWork& work, TraceEvent* event) { event->flops += work.flops, event->bytes += work.bytes; }

// A node's work, to the kernels that do it: one a part, or one for all.
void ShareOut(const std::vector<KernelWork>& parts, const std::vector<size_t>& kernels,
              std::vector<TraceEvent>* events) {
  if (kernels.size() != parts.size() && kernels.size() != 1) return;
  for (size_t i = 0; i < parts.size(); ++i) {
    TraceEvent& event = (*events)[kernels[kernels.size() == 1 ? 0 : i]];
    AddTo(parts[i], &event);
    if (kernels.size() == parts.size()) event.part = parts[i].part;
  }
}

}  // namespace

std::atomic<TraceLog*> TraceLog::active_ = nullptr;

std::shared_ptr<const StepLabels> TraceLog::Intern(const StepLabels& labels) {
  for (const auto& known : labels_) {
    if (Same(*known, labels)) return known;
  }
  return labels_.emplace_back(std::make_shared<const StepLabels>(labels));
}

void TraceLog::BeginStep(const StepLabels& labels, const StepWork& work) {
  uint64_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    steps_[++last_step_] = {Intern(labels), work, nullptr};
    id = IdOf({last_step_, -1});
  }
  correlator_.Push(id);
  RangesOfThread(this).open.push_back({id, correlator_.NowNs()});
}

void TraceLog::BeginNode(size_t node) {
  std::vector<OpenRange>& open = RangesOfThread(this).open;
  if (open.empty()) return;
  const uint64_t id = IdOf({NamedBy(open.back().id).step, static_cast<int>(node)});
  correlator_.Push(id);
  open.push_back({id, correlator_.NowNs()});
}

void TraceLog::EndRange() {
  ThreadRanges& ranges = RangesOfThread(this);
  if (ranges.open.empty()) return;  // began before the log was there
  const OpenRange range = ranges.open.back();
  ranges.open.pop_back();
  correlator_.Pop();
  TraceEvent event;
  event.kind = TraceEvent::Kind::kRange;
  event.start_ns = range.start_ns, event.end_ns = correlator_.NowNs();
  event.track = ranges.thread;
  const std::lock_guard lock(mutex_);
  Label(NamedBy(range.id), &event);
  event.name = event.node.empty() ? event.graph : event.node;
  host_.push_back(std::move(event));
}

void TraceLog::Replays(std::shared_ptr<const RecordedNodes> recorded) {
  const std::vector<OpenRange>& open = RangesOfThread(this).open;
  if (open.empty()) return;
  const std::lock_guard lock(mutex_);
  if (const auto it = steps_.find(NamedBy(open.back().id).step); it != steps_.end()) {
    it->second.recorded = std::move(recorded);
  }
}

void TraceLog::Clear() {
  const std::lock_guard lock(mutex_);
  steps_.clear(), host_.clear();
}

// Names an event after the step and node; leaves its own name.
void TraceLog::Label(Named named, TraceEvent* event) const {
  const auto it = steps_.find(named.step);
  if (it == steps_.end()) return;
  const StepLabels& labels = *it->second.labels;
  event->step = named.step;
  event->graph = labels.graph;
  if (named.node < 0 || named.node >= static_cast<int>(labels.nodes.size())) return;
  const NodeLabel& node = labels.nodes[named.node];
  event->node = node.node, event->op = node.op, event->implementation = node.implementation;
}

// `activities` are in the order of their start.
std::vector<TraceLog::Named> TraceLog::NodesOf(const std::vector<GpuActivity>& activities,
                                               const std::map<uint32_t, uint64_t>& ranges) const {
  std::vector<Named> nodes(activities.size());
  std::map<uint32_t, std::vector<size_t>> replays;  // by correlation
  for (size_t i = 0; i < activities.size(); ++i) {
    const auto it = ranges.find(activities[i].correlation);
    if (it == ranges.end()) continue;
    nodes[i] = NamedBy(it->second);
    if (activities[i].replayed) replays[activities[i].correlation].push_back(i);
  }
  for (const auto& [correlation, indices] : replays) {
    const auto step = steps_.find(nodes[indices[0]].step);
    if (step == steps_.end() || !step->second.recorded || step->second.recorded->size() != indices.size()) continue;
    for (size_t i = 0; i < indices.size(); ++i) nodes[indices[i]].node = (*step->second.recorded)[i];
  }
  return nodes;
}

// Runs of activities of one node become an event each, and the node's work is given to them.
void TraceLog::AddNodeEvents(const std::vector<Named>& nodes, std::vector<TraceEvent>* events) const {
  std::map<std::pair<uint64_t, int>, std::vector<size_t>> by_node;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].node >= 0 && steps_.contains(nodes[i].step)) by_node[{nodes[i].step, nodes[i].node}].push_back(i);
  }
  for (const auto& [key, indices] : by_node) {
    TraceEvent event = (*events)[indices[0]];
    event.kind = TraceEvent::Kind::kNode;
    event.name = event.node, event.geometry.clear(), event.num_bytes = 0;
    for (const size_t i : indices) event.end_ns = std::max(event.end_ns, (*events)[i].end_ns);
    const StepWork& work = steps_.at(key.first).work;
    if (static_cast<size_t>(key.second) < work.size()) {
      const std::vector<KernelWork>& parts = work[key.second];
      for (const KernelWork& part : parts) AddTo(part, &event);
      ShareOut(parts, indices, events);
    }
    events->push_back(std::move(event));
  }
}

std::vector<TraceEvent> TraceLog::Attribute(std::vector<GpuActivity> activities,
                                            const std::map<uint32_t, uint64_t>& ranges) const {
  const std::lock_guard lock(mutex_);
  const auto by_start = [](const auto& a, const auto& b) { return a.start_ns < b.start_ns; };
  std::stable_sort(activities.begin(), activities.end(),
                   [&](const GpuActivity& a, const GpuActivity& b) { return by_start(a.event, b.event); });
  const std::vector<Named> nodes = NodesOf(activities, ranges);
  std::vector<TraceEvent> events;
  for (size_t i = 0; i < activities.size(); ++i) {
    events.push_back(std::move(activities[i].event));
    Label(nodes[i], &events.back());
  }
  AddNodeEvents(nodes, &events);
  events.insert(events.end(), host_.begin(), host_.end());
  std::stable_sort(events.begin(), events.end(), by_start);
  return events;
}

}  // namespace ting
