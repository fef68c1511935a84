// src/engine/no_device_stages.cc
// SPDX-License-Identifier: Apache-2.0
//
// Stands in for engine/cuda in builds without the CUDA backend.
#include "engine/device_stages.h"

namespace ting {

Result<std::unique_ptr<DeviceStages>> CreateDeviceStages(Device&, const FbankOptions&) {
  return std::unique_ptr<DeviceStages>();
}

}  // namespace ting
