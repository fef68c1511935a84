// include/ting/trace.h
// SPDX-License-Identifier: Apache-2.0
//
// Tracer: what the GPUs of this process did and when, by the GPU's own clock, and which node of which module graph
// asked for it. It reads CUPTI's activity records; libcupti is loaded when a tracer is made and not before.
//
//   auto tracer = ting::Tracer::Create();      // before the recognisers whose work is to be named
//   …; (*tracer)->Start(); recognizer->Recognize(…); auto events = (*tracer)->Stop();
//
// Recording costs time between calls into the driver, little between the kernels of a CUDA graph: on an H200 681 and
// 691 us (two runs) a step of one utterance's encoder instead of 655 and 658; about 2,497 instead of 2,458 for 64.
// Quote speeds from runs without.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ting/status.h"

namespace ting {

struct TraceEvent {
  enum class Kind {
    kKernel,  // on the GPU
    kCopy,    // on the GPU: between host and device, or within it
    kFill,    // on the GPU: memory set to a value
    kNode,    // on the GPU: a module node, from the start of its first kernel to the end of its last
    kRange,   // on the host: a step of a graph, or a node that was not replayed, while it was being queued
  };
  Kind kind = Kind::kKernel;
  std::string name;  // the kernel's, "copy to device", or the node's
  // The node that queued it, as `ting inspect --graph` prints it without %. Empty: a step's inputs and outputs (graph
  // alone), or not known.
  std::string graph, node, op, implementation;
  int64_t start_ns = 0, end_ns = 0;  // one clock for host and devices
  uint32_t device = 0;
  uint32_t track = 0;     // the stream, or a host thread
  uint64_t step = 0;      // the same number: queued by the same step
  std::string geometry;   // a kernel's "grid 132x1x1 block 384x1x1 shared 100352 registers 168"
  int64_t num_bytes = 0;  // copied or filled
  // What the arithmetic asks for at the least (kernels/work.h); 0: not known. Of a kernel only where its node queues
  // one, or one for each part of its work; of a node always where its op is counted.
  double flops = 0, bytes = 0;
  std::string part;  // of the node's work that a kernel does, where that is known: "qkv"

  double us() const { return static_cast<double>(end_ns - start_ns) / 1e3; }
};

class Tracer {
 public:
  // Refuses where the build has no CUPTI, the machine has none, or another profiler holds it. One at a time.
  static Result<std::unique_ptr<Tracer>> Create();
  virtual ~Tracer() = default;
  // Forgets what was recorded so far. Steps whose CUDA graphs were recorded before Create have no nodes' names.
  virtual Status Start() = 0;
  // Everything since Start, in the order of its start. Waits until the devices are idle; nothing may be queued
  // meanwhile.
  virtual Result<std::vector<TraceEvent>> Stop() = 0;
};

}  // namespace ting
