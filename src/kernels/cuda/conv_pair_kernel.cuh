// src/kernels/cuda/conv_pair_kernel.cuh
// SPDX-License-Identifier: Apache-2.0
//
// ConvPair as one kernel. The second stage is a product, channels x positions, summed over (32 channels of the first
// stage, tap) one after the other; channels are the rows of wgmma's A, because its B may have any multiple of 8
// columns, so that tiles of positions fill the device evenly. A block is
//   consumers: 1 or 2 warpgroups with tiles of 64 channels, which multiply, and write the results;
//   producers: 1 or 2 warpgroups that make the operand B from the features. The first stage is a product, too,
//     frequencies and time rows x channels, summed over the taps. Features are f32 and go in as two 16-bit parts, whose
//     8 first taps fill one K of 16; the ninth is multiplied in f32. They stay in registers as operands while the
//     channels pass by. A value is stored once for each frequency tap that uses it. In f32 multiplications, whose
//     weights came from shared memory, the kernel took 338 us instead of 255 to 272 (ConvPairBench, batch 64, H100,
//     2026-11-26);
//   three warps that load a tile's features, normalised, while the one before is made;
//   a warp, one lane of which fetches W into a ring. The two blocks of a cluster have neighbouring tiles of positions
//     and fetch halves of W for each other: all multiprocessors at once could not get theirs from L2.
// B lies in core matrices without swizzle, [8 channels][position], 16 bytes each: any position may be the first one of
// an operand, so a tap is no more than another start. Blocks stay and take tile after tile; B's two buffers let the
// producers run ahead into the next tile while the results of this one are written.
#pragma once

#include "kernels/cuda/conv_pair_math.cuh"
#include "kernels/cuda/conv_pair_parameters.h"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/mma.cuh"

namespace ting::cuda {

template <int kChannels_, int kPositions_>
struct ConvPairShape {
  static constexpr ConvPairConfig kConfig = {kChannels_, kPositions_};
  static constexpr ConvPairRoles kRoles = ConvPairRolesOf(kConfig);
  static constexpr int kChannels = kChannels_, kPositions = kPositions_;
  static constexpr int kConsumers = kRoles.consumers, kTiles = kRoles.tiles, kProducers = kRoles.producers;
  static constexpr int kUnitTiles = kRoles.unit_tiles, kTaps = kRoles.taps, kStaged = kRoles.staged;
  static constexpr int kSums = kPositions / 2;  // of a thread, for a tile of channels
  static_assert((kConsumers + kProducers + 1) * 128 == kConvPairThreads);
  static_assert(kPositions % kStaged == 0 && kStaged % 16 == 0 && kConsumers * kTiles * 64 == kChannels);
};

// A row of positions: the first of its frames, -1 if the row is nobody's; its sequence, -1 if it has no output.
struct ConvRow {
  int frame, sequence;
};

// Where a block's shared memory lies, and its work.
template <typename Shape>
struct ConvPairBlock {
  __device__ ConvPairBlock(const ConvPairParameters& p, uint8_t* shared)
      : stages(p.stages), even_rows(Shape::kPositions + p.F_out) {
    const ConvPairConfig config = {Shape::kChannels, Shape::kPositions};
    const ConvPairLayout layout = ConvPairLayoutOf(config, p.C, p.F_in, p.F_out, p.stages);
    plane_rows = layout.plane_rows;
    ring = shared + ((1024 - (SharedAddress(shared) & 1023)) & 1023);
    staging = ring + p.stages * layout.stage_bytes;
    buffers = staging + Shape::kConsumers * layout.staging_bytes;
    buffer_bytes = layout.buffer_bytes;
    taps = reinterpret_cast<uint32_t*>(buffers + 2 * layout.buffer_bytes);
    last_taps = reinterpret_cast<float4*>(taps + 4 * p.C);
    mean = reinterpret_cast<float*>(last_taps + p.C / 2);
    istd = mean + p.F_in;
    features = istd + p.F_in;
    feature_rows = layout.feature_rows;
    table = reinterpret_cast<ConvRow*>(features + layout.feature_rows * 4 * p.F_in);
    targets = reinterpret_cast<int32_t*>(table + kConvTables * kConvTableRows);
    full_b = reinterpret_cast<uint64_t*>(targets + kConvTables * Shape::kPositions);
    empty_b = full_b + 2;
    full_features = empty_b + 2;
    empty_features = full_features + 1;
    full = empty_features + 1;
    empty = full + p.stages;
    const int cluster = static_cast<int>(blockIdx.x) / kConvClusterBlocks;
    const int clusters = static_cast<int>(gridDim.x) / kConvClusterBlocks;
    rank = static_cast<int>(blockIdx.x) % kConvClusterBlocks;
    const int columns = (p.C + Shape::kChannels - 1) / Shape::kChannels;
    channel0 = cluster % columns * Shape::kChannels;
    first_pair = cluster / columns, pair_stride = clusters / columns;
    blocks = p.C / kConvChannels;
  }
  // Tiles of this block, one of each pair of its cluster; some may lie behind the last position.
  __device__ int Tiles(const ConvPairParameters& p) const {
    constexpr int kPair = kConvClusterBlocks * Shape::kPositions;
    const int pairs = ((p.out_offsets[p.B] + p.B) * p.F_out + kPair - 1) / kPair;
    return pairs <= first_pair ? 0 : (pairs - first_pair + pair_stride - 1) / pair_stride;
  }
  __device__ int FirstPosition(int tile) const {
    return ((first_pair + tile * pair_stride) * kConvClusterBlocks + rank) * Shape::kPositions;
  }
  __device__ ConvRow* Table(int tile) const { return table + tile % kConvTables * kConvTableRows; }
  __device__ int32_t* Targets(int tile) const { return targets + tile % kConvTables * Shape::kPositions; }

