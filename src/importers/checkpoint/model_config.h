// src/importers/checkpoint/model_config.h
// SPDX-License-Identifier: Apache-2.0
//
// What train.yaml says about a model, checked, with WeNet's defaults for what it leaves out. Plain data: the model
// assembly and the frontend read it, the engine file stores it.
// Both generations of train.yaml are understood: since 2023-12 (cmvn_conf, tokenizer, ctc_conf) and before
// (cmvn_file at the top), back to 2021 (collate_conf.feature_extraction_conf).
// Supported  asr_model with a conformer or transformer encoder and a transformer or bitransformer decoder, pre-norm,
//            LayerNorm, convolutional subsampling. Everything else is refused with its own name.
// Bytes trusted: none; sizes have upper limits so that a hostile file cannot ask for absurd amounts of memory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/params.h"  // Activation
#include "ting/status.h"

namespace ting {

inline constexpr int64_t kMaxVocab = int64_t{1} << 20;

enum class EncoderKind { kConformer, kTransformer };
enum class DecoderKind { kTransformer, kBitransformer };
enum class PositionKind { kRelative, kAbsolute, kNone };  // rel_pos with rel_selfattn; abs_pos or no_pos with selfattn
enum class ConvNormKind { kBatchNorm, kLayerNorm };
enum class TokenizerKind { kUnstated, kChar, kBpe };  // unstated before 2023-12: TokenTable::kind() tells

struct EncoderConfig {
  EncoderKind kind = EncoderKind::kConformer;
  std::string input_layer = "conv2d";  // conv2d, conv2d2, conv2d6, conv2d8: `kind` of op subsample_conv2d
  int64_t output_size = 256;           // D
  int64_t attention_heads = 4;         // divides D
  int64_t linear_units = 2048;
  int64_t num_blocks = 6;
  Activation activation = Activation::kSwish;
  PositionKind position = PositionKind::kRelative;
  bool macaron_style = true;       // conformer: two half-weighted feed-forward modules a block
  bool use_cnn_module = true;      // conformer
  int64_t cnn_module_kernel = 15;  // odd unless causal
  bool causal = false;
  ConvNormKind cnn_module_norm = ConvNormKind::kBatchNorm;
  double norm_eps = 1e-5;          // models trained before 2022-01 used 1e-12, which no yaml says
  double conv_norm_eps = 1e-5;     // of the norm inside the convolution module
  bool use_dynamic_chunk = false;  // trained with random chunks: may stream
  bool use_dynamic_left_chunk = false;
  int64_t static_chunk_size = 0;
};

struct DecoderConfig {
  DecoderKind kind = DecoderKind::kTransformer;
  int64_t attention_heads = 4;  // divides the encoder's output_size
  int64_t linear_units = 2048;
  int64_t num_blocks = 6;
  int64_t r_num_blocks = 0;  // right to left; 0 unless bitransformer
  Activation activation = Activation::kRelu;
  double norm_eps = 1e-5;
};

struct FeatureConfig {
  int64_t num_mel_bins = 80;
  int64_t frame_length_ms = 25;
  int64_t frame_shift_ms = 10;
  int64_t sample_rate = 16000;
};

struct ModelConfig {
  EncoderConfig encoder;
  DecoderConfig decoder;
  FeatureConfig features;
  int64_t input_dim = 80;  // equals features.num_mel_bins
  int64_t vocab_size = 0;  // 0: train.yaml does not say; the checkpoint's CTC layer does
  int64_t blank_id = 0;
  int64_t sos_id = -1;  // -1 only while vocab_size is 0; see SetVocabSize
  int64_t eos_id = -1;
  double ctc_weight = 0.3;      // of the training loss, not of decoding
  double reverse_weight = 0.0;  // same
  std::string cmvn_file;        // as written, often an absolute path of another machine; empty: none named
  bool is_json_cmvn = true;
  TokenizerKind tokenizer = TokenizerKind::kUnstated;
  std::string bpe_path;  // as written; empty: none named

  bool is_bidirectional() const { return decoder.kind == DecoderKind::kBitransformer; }
};

Result<ModelConfig> ParseTrainYaml(std::string_view text);

// Sets the vocabulary size where train.yaml left it open, and sos and eos to V - 1 where no special tokens are named.
// Refuses a size that contradicts train.yaml, and special tokens outside of it.
Status SetVocabSize(int64_t vocab_size, ModelConfig* config);

// "U2++ conformer (bidirectional decoder)", "U2 conformer", "conformer (full context)".
std::string FamilyName(const ModelConfig& config);

}  // namespace ting
