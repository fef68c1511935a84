// tests/engine/golden_set.h
// SPDX-License-Identifier: Apache-2.0
//
// A model, its recordings and PyTorch WeNet's answers for them (tests/golden/shipped, and TING_SHARED/golden).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/npz.h"
#include "tests/support/paths.h"
#include "ting/recognizer.h"

namespace ting::testing {

struct GoldenSet {
  std::string model_dir;
  std::vector<std::string> recordings;  // keys of the arrays
  std::vector<Audio> audio;
  Npz search;
  double ctc_weight = 0.3, reverse_weight = 0.5;  // the family's published settings

  // tokens [N, L] padded with -1, as lists
  std::vector<std::vector<int32_t>> Hypotheses(const std::string& name) const {
    const NpyArray& array = search[name];
    const auto flat = array.As<int32_t>();
    std::vector<std::vector<int32_t>> lists(array.shape[0]);
    for (int64_t n = 0; n < array.shape[0]; ++n) {
      for (int64_t i = 0; i < array.shape[1]; ++i) {
        if (flat[n * array.shape[1] + i] >= 0) lists[n].push_back(flat[n * array.shape[1] + i]);
      }
    }
    return lists;
  }
};

inline Audio MustRead(const std::string& path) {
  auto audio = ReadAudio(path, {});
  EXPECT_TRUE(audio.ok()) << audio.status().ToString();
  return audio.ok() ? std::move(audio).value() : Audio{};
}

inline GoldenSet ShippedGoldens() {
  GoldenSet set;
  set.model_dir = SourcePath("models/tiny");
  set.search = Npz::Load(SourcePath("tests/golden/shipped/search.npz"));
  for (const std::string& file : set.search["sources"].AsStrings()) {
    set.recordings.push_back(std::filesystem::path(file).stem().string());
    set.audio.push_back(MustRead(SourcePath("models/samples/" + file)));
  }
  return set;
}

// `model`: aishell, u2pp or tiny.
inline GoldenSet SharedGoldens(const std::string& model) {
  GoldenSet set;
  set.model_dir = SharedPath("models/" + model);
  set.search = Npz::Load(SharedPath("golden/" + model + "/search.npz"));
  if (model == "aishell") set.ctc_weight = 0.5, set.reverse_weight = 0.0;
  for (const std::string& file : set.search["sources"].AsStrings()) {
    set.recordings.push_back(std::filesystem::path(file).stem().string());
    for (const char* folder : {"real/wav/", "real/commonvoice_zh/clips/", "tts/aishell_test/clips/"}) {
      if (std::filesystem::exists(SharedPath(folder + file))) set.audio.push_back(MustRead(SharedPath(folder + file)));
    }
  }
  return set;
}

}  // namespace ting::testing