  const int stages, even_rows;
  int plane_rows, feature_rows, rank, channel0, first_pair, pair_stride, blocks;
  uint32_t buffer_bytes;
  uint8_t* ring;
  uint8_t* staging;
  uint8_t* buffers;
  uint32_t* taps;     // the first 8 of each channel, in pairs
  float4* last_taps;  // of 2 channels each: the ninth weights, the biases
  float* mean;        // with istd: of CMVN
  float* istd;
  float* features;    // of the tile's rows, 4 frames each: a row's fifth is the next one's first
  ConvRow* table;
  int32_t* targets;  // of a position: its place among those of y, or -1
  uint64_t* full_b;
  uint64_t* empty_b;
  uint64_t* full_features;
  uint64_t* empty_features;
  uint64_t* full;
  uint64_t* empty;
};

// One lane. Weights of the first stages are on their way before the previous kernel has ended.
template <typename Shape>
__device__ inline void FetchWeights(const ConvPairParameters& p, const ConvPairBlock<Shape>& block) {
  constexpr int kGroups = 9 / Shape::kTaps, kPart = Shape::kChannels / kConvClusterBlocks;
  constexpr int kRowBytes = 2 * kConvChannels;
  constexpr uint32_t kStageBytes = Shape::kTaps * Shape::kChannels * kRowBytes;
  int stage = 0, channels = 0, group = 0;
  uint32_t parity = 1;  // the ring is empty at first
  const auto fetch = [&] {
    BarrierWait(&block.empty[stage], parity);
    BarrierExpect(&block.full[stage], kStageBytes);
    uint8_t* target = block.ring + stage * kStageBytes + block.rank * kPart * kRowBytes;
#pragma unroll
    for (int tap = 0; tap < Shape::kTaps; ++tap) {
      TmaLoad2dMulticast(target + tap * Shape::kChannels * kRowBytes, &p.w, &block.full[stage],
                         (group * Shape::kTaps + tap) * p.C + channels, block.channel0 + block.rank * kPart, 3);
    }
    if (++group == kGroups) group = 0, channels = channels + kConvChannels == p.C ? 0 : channels + kConvChannels;
    if (++stage == block.stages) stage = 0, parity ^= 1;
  };
  const int tile_steps = block.blocks * kGroups, ahead = min(block.stages, tile_steps);
  for (int step = 0; step < ahead; ++step) fetch();
  WaitForPreviousKernel();
  const int steps = block.Tiles(p) * tile_steps;
  for (int step = ahead; step < steps; ++step) fetch();
  if (steps > 0) return;
  for (int step = 0; step < ahead; ++step) BarrierWait(&block.full[step], 0);  // copies into a block that ends
}

// The warps beside the one that fetches: which rows a tile has, where its results go, and its features, a tile ahead of
// those who use them.
template <typename Shape>
class ConvPlanner {
 public:
  static constexpr int kWarps = 3;

