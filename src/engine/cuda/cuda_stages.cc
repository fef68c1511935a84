// src/engine/cuda/cuda_stages.cc
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "decoders/cuda/ctc_search.h"
#include "engine/device_stages.h"
#include "frontend/cuda/fbank.h"
#include "kernels/cuda/cuda_backend.h"
#include "runtime/upload_ring.h"

namespace ting {
namespace {

cudaStream_t HandleOf(Stream& stream) { return static_cast<cuda::CudaStream&>(stream).handle(); }

// A stage as profilers and traces see it: a step of one node, which both end with the range.
StepLabels StageLabels(const char* graph, const char* op) { return {graph, {MakeNodeLabel(op, op, "cuda")}}; }
const StepLabels& FeatureLabels() {
  static const auto* labels = new StepLabels(StageLabels("features", "fbank"));
  return *labels;
}
const StepLabels& GreedyLabels() {
  static const auto* labels = new StepLabels(StageLabels("search", "ctc_greedy"));
  return *labels;
}
const StepLabels& PrefixBeamLabels() {
  static const auto* labels = new StepLabels(StageLabels("search", "ctc_prefix_beam"));
  return *labels;
}

class StageRange {
 public:
  StageRange(Device& device, const StepLabels& labels, const KernelWork& work)
      : work_{{work}}, step_(device, labels, work_), node_(device, 0) {}

 private:
  StepWork work_;
  StepRange step_;
  NodeRange node_;
};

KernelWork SearchWorkOf(const TopKRows& rows) {
  return SearchWork(rows.logp.tensor.rows(), static_cast<int>(rows.logp.tensor.shape[1]));
}

class CudaStages : public DeviceStages {
 public:
  CudaStages(Device& device, CudaFbank fbank, int num_mel_bins, CudaCtcSearch search, std::unique_ptr<Event> searched)
      : device_(device),
        fbank_(std::move(fbank)),
        num_mel_bins_(num_mel_bins),
        search_(std::move(search)),
        searched_(std::move(searched)),
        uploads_(device) {}

  Result<const float*> Features(std::span<const std::span<const float>> utterances, const RowSet& rows,
                                ThreadPool& pool, Stream& stream) override;

  void ReleaseMemory() override { packed_.reset(), features_.reset(); }

  int max_beam() const override { return CudaCtcSearch::kMaxBeam; }
  Status QueueGreedy(const TopKRows& rows, int32_t blank_id, Stream& stream) override {
    const StageRange range(device_, GreedyLabels(), SearchWorkOf(rows));
    TING_RETURN_IF_ERROR(search_.Greedy(RowsOf(rows), blank_id, HandleOf(stream)));
    return searched_->Record(stream);
  }
  Status QueuePrefixBeam(const TopKRows& rows, const PrefixBeamOptions& options, Stream& stream) override {
    const StageRange range(device_, PrefixBeamLabels(), SearchWorkOf(rows));
    TING_RETURN_IF_ERROR(search_.PrefixBeam(RowsOf(rows), options, HandleOf(stream)));
    return searched_->Record(stream);
  }
  Result<std::vector<GreedyResult>> GreedyResults(int num_sequences) override {
    TING_RETURN_IF_ERROR(searched_->Wait());
    return search_.GreedyResults(num_sequences);
  }
  Result<std::vector<std::vector<PrefixHypothesis>>> PrefixResults(int num_sequences) override {
    TING_RETURN_IF_ERROR(searched_->Wait());
    return search_.PrefixResults(num_sequences);
  }

