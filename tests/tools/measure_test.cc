// tests/tools/measure_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// ting bench, ting eval and ting tune.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/tools/fake_services.h"
#include "tools/ting/statistics.h"

namespace ting::testing {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class MeasureTest : public ToolTest {
 protected:
  // Three recordings whose transcripts are 甚至出现, 交易 and 情况; the list's references differ in one character.
  std::string WriteSet() {
    Write("s/clips/u1.wav", "甚至出现"), Write("s/clips/u2.wav", "交易"), Write("s/clips/u3.wav", "情况");
    return Write("s/list.tsv", "u1\t甚至出线\nu2\t交易\nu3\t情况\n");
  }
};

TEST_F(MeasureTest, Statistics) {
  EXPECT_EQ(tool::Quantile({3, 1, 2, 4}, 0.5), 2);
  EXPECT_EQ(tool::Quantile({3, 1, 2, 4}, 0.95), 4);
  EXPECT_EQ(tool::Quantile({}, 0.5), 0);
  EXPECT_EQ(tool::Median({3, 1, 2, 4}), 2.5);
  EXPECT_EQ(tool::Median({3, 1, 2}), 2);
  EXPECT_GT(tool::PeakRssMb(), 1);
}

TEST_F(MeasureTest, BenchPrintsOneJsonLine) {
  WriteSet();
  EXPECT_EQ(Ting({"bench", "-m", "fake", "--clips", Path("s"), "--batch", "2", "--passes", "4", "--json"}), 0);
  EXPECT_THAT(log_.batch_sizes, ElementsAre(2, 1, 2, 1, 2, 1, 2, 1, 2, 1));  // one warm-up pass
  const std::string line = out_.str();
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  const auto json = nlohmann::json::parse(line, nullptr, false);
  ASSERT_TRUE(json.is_object()) << line;
  EXPECT_GT(json["rtfx"].get<double>(), 0);
  EXPECT_EQ(json["rtfx_passes"].size(), 4U);
  EXPECT_EQ(json["utterances"], 3);
  EXPECT_EQ(json["batch"], 2);
  EXPECT_EQ(json["lanes"], 1);
  EXPECT_EQ(json["threads"], 1);
  EXPECT_EQ(pool_options_.lanes, 1);
  // The fake says 8 ms a call, and there are two calls for three recordings.
  EXPECT_NEAR(json["stage_ms_per_utterance"]["encoder"].get<double>(), 16.0 / 3, 1e-9);
}

TEST_F(MeasureTest, SeveralLanesMeasureTheSame) {
  const std::string list = WriteSet();
  EXPECT_EQ(Ting({"bench", "-m", "fake", "--clips", Path("s"), "--lanes", "2", "--device", "cuda:0,1", "--json"}), 0);
  EXPECT_EQ(log_.batch_sizes.size(), 12U);
  const auto json = nlohmann::json::parse(out_.str(), nullptr, false);
  ASSERT_TRUE(json.is_object()) << out_.str();
  EXPECT_EQ(json["lanes"], 4);
  EXPECT_EQ(json["threads"], 4);
  EXPECT_NEAR(json["stage_ms_per_utterance"]["encoder"].get<double>(), 8, 1e-9);
  EXPECT_EQ(Ting({"eval", "-m", "fake", "--data", list, "--modes", "greedy", "--lanes", "3", "-o", Path("out")}), 0);
  EXPECT_EQ(Read(Path("out/greedy.b1.hyp")), "u1 甚至出现\nu2 交易\nu3 情况\n");
  EXPECT_EQ(Ting({"eval", "-m", "fake", "--data", list, "--modes", "greedy", "--lanes", "0"}), 0);
  EXPECT_EQ(pool_options_.lanes, 0);  // the device's own number
  EXPECT_EQ(Ting({"eval", "-m", "fake", "--data", list, "--modes", "greedy"}), 0);
  EXPECT_EQ(pool_options_.lanes, 1);
}

TEST_F(MeasureTest, BenchTimesStagesWithoutAudio) {
  EXPECT_EQ(Ting({"bench", "--random-weights", "aishell", "--stages", "1,8", "--json"}), 0);
  EXPECT_EQ(
      out_.str(),
      "{\"batch\":1,\"encoder_ms\":0.5,\"decoder_ms\":0.25}\n{\"batch\":8,\"encoder_ms\":4.0,\"decoder_ms\":2.0}\n");
  EXPECT_EQ(Ting({"bench", "-m", "fake", "--stages", "1"}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("no model named fake"));
}

TEST_F(MeasureTest, BenchPrintsTheShareOfTheRoofline) {
  services_.benchmark_stages = [](const std::string&, const RecognizerOptions&,
                                  const StageBenchmarkOptions&) -> Result<StageReport> {
    StageReport report;
    report.batches = {{.batch = 8,
                       .audio_s = 40,
                       .encoder_ms = 0.5,
                       .decoder_ms = 0.3,
                       .encoder_least_ms = 0.15,
                       .decoder_least_ms = 0.05,
                       .encoder_flops = 1e11,
                       .decoder_flops = 3e10}};
    return report;
  };
  EXPECT_EQ(Ting({"bench", "--random-weights", "aishell", "--stages", "8"}), 0);
  EXPECT_THAT(out_.str(),
              ::testing::ContainsRegex("8 +0.500 +0.300 +0.150 +30.0% +0.050 +16.7% +50000 +200000 +25.0%\n"));
  EXPECT_EQ(Ting({"bench", "--random-weights", "aishell", "--stages", "8", "--json"}), 0);
  const auto json = nlohmann::json::parse(out_.str(), nullptr, false);
  EXPECT_EQ(json["roofline_share"], 0.25);
  EXPECT_EQ(json["encoder_tflops"], 200);
}

TEST_F(MeasureTest, BenchSharesTheRooflineOfClips) {
  WriteSet();
  EXPECT_EQ(Ting({"bench", "-m", "fake", "--clips", Path("s"), "--passes", "2", "--json"}), 0);
  EXPECT_FALSE(load_options_.count_work);
  EXPECT_THAT(out_.str(), Not(HasSubstr("roofline")));
  log_.least_ms = 2;  // a call, of the encoder's 8
  EXPECT_EQ(Ting({"bench", "-m", "fake", "--clips", Path("s"), "--passes", "2", "--device", "cuda", "--json"}), 0);
  EXPECT_TRUE(load_options_.count_work);
  const auto json = nlohmann::json::parse(out_.str(), nullptr, false);
  EXPECT_EQ(json["roofline_share"]["encoder"], 0.25);
  // Three calls of 2 ms a pass, over the audio of a pass.
  EXPECT_NEAR(json["roofline_rtfx"].get<double>(), json["audio_s"].get<double>() / 6e-3, 1e-6);
  EXPECT_EQ(Ting({"bench", "-m", "fake", "--clips", Path("s"), "--device", "cuda"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("encoder 25.0 %"));
}

TEST_F(MeasureTest, BenchWritesATrace) {
  WriteSet();
  const std::string path = Path("trace.json");
  EXPECT_EQ(Ting({"bench", "-m", "fake", "--clips", Path("s"), "--trace", path}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("add --device cuda"));
  EXPECT_EQ(Ting({"bench", "-m", "fake", "--clips", Path("s"), "--device", "cuda", "--trace", path}), 0) << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr("rescoring, batch 1: 3 steps traced"));
  EXPECT_THAT(out_.str(), HasSubstr("feed_forward cuda.fused"));
  EXPECT_EQ(nlohmann::json::parse(Read(path), nullptr, false)["traceEvents"][0]["name"], "FfnKernel");
  EXPECT_EQ(Ting({"bench", "--random-weights", "aishell", "--stages", "4", "--device", "cuda", "--trace", path}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("encoder, batch 4: 8 steps traced"));
}

TEST_F(MeasureTest, EveryCommandTellsTheDispatch) {
  const std::string list = WriteSet();
  const std::string line = "encoder: 2 x feed_forward: cpu.avx2; refused: cpu.amx: no AMX here\n";
  EXPECT_EQ(Ting({"inspect", "fake", "--verbose=dispatch"}), 0);
  EXPECT_EQ(err_.str(), line);
  EXPECT_EQ(Ting({"transcribe", "-m", "fake", "--verbose=dispatch", "-q", Path("s")}), 0);
  EXPECT_EQ(err_.str(), line);
  EXPECT_EQ(Ting({"bench", "-m", "fake", "--clips", Path("s"), "--verbose=dispatch"}), 0);
  EXPECT_EQ(err_.str(), line);
  EXPECT_EQ(Ting({"bench", "--random-weights", "aishell", "--stages", "1", "--verbose"}), 0);
  EXPECT_EQ(err_.str(), line);
  EXPECT_EQ(Ting({"eval", "-m", "fake", "--data", list, "--modes", "greedy", "--verbose=dispatch"}), 0);
  EXPECT_EQ(err_.str(), line);
  EXPECT_THAT(out_.str(), Not(HasSubstr("utt: u1")));
  EXPECT_EQ(Ting({"eval", "-m", "fake", "--data", list, "--modes", "greedy", "--verbose"}), 0);
  EXPECT_EQ(err_.str(), "");
  EXPECT_THAT(out_.str(), HasSubstr("utt: u1"));
  EXPECT_EQ(Ting({"inspect", "fake", "--verbose=more"}), 2);
}

TEST_F(MeasureTest, BenchWantsAModelAndSomethingToRun) {
  EXPECT_EQ(Ting({"bench", "-m", "fake"}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("--clips or --stages"));
  EXPECT_EQ(Ting({"bench", "--stages", "1"}), 2);
  EXPECT_EQ(Ting({"bench", "--random-weights", "aishell", "--clips", "x"}), 2);
  EXPECT_EQ(Ting({"bench", "--random-weights", "other", "--stages", "1"}), 2);
}

TEST_F(MeasureTest, BenchProfilesByOp) {
  WriteSet();
  EXPECT_EQ(Ting({"bench", "-m", "fake", "--clips", Path("s"), "--profile", "--warmup", "0", "--passes", "1"}), 0);
  EXPECT_TRUE(load_options_.profile);
  EXPECT_THAT(out_.str(), HasSubstr("RTFx"));
  const size_t ffn = out_.str().find("feed_forward"), norm = out_.str().find("layer_norm");
  ASSERT_NE(norm, std::string::npos) << out_.str();
  EXPECT_LT(ffn, norm);  // 60 ms of two nodes before 40 ms of one
  EXPECT_THAT(out_.str(), HasSubstr("60.0%"));
}

TEST_F(MeasureTest, BenchTellsWhatFailed) {
  Write("d/a.wav", "fine"), Write("d/b.wav", "bad"), Write("d/c.wav", "short");
  EXPECT_EQ(Ting({"bench", "-m", "fake", "--clips", Path("d"), "--json"}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("b.wav: not audio"));
  EXPECT_THAT(err_.str(), HasSubstr("c.wav: too short"));
  Write("e/b.wav", "bad");
  EXPECT_EQ(Ting({"bench", "-m", "fake", "--clips", Path("e")}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("none of the recordings can be read"));
}

TEST_F(MeasureTest, EvalScoresTwoFiles) {
  const std::string ref = Write("ref", "u1 甚至出现\nu2 交易\nu4 没有\n");
  const std::string hyp = Write("hyp", "u1 甚至出线\nu2 交易\n");
  EXPECT_EQ(Ting({"eval", "--ref", ref, "--hyp", hyp}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("Overall -> 16.67 % N=6 C=5 S=1 D=0 I=0"));
  EXPECT_THAT(out_.str(), Not(HasSubstr("utt: u1")));
  EXPECT_EQ(err_.str(), "ting: note: 1 references have no hypothesis and are not counted\n");
  EXPECT_EQ(Ting({"eval", "--ref", ref, "--hyp", hyp, "--verbose"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("utt: u1"));
  EXPECT_THAT(out_.str(), HasSubstr("WER: 25.00 % N=4 C=3 S=1 D=0 I=0"));
  EXPECT_EQ(Ting({"eval", "--ref", Path("gone"), "--hyp", hyp}), 1);
  EXPECT_EQ(Ting({"eval", "--ref", Write("other", "x1 甚\n"), "--hyp", hyp}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("no key in common"));
}

TEST_F(MeasureTest, EvalReportsEveryModeAndBatch) {
  const std::string list = WriteSet();
  EXPECT_EQ(Ting({"eval", "-m", "fake", "--data", list, "--modes", "greedy,rescoring", "--batch", "1,2", "--warmup",
                  "0", "-o", Path("out")}),
            0)
      << err_.str();
  EXPECT_THAT(log_.batch_sizes, ElementsAre(1, 1, 1, 2, 1, 1, 1, 1, 2, 1));
  EXPECT_THAT(out_.str(),
              HasSubstr("Method: ctc_greedy_search\nBatch: 1\nMean(ms):\nencoder --- 8.000\ndecoder --- 2.000\n"));
  EXPECT_THAT(out_.str(), HasSubstr("Method: attention_rescoring\nBatch: 2\n"));
  EXPECT_THAT(out_.str(), HasSubstr("Overall -> 12.50 % N=8 C=7 S=1 D=0 I=0"));
  EXPECT_EQ(Read(Path("out/rescoring.b2.hyp")), "u1 甚至出现\nu2 交易\nu3 情况\n");
  EXPECT_THAT(Read(Path("out/greedy.b1.wer")), HasSubstr("utt: u3"));
  EXPECT_TRUE(std::filesystem::exists(Path("out/greedy.b2.wer")));
}

TEST_F(MeasureTest, EvalTakesReferencesFromAFile) {
  WriteSet();
  const std::string text = Write("text", "u1 甚至出现\nu2 交易\nu3 情况\n");
  EXPECT_EQ(Ting({"eval", "-m", "fake", "--data", Path("s"), "--text", text, "--modes", "greedy"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("Overall -> 0.00 % N=8 C=8 S=0 D=0 I=0"));
  EXPECT_EQ(Ting({"eval", "-m", "fake", "--data", Path("s"), "--modes", "greedy"}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("has no reference"));
}

TEST_F(MeasureTest, EvalComparesWithAGolden) {
  const std::string list = WriteSet();
  const std::string golden = Write("golden.tsv", "u1\t甚至出现\t甚至出线\t甚至出现\nu2\t交易\t交易\t交易\n");
  EXPECT_EQ(Ting({"eval", "-m", "fake", "--data", list, "--compare", golden}), 1);
  EXPECT_THAT(out_.str(), HasSubstr("compare ctc_greedy_search batch 1: 0 of 2 differ, 1 are not in the golden"));
  EXPECT_THAT(out_.str(), HasSubstr("compare ctc_prefix_beam_search batch 1: 1 of 2 differ"));
  EXPECT_THAT(out_.str(),
              HasSubstr("differs ctc_prefix_beam_search u1: golden \"甚至出线\", ours \"甚至出现\", gap 0.250000"));
  EXPECT_EQ(Ting({"eval", "-m", "fake", "--data", list, "--compare", golden, "--max-different", "0.5"}), 0);
  EXPECT_EQ(Ting({"eval", "-m", "fake", "--data", list, "--compare", Write("g.tsv", "u1\ta\n")}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("found 2 fields"));
}

TEST_F(MeasureTest, EvalLeavesOutAndTellsWhatFailed) {
  Write("s/clips/u1.wav", "short"), Write("s/clips/u2.wav", "交易");
  const std::string list = Write("s/list.tsv", "u1\t甚至\nu2\t交易\n");
  EXPECT_EQ(Ting({"eval", "-m", "fake", "--data", list, "--modes", "greedy"}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("u1.wav: too short"));
  EXPECT_THAT(out_.str(), HasSubstr("N=2 C=2"));
}

TEST_F(MeasureTest, TuneListsWhatMeasuredBetter) {
  EXPECT_EQ(Ting({"tune", "--random-weights", "aishell", "--rows", "64,128", "--tuning-file", "t.json"}), 0);
  EXPECT_EQ(load_options_.device, "cuda");
  EXPECT_EQ(load_options_.tuning_file, "t.json");
  EXPECT_THAT(out_.str(), HasSubstr("gemm of random:aishell"));
  EXPECT_THAT(out_.str(), HasSubstr("128 rows     4.00 us,     5.00 without; tile 64\n"));
  EXPECT_THAT(out_.str(), Not(HasSubstr("64 rows")));
  EXPECT_EQ(err_.str(), "ting: note: a note\ncache.json: 1 of 2 choices are better measured, in 2 s\n");
  EXPECT_EQ(Ting({"tune", "-m", "fake", "--device", "cpu"}), 1);
  EXPECT_EQ(err_.str(), "ting: cpu has nothing to tune\n");
}

TEST_F(MeasureTest, TuningRecordsAreNamedOrLeftOut) {
  WriteSet();
  EXPECT_EQ(Ting({"bench", "-m", "fake", "--clips", Path("s"), "--tuning-file", "t.json"}), 0);
  EXPECT_EQ(load_options_.tuning_file, "t.json");
  EXPECT_TRUE(load_options_.use_tuning);
  ASSERT_TRUE(load_options_.note);
  load_options_.note("damaged");
  EXPECT_THAT(err_.str(), HasSubstr("ting: note: damaged\n"));
  EXPECT_EQ(Ting({"bench", "-m", "fake", "--clips", Path("s"), "--no-tuning"}), 0);
  EXPECT_FALSE(load_options_.use_tuning);
}

}  // namespace
}  // namespace ting::testing
