// src/passes/precision/store_decoder_memory.h
// SPDX-License-Identifier: Apache-2.0
//
// Gives the keys and values that cross_attention reads the type in which a device stores what feeds its products: half
// the bytes to write once and to read in every layer. They come from a `linear` in one graph and enter others as an
// input; both ends are found by their use. f32: nothing changes.
// Numerics: rounds keys and values once, as a product would round them as operands.
#pragma once

#include "graph/graph.h"
#include "tensor/dtype.h"

namespace ting {

void StoreDecoderMemory(Graph& graph, DType storage);

}  // namespace ting