  __device__ ConvPlanner(const ConvPairParameters& p, const ConvPairBlock<Shape>& block)
      : p_(p), block_(block), thread_(static_cast<int>(threadIdx.x) - (kConvPairThreads - kThreads)) {}

  __device__ void LoadNorms() const {
    for (int i = thread_; i < p_.F_in; i += kThreads) {
      block_.mean[i] = p_.mean != nullptr ? p_.mean[i] : 0.0F;
      block_.istd[i] = p_.istd != nullptr ? p_.istd[i] : 1.0F;
    }
  }

  __device__ void Run() const {
    uint32_t parity = 0;
    for (int tile = 0;;) {
      FindRows(tile);
      if (p_.F_in % 4 == 0) {
        LoadFeatures<float4>(block_.Table(tile));
      } else {
        LoadFeatures<float>(block_.Table(tile));
      }
      __syncwarp();
      if (thread_ % 32 == 0) BarrierArrive(block_.full_features);
      if (++tile >= block_.Tiles(p_)) return;
      BarrierWait(block_.empty_features, parity);
      parity ^= 1;
    }
  }

 private:
  static constexpr int kThreads = kWarps * 32, kBarrier = 4;

  // Each thread looks at some sequences and writes down those of the tile's rows that are theirs.
  __device__ void FindRows(int tile) const {
    const int position0 = block_.FirstPosition(tile), row0 = position0 / p_.F_out;
    ConvRow* table = block_.Table(tile);
    for (int i = thread_; i < kConvTableRows; i += kThreads) table[i] = {-1, -1};
    NamedBarrier(kBarrier, kThreads);
    for (int b = thread_; b < p_.B; b += kThreads) {
      const int frame = p_.in_offsets[b], begin = p_.out_offsets[b] + b, end = p_.out_offsets[b + 1] + b + 1;
      if (end == begin + 1) continue;  // no output, so nobody reads its row
      const int last = min(end, row0 + kConvTableRows);
      for (int row = max(begin, row0); row < last; ++row) {
        table[row - row0] = {frame + 4 * (row - begin), row + 1 < end ? b : -1};
      }
    }
    NamedBarrier(kBarrier, kThreads);
    for (int i = thread_; i < Shape::kPositions; i += kThreads) {
      const int sequence = table[(position0 + i) / p_.F_out - row0].sequence;
      block_.Targets(tile)[i] = sequence < 0 ? -1 : position0 + i - sequence * p_.F_out;
    }
  }
  // By float4 where rows are made of them. A last row of a sequence has 3 frames; what is nobody's may be anything.
  // Each thread normalises what it copied.
  template <typename Part>
  __device__ void LoadFeatures(const ConvRow* table) const {
    constexpr int kFloats = sizeof(Part) / 4;
    const int parts = p_.F_in / kFloats, count = 4 * block_.feature_rows * parts;
    for (int i = thread_; i < count; i += kThreads) {
      const int frame = i / parts;
      const ConvRow at = table[frame / 4];
      const bool valid = at.frame >= 0 && (at.sequence >= 0 || frame % 4 < 3);
      const float* source = p_.features;
      if (valid) source += int64_t{at.frame + frame % 4} * p_.F_in + (i - frame * parts) * kFloats;
      const uint32_t target = SharedAddress(block_.features + kFloats * i);
      if constexpr (kFloats == 4) {
        CopyAsync16(target, source, valid);
      } else {
        CopyAsync4(target, source, valid);
      }
    }
    CopiesAsyncWait();
    auto* features = reinterpret_cast<Part*>(block_.features);
    const auto *mean = reinterpret_cast<const Part*>(block_.mean), *istd = reinterpret_cast<const Part*>(block_.istd);
#pragma unroll 2
    for (int i = thread_; i < count; i += kThreads) Normalise(features[i], mean[i % parts], istd[i % parts]);
  }
  __device__ static void Normalise(float& v, float mean, float istd) { v = (v - mean) * istd; }
  __device__ static void Normalise(float4& at, const float4& mean, const float4& istd) {
    float4 v = at;
    Normalise(v.x, mean.x, istd.x), Normalise(v.y, mean.y, istd.y);
    Normalise(v.z, mean.z, istd.z), Normalise(v.w, mean.w, istd.w);
    at = v;
  }

