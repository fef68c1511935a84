// src/runtime/no_tracer.cc
// SPDX-License-Identifier: Apache-2.0
//
// Stands in for runtime/cuda's tracer in builds without CUPTI's headers.
#include "base/status_macros.h"
#include "ting/trace.h"

namespace ting {

Result<std::unique_ptr<Tracer>> Tracer::Create() {
  return FailedPrecondition(
      "this build cannot trace: it was made without CUPTI; build it where the CUDA toolkit has cupti.h");
}

}  // namespace ting
