// src/kernels/cuda/fused_head_kernel.cuh
// SPDX-License-Identifier: Apache-2.0
//
// The product of fused_head.h. A block has 64 rows a warpgroup of consumers, normalised once and then held in registers
// as the A operand of every product; W passes by in segments of 128 columns, of which the producer's lane keeps a ring
// filled. Two warpgroups take turns: one multiplies while the other works on its results.
//
// Why A is in registers: with both operands in shared memory a segment would read 64 x 256 of A and 128 x 256 of W for
// each warpgroup, and with the columns that arrive shared memory, not the tensor cores, would be the bound.
//
// Sums: of every segment of 128 columns, from zero, whatever part of the vocabulary a block has; the finishing kernel
// adds the segments. So the bits do not depend on how the vocabulary is split.
//
// The k best: a thread has 16 columns of a row in each half of a segment, a group. Every thread remembers the largest
// logits that it saw (of each 8 columns one). The least of those that the four threads of a row remember is a bound: at
// least k columns reach it. Of most groups no element does, of some a single one, which is stored; if several do, the
// group is kept as it is, to be looked through by the finishing kernel. So nothing is ever full: were all logits equal
// or ascending, all groups would be kept. A block's first segment, which meets no bound yet, waits in shared memory for
// that of the last.
//
// Bounds at K = 256, in clocks of a multiprocessor, for 128 rows and a segment: 2048 of tensor cores; of shared memory
// 1024 (W, read by two warpgroups) and 512 (W arriving); 1024 of special functions. L2 gives about 24 bytes a clock to
// each multiprocessor when all ask, and a segment of 64 KB would take 2730: hence sharing.
#pragma once

#include "kernels/cuda/fused_head_parameters.h"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/row_norm.cuh"

namespace ting::cuda::head {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr float kLog2E = 1.44269504F;
constexpr int kRowTileBytes = kBlockRows * kSwizzleRowBytes;  // 64 columns of a warpgroup's rows

__device__ inline void NamedBarrierArrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ inline int RowLimit(const Parameters& p) {
  return p.count == nullptr ? p.rows : min(*p.count - p.first_row, p.rows);
}

// What a block works on, and where its shared memory lies.
template <int kK, int kGroups>
struct Block {
  static constexpr int kRows = kGroups * kBlockRows;
  static constexpr int kConsumers = kGroups * 128;
  static constexpr int kStagesEach = kK / kStageK;  // of a segment

  __device__ Block(const Parameters& p, uint8_t* shared) : stages(p.stages) {
    rank = static_cast<int>(blockIdx.x) & (p.sharing - 1);
    row0 = static_cast<int>(blockIdx.x) * kRows;
    cluster_row0 = row0 - rank * kRows;
    const int part = static_cast<int>(blockIdx.y);
    first_segment = p.segments * part / p.splits;
    segments = p.segments * (part + 1) / p.splits - first_segment;
    a = shared + ((1024 - (SharedAddress(shared) & 1023)) & 1023);
    const SharedLayout layout = LayoutOf(kK, kGroups, p.stages, segments);
    ring = a + layout.ring;
    gamma = reinterpret_cast<float*>(a + layout.gamma);
    bias = reinterpret_cast<float*>(a + layout.bias);
    full = reinterpret_cast<uint64_t*>(a + layout.barriers);
    empty = full + kMaxStages;
    full_norm = empty + kMaxStages;
  }
  __device__ int Steps() const { return segments * kStagesEach; }  // of the ring
  __device__ uint8_t* Stage(int stage) const { return ring + stage * kStageBytes; }

  const int stages;
  int rank, row0, cluster_row0, first_segment, segments;
  uint8_t* a;
  uint8_t* ring;
  float* gamma;  // then beta
  float* bias;
  uint64_t* full;
  uint64_t* empty;
  uint64_t* full_norm;
};

// The warp that fills the ring, of which one lane works. The first stages are on their way before the previous kernel
// has ended.
template <int kK, int kGroups>
class Producer {
 public:
  __device__ Producer(const Parameters& p, const Block<kK, kGroups>& block) : p_(p), block_(block) {}

  __device__ void Run() {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    InitBarriers(lane);
    if (p_.sharing > 1) ClusterSync();  // all have barriers
    const int ahead = min(block_.Steps(), block_.stages);
    if (lane == 0) {
      LoadNorm();
      for (int step = 0; step < ahead; ++step) Load(step, step);
    }
    __syncwarp();
    __syncthreads();
    if (lane == 0) Rest(ahead);
    __syncwarp();
  }

