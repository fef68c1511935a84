// src/importers/checkpoint/state_dict.cc
// SPDX-License-Identifier: Apache-2.0
#include "importers/checkpoint/state_dict.h"

#include <cstring>
#include <optional>
#include <utility>

#include "base/bfloat16.h"
#include "base/mmap_file.h"
#include "base/status_macros.h"
#include "importers/checkpoint/pickle_reader.h"
#include "importers/checkpoint/printable.h"
#include "importers/checkpoint/zip_directory.h"

namespace ting {
namespace {

constexpr size_t kMaxRank = 8;
constexpr size_t kMaxNameBytes = 1024;

std::optional<DType> ToDType(StorageType type) {
  switch (type) {
    case StorageType::kFloat:
      return DType::kF32;
    case StorageType::kHalf:
      return DType::kF16;
    case StorageType::kBFloat16:
      return DType::kBF16;
    case StorageType::kDouble:
      return DType::kF64;
    case StorageType::kLong:
      return DType::kS64;
    case StorageType::kInt:
      return DType::kS32;
    case StorageType::kChar:
      return DType::kS8;
    case StorageType::kByte:
    case StorageType::kBool:
      return DType::kU8;
    case StorageType::kShort:
      break;  // no kernel and no weight uses it
  }
  return std::nullopt;
}

// What a file that is no zip of torch.save is, in words that say what to do.
Status ExplainNotZip(std::span<const std::byte> file) {
  const auto starts_with = [&](std::string_view magic) {
    return file.size() >= magic.size() && std::memcmp(file.data(), magic.data(), magic.size()) == 0;
  };
  if (starts_with("\x80\x02\x8a\x0a")) {
    return Unimplemented(
        "this is the format of PyTorch before 1.6; convert it once with python3 -c \"import torch; "
        "torch.save(torch.load('final.pt', map_location='cpu'), 'new.pt')\"");
  }
  if (file.empty()) return DataLoss("the file is empty");
  return InvalidArgument("this is not a PyTorch checkpoint (no zip as torch.save writes since 1.6)");
}

Status RefuseTorchScript(const ZipDirectory& zip, std::string_view prefix) {
  for (const ZipEntry& entry : zip.entries()) {
    const std::string_view name = entry.name;
    if (name.starts_with(prefix) && name.substr(prefix.size()).starts_with("code/")) {
      return Unimplemented(
          "this is a TorchScript export (final.zip), whose weights may be quantized; give the training checkpoint "
          "(final.pt with train.yaml) or the ONNX export instead");
    }
  }
  return {};
}

template <typename Stored, typename ToFloat>
void Widen(const std::byte* data, ToFloat to_float, std::vector<float>* out) {
  for (size_t i = 0; i < out->size(); ++i) {
    Stored value;
    std::memcpy(&value, data + i * sizeof(Stored), sizeof(Stored));
    (*out)[i] = to_float(value);
  }
}

// How a tensor lies in its storage, in elements.
struct StridedView {
  int64_t offset = 0;
  std::vector<int64_t> shape, stride;
  int64_t num_elements = 1;
  int64_t last = 0;  // offset of the last element from `offset`
  bool contiguous = true;
};

// Fills the derived fields; false when a number is negative or overflows.
bool Measure(StridedView* view) {
  int64_t expected_stride = 1;
  for (size_t axis = view->shape.size(); axis-- > 0;) {
    const int64_t size = view->shape[axis], stride = view->stride[axis];
    if (size < 0 || stride < 0) return false;
    if (size <= 1) view->stride[axis] = 0;  // never taken, and may be any number
    if (size > 1 && stride != expected_stride) view->contiguous = false;
    int64_t reach = 0;
    if (size > 1 &&
        (__builtin_mul_overflow(size - 1, stride, &reach) || __builtin_add_overflow(view->last, reach, &view->last))) {
      return false;
    }
    if (__builtin_mul_overflow(view->num_elements, size, &view->num_elements)) return false;
    expected_stride = view->num_elements;
  }
  return view->offset >= 0;
}

// Copies the elements in row-major order.
void Gather(const std::byte* source, const StridedView& view, size_t element_size, std::byte* out) {
  std::vector<int64_t> index(view.shape.size(), 0);
  int64_t at = 0;
  for (int64_t i = 0; i < view.num_elements; ++i) {
    std::memcpy(out + i * element_size, source + at * element_size, element_size);
    for (size_t axis = index.size(); axis-- > 0;) {
      at += view.stride[axis];
      if (++index[axis] < view.shape[axis]) break;
      at -= view.stride[axis] * view.shape[axis];
      index[axis] = 0;
    }
  }
}

}  // namespace

// Turns the pickle's values into entries, checking each against the zip.
class StateDictReader {
 public:
  StateDictReader(std::span<const std::byte> file, StateDict* out) : file_(file), out_(out) {}

