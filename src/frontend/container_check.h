// src/frontend/container_check.h
// SPDX-License-Identifier: Apache-2.0
//
// Does a file end before its container says it does? libsndfile shortens a cut WAV, AIFF or Ogg file silently, and
// a recogniser would return half a sentence as if it were the whole.
#pragma once

#include <cstddef>
#include <span>

#include "ting/status.h"

namespace ting {

// DataLoss where the sample chunk of a WAV or AIFF file, or the last page of an Ogg file, goes past the end. OK for
// other containers (FLAC, MP3 and CAF tell while they are decoded), for lengths that writers to a pipe leave open
// (0x7ffff000 bytes and above), and for bytes that are no container at all. An Ogg file cut between two pages is not
// recognised.
Status CheckNotCutShort(std::span<const std::byte> bytes);

}  // namespace ting
