// src/tensor/weight_store.h
// SPDX-License-Identifier: Apache-2.0
//
// The constants of a model by name. A weight either owns its bytes or shares the file mapping they lie in.
#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "tensor/tensor.h"

namespace ting {

struct Weight {
  WeightView view;
  std::shared_ptr<const void> owner;
  size_t bytes() const { return WeightBytes(view.dtype, view.shape, view.layout); }
};

class WeightStore {
 public:
  const Weight* Find(const std::string& name) const {
    const auto it = weights_.find(name);
    return it == weights_.end() ? nullptr : &it->second;
  }
  void Put(const std::string& name, Weight weight) { weights_[name] = std::move(weight); }
  void Erase(const std::string& name) { weights_.erase(name); }
  const std::map<std::string, Weight>& all() const { return weights_; }

  // A new weight with memory of its own; the caller fills the returned bytes.
  Result<std::byte*> Create(const std::string& name, DType dtype, const Shape& shape,
                            Layout layout = Layout::kRowMajor) {
    TING_ASSIGN_OR_RETURN(AlignedBuffer buffer, AlignedBuffer::Allocate(WeightBytes(dtype, shape, layout)));
    auto shared = std::make_shared<AlignedBuffer>(std::move(buffer));
    std::byte* data = shared->data();
    weights_[name] = Weight{WeightView{data, dtype, shape, layout}, shared};
    return data;
  }
  Status PutF32(const std::string& name, const Shape& shape, std::span<const float> values) {
    if (static_cast<int64_t>(values.size()) != shape.num_elements()) {
      return Internal("weight {}: {} values for shape {}", name, values.size(), shape.ToString());
    }
    TING_ASSIGN_OR_RETURN(std::byte * data, Create(name, DType::kF32, shape));
    std::memcpy(data, values.data(), values.size_bytes());
    return Status();
  }

 private:
  std::map<std::string, Weight> weights_;
};

}  // namespace ting
