// tests/tools/transcribe_test.cc
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/tools/fake_services.h"
#include "tools/ting/progress.h"

namespace ting::testing {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class TranscribeTest : public ToolTest {};

TEST_F(TranscribeTest, WritesTextsInTheOrderOfTheInputs) {
  Write("d/a.wav", "first"), Write("d/b.wav", "second"), Write("d/c.wav", "third");
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "--batch", "2"}), 0);
  EXPECT_EQ(out_.str(), "first\nsecond\nthird\n");
  EXPECT_THAT(log_.batch_sizes, ElementsAre(2, 1));
  EXPECT_THAT(err_.str(), HasSubstr("3 of 3 transcribed"));
  EXPECT_THAT(err_.str(), HasSubstr("times real time"));
  EXPECT_THAT(err_.str(), HasSubstr("encoder 16 ms"));
}

TEST_F(TranscribeTest, ABadFileCostsOneLineAndTheOthersGoOn) {
  Write("d/a.wav", "first"), Write("d/b.wav", "bad bytes"), Write("d/c.wav", "short"), Write("d/d.wav", "last");
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), Path("gone.wav"), "--format", "kaldi", "--quiet"}), 1);
  EXPECT_EQ(out_.str(), "a first\nd last\n");
  EXPECT_EQ(err_.str(), "ting: " + Path("d/b.wav") + ": not audio: no known format\n" +  //
                            "ting: " + Path("d/c.wav") + ": too short: no encoder frame\n" +
                            "ting: " + Path("gone.wav") + ": No such file or directory\n");
}

TEST_F(TranscribeTest, ATextFileKeepsALineForAFailure) {
  Write("d/a.wav", "first"), Write("d/b.wav", "bad bytes"), Write("d/c.wav", "third");
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "-o", Path("out.txt")}), 1);
  EXPECT_EQ(Read(Path("out.txt")), "first\n\nthird\n");
  EXPECT_THAT(err_.str(), HasSubstr("2 of 3 transcribed, 1 failed"));
}

TEST_F(TranscribeTest, ABatchOfBadFilesDoesNotReachTheModel) {
  Write("d/a.wav", "bad"), Write("d/b.wav", "bad");
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d")}), 1);
  EXPECT_THAT(log_.batch_sizes, IsEmpty());
}

TEST_F(TranscribeTest, ReadsStandardInput) {
  in_.str("from a pipe");
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", "-", "--format", "kaldi", "-q", "--channel", "-1"}), 0);
  EXPECT_EQ(out_.str(), "stdin from a pipe\n");
  EXPECT_EQ(read_options_.channel, -1);
}

TEST_F(TranscribeTest, ABadStandardInputIsNamed) {
  in_.str("bad");
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", "-", "-q"}), 1);
  EXPECT_EQ(err_.str(), "ting: standard input: not audio: no known format\n");
}

TEST_F(TranscribeTest, ResumesAfterAHalfWrittenLine) {
  Write("d/a.wav", "first"), Write("d/b.wav", "second"), Write("d/c.wav", "third");
  const std::string out = Write("out.kaldi", "a kept as it is\nb sec");
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "--format", "kaldi", "-o", out, "--resume"}), 0);
  EXPECT_EQ(Read(out), "a kept as it is\nb second\nc third\n");
  EXPECT_THAT(err_.str(), HasSubstr("2 of 2 transcribed, 1 skipped"));
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "--format", "kaldi", "-o", out, "--resume"}), 0);
  EXPECT_EQ(Read(out), "a kept as it is\nb second\nc third\n");
  EXPECT_THAT(log_.batch_sizes, IsEmpty());
}

TEST_F(TranscribeTest, ResumeGivesTheSameFileWhereverItWasCut) {
  Write("d/a.wav", "first"), Write("d/b.wav", "second"), Write("d/c.wav", "third");
  for (const std::string format : {"kaldi", "jsonl", "ctm"}) {
    const std::string out = Path("out." + format);
    const std::vector<std::string> arguments = {"transcribe", "-m", "fake", Path("d"), "--format", format, "-o", out};
    ASSERT_EQ(Ting(arguments), 0);
    const std::string whole = Read(out);
    ASSERT_GT(whole.size(), 20U);
    auto resume = arguments;
    resume.push_back("--resume");
    for (size_t cut = 0; cut <= whole.size(); ++cut) {
      Write("out." + format, whole.substr(0, cut));
      ASSERT_EQ(Ting(resume), 0) << err_.str();
      ASSERT_EQ(Read(out), whole) << format << " cut after " << cut << " bytes";
    }
  }
}

