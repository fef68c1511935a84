// tools/ting/minimal_main.cc
// SPDX-License-Identifier: Apache-2.0
//
// The program of a minimal build (TING_MINIMAL): `ting bench` as far as it needs neither a model nor audio, with the
// whole program's options of the same names. Machines where nothing can be installed measure with it.
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/status_macros.h"
#include "tools/ting/stage_table.h"

namespace ting::tool {
namespace {

constexpr char kUsage[] =
    "ting bench --random-weights aishell|u2pp --stages 1,8,16,64 [--device cpu|cuda|cuda:N]\n"
    "           [--precision f32|bf16|bf16x3|int16|f16|tf32] [--threads N] [--frames N] [--tokens N] [--beam N] "
    "[--batch-invariant]\n"
    "This is a minimal build (TING_MINIMAL): it measures random weights and has no other command.\n";

struct Request {
  std::string architecture;
  RecognizerOptions recognizer;
  StageBenchmarkOptions stages;
};

Status ReadNumber(std::string_view text, int* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  if (error != std::errc() || end != text.data() + text.size() || *number < 0 || *number > 100000) {
    return InvalidArgument("{} is no number from 0 to 100000", text);
  }
  return Status();
}

Status ReadBatches(std::string_view text, std::vector<int>* batches) {
  batches->clear();
  while (true) {
    const size_t comma = text.find(',');
    TING_RETURN_IF_ERROR(ReadNumber(text.substr(0, comma), &batches->emplace_back()));
    if (batches->back() < 1 || batches->back() > 4096) return InvalidArgument("a batch is 1 to 4096");
    if (comma == std::string_view::npos) return Status();
    text.remove_prefix(comma + 1);
  }
}

Status ReadPrecision(std::string_view name, std::optional<Precision>* precision) {
  *precision = ParsePrecision(name);
  if (*precision) return Status();
  return InvalidArgument("no precision is named {}; use f32, tf32, f16, bf16 or bf16x1", name);
}

Status ReadOption(std::string_view name, std::string_view value, Request* request) {
  if (name == "--random-weights") return request->architecture = value, Status();
  if (name == "--device") return request->recognizer.device = value, Status();
  if (name == "--precision") return ReadPrecision(value, &request->recognizer.precision);
  if (name == "--stages") return ReadBatches(value, &request->stages.batches);
  if (name == "--threads") return ReadNumber(value, &request->recognizer.num_threads);
  if (name == "--frames") return ReadNumber(value, &request->stages.frames);
  if (name == "--tokens") return ReadNumber(value, &request->stages.tokens);
  if (name == "--beam") return ReadNumber(value, &request->stages.beam);
  return InvalidArgument("no option is named {}", name);
}

Result<Request> ReadArguments(const std::vector<std::string_view>& arguments) {
  Request request;
  if (arguments.empty() || arguments[0] != "bench") return InvalidArgument("the only command is bench");
  for (size_t i = 1; i < arguments.size(); ++i) {
    if (arguments[i] == "--batch-invariant") {
      request.recognizer.batch_invariant = true;
      continue;
    }
    if (i + 1 == arguments.size()) return InvalidArgument("{} lacks its value", arguments[i]);
    TING_RETURN_IF_ERROR(ReadOption(arguments[i], arguments[i + 1], &request).WithContext(std::string(arguments[i])));
    ++i;
  }
  if (request.architecture.empty()) return InvalidArgument("name an architecture: --random-weights");
  if (request.stages.frames < 7 || request.stages.tokens < 1 || request.stages.beam < 1) {
    return InvalidArgument("--frames is 7 or more, --tokens and --beam are 1 or more");
  }
  return request;
}

Status Run(const Request& request) {
  const std::string model = "random:" + request.architecture;
  TING_ASSIGN_OR_RETURN(const StageReport report, BenchmarkStages(model, request.recognizer, request.stages));
  std::fputs((StageTitle(model, request.stages) + StageTable(report.batches)).c_str(), stdout);
  return Status();
}

int Main(const std::vector<std::string_view>& arguments) {
  const auto request = ReadArguments(arguments);
  const Status status = request.ok() ? Run(*request) : request.status();
  if (status.ok()) return 0;
  std::fprintf(stderr, "ting: %s\n%s", status.message().c_str(), request.ok() ? "" : kUsage);
  return request.ok() ? 1 : 2;
}

}  // namespace
}  // namespace ting::tool

int main(int argc, char** argv) { return ting::tool::Main({argv + 1, argv + argc}); }
