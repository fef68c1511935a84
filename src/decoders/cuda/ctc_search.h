// src/decoders/cuda/ctc_search.h
// SPDX-License-Identifier: Apache-2.0
//
// CudaCtcSearch: greedy and prefix beam search on the GPU, for all utterances of a step at once, on what op
// log_softmax_topk left in device memory.
// Inputs      packed rows [rows, k] of B sequences, device row_offsets [B + 1]; B and max_rows may be bounds (of a
//             bucket, or of a captured graph): sequences beyond the real ones have no rows, their offsets repeat.
//             Symbols of a frame are distinct and best first, as the op writes them.
// Results     the kernel writes them to pinned host memory of this object, only as much as they are; valid once the
//             stream has passed the search (an event after it), until the next search
// Same as     CtcGreedySearch bit for bit; CtcPrefixBeam in lists, order and times, scores within a few 1e-16 of each
//             sum (log_add.h), so that lists can differ only where two scores do not differ by more than that
// Limits      beams up to 32; wider ones are refused, the CPU search does them
// Execution   asynchronous on stream; after Reserve for what comes no allocation, no synchronisation, fixed addresses:
//             may be captured. One search at a time: two streams want two objects. Reserve waits for nothing: call it
//             when no search is under way.
// Device      that which is current at Create; it must be current at the other calls
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <vector>

#include "decoders/ctc_greedy.h"
#include "decoders/ctc_prefix_beam.h"
#include "decoders/cuda/search_types.h"
#include "ting/status.h"

namespace ting {

struct CudaCtcRows {
  const float* logp = nullptr;           // device [rows, k]
  const int32_t* ids = nullptr;          // device [rows, k]
  const int32_t* row_offsets = nullptr;  // device [B + 1]
  int k = 0;
  int num_sequences = 0;  // B, or a bound
  int max_rows = 0;       // at least row_offsets[B]
};

class CudaCtcSearch {
 public:
  static constexpr int kMaxBeam = cuda_ctc::kMaxBeam;

  static Result<CudaCtcSearch> Create();
  ~CudaCtcSearch();
  CudaCtcSearch(CudaCtcSearch&&) noexcept;
  CudaCtcSearch& operator=(CudaCtcSearch&&) noexcept;

  // Room for searches of up to so many sequences, rows in all and prefixes (greedy: 1). Grows only, and moves then.
  Status Reserve(int num_sequences, int max_rows, int beam);

  // Both reserve what is missing, which fails under capture.
  Status Greedy(const CudaCtcRows& rows, int32_t blank_id, cudaStream_t stream);
  Status PrefixBeam(const CudaCtcRows& rows, const PrefixBeamOptions& options, cudaStream_t stream);

  // Of the first `num_sequences` of the last search. Fails for frames that the CPU search refuses.
  Result<std::vector<GreedyResult>> GreedyResults(int num_sequences) const;
  Result<std::vector<std::vector<PrefixHypothesis>>> PrefixResults(int num_sequences) const;

 private:
  struct Memory;
  explicit CudaCtcSearch(std::unique_ptr<Memory> memory);

  std::unique_ptr<Memory> memory_;
  int last_sequences_ = 0, last_beam_ = 0;  // beam 0: the last search was greedy, or none
};

}  // namespace ting
