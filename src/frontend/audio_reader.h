// src/frontend/audio_reader.h
// SPDX-License-Identifier: Apache-2.0
//
// The part of audio reading that the public header (ting/recognizer.h: ReadAudio, ReadAudioBytes) does not
// show: a limit on what a small hostile file may decode to, for servers and for the fuzzer.
#pragma once

#include "ting/recognizer.h"

namespace ting {

struct AudioLimits {
  double max_seconds = 24 * 3600;
};

Result<Audio> ReadAudioBytesWithin(std::span<const std::byte> bytes, const ReadAudioOptions& options,
                                   const AudioLimits& limits);

}  // namespace ting
