// src/decoders/cuda/search_results.h
// SPDX-License-Identifier: Apache-2.0
//
// What the searches left in host memory, as the values that the CPU searches return.
#pragma once

#include <vector>

#include "decoders/ctc_greedy.h"
#include "decoders/ctc_prefix_beam.h"
#include "decoders/cuda/search_types.h"
#include "ting/status.h"

namespace ting::cuda_ctc {

// Fails when a sequence lies outside the reserved rows, or was refused: with the CPU search's words.
Result<std::vector<std::vector<PrefixHypothesis>>> ReadPrefixHypotheses(const SearchOutput& output, int num_sequences,
                                                                        int beam);
Result<std::vector<GreedyResult>> ReadGreedyResults(const SearchOutput& output, int num_sequences);

}  // namespace ting::cuda_ctc
