// src/runtime/cuda/cupti_tracer.cc
// SPDX-License-Identifier: Apache-2.0
//
// The Tracer on CUPTI's activity API. Records come in buffers on a thread of CUPTI's own; the records of driver and
// runtime calls are read for nothing but the link from a call to the range it was made in.
#include <cuda_runtime_api.h>
#include <cxxabi.h>

#include <cstdlib>
#include <map>
#include <mutex>

#include "base/status_macros.h"
#include "runtime/cuda/cupti_library.h"
#include "runtime/trace_log.h"
#include "ting/trace.h"

namespace ting {
namespace {

constexpr size_t kBufferBytes = 8 << 20;
constexpr size_t kBufferAlignment = 64;
constexpr CUpti_ExternalCorrelationKind kIdKind = CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0;
// CUPTI links a call with its range only where calls of that kind are recorded themselves.
constexpr CUpti_ActivityKind kKinds[] = {
    CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION, CUPTI_ACTIVITY_KIND_RUNTIME, CUPTI_ACTIVITY_KIND_DRIVER,
    CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,    CUPTI_ACTIVITY_KIND_MEMCPY,  CUPTI_ACTIVITY_KIND_MEMSET};

// What CUPTI has handed over so far.
struct Records {
  std::mutex mutex;
  std::vector<GpuActivity> activities;
  std::map<uint32_t, uint64_t> ranges;  // the id that each correlation's call carried
};

// One tracer at a time, because CUPTI's callbacks carry no pointer of ours.
Records& TheRecords() {
  static auto* records = new Records;
  return *records;
}
const CuptiLibrary* the_library = nullptr;

std::string Demangled(const char* name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string result = status == 0 && text != nullptr ? text : name;
  std::free(text);
  return result;
}

const char* CopyName(uint8_t kind) {
  switch (kind) {
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD:
      return "copy to device";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH:
      return "copy to host";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD:
      return "copy on device";
    default:
      return "copy";
  }
}

// The fields that records of all three kinds have.
template <typename Record>
GpuActivity ActivityOf(const Record& record, TraceEvent::Kind kind, std::string name) {
  GpuActivity activity;
  activity.event.kind = kind;
  activity.event.name = std::move(name);
  activity.event.start_ns = static_cast<int64_t>(record.start),
  activity.event.end_ns = static_cast<int64_t>(record.end);
  activity.event.device = record.deviceId, activity.event.track = record.streamId;
  activity.correlation = record.correlationId;
  activity.replayed = record.graphNodeId != 0;
  return activity;
}

GpuActivity KernelOf(const CUpti_ActivityKernel9& k) {
  GpuActivity activity = ActivityOf(k, TraceEvent::Kind::kKernel, Demangled(k.name));
  activity.event.geometry =
      fmt::format("grid {}x{}x{} block {}x{}x{} shared {} registers {}", k.gridX, k.gridY, k.gridZ, k.blockX, k.blockY,
                  k.blockZ, k.staticSharedMemory + k.dynamicSharedMemory, k.registersPerThread);
  return activity;
}

void Take(const CUpti_Activity* record, Records& records) {
  switch (record->kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
      records.activities.push_back(KernelOf(*reinterpret_cast<const CUpti_ActivityKernel9*>(record)));
      return;
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
      const auto& copy = *reinterpret_cast<const CUpti_ActivityMemcpy5*>(record);
      records.activities.push_back(ActivityOf(copy, TraceEvent::Kind::kCopy, CopyName(copy.copyKind)));
      records.activities.back().event.num_bytes = static_cast<int64_t>(copy.bytes);
      return;
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
      const auto& fill = *reinterpret_cast<const CUpti_ActivityMemset4*>(record);
      records.activities.push_back(ActivityOf(fill, TraceEvent::Kind::kFill, "fill"));
      records.activities.back().event.num_bytes = static_cast<int64_t>(fill.bytes);
      return;
    }
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: {
      const auto& link = *reinterpret_cast<const CUpti_ActivityExternalCorrelation*>(record);
      if (link.externalKind == kIdKind) records.ranges[link.correlationId] = link.externalId;
      return;
    }
    default:
      return;
  }
}

void CUPTIAPI GiveBuffer(uint8_t** buffer, size_t* size, size_t* max_records) {
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(kBufferAlignment, kBufferBytes));
  *size = *buffer == nullptr ? 0 : kBufferBytes;
  *max_records = 0;
}

void CUPTIAPI TakeBuffer(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid_bytes) {
  Records& records = TheRecords();
  {
    const std::lock_guard lock(records.mutex);
    CUpti_Activity* record = nullptr;
    while (the_library->next_record(buffer, valid_bytes, &record) == CUPTI_SUCCESS) Take(record, records);
  }
  std::free(buffer);
}

class CuptiTracer : public Tracer, public Correlator {
 public:
  explicit CuptiTracer(const CuptiLibrary& cupti) : cupti_(cupti), log_(*this) {}
  ~CuptiTracer() override {
    if (TraceLog::active() == &log_) TraceLog::SetActive(nullptr);
    for (const CUpti_ActivityKind kind : kKinds) cupti_.disable(kind);
    cupti_.flush_all(0);
  }
  Status Enable() {
    TING_RETURN_IF_ERROR(
        cupti_.Check(cupti_.register_callbacks(GiveBuffer, TakeBuffer), "cuptiActivityRegisterCallbacks"));
    for (const CUpti_ActivityKind kind : kKinds) {
      TING_RETURN_IF_ERROR(cupti_.Check(cupti_.enable(kind), "cuptiActivityEnable"));
    }
    TraceLog::SetActive(&log_);
    return Status();
  }

  Status Start() override {
    TING_RETURN_IF_ERROR(Flush());
    Records& records = TheRecords();
    const std::lock_guard lock(records.mutex);
    records.activities.clear(), records.ranges.clear();
    log_.Clear();
    return Status();
  }
  Result<std::vector<TraceEvent>> Stop() override {
    TING_RETURN_IF_ERROR(Flush());
    Records& records = TheRecords();
    const std::lock_guard lock(records.mutex);
    std::vector<TraceEvent> events = log_.Attribute(std::move(records.activities), records.ranges);
    records.activities.clear(), records.ranges.clear();
    log_.Clear();
    return events;
  }

  int64_t NowNs() override {
    uint64_t now = 0;
    cupti_.timestamp(&now);
    return static_cast<int64_t>(now);
  }
  void Push(uint64_t id) override { cupti_.push_id(kIdKind, id); }
  void Pop() override { cupti_.pop_id(kIdKind, nullptr); }

 private:
  Status Flush() {
    if (const cudaError_t error = cudaDeviceSynchronize(); error != cudaSuccess) {
      return Unavailable("the GPU went away: {}", cudaGetErrorString(error));
    }
    return cupti_.Check(cupti_.flush_all(0), "cuptiActivityFlushAll");
  }

  const CuptiLibrary& cupti_;
  TraceLog log_;
};

}  // namespace

Result<std::unique_ptr<Tracer>> Tracer::Create() {
  static const Result<CuptiLibrary> library = CuptiLibrary::Load();
  TING_RETURN_IF_ERROR(library.status());
  if (TraceLog::active() != nullptr) return FailedPrecondition("there is a tracer already; use it");
  the_library = &*library;
  auto tracer = std::make_unique<CuptiTracer>(*library);
  TING_RETURN_IF_ERROR(tracer->Enable());
  return std::unique_ptr<Tracer>(std::move(tracer));
}

}  // namespace ting