 private:
  __device__ void InitBarriers(int lane) const {
    if (lane == 0) TmaPrefetchMap(&p_.w);
    if (lane < block_.stages) {
      BarrierInit(&block_.full[lane], 1);
      BarrierInit(&block_.empty[lane], kGroups * 4 * p_.sharing);
    }
    if (lane == 31) BarrierInit(block_.full_norm, 1);
    BarrierInitFence();
    __syncwarp();
  }
  __device__ void LoadNorm() const {
    if (p_.gamma == nullptr) return;
    BarrierExpect(block_.full_norm, 2 * kK * 4);
    BulkLoad(block_.gamma, p_.gamma, block_.full_norm, kK * 4);
    BulkLoad(block_.gamma + kK, p_.beta, block_.full_norm, kK * 4);
  }
  // This block's boxes of a step.
  __device__ void Load(int step, int stage) const {
    constexpr int kBoxes = kStageK / 64;
    const int column = (block_.first_segment + step / Block<kK, kGroups>::kStagesEach) * kSegment;
    const int first_k = step % Block<kK, kGroups>::kStagesEach * kStageK;
    uint64_t* full = &block_.full[stage];
    BarrierExpect(full, kStageBytes);
    for (int box = block_.rank; box < kBoxes; box += p_.sharing) {
      uint8_t* target = block_.Stage(stage) + box * kBoxBytes;
      if (p_.sharing == 1) {
        TmaLoad2d(target, &p_.w, full, first_k + box * 64, column);
      } else {
        TmaLoad2dMulticast(target, &p_.w, full, first_k + box * 64, column,
                           static_cast<uint16_t>((1 << p_.sharing) - 1));
      }
    }
  }
  __device__ void Rest(int ahead) const {
    WaitForPreviousKernel();
    if (block_.cluster_row0 >= RowLimit(p_)) {  // nothing to do, but a block must outlive the copies into its memory
      for (int step = 0; step < ahead; ++step) BarrierWait(&block_.full[step], 0);
      if (p_.gamma != nullptr) BarrierWait(block_.full_norm, 0);
      return;
    }
    int stage = ahead == block_.stages ? 0 : ahead;
    uint32_t parity = 0;
    for (int step = ahead; step < block_.Steps(); ++step) {
      BarrierWait(&block_.empty[stage], parity);
      Load(step, stage);
      if (++stage == block_.stages) stage = 0, parity ^= 1;
    }
  }

  const Parameters& p_;
  const Block<kK, kGroups>& block_;
};

using Accumulators = float[kSegment / 2];  // of a thread: see Wgmma

// The products of one segment after the other.
template <typename T, int kK, int kGroups>
class Multiplier {
 public:
  using Operand = uint32_t[kK / 16][4];
  __device__ Multiplier(const Parameters& p, const Block<kK, kGroups>& block) : sharing_(p.sharing), block_(block) {}

  __device__ void Start(Accumulators& sum, const Operand& a) {
#pragma unroll
    for (int part = 0; part < kStagesEach; ++part) {
      BarrierWait(&block_.full[stage_], parity_);
      const uint64_t w = TileDescriptor(block_.Stage(stage_));
      WgmmaFence();
#pragma unroll
      for (int k = 0; k < kStageK / 16; ++k) {
        Wgmma<T, kSegment>::RS(sum, a[part * (kStageK / 16) + k], w + k / 4 * (kBoxBytes >> 4) + k % 4 * 2,
                               part + k > 0);
      }
      WgmmaCommit();
      if (++stage_ == block_.stages) stage_ = 0, parity_ ^= 1;
    }
  }
  // The results are there, and the stages may be filled again; all but the last a little sooner.
  __device__ void Finish(Accumulators& sum) {
    WgmmaWait<1>();
#pragma unroll
    for (int part = 0; part + 1 < kStagesEach; ++part) Release();
    WgmmaWait<0>();
    WgmmaHold(sum);
    Release();
  }

 private:
  static constexpr int kStagesEach = Block<kK, kGroups>::kStagesEach;

  __device__ void Release() {
    const uint32_t lane = threadIdx.x % 32;
    if (sharing_ == 1) {
      if (lane == 0) BarrierArrive(&block_.empty[freed_]);
    } else if (lane < static_cast<uint32_t>(sharing_)) {
      BarrierArriveRemote(&block_.empty[freed_], lane);
    }
    if (++freed_ == block_.stages) freed_ = 0;
  }