  const ConvPairParameters& p_;
  const ConvPairBlock<Shape>& block_;
  const int thread_;
};

// A value and what is left of it, as 16-bit pairs.
template <typename T>
__device__ inline void SplitPair(float low, float high, uint32_t& pair, uint32_t& rest) {
  const T parts[2] = {FromFloat<T>(low), FromFloat<T>(high)};
  memcpy(&pair, parts, sizeof pair);
  rest = Pack2<T>(low - ToFloat(parts[0]), high - ToFloat(parts[1]));
}

// The warps that make B. Units of work of a tile: two neighbouring frequencies of an even or an odd time row of a row
// of positions; they read 5 columns of 3 frames. The first frequency's value is the operand of tap 0 at position (row,
// pair) and of tap 2 at the one before it, the second one's that of tap 1.
template <typename T, typename Shape>
class ConvProducer {
 public:
  __device__ ConvProducer(const ConvPairParameters& p, const ConvPairBlock<Shape>& block)
      : p_(p),
        block_(block),
        thread_(static_cast<int>(threadIdx.x)),
        lane_(thread_ % 32),
        warp_(__shfl_sync(0xFFFFFFFF, thread_ / 32, 0)) {}

  __device__ void LoadTaps() const {
    const T* weight = static_cast<const T*>(p_.first_weight);
    for (int i = thread_; i < 4 * p_.C; i += kThreads) {
      const T* pair = weight + i / 4 * 9 + i % 4 * 2;  // word i: channel i / 4, taps 2 (i % 4) and the next
      const T taps[2] = {pair[0], pair[1]};
      memcpy(&block_.taps[i], taps, sizeof taps);
    }
    for (int i = thread_; i < p_.C / 2; i += kThreads) {
      block_.last_taps[i] = make_float4(ToFloat(weight[18 * i + 8]), ToFloat(weight[18 * i + 17]), p_.first_bias[2 * i],
                                        p_.first_bias[2 * i + 1]);
    }
    FenceAsyncProxy();
    NamedBarrier(kBarrier, kThreads);
  }

  // Two warpgroups take the blocks of channels in turn, and so each a buffer.
  __device__ void Run() {
    const int tiles = block_.Tiles(p_);
    int buffer = warp_ / 4;
    uint32_t parity = 1, parity_features = 0;
    for (int tile = 0; tile < tiles; ++tile) {
      FindUnits(block_.FirstPosition(tile) % p_.F_out);
      BarrierWait(block_.full_features, parity_features);
      parity_features ^= 1;
      LoadUnits();
      __syncwarp();
      if (lane_ == 0) BarrierArrive(block_.empty_features);
#pragma unroll 1
      for (int i = warp_ / 4; i < block_.blocks; i += Shape::kProducers) {
        BarrierWait(&block_.empty_b[buffer], parity);
        Fill(i, block_.buffers + buffer * block_.buffer_bytes);
        FenceAsyncProxy();
        __syncwarp();
        if (lane_ == 0) BarrierArrive(&block_.full_b[buffer]);
        if constexpr (Shape::kProducers == 1) buffer ^= 1;
        if (buffer == warp_ / 4) parity ^= 1;
      }
    }
  }

 private:
  static constexpr int kThreads = Shape::kProducers * 128, kUnitTiles = Shape::kUnitTiles, kBarrier = 1;
  static constexpr int kNoSecond = 1 << 30;  // the last pair of a row has no second frequency, and no columns for it

