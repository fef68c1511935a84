// src/decoders/cuda/ctc_search.cc
// SPDX-License-Identifier: Apache-2.0
#include "decoders/cuda/ctc_search.h"

#include <algorithm>

#include "base/cuda_status.h"
#include "decoders/cuda/ctc_search_kernels.h"
#include "decoders/cuda/log_add.h"
#include "decoders/cuda/search_results.h"

namespace ting {
namespace {

struct DeviceFree {
  void operator()(void* p) const { (void)cudaFree(p); }
};
struct HostFree {
  void operator()(void* p) const { (void)cudaFreeHost(p); }
};
template <class T>
using DeviceArray = std::unique_ptr<T, DeviceFree>;
template <class T>
using PinnedArray = std::unique_ptr<T, HostFree>;

template <class T>
Status Allocate(int64_t size, DeviceArray<T>* array) {
  array->reset();
  void* p = nullptr;
  TING_RETURN_IF_CUDA_ERROR(cudaMalloc(&p, std::max<int64_t>(size, 1) * sizeof(T)));
  array->reset(static_cast<T*>(p));
  return {};
}
// The GPU sees it under the same address (unified addressing, which every 64-bit system has).
template <class T>
Status Allocate(int64_t size, PinnedArray<T>* array) {
  array->reset();
  void* p = nullptr;
  TING_RETURN_IF_CUDA_ERROR(
      cudaHostAlloc(&p, std::max<int64_t>(size, 1) * sizeof(T), cudaHostAllocPortable | cudaHostAllocMapped));
  array->reset(static_cast<T*>(p));
  return {};
}

Status CheckRows(const CudaCtcRows& rows, int needed) {
  if (rows.num_sequences < 0 || rows.max_rows < 0 || rows.k < needed) {
    return InvalidArgument("CTC search: {} sequences of {} rows with {} symbols; {} symbols are needed",
                           rows.num_sequences, rows.max_rows, rows.k, needed);
  }
  return {};
}

}  // namespace

struct CudaCtcSearch::Memory {
  DeviceArray<cuda_ctc::SoftplusCell> softplus;
  int num_sequences = 0;
  int64_t rows = 0, slots = 0, hypotheses = 0;  // what the arrays hold
  DeviceArray<cuda_ctc::TrieNode> nodes;
  DeviceArray<int32_t> times, staged_tokens, staged_times;
  PinnedArray<cuda_ctc::SequenceHeader> sequences;
  PinnedArray<cuda_ctc::HypothesisHeader> hypothesis_headers;
  PinnedArray<int32_t> tokens, token_times;
  PinnedArray<float> peaks;

  cuda_ctc::SearchScratch scratch() const {
    return {nodes.get(), times.get(), staged_tokens.get(), staged_times.get()};
  }
  cuda_ctc::SearchOutput output() const {
    return {sequences.get(), hypothesis_headers.get(), tokens.get(), token_times.get(), peaks.get()};
  }
  // Growing frees memory, for which the whole device waits: by a quarter more than is needed, so that it is soon over.
  static int64_t WithRoom(int64_t size) { return size + size / 4; }
  Status GrowSlots(int64_t size) {
    if (size <= slots) return {};
    slots = 0, size = WithRoom(size);
    TING_RETURN_IF_ERROR(Allocate(size, &nodes));
    TING_RETURN_IF_ERROR(Allocate(size, &times));
    TING_RETURN_IF_ERROR(Allocate(size, &staged_tokens));
    TING_RETURN_IF_ERROR(Allocate(size, &staged_times));
    TING_RETURN_IF_ERROR(Allocate(size, &tokens));
    TING_RETURN_IF_ERROR(Allocate(size, &token_times));
    slots = size;
    return {};
  }
  Status GrowHeaders(int sequences_needed, int64_t hypotheses_needed) {
    if (sequences_needed > num_sequences) {
      num_sequences = 0, sequences_needed = static_cast<int>(WithRoom(sequences_needed));
      TING_RETURN_IF_ERROR(Allocate(sequences_needed, &sequences));
      num_sequences = sequences_needed;
    }
    if (hypotheses_needed > hypotheses) {
      hypotheses = 0, hypotheses_needed = WithRoom(hypotheses_needed);
      TING_RETURN_IF_ERROR(Allocate(hypotheses_needed, &hypothesis_headers));
      hypotheses = hypotheses_needed;
    }
    return {};
  }
  Status GrowRows(int64_t rows_needed) {
    if (rows_needed <= rows) return {};
    rows = 0, rows_needed = WithRoom(rows_needed);
    TING_RETURN_IF_ERROR(Allocate(rows_needed, &peaks));
    rows = rows_needed;
    return {};
  }
};

CudaCtcSearch::CudaCtcSearch(std::unique_ptr<Memory> memory) : memory_(std::move(memory)) {}
CudaCtcSearch::~CudaCtcSearch() = default;
CudaCtcSearch::CudaCtcSearch(CudaCtcSearch&&) noexcept = default;
CudaCtcSearch& CudaCtcSearch::operator=(CudaCtcSearch&&) noexcept = default;

Result<CudaCtcSearch> CudaCtcSearch::Create() {
  auto memory = std::make_unique<Memory>();
  std::vector<cuda_ctc::SoftplusCell> table(cuda_ctc::kSoftplusCells);
  cuda_ctc::MakeSoftplusTable(table.data());
  TING_RETURN_IF_ERROR(Allocate(cuda_ctc::kSoftplusCells, &memory->softplus));
  TING_RETURN_IF_CUDA_ERROR(cudaMemcpy(memory->softplus.get(), table.data(),
                                       table.size() * sizeof(cuda_ctc::SoftplusCell), cudaMemcpyHostToDevice));
  TING_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(nullptr));  // other streams do not wait for the copy's end
  return CudaCtcSearch(std::move(memory));
}

