// tools/ting/audio_reader.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/audio_reader.h"

#include <algorithm>
#include <chrono>
#include <exception>

#include "base/status_macros.h"

namespace ting::tool {

AudioReader::AudioReader(std::span<const Input> inputs, Read read, const Limits& limits)
    : inputs_(inputs), read_(std::move(read)), limits_(limits), read_items_(inputs.size()) {
  for (int i = 0; i < std::max(1, limits_.num_threads); ++i) threads_.emplace_back([this] { Work(); });
}

AudioReader::~AudioReader() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  for (auto& thread : threads_) thread.join();
}

bool AudioReader::MayRead() const {
  const size_t held = next_to_read_ - next_to_hand_out_;
  return held == 0 || (held < static_cast<size_t>(limits_.ahead) && held_seconds_ < limits_.ahead_seconds);
}

void AudioReader::Work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stop_ || next_to_read_ == inputs_.size() || MayRead(); });
    if (stop_ || next_to_read_ == inputs_.size()) return;
    const size_t index = next_to_read_++;
    lock.unlock();
    const Input& input = inputs_[index];
    Result<Audio> audio = input.problem;
    try {  // nothing may leave a thread: a file that claims to be enormous is one bad file
      if (input.problem.ok()) audio = read_(input);
    } catch (const std::exception& error) {
      audio = ResourceExhausted("reading failed: {}", error.what());
    }
    lock.lock();
    held_seconds_ += audio.ok() ? audio->seconds() : 0;
    read_items_[index] = std::move(audio);
    changed_.notify_all();
  }
}

std::optional<AudioReader::Item> AudioReader::Next() {
  std::unique_lock lock(mutex_);
  if (next_to_hand_out_ == inputs_.size()) return std::nullopt;
  const auto start = std::chrono::steady_clock::now();
  changed_.wait(lock, [&] { return read_items_[next_to_hand_out_].has_value(); });
  waited_ms_ += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  const size_t index = next_to_hand_out_++;
  Item item{index, std::move(*read_items_[index])};
  read_items_[index].reset();
  held_seconds_ -= item.audio.ok() ? item.audio->seconds() : 0;
  changed_.notify_all();
  return item;
}

}  // namespace ting::tool
