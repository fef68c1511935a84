// tests/importers/crafted_checkpoint.h
// SPDX-License-Identifier: Apache-2.0
//
// Writes small zips, pickles and WeNet model directories, well formed or wrong in one chosen place: what torch.save
// writes, without torch. Pickle opcodes are written out by the tests, so that they do not share the reader's table.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace ting::testing {

std::string LittleEndian(uint64_t value, int bytes);
std::span<const std::byte> AsBytes(const std::string& text);

// --- zip ---
struct ZipOptions {
  bool zip64 = false;   // sizes and offsets in zip64 fields, with zip64 end records
  uint16_t method = 0;  // 8: claims to be deflated
  uint16_t flags = 0;   // 1: claims to be encrypted
  std::string comment;  // after the end record
};
using ZipContents = std::vector<std::pair<std::string, std::string>>;  // name, bytes
std::string WriteZip(const ZipContents& contents, const ZipOptions& options = {});

// --- pickle (protocol 2) ---
std::string PickleText(const std::string& text);  // BINUNICODE
std::string PickleInt(int64_t value);             // BININT or LONG1
std::string PickleGlobal(const std::string& module, const std::string& name);
std::string PickleTuple(const std::vector<std::string>& items);
std::string PickleInts(const std::vector<int64_t>& values);  // a tuple
std::string PickleProgram(const std::string& body);          // PROTO 2, body, STOP

struct CraftedTensor {
  std::string name;
  std::string storage_class = "FloatStorage";
  std::string key = "0";
  int64_t storage_elements = 0;
  int64_t offset = 0;
  std::vector<int64_t> shape, stride;
};
std::string PickleTensor(const CraftedTensor& tensor);                   // the REDUCE of _rebuild_tensor_v2
std::string PickleStateDict(const std::vector<CraftedTensor>& tensors);  // an OrderedDict, without PROTO and STOP
std::vector<int64_t> RowMajor(const std::vector<int64_t>& shape);

// A file as torch.save writes: pickle and storages under `folder`.
std::string WriteCheckpoint(const std::string& pickle, const std::map<std::string, std::string>& storages,
                            const std::string& folder = "final/", const ZipOptions& options = {});

// f32 tensors, each with its own storage, filled with small different numbers.
struct NamedShape {
  std::string name;
  std::vector<int64_t> shape;
};
std::string WriteFloatCheckpoint(const std::vector<NamedShape>& tensors);

// --- model directory ---
std::string MakeDirectory(const std::string& name);  // empty, under the test's temporary folder
void WriteFile(const std::string& path, const std::string& bytes);

}  // namespace ting::testing
