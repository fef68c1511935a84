// src/kernels/cuda/tuner.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/tuner.h"

#include <algorithm>
#include <limits>
#include <random>
#include <set>

#include "base/status_macros.h"
#include "kernels/cuda/graph_recording.h"
#include "kernels/cuda/launch.h"

namespace ting::cuda {
namespace {

constexpr size_t kMostWeightBytes = size_t{128} << 20;  // of all launches of a graph; they share some beyond that
constexpr size_t kMostRowBytes = size_t{512} << 20;     // of a product's rows: larger products are left out
constexpr int64_t kMostRows = 16384;
constexpr size_t kMostCopies = 24;  // of weights
constexpr size_t kNeighbours = 3;   // products that run between the launches

using Look = TuningEffort::Look;

constexpr double kHopeless = 1.15;   // times the fastest: one replay tells enough
constexpr double kLeastGain = 0.98;  // of the time of the kernel's own choice: less is scatter
constexpr double kNever = std::numeric_limits<double>::infinity();

size_t Aligned(size_t bytes) { return (bytes + 1023) / 1024 * 1024; }

// Words that hold ordinary numbers of about 1, whether they are read as f32, f16 or bf16.
Status FillWithNumbers(const DeviceMemory& memory) {
  std::mt19937 random(1);
  std::vector<uint32_t> words(1 << 18);
  for (uint32_t& word : words) {
    const auto bits = static_cast<uint32_t>(random());
    word = (bits & 0x807F0000U) | 0x3F800000U | (bits & 0x83FFU) | 0x3800U;
  }
  const size_t block = words.size() * sizeof(uint32_t);
  for (size_t at = 0; at < memory.size(); at += block) {
    TING_CUDA_RETURN_IF_ERROR(cudaMemcpy(static_cast<std::byte*>(memory.data()) + at, words.data(),
                                         std::min(block, memory.size() - at), cudaMemcpyHostToDevice));
  }
  return Status();
}

class Event {
 public:
  ~Event() {
    if (handle_ != nullptr) cudaEventDestroy(handle_);
  }
  Status Create() { return CudaStatus(cudaEventCreate(&handle_), "cudaEventCreate"); }
  cudaEvent_t handle() const { return handle_; }

 private:
  cudaEvent_t handle_ = nullptr;
};

class Tuner {
 public:
  Tuner(CudaBackend& backend, const TuningEffort& effort) : backend_(backend), effort_(effort) {}

  // Memory for every product at any of `rows`.
  Status Allocate(const std::vector<int64_t>& rows) {
    size_t weights = 0, x = 0, y = 0;
    for (const auto& [product, tunable] : backend_.tunables()) {
      weights = std::max(weights, Aligned(tunable->WeightBytes()) * Copies(*tunable));
      for (const int64_t count : rows) {
        if (!Fits(*tunable, count)) continue;
        x = std::max(x, tunable->InputBytes(count)), y = std::max(y, tunable->OutputBytes(count));
      }
    }
    TING_ASSIGN_OR_RETURN(stream_, CudaStream::Create());
    for (Event& event : events_) TING_RETURN_IF_ERROR(event.Create());
    const auto cache = static_cast<size_t>(backend_.properties().l2CacheSize);
    TING_ASSIGN_OR_RETURN(eviction_, DeviceMemory::Allocate(2 * cache));
    TING_ASSIGN_OR_RETURN(weights_, DeviceMemory::Allocate(weights));
    TING_ASSIGN_OR_RETURN(other_weights_, DeviceMemory::Allocate(weights));
    TING_ASSIGN_OR_RETURN(x_, DeviceMemory::Allocate(x));
    TING_ASSIGN_OR_RETURN(y_, DeviceMemory::Allocate(y));
    TING_ASSIGN_OR_RETURN(residual_, DeviceMemory::Allocate(y));
    for (const DeviceMemory* memory : {&weights_, &other_weights_, &x_, &residual_})
      TING_RETURN_IF_ERROR(FillWithNumbers(*memory));
    return Status();
  }