  const int sharing_;
  const Block<kK, kGroups>& block_;
  int stage_ = 0, freed_ = 0;
  uint32_t parity_ = 0;
};

__device__ inline float QuadMax(float v) {
  v = fmaxf(v, __shfl_xor_sync(0xFFFFFFFF, v, 1));
  return fmaxf(v, __shfl_xor_sync(0xFFFFFFFF, v, 2));
}
__device__ inline float QuadMin(float v) {
  v = fminf(v, __shfl_xor_sync(0xFFFFFFFF, v, 1));
  return fminf(v, __shfl_xor_sync(0xFFFFFFFF, v, 2));
}
__device__ inline float QuadSum(float v) {
  v += __shfl_xor_sync(0xFFFFFFFF, v, 1);
  return v + __shfl_xor_sync(0xFFFFFFFF, v, 2);
}

// What a thread does about one of its two rows where the k best are wanted: the upper (kRow 0) or the lower, 8 further
// down.
template <int kRow, int kRemembered>
class RowReader {
 public:
  __device__ RowReader(const Parameters& p, int upper_row, int limit)
      : row_(upper_row + 8 * kRow), exists_(row_ < limit), stride_(p.rows), sums_(p.sums + row_) {
    const int64_t group = static_cast<int64_t>(row_) * p.segments * kSegmentGroups + threadIdx.x % 4 * 2;
    groups_ = p.groups + group;
    kept_ = reinterpret_cast<float4*>(p.kept + group * kGroup);
#pragma unroll
    for (int i = 0; i < kRemembered; ++i) largest_[i] = -INFINITY;
  }

  // The thread's columns of a segment into sum and bound.
  __device__ void Read(const Accumulators& logits, int segment) {
    float largest[kParts];
#pragma unroll
    for (int part = 0; part < kParts; ++part) largest[part] = Largest<8>(logits, 8 * part);
    Remember(largest);
    AddExponentials(logits, fmaxf(fmaxf(largest[0], largest[1]), fmaxf(largest[2], largest[3])), segment);
  }
  // What of a segment may be among the k best.
  __device__ void Select(const Accumulators& logits, int segment) const {
    const Group first = SelectHalf<0>(logits, segment), second = SelectHalf<1>(logits, segment);
    if (!exists_) return;
    *reinterpret_cast<float4*>(groups_ + segment * kSegmentGroups) =
        make_float4(first.largest, __int_as_float(first.element), second.largest, __int_as_float(second.element));
  }

 private:
  static constexpr int kColumns = 2 * kGroup, kParts = kColumns / 8;

  __device__ static float At(const Accumulators& logits, int i) { return logits[i / 2 * 4 + 2 * kRow + i % 2]; }
  template <int kCount>
  __device__ static float Largest(const Accumulators& logits, int first) {
    float largest[2] = {At(logits, first), At(logits, first + 1)};
#pragma unroll
    for (int i = 2; i < kCount; ++i) largest[i % 2] = fmaxf(largest[i % 2], At(logits, first + i));
    return fmaxf(largest[0], largest[1]);
  }
  __device__ void Remember(const float (&values)[kParts]) {
#pragma unroll
    for (float value : values) {
#pragma unroll
      for (int i = 0; i < kRemembered; ++i) {
        const float larger = fmaxf(largest_[i], value);
        value = fminf(largest_[i], value);
        largest_[i] = larger;
      }
    }
    bound_ = QuadMin(largest_[kRemembered - 1]) - kSlack;
  }
  // Relative to the largest of them; then the four threads of a row put theirs together.
  __device__ void AddExponentials(const Accumulators& logits, float largest, int segment) const {
    const float scale = fmaxf(largest, kLowest) * kLog2E;
    float sums[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < kColumns; ++i) sums[i % 4] += Exp2(fmaf(At(logits, i), kLog2E, -scale));
    const float largest_scale = QuadMax(scale);
    const float sum = QuadSum(((sums[0] + sums[1]) + (sums[2] + sums[3])) * Exp2(scale - largest_scale));
    if (exists_ && threadIdx.x % 4 == 0) {
      sums_[static_cast<int64_t>(segment) * stride_] = make_float2(largest_scale, sum);
    }
  }
  template <int kHalf>
  __device__ Group SelectHalf(const Accumulators& logits, int segment) const {
    Group group{Largest<kGroup>(logits, kHalf * kGroup), kNoElement};
    if (!exists_ || !(group.largest >= bound_)) return group;
    uint32_t reach = 0;
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      if (At(logits, kHalf * kGroup + i) >= bound_) reach |= 1U << i;
    }
    group.element = __ffs(static_cast<int>(reach)) - 1;
    if ((reach & (reach - 1)) == 0) return group;
    group.element = kSeveral;
    float4* kept = kept_ + (segment * kSegmentGroups + kHalf) * (kGroup / 4);
#pragma unroll
    for (int i = 0; i < kGroup / 4; ++i) {
      const int at = kHalf * kGroup + 4 * i;
      kept[i] = make_float4(At(logits, at), At(logits, at + 1), At(logits, at + 2), At(logits, at + 3));
    }
    return group;
  }

