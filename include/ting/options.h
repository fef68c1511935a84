// include/ting/options.h
// SPDX-License-Identifier: Apache-2.0
//
// What a caller may choose: once a model (RecognizerOptions) and once a call (DecodeOptions).
// The defaults are WeNet's published decoding settings.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace ting {

// The storage type of the matrices and of the activations that feed them. Sums, LayerNorm, softmax and
// scores are f32 in each of them. kTF32: f32 storage, operands of products rounded to ten bits of mantissa (GPU).
// kBF16x3: every operand as the sum of two bf16, every product of matrices as the sum of three of bf16 (all but low by
// low): nearly f32, and faster than it where the CPU has AMX; elsewhere computed in f32.
// kInt16: integers with a factor for every output of a matrix and for every 256 values of an activation (AMX) or 32
// (AVX512-VNNI), which keep about five more bits than bf16; half the memory of f32, and faster; elsewhere f32.
// kBF16: 16 bits a number, with bf16's range and products no less exact than its own. A model that is loaded with it is
// in the type whose products are most exact: kInt16 on the CPU; on a GPU kF16 where its weights show that no operand
// can leave the range of f16, whatever the audio, and kBF16x1 otherwise. ModelInfo::precision says in which.
// kBF16x1: bf16 itself, every operand rounded to eight bits of mantissa, which changes some texts.
// The CPU computes in kF32, kInt16, kBF16x3 and kBF16x1, a GPU in kF32, kTF32, kF16 and kBF16x1.
enum class Precision { kF32, kBF16, kF16, kTF32, kBF16x1, kBF16x3, kInt16 };
const char* PrecisionName(Precision precision);  // "f32", …, as --precision takes it
std::optional<Precision> ParsePrecision(std::string_view name);

enum class DecodeMode {
  kGreedy,      // CTC, best symbol a frame
  kPrefixBeam,  // CTC prefix beam search
  kAttention,   // beam search on the left-to-right attention decoder
  kRescoring,   // CTC prefix beam search, n-best rescored by the attention decoder(s)
};

struct RecognizerOptions {
  // "cpu"; "cuda" or "cuda:N": an NVIDIA GPU; "ref": plain loops on the CPU, slow, the oracle.
  std::string device = "cpu";
  std::optional<Precision> precision;  // none: what the engine file holds, f32 for a checkpoint
  int num_threads = 0;                 // 0: on the CPU as many as there are cores; beside a GPU two
  // GPU: products are summed in one order whatever the batch, so that an utterance's bits do not depend on it. (Its
  // text never should; the CPU always works so.)
  bool batch_invariant = false;
  size_t gpu_memory_bytes = 0;  // GPU: the most that steps may take beside the weights; 0: all there is
  // GPU: the file of tuning records (ting/tuning.h); empty: the one in the user's cache, if there is any.
  std::string tuning_file;
  bool use_tuning = true;  // false: no records, the kernels choose by themselves
  // Told of what is ignored, such as a damaged file of tuning records, and of what kBF16 has become: while a model is
  // loaded, or later on the thread that uses it. Must be callable as long as the recogniser lives.
  std::function<void(const std::string& note)> note;
  // Records the time of every graph node; read it with Recognizer::Profile.
  bool profile = false;
  // Counts the work of every step, for the least times in StageTimes.
  bool count_work = false;
};

struct DecodeOptions {
  DecodeMode mode = DecodeMode::kRescoring;
  int beam = 10;  // first and second pruning of the prefix search, beam of the attention search; 1 to 256
  int nbest = 1;  // hypotheses in a result, at most `beam`
  // final score = attention score + ctc_weight * CTC score. None: 0.5 for U2, 0.3 for U2++.
  std::optional<float> ctc_weight;
  // attention score = (1 - reverse_weight) * left-to-right + reverse_weight * right-to-left.
  // None: 0.5 where the model has a right-to-left decoder, otherwise 0.
  std::optional<float> reverse_weight;
  float length_penalty = 0.0F;  // attention mode: score / length ^ length_penalty
  float blank_penalty = 0.0F;   // subtracted from the blank's logit before the softmax
  // Prefix beam search and rescoring: frames whose blank is more probable than this (in (0, 1), say 0.99) are taken as
  // blank alone, which is faster. None: every frame is searched, as WeNet does. A skipped frame gives up the alignments
  // that have a token in it, which are at most 1 - its blank's probability.
  std::optional<float> blank_skip;
  // Encoder frames a row may look ahead and back: 0 is full context. Only models trained with dynamic
  // chunks give sensible text otherwise. num_left_chunks < 0: all of the past.
  int chunk_frames = 0;
  int num_left_chunks = -1;
};

}  // namespace ting