  // 16 units of a warp a time, each looked at by two lanes, for which they are the rows of StoreMatrices.
  __device__ void FindUnits(int f0) {
    const int across = p_.F_out + 1, even_last = f0 + block_.even_rows - 1, odd_last = f0 + Shape::kPositions - 1;
    const int even = even_last / p_.F_out * across + even_last % p_.F_out + 2 - f0;
    const int odd = odd_last / p_.F_out * across + odd_last % p_.F_out + 2 - f0;
#pragma unroll
    for (int s = 0; s < kUnitTiles; ++s) {
      int unit = (warp_ % 4 + 4 * s) * 16 + lane_ % 16;
      const bool is_odd = unit >= even;
      if (is_odd) unit -= even;
      const bool any = unit < (is_odd ? odd : even);
      if (!any) unit = 0;
      const int row = (f0 + unit) / across, pair = (f0 + unit) % across, position = row * p_.F_out + pair - f0;
      const int limit = is_odd ? Shape::kPositions : block_.even_rows;
      const bool here = any && pair < p_.F_out && position < limit;
      const bool before = any && pair > 0 && position > 0 && position <= limit;
      const int place = 16 * (position + (is_odd ? 3 * block_.even_rows : 0)), nowhere = 16 * (block_.plane_rows - 1);
      places_[s] = static_cast<uint32_t>(here ? place + (lane_ < 16 ? 0 : 16 * limit) : nowhere) |
                   static_cast<uint32_t>(before ? place + 32 * limit - 16 : nowhere) << 16;
      features_[s] = (4 * row + (is_odd ? 2 : 0)) * p_.F_in + 4 * pair;
      if (pair == p_.F_out) features_[s] |= kNoSecond;
    }
  }

  // A of wgmma: taps 2 t and the next of rows g and g + 8, g = lane / 4, t = lane % 4, then what 16 bits leave of them;
  // and the ninth tap.
  struct Operands {
    uint32_t a[4];
    float last[2];
  };
  __device__ void LoadUnits() {
    const int tap = 2 * (lane_ % 4);
    const int at0 = tap / 3 * p_.F_in + tap % 3, at1 = (tap + 1) / 3 * p_.F_in + (tap + 1) % 3, at8 = 2 * p_.F_in + 2;
#pragma unroll
    for (int s = 0; s < kUnitTiles; ++s) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int place = __shfl_sync(0xFFFFFFFF, features_[s], lane_ / 4 + 8 * half);
#pragma unroll
        for (int second = 0; second < 2; ++second) {
          const float* first = block_.features + (place & ~kNoSecond) + (second == 0 || place & kNoSecond ? 0 : 2);
          Operands& to = units_[s][second];
          SplitPair<T>(first[at0], first[at1], to.a[half], to.a[2 + half]);
          to.last[half] = first[at8];
        }
      }
    }
  }

  // Channels 32 i to 32 i + 31 into `buffer`, 16 of 64 units a round, whose products run beside the stores of the last.
  __device__ void Fill(int i, uint8_t* buffer) const {
    constexpr int kRounds = 2 * kUnitTiles;
    float sum[2][2][8];
    float4 last[2];
    Multiply(i, 0, last, sum[0]);
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
      if (round + 1 < kRounds) {
        Multiply(i, round + 1, last, sum[(round + 1) % 2]);
        WgmmaWait<1>();
      } else {
        WgmmaWait<0>();
      }
      WgmmaHold(sum[round % 2][0]);
      WgmmaHold(sum[round % 2][1]);
      Store(buffer, round, sum[round % 2]);
    }
  }
  __device__ void Multiply(int i, int round, float4 (&last)[2], float (&sum)[2][8]) const {
    const int half = round / kUnitTiles, s = round % kUnitTiles, channel = i * kConvChannels + half * 16;
    if (s == 0) {
#pragma unroll
      for (int j = 0; j < 2; ++j) last[j] = block_.last_taps[(channel / 8 + j) * 4 + lane_ % 4];
    }
    // [channel, tap] in core matrices of 8 channels; the second K of 8 is the first one again.
    const uint64_t b = uint64_t{(SharedAddress(block_.taps + channel * 4) & 0x3FFFF) >> 4} | uint64_t{128 >> 4} << 32;
#pragma unroll
    for (int second = 0; second < 2; ++second) {
      const float(&x)[2] = units_[s][second].last;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float* to = &sum[second][4 * j];
        to[0] = fmaf(last[j].x, x[0], last[j].z), to[1] = fmaf(last[j].y, x[0], last[j].w);
        to[2] = fmaf(last[j].x, x[1], last[j].z), to[3] = fmaf(last[j].y, x[1], last[j].w);
      }
    }
    WgmmaFence();
    AddTaps<T>(sum[0], units_[s][0].a, b);
    AddTaps<T>(sum[1], units_[s][1].a, b);
    WgmmaCommit();
  }
  __device__ void Store(uint8_t* buffer, int round, const float (&sum)[2][8]) const {
    const uint32_t places = places_[round % kUnitTiles];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float *v = &sum[0][4 * j], *w = &sum[1][4 * j];
      const uint32_t words[4] = {PackRelu2<T>(v[0], v[1]), PackRelu2<T>(v[2], v[3]), PackRelu2<T>(w[0], w[1]),
                                 PackRelu2<T>(w[2], w[3])};
      uint8_t* target = buffer + (round / kUnitTiles * 2 + j) * block_.plane_rows * 16;
      StoreMatrices(target + (places & 0xFFFF), words);
      StorePair(target + (places >> 16), words[0], words[1]);
    }
  }
  // Two 8 x 8 matrices, as StoreMatrices; lanes 0 to 15 give the addresses.
  __device__ static void StorePair(void* row, uint32_t a, uint32_t b) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(SharedAddress(row)), "r"(a), "r"(b)
                 : "memory");
  }

  const ConvPairParameters& p_;
  const ConvPairBlock<Shape>& block_;
  const int thread_, lane_, warp_;
  int features_[kUnitTiles];  // place of the first that the lane's unit reads, and kNoSecond
  Operands units_[kUnitTiles][2];
  uint32_t places_[kUnitTiles];  // bytes in a buffer's 8 channels of the lane's unit: (row, pair); the one before it
};

