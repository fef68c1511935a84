// src/base/device_code.h
// SPDX-License-Identifier: Apache-2.0
//
// TING_DEVICE marks code that nvcc compiles for the GPU and every other compiler for the CPU, where the tests run it on
// emulated lanes (tests/support/lane_emulator.h). Such code uses only what both have, and meets its warp through a
// template parameter Lanes. TING_UNROLL before a loop whose array must stay in registers; TING_UNROLL_BY(n) before one
// whose loads should be under way together.
#pragma once

#ifdef __CUDACC__
#define TING_DEVICE __device__ __forceinline__
#define TING_UNROLL _Pragma("unroll")
#define TING_PRAGMA(text) _Pragma(#text)
#define TING_UNROLL_BY(n) TING_PRAGMA(unroll n)
#else
#define TING_DEVICE inline
#define TING_UNROLL
#define TING_UNROLL_BY(n)
#endif
