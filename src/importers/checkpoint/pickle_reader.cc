// src/importers/checkpoint/pickle_reader.cc
// SPDX-License-Identifier: Apache-2.0
#include "importers/checkpoint/pickle_reader.h"

#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "importers/checkpoint/printable.h"

namespace ting {
namespace {

using Kind = PickleValue::Kind;
using Global = PickleValue::Global;

// clang-format off
enum Opcode : uint8_t {
  kMark = '(', kStop = '.', kPop = '0', kPopMark = '1', kBinFloat = 'G', kBinInt = 'J', kBinInt1 = 'K',
  kBinInt2 = 'M', kNone = 'N', kReduce = 'R', kBinString = 'T', kShortBinString = 'U', kBinUnicode = 'X',
  kAppend = 'a', kBuild = 'b', kGlobalOp = 'c', kDict = 'd', kEmptyDict = '}', kAppends = 'e', kBinGet = 'h',
  kLongBinGet = 'j', kList = 'l', kEmptyList = ']', kBinPut = 'q', kLongBinPut = 'r', kSetItem = 's',
  kSetItems = 'u', kTuple = 't', kEmptyTuple = ')', kBinPersId = 'Q', kProto = 0x80, kTuple1 = 0x85,
  kTuple2 = 0x86, kTuple3 = 0x87, kNewTrue = 0x88, kNewFalse = 0x89, kLong1 = 0x8a, kLong4 = 0x8b,
  kShortBinUnicode = 0x8c, kBinUnicode8 = 0x8d, kStackGlobal = 0x93, kMemoize = 0x94, kFrame = 0x95,
};
// clang-format on

// Names of the opcodes that are refused, so that the message says what the file wanted.
std::string RefusedOpcodeName(uint8_t opcode) {
  static constexpr std::pair<uint8_t, const char*> kNames[] = {
      // clang-format off
      {'2', "DUP"}, {'F', "FLOAT"}, {'I', "INT"}, {'L', "LONG"}, {'P', "PERSID"}, {'S', "STRING"}, {'V', "UNICODE"},
      {'g', "GET"}, {'i', "INST"}, {'o', "OBJ"}, {'p', "PUT"}, {'B', "BINBYTES"}, {'C', "SHORT_BINBYTES"},
      {0x81, "NEWOBJ"}, {0x82, "EXT1"}, {0x83, "EXT2"}, {0x84, "EXT4"}, {0x8e, "BINBYTES8"}, {0x8f, "EMPTY_SET"},
      {0x90, "ADDITEMS"}, {0x91, "FROZENSET"}, {0x92, "NEWOBJ_EX"}, {0x96, "BYTEARRAY8"}, {0x97, "NEXT_BUFFER"},
      {0x98, "READONLY_BUFFER"},
      // clang-format on
  };
  for (const auto& [code, name] : kNames) {
    if (code == opcode) return name;
  }
  return fmt::format("0x{:02x}", opcode);
}

struct StorageClass {
  const char* name;   // torch.<name>
  const char* dtype;  // torch's word for the element type
  StorageType type;
  size_t size;
};
constexpr StorageClass kStorageClasses[] = {
    {"FloatStorage", "float32", StorageType::kFloat, 4},
    {"HalfStorage", "float16", StorageType::kHalf, 2},
    {"BFloat16Storage", "bfloat16", StorageType::kBFloat16, 2},
    {"DoubleStorage", "float64", StorageType::kDouble, 8},
    {"LongStorage", "int64", StorageType::kLong, 8},
    {"IntStorage", "int32", StorageType::kInt, 4},
    {"ShortStorage", "int16", StorageType::kShort, 2},
    {"CharStorage", "int8", StorageType::kChar, 1},
    {"ByteStorage", "uint8", StorageType::kByte, 1},
    {"BoolStorage", "bool", StorageType::kBool, 1},
};

std::optional<PickleValue> FindGlobal(std::string_view module, std::string_view name) {
  PickleValue value;
  value.kind = Kind::kGlobal;
  if (module == "collections" && name == "OrderedDict") {
    value.global = Global::kOrderedDict;
  } else if (module == "torch._utils" && name == "_rebuild_tensor_v2") {
    value.global = Global::kRebuildTensor;
  } else if (module == "torch._utils" && name == "_rebuild_parameter") {
    value.global = Global::kRebuildParameter;
  } else if (module == "torch") {
    for (const StorageClass& storage : kStorageClasses) {
      if (name != storage.name) continue;
      value.global = Global::kStorageClass;
      value.storage_type = storage.type;
      return value;
    }
    return std::nullopt;
  } else {
    return std::nullopt;
  }
  return value;
}

}  // namespace

size_t StorageTypeSize(StorageType type) { return kStorageClasses[static_cast<size_t>(type)].size; }
const char* StorageTypeName(StorageType type) { return kStorageClasses[static_cast<size_t>(type)].dtype; }

const char* PickleKindName(PickleValue::Kind kind) {
  static constexpr std::array kNames = {"None",   "a bool",       "an int",  "a float",   "a text",  "a tuple",
                                        "a list", "a dictionary", "a class", "a storage", "a tensor"};
  return kNames[static_cast<size_t>(kind)];
}

// The stack machine. One method an opcode group; each checks what it reads and pops.
class PickleMachine {
 public:
  explicit PickleMachine(std::span<const std::byte> bytes) : bytes_(bytes) {}

