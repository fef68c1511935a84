// tests/importers/crafted_checkpoint.cc
// SPDX-License-Identifier: Apache-2.0
#include "tests/importers/crafted_checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

namespace ting::testing {
namespace {

struct Placed {
  std::string name;
  uint64_t header = 0, size = 0;
};

std::string LocalHeader(const std::string& name, uint64_t size, const ZipOptions& options) {
  return "PK\x03\x04" + LittleEndian(20, 2) + LittleEndian(options.flags, 2) + LittleEndian(options.method, 2) +
         LittleEndian(0, 8) + LittleEndian(size, 4) + LittleEndian(size, 4) + LittleEndian(name.size(), 2) +
         LittleEndian(0, 2) + name;
}

std::string CentralHeader(const Placed& entry, const ZipOptions& options) {
  const uint64_t size = options.zip64 ? 0xffffffff : entry.size;
  const uint64_t header = options.zip64 ? 0xffffffff : entry.header;
  std::string extra;
  if (options.zip64) {
    // Another field first: readers must skip it.
    extra = LittleEndian(0x5455, 2) + LittleEndian(1, 2) + "x" + LittleEndian(1, 2) + LittleEndian(24, 2) +
            LittleEndian(entry.size, 8) + LittleEndian(entry.size, 8) + LittleEndian(entry.header, 8);
  }
  return "PK\x01\x02" + LittleEndian(20, 2) + LittleEndian(20, 2) + LittleEndian(options.flags, 2) +
         LittleEndian(options.method, 2) + LittleEndian(0, 8) + LittleEndian(size, 4) + LittleEndian(size, 4) +
         LittleEndian(entry.name.size(), 2) + LittleEndian(extra.size(), 2) + LittleEndian(0, 2) + LittleEndian(0, 8) +
         LittleEndian(header, 4) + entry.name + extra;
}

std::string EndRecords(uint64_t count, uint64_t offset, uint64_t size, const ZipOptions& options) {
  std::string out;
  if (options.zip64) {
    out = "PK\x06\x06" + LittleEndian(44, 8) + LittleEndian(45, 2) + LittleEndian(45, 2) + LittleEndian(0, 8) +
          LittleEndian(count, 8) + LittleEndian(count, 8) + LittleEndian(size, 8) + LittleEndian(offset, 8);
    out += "PK\x06\x07" + LittleEndian(0, 4) + LittleEndian(offset + size, 8) + LittleEndian(1, 4);
    count = 0xffff;
    offset = size = 0xffffffff;
  }
  return out + "PK\x05\x06" + LittleEndian(0, 4) + LittleEndian(count, 2) + LittleEndian(count, 2) +
         LittleEndian(size, 4) + LittleEndian(offset, 4) + LittleEndian(options.comment.size(), 2) + options.comment;
}

}  // namespace

std::string LittleEndian(uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}

std::span<const std::byte> AsBytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

std::string WriteZip(const ZipContents& contents, const ZipOptions& options) {
  std::string out, directory;
  for (const auto& [name, bytes] : contents) {
    const Placed entry{name, out.size(), bytes.size()};
    out += LocalHeader(name, bytes.size(), options) + bytes;
    directory += CentralHeader(entry, options);
  }
  const uint64_t offset = out.size();
  return out + directory + EndRecords(contents.size(), offset, directory.size(), options);
}

std::string PickleText(const std::string& text) { return "X" + LittleEndian(text.size(), 4) + text; }

std::string PickleInt(int64_t value) {
  if (value == static_cast<int32_t>(value)) return "J" + LittleEndian(static_cast<uint64_t>(value), 4);
  return std::string("\x8a\x08") + LittleEndian(static_cast<uint64_t>(value), 8);
}

std::string PickleGlobal(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}

std::string PickleTuple(const std::vector<std::string>& items) {
  std::string out = "(";
  for (const std::string& item : items) out += item;
  return out + "t";
}

std::string PickleInts(const std::vector<int64_t>& values) {
  std::vector<std::string> items;
  for (const int64_t value : values) items.push_back(PickleInt(value));
  return PickleTuple(items);
}

std::string PickleProgram(const std::string& body) { return "\x80\x02" + body + "."; }

std::string PickleTensor(const CraftedTensor& tensor) {
  const std::string storage =
      PickleTuple({PickleText("storage"), PickleGlobal("torch", tensor.storage_class), PickleText(tensor.key),
                   PickleText("cpu"), PickleInt(tensor.storage_elements)}) +
      "Q";
  const std::string hooks = PickleGlobal("collections", "OrderedDict") + ")R";
  return PickleGlobal("torch._utils", "_rebuild_tensor_v2") +
         PickleTuple(
             {storage, PickleInt(tensor.offset), PickleInts(tensor.shape), PickleInts(tensor.stride), "\x89", hooks}) +
         "R";
}

std::string PickleStateDict(const std::vector<CraftedTensor>& tensors) {
  std::string out = PickleGlobal("collections", "OrderedDict") + ")R(";
  for (const CraftedTensor& tensor : tensors) out += PickleText(tensor.name) + PickleTensor(tensor);
  return out + "u";
}

std::vector<int64_t> RowMajor(const std::vector<int64_t>& shape) {
  std::vector<int64_t> stride(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) stride[i - 1] = stride[i] * shape[i];
  return stride;
}

std::string WriteCheckpoint(const std::string& pickle, const std::map<std::string, std::string>& storages,
                            const std::string& folder, const ZipOptions& options) {
  ZipContents contents{{folder + "data.pkl", pickle}, {folder + "byteorder", "little"}};
  for (const auto& [key, bytes] : storages) contents.emplace_back(folder + "data/" + key, bytes);
  contents.emplace_back(folder + "version", "3\n");
  return WriteZip(contents, options);
}

std::string WriteFloatCheckpoint(const std::vector<NamedShape>& tensors) {
  std::vector<CraftedTensor> crafted;
  std::map<std::string, std::string> storages;
  for (const NamedShape& tensor : tensors) {
    int64_t elements = 1;
    for (const int64_t size : tensor.shape) elements *= size;
    const std::string key = std::to_string(crafted.size());
    std::string bytes(elements * sizeof(float), '\0');
    for (int64_t i = 0; i < elements; ++i) {
      const float value = static_cast<float>((i + 7 * crafted.size()) % 13) / 8 - 0.5F;
      std::memcpy(bytes.data() + i * sizeof(float), &value, sizeof(float));
    }
    storages[key] = std::move(bytes);
    crafted.push_back({.name = tensor.name,
                       .key = key,
                       .storage_elements = elements,
                       .shape = tensor.shape,
                       .stride = RowMajor(tensor.shape)});
  }
  return WriteCheckpoint(PickleProgram(PickleStateDict(crafted)), storages);
}

std::string MakeDirectory(const std::string& name) {
  const std::filesystem::path path = std::filesystem::path(::testing::TempDir()) / ("ting_importers_" + name);
  std::filesystem::remove_all(path);
  std::filesystem::create_directories(path);
  return path.string();
}

void WriteFile(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

}  // namespace ting::testing
