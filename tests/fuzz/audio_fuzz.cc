// tests/fuzz/audio_fuzz.cc
// SPDX-License-Identifier: Apache-2.0
//
// Any bytes as an uploaded sound file: a result with finite samples within the limit, or a sentence. The first byte
// chooses the channel, so that the mean, a present and a missing channel are all reached.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "frontend/audio_reader.h"

// libsndfile 1.2 forgets what libvorbis allocated when it refuses a damaged Vorbis header.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() {
  return "leak:vorbis_info_init\nleak:vorbis_synthesis_headerin\n";
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ting::ReadAudioOptions options;
  if (size > 0) {
    options.channel = static_cast<int>(data[0] % 4) - 1;
    options.sample_rate_hz = data[0] & 0x80 ? 8000 : 16000;
    ++data, --size;
  }
  constexpr double kMaxSeconds = 30;  // a small FLAC file may honestly hold hours of silence
  const auto audio = ting::ReadAudioBytesWithin(std::as_bytes(std::span(data, size)), options, {kMaxSeconds});
  if (!audio.ok()) {
    if (audio.status().message().empty()) std::abort();
    return 0;
  }
  if (audio->samples.empty() || audio->seconds() > kMaxSeconds + 1) std::abort();
  for (const float sample : audio->samples) {
    if (!std::isfinite(sample)) std::abort();
  }
  return 0;
}
