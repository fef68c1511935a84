// src/engine/tuning.cc
// SPDX-License-Identifier: Apache-2.0
#include "engine/tuning.h"

#include <chrono>
#include <map>

#include "base/status_macros.h"
#include "engine/u2_runner.h"
#include "runtime/tuning_file.h"
#include "ting/tuning.h"

namespace ting {
namespace {

struct TuningPlace {
  TuningIdentity identity;
  std::string path;  // empty: this machine has no cache
};

Result<TuningPlace> PlaceOf(const U2Model& model, const RecognizerOptions& options, const Device& device) {
  TuningPlace place;
  TING_ASSIGN_OR_RETURN(place.identity.hardware, device.hardware());
  place.identity.model = ShapeChecksum(model.module);
  place.path = options.tuning_file.empty() ? DefaultTuningPath(place.identity) : options.tuning_file;
  return place;
}

std::string ConfigText(const TuningConfig& config) {
  std::string text;
  for (const auto& [name, value] : config) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, value);
  return text;
}

// Those of the file, with what was measured anew in their place.
std::vector<TuningRecord> Merge(const std::vector<TuningRecord>& old, const std::vector<TuningRecord>& measured) {
  std::map<std::pair<TuningProduct, int64_t>, const TuningRecord*> records;
  for (const TuningRecord& record : old) records[{record.product, record.rows}] = &record;
  for (const TuningRecord& record : measured) records[{record.product, record.rows}] = &record;
  std::vector<TuningRecord> merged;
  for (const auto& [key, record] : records) {
    if (!record->config.empty()) merged.push_back(*record);
  }
  return merged;
}

Result<std::vector<TuningRecord>> Measure(const U2Model& model, Device& device, const TuneOptions& tune) {
  TING_ASSIGN_OR_RETURN(const auto runner, U2Runner::Create(model, device, {}));
  TING_RETURN_IF_ERROR(runner->CreateAll());
  TuningRequest request{tune.rows, {}};
  if (tune.progress) {
    request.progress = [&tune](const TuningRecord& r) {
      tune.progress({r.product.ToString(), r.rows, ConfigText(r.config), r.us, r.unrecorded_us});
    };
  }
  return device.Tune(request);
}

}  // namespace

void LoadTuning(const U2Model& model, const RecognizerOptions& options, Device& device) {
  TuningTable* table = device.tuning();
  if (table == nullptr) return;
  table->SetNote(options.note);
  if (!options.use_tuning) return;
  const auto note = [&](const Status& status) {
    if (options.note) options.note(status.message() + "; the tuning records are ignored");
  };
  const auto place = PlaceOf(model, options, device);
  if (!place.ok()) return note(place.status());
  if (place->path.empty()) return;
  auto records = ReadTuningFile(place->path, place->identity);
  const bool absent = records.status().code() == StatusCode::kNotFound && options.tuning_file.empty();
  if (!records.ok() && !absent) return note(records.status());
  if (absent) return;
  for (TuningRecord& record : *records) table->Put(std::move(record));
}

Result<TuneReport> TuneModel(const std::string& path, const RecognizerOptions& options, const TuneOptions& tune) {
  const auto start = std::chrono::steady_clock::now();
  TING_ASSIGN_OR_RETURN(const U2Model model, LoadU2ModelFor(options, path));
  ThreadPool pool(options.num_threads);
  TING_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, CreateDevice(options, model.info.precision, pool));
  if (device->tuning() == nullptr) return device->Tune({}).status();
  TING_ASSIGN_OR_RETURN(const TuningPlace place, PlaceOf(model, options, *device));
  if (place.path.empty()) {
    return FailedPrecondition("neither XDG_CACHE_HOME nor HOME is set; name the file of the records: --tuning-file");
  }
  TING_ASSIGN_OR_RETURN(const std::vector<TuningRecord> measured, Measure(model, *device, tune));
  const auto old = ReadTuningFile(place.path, place.identity);  // damaged or of another machine: replaced
  TING_RETURN_IF_ERROR(
      WriteTuningFile(place.path, place.identity, Merge(old.ok() ? *old : std::vector<TuningRecord>(), measured)));
  TuneReport report{place.path, static_cast<int>(measured.size()), 0, 0};
  for (const TuningRecord& record : measured) report.num_records += record.config.empty() ? 0 : 1;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace ting
