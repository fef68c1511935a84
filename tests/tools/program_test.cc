// tests/tools/program_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// The program as a user has it: the real binary, the shipped model, the sample recordings. Texts are compared with
// those of PyTorch WeNet (tests/golden/shipped/transcripts.tsv).
#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bit>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tests/support/paths.h"
#include "tools/ting/text_lines.h"

namespace ting::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class ProgramTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ =
        fs::path(::testing::TempDir()) / (std::string("ting_program_") + test->name() + std::to_string(::getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  // Starts the program with its output in files; standard input is `input` or empty.
  pid_t Start(std::vector<std::string> arguments, const std::string& input = "/dev/null") {
    arguments.insert(arguments.begin(), TING_PROGRAM);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
      const int in = ::open(input.c_str(), O_RDONLY);
      const int out = ::open((folder_ / "out").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
      const int err = ::open((folder_ / "err").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
      ::dup2(in, 0), ::dup2(out, 1), ::dup2(err, 2);
      ::execv(TING_PROGRAM, argv.data());
      ::_exit(127);
    }
    return child;
  }
  // The exit code, or -signal.
  int Wait(pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    out_ = ReadFile(folder_ / "out"), err_ = ReadFile(folder_ / "err");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  int Ting(const std::vector<std::string>& arguments, const std::string& input = "/dev/null") {
    return Wait(Start(arguments, input));
  }

  std::string Write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return (folder_ / name).string();
  }

  // "key text" lines as PyTorch WeNet's column of the shipped transcripts has them, in the order of the files.
  static std::string Golden(const std::string& column) {
    const std::string table = ReadFile(SourcePath("tests/golden/shipped/transcripts.tsv"));
    const auto lines = tool::SplitLines(table);
    const auto header = tool::SplitTabs(lines[0]);
    const size_t at = std::find(header.begin(), header.end(), column) - header.begin();
    std::map<std::string, std::string> texts;
    for (size_t i = 1; i < lines.size(); ++i)
      texts.emplace(tool::SplitTabs(lines[i])[0], tool::SplitTabs(lines[i])[at]);
    std::string result;
    for (const auto& [key, text] : texts) result += key + " " + text + "\n";
    return result;
  }

  const std::string model_ = SourcePath("models/tiny"), samples_ = SourcePath("models/samples");
  fs::path folder_;
  std::string out_, err_;
};

TEST_F(ProgramTest, EveryModeWritesWhatPyTorchWrites) {
  const std::pair<const char*, const char*> modes[] = {
      {"greedy", "greedy"}, {"prefix_beam", "prefix"}, {"attention", "attention"}, {"rescoring", "rescore_c0.3_r0.5"}};
  for (const auto& [mode, column] : modes) {
    for (const char* batch : {"1", "4"}) {
      EXPECT_EQ(Ting({"transcribe", "-m", model_, samples_, "--mode", mode, "--batch", batch, "--format", "kaldi"}), 0)
          << err_;
      EXPECT_EQ(out_, Golden(column)) << mode << ", batch " << batch;
      EXPECT_THAT(err_, HasSubstr("6 of 6 transcribed"));
    }
  }
}

TEST_F(ProgramTest, AnEngineFileTranscribesAsItsCheckpoint) {
  const std::string engine = (folder_ / "tiny.ting").string();
  ASSERT_EQ(Ting({"build", model_, "-o", engine}), 0) << err_;
  EXPECT_EQ(Ting({"transcribe", "-m", engine, samples_, "--format", "kaldi", "--quiet"}), 0) << err_;
  EXPECT_EQ(out_, Golden("rescore_c0.3_r0.5"));
  EXPECT_EQ(err_, "");
  EXPECT_EQ(Ting({"inspect", engine, "--json"}), 0) << err_;
  const auto info = nlohmann::json::parse(out_, nullptr, false);
  ASSERT_TRUE(info.is_object()) << out_;
  EXPECT_EQ(info["vocab_size"], 4233);
  EXPECT_EQ(info["encoder_layers"], 8);
  EXPECT_EQ(info["right_decoder_layers"], 1);
}

TEST_F(ProgramTest, EvalScoresTheSamples) {
  const std::string list = SourcePath("models/samples/samples.tsv");
  EXPECT_EQ(
      Ting({"eval", "-m", model_, "--data", list, "--modes", "greedy,rescoring", "--batch", "1,4", "--warmup", "0"}), 0)
      << err_;
  // Six sentences of 57 characters; the transcripts above hold the errors.
  EXPECT_THAT(out_, HasSubstr("Method: attention_rescoring\nBatch: 4\n"));
  std::istringstream lines(out_);
  std::map<std::string, std::string> overall;  // method -> its line, which must not depend on the batch
  std::string method;
  int num_runs = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("Method: ")) method = line;
    if (!line.starts_with("Overall")) continue;
    ++num_runs;
    EXPECT_EQ(overall.emplace(method, line).first->second, line);
    EXPECT_THAT(line, HasSubstr("N=57"));
  }
  EXPECT_EQ(num_runs, 4);
}

TEST_F(ProgramTest, BenchPrintsItsNumbers) {
  EXPECT_EQ(Ting({"bench", "-m", model_, "--clips", samples_, "--passes", "2", "--json"}), 0) << err_;
  const auto json = nlohmann::json::parse(out_, nullptr, false);
  ASSERT_TRUE(json.is_object()) << out_;
  EXPECT_GT(json["rtfx"].get<double>(), 0);
  EXPECT_EQ(json["utterances"], 6);
  EXPECT_EQ(Ting({"bench", "-m", model_, "--clips", samples_, "--passes", "1", "--profile"}), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("rel_attention"));
}

