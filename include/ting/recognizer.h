// include/ting/recognizer.h
// SPDX-License-Identifier: Apache-2.0
//
// Recognizer: a loaded model that turns audio into text, offline, in batches of any size and lengths.
//
//   auto recognizer = ting::Recognizer::Load("model.ting", {});
//   if (!recognizer.ok()) { ... recognizer.status().message() ... }
//   auto audio = ting::ReadAudio("a.wav", {});
//   auto results = (*recognizer)->Recognize({&*audio, 1}, {});
//   std::puts(results[0].nbest[0].text.c_str());
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ting/options.h"
#include "ting/result.h"
#include "ting/status.h"

namespace ting {

// One channel of sound. Samples are in the range of int16 (-32768 to 32767), as Kaldi's features expect.
struct Audio {
  std::vector<float> samples;
  int sample_rate_hz = 16000;
  double seconds() const { return sample_rate_hz > 0 ? double(samples.size()) / sample_rate_hz : 0; }
};

struct ReadAudioOptions {
  int sample_rate_hz = 16000;  // the result's rate; other rates are resampled (soxr, very high quality)
  int channel = 0;             // which channel of a multi-channel file; -1: the mean of all
};

// Reads WAV, FLAC, Ogg (Vorbis, Opus) and MP3 through libsndfile. Refuses empty files, files that are not
// audio or end early, and samples that are not finite, each with a sentence that names the reason.
Result<Audio> ReadAudio(const std::string& path, const ReadAudioOptions& options);
// The same from the bytes of a file (standard input, an upload).
Result<Audio> ReadAudioBytes(std::span<const std::byte> bytes, const ReadAudioOptions& options);

// What a model is, for `ting inspect` and for servers.
struct ModelInfo {
  std::string family;  // "conformer", "unified conformer (U2)", "U2++ conformer", "transformer"
  int64_t num_parameters = 0;
  int sample_rate_hz = 16000;
  int num_mel_bins = 80;
  int frame_shift_ms = 10;
  int subsampling_rate = 4;    // input frames an encoder frame
  int min_feature_frames = 7;  // shorter audio has no encoder frame
  int vocab_size = 0;
  int encoder_layers = 0, encoder_width = 0, attention_heads = 0, feed_forward_width = 0;
  int left_decoder_layers = 0, right_decoder_layers = 0;
  bool causal = false;
  bool streaming = false;  // trained with dynamic chunks and causal, so that chunked decoding is valid
  bool has_cmvn = false;
  std::string unit_kind;  // "char" or "bpe"
  int32_t blank_id = 0, sos_id = 0, eos_id = 0;
  Precision precision = Precision::kF32;
  std::string source;                                        // the checkpoint directory or engine file
  std::vector<std::pair<std::string, std::string>> details;  // further lines for people
};

struct NodeProfile {
  std::string graph, node, op, implementation;
  int64_t calls = 0;
  double total_ms = 0;
};

// Which implementation runs a node on the recogniser's device, and why those that the device would rather take do not.
struct NodeDispatch {
  std::string graph, node, op, implementation;  // no implementation: nothing here runs the node
  std::vector<std::string> refusals;            // "cuda.fused: reason", best first
};

class Recognizer {
 public:
  // `path`: an engine file written by `ting build`, or a WeNet checkpoint directory (final.pt, train.yaml,
  // units.txt). Both are untrusted input and fully checked.
  static Result<std::unique_ptr<Recognizer>> Load(const std::string& path, const RecognizerOptions& options);
  virtual ~Recognizer() = default;

  virtual const ModelInfo& info() const = 0;

  // Another recogniser of this model on this device, for another thread: it shares the weights. On a GPU up to eight
  // of them keep the device busy while the CPU packs audio and writes text.
  virtual Result<std::unique_ptr<Recognizer>> Clone() = 0;

  // Recognises a batch; results[i] belongs to batch[i]. Rows are packed, not padded: an utterance's text
  // does not depend on its neighbours. An utterance that cannot be decoded (too short, not finite) has its
  // own status. Options that make no sense for this model fail every utterance with the same sentence.
  // One call at a time an object. `times` (may be null) is added to.
  virtual std::vector<RecognitionResult> Recognize(std::span<const Audio> batch, const DecodeOptions& options,
                                                   StageTimes* times) = 0;
  std::vector<RecognitionResult> Recognize(std::span<const Audio> batch, const DecodeOptions& options) {
    return Recognize(batch, options, nullptr);
  }

  // Kaldi log-mel features [frames, num_mel_bins] of one utterance, row-major, before CMVN.
  virtual Result<std::vector<float>> Features(const Audio& audio) = 0;
  // CTC log-probabilities [encoder frames, vocab_size] from features as above: for inspection and tests.
  virtual Result<std::vector<float>> CtcLogProbs(std::span<const float> features, const DecodeOptions& options) = 0;

  virtual std::vector<NodeProfile> Profile() const = 0;
  // Every node of every graph of the model, whether a mode needs the graph or not.
  virtual Result<std::vector<NodeDispatch>> Dispatch() const = 0;
  // The optimised module graphs as text.
  virtual std::string GraphText() const = 0;
};

// Reads the checkpoint directory `model_dir`, optimises it and writes one engine file. Answers what the file holds.
Result<ModelInfo> BuildEngine(const std::string& model_dir, const std::string& engine_path, Precision precision);

}  // namespace ting