  Status Read() {
    if (file_.size() < 2 || std::memcmp(file_.data(), "PK", 2) != 0) return ExplainNotZip(file_);
    TING_ASSIGN_OR_RETURN(zip_, ZipDirectory::Parse(file_));
    TING_ASSIGN_OR_RETURN(const ZipEntry* pickle, FindPickle());
    TING_RETURN_IF_ERROR(RefuseTorchScript(zip_, prefix_));
    TING_RETURN_IF_ERROR(CheckByteOrder());
    auto document = PickleDocument::Parse(pickle->bytes);
    if (!document.ok()) return document.status().WithContext(Printable(pickle->name));
    document_ = std::move(document).value();
    TING_ASSIGN_OR_RETURN(const PickleValue* dict, FindStateDict());
    for (size_t i = 0; i + 1 < dict->items.size(); i += 2) {
      const PickleValue& key = document_.value(dict->items[i]);
      const PickleValue& value = document_.value(dict->items[i + 1]);
      if (key.kind != PickleValue::Kind::kString || value.kind != PickleValue::Kind::kTensor) continue;
      if (const Status status = Add(key.text, value); !status.ok()) {
        return status.WithContext("tensor " + Printable(key.text));
      }
    }
    return {};
  }

 private:
  // torch.save puts everything under one folder, named after the file when it was written.
  Result<const ZipEntry*> FindPickle() {
    const ZipEntry* found = nullptr;
    for (const ZipEntry& entry : zip_.entries()) {
      if (entry.name != "data.pkl" && !entry.name.ends_with("/data.pkl")) continue;
      if (found != nullptr) {
        return DataLoss("the zip has two data.pkl: {} and {}", Printable(found->name), Printable(entry.name));
      }
      found = &entry;
    }
    if (found == nullptr) return InvalidArgument("the zip has no data.pkl: torch.save did not write it");
    prefix_ = found->name.substr(0, found->name.size() - std::string_view("data.pkl").size());
    return found;
  }

  Status CheckByteOrder() const {
    const ZipEntry* order = zip_.Find(prefix_ + "byteorder");
    if (order == nullptr) return {};  // before PyTorch 2.1; little-endian in practice
    const std::string_view text(reinterpret_cast<const char*>(order->bytes.data()), order->bytes.size());
    if (text == "little") return {};
    return Unimplemented("byte order {}; save the checkpoint again on a little-endian machine", Printable(text));
  }

  bool HoldsTensor(const PickleValue& dict) const {
    for (size_t i = 1; i < dict.items.size(); i += 2) {
      if (document_.value(dict.items[i]).kind == PickleValue::Kind::kTensor) return true;
    }
    return false;
  }

