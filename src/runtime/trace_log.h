// src/runtime/trace_log.h
// SPDX-License-Identifier: Apache-2.0
//
// TraceLog: what the host queued while a trace is recorded, and how the GPU's activities find the module nodes that
// asked for them. It knows no profiler; runtime/cuda gives it one.
//
// A call into the driver carries the id of the range it was made in (Correlator::Push), and every activity knows its
// call. So work that is queued directly finds its node by that id. A CUDA graph is one call, whose activities all
// belong to the step. They are told apart by order: while a step is recorded, the device notes how many kernels and
// copies each node queues (RecordedNodes); a recording is one chain, so the n-th activity of its replay, by start, is
// the n-th that was noted. (The ids of graph nodes, the other way, change when a graph is instantiated, and following
// them takes callbacks from inside the driver.) Where the numbers differ, the activities keep their graph's name and no
// node's.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/work_ranges.h"
#include "ting/trace.h"

namespace ting {

// Of each kernel, copy and fill of a recorded step, in order: the index of its node.
using RecordedNodes = std::vector<uint16_t>;

// A profiler's part, for the calling thread.
class Correlator {
 public:
  virtual ~Correlator() = default;
  virtual int64_t NowNs() = 0;
  // Calls into the driver carry `id` until the matching Pop.
  virtual void Push(uint64_t id) = 0;
  virtual void Pop() = 0;
};

// One thing that the GPU did; `event` has its kind, name, times, device, track and sizes.
struct GpuActivity {
  TraceEvent event;
  uint32_t correlation = 0;  // of the call that queued it
  bool replayed = false;     // by a CUDA graph
};

class TraceLog {
 public:
  explicit TraceLog(Correlator& correlator) : correlator_(correlator) {}
  TraceLog(const TraceLog&) = delete;
  TraceLog& operator=(const TraceLog&) = delete;

  // The log that devices write to; null: none. It must outlive all ranges that begin meanwhile.
  static TraceLog* active() { return active_.load(std::memory_order_acquire); }
  static void SetActive(TraceLog* log) { active_.store(log, std::memory_order_release); }

  // Ranges of the calling thread nest as Device's do.
  void BeginStep(const StepLabels& labels, const StepWork& work);
  void BeginNode(size_t node);
  void EndRange();
  // The calling thread's step is about to launch a recording.
  void Replays(std::shared_ptr<const RecordedNodes> recorded);

  void Clear();
  // Names the activities and adds the nodes' and the host's events; in the order of their start. `ranges`: the id that
  // each correlation's call carried.
  std::vector<TraceEvent> Attribute(std::vector<GpuActivity> activities,
                                    const std::map<uint32_t, uint64_t>& ranges) const;

 private:
  struct Step {
    std::shared_ptr<const StepLabels> labels;
    StepWork work;
    std::shared_ptr<const RecordedNodes> recorded;
  };
  struct Named {
    uint64_t step = 0;
    int node = -1;  // -1: the step's own copies
  };
  // An activity's range: the step in the upper bits, one more than the node in the lower sixteen.
  static uint64_t IdOf(Named named) { return named.step << 16 | static_cast<uint64_t>(named.node + 1); }
  static Named NamedBy(uint64_t id) { return {id >> 16, static_cast<int>(id & 0xffff) - 1}; }

  std::shared_ptr<const StepLabels> Intern(const StepLabels& labels);
  void Label(Named named, TraceEvent* event) const;
  std::vector<Named> NodesOf(const std::vector<GpuActivity>& activities,
                             const std::map<uint32_t, uint64_t>& ranges) const;
  void AddNodeEvents(const std::vector<Named>& nodes, std::vector<TraceEvent>* events) const;

  static std::atomic<TraceLog*> active_;
  Correlator& correlator_;
  mutable std::mutex mutex_;
  uint64_t last_step_ = 0;
  std::map<uint64_t, Step> steps_;
  std::vector<std::shared_ptr<const StepLabels>> labels_;
  std::vector<TraceEvent> host_;
};

}  // namespace ting
