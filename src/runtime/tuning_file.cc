// src/runtime/tuning_file.cc
// SPDX-License-Identifier: Apache-2.0
#include "runtime/tuning_file.h"

#include <unistd.h>
#include <xxhash.h>

#include <cctype>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "graph/printer.h"

namespace ting {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr int kFormat = 1;
constexpr uintmax_t kMostBytes = uintmax_t{16} << 20;
constexpr size_t kMostRecords = 100'000, kMostOptions = 32, kMostNameBytes = 100;
constexpr int64_t kMostSize = int64_t{1} << 31;

// A name as part of a file's: letters, digits and dots, with one dash for all between.
std::string FilePart(const std::string& name) {
  std::string part;
  for (const char c : name) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.';
    if (plain) part += c;
    if (!plain && !part.empty() && part.back() != '-') part += '-';
  }
  return part;
}

OrderedJson HeaderOf(const TuningIdentity& identity) {
  return {{"format", kFormat},
          {"program", TING_VERSION},
          {"device", identity.hardware.device},
          {"capability", identity.hardware.capability},
          {"driver", identity.hardware.driver},
          {"model", identity.model}};
}

OrderedJson ToJson(const TuningRecord& record) {
  return {{"op", record.product.op}, {"type", record.product.type},           {"N", record.product.N},
          {"K", record.product.K},   {"form", record.product.form},           {"rows", record.rows},
          {"us", record.us},         {"unrecorded_us", record.unrecorded_us}, {"config", record.config}};
}

Result<std::string> NameOf(const OrderedJson& json) {
  auto name = json.get<std::string>();
  if (name.empty() || name.size() > kMostNameBytes) return DataLoss("a name of {} bytes", name.size());
  return name;
}

Result<int64_t> SizeOf(const OrderedJson& json) {
  if (!json.is_number_integer()) return DataLoss("{} is no whole number", json.dump());
  const auto size = json.get<int64_t>();
  if (size < 0 || size > kMostSize) return DataLoss("a size of {}", size);
  return size;
}

Result<double> MicrosecondsOf(const OrderedJson& json) {
  const auto us = json.get<double>();
  if (!std::isfinite(us) || us < 0) return DataLoss("a time of {} us", us);
  return us;
}

Result<TuningRecord> RecordOf(const OrderedJson& json) {
  TuningRecord record;
  TING_ASSIGN_OR_RETURN(record.product.op, NameOf(json.at("op")));
  TING_ASSIGN_OR_RETURN(record.product.type, NameOf(json.at("type")));
  TING_ASSIGN_OR_RETURN(record.product.N, SizeOf(json.at("N")));
  TING_ASSIGN_OR_RETURN(record.product.K, SizeOf(json.at("K")));
  TING_ASSIGN_OR_RETURN(record.product.form, NameOf(json.at("form")));
  TING_ASSIGN_OR_RETURN(record.rows, SizeOf(json.at("rows")));
  TING_ASSIGN_OR_RETURN(record.us, MicrosecondsOf(json.at("us")));
  TING_ASSIGN_OR_RETURN(record.unrecorded_us, MicrosecondsOf(json.at("unrecorded_us")));
  const OrderedJson& config = json.at("config");
  if (!config.is_object() || config.empty() || config.size() > kMostOptions) return DataLoss("no configuration");
  for (const auto& [name, value] : config.items()) {
    if (name.size() > kMostNameBytes) return DataLoss("a name of {} bytes", name.size());
    TING_ASSIGN_OR_RETURN(record.config[name], SizeOf(value));
  }
  return record;
}

// Its first difference from what it should be.
Status CheckHeader(const OrderedJson& json, const TuningIdentity& identity) {
  const OrderedJson header = HeaderOf(identity);
  for (const auto& [name, expected] : header.items()) {
    const OrderedJson& found = json.at(name);
    if (found == expected) continue;
    const std::string word = found.is_primitive() ? found.dump().substr(0, kMostNameBytes) : "something else";
    return FailedPrecondition("it is for {} {}, not {}; tune again", name, word, expected.dump());
  }
  return Status();
}

Result<std::vector<TuningRecord>> Parse(const std::string& text, const TuningIdentity& identity) {
  try {
    const OrderedJson json = OrderedJson::parse(text);
    TING_RETURN_IF_ERROR(CheckHeader(json, identity));
    const OrderedJson& list = json.at("records");
    if (!list.is_array() || list.size() > kMostRecords) return DataLoss("no list of at most {} records", kMostRecords);
    std::vector<TuningRecord> records;
    for (const OrderedJson& entry : list) {
      TING_ASSIGN_OR_RETURN(TuningRecord record, RecordOf(entry));
      records.push_back(std::move(record));
    }
    return records;
  } catch (const nlohmann::json::exception& error) {
    return DataLoss("{}", error.what());
  }
}

Status WriteText(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  return out ? Status() : ResourceExhausted("{} cannot be written", path);
}

}  // namespace

std::string ShapeChecksum(const Module& module) {
  std::string text;
  for (const auto& [name, graph] : module.graphs) text += PrintGraph(graph);
  for (const auto& [name, weight] : module.weights.all()) text += name + weight.view.shape.ToString() + "\n";
  return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
}

std::string DefaultTuningPath(const TuningIdentity& identity) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  std::string folder;
  if (cache != nullptr && *cache == '/') {  // the specification has relative ones ignored
    folder = cache;
  } else if (home != nullptr && *home != '\0') {
    folder = std::string(home) + "/.cache";
  } else {
    return "";
  }
  return fmt::format("{}/ting/{}-{}-{}-{}.json", folder, FilePart(identity.hardware.device),
                     FilePart(identity.hardware.capability), FilePart(identity.hardware.driver), identity.model);
}

Result<std::vector<TuningRecord>> ReadTuningFile(const std::string& path, const TuningIdentity& identity) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return NotFound("{}: no such file", path);
  const uintmax_t bytes = std::filesystem::is_regular_file(path, error) ? std::filesystem::file_size(path, error) : 0;
  if (error || bytes == 0 || bytes > kMostBytes) return DataLoss("{}: no file of tuning records", path);
  std::string text(bytes, '\0');
  std::ifstream in(path, std::ios::binary);
  in.read(text.data(), static_cast<std::streamsize>(bytes));
  if (!in) return DataLoss("{} cannot be read", path);
  auto records = Parse(text, identity);
  if (!records.ok()) return records.status().WithContext(path);
  return records;
}

Status WriteTuningFile(const std::string& path, const TuningIdentity& identity,
                       const std::vector<TuningRecord>& records) {
  OrderedJson json = HeaderOf(identity);
  json["records"] = OrderedJson::array();
  for (const TuningRecord& record : records) json["records"].push_back(ToJson(record));
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) return ResourceExhausted("{}: {}", folder.string(), error.message());
  const std::string partial = fmt::format("{}.partial-{}", path, ::getpid());
  Status status = WriteText(partial, json.dump(1) + "\n");
  if (status.ok()) {
    std::filesystem::rename(partial, path, error);
    if (error) status = ResourceExhausted("{}: {}", path, error.message());
  }
  if (!status.ok()) std::filesystem::remove(partial, error);
  return status;
}

}  // namespace ting
