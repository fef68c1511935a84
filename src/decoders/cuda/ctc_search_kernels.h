// src/decoders/cuda/ctc_search_kernels.h
// SPDX-License-Identifier: Apache-2.0
//
// Launches of the CTC searches: one warp a sequence, a block each. Asynchronous, no allocation, safe under capture.
#pragma once

#include <cuda_runtime_api.h>

#include "decoders/cuda/log_add.h"
#include "decoders/cuda/search_types.h"

namespace ting::cuda_ctc {

cudaError_t LaunchPrefixBeam(const SearchRows& rows, int num_sequences, const PrefixBeamSettings& settings,
                             const SoftplusCell* softplus, const SearchScratch& scratch, const SearchOutput& output,
                             cudaStream_t stream);
cudaError_t LaunchGreedy(const SearchRows& rows, int num_sequences, int32_t blank_id, const SearchScratch& scratch,
                         const SearchOutput& output, cudaStream_t stream);

}  // namespace ting::cuda_ctc
