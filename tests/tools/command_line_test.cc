// tests/tools/command_line_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/command_line.h"

#include <gmock/gmock.h>

#include "tests/tools/fake_services.h"

namespace ting::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class CommandLineTest : public ToolTest {};

TEST_F(CommandLineTest, UsageErrorsAreOneLineAndExitTwo) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"nonsense"},
      {"transcribe"},
      {"transcribe", "a.wav"},
      {"transcribe", "-m", "fake", "a.wav", "--mode", "magic"},
      {"transcribe", "-m", "fake", "a.wav", "--beam", "0"},
      {"transcribe", "-m", "fake", "a.wav", "--beam", "257"},
      {"transcribe", "-m", "fake", "a.wav", "--beam", "4", "--nbest", "5"},
      {"transcribe", "-m", "fake", "a.wav", "--format", "docx"},
      {"transcribe", "-m", "fake", "a.wav", "--resume"},
      {"transcribe", "-m", "fake", "a.wav", "--resume", "-o", "out.txt"},
      {"transcribe", "-m", "fake", "a.wav", "--reverse-weight", "1.5"},
      {"build", "models/tiny"},
      {"tune"},
      {"tune", "-m", "fake", "--rows", "0"},
      {"tune", "-m", "fake", "--random-weights", "aishell"},
      {"tune", "--random-weights", "other"},
      {"bench", "-m", "fake", "--clips", "x", "--passes", "0"},
      {"eval"},
      {"eval", "--ref", "a"},
      {"eval", "-m", "fake"},
      {"eval", "--ref", "a", "--hyp", "b", "-m", "fake"},
      {"eval", "-m", "fake", "--data", "x", "--modes", "greedy,magic"},
  };
  for (const auto& arguments : wrong) {
    EXPECT_EQ(Ting(arguments), 2) << ::testing::PrintToString(arguments);
    EXPECT_THAT(err_.str(), StartsWith("ting: "));
    const std::string message = err_.str();
    EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 1) << message;
    EXPECT_EQ(out_.str(), "");
  }
}

TEST_F(CommandLineTest, HelpAndVersionGoToStandardOutput) {
  EXPECT_EQ(Ting({"--help"}), 0);
  for (const char* name : {"transcribe", "build", "inspect", "bench", "eval", "tune"}) {
    EXPECT_THAT(out_.str(), HasSubstr(name));
  }
  EXPECT_EQ(Ting({"--version"}), 0);
  EXPECT_THAT(out_.str(), ::testing::MatchesRegex("ting [0-9]+\\.[0-9]+\\.[0-9]+\n"));
  EXPECT_EQ(Ting({"bench", "--help"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("--warmup"));
  EXPECT_EQ(err_.str(), "");
}

// An example of a help page as the shell would split it (quotes; an input redirection is the shell's own).
std::vector<std::string> SplitShell(const std::string& line) {
  std::vector<std::string> words(1);
  bool quoted = false;
  for (const char c : line) {
    if (c == '\'') {
      quoted = !quoted;
    } else if (c == ' ' && !quoted) {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  if (const auto redirect = std::find(words.begin(), words.end(), "<"); redirect != words.end()) {
    words.erase(redirect, words.end());
  }
  return words;
}

TEST_F(CommandLineTest, EveryExampleOfTheHelpPagesParses) {
  const auto pages = tool::HelpPages();
  ASSERT_EQ(pages.size(), 6U);
  for (const auto& [name, page] : pages) {
    std::istringstream lines(page);
    int num_examples = 0;
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with("  ting ")) continue;
      ++num_examples;
      auto words = SplitShell(line.substr(7));
      EXPECT_EQ(words[0], name);
      EXPECT_EQ(tool::ParseOnly(words), "") << line;
    }
    EXPECT_GE(num_examples, 2) << name << " has no examples:\n" << page;
  }
}

TEST_F(CommandLineTest, BuildWritesAndSaysWhat) {
  EXPECT_EQ(Ting({"build", "dir", "-o", Path("m.ting"), "--precision", "bf16"}), 0);
  EXPECT_EQ(Read(Path("m.ting")), "engine of dir bf16");
  EXPECT_THAT(err_.str(), HasSubstr("m.ting: 0.0 MB, int16"));
  EXPECT_THAT(err_.str(), HasSubstr("bf16 becomes int16\n"));
  EXPECT_EQ(Ting({"build", "missing", "-o", Path("n.ting")}), 1);
  EXPECT_EQ(err_.str(), "ting: missing/train.yaml: no such file\n");
}

TEST_F(CommandLineTest, InspectShowsTheModel) {
  EXPECT_EQ(Ting({"inspect", "fake"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("fake conformer, 8.7 M parameters, f32"));
  EXPECT_THAT(out_.str(), HasSubstr("note         for tests"));
  EXPECT_EQ(Ting({"inspect", "fake", "--graph"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("graph encoder {}"));
  EXPECT_EQ(Ting({"inspect", "fake", "--json"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("\"num_parameters\": 8700000"));
  EXPECT_THAT(out_.str(), HasSubstr("\"vocab_size\": 4233"));
}

}  // namespace
}  // namespace ting::testing
