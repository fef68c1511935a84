// src/runtime/engine_file.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine_file.h"

#include <xxhash.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/mmap_file.h"
#include "base/status_macros.h"
#include "graph/parser.h"
#include "graph/printer.h"
#include "graph/verifier.h"

namespace ting {
namespace {

using Json = nlohmann::json;

static_assert(std::endian::native == std::endian::little, "the engine file is written and mapped as it lies in memory");

constexpr char kMagic[8] = {'T', 'I', 'N', 'G', 'E', 'N', 'G', '\0'};
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderAt = 64;
constexpr uint64_t kMaxHeaderBytes = uint64_t{64} << 20;

struct Preamble {
  char magic[8];
  uint32_t version;
  uint32_t zero;
  uint64_t header_bytes;
  uint64_t header_hash;
  char padding[32];
};
static_assert(sizeof(Preamble) == kHeaderAt);

std::string Hex(uint64_t hash) { return fmt::format("{:016x}", hash); }

// Directory of the weights; offsets count from the start of the weight area.
Json DescribeWeights(const WeightStore& weights, uint64_t* total) {
  Json list = Json::array();
  uint64_t offset = 0;
  for (const auto& [name, weight] : weights.all()) {
    const WeightView& view = weight.view;
    Json shape = Json::array();
    for (int i = 0; i < view.shape.rank(); ++i) shape.push_back(view.shape[i]);
    list.push_back({{"name", name},
                    {"dtype", DTypeName(view.dtype)},
                    {"layout", static_cast<int>(view.layout)},
                    {"shape", shape},
                    {"offset", offset},
                    {"bytes", weight.bytes()},
                    {"xxh3", Hex(XXH3_64bits(view.data, weight.bytes()))}});
    offset += AlignUp(weight.bytes());
  }
  *total = offset;
  return list;
}

void WriteAligned(std::ofstream& out, const void* data, size_t bytes) {
  static constexpr std::array<char, kBufferAlignment> kZeros{};
  out.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
  out.write(kZeros.data(), static_cast<std::streamsize>(AlignUp(bytes) - bytes));
}

Result<std::string> MakeHeader(const EngineContents& contents) {
  std::string graphs;
  for (const auto& [name, graph] : contents.module.graphs) graphs += PrintGraph(graph);
  const Json metadata = Json::parse(contents.metadata, nullptr, false);
  if (metadata.is_discarded()) return Internal("the engine's metadata is not JSON");
  uint64_t total = 0;
  Json header = {
      {"metadata", metadata}, {"graphs", graphs}, {"weights", DescribeWeights(contents.module.weights, &total)}};
  return header.dump();
}

Status WriteTo(const std::string& path, const std::string& header, const WeightStore& weights) {
  Preamble preamble{};
  std::memcpy(preamble.magic, kMagic, sizeof(kMagic));
  preamble.version = kVersion;
  preamble.header_bytes = header.size();
  preamble.header_hash = XXH3_64bits(header.data(), header.size());
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(&preamble), sizeof(preamble));
  WriteAligned(out, header.data(), header.size());
  for (const auto& [name, weight] : weights.all()) WriteAligned(out, weight.view.data, weight.bytes());
  out.close();
  if (!out) return ResourceExhausted("{}: writing failed: {}", path, std::strerror(errno));
  return Status();
}

// One entry of the weight directory against the mapping.
Status ReadWeightEntry(const Json& entry, std::span<const std::byte> area, const std::shared_ptr<const void>& owner,
                       WeightStore& weights) {
  const auto name = entry.at("name").get<std::string>();
  const auto dtype = DTypeFromName(entry.at("dtype").get<std::string>());
  const int layout = entry.at("layout").get<int>();
  const auto dims = entry.at("shape").get<std::vector<int64_t>>();
  const auto offset = entry.at("offset").get<uint64_t>();
  const auto bytes = entry.at("bytes").get<uint64_t>();
  const bool panel = layout == static_cast<int>(Layout::kPanel16);
  if (!dtype || (layout != 0 && !panel) || dims.size() > Shape::kMaxRank || (panel && dims.size() != 2)) {
    return DataLoss("weight {}: its type, layout or number of axes is unknown", name);
  }
  WeightView view{nullptr, *dtype, {}, static_cast<Layout>(layout)};
  int64_t elements = 1;
  for (const int64_t dim : dims) {
    if (dim < 0 || dim > int64_t{1} << 32 || elements > (int64_t{1} << 36) / std::max<int64_t>(dim, 1)) {
      return DataLoss("weight {}: an axis of size {}", name, dim);
    }
    elements *= std::max<int64_t>(dim, 1);
    view.shape.Append(dim);
  }
  if (bytes != WeightBytes(view.dtype, view.shape, view.layout) || offset % kBufferAlignment != 0 ||
      offset > area.size() || bytes > area.size() - offset) {
    return DataLoss("weight {}: {} bytes at {} do not fit its shape or the file", name, bytes, offset);
  }
  view.data = area.data() + offset;
  if (Hex(XXH3_64bits(view.data, bytes)) != entry.at("xxh3").get<std::string>()) {
    return DataLoss("weight {}: its checksum does not match; the file is damaged, build it again", name);
  }
  weights.Put(name, Weight{view, owner});
  return Status();
}

Status ReadHeader(const std::string& text, std::span<const std::byte> area, const std::shared_ptr<const void>& owner,
                  EngineContents& contents) {
  try {
    const Json header = Json::parse(text);
    contents.metadata = header.at("metadata").dump();
    for (const Json& entry : header.at("weights")) {
      TING_RETURN_IF_ERROR(ReadWeightEntry(entry, area, owner, contents.module.weights));
    }
    TING_ASSIGN_OR_RETURN(auto graphs, ParseGraphs(header.at("graphs").get<std::string>()));
    for (Graph& graph : graphs) contents.module.graphs[graph.name] = std::move(graph);
  } catch (const nlohmann::json::exception& error) {
    return DataLoss("the header cannot be read: {}", error.what());
  }
  return VerifyModule(contents.module);
}

}  // namespace