  Result<PickleDocument> Run() {
    while (true) {
      const size_t at = at_;
      uint8_t opcode = 0;
      Status status = Read(&opcode);
      if (status.ok() && opcode == kStop) break;
      if (status.ok()) status = Step(opcode);
      if (!status.ok()) return status.WithContext(fmt::format("pickle byte {}", at));
    }
    if (stack_.size() != 1 || !marks_.empty())
      return DataLoss("the pickle ends with {} values, not one", stack_.size());
    document_.root_ = stack_.back();
    return std::move(document_);
  }

 private:
  using Value = PickleValue;

  Status Step(uint8_t opcode) {
    // clang-format off
    switch (opcode) {
      case kProto: return Proto();
      case kFrame: return Skip(8);  // the frame's size: framing only helps buffered readers
      case kMark: return PushMark();
      case kPop: return PopOne();
      case kPopMark: return PopToMark(nullptr);
      case kNone: return Push(Value{});
      case kNewTrue: return Push({.kind = Kind::kBool, .integer = 1});
      case kNewFalse: return Push({.kind = Kind::kBool});
      case kBinInt: return PushInt<int32_t>();
      case kBinInt1: return PushInt<uint8_t>();
      case kBinInt2: return PushInt<uint16_t>();
      case kLong1: return PushLong<uint8_t>();
      case kLong4: return PushLong<uint32_t>();
      case kBinFloat: return PushFloat();
      case kBinString: case kBinUnicode: return PushText<uint32_t>();
      case kShortBinString: case kShortBinUnicode: return PushText<uint8_t>();
      case kBinUnicode8: return PushText<uint64_t>();
      case kEmptyTuple: return Push({.kind = Kind::kTuple});
      case kEmptyList: return Push({.kind = Kind::kList});
      case kEmptyDict: return Push({.kind = Kind::kDict});
      case kTuple1: return PushTuple(1);
      case kTuple2: return PushTuple(2);
      case kTuple3: return PushTuple(3);
      case kTuple: return PushMarked(Kind::kTuple);
      case kList: return PushMarked(Kind::kList);
      case kDict: return PushMarked(Kind::kDict);
      case kAppend: return Extend(Kind::kList, 1);
      case kSetItem: return Extend(Kind::kDict, 2);
      case kAppends: return ExtendMarked(Kind::kList);
      case kSetItems: return ExtendMarked(Kind::kDict);
      case kBinGet: return MemoGet<uint8_t>();
      case kLongBinGet: return MemoGet<uint32_t>();
      case kBinPut: return MemoPut<uint8_t>();
      case kLongBinPut: return MemoPut<uint32_t>();
      case kMemoize: return MemoPutAt(memo_.size());
      case kGlobalOp: return GlobalLines();
      case kStackGlobal: return StackGlobal();
      case kReduce: return Reduce();
      case kBinPersId: return PersistentId();
      case kBuild: return Build();
      default: return Refuse(opcode);
    }
    // clang-format on
  }

  static Status Refuse(uint8_t opcode) {
    return Unimplemented(
        "opcode {} is not one that a state_dict needs; save the model with torch.save(model.state_dict(), path)",
        RefusedOpcodeName(opcode));
  }

