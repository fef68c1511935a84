// tests/support/lane_emulator.h
// SPDX-License-Identifier: Apache-2.0
//
// Runs code that is written for the lanes of a GPU warp on the CPU: a fibre for each lane, switched where the lanes
// meet. What a lane brings to a meeting is kept for one meeting longer, since the first lanes are there again before
// the last ones have read. Lanes that do not all come to the same meeting end the program with a message.
// It shows what is wrong in the algorithm, not races within a stretch between two meetings: there the lanes run one
// after the other, in ascending or, when `descending`, in descending order.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "base/check.h"

namespace ting::testing {

class LaneEmulator {
 public:
  class Lanes {  // what device code sees
   public:
    Lanes(LaneEmulator* emulator, int lane) : emulator_(emulator), lane_(lane) {}

    int lane() const { return lane_; }
    void Sync() const { emulator_->Meet(lane_, 'y', 0); }
    uint32_t Ballot(bool value) const {
      const std::vector<uint64_t>& all = emulator_->Meet(lane_, 'b', value);
      uint32_t mask = 0;
      for (size_t i = 0; i < all.size(); ++i) mask |= static_cast<uint32_t>(all[i]) << i;
      return mask;
    }
    int32_t Min(int32_t value) const {
      return Reduce('m', value, [](int32_t a, int32_t b) { return a < b ? a : b; });
    }
    int32_t Max(int32_t value) const {
      return Reduce('M', value, [](int32_t a, int32_t b) { return a > b ? a : b; });
    }
    template <typename T>
    T Sum(T value) const {  // in the order of a butterfly of shuffles
      for (size_t offset = emulator_->fibres_.size() / 2; offset > 0; offset /= 2) {
        value += From<T>(emulator_->Meet(lane_, 's', Bits(value))[lane_ ^ offset]);
      }
      return value;
    }
    template <typename T>
    T Broadcast(T value, int from) const {
      return From<T>(emulator_->Meet(lane_, 'c', Bits(value))[from]);
    }
    template <typename T>
    T Shuffle(T value, int from) const {  // each lane names its own source
      return From<T>(emulator_->Meet(lane_, 'x', Bits(value))[from]);
    }
    void AtomicOr(uint32_t* word, uint32_t bits) const { *word |= bits; }
    static int CountBits(uint32_t mask) { return __builtin_popcount(mask); }
    static int FirstBit(uint32_t mask) { return __builtin_ctz(mask); }

   private:
    template <typename T>
    static uint64_t Bits(T value) {
      uint64_t bits = 0;
      std::memcpy(&bits, &value, sizeof(value));
      return bits;
    }
    template <typename T>
    static T From(uint64_t bits) {
      T value;
      std::memcpy(&value, &bits, sizeof(value));
      return value;
    }
    template <typename Op>
    int32_t Reduce(char kind, int32_t value, Op op) const {
      const std::vector<uint64_t>& all = emulator_->Meet(lane_, kind, Bits(value));
      for (const uint64_t other : all) value = op(value, From<int32_t>(other));
      return value;
    }

    LaneEmulator* emulator_;
    int lane_;
  };

  explicit LaneEmulator(int num_lanes, bool descending = false) : fibres_(num_lanes), descending_(descending) {
    for (std::vector<uint64_t>& values : values_) values.resize(num_lanes);
    for (Fibre& fibre : fibres_) fibre.stack = std::make_unique<char[]>(kStackBytes);
  }

  // Runs body(lanes) on every lane to its end.
  void Run(const std::function<void(Lanes)>& body) {
    body_ = &body;
    const int n = static_cast<int>(fibres_.size());
    for (int lane = 0; lane < n; ++lane) Start(lane);
    for (int running = n; running > 0;) {
      running = 0;
      for (int i = 0; i < n; ++i) {
        current_ = descending_ ? n - 1 - i : i;
        Fibre& fibre = fibres_[current_];
        if (fibre.done) continue;
        swapcontext(&scheduler_, &fibre.context);
        running += !fibre.done;
      }
      CheckMeeting(running);
    }
  }

 private:
  static constexpr size_t kStackBytes = 256 << 10;
  struct Fibre {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    bool done = true;
    char kind = 0;
    int meetings = 0;
  };

  void Start(int lane) {
    Fibre& fibre = fibres_[lane];
    fibre.done = false;
    fibre.meetings = 0;
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.get();
    fibre.context.uc_stack.ss_size = kStackBytes;
    fibre.context.uc_link = &scheduler_;
    const auto self = reinterpret_cast<uintptr_t>(this);
    makecontext(&fibre.context, reinterpret_cast<void (*)()>(&Enter), 2, static_cast<uint32_t>(self >> 32),
                static_cast<uint32_t>(self));
  }
  static void Enter(uint32_t high, uint32_t low) {
    auto* self = reinterpret_cast<LaneEmulator*>(uintptr_t{high} << 32 | low);
    const int lane = self->current_;
    (*self->body_)(Lanes(self, lane));
    self->fibres_[lane].done = true;
  }
  const std::vector<uint64_t>& Meet(int lane, char kind, uint64_t value) {
    Fibre& fibre = fibres_[lane];
    std::vector<uint64_t>& values = values_[fibre.meetings++ % 2];
    values[lane] = value;
    fibre.kind = kind;
    swapcontext(&fibre.context, &scheduler_);
    return values;
  }
  void CheckMeeting(int running) const {
    if (running == 0) return;
    TING_CHECK(running == static_cast<int>(fibres_.size()), "some lanes ended, others wait for them");
    for (const Fibre& fibre : fibres_) {
      TING_CHECK(fibre.kind == fibres_[0].kind && fibre.meetings == fibres_[0].meetings, "lanes at different meetings");
    }
  }

  std::vector<Fibre> fibres_;
  const bool descending_;
  ucontext_t scheduler_;
  int current_ = 0;
  const std::function<void(Lanes)>* body_ = nullptr;
  std::vector<uint64_t> values_[2];
};

}  // namespace ting::testing