Status WriteEngineFile(const std::string& path, const EngineContents& contents) {
  TING_ASSIGN_OR_RETURN(const std::string header, MakeHeader(contents));
  const std::string partial = path + ".partial";
  Status status = WriteTo(partial, header, contents.module.weights);
  std::error_code error;
  if (status.ok()) {
    std::filesystem::rename(partial, path, error);
    if (error) status = ResourceExhausted("{}: {}", path, error.message());
  }
  if (!status.ok()) std::filesystem::remove(partial, error);
  return status;
}

Result<EngineContents> ReadEngineFile(const std::string& path) {
  TING_ASSIGN_OR_RETURN(auto file, MmapFile::Open(path));
  return ParseEngineFile(file->bytes(), path, file);
}

Result<EngineContents> ParseEngineFile(std::span<const std::byte> bytes, const std::string& path,
                                       std::shared_ptr<const void> owner) {
  Preamble preamble{};
  if (bytes.size() < sizeof(preamble))
    return DataLoss("{}: {} bytes are too few for an engine file", path, bytes.size());
  std::memcpy(&preamble, bytes.data(), sizeof(preamble));
  if (std::memcmp(preamble.magic, kMagic, sizeof(kMagic)) != 0) {
    return DataLoss("{}: not an engine file; make one with: ting build MODEL_DIR -o model.ting", path);
  }
  if (preamble.version != kVersion) {
    return Unimplemented("{}: engine format {} (this program reads {}); build it again", path, preamble.version,
                         kVersion);
  }
  const uint64_t room = bytes.size() - kHeaderAt;
  if (preamble.header_bytes > room || preamble.header_bytes > kMaxHeaderBytes) {
    return DataLoss("{}: truncated: its header of {} bytes does not fit", path, preamble.header_bytes);
  }
  const std::string header(reinterpret_cast<const char*>(bytes.data()) + kHeaderAt, preamble.header_bytes);
  if (XXH3_64bits(header.data(), header.size()) != preamble.header_hash) {
    return DataLoss("{}: the header's checksum does not match; the file is damaged, build it again", path);
  }
  const size_t weights_at = std::min(bytes.size(), kHeaderAt + AlignUp(header.size()));
  EngineContents contents;
  TING_RETURN_IF_ERROR(ReadHeader(header, bytes.subspan(weights_at), owner, contents).WithContext(path));
  return contents;
}

bool LooksLikeEngineFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  char magic[sizeof(kMagic)] = {};
  in.read(magic, sizeof(magic));
  return in && std::memcmp(magic, kMagic, sizeof(kMagic)) == 0;
}

}  // namespace ting