// A mono WAV of 32-bit floats at 16 kHz.
std::string FloatWav(const std::vector<float>& samples) {
  std::string wav;
  const auto put32 = [&](uint32_t v) { wav.append(reinterpret_cast<const char*>(&v), 4); };
  const auto put16 = [&](uint16_t v) { wav.append(reinterpret_cast<const char*>(&v), 2); };
  const auto bytes = static_cast<uint32_t>(samples.size() * 4);
  wav += "RIFF", put32(36 + bytes), wav += "WAVEfmt ", put32(16), put16(3), put16(1), put32(16000), put32(64000),
      put16(4), put16(32), wav += "data", put32(bytes);
  wav.append(reinterpret_cast<const char*>(samples.data()), bytes);
  return wav;
}

TEST_F(ProgramTest, EveryBadRecordingCostsOneLineThatNamesIt) {
  const std::string good = ReadFile(SourcePath("models/samples/BAC009S0905W0460_n.opus"));
  std::vector<float> noise(16000, 0.01F);
  Write("a_good.opus", good);
  Write("b_empty.wav", "");
  Write("c_cut.opus", good.substr(0, good.size() / 2));
  Write("d_text.wav", "this is no audio at all, but a sentence that is long enough to be looked at\n");
  Write("e_short.wav", FloatWav(std::vector<float>(300, 0.1F)));
  noise[8000] = std::numeric_limits<float>::quiet_NaN();
  Write("f_nan.wav", FloatWav(noise));
  Write("g_cut.wav", FloatWav(std::vector<float>(16000, 0.01F)).substr(0, 20000));
  Write("h_good.opus", good);
  EXPECT_EQ(Ting({"transcribe", "-m", model_, folder_.string(), "--format", "kaldi", "--quiet"}), 1);
  EXPECT_EQ(out_, "a_good 二零一三六二三\nh_good 二零一三六二三\n") << err_;
  const auto lines = tool::SplitLines(err_);
  ASSERT_EQ(lines.size(), 6U) << err_;
  const char* names[] = {"b_empty.wav", "c_cut.opus", "d_text.wav", "e_short.wav", "f_nan.wav", "g_cut.wav"};
  for (size_t i = 0; i < lines.size(); ++i) EXPECT_THAT(std::string(lines[i]), HasSubstr(names[i]));
}

TEST_F(ProgramTest, StandardInput) {
  const std::string clip = SourcePath("models/samples/BAC009S0905W0460_n.opus");
  EXPECT_EQ(Ting({"transcribe", "-m", model_, "-", "--quiet"}, clip), 0) << err_;
  EXPECT_EQ(out_, "二零一三六二三\n");
}

// SIGINT in the middle of a long list: what is done is written, and --resume gives the file of an undisturbed run.
TEST_F(ProgramTest, AnInterruptedRunCanBeTakenUpAgain) {
  std::string list, whole;
  for (int i = 0; i < 3000; ++i) {
    list += "u" + std::to_string(i) + " " + SourcePath("models/samples/BAC009S0905W0460_n.opus") + "\n";
  }
  const std::string scp = Write("wav.scp", list), result = (folder_ / "result").string();
  const std::vector<std::string> arguments = {"transcribe", "-m",    model_, scp,    "--mode",  "greedy",
                                              "--format",   "kaldi", "-o",   result, "--batch", "2"};
  const pid_t child = Start(arguments);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  while (ReadFile(result).empty() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  ::kill(child, SIGINT);
  ASSERT_EQ(Wait(child), 130) << err_;
  EXPECT_THAT(err_, HasSubstr("interrupted"));
  const std::string part = ReadFile(result);
  const size_t num_done = std::count(part.begin(), part.end(), '\n');
  ASSERT_GT(num_done, 0U);
  ASSERT_LT(num_done, 3000U);
  ASSERT_TRUE(part.ends_with('\n'));

  // The rest of a shorter list, so that the test stays quick: as many again.
  std::string expected, shorter;
  const size_t num_wanted = num_done + 10;
  for (size_t i = 0; i < num_wanted; ++i) {
    shorter += "u" + std::to_string(i) + " " + SourcePath("models/samples/BAC009S0905W0460_n.opus") + "\n";
    expected += "u" + std::to_string(i) + " 二零一三六二三\n";
  }
  Write("wav.scp", shorter);
  auto resume = arguments;
  resume.push_back("--resume");
  EXPECT_EQ(Ting(resume), 0) << err_;
  EXPECT_EQ(ReadFile(result), expected);
}

TEST_F(ProgramTest, WhatIsNoModelIsOneLine) {
  EXPECT_EQ(Ting({"transcribe", "-m", (folder_ / "gone").string(), samples_}), 1);
  EXPECT_EQ(tool::SplitLines(err_).size(), 1U) << err_;
  EXPECT_THAT(err_, HasSubstr("gone"));
  EXPECT_EQ(Ting({"inspect", Write("junk.ting", "junk")}), 1);
  EXPECT_EQ(tool::SplitLines(err_).size(), 1U) << err_;
  EXPECT_THAT(err_, HasSubstr("junk.ting"));
}

}  // namespace
}  // namespace ting::testing
