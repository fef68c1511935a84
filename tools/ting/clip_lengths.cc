// tools/ting/clip_lengths.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/clip_lengths.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "base/mmap_file.h"
#include "base/status_macros.h"
#include "tools/ting/text_lines.h"

namespace ting::tool {
namespace {

constexpr int64_t kMaxSamples = int64_t{48000} * 3600;  // an hour at the highest usual rate

Result<ClipLength> ParseLine(std::string_view line) {
  const auto fields = SplitTabs(line);
  if (fields.size() != 2 || Trim(fields[0]).empty()) return InvalidArgument("expected \"key<TAB>samples\"");
  const std::string_view number = Trim(fields[1]);
  ClipLength length{std::string(Trim(fields[0])), 0};
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), length.samples);
  if (error != std::errc() || end != number.data() + number.size() || length.samples < 1 ||
      length.samples > kMaxSamples) {
    return InvalidArgument("{} is no number of samples from 1 to {}", number, kMaxSamples);
  }
  return length;
}

// `length` samples from the start of clip `*next` on; *next becomes the clip after the one that it ends in.
std::vector<float> Join(const std::vector<Audio>& clips, int64_t length, size_t* next) {
  std::vector<float> samples;
  samples.reserve(length);
  while (static_cast<int64_t>(samples.size()) < length) {
    const std::vector<float>& clip = clips[*next].samples;
    const auto missing = static_cast<size_t>(length) - samples.size();
    samples.insert(samples.end(), clip.begin(), clip.begin() + std::min(missing, clip.size()));
    *next = (*next + 1) % clips.size();
  }
  return samples;
}

}  // namespace

Result<std::vector<ClipLength>> ReadClipLengths(const std::string& path) {
  TING_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  std::vector<ClipLength> lengths;
  int number = 0;
  for (const std::string_view line : SplitLines(text)) {
    ++number;
    if (Trim(line).empty()) continue;
    Result<ClipLength> length = ParseLine(line);
    if (!length.ok()) return length.status().WithContext(fmt::format("{} line {}", path, number));
    lengths.push_back(std::move(*length));
  }
  if (lengths.empty()) return InvalidArgument("{}: no length in this file", path);
  return lengths;
}

Result<Recordings> CutToLengths(const Recordings& clips, const std::vector<ClipLength>& lengths) {
  if (clips.seconds <= 0) return InvalidArgument("the clips are empty; there is nothing to make recordings of");
  Recordings cut;
  cut.num_failed = clips.num_failed;
  size_t next = 0;
  for (const ClipLength& length : lengths) {
    cut.inputs.push_back({length.key, length.key, std::nullopt, {}});
    cut.audio.push_back({Join(clips.audio, length.samples, &next), clips.audio[0].sample_rate_hz});
    cut.seconds += cut.audio.back().seconds();
  }
  return cut;
}

void SortByLength(Recordings& recordings) {
  std::vector<size_t> order(recordings.audio.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return recordings.audio[a].samples.size() > recordings.audio[b].samples.size();
  });
  Recordings sorted;
  for (const size_t i : order) {
    sorted.inputs.push_back(std::move(recordings.inputs[i]));
    sorted.audio.push_back(std::move(recordings.audio[i]));
  }
  recordings.inputs = std::move(sorted.inputs), recordings.audio = std::move(sorted.audio);
}

}  // namespace ting::tool
