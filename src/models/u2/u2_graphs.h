// src/models/u2/u2_graphs.h
// SPDX-License-Identifier: Apache-2.0
//
// The module graphs of a U2 / U2++ model, as WeNet computes it (before any optimisation):
//
//   encoder      features f32[F, mel] ─► subsample_conv2d ─► blocks ─► after_norm ─► %out f32[T, D]
//   ctc          %encoder f32[T, D] ─► top-k log-probabilities and ids [T, K]
//   ctc_full     the whole matrix f32[T, V]
//   cross_left   %encoder ─► keys and values of every decoder layer f32[T, 2·D·L], once an utterance
//   decoder_left tokens, positions, slots, ancestors, sequences, %cross, pools ─► hidden f32[U, D]
//   score_left   hidden, rows, ids ─► log-probabilities of the targets f32[G]
//   next_left    hidden ─► top-k of the next token [U, K] (attention search)
//   …_right      the same for the right-to-left decoder (no next_right: nothing searches on it)
//
// F: feature rows, T: encoder rows, U: token rows of prefix-shared hypotheses, G: targets, P: pool rows.
#pragma once

#include "graph/graph.h"
#include "importers/checkpoint/checkpoint.h"
#include "ting/status.h"

namespace ting {

Result<Module> BuildU2Graphs(const Checkpoint& checkpoint);

}  // namespace ting