  const int row_;
  const bool exists_;
  const int stride_;
  float2* const sums_;
  Group* groups_;
  float4* kept_;
  float largest_[kRemembered];  // that the thread saw, descending
  float bound_ = -INFINITY;
};

// The sums of exponentials alone, of both of a thread's rows. They need no largest logit: what fits into f32 is taken
// as it is, and a row's segment that does not, or nearly not, is taken again relative to its largest logit. To find
// that first took 3,198 clocks a segment of 128 rows instead of 2,687 (H100): little of it hides behind the products.
// Logits here are to base 2.
class SumReader {
 public:
  __device__ SumReader(const Parameters& p, int upper_row, int limit)
      : limit_(limit - upper_row), stride_(p.rows), sums_(p.sums + upper_row) {}

  // `bias`, to base 2, is of the thread's first column of the segment.
  __device__ void Read(const Accumulators& products, const float* bias, int segment) const {
    float2 upper = {0, Sum<0>(products, bias, 0)}, lower = {0, Sum<1>(products, bias, 0)};
    if (__any_sync(0xFFFFFFFF, !Fits(upper.y) || !Fits(lower.y))) {
      const float2 again[2] = {Relative<0>(products, bias), Relative<1>(products, bias)};
      if (!Fits(upper.y)) upper = again[0];
      if (!Fits(lower.y)) lower = again[1];
    }
    if (threadIdx.x % 4 != 0) return;
    float2* target = sums_ + static_cast<int64_t>(segment) * stride_;
    if (limit_ > 0) target[0] = upper;
    if (limit_ > 8) target[8] = lower;
  }

 private:
  // Nothing that counts was too small, and the sum of all segments will not be too large.
  __device__ static bool Fits(float sum) { return sum > 0x1p-40F && sum < 0x1p100F; }
  template <int kRow, typename Body>
  __device__ static void ForEach(const Accumulators& products, const float* bias, const Body& body) {
#pragma unroll
    for (int j = 0; j < kSegment / 8; ++j) {
      const float2 b = *reinterpret_cast<const float2*>(bias + 8 * j);
      body(j % 2, fmaf(products[4 * j + 2 * kRow], kLog2E, b.x));
      body(2 + j % 2, fmaf(products[4 * j + 2 * kRow + 1], kLog2E, b.y));
    }
  }
  template <int kRow>
  __device__ static float Sum(const Accumulators& products, const float* bias, float scale) {
    float sums[4] = {0, 0, 0, 0};
    ForEach<kRow>(products, bias, [&](int i, float logit) { sums[i] += Exp2(logit - scale); });
    return QuadSum((sums[0] + sums[1]) + (sums[2] + sums[3]));
  }
  template <int kRow>
  __device__ static float2 Relative(const Accumulators& products, const float* bias) {
    float largest = kLowest;
    ForEach<kRow>(products, bias, [&](int, float logit) { largest = fmaxf(largest, logit); });
    largest = QuadMax(largest);
    return {largest, Sum<kRow>(products, bias, largest)};
  }

  const int limit_, stride_;
  float2* const sums_;
};

template <typename T, int kK, int kGroups, int kRemembered>
class Consumer {
 public:
  using Products = Multiplier<T, kK, kGroups>;
  __device__ Consumer(const Parameters& p, const Block<kK, kGroups>& block)
      : p_(p),
        block_(block),
        thread_(static_cast<int>(threadIdx.x)),
        warp_(__shfl_sync(0xFFFFFFFF, thread_ / 32, 0)),
        group_(warp_ / 4),
        rows_(block.a + group_ * kBlockRows * kK * 2) {}