  Result<const PickleValue*> FindStateDict() const {
    const PickleValue& root = document_.root();
    if (root.kind != PickleValue::Kind::kDict) {
      return InvalidArgument(
          "the checkpoint holds {}, not a dictionary of tensors; save it with "
          "torch.save(model.state_dict(), path)",
          PickleKindName(root.kind));
    }
    if (HoldsTensor(root)) return &root;
    for (size_t i = 0; i + 1 < root.items.size(); i += 2) {
      const PickleValue& key = document_.value(root.items[i]);
      const PickleValue& value = document_.value(root.items[i + 1]);
      const bool wraps =
          key.text == "model" || key.text == "state_dict" || key.text == "model_state_dict" || key.text == "module";
      if (wraps && value.kind == PickleValue::Kind::kDict && HoldsTensor(value)) return &value;
    }
    return InvalidArgument(
        "the checkpoint's dictionary has no tensors, nor a state_dict under \"model\" or "
        "\"state_dict\"");
  }

  Result<std::vector<int64_t>> Integers(uint32_t tuple) const {
    const auto& items = document_.value(tuple).items;
    if (items.size() > kMaxRank) return InvalidArgument("{} axes; at most {} are supported", items.size(), kMaxRank);
    std::vector<int64_t> out;
    for (const uint32_t item : items) {
      if (document_.value(item).kind != PickleValue::Kind::kInt) return DataLoss("a size or stride that is no integer");
      out.push_back(document_.value(item).integer);
    }
    return out;
  }

  Result<StridedView> ReadView(const PickleValue& tensor) const {
    StridedView view{.offset = tensor.integer};
    TING_ASSIGN_OR_RETURN(view.shape, Integers(tensor.items[1]));
    TING_ASSIGN_OR_RETURN(view.stride, Integers(tensor.items[2]));
    if (view.shape.size() != view.stride.size()) {
      return DataLoss("{} sizes but {} strides", view.shape.size(), view.stride.size());
    }
    if (!Measure(&view)) return DataLoss("shape {} with these strides is impossible", ShapeToString(view.shape));
    return view;
  }

  // The storage's bytes, of which the elements that the tensor uses are checked to exist.
  Result<const std::byte*> FindStorage(const PickleValue& storage, const StridedView& view) const {
    const ZipEntry* entry = zip_.Find(prefix_ + "data/" + std::string(storage.text.substr(0, kMaxNameBytes)));
    if (entry == nullptr) return DataLoss("its storage {} is not in the zip", Printable(storage.text));
    const size_t element_size = StorageTypeSize(storage.storage_type);
    const auto available = static_cast<int64_t>(entry->bytes.size() / element_size);
    if (storage.integer > available) {
      return DataLoss("its storage {} should have {} elements but has {} bytes", Printable(storage.text),
                      storage.integer, entry->bytes.size());
    }
    if (view.num_elements == 0) return entry->bytes.data();
    if (view.last >= storage.integer || view.offset >= storage.integer - view.last) {
      return DataLoss("offset {} and shape {} leave its storage of {} elements", view.offset, ShapeToString(view.shape),
                      storage.integer);
    }
    return entry->bytes.data() + view.offset * element_size;
  }

  Result<const std::byte*> MakeContiguous(const std::byte* data, const StridedView& view, const PickleValue& storage) {
    const size_t element_size = StorageTypeSize(storage.storage_type);
    if (view.num_elements > storage.integer) {
      return Unimplemented(
          "shape {} repeats the elements of its storage (an expanded tensor); save it with "
          ".contiguous()",
          ShapeToString(view.shape));
    }
    const size_t bytes = view.num_elements * element_size;
    copied_bytes_ += bytes;  // many views may share one storage: together no more than the file
    if (copied_bytes_ > file_.size()) {
      return ResourceExhausted(
          "copying strided tensors would take more than the file's {} bytes; save them with "
          ".contiguous()",
          file_.size());
    }
    auto copy = std::make_shared<std::vector<std::byte>>(bytes);
    Gather(data, view, element_size, copy->data());
    data = copy->data();
    out_->copies_.push_back(std::move(copy));
    return data;
  }