 private:
  static CudaCtcRows RowsOf(const TopKRows& rows) {
    const DeviceRows& device = rows.logp.device_rows;
    return {rows.logp.tensor.as<float>(),
            rows.ids.tensor.as<int32_t>(),
            device.offsets,
            static_cast<int>(rows.logp.tensor.shape[1]),
            rows.logp.rows->num_sequences(),
            static_cast<int>(rows.logp.tensor.rows())};
  }
  // Buffers of at least so many bytes; growing waits for the stream, whose work may still read the old ones.
  Status Reserve(size_t packed_bytes, size_t feature_bytes, Stream& stream) {
    TING_RETURN_IF_ERROR(Grow(packed_bytes, stream, &packed_));
    return Grow(feature_bytes, stream, &features_);
  }
  Status Grow(size_t bytes, Stream& stream, std::unique_ptr<DeviceBuffer>* buffer) {
    if (*buffer && (*buffer)->size() >= bytes) return Status();
    TING_RETURN_IF_ERROR(stream.Synchronize());
    buffer->reset();
    TING_ASSIGN_OR_RETURN(*buffer, device_.Allocate(bytes + bytes / 4));
    return Status();
  }

  Device& device_;
  CudaFbank fbank_;
  int num_mel_bins_;
  CudaCtcSearch search_;
  std::unique_ptr<Event> searched_;
  UploadRing uploads_;
  std::unique_ptr<DeviceBuffer> packed_, features_;
};

// One block of bytes goes over: sample offsets, frame offsets, samples. Samples as f32: as int16 would be half the
// bytes, but its sums round otherwise, and whether an utterance has fractions may not change its neighbours' bits.
Result<const float*> CudaStages::Features(std::span<const std::span<const float>> utterances, const RowSet& rows,
                                          ThreadPool& pool, Stream& stream) {
  TING_RETURN_IF_ERROR(device_.MakeCurrent());
  const size_t B = utterances.size();
  std::vector<int64_t> offsets{0};
  for (const auto& samples : utterances) offsets.push_back(offsets.back() + static_cast<int64_t>(samples.size()));
  const StageRange range(device_, FeatureLabels(), FeaturesWork(offsets.back(), rows.num_rows(), num_mel_bins_));
  const size_t frame_offsets_at = AlignUp(offsets.size() * sizeof(int64_t));
  const size_t samples_at = frame_offsets_at + AlignUp((B + 1) * sizeof(int32_t));
  const size_t bytes = samples_at + offsets.back() * sizeof(float);
  const size_t feature_bytes = device_.PadRows(rows.num_rows()) * num_mel_bins_ * sizeof(float);
  TING_RETURN_IF_ERROR(Reserve(bytes, feature_bytes, stream));
  TING_ASSIGN_OR_RETURN(std::byte * host, uploads_.Begin(bytes));
  std::memcpy(host, offsets.data(), offsets.size() * sizeof(int64_t));
  std::memcpy(host + frame_offsets_at, rows.offsets().data(), (B + 1) * sizeof(int32_t));
  pool.ParallelFor(static_cast<int64_t>(B), [&](int64_t b, int) {
    std::memcpy(host + samples_at + offsets[b] * sizeof(float), utterances[b].data(), utterances[b].size_bytes());
  });
  TING_RETURN_IF_ERROR(uploads_.Send(packed_->data(), bytes, stream));
  auto* features = reinterpret_cast<float*>(features_->data());
  TING_RETURN_IF_ERROR(fbank_.Compute(reinterpret_cast<const float*>(packed_->data() + samples_at),
                                      reinterpret_cast<const int64_t*>(packed_->data()),
                                      reinterpret_cast<const int32_t*>(packed_->data() + frame_offsets_at),
                                      static_cast<int>(B), rows.num_rows(), features, HandleOf(stream)));
  return static_cast<const float*>(features);
}

}  // namespace

Result<std::unique_ptr<DeviceStages>> CreateDeviceStages(Device& device, const FbankOptions& options) {
  if (device.uses_host_memory()) return std::unique_ptr<DeviceStages>();
  TING_RETURN_IF_ERROR(device.MakeCurrent());
  TING_ASSIGN_OR_RETURN(CudaFbank fbank, CudaFbank::Create(options));
  TING_ASSIGN_OR_RETURN(CudaCtcSearch search, CudaCtcSearch::Create());
  TING_ASSIGN_OR_RETURN(std::unique_ptr<Event> searched, device.CreateEvent());
  return std::unique_ptr<DeviceStages>(std::make_unique<CudaStages>(device, std::move(fbank), options.num_mel_bins,
                                                                    std::move(search), std::move(searched)));
}

}  // namespace ting