// A warpgroup that multiplies.
template <typename T, typename Shape>
class ConvConsumer {
 public:
  __device__ ConvConsumer(const ConvPairParameters& p, const ConvPairBlock<Shape>& block)
      : p_(p),
        block_(block),
        thread_(static_cast<int>(threadIdx.x) % 128),
        group_(__shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / 128 - Shape::kProducers, 0)) {}

  __device__ void LoadBias() {
#pragma unroll
    for (int i = 0; i < 2 * Shape::kTiles; ++i) {
      const int channel = Channel(i / 2) + thread_ / 32 * 16 + i % 2 * 8 + thread_ % 32 / 4;
      bias_[i] = channel < p_.C ? p_.second_bias[channel] : 0.0F;
    }
  }

  __device__ void Run() {
    const int tiles = block_.Tiles(p_);
    float sum[Shape::kTiles][Shape::kSums];
    for (int tile = 0; tile < tiles; ++tile) {
      Multiply(sum);
#pragma unroll
      for (int m = 0; m < Shape::kTiles; ++m) {
        if (Channel(m) >= p_.C) break;
        Write(sum[m], bias_[2 * m], bias_[2 * m + 1], Channel(m), block_.Targets(tile));
      }
    }
  }

 private:
  static constexpr int kRowBytes = 2 * kConvChannels;

  __device__ int Channel(int m) const { return block_.channel0 + (group_ * Shape::kTiles + m) * 64; }

  // W: rows of 64 bytes, swizzled by 64. B: core matrices side by side along the positions.
  __device__ static uint64_t DescriptorW(const uint8_t* tile) {
    return uint64_t{(SharedAddress(tile) & 0x3FFFF) >> 4} | uint64_t{1} << 16 | uint64_t{512 >> 4} << 32 |
           uint64_t{2} << 62;
  }
  __device__ uint64_t DescriptorB(const uint8_t* buffer) const {
    return uint64_t{(SharedAddress(buffer) & 0x3FFFF) >> 4} | static_cast<uint64_t>(block_.plane_rows) << 16 |
           uint64_t{128 >> 4} << 32;
  }

  __device__ void Multiply(float (&sum)[Shape::kTiles][Shape::kSums]) {
    int previous = -1;
    bool accumulate = false;
    for (int i = 0; i < block_.blocks; ++i) {
      BarrierWait(&block_.full_b[buffer_], buffer_parity_);
      const uint64_t b = DescriptorB(block_.buffers + buffer_ * block_.buffer_bytes);
#pragma unroll 1
      for (int time = 0; time < 3; ++time) {
        const int first = time == 0 ? 0 : time == 1 ? 3 * block_.even_rows : p_.F_out;
        const int pitch = time == 1 ? Shape::kPositions : block_.even_rows;
#pragma unroll 1
        for (int frequency = 0; frequency < 3; frequency += Shape::kTaps) {
          BarrierWait(&block_.full[stage_], parity_);
          WgmmaFence();
          Step(sum, b + static_cast<uint32_t>(first + frequency * pitch), pitch, accumulate);
          WgmmaCommit();
          accumulate = true;
          if (previous >= 0) {
            WgmmaWait<1>();
            Release(previous);
          }
          if (i > 0 && time == 0 && frequency == 0) ReleaseB(buffer_ ^ 1);
          previous = stage_;
          if (++stage_ == block_.stages) stage_ = 0, parity_ ^= 1;
        }
      }
      if ((buffer_ ^= 1) == 0) buffer_parity_ ^= 1;
    }
    WgmmaWait<0>();
#pragma unroll
    for (int m = 0; m < Shape::kTiles; ++m) WgmmaHold(sum[m]);
    Release(previous);
    ReleaseB(buffer_ ^ 1);
  }
  // The taps of one stage of W.
  __device__ void Step(float (&sum)[Shape::kTiles][Shape::kSums], uint64_t b, int pitch, bool accumulate) const {
    const uint8_t* w = block_.ring + stage_ * (Shape::kTaps * Shape::kChannels * kRowBytes);
#pragma unroll
    for (int tap = 0; tap < Shape::kTaps; ++tap) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int m = 0; m < Shape::kTiles; ++m) {
          const int row = tap * Shape::kChannels + (group_ * Shape::kTiles + m) * 64;
          Wgmma<T, Shape::kPositions>::SS(sum[m], DescriptorW(w + row * kRowBytes) + 2 * half,
                                          b + static_cast<uint32_t>(tap * pitch + 2 * half * block_.plane_rows),
                                          accumulate || tap > 0 || half > 0);
        }
      }
    }
  }
  __device__ void Release(int stage) const {
    const uint32_t lane = threadIdx.x % 32;
    if (lane < kConvClusterBlocks) BarrierArriveRemote(&block_.empty[stage], lane);
  }
  __device__ void ReleaseB(int buffer) const {
    if (threadIdx.x % 32 == 0) BarrierArrive(&block_.empty_b[buffer]);
  }

  // Bias, ReLU and the stores, by way of shared memory: a thread has sums of neighbouring positions, y's neighbours are
  // channels.
  __device__ void Write(const float (&sum)[Shape::kSums], float low, float high, int channel,
                        const int32_t* targets) const {
    constexpr int kStaged = Shape::kStaged;
    uint8_t* staging = block_.staging + group_ * (kStaged * 128);
    const int lane = thread_ % 32, place = lane / 16 * 8 + lane % 8;
    const int column = thread_ / 32 * 32 + lane / 8 % 2 * 16;
#pragma unroll
    for (int round = 0; round < Shape::kPositions / kStaged; ++round) {
      NamedBarrier(2 + group_, 128);  // what lies there has been read
#pragma unroll
      for (int part = 0; part < kStaged / 16; ++part) {
        const float* v = &sum[8 * (round * (kStaged / 16) + part)];
        const uint32_t words[4] = {
            PackRelu2<T>(v[0] + low, v[1] + low), PackRelu2<T>(v[2] + high, v[3] + high),
            PackRelu2<T>(v[4] + low, v[5] + low), PackRelu2<T>(v[6] + high, v[7] + high)};
        const int row = part * 16 + place;
        StoreMatricesTransposed(staging + row * 128 + (column ^ ((row & 7) << 4)), words);
      }
      NamedBarrier(2 + group_, 128);
#pragma unroll
      for (int part = 0; part < kStaged / 16; ++part) {
        const int row = part * 16 + thread_ / 8, target = targets[round * kStaged + row];
        const uint4 v = *reinterpret_cast<const uint4*>(staging + row * 128 + ((thread_ % 8 ^ (row & 7)) << 4));
        T* y = static_cast<T*>(p_.y) + int64_t{target} * p_.C + channel + thread_ % 8 * 8;
        if (target >= 0) *reinterpret_cast<uint4*>(y) = v;
      }
    }
  }

  const ConvPairParameters& p_;
  const ConvPairBlock<Shape>& block_;
  const int thread_, group_;
  float bias_[2 * Shape::kTiles];
  int stage_ = 0, buffer_ = 0;
  uint32_t parity_ = 0, buffer_parity_ = 0;
};