  static bool Fits(const Tunable& tunable, int64_t rows) {
    return tunable.InputBytes(rows) <= kMostRowBytes && tunable.OutputBytes(rows) <= kMostRowBytes;
  }

  Result<TuningRecord> Measure(const TuningProduct& product, const Tunable& tunable, int64_t rows) {
    TuningRecord record{product, rows, {}, 0, 0};
    SetNeighbours(tunable, rows);
    TING_ASSIGN_OR_RETURN(const std::vector<TuningConfig> finalists, FindFinalists(tunable, rows));
    TING_ASSIGN_OR_RETURN(const double others_us, NeighboursMicroseconds(rows, effort_.second));
    const auto measure = [&](const TuningConfig& config) -> Result<double> {
      TING_ASSIGN_OR_RETURN(const double us, Microseconds(&tunable, config, rows, effort_.second, kNever));
      return us - others_us;
    };
    TING_ASSIGN_OR_RETURN(record.unrecorded_us, measure({}));
    record.us = record.unrecorded_us;
    for (const TuningConfig& config : finalists) {
      TING_ASSIGN_OR_RETURN(const double us, measure(config));
      const double bar = record.config.empty() ? kLeastGain * record.us : record.us;
      if (us < bar) record.us = us, record.config = config;
    }
    return record;
  }

 private:
  static int Copies(const Tunable& tunable) {
    const size_t fit = kMostWeightBytes / Aligned(tunable.WeightBytes());
    return static_cast<int>(std::clamp<size_t>(fit, 1, kMostCopies));
  }

  // The products that write least, but for `tunable`.
  void SetNeighbours(const Tunable& tunable, int64_t rows) {
    neighbours_.clear();
    for (const auto& [product, other] : backend_.tunables()) {
      if (other.get() != &tunable && Fits(*other, rows)) neighbours_.push_back(other.get());
    }
    std::stable_sort(neighbours_.begin(), neighbours_.end(),
                     [&](const Tunable* a, const Tunable* b) { return a->OutputBytes(rows) < b->OutputBytes(rows); });
    neighbours_.resize(std::min(neighbours_.size(), kNeighbours));
  }

  // The fastest candidates at a first look.
  Result<std::vector<TuningConfig>> FindFinalists(const Tunable& tunable, int64_t rows) {
    TING_ASSIGN_OR_RETURN(const double others_us, NeighboursMicroseconds(rows, effort_.first));
    TING_ASSIGN_OR_RETURN(const double own_us, Microseconds(&tunable, {}, rows, effort_.first, kNever));
    double fastest = own_us - others_us;
    std::vector<std::pair<double, TuningConfig>> times;
    for (const TuningConfig& config : tunable.Candidates(rows)) {
      const auto us = Microseconds(&tunable, config, rows, effort_.first, others_us + kHopeless * fastest);
      if (!us.ok() && us.status().code() == StatusCode::kUnavailable) return us.status();  // the GPU is lost
      if (!us.ok()) continue;  // this one cannot be launched after all
      fastest = std::min(fastest, *us - others_us);
      times.emplace_back(*us, config);
    }
    std::sort(times.begin(), times.end());
    std::vector<TuningConfig> finalists;
    for (size_t i = 0; i < std::min(times.size(), effort_.finalists); ++i)
      finalists.push_back(std::move(times[i].second));
    return finalists;
  }

  Result<double> NeighboursMicroseconds(int64_t rows, Look look) {
    if (neighbours_.empty()) return 0.0;
    return Microseconds(nullptr, {}, rows, look, kNever);
  }

  // Of one launch and its neighbours; without a product, of these alone.
  Result<double> Microseconds(const Tunable* tunable, const TuningConfig& config, int64_t rows, Look look,
                              double hopeless) {
    TING_ASSIGN_OR_RETURN(const cudaGraphExec_t graph, RecordGraph(stream_->handle(), [&]() -> Status {
                            for (int i = 0; i < look.launches; ++i) {
                              for (const Tunable* other : neighbours_) {
                                TING_RETURN_IF_ERROR(other->Run({}, CallOf(*other, rows, i, other_weights_)));
                              }
                              if (tunable == nullptr) continue;
                              TING_RETURN_IF_ERROR(tunable->Run(config, CallOf(*tunable, rows, i, weights_)));
                            }
                            return Status();
                          }));
    auto us = Replays(graph, look, hopeless * look.launches);
    cudaGraphExecDestroy(graph);
    if (!us.ok()) return us;
    return *us / look.launches;
  }

