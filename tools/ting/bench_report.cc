// tools/ting/bench_report.cc
// SPDX-License-Identifier: Apache-2.0
#include "tools/ting/bench_report.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "tools/ting/stage_table.h"

namespace ting::tool {
namespace {

double Share(double least_ms, double ms) { return StageLine::Share(least_ms, ms); }

std::string RooflineText(const BenchReport& r) {
  if (r.roofline_rtfx() == 0) return "";
  const StageTimes& s = r.stages;
  return fmt::format(
      "roofline        {:.0f} RTFx, of which {:.1f} %; of a lane's time in a stage: features {:.1f} %, "
      "encoder {:.1f} %, search {:.1f} %, decoder {:.1f} %\n",
      r.roofline_rtfx(), 100 * Median(r.rtfx) / r.roofline_rtfx(), 100 * Share(s.frontend_least_ms, s.frontend_ms),
      100 * Share(s.encoder_least_ms, s.encoder_ms), 100 * Share(s.search_least_ms, s.search_ms),
      100 * Share(s.decoder_least_ms, s.decoder_ms));
}

}  // namespace

std::string ReportText(const BenchReport& r) {
  const auto per_utterance = [&](double ms) { return ms / r.passes() / r.num_utterances; };
  std::string passes;
  for (const double rtfx : r.rtfx) passes += fmt::format(" {:.1f}", rtfx);
  std::string text = fmt::format(
      "{} utterances, {:.1f} s; {} {}, lanes {}, threads {}, batch {}, {}\n"
      "loaded in       {:.0f} ms\n"
      "RTFx            {:.1f} median, {:.1f} to {:.1f}; passes{}\n"
      "per utterance   {:.2f} ms: features {:.2f}, encoder {:.2f}, search {:.2f}, decoder {:.2f}, text {:.2f}\n",
      r.num_utterances, r.audio_s, r.device, r.precision, r.num_lanes, r.num_threads, r.batch, r.mode, r.load_ms,
      Median(r.rtfx), MinOf(r.rtfx), MaxOf(r.rtfx), passes, r.ms_per_utterance(), per_utterance(r.stages.frontend_ms),
      per_utterance(r.stages.encoder_ms), per_utterance(r.stages.search_ms), per_utterance(r.stages.decoder_ms),
      per_utterance(r.stages.text_ms));
  text += fmt::format("latency         p50 {:.2f} ms, p95 {:.2f} ms a batch of {}\n", Quantile(r.batch_ms, 0.5),
                      Quantile(r.batch_ms, 0.95), r.batch);
  return text + RooflineText(r) + fmt::format("peak memory     {:.0f} MB (the audio included)\n", r.peak_rss_mb);
}

std::string ReportJson(const BenchReport& r) {
  const double n = r.passes() * r.num_utterances;
  nlohmann::ordered_json json = {
      {"rtfx", Median(r.rtfx)},
      {"rtfx_min", MinOf(r.rtfx)},
      {"rtfx_max", MaxOf(r.rtfx)},
      {"rtfx_passes", r.rtfx},
      {"ms_per_utterance", r.ms_per_utterance()},
      {"p50_ms", Quantile(r.batch_ms, 0.5)},
      {"p95_ms", Quantile(r.batch_ms, 0.95)},
      {"stage_ms_per_utterance",
       {{"frontend", r.stages.frontend_ms / n},
        {"encoder", r.stages.encoder_ms / n},
        {"search", r.stages.search_ms / n},
        {"decoder", r.stages.decoder_ms / n},
        {"text", r.stages.text_ms / n}}},
      {"utterances", r.num_utterances},
      {"audio_s", r.audio_s},
      {"batch", r.batch},
      {"lanes", r.num_lanes},
      {"threads", r.num_threads},
      {"mode", r.mode},
      {"precision", r.precision},
      {"device", r.device},
      {"load_ms", r.load_ms},
      {"peak_rss_mb", r.peak_rss_mb},
  };
  if (r.roofline_rtfx() > 0) {
    json["roofline_rtfx"] = r.roofline_rtfx();
    json["roofline_share"] = {{"whole", Median(r.rtfx) / r.roofline_rtfx()},
                              {"frontend", Share(r.stages.frontend_least_ms, r.stages.frontend_ms)},
                              {"encoder", Share(r.stages.encoder_least_ms, r.stages.encoder_ms)},
                              {"search", Share(r.stages.search_least_ms, r.stages.search_ms)},
                              {"decoder", Share(r.stages.decoder_least_ms, r.stages.decoder_ms)}};
  }
  return json.dump() + "\n";
}

std::string StageJson(const StageBenchmark& r) {
  const StageLine line{r};
  nlohmann::ordered_json json = {{"batch", r.batch}, {"encoder_ms", r.encoder_ms}, {"decoder_ms", r.decoder_ms}};
  if (line.has_roofline()) {
    json["encoder_roofline_ms"] = r.encoder_least_ms, json["decoder_roofline_ms"] = r.decoder_least_ms;
    json["rtfx"] = line.rtfx(line.ms()), json["roofline_rtfx"] = line.rtfx(line.least_ms());
    json["roofline_share"] = line.share();
    json["encoder_tflops"] = r.encoder_flops / r.encoder_ms / 1e9;
    if (r.decoder_ms > 0) json["decoder_tflops"] = r.decoder_flops / r.decoder_ms / 1e9;
  }
  return json.dump() + "\n";
}

std::string ProfileText(const std::vector<NodeProfile>& nodes) {
  struct Sum {
    int64_t num_nodes = 0, calls = 0;
    double ms = 0;
  };
  std::map<std::tuple<std::string, std::string, std::string>, Sum> by_op;
  double total_ms = 0;
  for (const NodeProfile& node : nodes) {
    Sum& sum = by_op[{node.graph, node.op, node.implementation}];
    ++sum.num_nodes, sum.calls += node.calls, sum.ms += node.total_ms, total_ms += node.total_ms;
  }
  std::vector<std::pair<std::tuple<std::string, std::string, std::string>, Sum>> rows(by_op.begin(), by_op.end());
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.second.ms > b.second.ms; });
  std::string text = fmt::format("{:<14} {:<20} {:<18} {:>6} {:>9} {:>11} {:>6}\n", "graph", "op", "implementation",
                                 "nodes", "calls", "ms", "share");
  for (const auto& [names, sum] : rows) {
    const auto& [graph, op, implementation] = names;
    text += fmt::format("{:<14} {:<20} {:<18} {:>6} {:>9} {:>11.2f} {:>5.1f}%\n", graph, op, implementation,
                        sum.num_nodes, sum.calls, sum.ms, total_ms > 0 ? 100 * sum.ms / total_ms : 0);
  }
  return text;
}

}  // namespace ting::tool
