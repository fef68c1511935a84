// src/kernels/cpu/packed_matrix.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/packed_matrix.h"

#include <algorithm>
#include <cstring>

#include "base/bfloat16.h"

namespace ting::cpu {
namespace {

static_assert(kRunValues == kPanelRun && kRunValuesS8x2 == kPanelRunS8x2, "products read weights as they lie");
static_assert(static_cast<int64_t>(kMostOfRun) * kMostS16RunSum < int64_t{1} << 31 && kMostOfBlock == kMostS8x2,
              "sums of products stay in 32 bits");

DType StoredType(GemmMode mode) {
  if (mode == GemmMode::kBF16) return DType::kBF16;
  if (mode == GemmMode::kS16) return DType::kS16;
  if (mode == GemmMode::kS8x2) return DType::kS8x2;
  return mode == GemmMode::kBF16x2 ? DType::kBF16x2 : DType::kF32;
}

}  // namespace

int64_t PaddedK(GemmMode mode, int64_t K) { return PanelDepth(StoredType(mode), K); }

int64_t PieceBytes(GemmMode mode, int64_t K) {
  const int64_t padded = PaddedK(mode, K);
  int64_t factors = 0;
  if (mode == GemmMode::kS16) factors = padded / kRunValues * 4;
  if (mode == GemmMode::kS8x2) {
    factors = (padded + kBlockValuesS8x2 - 1) / kBlockValuesS8x2 * (kBlockBytesS8x2 - 2 * kBlockValuesS8x2);
  }
  return padded * ElementBytes(mode) + factors;
}

int64_t ScratchRowBytes(GemmMode mode, int64_t K) {
  return static_cast<int64_t>(AlignUp(static_cast<size_t>(PieceBytes(mode, K)))) + 64;
}

void PackedMatrix::ChooseMode(DType dtype, const IsaTable& isa, int64_t run) {
  if (dtype == DType::kBF16) {
    mode_ = isa.bf16_products && run % 2 == 0 ? GemmMode::kBF16 : GemmMode::kRounded;
    return;
  }
  mode_ = GemmMode::kF32;
  if (run % kRunValues != 0) return;
  if (dtype == DType::kBF16x2 && isa.bf16_tiles) mode_ = GemmMode::kBF16x2;
  if (!HasFactors(dtype)) return;
  if (isa.s16_products) mode_ = GemmMode::kS16;
  if (isa.s8x2_tiles && run % kRunValuesS8x2 == 0) mode_ = GemmMode::kS8x2;
}

Status PackedMatrix::Pack(const float* rows, std::span<const float> factors, DType dtype, const IsaTable& isa,
                          int64_t run) {
  ChooseMode(dtype, isa, run);
  const DType stored = StoredType(mode_);
  TING_ASSIGN_OR_RETURN(owned_, AlignedBuffer::Allocate(WeightBytes(stored, {N_, K_}, Layout::kPanel16)));
  if (stored != dtype) factors = {};  // the integers change
  PackMatrix(rows, N_, K_, stored, Layout::kPanel16, owned_.data(), factors);
  panels_ = owned_.data();
  return {};
}

Status PackedMatrix::SetBias(const float* bias) {
  // One panel more than needed: a lone last panel still names a second one.
  const size_t bytes = static_cast<size_t>(num_panels() + 1) * kPanelWidth * sizeof(float);
  TING_ASSIGN_OR_RETURN(bias_, AlignedBuffer::Allocate(bytes));
  std::memset(bias_.data(), 0, bytes);
  if (bias != nullptr) std::memcpy(bias_.data(), bias, static_cast<size_t>(N_) * sizeof(float));
  return {};
}

Result<PackedMatrix> PackedMatrix::Create(const LinearParams& linear, const IsaTable& isa, int64_t run) {
  PackedMatrix m;
  const WeightView& w = linear.weight;
  m.N_ = linear.N(), m.K_ = linear.K();
  m.ChooseMode(w.dtype, isa, run);
  if (w.layout == Layout::kPanel16 && w.dtype == StoredType(m.mode_)) {
    m.panels_ = w.data;
  } else {
    const std::vector<float> rows = UnpackMatrix(w);
    TING_RETURN_IF_ERROR(m.Pack(rows.data(), MatrixFactors(w), w.dtype, isa, run));
  }
  TING_RETURN_IF_ERROR(m.SetBias(linear.bias.as<float>()));
  return m;
}

Result<PackedMatrix> PackedMatrix::CreateFromRows(const float* rows, const float* bias, int64_t N, int64_t K,
                                                  DType dtype, const IsaTable& isa, std::span<const float> factors) {
  PackedMatrix m;
  m.N_ = N, m.K_ = K;
  TING_RETURN_IF_ERROR(m.Pack(rows, factors, dtype, isa, 0));
  TING_RETURN_IF_ERROR(m.SetBias(bias));
  return m;
}

Result<PackedMatrix> PackedMatrix::CreateStacked(std::span<const LinearParams> parts, const IsaTable& isa) {
  const DType dtype = parts[0].weight.dtype;
  std::vector<float> rows, bias, factors;
  for (const LinearParams& part : parts) {
    if (part.weight.dtype != dtype) return InvalidArgument("matrices that run as one must have one type");
    const std::vector<float> one = UnpackMatrix(part.weight);
    rows.insert(rows.end(), one.begin(), one.end());
    const std::span<const float> its = MatrixFactors(part.weight);
    factors.insert(factors.end(), its.begin(), its.end());
    const size_t end = bias.size() + static_cast<size_t>(part.N());
    if (part.bias.present()) bias.insert(bias.end(), part.bias.as<float>(), part.bias.as<float>() + part.N());
    bias.resize(end, 0.0F);
  }
  return CreateFromRows(rows.data(), bias.data(), static_cast<int64_t>(bias.size()), parts[0].K(), dtype, isa, factors);
}

GemmArgs PackedMatrix::Product(const void* a, int64_t a_row_bytes, int64_t rows) const {
  GemmArgs g;
  g.a = a, g.a_row_bytes = a_row_bytes, g.rows = rows;
  g.segment_k = padded_K();
  g.b = panels_;
  g.b_panel_bytes = padded_K() * kPanelWidth * ElementBytes(mode_);
  g.last_panel = num_panels();
  g.bias = bias();
  g.N = N_;
  g.mode = mode_;
  if (IsInteger(mode_)) {
    const size_t factors = ElementsBytes(StoredType(mode_), {N_, K_}, Layout::kPanel16);
    g.factors = reinterpret_cast<const float*>(static_cast<const std::byte*>(panels_) + factors);
  }
  return g;
}

void PackedMatrix::ZeroTails(std::byte* rows, int64_t count) const {
  if (IsInteger(mode_)) return;  // whole runs are stored
  for (int64_t k = K_; k < padded_K(); ++k) {
    for (int64_t r = 0; r < count; ++r) {
      std::byte* row = rows + r * row_bytes();
      if (mode_ == GemmMode::kBF16x2) {
        std::byte* high = row + k / kRunValues * 2 * kTermBytes + k % kRunValues * 2;
        std::memset(high, 0, 2), std::memset(high + kTermBytes, 0, 2);
      } else {
        std::memset(row + k * 2, 0, 2);
      }
    }
  }
}

}  // namespace ting::cpu