  TuningCall CallOf(const Tunable& tunable, int64_t rows, int launch, const DeviceMemory& weights) const {
    const size_t at = Aligned(tunable.WeightBytes()) * static_cast<size_t>(launch % Copies(tunable));
    TuningCall call;
    call.rows = rows;
    call.weights = static_cast<const std::byte*>(weights.data()) + at;
    call.x = x_.data(), call.y = y_.data(), call.residual = static_cast<const float*>(residual_.data());
    call.lt_workspace = stream_->lt_workspace();
    call.dependent = launch > 0;
    call.stream = stream_->handle();
    return call;
  }

  // Microseconds of a replay: the median, or the first one if that is over `hopeless`.
  Result<double> Replays(cudaGraphExec_t graph, Look look, double hopeless) {
    TING_ASSIGN_OR_RETURN(double us, Replay(graph));  // this one loads the kernels
    TING_ASSIGN_OR_RETURN(us, Replay(graph));
    if (us > hopeless) return us;
    std::vector<double> times{us};
    while (times.size() < look.replays) {
      TING_ASSIGN_OR_RETURN(us, Replay(graph));
      times.push_back(us);
    }
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    return *middle;
  }

  Result<double> Replay(cudaGraphExec_t graph) {
    const cudaStream_t stream = stream_->handle();
    TING_CUDA_RETURN_IF_ERROR(cudaMemsetAsync(eviction_.data(), 0, eviction_.size(), stream));
    TING_CUDA_RETURN_IF_ERROR(cudaEventRecord(events_[0].handle(), stream));
    TING_CUDA_RETURN_IF_ERROR(cudaGraphLaunch(graph, stream));
    TING_CUDA_RETURN_IF_ERROR(cudaEventRecord(events_[1].handle(), stream));
    TING_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream));
    float ms = 0;
    TING_CUDA_RETURN_IF_ERROR(cudaEventElapsedTime(&ms, events_[0].handle(), events_[1].handle()));
    return static_cast<double>(ms) * 1e3;
  }

  CudaBackend& backend_;
  const TuningEffort effort_;
  std::unique_ptr<CudaStream> stream_;
  Event events_[2];
  DeviceMemory eviction_, weights_, other_weights_, x_, y_, residual_;
  std::vector<const Tunable*> neighbours_;  // run before each launch
};

// As steps are padded, each once.
std::vector<int64_t> RowsOf(const TuningRequest& request) {
  std::set<int64_t> rows;
  for (const int64_t count : request.rows) rows.insert(PadRows(count));
  if (request.rows.empty()) {
    for (int64_t count = PadRows(1); count <= kMostRows; count = PadRows(count + 1)) rows.insert(count);
  }
  return {rows.begin(), rows.end()};
}

}  // namespace

Result<std::vector<TuningRecord>> TuneProducts(CudaBackend& backend, const TuningRequest& request,
                                               const TuningEffort& effort) {
  backend.tuning().Clear();
  const std::vector<int64_t> rows = RowsOf(request);
  Tuner tuner(backend, effort);
  TING_RETURN_IF_ERROR(tuner.Allocate(rows));
  std::vector<TuningRecord> records;
  for (const auto& [product, tunable] : backend.tunables()) {
    for (const int64_t count : rows) {
      if (!Tuner::Fits(*tunable, count)) continue;
      auto record = tuner.Measure(product, *tunable, count);
      if (!record.ok()) return record.status().WithContext(fmt::format("{}, {} rows", product.ToString(), count));
      if (request.progress) request.progress(*record);
      records.push_back(*std::move(record));
    }
  }
  for (const TuningRecord& record : records) {
    if (!record.config.empty()) backend.tuning().Put(record);
  }
  return records;
}

}  // namespace ting::cuda