TEST_F(TranscribeTest, ResumeLeavesAForeignFileAlone) {
  Write("d/a.wav", "first");
  const std::string out = Write("notes.txt", "my precious notes\nwithout a newline");
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "--format", "jsonl", "-o", out, "--resume"}), 1);
  EXPECT_EQ(Read(out), "my precious notes\nwithout a newline");
  EXPECT_THAT(err_.str(), HasSubstr("notes.txt: line 1 is not a jsonl result"));
}

TEST_F(TranscribeTest, JsonLinesHoldTheNBest) {
  const std::string wav = Write("a.wav", "say \"hi\"");
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", wav, "--format", "jsonl", "--nbest", "3", "-q"}), 0);
  const auto json = nlohmann::json::parse(out_.str(), nullptr, false);
  ASSERT_TRUE(json.is_object()) << out_.str();
  EXPECT_EQ(json["key"], "a");
  EXPECT_EQ(json["text"], "say \"hi\"");
  ASSERT_TRUE(json.contains("nbest")) << out_.str();
  EXPECT_EQ(json["nbest"].size(), 3U);
}

TEST_F(TranscribeTest, JsonLinesHoldFailuresAndCountThemAsDone) {
  Write("d/a.wav", "first"), Write("d/b.wav", "bad bytes"), Write("d/c.wav", "third");
  const std::vector<std::string> arguments = {
      "transcribe", "-m", "fake", Path("d"), "--format", "jsonl", "-o", Path("out.jsonl"), "--resume"};
  EXPECT_EQ(Ting(arguments), 1);
  EXPECT_THAT(Read(Path("out.jsonl")), HasSubstr("b.wav: not audio: no known format"));
  EXPECT_EQ(Ting(arguments), 0);
  EXPECT_THAT(err_.str(), HasSubstr("3 skipped"));
}

TEST_F(TranscribeTest, SubtitlesOfSeveralFilesNeedAFolder) {
  Write("d/a.wav", "first"), Write("d/b.wav", "second");
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "--format", "srt"}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("2 recordings cannot share one srt file"));
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "--format", "vtt", "-o", Path("subs/")}), 0);
  EXPECT_THAT(Read(Path("subs/a.vtt")), HasSubstr("WEBVTT"));
  EXPECT_THAT(Read(Path("subs/b.vtt")), Not(IsEmpty()));
  EXPECT_FALSE(std::filesystem::exists(Path("subs/b.vtt.part")));
}

TEST_F(TranscribeTest, AFolderIsResumedByItsFiles) {
  Write("d/a.wav", "first"), Write("d/b.wav", "second");
  Write("subs/a.txt", "kept"), Write("subs/b.txt.part", "half");
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "-o", Path("subs"), "--resume"}), 0);
  EXPECT_EQ(Read(Path("subs/a.txt")), "kept");
  EXPECT_EQ(Read(Path("subs/b.txt")), "second\n");
}

TEST_F(TranscribeTest, AKeyCannotLeaveTheOutputFolder) {
  const std::string list = Write("wav.scp", "../../evil " + Write("a.wav", "first") + "\n");
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", list, "-o", Path("subs/")}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("cannot name a file"));
}

// Names of `count` recordings whose transcripts are the numbers from 100 on, one a line.
class ManyRecordings : public TranscribeTest {
 protected:
  static constexpr int kCount = 60;
  void SetUp() override {
    TranscribeTest::SetUp();
    for (int i = 0; i < kCount; ++i) {
      const std::string number = std::to_string(100 + i);
      Write("d/" + number + ".wav", number);
      all_ += number + "\n";
    }
  }
  std::string all_;
};

TEST_F(ManyRecordings, AnInterruptKeepsWhatIsDone) {
  for (const std::string lanes : {"1", "3"}) {
    services_.interrupted = [this] { return log_.num_calls() >= 2; };  // SIGINT during the second batch or soon after
    EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "--batch", "1", "--lanes", lanes}), 130);
    const std::string written = out_.str();
    EXPECT_TRUE(all_.starts_with(written)) << written;
    EXPECT_GE(written.size(), 8U);
    EXPECT_LT(written.size(), all_.size());
    EXPECT_THAT(err_.str(), HasSubstr("interrupted"));
    EXPECT_THAT(err_.str(), HasSubstr(std::to_string(written.size() / 4) + " of 60 transcribed"));
  }
}

TEST_F(ManyRecordings, SeveralLanesKeepTheOrder) {
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "--batch", "8", "--lanes", "4"}), 0);
  EXPECT_EQ(out_.str(), all_);
  EXPECT_EQ(log_.batch_sizes.size(), 34U);  // 26 of two recordings, and the last eight by themselves
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "--batch", "8", "--lanes", "4", "--device", "cuda"}), 0);
  EXPECT_EQ(out_.str(), all_);
  EXPECT_EQ(log_.batch_sizes.size(), 8U);
}

