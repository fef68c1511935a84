// tools/ting/audio_reader.h
// SPDX-License-Identifier: Apache-2.0
//
// Decodes recordings ahead of their use on threads of its own, so that recognition never waits for Opus or
// resampling while there is memory to hold the next batches. Hands them out in the order of the inputs.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "ting/recognizer.h"
#include "tools/ting/inputs.h"

namespace ting::tool {

class AudioReader {
 public:
  using Read = std::function<Result<Audio>(const Input& input)>;

  struct Limits {
    int ahead = 16;               // recordings read but not yet handed out, at most; at least 1
    double ahead_seconds = 1200;  // of audio; one recording is always read, however long
    int num_threads = 1;
  };

  // `inputs` and what `read` refers to must outlive the reader.
  AudioReader(std::span<const Input> inputs, Read read, const Limits& limits);
  ~AudioReader();  // abandons what has not been read
  AudioReader(const AudioReader&) = delete;
  AudioReader& operator=(const AudioReader&) = delete;

  struct Item {
    size_t index;  // into inputs
    Result<Audio> audio;
  };
  // The next recording, waiting for it if need be; none after the last.
  std::optional<Item> Next();

  // How long Next has waited so far.
  double waited_ms() const { return waited_ms_; }

 private:
  void Work();
  bool MayRead() const;

  const std::span<const Input> inputs_;
  const Read read_;
  const Limits limits_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::optional<Result<Audio>>> read_items_;  // by input; filled out of order by several threads
  size_t next_to_read_ = 0;
  size_t next_to_hand_out_ = 0;
  double held_seconds_ = 0;
  bool stop_ = false;
  double waited_ms_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace ting::tool
