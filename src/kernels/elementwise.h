// src/kernels/elementwise.h
// SPDX-License-Identifier: Apache-2.0
//
// add:           y = a + scale * b.       Inputs a, b f32 [R, D]; attribute scale (1).
// add_positions: y = x + PE(p), p the row's index in its sequence (PositionRow). Input x f32 [R, D].
// Both run only in graphs that the passes have not fused, and for absolute positions.
#pragma once

#include "kernels/params.h"
