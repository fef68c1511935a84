// src/kernels/cuda/fused_head_readers.cuh
// SPDX-License-Identifier: Apache-2.0
//
// Of fused_head_kernel.cuh: what the threads do with the products of a segment; keep the k best, or sum exponentials.
#pragma once

#include "kernels/cuda/fused_head_products.cuh"

namespace ting::cuda::head {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ inline float QuadMax(float v) {
  v = fmaxf(v, __shfl_xor_sync(0xFFFFFFFF, v, 1));
  return fmaxf(v, __shfl_xor_sync(0xFFFFFFFF, v, 2));
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
      : p_(p),
        row_(upper_row + 8 * kRow),
        groups_(row_ * p.segments * kSegmentGroups + static_cast<int>(threadIdx.x % 4) * 2),
        exists_(row_ < limit) {
#pragma unroll
    for (int i = 0; i < kRemembered; ++i) largest_[i] = -INFINITY;
  }

  // The largest of the thread's columns of a segment; before the others.
  __device__ void Look(const Accumulators& logits) {
#pragma unroll
    for (int part = 0; part < kParts; ++part) parts_[part] = Largest(logits, kColumns / kParts * part);
  }
  // The columns into sum and bound.
  __device__ void Read(const Accumulators& logits, int segment) {
    Remember();
    bound_ = ReachedByK() - kSlack;
    AddExponentials(logits, fmaxf(fmaxf(parts_[0], parts_[1]), fmaxf(parts_[2], parts_[3])), segment);
  }
  // What of a segment may be among the k best.
  __device__ void Select(const Accumulators& logits, int segment) const {
    if (!exists_) return;
    const float first = fmaxf(parts_[0], parts_[1]), second = fmaxf(parts_[2], parts_[3]);
    const uint32_t reach = fmaxf(first, second) >= bound_ ? Reaching(logits) : 0;
    const int group = groups_ + segment * kSegmentGroups;
    const int element = Element<0>(logits, reach & 0xFFFF, group), other = Element<1>(logits, reach >> 16, group + 1);
    *reinterpret_cast<float4*>(p_.groups + group) =
        make_float4(first, __int_as_float(element), second, __int_as_float(other));
  }

 private:
  static constexpr int kColumns = 2 * kGroup, kParts = kColumns / 8;

  __device__ static float At(const Accumulators& logits, int i) { return logits[i / 2 * 4 + 2 * kRow + i % 2]; }
  __device__ static float Largest(const Accumulators& logits, int first) {
    float largest[2] = {At(logits, first), At(logits, first + 1)};
#pragma unroll
    for (int i = 2; i < kColumns / kParts; ++i) largest[i % 2] = fmaxf(largest[i % 2], At(logits, first + i));
    return fmaxf(largest[0], largest[1]);
  }
  __device__ void Remember() {
#pragma unroll
    for (float value : parts_) {
#pragma unroll
      for (int i = 0; i < kRemembered; ++i) {
        const float larger = fmaxf(largest_[i], value);
        value = fminf(largest_[i], value);
        largest_[i] = larger;
      }
    }
  }
  // A bound that k columns reach. The four threads of a row remember 12 values or 32, each of another column: the third
  // smallest of them or, for a k that leaves no two out, the smallest. With the smallest for every k twice as many
  // groups were kept, and a group's four stores take about ten clocks of the multiprocessor (H100).
  __device__ float ReachedByK() const {
    float least[3] = {largest_[kRemembered - 1], largest_[kRemembered - 2], largest_[kRemembered - 3]};
    LeastOfBoth(least, 1);
    Order(least[0], least[1]), Order(least[1], least[2]), Order(least[0], least[1]);
    LeastOfBoth(least, 2);
    Order(least[0], least[1]);
    return p_.k + 2 <= 4 * kRemembered ? fmaxf(least[1], least[2]) : fminf(least[0], least[2]);
  }
  __device__ static void Order(float& a, float& b) {
    const float smaller = fminf(a, b);
    b = fmaxf(a, b), a = smaller;
  }
  // Of three ascending values here and in another thread, the three smallest, in any order.
  __device__ static void LeastOfBoth(float (&least)[3], int distance) {
    float theirs[3];
#pragma unroll
    for (int i = 0; i < 3; ++i) theirs[i] = __shfl_xor_sync(0xFFFFFFFF, least[2 - i], distance);
#pragma unroll
    for (int i = 0; i < 3; ++i) least[i] = fminf(least[i], theirs[i]);
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
      p_.sums[segment * p_.rows + row_] = make_float2(largest_scale, sum);
    }
  }
  // A bit for each of the thread's columns. Four chains, which do not wait for each other.
  __device__ uint32_t Reaching(const Accumulators& logits) const {
    uint32_t below[4] = {};
#pragma unroll
    for (int i = kColumns / 4 - 1; i >= 0; --i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) below[j] = 2 * below[j] + IsLess(At(logits, kColumns / 4 * j + i), bound_);
    }
    return ~(below[3] << 24 | below[2] << 16 | below[1] << 8 | below[0]);
  }
  // Of a group, by the bits of its columns.
  template <int kHalf>
  __device__ int Element(const Accumulators& logits, uint32_t reach, int group) const {
    if ((reach & (reach - 1)) == 0) return 31 - __clz(static_cast<int>(reach));  // -1: none
    float4* kept = reinterpret_cast<float4*>(p_.kept + group * kGroup);
#pragma unroll
    for (int i = 0; i < kGroup / 4; ++i) {
      const int at = kHalf * kGroup + 4 * i;
      kept[i] = make_float4(At(logits, at), At(logits, at + 1), At(logits, at + 2), At(logits, at + 3));
    }
    return kSeveral;
  }

  const Parameters& p_;
  const int row_, groups_;  // the place of the thread's first group
  const bool exists_;
  float parts_[kParts];         // the largest of each eight of a segment
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

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace ting::cuda::head