  // --- reading the program ---

  template <typename T>
  Status Read(T* value) {
    if (bytes_.size() - at_ < sizeof(T)) return DataLoss("the pickle is truncated");
    std::memcpy(value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return {};
  }

  Status Skip(uint64_t count) {
    if (count > bytes_.size() - at_) return DataLoss("the pickle is truncated: {} more bytes announced", count);
    at_ += count;
    return {};
  }

  Result<std::string_view> ReadText(uint64_t count) {
    const char* text = reinterpret_cast<const char*>(bytes_.data()) + at_;
    TING_RETURN_IF_ERROR(Skip(count));
    return std::string_view(text, count);
  }

  Result<std::string_view> ReadLine() {
    const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + at_, bytes_.size() - at_);
    const size_t size = rest.substr(0, 1024).find('\n');
    if (size == std::string_view::npos) return DataLoss("a class name does not end within 1024 bytes");
    at_ += size + 1;
    return rest.substr(0, size);
  }

  Status Proto() {
    uint8_t protocol = 0;
    TING_RETURN_IF_ERROR(Read(&protocol));
    if (protocol < 2 || protocol > 5) return Unimplemented("pickle protocol {}; 2 to 5 are supported", protocol);
    return {};
  }

  // --- the stack ---

  Status PushIndex(uint32_t index) {
    if (stack_.size() >= kMaxPickleValues) return ResourceExhausted("the pickle's stack is too deep");
    stack_.push_back(index);
    return {};
  }

  Status Push(Value value) {
    auto& values = document_.values_;
    if (values.size() >= kMaxPickleValues) {
      return ResourceExhausted("more than {} values; no state_dict is that large", kMaxPickleValues);
    }
    values.push_back(std::move(value));
    return PushIndex(static_cast<uint32_t>(values.size() - 1));
  }

  Status PushMark() {
    if (marks_.size() >= kMaxPickleValues) return ResourceExhausted("the pickle nests too deep");
    marks_.push_back(stack_.size());
    return {};
  }

  // Values above the innermost mark are the only ones an opcode may take.
  size_t Available() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }

  Status Need(size_t count) const {
    if (Available() < count) return DataLoss("the pickle's stack holds too few values");
    return {};
  }

  uint32_t Pop() {  // after Need
    const uint32_t index = stack_.back();
    stack_.pop_back();
    return index;
  }

  Status PopOne() {
    TING_RETURN_IF_ERROR(Need(1));
    Pop();
    return {};
  }