  __device__ void Run() {
    if (p_.sharing > 1) ClusterArrive();
    FetchVectors();
    WaitForPreviousKernel();
    limit_ = RowLimit(p_);
    if (!NormaliseRows()) return;
    typename Products::Operand a;
    LoadOperand(a);
    if constexpr (kRemembered == 0) {
      StoreRounded();
      SumSegments(a);
    } else {
      ReadSegments(a);
    }
  }

 private:
  static constexpr int kTurn = 3;  // barriers 3 and 4: the turn of a warpgroup; 1 and 2 are their own

  // The block's bias, the penalty in it, to base 2 for SumReader; columns past V: -inf, whose products are 0. Without a
  // norm: v * 1 + 0.
  __device__ void FetchVectors() const {
    for (int i = thread_; i < block_.segments * kSegment; i += Block<kK, kGroups>::kConsumers) {
      const int column = block_.first_segment * kSegment + i;
      float bias = column < p_.V ? 0 : -INFINITY;
      if (column < p_.V && p_.bias != nullptr) bias = p_.bias[column];
      if (column == p_.blank) bias -= p_.penalty;
      block_.bias[i] = kRemembered == 0 ? bias * kLog2E : bias;
    }
    if (p_.gamma != nullptr) return;
    for (int k = thread_; k < kK; k += Block<kK, kGroups>::kConsumers) {
      block_.gamma[k] = 1, block_.gamma[kK + k] = 0;
    }
  }
  // Each warpgroup its own; false if the cluster has none. Reads do not wait for the number of rows.
  __device__ bool NormaliseRows() const {
    bool any = true;
    const auto ready = [&] {
      __syncthreads();
      if (p_.sharing > 1) ClusterWait();
      any = block_.cluster_row0 < limit_;
      if (any && p_.gamma != nullptr) BarrierWait(block_.full_norm, 0);
      return any;
    };
    const RowNorm norm{p_.x, kK, block_.gamma, block_.gamma + kK, p_.gamma != nullptr, p_.eps};
    norm.template Rows<T, kK, kBlockRows, 4>(warp_ % 4, block_.row0 + group_ * kBlockRows, p_.rows, rows_, ready);
    NamedBarrier(1 + group_, 128);
    return any;
  }
  __device__ void LoadOperand(typename Products::Operand& a) const {
    const int lane = thread_ % 32, row = warp_ % 4 * 16 + lane % 16;
#pragma unroll
    for (int k = 0; k < kK / 16; ++k) {
      const uint8_t* tile = rows_ + k / 4 * kRowTileBytes;
      LoadMatrices(a[k], SharedAddress(tile + SwizzledByte(row, k % 4 * 16 + lane / 16 * 8)));
    }
  }
  __device__ void ReadSegments(const typename Products::Operand& a) const {
    Products products(p_, block_);
    Accumulators sum;
    const int row = block_.row0 + warp_ * 16 + thread_ % 32 / 4;
    RowReader<0, kRemembered> upper(p_, row, limit_);
    RowReader<1, kRemembered> lower(p_, row, limit_);
    const int held = block_.segments > 1 ? 1 : 0;
    if (held > 0) NamedBarrier(1 + group_, 128);  // the rows have been read by all
#pragma unroll 1
    for (int i = 0; i < block_.segments + held; ++i) {
      const bool again = i == block_.segments;  // the first segment, with the bound of the last
      const int segment = block_.first_segment + (again ? 0 : i);
      if (!again) {
        Multiply(i, products, a, sum);
        AddBias(sum, block_.bias + i * kSegment + thread_ % 4 * 2);
        upper.Read(sum, segment), lower.Read(sum, segment);
      }
      if (held > 0 && i == 0) {
        Hold(sum);
        continue;
      }
      if (again) Recall(sum);
      upper.Select(sum, segment), lower.Select(sum, segment);
    }
  }
  __device__ void SumSegments(const typename Products::Operand& a) const {
    Products products(p_, block_);
    Accumulators sum;
    const SumReader reader(p_, block_.row0 + warp_ * 16 + thread_ % 32 / 4, limit_);
#pragma unroll 1
    for (int i = 0; i < block_.segments; ++i) {
      Multiply(i, products, a, sum);
      reader.Read(sum, block_.bias + i * kSegment + thread_ % 4 * 2, block_.first_segment + i);
    }
  }
  // The products of the block's segment i. Two warpgroups take turns: the tensor cores work for one, while the other
  // reads.
  __device__ void Multiply(int i, Products& products, const typename Products::Operand& a, Accumulators& sum) const {
    if (kGroups == 2 && i + group_ > 0) NamedBarrier(kTurn + group_, 256);
    products.Start(sum, a);
    if (kGroups == 2 && i + 1 < block_.segments + 1 - group_) NamedBarrierArrive(kTurn + 1 - group_, 256);
    products.Finish(sum);
  }
  __device__ static void AddBias(Accumulators& sum, const float* bias) {
#pragma unroll
    for (int j = 0; j < kSegment / 8; ++j) {
      const float2 b = *reinterpret_cast<const float2*>(bias + 8 * j);
      sum[4 * j] += b.x, sum[4 * j + 1] += b.y, sum[4 * j + 2] += b.x, sum[4 * j + 3] += b.y;
    }
  }
  // A thread's logits to and from where the rows were.
  __device__ void Hold(const Accumulators& sum) const {
    float4* held = reinterpret_cast<float4*>(rows_) + thread_ % 128;
#pragma unroll
    for (int j = 0; j < kSegment / 8; ++j) {
      held[128 * j] = make_float4(sum[4 * j], sum[4 * j + 1], sum[4 * j + 2], sum[4 * j + 3]);
    }
  }
  __device__ void Recall(Accumulators& sum) const {
    const float4* held = reinterpret_cast<const float4*>(rows_) + thread_ % 128;
#pragma unroll
    for (int j = 0; j < kSegment / 8; ++j) {
      const float4 four = held[128 * j];
      sum[4 * j] = four.x, sum[4 * j + 1] = four.y, sum[4 * j + 2] = four.z, sum[4 * j + 3] = four.w;
    }
  }
  // The rows as they are multiplied, for the targets; each block of those that have them stores a part.
  __device__ void StoreRounded() const {
    constexpr int kEights = kK / 8;
    T* rounded = static_cast<T*>(p_.rounded);
#pragma unroll 1
    for (int i = thread_ % 128 + 128 * static_cast<int>(blockIdx.y); i < kBlockRows * kEights; i += 128 * p_.splits) {
      const int row = i / kEights, k = i % kEights * 8;
      const int64_t target = block_.row0 + group_ * kBlockRows + row;
      if (target >= limit_) return;
      const uint8_t* source = rows_ + k / 64 * kRowTileBytes + SwizzledByte(row, k % 64);
      *reinterpret_cast<uint4*>(rounded + target * kK + k) = *reinterpret_cast<const uint4*>(source);
    }
  }
  const Parameters& p_;
  const Block<kK, kGroups>& block_;
  const int thread_, warp_, group_;
  uint8_t* const rows_;
  int limit_ = 0;
};

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

