// src/importers/checkpoint/pickle_reader.h
// SPDX-License-Identifier: Apache-2.0
//
// A restricted unpickler: the part of Python's pickle that torch.save writes for a dictionary of tensors.
// A pickle is a program for a stack machine; Python's runs whatever class it names. This one knows dictionaries,
// lists, tuples, numbers and text, and the few globals below. Every other opcode or global is refused by name.
//
// Accepted   protocol 2 to 5. Globals: collections.OrderedDict, torch._utils._rebuild_tensor_v2,
//            torch._utils._rebuild_parameter, torch.{Float,Half,BFloat16,Double,Long,Int,Short,Char,Byte,Bool}Storage.
//            Persistent ids ('storage', class, key, location, numel). BUILD on a dictionary (the state_dict's
//            _metadata) is read and ignored.
// Limits     values <= kMaxPickleValues, bytes <= kMaxPickleBytes; every opcode costs time and memory linear in the
//            bytes it reads or the values it consumes. Values live in one array and name each other by index, so
//            neither building nor freeing recurses, whatever the nesting, and shared or cyclic values are harmless.
// Bytes trusted: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "ting/status.h"

namespace ting {

inline constexpr size_t kMaxPickleValues = size_t{1} << 20;  // a 12-layer U2++ has about 10,000
inline constexpr size_t kMaxPickleBytes = size_t{16} << 20;

// Element type of a torch storage. More than DType has: a state_dict may hold types that no weight has.
enum class StorageType : uint8_t { kFloat, kHalf, kBFloat16, kDouble, kLong, kInt, kShort, kChar, kByte, kBool };

size_t StorageTypeSize(StorageType type);
const char* StorageTypeName(StorageType type);  // "float16", as in torch

struct PickleValue {
  enum class Kind : uint8_t { kNone, kBool, kInt, kFloat, kString, kTuple, kList, kDict, kGlobal, kStorage, kTensor };
  enum class Global : uint8_t { kOrderedDict, kRebuildTensor, kRebuildParameter, kStorageClass };

  Kind kind = Kind::kNone;
  Global global = Global::kOrderedDict;            // kGlobal
  StorageType storage_type = StorageType::kFloat;  // kGlobal (a storage class), kStorage
  int64_t integer = 0;                             // kBool, kInt; kStorage: elements; kTensor: offset in elements
  double real = 0;                                 // kFloat
  std::string_view text;                           // kString; kStorage: its key. Points into the pickle
  std::vector<uint32_t> items;  // kTuple, kList: elements; kDict: key, value, key, value, … in order of insertion;
                                // kTensor: storage, size, stride
};

const char* PickleKindName(PickleValue::Kind kind);

class PickleDocument {
 public:
  // `bytes` must outlive the result: texts point into it.
  static Result<PickleDocument> Parse(std::span<const std::byte> bytes);

  const PickleValue& root() const { return values_[root_]; }
  const PickleValue& value(uint32_t index) const { return values_[index]; }

 private:
  friend class PickleMachine;
  std::vector<PickleValue> values_;
  uint32_t root_ = 0;
};

}  // namespace ting
