// src/kernels/cuda/ring_place.cuh
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace ting::cuda {

// The place, and the parity of its barriers, of the i-th of things that pass through `count` places in turn. Those who
// fill a ring and those who empty it walk alike; where several walk it together, each takes every `step`-th place.
struct RingPlace {
  int place = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void Next(int count) {
    if (++place == count) place = 0, parity ^= 1;
  }
  __device__ __forceinline__ void Forward(int count, int step) {
    place += step;
    if (place >= count) place -= count, parity ^= 1;
  }
  __device__ __forceinline__ void Back(int count, int step) {
    place -= step;
    if (place < 0) place += count, parity ^= 1;
  }
  __device__ __forceinline__ int Before(int count) const { return (place > 0 ? place : count) - 1; }
};

}  // namespace ting::cuda
