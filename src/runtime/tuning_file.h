// src/runtime/tuning_file.h
// SPDX-License-Identifier: Apache-2.0
//
// Tuning records (kernels/tuning.h) in a file: JSON, one a machine and model.
//
//   {"format": 1, "program": "0.1.0", "device": "NVIDIA H200", "capability": "9.0", "driver": "580.159.04",
//    "model": "9f86d081884c7d65",
//    "records": [{"op": "row_gemm", "type": "f16", "N": 768, "K": 256, "form": "norm half", "rows": 1024, "us": 5.4,
//                 "unrecorded_us": 5.9, "config": {"groups": 2, "tile_n": 64, …}}, …]}
//
// The file is untrusted: sizes and every value are checked here, what a configuration means by its kernel before it is
// used. Nothing in it can make a result wrong or a step fail.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"
#include "kernels/tuning.h"
#include "ting/status.h"

namespace ting {

// What records hold for. Another program has other kernels; another driver may load or compile them differently.
struct TuningIdentity {
  HardwareName hardware;
  std::string model;  // ShapeChecksum
};

// 16 hexadecimal digits of the module's graphs and of the names and shapes of its weights. Values do not count: times
// do not depend on them, so that models of one architecture, with random weights as well, share their records.
std::string ShapeChecksum(const Module& module);

// DIR/ting/DEVICE-CAPABILITY-DRIVER-MODEL.json with DIR from XDG_CACHE_HOME or HOME (.cache); empty where neither is
// set.
std::string DefaultTuningPath(const TuningIdentity& identity);

// NotFound: there is no such file. FailedPrecondition: it is of another machine, model or program. DataLoss: it is
// damaged.
Result<std::vector<TuningRecord>> ReadTuningFile(const std::string& path, const TuningIdentity& identity);
// Makes the folder; writes beside `path` first and renames, so that readers see the old file or the new one.
Status WriteTuningFile(const std::string& path, const TuningIdentity& identity,
                       const std::vector<TuningRecord>& records);

}  // namespace ting