Status CudaCtcSearch::Reserve(int num_sequences, int max_rows, int beam) {
  if (num_sequences < 0 || max_rows < 0 || beam < 1 || beam > kMaxBeam) {
    return InvalidArgument("CTC search: cannot reserve {} sequences, {} rows, {} prefixes; prefixes are 1 to {}",
                           num_sequences, max_rows, beam, kMaxBeam);
  }
  // Nodes are counted in 32 bits.
  if (int64_t{max_rows} * beam > std::numeric_limits<int32_t>::max() - 1) {
    return InvalidArgument("CTC search: {} rows with {} prefixes are too many for one step", max_rows, beam);
  }
  TING_RETURN_IF_ERROR(memory_->GrowSlots(int64_t{max_rows} * beam));
  TING_RETURN_IF_ERROR(memory_->GrowHeaders(num_sequences, int64_t{num_sequences} * beam));
  return memory_->GrowRows(max_rows);
}

Status CudaCtcSearch::Greedy(const CudaCtcRows& rows, int32_t blank_id, cudaStream_t stream) {
  TING_RETURN_IF_ERROR(CheckRows(rows, 1));
  TING_RETURN_IF_ERROR(Reserve(rows.num_sequences, rows.max_rows, 1));
  last_sequences_ = 0;
  TING_RETURN_IF_CUDA_ERROR(cuda_ctc::LaunchGreedy({rows.logp, rows.ids, rows.row_offsets, rows.k, rows.max_rows},
                                                   rows.num_sequences, blank_id, memory_->scratch(), memory_->output(),
                                                   stream));
  last_sequences_ = rows.num_sequences, last_beam_ = 0;
  return {};
}

Status CudaCtcSearch::PrefixBeam(const CudaCtcRows& rows, const PrefixBeamOptions& options, cudaStream_t stream) {
  if (options.beam < 1 || options.token_beam < 1 || options.beam > kMaxBeam || options.token_beam > kMaxBeam) {
    return InvalidArgument(
        "prefix beam search on the GPU: beams of {} prefixes and {} tokens; both must be 1 to {}, the CPU search does "
        "wider ones",
        options.beam, options.token_beam, kMaxBeam);
  }
  TING_RETURN_IF_ERROR(CheckRows(rows, options.token_beam));
  TING_RETURN_IF_ERROR(Reserve(rows.num_sequences, rows.max_rows, options.beam));
  last_sequences_ = 0;
  const cuda_ctc::PrefixBeamSettings settings{options.beam, options.token_beam, options.blank_id,
                                              options.blank_skip_logp};
  TING_RETURN_IF_CUDA_ERROR(cuda_ctc::LaunchPrefixBeam({rows.logp, rows.ids, rows.row_offsets, rows.k, rows.max_rows},
                                                       rows.num_sequences, settings, memory_->softplus.get(),
                                                       memory_->scratch(), memory_->output(), stream));
  last_sequences_ = rows.num_sequences, last_beam_ = options.beam;
  return {};
}

Result<std::vector<GreedyResult>> CudaCtcSearch::GreedyResults(int num_sequences) const {
  if (num_sequences < 0 || num_sequences > last_sequences_ || last_beam_ != 0) {
    return FailedPrecondition("CTC search: no greedy results of {} sequences", num_sequences);
  }
  return cuda_ctc::ReadGreedyResults(memory_->output(), num_sequences);
}

Result<std::vector<std::vector<PrefixHypothesis>>> CudaCtcSearch::PrefixResults(int num_sequences) const {
  if (num_sequences < 0 || num_sequences > last_sequences_ || last_beam_ == 0) {
    return FailedPrecondition("CTC search: no prefix beam results of {} sequences", num_sequences);
  }
  return cuda_ctc::ReadPrefixHypotheses(memory_->output(), num_sequences, last_beam_);
}

}  // namespace ting
