// tools/ting/main.cc
// SPDX-License-Identifier: Apache-2.0
//
// The program `ting`: real services for the sub-commands, which are in the other files of this folder.
#include <unistd.h>

#include <iostream>

#include "tools/ting/command_line.h"
#include "tools/ting/interrupt.h"

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  ting::tool::Services services;
  services.load = ting::Recognizer::Load;
  services.load_pool = ting::RecognizerPool::Load;
  services.read_audio = ting::ReadAudio;
  services.read_audio_bytes = ting::ReadAudioBytes;
  services.build_engine = ting::BuildEngine;
  services.benchmark_stages = ting::BenchmarkStages;
  services.tune_model = ting::TuneModel;
  services.create_tracer = ting::Tracer::Create;
  services.in = &std::cin;
  services.out = &std::cout;
  services.err = &std::cerr;
  services.err_is_terminal = ::isatty(STDERR_FILENO) != 0;
  services.catch_interrupt = ting::tool::CatchInterrupt;
  services.interrupted = ting::tool::Interrupted;
  return ting::tool::RunCommandLine(std::vector<std::string>(argv + 1, argv + argc), services);
}