TEST_F(ManyRecordings, OfACpuNoLaneTakesMoreThanHalfItsShareOfTheRest) {
  std::vector<std::string> arguments = {"transcribe", "-m", "fake", "--batch", "8", "-o", Path("out")};
  for (int i = 0; i < 9; ++i) arguments.push_back(Path("d/" + std::to_string(100 + i) + ".wav"));
  const auto sizes = [&](const std::string& lanes, const std::string& device) {
    auto with = arguments;
    with.insert(with.end(), {"--lanes", lanes, "--device", device});
    EXPECT_EQ(Ting(with), 0) << err_.str();
    EXPECT_EQ(Read(Path("out")), all_.substr(0, 9 * 4));
    std::sort(log_.batch_sizes.rbegin(), log_.batch_sizes.rend());  // lanes begin in any order
    return log_.batch_sizes;
  };
  EXPECT_THAT(sizes("1", "cpu"), ElementsAre(8, 1));
  EXPECT_THAT(sizes("2", "cpu"), ElementsAre(3, 2, 1, 1, 1, 1));
  EXPECT_THAT(sizes("2", "ref"), ElementsAre(3, 2, 1, 1, 1, 1));
  EXPECT_THAT(sizes("16", "cpu"), ElementsAre(1, 1, 1, 1, 1, 1, 1, 1, 1));
  EXPECT_THAT(sizes("2", "cuda"), ElementsAre(8, 1));
}

TEST_F(ManyRecordings, ThePoolKnowsHowManyBatchesAreLeft) {
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d/100.wav")}), 0);
  EXPECT_EQ(pool_options_.lanes, 0);  // the device's own number
  EXPECT_EQ(pool_options_.max_batches, 1U);
  const std::vector<std::string> resume = {"transcribe", "-m", "fake",      Path("d"), "--format",
                                           "kaldi",      "-o", Path("out"), "--resume"};
  EXPECT_EQ(Ting(resume), 0);
  EXPECT_EQ(pool_options_.max_batches, 60U);
  const std::string whole = Read(Path("out"));
  Write("out", whole.substr(0, whole.size() - 12));  // the last line and half of the one before
  EXPECT_EQ(Ting(resume), 0);
  EXPECT_EQ(pool_options_.max_batches, 2U);
  EXPECT_EQ(Read(Path("out")), whole);
}

TEST_F(ManyRecordings, ALostDeviceLosesNoRecording) {
  log_.lost_device = "cuda:1";
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "--batch", "2", "--lanes", "2", "--device", "cuda:0,1"}), 0);
  EXPECT_EQ(out_.str(), all_);
  EXPECT_THAT(err_.str(), HasSubstr("note: a device was lost: cuda:1: the GPU went away"));
  log_.lost_device = "cuda:0";
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "--batch", "2", "--device", "cuda:0"}), 1);
  EXPECT_EQ(out_.str(), std::string(kCount, '\n'));
  EXPECT_THAT(err_.str(), HasSubstr("100.wav: the GPU went away"));
  EXPECT_THAT(err_.str(), HasSubstr("0 of 60 transcribed, 60 failed"));
}

TEST_F(ManyRecordings, AFullDiskEndsTheRunWhileLanesAreBusy) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "/dev/full is not on this machine";
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "--lanes", "3", "--batch", "1", "-o", "/dev/full"}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("writing failed"));
}

TEST_F(TranscribeTest, LongRecordingsCloseABatchEarly) {
  const std::string long_recording(16000 * 335, 'x');
  Write("d/a.wav", long_recording), Write("d/b.wav", "b"), Write("d/c.wav", "c");
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "--batch", "3", "-o", Path("out")}), 0);
  EXPECT_THAT(log_.batch_sizes, ElementsAre(1, 2));
}

TEST_F(TranscribeTest, ABatchHoldsSoManySecondsAtMost) {
  for (const auto& [name, seconds] : {std::pair{"a", 2}, {"b", 1}, {"c", 1}, {"d", 5}, {"e", 1}}) {
    Write(std::string("d/") + name + ".wav", std::string(16000 * seconds, 'x'));
  }
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "--batch", "8", "--batch-seconds", "3", "-o", Path("out")}),
            0);
  EXPECT_THAT(log_.batch_sizes, ElementsAre(2, 1, 1, 1));
}

TEST_F(TranscribeTest, TheLanesOfACpuShareTheSeconds) {
  for (const char* name : {"a", "b", "c", "d", "e", "f", "g", "h"}) {
    Write(std::string("d/") + name + ".wav", std::string(16000, 'x'));
  }
  std::vector<std::string> arguments = {"transcribe",      "-m",  "fake", Path("d"),   "--batch", "8",
                                        "--batch-seconds", "3.5", "-o",   Path("out"), "--lanes", "2"};
  EXPECT_EQ(Ting(arguments), 0);
  EXPECT_THAT(log_.batch_sizes, Each(1));
  arguments[6 + 1] = "4";
  EXPECT_EQ(Ting(arguments), 0);
  EXPECT_EQ(*std::max_element(log_.batch_sizes.begin(), log_.batch_sizes.end()), 2);
}

