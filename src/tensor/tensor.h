// src/tensor/tensor.h
// SPDX-License-Identifier: Apache-2.0
//
// TensorView: pointer, type, shape and layout; it owns nothing. WeightView: the same for a constant.
// Activations are row-major and contiguous; their first axis is usually a set of packed rows (RowSet).
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "base/check.h"
#include "tensor/dtype.h"

namespace ting {

class Shape {
 public:
  static constexpr int kMaxRank = 6;
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    for (const int64_t dim : dims) Append(dim);
  }
  void Append(int64_t dim) {
    TING_CHECK(rank_ < kMaxRank, "a shape has at most six axes");
    dims_[rank_++] = dim;
  }
  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return dims_[axis]; }
  int64_t num_elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[i];
    return n;
  }
  bool operator==(const Shape& o) const {
    if (rank_ != o.rank_) return false;
    for (int i = 0; i < rank_; ++i) {
      if (dims_[i] != o.dims_[i]) return false;
    }
    return true;
  }
  std::string ToString() const {  // "[3,256]"
    std::string text = "[";
    for (int i = 0; i < rank_; ++i) text.append(i > 0 ? "," : "").append(std::to_string(dims_[i]));
    return text + "]";
  }

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

// How the elements of a weight lie in memory.
enum class Layout : uint8_t {
  kRowMajor = 0,
  // A matrix [N, K] (PyTorch's [out, in]) cut into panels of 16 outputs: [ceil(N/16)][K'][16], zeros past N.
  // f32: K' = K, element (n, k) at panel n/16, row k, column n%16.
  // bf16: pairs of k lie together: [ceil(N/16)][ceil(K/2)][16][2]: what VDPBF16PS and AMX read. Zero past K.
  // bf16x2: the nearest bf16 of 32 k, then what they leave: [ceil(N/16)][ceil(K/32)][2][16][16][2]. Zero past K.
  // s16: as bf16, K up to whole runs of 32; then the factors, [ceil(N/16)][16].
  // s8x2: of 64 k the high terms, then the low ones, four k together: [ceil(N/16)][ceil(K/64)][2][16][16][4], which AMX
  // reads; then the factors. Zero past K.
  kPanel16 = 1,
};

struct TensorView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;

  int64_t rows() const { return shape[0]; }
  int64_t num_elements() const { return shape.num_elements(); }
  size_t bytes() const { return static_cast<size_t>(num_elements()) * DTypeSize(dtype); }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

struct WeightView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;  // logical, whatever the layout: [N, K] for a matrix
  Layout layout = Layout::kRowMajor;

  bool present() const { return data != nullptr; }
  template <typename T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

inline constexpr int64_t kPanelWidth = 16;
inline constexpr int64_t kPanelRun = 32;      // bf16x2: k whose terms lie together; s16: k that are summed as integers
inline constexpr int64_t kPanelRunS8x2 = 64;  // k whose terms lie together

// Whether factors follow a matrix's elements.
inline constexpr bool HasFactors(DType dtype) { return dtype == DType::kS16 || dtype == DType::kS8x2; }

// K' of panel16: K, up to whole pairs or runs.
inline constexpr int64_t PanelDepth(DType dtype, int64_t K) {
  const bool runs = dtype == DType::kBF16x2 || dtype == DType::kS16;
  const int64_t run = dtype == DType::kS8x2 ? kPanelRunS8x2 : runs ? kPanelRun : dtype == DType::kBF16 ? 2 : 1;
  return (K + run - 1) / run * run;
}

// Bytes of a weight's elements; the factors of s16 and s8x2 begin behind them.
inline size_t ElementsBytes(DType dtype, const Shape& shape, Layout layout) {
  int64_t elements = shape.num_elements();
  if (layout == Layout::kPanel16) {
    const int64_t panels = (shape[0] + kPanelWidth - 1) / kPanelWidth;
    elements = panels * kPanelWidth * PanelDepth(dtype, shape[1]);
  }
  if (HasFactors(dtype)) elements = (elements + 1) / 2 * 2;  // floats follow
  return static_cast<size_t>(elements) * DTypeSize(dtype);
}

// Bytes that a weight of this type and layout occupies.
inline size_t WeightBytes(DType dtype, const Shape& shape, Layout layout) {
  const size_t elements = ElementsBytes(dtype, shape, layout);
  if (!HasFactors(dtype)) return elements;
  const int64_t panels = (shape[0] + kPanelWidth - 1) / kPanelWidth;
  const int64_t factors = layout == Layout::kRowMajor ? shape[0] : panels * kPanelWidth;
  return elements + static_cast<size_t>(factors) * sizeof(float);
}

}  // namespace ting
