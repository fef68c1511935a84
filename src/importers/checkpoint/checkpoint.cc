// src/importers/checkpoint/checkpoint.cc
// SPDX-License-Identifier: Apache-2.0
#include "importers/checkpoint/checkpoint.h"

#include <cmath>
#include <filesystem>
#include <initializer_list>
#include <utility>

#include "base/mmap_file.h"
#include "base/status_macros.h"
#include "importers/checkpoint/cmvn.h"
#include "importers/checkpoint/expected_tensors.h"
#include "importers/checkpoint/printable.h"

namespace ting {
namespace {

namespace fs = std::filesystem;

bool IsFile(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// The first of `names` that is a file in `directory`; empty if none is.
std::string FirstFile(const fs::path& directory, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (IsFile(directory / name)) return (directory / name).string();
  }
  return {};
}

std::vector<std::string> FilesEndingIn(const fs::path& directory, std::string_view ending) {
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string().ends_with(ending) && IsFile(it->path())) found.push_back(it->path().string());
  }
  return found;
}

// The file in `directory` that has the last path component of `named`, whatever folders are written before it.
std::string SameNameIn(const fs::path& directory, const std::string& named) {
  const fs::path name = fs::path(named).filename();
  if (named.empty() || name.empty() || named.find('\0') != std::string::npos) return {};
  return IsFile(directory / name) ? (directory / name).string() : std::string();
}

Result<std::string> FindWeights(const fs::path& directory) {
  if (std::string path = FirstFile(directory, {"final.pt"}); !path.empty()) return path;
  const auto candidates = FilesEndingIn(directory, ".pt");
  if (candidates.size() == 1) return candidates[0];
  if (candidates.size() > 1) {
    return InvalidArgument("no final.pt but {} other *.pt; give the path of one of them", candidates.size());
  }
  if (!FirstFile(directory, {"final.zip"}).empty()) {
    return Unimplemented(
        "no final.pt, only the TorchScript export final.zip, whose weights may be quantized; copy "
        "final.pt and train.yaml of the training here");
  }
  return NotFound("no final.pt and no other *.pt; a WeNet model directory has final.pt, train.yaml and units.txt");
}

Status FindFiles(const fs::path& directory, CheckpointPaths* paths) {
  if (paths->weights.empty()) {
    TING_ASSIGN_OR_RETURN(paths->weights, FindWeights(directory));
  }
  paths->config = FirstFile(directory, {"train.yaml", "config.yaml"});
  if (paths->config.empty()) return NotFound("no train.yaml (or config.yaml) beside {}", paths->weights);
  paths->units = FirstFile(directory, {"units.txt", "words.txt", "lang_char.txt", "dict.txt", "dict"});
  if (paths->units.empty())
    return NotFound("no units.txt (or words.txt, lang_char.txt, dict) beside {}", paths->weights);
  return {};
}

void FindBpeModel(const fs::path& directory, Checkpoint* out) {
  out->paths.bpe_model = SameNameIn(directory, out->config.bpe_path);
  if (!out->paths.bpe_model.empty()) return;
  auto candidates = FilesEndingIn(directory, ".model");
  for (std::string& path : FilesEndingIn(directory, ".bpemodel")) candidates.push_back(std::move(path));
  if (candidates.size() == 1) out->paths.bpe_model = candidates[0];
}

// The CTC layer says how many units there are; yaml and list of units must agree.
Status CheckVocabulary(Checkpoint* out) {
  const TensorEntry* ctc = out->weights.Find("ctc.ctc_lo.weight");
  if (ctc == nullptr || ctc->shape.size() != 2) {
    return InvalidArgument("the checkpoint has no matrix ctc.ctc_lo.weight: it is no CTC model of WeNet");
  }
  TING_RETURN_IF_ERROR(SetVocabSize(ctc->shape[0], &out->config));
  if (out->tokens.size() != ctc->shape[0]) {
    return InvalidArgument("{} has {} units, ctc.ctc_lo.weight has {}; the list belongs to another model",
                           out->paths.units, out->tokens.size(), ctc->shape[0]);
  }
  return {};
}

