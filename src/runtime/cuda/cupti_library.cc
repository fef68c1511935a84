// src/runtime/cuda/cupti_library.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/cuda/cupti_library.h"

#include <dlfcn.h>

#include <string>

#include "base/status_macros.h"

namespace ting {
namespace {

void* OpenLibrary() {
  constexpr const char* kFolders[] = {"", "/usr/local/cuda/extras/CUPTI/lib64/", "/usr/local/cuda/lib64/"};
  constexpr const char* kNames[] = {"libcupti.so.13", "libcupti.so.12", "libcupti.so"};
  for (const char* folder : kFolders) {
    for (const char* name : kNames) {
      if (void* library = dlopen((std::string(folder) + name).c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    }
  }
  return nullptr;
}

template <typename Function>
bool Find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

}  // namespace

Result<CuptiLibrary> CuptiLibrary::Load() {
  void* library = OpenLibrary();
  if (library == nullptr) {
    return FailedPrecondition(
        "traces need libcupti.so of the CUDA toolkit (13 or 12), which is not installed here; put its folder on "
        "LD_LIBRARY_PATH");
  }
  CuptiLibrary cupti;
  const bool found = Find(library, "cuptiActivityRegisterCallbacks", &cupti.register_callbacks) &&
                     Find(library, "cuptiActivityEnable", &cupti.enable) &&
                     Find(library, "cuptiActivityDisable", &cupti.disable) &&
                     Find(library, "cuptiActivityFlushAll", &cupti.flush_all) &&
                     Find(library, "cuptiActivityGetNextRecord", &cupti.next_record) &&
                     Find(library, "cuptiActivityPushExternalCorrelationId", &cupti.push_id) &&
                     Find(library, "cuptiActivityPopExternalCorrelationId", &cupti.pop_id) &&
                     Find(library, "cuptiGetTimestamp", &cupti.timestamp) &&
                     Find(library, "cuptiGetResultString", &cupti.result_string);
  if (!found)
    return FailedPrecondition("this machine's libcupti is too old for traces; use that of CUDA 12.4 or later");
  return cupti;
}

Status CuptiLibrary::Check(CUptiResult result, const char* what) const {
  if (result == CUPTI_SUCCESS) return Status();
  const char* text = "unknown";
  result_string(result, &text);
  return FailedPrecondition("no trace: CUPTI answers {} to {}; is another profiler running?", text, what);
}

}  // namespace ting
