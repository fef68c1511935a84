// tests/engine/gpu_fault.h
// SPDX-License-Identifier: Apache-2.0
//
// A GPU that goes away, for tests.
#pragma once

namespace ting::testing {

// From now on every CUDA call of this process on that GPU fails, as after an illegal access or a hardware error; the
// other GPUs go on. False: it could not be done.
bool BreakGpu(int ordinal);

}  // namespace ting::testing