Status LoadCmvnFile(const fs::path& directory, Checkpoint* out) {
  out->paths.cmvn = SameNameIn(directory, out->config.cmvn_file);
  if (out->paths.cmvn.empty()) out->paths.cmvn = FirstFile(directory, {"global_cmvn"});
  if (out->paths.cmvn.empty()) {
    if (out->config.cmvn_file.empty()) return {};  // trained without
    return NotFound(
        "the model was trained with CMVN ({}), which is neither in the checkpoint nor in the directory; "
        "copy the file there",
        Printable(out->config.cmvn_file));
  }
  TING_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(out->paths.cmvn));
  auto cmvn = ParseCmvn(text);
  if (!cmvn.ok()) return cmvn.status().WithContext(out->paths.cmvn);
  out->cmvn_mean = std::move(cmvn->mean);
  out->cmvn_istd = std::move(cmvn->istd);
  out->cmvn_source = CmvnSource::kFile;
  return {};
}

Status LoadCmvn(const fs::path& directory, Checkpoint* out) {
  if (out->weights.Has("encoder.global_cmvn.mean")) {
    TING_ASSIGN_OR_RETURN(out->cmvn_mean, out->weights.ReadF32("encoder.global_cmvn.mean"));
    TING_ASSIGN_OR_RETURN(out->cmvn_istd, out->weights.ReadF32("encoder.global_cmvn.istd"));
    out->cmvn_source = CmvnSource::kCheckpoint;
  } else {
    TING_RETURN_IF_ERROR(LoadCmvnFile(directory, out));
  }
  if (out->cmvn_source == CmvnSource::kNone) return {};
  const auto bins = static_cast<size_t>(out->config.input_dim);
  if (out->cmvn_mean.size() != bins || out->cmvn_istd.size() != bins) {
    return InvalidArgument("CMVN has {} means and {} deviations, the model takes {} features (input_dim)",
                           out->cmvn_mean.size(), out->cmvn_istd.size(), bins);
  }
  for (size_t i = 0; i < bins; ++i) {
    if (!std::isfinite(out->cmvn_mean[i]) || !std::isfinite(out->cmvn_istd[i])) {
      return DataLoss("CMVN of bin {} is not finite", i);
    }
  }
  return {};
}

template <typename T>
Result<T> InFile(const std::string& path, Result<T> (*parse)(std::string_view)) {
  TING_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  Result<T> parsed = parse(text);
  if (!parsed.ok()) return parsed.status().WithContext(path);
  return parsed;
}

Result<Checkpoint> Load(const fs::path& directory, std::string weights) {
  Checkpoint out;
  out.paths.weights = std::move(weights);
  TING_RETURN_IF_ERROR(FindFiles(directory, &out.paths));
  TING_ASSIGN_OR_RETURN(out.config, InFile(out.paths.config, ParseTrainYaml));
  TING_ASSIGN_OR_RETURN(out.tokens, InFile(out.paths.units, TokenTable::Parse));
  TING_ASSIGN_OR_RETURN(out.weights, StateDict::Open(out.paths.weights));
  TING_RETURN_IF_ERROR(CheckVocabulary(&out));
  TING_RETURN_IF_ERROR(CheckTensors(out.config, out.weights));
  TING_RETURN_IF_ERROR(LoadCmvn(directory, &out));
  FindBpeModel(directory, &out);
  return out;
}

}  // namespace

Result<Checkpoint> LoadCheckpoint(const std::string& path) {
  std::error_code error;
  Result<Checkpoint> loaded =
      NotFound("no such directory; a WeNet model directory has final.pt, train.yaml, units.txt");
  if (fs::is_directory(path, error)) {
    loaded = Load(path, {});
  } else if (IsFile(path)) {
    loaded = Load(fs::absolute(path, error).parent_path(), path);
  }
  if (!loaded.ok()) return loaded.status().WithContext("loading " + path);
  return loaded;
}

}  // namespace ting