// Two warpgroups of consumers get registers from that of the producer.
template <typename T, int kK, int kGroups, int kRemembered>
__global__ void __launch_bounds__(Threads(kGroups), 1) HeadKernel(const __grid_constant__ Parameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t shared[];
  constexpr int kConsumers = Block<kK, kGroups>::kConsumers;
  const Block<kK, kGroups> block(p, shared);
  if (threadIdx.x >= kConsumers) {
    if constexpr (kGroups == 2) RegistersDown<40>();
    if (threadIdx.x < kConsumers + 32) {
      Producer<kK, kGroups>(p, block).Run();
    } else {
      if (p.sharing > 1) ClusterSync();
      __syncthreads();
    }
  } else {
    if constexpr (kGroups == 2) RegistersUp<232>();
    Consumer<T, kK, kGroups, kRemembered>(p, block).Run();
  }
  if (p.sharing > 1) ClusterSync();  // no block has ended while another one writes to it
#endif
}

template <typename T, int kK, int kGroups>
Kernel OfRemembered(int remembered) {
  if (remembered == 0) return HeadKernel<T, kK, kGroups, 0>;
  return remembered == 3 ? HeadKernel<T, kK, kGroups, 3> : HeadKernel<T, kK, kGroups, 8>;
}

template <typename T>
Kernel FindKernel(int64_t K, int row_groups, int64_t k) {
  const int remembered = RememberedFor(k);
  if (K == 256 && row_groups == 1) return OfRemembered<T, 256, 1>(remembered);
  if (K == 256 && row_groups == 2) return OfRemembered<T, 256, 2>(remembered);
  if (K == 512 && row_groups == 1) return OfRemembered<T, 512, 1>(remembered);
  return nullptr;
}

}  // namespace ting::cuda::head
