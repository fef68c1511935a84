// src/kernels/cuda/attention_kernels.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/attention_kernels.h"

#include <initializer_list>

#include "base/status_macros.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ragged_attention.h"
#include "kernels/cuda/tree_attention.h"
#include "kernels/cuda/warpgroup_attention.h"

namespace ting::cuda {
namespace {

constexpr double kLog2E = 1.4426950408889634;

// A matrix of the dtype that a kernel reads or writes.
struct Rows {
  const char* name;
  const void* data;
  int64_t stride;
};

bool Aligned(const Rows& rows, size_t item_bytes) {
  return AlignedTo16(rows.data) && rows.stride * item_bytes % 16 == 0;
}

Status CheckHeads(const AttentionArgs& args) {
  const bool half = args.dtype == DType::kF16 || args.dtype == DType::kBF16;
  if (!half && args.dtype != DType::kF32) {
    return Unimplemented("CUDA attention in {}; use f32, f16 or bf16", DTypeName(args.dtype));
  }
  const int widest = half ? 128 : 256;
  if (args.heads < 1 || args.heads > 65535 || args.head_width < 1 || args.head_width > widest ||
      (half && args.head_width % 8 != 0)) {
    return Unimplemented("CUDA attention in {} with {} heads of {} columns; heads must have at most {} columns{}",
                         DTypeName(args.dtype), args.heads, args.head_width, widest, half ? ", multiples of 8" : "");
  }
  return Status();
}

Status CheckRows(const AttentionArgs& args, std::initializer_list<Rows> all) {
  for (const Rows& rows : all) {
    if (args.dtype == DType::kF32 || Aligned(rows, DTypeSize(args.dtype))) continue;
    return InvalidArgument("CUDA attention: {} (stride {}) is not aligned to 16 bytes", rows.name, rows.stride);
  }
  return Status();
}

const void* Columns(const AttentionArgs& args, const void* rows, int64_t columns) {
  return static_cast<const char*>(rows) + columns * static_cast<int64_t>(DTypeSize(args.dtype));
}

RaggedAttention CommonOf(const AttentionArgs& args) {
  RaggedAttention problem;
  problem.heads = args.heads;
  problem.head_width = args.head_width;
  problem.scale_log2 = static_cast<float>(args.scale * kLog2E);
  problem.context = args.context;
  problem.context_stride = args.context_stride;
  return problem;
}

Status LaunchRagged(const AttentionArgs& args, const RaggedAttention& problem, cudaStream_t stream) {
  if (problem.max_queries <= 0 || problem.sequences <= 0) return Status();
  if (args.dtype == DType::kF32) return LaunchPlainAttention(problem, args.dependent, stream);
  if (SupportsWarpgroupAttention(problem)) {
    return LaunchWarpgroupAttention(args.dtype, problem, args.dependent, stream);
  }
  return LaunchFlashAttention(args.dtype, problem, args.dependent, stream);
}

}  // namespace

Status LaunchSelfAttention(const SelfAttentionArgs& args, cudaStream_t stream) {
  TING_RETURN_IF_ERROR(CheckHeads(args));
  TING_RETURN_IF_ERROR(CheckRows(args, {{"qkv", args.qkv, args.qkv_stride},
                                        {"the position table", args.positions, args.position_stride},
                                        {"context", args.context, args.context_stride}}));
  const int64_t D = static_cast<int64_t>(args.heads) * args.head_width;
  RaggedAttention problem = CommonOf(args);
  problem.q = args.qkv;
  problem.k = Columns(args, args.qkv, D);
  problem.v = Columns(args, args.qkv, 2 * D);
  problem.q_stride = problem.key_stride = args.qkv_stride;
  problem.positions = args.positions;
  problem.position_stride = args.position_stride;
  problem.key_bias = args.key_bias;
  problem.bias_stride = args.bias_stride;
  problem.key_offsets = args.offsets;
  problem.sequences = args.sequences;
  problem.max_queries = args.rows;
  // One chunk for all rows is no mask; this bounds the products of the kernels as well.
  problem.chunk_frames = args.chunk_frames > 0 && args.chunk_frames < args.rows ? args.chunk_frames : 0;
  problem.num_left_chunks = args.num_left_chunks;
  return LaunchRagged(args, problem, stream);
}

Status LaunchCrossAttention(const CrossAttentionArgs& args, cudaStream_t stream) {
  TING_RETURN_IF_ERROR(CheckHeads(args));
  const int64_t D = static_cast<int64_t>(args.heads) * args.head_width;
  RaggedAttention problem = CommonOf(args);
  problem.q = args.q;
  problem.q_stride = args.q_stride;
  problem.k = Columns(args, args.memory, args.key_column);
  problem.v = Columns(args, args.memory, args.key_column + D);
  problem.key_stride = args.memory_stride;
  TING_RETURN_IF_ERROR(CheckRows(args, {{"q", args.q, args.q_stride},
                                        {"k in the memory", problem.k, args.memory_stride},
                                        {"context", args.context, args.context_stride}}));
  problem.key_offsets = args.offsets;
  problem.sequences = args.sequences;
  problem.query_sequence = args.sequence;
  problem.num_queries = args.num_rows;
  problem.max_queries = args.rows;
  return LaunchRagged(args, problem, stream);
}

Status LaunchTreeAttention(const TreeAttentionArgs& args, cudaStream_t stream) {
  TING_RETURN_IF_ERROR(CheckHeads(args));
  const Rows qkv{"qkv", args.qkv, args.qkv_stride}, pool{"the pool", args.pool, args.pool_stride};
  const Rows context{"context", args.context, args.context_stride};
  TING_RETURN_IF_ERROR(CheckRows(args, {qkv, pool, context}));
  if (args.rows <= 0) return Status();
  TreeAttention problem;
  problem.q = args.qkv;
  problem.k = Columns(args, args.qkv, static_cast<int64_t>(args.heads) * args.head_width);
  problem.pool = args.pool;
  problem.context = args.context;
  problem.qkv_stride = args.qkv_stride;
  problem.pool_stride = args.pool_stride;
  problem.context_stride = args.context_stride;
  problem.slots = args.slots;
  problem.ancestor_offsets = args.ancestor_offsets;
  problem.ancestors = args.ancestors;
  problem.num_rows = args.num_rows;
  problem.store = args.store;
  problem.max_rows = args.rows;
  problem.heads = args.heads;
  problem.head_width = args.head_width;
  problem.item_bytes = static_cast<int>(DTypeSize(args.dtype));
  const size_t item_bytes = DTypeSize(args.dtype);
  problem.aligned = args.head_width % 8 == 0 && Aligned(qkv, item_bytes) && Aligned(pool, item_bytes);
  problem.scale_log2 = static_cast<float>(args.scale * kLog2E);
  return LaunchTree(args.dtype, problem, args.dependent, stream);
}

}  // namespace ting::cuda