  Status Add(std::string_view name, const PickleValue& tensor) {
    const PickleValue& storage = document_.value(tensor.items[0]);
    const auto dtype = ToDType(storage.storage_type);
    if (!dtype) return Unimplemented("its type {} is not supported", StorageTypeName(storage.storage_type));
    if (name.size() > kMaxNameBytes) return InvalidArgument("a name of {} bytes", name.size());
    TING_ASSIGN_OR_RETURN(const StridedView view, ReadView(tensor));
    TensorEntry entry{.dtype = *dtype, .shape = view.shape, .num_elements = view.num_elements};
    TING_ASSIGN_OR_RETURN(entry.data, FindStorage(storage, view));
    if (!view.contiguous && view.num_elements > 0) {
      TING_ASSIGN_OR_RETURN(entry.data, MakeContiguous(entry.data, view, storage));
    }
    if (!out_->tensors_.emplace(name, std::move(entry)).second) return DataLoss("the name occurs twice");
    out_->names_.emplace_back(name);
    return {};
  }

  std::span<const std::byte> file_;
  StateDict* out_;
  ZipDirectory zip_;
  std::string prefix_;  // "final/", or empty
  PickleDocument document_;
  size_t copied_bytes_ = 0;
};

Result<StateDict> StateDict::Open(const std::string& path) {
  TING_ASSIGN_OR_RETURN(auto file, MmapFile::Open(path));
  const auto bytes = file->bytes();
  auto parsed = Parse(bytes, std::move(file));
  if (!parsed.ok()) return parsed.status().WithContext(path);
  return parsed;
}

Result<StateDict> StateDict::Parse(std::span<const std::byte> file, std::shared_ptr<const void> owner) {
  StateDict dict;
  dict.owner_ = std::move(owner);
  TING_RETURN_IF_ERROR(StateDictReader(file, &dict).Read());
  return dict;
}

void StateDict::Add(const std::string& name, const std::vector<int64_t>& shape, std::span<const float> values) {
  const auto bytes = std::as_bytes(values);
  copies_.push_back(std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end()));
  tensors_.emplace(name, TensorEntry{DType::kF32, shape, static_cast<int64_t>(values.size()), copies_.back()->data()});
  names_.push_back(name);
}

const TensorEntry* StateDict::Find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

Result<std::vector<float>> StateDict::ReadF32(std::string_view name) const {
  const TensorEntry* entry = Find(name);
  if (entry == nullptr) return NotFound("the checkpoint has no tensor {}", Printable(name));
  std::vector<float> out(entry->num_elements);
  switch (entry->dtype) {
    case DType::kF32:
      Widen<float>(
          entry->data, [](float f) { return f; }, &out);
      return out;
    case DType::kF16:
      Widen<uint16_t>(entry->data, HalfToFloat, &out);
      return out;
    case DType::kBF16:
      Widen<BFloat16>(
          entry->data, [](BFloat16 b) { return static_cast<float>(b); }, &out);
      return out;
    case DType::kF64:
      Widen<double>(
          entry->data, [](double d) { return static_cast<float>(d); }, &out);
      return out;
    default:
      break;
  }
  return InvalidArgument("tensor {} holds {}, not floating-point numbers; quantized checkpoints are not supported",
                         Printable(name), DTypeName(entry->dtype));
}

int64_t StateDict::num_parameters() const {
  int64_t count = 0;
  for (const auto& [name, entry] : tensors_) {
    if (!IsBuffer(name)) count += entry.num_elements;
  }
  return count;
}

bool IsBuffer(std::string_view name) {
  return name.ends_with(".pe") || name.ends_with(".running_mean") || name.ends_with(".running_var") ||
         name.ends_with(".num_batches_tracked") || name.find("global_cmvn.") != std::string_view::npos;
}

std::string ShapeToString(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (const int64_t size : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(size);
  return out + "]";
}

}  // namespace ting