TEST_F(TranscribeTest, OptionsReachTheModel) {
  const std::string wav = Write("a.wav", "x");
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", wav, "--threads", "3", "--precision", "bf16", "--device", "ref"}), 0);
  EXPECT_EQ(load_options_.num_threads, 3);
  EXPECT_EQ(load_options_.precision, Precision::kBF16);
  EXPECT_EQ(load_options_.device, "ref");
  EXPECT_EQ(log_.last_options.mode, DecodeMode::kRescoring);
  EXPECT_EQ(log_.last_options.ctc_weight, std::nullopt);
  EXPECT_EQ(log_.last_options.blank_skip, std::nullopt);
  EXPECT_EQ(Ting({"transcribe",
                  "-m",
                  "fake",
                  wav,
                  "--mode",
                  "attention",
                  "--beam",
                  "7",
                  "--nbest",
                  "2",
                  "--ctc-weight",
                  "0.25",
                  "--reverse-weight",
                  "0.75",
                  "--length-penalty",
                  "0.5",
                  "--blank-penalty",
                  "1.5",
                  "--chunk-size",
                  "16",
                  "--left-chunks",
                  "4",
                  "--blank-skip",
                  "0.98"}),
            0);
  EXPECT_EQ(log_.last_options.mode, DecodeMode::kAttention);
  EXPECT_EQ(log_.last_options.beam, 7);
  EXPECT_EQ(log_.last_options.nbest, 2);
  EXPECT_EQ(log_.last_options.ctc_weight, 0.25F);
  EXPECT_EQ(log_.last_options.reverse_weight, 0.75F);
  EXPECT_EQ(log_.last_options.length_penalty, 0.5F);
  EXPECT_EQ(log_.last_options.blank_penalty, 1.5F);
  EXPECT_EQ(log_.last_options.blank_skip, 0.98F);
  EXPECT_EQ(log_.last_options.chunk_frames, 16);
  EXPECT_EQ(log_.last_options.num_left_chunks, 4);
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", wav, "--chunk-size", "-1", "--left-chunks", "-1"}), 0);
  EXPECT_EQ(log_.last_options.chunk_frames, 0);
}

TEST_F(TranscribeTest, TheBarIsDrawnOnATerminalAlone) {
  Write("d/a.wav", "first"), Write("d/b.wav", "second");
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "-o", Path("out")}), 0);
  EXPECT_THAT(err_.str(), Not(HasSubstr("\r")));
  services_.err_is_terminal = true;
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "-o", Path("out")}), 0);
  EXPECT_THAT(err_.str(), HasSubstr("100% [####################] 2/2"));
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("d"), "-o", Path("out"), "--quiet"}), 0);
  EXPECT_EQ(err_.str(), "");
}

TEST_F(TranscribeTest, WhatCannotWorkIsRefusedBeforeTheModelIsLoaded) {
  const std::string wav = Write("a.wav", "x");
  EXPECT_EQ(Ting({"transcribe", "-m", "missing", wav}), 1);
  EXPECT_EQ(err_.str(), "ting: missing: no such model\n");
  EXPECT_EQ(Ting({"transcribe", "-m", "missing", wav, "-o", Write("out", "of another run")}), 1);
  EXPECT_EQ(Read(Path("out")), "of another run");
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Path("*.flac")}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("no file matches"));
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", wav, "-o", "/nonexistent/dir/out"}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("cannot be opened for writing"));
}

TEST_F(TranscribeTest, AFullDiskEndsTheRun) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "/dev/full is not on this machine";
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", Write("a.wav", "x"), "-o", "/dev/full"}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("writing failed"));
}

TEST(ProgressLine, SharesRateAndTimeLeft) {
  EXPECT_EQ(tool::ProgressLine({.num_inputs = 8, .num_done = 1, .num_failed = 1, .audio_s = 100, .wall_s = 20}),
            " 25% [#####               ] 2/8, 5.0 times real time, 1:00 left");
  EXPECT_EQ(tool::ProgressLine({.num_inputs = 4, .num_done = 1, .audio_s = 1, .wall_s = 2000}),
            " 25% [#####               ] 1/4, 0.0 times real time, 1:40:00 left");
  EXPECT_EQ(tool::ProgressLine({.num_inputs = 4}), "  0% [                    ] 0/4, 0.0 times real time");
}

}  // namespace
}  // namespace ting::testing
