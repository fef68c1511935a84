// src/importers/checkpoint/state_dict.h
// SPDX-License-Identifier: Apache-2.0
//
// The tensors of a PyTorch checkpoint by name, mapped rather than read: a tensor's bytes are used where they lie.
// Accepts the zip format of torch.save since PyTorch 1.6 that holds a state_dict, or a dictionary with the
// state_dict under "model", "state_dict", "model_state_dict" or "module" (training checkpoints). Values of it that
// are no tensors are skipped. A strided tensor (saved from a transposed or sliced view) is copied into row-major
// order when the file is opened, so that every TensorEntry is contiguous.
// Refused by name: TorchScript (final.zip), the format before PyTorch 1.6, big-endian files, tensors that leave
// their storage, expanded (stride 0) tensors, int16 tensors. Bytes trusted: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tensor/dtype.h"
#include "ting/status.h"

namespace ting {

struct TensorEntry {
  DType dtype = DType::kF32;  // bool is u8
  std::vector<int64_t> shape;
  int64_t num_elements = 0;
  const std::byte* data = nullptr;  // row-major; any alignment: read with memcpy. Lives as long as the StateDict
};

class StateDict {
 public:
  static Result<StateDict> Open(const std::string& path);
  // The same for a file in memory, which `owner` keeps alive.
  static Result<StateDict> Parse(std::span<const std::byte> file, std::shared_ptr<const void> owner);

  // Adds a tensor of its own memory; the name must be new.
  void Add(const std::string& name, const std::vector<int64_t>& shape, std::span<const float> values);

  const TensorEntry* Find(std::string_view name) const;  // null: no such tensor
  bool Has(std::string_view name) const { return Find(name) != nullptr; }
  const std::vector<std::string>& names() const { return names_; }  // in the order of the file

  // The tensor's elements, row-major, as f32: from f32, f16, bf16 (exact) and f64 (rounded).
  Result<std::vector<float>> ReadF32(std::string_view name) const;

  // Trained numbers: all tensors but the position tables, CMVN and BatchNorm's statistics.
  int64_t num_parameters() const;

 private:
  friend class StateDictReader;
  struct NameHash {
    using is_transparent = void;
    size_t operator()(std::string_view name) const { return std::hash<std::string_view>{}(name); }
  };

  std::shared_ptr<const void> owner_;
  std::vector<std::shared_ptr<const std::vector<std::byte>>> copies_;  // strided tensors, made contiguous
  std::vector<std::string> names_;
  std::unordered_map<std::string, TensorEntry, NameHash, std::equal_to<>> tensors_;
};

// Tensors that a module registers but does not train: "….pe", "….running_mean", "….num_batches_tracked", CMVN.
bool IsBuffer(std::string_view name);

// "[256, 80]"
std::string ShapeToString(const std::vector<int64_t>& shape);

}  // namespace ting
