// tools/ting/inputs.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/inputs.h"

#include <glob.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "base/mmap_file.h"
#include "base/status_macros.h"
#include "tools/ting/text_lines.h"

namespace ting::tool {
namespace {

namespace fs = std::filesystem;

constexpr std::array kAudioExtensions = {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"};

std::string LowerExtension(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return extension;
}

bool IsAudioFile(const fs::path& path) {
  const std::string extension = LowerExtension(path);
  return std::find(kAudioExtensions.begin(), kAudioExtensions.end(), extension) != kAudioExtensions.end();
}

std::string KeyOfFile(const fs::path& path) {
  std::string key = path.stem().string();
  std::replace_if(
      key.begin(), key.end(), [](unsigned char c) { return std::isspace(c) != 0; }, '_');
  return key;
}

// A path of a list: as it stands (Kaldi's habit), otherwise beside the list.
std::string ResolveListed(const fs::path& list, std::string_view listed) {
  const fs::path path(listed);
  std::error_code ignored;
  if (path.is_absolute() || fs::exists(path, ignored)) return path.string();
  const fs::path beside = list.parent_path() / path;
  return fs::exists(beside, ignored) ? beside.string() : path.string();
}

class Expander {
 public:
  Status Add(const std::string& argument) {
    if (argument == "-") return AddFile("-", "stdin"), Status();
    std::error_code ignored;
    if (fs::is_directory(argument, ignored)) return AddFolder(argument);
    const bool exists = fs::exists(argument, ignored);
    if (!exists && argument.find_first_of("*?[") != std::string::npos) return AddGlob(argument);
    const std::string extension = LowerExtension(argument);
    if (extension == ".scp") return AddList(argument, &Expander::ParseScpLine);
    if (extension == ".jsonl" || extension == ".list" || extension == ".json") {
      return AddList(argument, &Expander::ParseJsonLine);
    }
    if (extension == ".tsv") return AddTsv(argument);
    return AddFile(argument, KeyOfFile(argument)), Status();  // reading it will say what is wrong with it
  }

  InputSet Take() { return std::move(set_); }

 private:
  void AddFile(const std::string& path, const std::string& stem) {
    std::string key = stem;
    for (int n = 2; !seen_.emplace(key, path).second; ++n) key = fmt::format("{}-{}", stem, n);
    if (key != stem) {
      set_.notes.push_back(fmt::format("{} gets the key {}: {} has the name {} too", path, key, seen_[stem], stem));
    }
    set_.inputs.push_back({key, path, std::nullopt, {}});
  }

  Status AddListed(Input input, const std::string& where) {
    if (!seen_.emplace(input.key, where).second) {
      return InvalidArgument("{}: the key {} is taken by {}; keys must be unique", where, input.key, seen_[input.key]);
    }
    set_.inputs.push_back(std::move(input));
    return {};
  }

  Status AddFolder(const std::string& folder) {
    std::vector<std::string> found;
    std::error_code error;
    fs::recursive_directory_iterator walk(folder, fs::directory_options::skip_permission_denied, error);
    for (; !error && walk != fs::recursive_directory_iterator(); walk.increment(error)) {
      std::error_code ignored;
      if (walk->is_regular_file(ignored) && IsAudioFile(walk->path())) found.push_back(walk->path().string());
    }
    if (error) return InvalidArgument("{}: {}", folder, error.message());
    if (found.empty()) return NotFound("{}: no audio file (wav, flac, ogg, opus, mp3) in this folder", folder);
    std::sort(found.begin(), found.end());
    for (const std::string& path : found) AddFile(path, KeyOfFile(path));
    return {};
  }

  Status AddGlob(const std::string& pattern) {
    glob_t matches{};
    const int rc = ::glob(pattern.c_str(), 0, nullptr, &matches);
    std::vector<std::string> paths(matches.gl_pathv, matches.gl_pathv + (rc == 0 ? matches.gl_pathc : 0));
    ::globfree(&matches);
    if (paths.empty()) return NotFound("{}: no file matches", pattern);
    for (const std::string& path : paths) TING_RETURN_IF_ERROR(Add(path));
    return {};
  }

  using ParseLine = Result<Input> (Expander::*)(const fs::path& list, std::string_view line);

  Status AddList(const std::string& path, ParseLine parse) {
    TING_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
    const size_t before = set_.inputs.size();
    int number = 0;
    for (const std::string_view line : SplitLines(text)) {
      ++number;
      if (Trim(line).empty()) continue;
      const std::string where = fmt::format("{} line {}", path, number);
      Result<Input> input = (this->*parse)(path, line);
      if (!input.ok()) return input.status().WithContext(where);
      input->problem = input->problem.WithContext(where);
      TING_RETURN_IF_ERROR(AddListed(std::move(*input), where));
    }
    if (set_.inputs.size() == before) return InvalidArgument("{}: the list is empty", path);
    return {};
  }

  Result<Input> ParseScpLine(const fs::path& list, std::string_view line) {
    const auto [key, rest] = SplitKey(line);
    if (rest.empty()) return InvalidArgument("expected \"key path\", found only \"{}\"", key);
    Input input{std::string(key), "", std::nullopt, {}};
    if (rest.ends_with('|') || rest.starts_with('|')) {
      input.path = rest;
      input.problem = Unimplemented("{} is a pipe; a list must not run programs, so write its audio to a file", key);
    } else {
      input.path = ResolveListed(list, rest);
    }
    return input;
  }

  Result<Input> ParseJsonLine(const fs::path& list, std::string_view line) {
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const auto text_of = [&](const char* name) -> std::optional<std::string> {
      const auto field = json.find(name);
      if (field == json.end() || !field->is_string()) return std::nullopt;
      return field->get<std::string>();
    };
    if (!json.is_object()) return InvalidArgument("not a JSON object with \"key\" and \"wav\"");
    const auto key = text_of("key"), wav = text_of("wav");
    if (!key || key->empty() || !wav) return InvalidArgument("\"key\" and \"wav\" must both be there, as strings");
    if (key->find_first_of(" \t\r\n") != std::string::npos) {
      return InvalidArgument("the key \"{}\" has white space, which no output format can hold", *key);
    }
    return Input{*key, ResolveListed(list, *wav), text_of("txt"), {}};
  }

  Status AddTsv(const std::string& path) {
    clips_.clear();
    for (const fs::path& folder : {fs::path(path).parent_path() / "clips", fs::path(path).parent_path()}) {
      std::error_code error;
      for (fs::directory_iterator walk(folder.empty() ? "." : folder, error), end; !error && walk != end;
           walk.increment(error)) {
        if (IsAudioFile(walk->path())) clips_.emplace(walk->path().stem().string(), walk->path().string());
      }
    }
    return AddList(path, &Expander::ParseTsvLine);
  }

  Result<Input> ParseTsvLine(const fs::path&, std::string_view line) {
    const auto fields = SplitTabs(line);
    const std::string key(Trim(fields[0]));
    if (key.empty() || fields.size() < 2) return InvalidArgument("expected \"key<TAB>text\"");
    Input input{key, key, std::string(Trim(fields[1])), {}};
    if (const auto clip = clips_.find(key); clip != clips_.end()) {
      input.path = clip->second;
    } else {
      input.problem = NotFound("no recording clips/{0}.* or {0}.* beside the list", key);
    }
    return input;
  }

  InputSet set_;
  std::unordered_map<std::string, std::string> seen_;  // key -> where it came from
  std::map<std::string, std::string> clips_;           // stem -> path, of the .tsv being read
};

}  // namespace

Result<InputSet> ExpandInputs(const std::vector<std::string>& arguments) {
  Expander expander;
  for (const std::string& argument : arguments) TING_RETURN_IF_ERROR(expander.Add(argument));
  return expander.Take();
}

Result<Transcripts> ReadTranscripts(const std::string& path) {
  TING_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, size_t{1} << 30));
  const bool tabs = LowerExtension(path) == ".tsv";
  Transcripts transcripts;
  for (const std::string_view line : SplitLines(text)) {
    if (Trim(line).empty()) continue;
    if (tabs) {
      const auto fields = SplitTabs(line);
      transcripts.emplace_back(Trim(fields[0]), fields.size() > 1 ? Trim(fields[1]) : std::string_view());
    } else {
      const auto [key, rest] = SplitKey(line);
      transcripts.emplace_back(key, rest);
    }
  }
  if (transcripts.empty()) return InvalidArgument("{}: no transcript in this file", path);
  return transcripts;
}

}  // namespace ting::tool
