// src/kernels/ref/ref_kernels.h
// SPDX-License-Identifier: Apache-2.0
//
// The reference backend: plain loops over row-major f32, sums in f64, every op. Truth for the others.
#pragma once

#include <span>

#include "kernels/kernel.h"

namespace ting {

std::span<const KernelEntry> RefKernels();

}  // namespace ting
