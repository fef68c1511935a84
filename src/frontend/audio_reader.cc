// src/frontend/audio_reader.cc
// SPDX-License-Identifier: Apache-2.0
//
// Sound files to one channel of float samples in int16 range. Formats of at most 16 bits and lossy ones are read
// as int16, because that is how training read them: the features of an Opus clip are then exactly those of its
// rounded samples. 24 and 32 bit integers and floats keep their precision.
#include "frontend/audio_reader.h"

#include <sndfile.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>

#include "base/status_macros.h"
#include "frontend/container_check.h"
#include "frontend/resampler.h"

namespace ting {
namespace {

constexpr size_t kMaxFileBytes = size_t{4} << 30;
constexpr int kBlockSamples = 1 << 16;

// The bytes as the file that libsndfile wants to see.
struct ByteFile {
  std::span<const std::byte> bytes;
  sf_count_t at = 0;
};

sf_count_t FileLength(void* user) { return static_cast<sf_count_t>(static_cast<ByteFile*>(user)->bytes.size()); }
sf_count_t FileTell(void* user) { return static_cast<ByteFile*>(user)->at; }
sf_count_t FileSeek(sf_count_t offset, int whence, void* user) {
  auto* file = static_cast<ByteFile*>(user);
  const sf_count_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? file->at : FileLength(user);
  sf_count_t target = 0;
  if (__builtin_add_overflow(base, offset, &target) || target < 0) return -1;
  file->at = std::min(target, FileLength(user));
  return file->at;
}
sf_count_t FileRead(void* out, sf_count_t count, void* user) {
  auto* file = static_cast<ByteFile*>(user);
  const sf_count_t n = std::clamp<sf_count_t>(count, 0, FileLength(user) - file->at);
  std::memcpy(out, file->bytes.data() + file->at, static_cast<size_t>(n));
  file->at += n;
  return n;
}
sf_count_t FileWrite(const void*, sf_count_t, void*) { return 0; }

struct CloseSound {
  void operator()(SNDFILE* file) const { sf_close(file); }
};
using SoundFile = std::unique_ptr<SNDFILE, CloseSound>;

// Those of libsndfile's thirty containers that people send, and that show when they are cut short.
bool IsWelcome(int format) {
  switch (format & SF_FORMAT_TYPEMASK) {
    case SF_FORMAT_WAV:
    case SF_FORMAT_WAVEX:
    case SF_FORMAT_AIFF:
    case SF_FORMAT_CAF:
    case SF_FORMAT_FLAC:
    case SF_FORMAT_OGG:
    case SF_FORMAT_MPEG:
      return true;
    default:
      return false;
  }
}

bool KeepsMoreThan16Bits(int format) {
  switch (format & SF_FORMAT_SUBMASK) {
    case SF_FORMAT_PCM_24:
    case SF_FORMAT_PCM_32:
    case SF_FORMAT_FLOAT:
    case SF_FORMAT_DOUBLE:
    case SF_FORMAT_ALAC_20:
    case SF_FORMAT_ALAC_24:
    case SF_FORMAT_ALAC_32:
      return true;
    default:
      return false;
  }
}

Status CheckShape(const SF_INFO& info, const ReadAudioOptions& options, const AudioLimits& limits) {
  if (info.samplerate < kMinSampleRateHz || info.samplerate > kMaxSampleRateHz || info.channels < 1) {
    return DataLoss("the header claims {} Hz and {} channels, which no recording has", info.samplerate, info.channels);
  }
  if (options.channel < -1 || options.channel >= info.channels) {
    return InvalidArgument("channel {} was asked for, but there are {} (0 is the first, -1 the mean of all)",
                           options.channel, info.channels);
  }
  if (info.frames != SF_COUNT_MAX && double(info.frames) / info.samplerate > limits.max_seconds) {
    return ResourceExhausted("the sound lasts {:.0f} s and the limit is {:.0f} s; split it",
                             double(info.frames) / info.samplerate, limits.max_seconds);
  }
  return Status();
}

// Interleaved frames to one channel in int16 range.
template <typename T>
void TakeChannel(const T* frames, int64_t num_frames, int channels, int channel, float scale, float* out) {
  if (channel >= 0) {
    for (int64_t i = 0; i < num_frames; ++i) out[i] = float(frames[i * channels + channel]) * scale;
    return;
  }
  for (int64_t i = 0; i < num_frames; ++i) {
    float sum = 0;
    for (int c = 0; c < channels; ++c) sum += float(frames[i * channels + c]);
    out[i] = sum * (scale / float(channels));
  }
}

sf_count_t ReadFrames(SNDFILE* file, int16_t* out, sf_count_t n) { return sf_readf_short(file, out, n); }
sf_count_t ReadFrames(SNDFILE* file, float* out, sf_count_t n) { return sf_readf_float(file, out, n); }

// Decodes, picks the channel and resamples block by block, so that memory holds the result alone.
template <typename T>
Status Decode(SNDFILE* file, const SF_INFO& info, const ReadAudioOptions& options, const AudioLimits& limits,
              float scale, std::vector<float>* out) {
  TING_ASSIGN_OR_RETURN(auto resampler, Resampler::Create(info.samplerate, options.sample_rate_hz));
  const sf_count_t block = std::max(1, kBlockSamples / info.channels);
  std::vector<T> frames(block * info.channels);
  std::vector<float> mono(block);
  sf_count_t total = 0;
  for (sf_count_t n = 0; (n = ReadFrames(file, frames.data(), block)) > 0; total += n) {
    TakeChannel(frames.data(), n, info.channels, options.channel, scale, mono.data());
    for (sf_count_t i = 0; i < n; ++i) {
      if (!std::isfinite(mono[i])) return DataLoss("sample {} is not a finite number; the file is damaged", total + i);
    }
    if (double(total + n) / info.samplerate > limits.max_seconds) {
      return ResourceExhausted("the sound lasts more than the limit of {:.0f} s; split it", limits.max_seconds);
    }
    TING_RETURN_IF_ERROR(resampler.Process({mono.data(), static_cast<size_t>(n)}, out));
  }
  if (info.frames != SF_COUNT_MAX && total < info.frames) {
    return DataLoss("the file ends early or is damaged: its header promises {} samples a channel and {} could be read",
                    info.frames, total);
  }
  if (sf_error(file) != SF_ERR_NO_ERROR) return DataLoss("decoding failed: {}", sf_strerror(file));
  TING_RETURN_IF_ERROR(resampler.Flush(out));
  if (out->empty()) return InvalidArgument("there is no sound in it: it has {} samples", total);
  return Status();
}

Result<Audio> DecodeBytes(std::span<const std::byte> bytes, const ReadAudioOptions& options,
                          const AudioLimits& limits) {
  if (bytes.empty()) return InvalidArgument("it is empty (0 bytes)");
  TING_RETURN_IF_ERROR(CheckNotCutShort(bytes));
  SF_VIRTUAL_IO io = {FileLength, FileSeek, FileRead, FileWrite, FileTell};
  ByteFile source{bytes};
  SF_INFO info = {};
  const SoundFile file(sf_open_virtual(&io, SFM_READ, &info, &source));
  if (!file) {
    return DataLoss("it is not sound that can be read ({}); use WAV, FLAC, Ogg (Opus, Vorbis) or MP3",
                    sf_error_number(sf_error(nullptr)));
  }
  if (!IsWelcome(info.format)) {
    return Unimplemented("its container (libsndfile's 0x{:06x}) is not read; convert it to WAV, FLAC, Ogg or MP3",
                         info.format & SF_FORMAT_TYPEMASK);
  }
  TING_RETURN_IF_ERROR(CheckShape(info, options, limits));
  // Lossy decoders overshoot: clip at the int16 limits instead of wrapping around.
  sf_command(file.get(), SFC_SET_CLIPPING, nullptr, SF_TRUE);
  Audio audio;
  audio.sample_rate_hz = options.sample_rate_hz;
  if (KeepsMoreThan16Bits(info.format)) {
    TING_RETURN_IF_ERROR(Decode<float>(file.get(), info, options, limits, 32768.0F, &audio.samples));
  } else {
    TING_RETURN_IF_ERROR(Decode<int16_t>(file.get(), info, options, limits, 1.0F, &audio.samples));
  }
  return audio;
}

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

// Read, not mapped: pipes are welcome, and a file cut by someone else meanwhile is an error and not a signal.
Result<std::vector<std::byte>> ReadFile(const std::string& path) {
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "rb"));
  if (!file && errno == ENOENT) return NotFound("no such file");
  if (!file) return FailedPrecondition("it cannot be opened: {}", std::strerror(errno));
  struct stat info = {};
  if (fstat(fileno(file.get()), &info) == 0 && S_ISDIR(info.st_mode)) {
    return InvalidArgument("it is a directory; give a sound file");
  }
  std::vector<std::byte> bytes(std::clamp<int64_t>(info.st_size + 1, 1 << 16, kMaxFileBytes));
  size_t size = 0;
  for (size_t n = 1; n > 0; size += n) {
    if (size >= kMaxFileBytes) return ResourceExhausted("it has more than {} bytes; split it", kMaxFileBytes);
    if (size == bytes.size()) bytes.resize(std::min(2 * size, kMaxFileBytes));
    n = std::fread(bytes.data() + size, 1, bytes.size() - size, file.get());
  }
  if (std::ferror(file.get()) != 0) return DataLoss("reading failed after {} bytes: {}", size, std::strerror(errno));
  bytes.resize(size);
  return bytes;
}

}  // namespace

Result<Audio> ReadAudioBytesWithin(std::span<const std::byte> bytes, const ReadAudioOptions& options,
                                   const AudioLimits& limits) {
  try {
    return DecodeBytes(bytes, options, limits);
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("out of memory while decoding the sound");
  }
}

Result<Audio> ReadAudioBytes(std::span<const std::byte> bytes, const ReadAudioOptions& options) {
  return ReadAudioBytesWithin(bytes, options, AudioLimits());
}

Result<Audio> ReadAudio(const std::string& path, const ReadAudioOptions& options) {
  try {
    const Result<std::vector<std::byte>> bytes = ReadFile(path);
    if (!bytes.ok()) return bytes.status().WithContext(path);
    Result<Audio> audio = ReadAudioBytes(*bytes, options);
    if (!audio.ok()) return audio.status().WithContext(path);
    return audio;
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("{}: out of memory while reading the file", path);
  }
}

}  // namespace ting
