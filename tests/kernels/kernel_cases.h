// tests/kernels/kernel_cases.h
// SPDX-License-Identifier: Apache-2.0
//
// Calls of every op that any backend must get right: widths 4, 36 (heads of 9), 144, 256; 0, 1, 2, 7 and 33 rows a
// sequence, empty sequences between others; as the importer writes nodes ("plain") and as the passes leave them
// ("fused"); all masks, kinds, activations. Values are random with the seed in the case's name.
#pragma once

#include <string>
#include <vector>

#include "tests/kernels/kernel_testing.h"

namespace ting::testing {

struct KernelCase {
  std::string name;
  TestOp op;
  OpCall call;
};

const std::vector<std::string>& AllOps();
std::vector<KernelCase> CasesOf(const std::string& op);

// Nodes of given sizes, for tests that need just one.
TestOp RandomAttention(Rng& rng, const std::string& op, int64_t D, int64_t heads, bool fused);
TestOp RandomConvModule(Rng& rng, int64_t D, int64_t taps, bool causal, const std::string& conv_norm, bool fused);
TestOp RandomFeedForward(Rng& rng, int64_t D, int64_t F, bool fused);
TestOp RandomSubsample(Rng& rng, const std::string& kind, int64_t num_mel, int64_t C, int64_t D, bool cmvn);
TestOp RandomHead(Rng& rng, const std::string& op, int64_t D, int64_t V, bool fused);

// x [sum of lengths, D] with its row set, and y of the same shape.
OpCall SequenceCall(Rng& rng, const std::vector<int32_t>& lengths, int64_t D);
// tree_attention: a random forest of U rows, some of whose paths begin with pool rows of an earlier step.
OpCall TreeCall(Rng& rng, int64_t U, int64_t D);

// The same work in pieces: an utterance (or a row, for ops without row sets) at a time. Run one after the other, with
// states handed on, their outputs joined must be the bits of the whole call.
std::vector<OpCall> SplitCall(const KernelCase& whole);

}  // namespace ting::testing