  // Moves the top `count` values to the end of `items` (null: drops them).
  void Take(size_t count, std::vector<uint32_t>* items) {
    if (items != nullptr) items->insert(items->end(), stack_.end() - static_cast<ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
  }

  Status PopToMark(std::vector<uint32_t>* items) {
    if (marks_.empty()) return DataLoss("no mark on the pickle's stack");
    Take(Available(), items);
    marks_.pop_back();
    return {};
  }

  // --- numbers, texts, collections ---

  template <typename T>
  Status PushInt() {
    T value = 0;
    TING_RETURN_IF_ERROR(Read(&value));
    return Push({.kind = Kind::kInt, .integer = value});
  }

  template <typename Size>
  Status PushLong() {
    Size size = 0;
    TING_RETURN_IF_ERROR(Read(&size));
    if (size > 8) return Unimplemented("an integer of {} bytes; at most 8 are supported", size);
    TING_ASSIGN_OR_RETURN(const std::string_view digits, ReadText(size));
    uint64_t value = !digits.empty() && (digits.back() & 0x80) != 0 ? ~uint64_t{0} : 0;  // sign extension
    for (size_t i = digits.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(digits[i]);
    return Push({.kind = Kind::kInt, .integer = static_cast<int64_t>(value)});
  }

  Status PushFloat() {
    uint64_t bits = 0;
    TING_RETURN_IF_ERROR(Read(&bits));
    return Push(
        {.kind = Kind::kFloat, .real = std::bit_cast<double>(__builtin_bswap64(bits))});  // big-endian in pickle
  }

  template <typename Size>
  Status PushText() {
    Size size = 0;
    TING_RETURN_IF_ERROR(Read(&size));
    TING_ASSIGN_OR_RETURN(const std::string_view text, ReadText(size));
    return Push({.kind = Kind::kString, .text = text});
  }

  Status PushTuple(size_t count) {
    TING_RETURN_IF_ERROR(Need(count));
    Value value{.kind = Kind::kTuple};
    Take(count, &value.items);
    return Push(std::move(value));
  }

  Status PushMarked(Kind kind) {
    Value value{.kind = kind};
    TING_RETURN_IF_ERROR(PopToMark(&value.items));
    if (kind == Kind::kDict && value.items.size() % 2 != 0) return DataLoss("a dictionary has a key without a value");
    return Push(std::move(value));
  }

  // APPEND, SETITEM: the top `count` values go into the collection below them.
  Status Extend(Kind kind, size_t count) {
    TING_RETURN_IF_ERROR(Need(count + 1));
    Value& target = document_.values_[stack_[stack_.size() - 1 - count]];
    if (target.kind != kind) return DataLoss("items for {}", PickleKindName(target.kind));
    Take(count, &target.items);
    return {};
  }

  Status ExtendMarked(Kind kind) {
    if (marks_.empty()) return DataLoss("no mark on the pickle's stack");
    const size_t count = Available();
    if (kind == Kind::kDict && count % 2 != 0) return DataLoss("a dictionary has a key without a value");
    marks_.pop_back();
    return Extend(kind, count);
  }

  // --- the memo ---

  template <typename T>
  Status MemoPut() {
    T index = 0;
    TING_RETURN_IF_ERROR(Read(&index));
    return MemoPutAt(index);
  }

  Status MemoPutAt(size_t index) {
    TING_RETURN_IF_ERROR(Need(1));
    if (index >= kMaxPickleValues) return ResourceExhausted("memo index {}, more than any state_dict needs", index);
    if (index >= memo_.size()) memo_.resize(index + 1, kEmptySlot);
    memo_[index] = stack_.back();
    return {};
  }

  template <typename T>
  Status MemoGet() {
    T index = 0;
    TING_RETURN_IF_ERROR(Read(&index));
    if (index >= memo_.size() || memo_[index] == kEmptySlot)
      return DataLoss("memo {} is read before it is written", index);
    return PushIndex(memo_[index]);
  }

  // --- globals and calls ---

  Status PushGlobal(std::string_view module, std::string_view name) {
    auto global = FindGlobal(module, name);
    if (!global) {
      return Unimplemented(
          "the class {}.{} is not one that a state_dict needs, and is not loaded; save the model "
          "with torch.save(model.state_dict(), path)",
          Printable(module), Printable(name));
    }
    return Push(*std::move(global));
  }

  Status GlobalLines() {
    TING_ASSIGN_OR_RETURN(const std::string_view module, ReadLine());
    TING_ASSIGN_OR_RETURN(const std::string_view name, ReadLine());
    return PushGlobal(module, name);
  }

  Status StackGlobal() {
    TING_RETURN_IF_ERROR(Need(2));
    const Value& name = document_.values_[Pop()];
    const Value& module = document_.values_[Pop()];
    if (name.kind != Kind::kString || module.kind != Kind::kString) return DataLoss("a class whose name is no text");
    return PushGlobal(module.text, name.text);
  }

  Status Reduce() {
    TING_RETURN_IF_ERROR(Need(2));
    const uint32_t arguments = Pop();
    const Value& callee = document_.values_[Pop()];
    if (callee.kind != Kind::kGlobal || document_.values_[arguments].kind != Kind::kTuple) {
      return DataLoss("a call of {} with {}", PickleKindName(callee.kind),
                      PickleKindName(document_.values_[arguments].kind));
    }
    switch (callee.global) {
      case Global::kOrderedDict:
        return MakeOrderedDict(arguments);
      case Global::kRebuildTensor:
        return MakeTensor(arguments);
      case Global::kRebuildParameter:
        return MakeParameter(arguments);
      case Global::kStorageClass:
        break;
    }
    return Unimplemented("a storage class is called; only references to storages are supported");
  }

  bool Is(uint32_t index, Kind kind) const { return document_.values_[index].kind == kind; }

  // OrderedDict() or, from Python 2, OrderedDict([[key, value], …]).
  Status MakeOrderedDict(uint32_t arguments) {
    Value dict{.kind = Kind::kDict};
    const auto& items = document_.values_[arguments].items;
    if (items.size() > 1 || (items.size() == 1 && !Is(items[0], Kind::kList))) {
      return DataLoss("OrderedDict is called with something other than a list of pairs");
    }
    if (items.size() == 1) {
      const auto& pairs = document_.values_[items[0]].items;
      // One list may be named by many calls, each of which copies it.
      copied_pairs_ += pairs.size();
      if (copied_pairs_ > kMaxPickleValues) return ResourceExhausted("more than {} pairs are copied", kMaxPickleValues);
      for (const uint32_t index : pairs) {
        const Value& pair = document_.values_[index];
        if ((pair.kind != Kind::kList && pair.kind != Kind::kTuple) || pair.items.size() != 2) {
          return DataLoss("OrderedDict is called with something other than a list of pairs");
        }
        dict.items.insert(dict.items.end(), pair.items.begin(), pair.items.end());
      }
    }
    return Push(std::move(dict));
  }

  // (storage, offset, size, stride, requires_grad, backward_hooks[, metadata]); the last ones do not matter here.
  Status MakeTensor(uint32_t arguments) {
    const auto& items = document_.values_[arguments].items;
    if (items.size() < 4 || items.size() > 7 || !Is(items[0], Kind::kStorage) || !Is(items[1], Kind::kInt) ||
        !Is(items[2], Kind::kTuple) || !Is(items[3], Kind::kTuple)) {
      return DataLoss("_rebuild_tensor_v2 is called with other arguments than (storage, offset, size, stride, …)");
    }
    const int64_t offset = document_.values_[items[1]].integer;
    return Push({.kind = Kind::kTensor, .integer = offset, .items = {items[0], items[2], items[3]}});
  }

  // (tensor, requires_grad, backward_hooks): the tensor itself.
  Status MakeParameter(uint32_t arguments) {
    const auto& items = document_.values_[arguments].items;
    if (items.empty() || !Is(items[0], Kind::kTensor)) return DataLoss("_rebuild_parameter is called without a tensor");
    return PushIndex(items[0]);
  }

  // ('storage', class, key, location, elements): location (cpu, cuda:0) does not matter here.
  Status PersistentId() {
    TING_RETURN_IF_ERROR(Need(1));
    const Value& id = document_.values_[Pop()];
    if (id.kind != Kind::kTuple || id.items.size() != 5) return DataLoss("a persistent id that is no storage");
    const auto item = [&](size_t i) -> const Value& { return document_.values_[id.items[i]]; };
    const bool well_formed = item(0).kind == Kind::kString && item(0).text == "storage" &&
                             item(1).kind == Kind::kGlobal && item(1).global == Global::kStorageClass &&
                             item(2).kind == Kind::kString && item(4).kind == Kind::kInt && item(4).integer >= 0;
    if (!well_formed) return DataLoss("a persistent id other than ('storage', class, key, location, elements)");
    return Push({.kind = Kind::kStorage,
                 .storage_type = item(1).storage_type,
                 .integer = item(4).integer,
                 .text = item(2).text});
  }

  // Attributes for the object below: only an OrderedDict has any here (_metadata: module versions).
  Status Build() {
    TING_RETURN_IF_ERROR(Need(2));
    Pop();
    if (!Is(stack_.back(), Kind::kDict)) {
      return Unimplemented("BUILD on {}; only a state_dict's _metadata is understood",
                           PickleKindName(document_.values_[stack_.back()].kind));
    }
    return {};
  }

  static constexpr uint32_t kEmptySlot = ~uint32_t{0};

  std::span<const std::byte> bytes_;
  size_t at_ = 0;
  PickleDocument document_;
  std::vector<uint32_t> stack_;  // indices of values
  std::vector<size_t> marks_;    // stack sizes at each mark
  std::vector<uint32_t> memo_;
  size_t copied_pairs_ = 0;
};

Result<PickleDocument> PickleDocument::Parse(std::span<const std::byte> bytes) {
  if (bytes.size() > kMaxPickleBytes) {
    return ResourceExhausted("a pickle of {} bytes; a state_dict's has at most {}", bytes.size(), kMaxPickleBytes);
  }
  return PickleMachine(bytes).Run();
}

}  // namespace ting