template <typename Shape>
__device__ inline void InitConvBarriers(const ConvPairBlock<Shape>& block) {
  for (int stage = 0; stage < block.stages; ++stage) {
    BarrierInit(&block.full[stage], 1);
    BarrierInit(&block.empty[stage], kConvClusterBlocks * Shape::kConsumers * 4);
  }
  for (int i = 0; i < 2; ++i) {
    BarrierInit(&block.full_b[i], 4);  // a warpgroup's warps
    BarrierInit(&block.empty_b[i], Shape::kConsumers * 4);
  }
  BarrierInit(block.full_features, ConvPlanner<Shape>::kWarps);
  BarrierInit(block.empty_features, Shape::kProducers * 4);
  BarrierInitFence();
}

// Registers go from the warpgroup that fetches to the others, as many as a multiprocessor has.
template <typename T, typename Shape>
__global__ void __launch_bounds__(kConvPairThreads, 1) ConvPairKernel(const __grid_constant__ ConvPairParameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint8_t shared[];
  constexpr bool kLarge = Shape::kTiles > 1;
  const ConvPairBlock<Shape> block(p, shared);
  constexpr int kFetcher = (Shape::kConsumers + Shape::kProducers) * 128;
  if (threadIdx.x == kFetcher) {
    TmaPrefetchMap(&p.w);
    InitConvBarriers(block);
  }
  __syncthreads();
  ClusterSync();  // no block sends before all barriers are there
  if (threadIdx.x >= kFetcher) {
    RegistersDown<kLarge ? 24 : 112>();
    if (threadIdx.x == kFetcher) {
      FetchWeights<Shape>(p, block);
    } else if (threadIdx.x >= kFetcher + 32) {
      const ConvPlanner<Shape> planner(p, block);
      planner.LoadNorms();
      WaitForPreviousKernel();
      planner.Run();
    } else {
      WaitForPreviousKernel();
    }
  } else if (threadIdx.x < Shape::kProducers * 128) {
    RegistersUp<kLarge ? 136 : 144>();
    ConvProducer<T, Shape> producer(p, block);
    producer.LoadTaps();
    WaitForPreviousKernel();
    producer.Run();
  } else {
    if constexpr (kLarge) {
      RegistersUp<176>();
    } else {
      RegistersDown<112>();
    }
    ConvConsumer<T, Shape> consumer(p, block);
    consumer.LoadBias();
    WaitForPreviousKernel();
    consumer.Run();
  }
  __syncwarp();
  ClusterSync();  // a block's memory lives until its partner has sent the last of W and of its arrivals
#endif
}

template <typename T, size_t kIndex = 0>
ConvPairFunction FindConvPairOf(const ConvPairConfig& config) {
  if constexpr (kIndex == sizeof kConvPairConfigs / sizeof kConvPairConfigs[0]) {
    return nullptr;
  } else {
    constexpr ConvPairConfig c = kConvPairConfigs[kIndex];
    if (config.channels == c.channels && config.positions == c.positions) {
      return ConvPairKernel<T, ConvPairShape<c.channels, c.positions>>;
    }
    return FindConvPairOf<T, kIndex + 1>(config);
  }
}

}  // namespace ting::cuda
