// src/frontend/cuda/fbank_tables_host.h
// SPDX-License-Identifier: Apache-2.0
//
// The arrays behind cuda_fbank::DeviceTables, made on the host: the kernel's copies come from them, and the tests'
// emulation reads them as they are.
#pragma once

#include <vector>

#include "frontend/cuda/fbank_core.h"
#include "frontend/fbank_tables.h"

namespace ting::cuda_fbank {

struct HostTables {
  int32_t frame_length = 0, frame_shift = 0, points = 0, num_mel = 0, mel_rounds = 0;
  std::vector<Complex> window, twiddles, real_twiddles;
  std::vector<int32_t> position, mel_count, mel_start;
  std::vector<MelWeights> mel_weights;

  DeviceTables view() const;
};

// Refuses what Fbank refuses, and frames of more than 2048 samples.
Result<HostTables> MakeHostTables(const FbankOptions& options);

}  // namespace ting::cuda_fbank
