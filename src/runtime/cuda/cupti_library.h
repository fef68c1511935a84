// src/runtime/cuda/cupti_library.h
// SPDX-License-Identifier: Apache-2.0
//
// The functions of libcupti that the tracer calls, found when they are first needed: the program starts without it.
#pragma once

#include <cupti.h>

#include "ting/status.h"

namespace ting {

struct CuptiLibrary {
  decltype(&::cuptiActivityRegisterCallbacks) register_callbacks = nullptr;
  decltype(&::cuptiActivityEnable) enable = nullptr;
  decltype(&::cuptiActivityDisable) disable = nullptr;
  decltype(&::cuptiActivityFlushAll) flush_all = nullptr;
  decltype(&::cuptiActivityGetNextRecord) next_record = nullptr;
  decltype(&::cuptiActivityPushExternalCorrelationId) push_id = nullptr;
  decltype(&::cuptiActivityPopExternalCorrelationId) pop_id = nullptr;
  decltype(&::cuptiGetTimestamp) timestamp = nullptr;
  decltype(&::cuptiGetResultString) result_string = nullptr;

  // Looks where the loader does, then in the toolkit's usual folders. Stays loaded.
  static Result<CuptiLibrary> Load();
  Status Check(CUptiResult result, const char* what) const;
};

}  // namespace ting
