// src/models/u2/u2_graphs.cc
// SPDX-License-Identifier: Apache-2.0
#include "models/u2/u2_graphs.h"

#include <cmath>

#include "base/status_macros.h"
#include "kernels/subsample_conv2d.h"
#include "models/u2/graph_builder.h"

namespace ting {
namespace {

using Args = GraphBuilder::NodeArgs;

Attributes MakeAttributes(std::initializer_list<std::pair<const char*, Attribute>> items) {
  Attributes attributes;
  for (const auto& [name, value] : items) attributes.Set(name, value);
  return attributes;
}

TensorType Rows(const char* symbol, int64_t width, DType dtype = DType::kF32) {
  return {dtype, {Dim::Symbol(symbol), Dim::Fixed(width)}};
}

// What every block of a stack shares.
struct Stack {
  GraphBuilder& g;
  const char* rows;  // symbol of the row axis
  int64_t D, heads, F;
  Activation activation;
  double eps;
};

// layer_norm of `tensor` in front of node `owner`; its weights are named as the owner's own norm, which is what
// they become when the passes fuse it.
ValueId PreNorm(Stack& s, ValueId x, const std::string& owner, const std::string& tensor) {
  Args owned{"", owner, {}, {}};
  s.g.Norm(owned, "norm", tensor, s.D);
  Args args{"layer_norm", owner + ".norm", {x}, Rows(s.rows, s.D), MakeAttributes({{"norm_eps", s.eps}}),
            owned.weights};
  return s.g.Add(std::move(args));
}

ValueId Sum(Stack& s, ValueId x, ValueId y, const std::string& owner, double scale) {
  return s.g.Add({"add", owner + ".sum", {x, y}, Rows(s.rows, s.D), MakeAttributes({{"scale", scale}})});
}

// x + scale * FFN(norm(x))
ValueId FeedForward(Stack& s, ValueId x, const std::string& name, const std::string& tensor, const std::string& norm,
                    double scale) {
  const ValueId n = PreNorm(s, x, name, norm);
  Args args{"feed_forward",
            name,
            {n},
            Rows(s.rows, s.D),
            MakeAttributes({{"activation", std::string(ActivationName(s.activation))}})};
  s.g.Linear(args, "w1", tensor + ".w_1", s.F, s.D);
  s.g.Linear(args, "w2", tensor + ".w_2", s.D, s.F);
  return Sum(s, x, s.g.Add(std::move(args)), name, scale);
}

void AttentionWeights(Stack& s, Args& args, const std::string& tensor, std::initializer_list<const char*> names) {
  for (const char* name : names)
    s.g.Linear(args, name, tensor + ".linear_" + (name[0] == 'o' ? "out" : name), s.D, s.D);
}

// x + MHSA(norm(x)), with or without relative positions
ValueId SelfAttention(Stack& s, ValueId x, const std::string& name, const std::string& tensor, const std::string& norm,
                      bool relative) {
  const ValueId n = PreNorm(s, x, name, norm);
  Args args{relative ? "rel_attention" : "self_attention",
            name,
            {n},
            Rows(s.rows, s.D),
            MakeAttributes({{"heads", s.heads}})};
  AttentionWeights(s, args, tensor, {"q", "k", "v", "o"});
  if (relative) {
    s.g.Weight(args, "pos.w", tensor + ".linear_pos.weight", {s.D, s.D});
    s.g.Values(args, "pos_u", {s.D}, s.g.Read(tensor + ".pos_bias_u", {s.heads, s.D / s.heads}));
    s.g.Values(args, "pos_v", {s.D}, s.g.Read(tensor + ".pos_bias_v", {s.heads, s.D / s.heads}));
  }
  return Sum(s, x, s.g.Add(std::move(args)), name, 1.0);
}

// [D, 1, taps] to tap-major [taps, D]
std::vector<float> TapMajor(const std::vector<float>& weights, int64_t D, int64_t taps) {
  std::vector<float> out(weights.size());
  if (static_cast<int64_t>(weights.size()) != D * taps) return out;
  for (int64_t d = 0; d < D; ++d) {
    for (int64_t k = 0; k < taps; ++k) out[k * D + d] = weights[d * taps + k];
  }
  return out;
}

ValueId ConvModule(Stack& s, ValueId x, const EncoderConfig& config, const std::string& name,
                   const std::string& block) {
  const std::string tensor = block + ".conv_module";
  const bool batch_norm = config.cnn_module_norm == ConvNormKind::kBatchNorm;
  const ValueId n = PreNorm(s, x, name, block + ".norm_conv");
  Args args{"conv_module",
            name,
            {n},
            Rows(s.rows, s.D),
            MakeAttributes({{"causal", int64_t{config.causal}},
                            {"conv_norm", std::string(batch_norm ? "batch_norm" : "layer_norm")},
                            {"activation", std::string(ActivationName(s.activation))},
                            {"norm_eps", config.conv_norm_eps}})};
  s.g.Linear(args, "pw1", tensor + ".pointwise_conv1", 2 * s.D, s.D);
  s.g.Linear(args, "pw2", tensor + ".pointwise_conv2", s.D, s.D);
  const int64_t taps = config.cnn_module_kernel;
  s.g.Values(args, "dw.w", {taps, s.D},
             TapMajor(s.g.Read(tensor + ".depthwise_conv.weight", {s.D, 1, taps}), s.D, taps));
  if (s.g.Has(tensor + ".depthwise_conv.bias")) s.g.Weight(args, "dw.b", tensor + ".depthwise_conv.bias", {s.D});
  s.g.Norm(args, "conv_norm", tensor + ".norm", s.D);
  if (batch_norm) {
    s.g.Weight(args, "conv_norm.mean", tensor + ".norm.running_mean", {s.D});
    s.g.Weight(args, "conv_norm.var", tensor + ".norm.running_var", {s.D});
  }
  return Sum(s, x, s.g.Add(std::move(args)), name, 1.0);
}

ValueId ConformerBlock(Stack& s, ValueId x, const EncoderConfig& config, int64_t index) {
  const std::string block = "encoder.encoders." + std::to_string(index);
  const std::string name = "b" + std::to_string(index);
  if (config.macaron_style) {
    x = FeedForward(s, x, name + ".macaron", block + ".feed_forward_macaron", block + ".norm_ff_macaron", 0.5);
  }
  x = SelfAttention(s, x, name + ".attn", block + ".self_attn", block + ".norm_mha",
                    config.position == PositionKind::kRelative);
  if (config.use_cnn_module) x = ConvModule(s, x, config, name + ".conv", block);
  x = FeedForward(s, x, name + ".ffn", block + ".feed_forward", block + ".norm_ff", config.macaron_style ? 0.5 : 1.0);
  if (!config.use_cnn_module) return x;
  Args norm{"layer_norm", name + ".out", {x}, Rows(s.rows, s.D), MakeAttributes({{"norm_eps", s.eps}})};
  s.g.Norm(norm, "norm", block + ".norm_final", s.D);
  return s.g.Add(std::move(norm));
}

ValueId TransformerBlock(Stack& s, ValueId x, int64_t index) {
  const std::string block = "encoder.encoders." + std::to_string(index);
  const std::string name = "b" + std::to_string(index);
  x = SelfAttention(s, x, name + ".attn", block + ".self_attn", block + ".norm1", false);
  return FeedForward(s, x, name + ".ffn", block + ".feed_forward", block + ".norm2", 1.0);
}

// [C_out, C_in, kt, kf] to [C_out, (kt, kf, C_in)]
std::vector<float> ChannelsInnermost(const std::vector<float>& w, int64_t outputs, int64_t channels, int64_t taps) {
  std::vector<float> out(w.size());
  if (static_cast<int64_t>(w.size()) != outputs * channels * taps) return out;
  for (int64_t o = 0; o < outputs; ++o) {
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t t = 0; t < taps; ++t) out[(o * taps + t) * channels + c] = w[(o * channels + c) * taps + t];
    }
  }
  return out;
}

Status Subsampling(GraphBuilder& g, const Checkpoint& checkpoint, ValueId features, ValueId* out) {
  const EncoderConfig& config = checkpoint.config.encoder;
  const int64_t D = config.output_size;
  TING_ASSIGN_OR_RETURN(const auto stages, SubsampleStages(config.input_layer));
  const double scale = config.position == PositionKind::kNone ? 1.0 : std::sqrt(static_cast<double>(D));
  Args args{"subsample_conv2d",
            "subsample",
            {features},
            Rows("T", D),
            MakeAttributes({{"kind", config.input_layer}, {"scale", scale}})};
  if (!checkpoint.cmvn_mean.empty()) {
    g.Values(args, "mean", {static_cast<int64_t>(checkpoint.cmvn_mean.size())}, checkpoint.cmvn_mean);
    g.Values(args, "istd", {static_cast<int64_t>(checkpoint.cmvn_istd.size())}, checkpoint.cmvn_istd);
  }
  int64_t channels = 1;
  for (size_t i = 0; i < stages.size(); ++i) {
    const int64_t k = stages[i].kernel;
    const std::string tensor = "encoder.embed.conv." + std::to_string(2 * i);  // every other module is a ReLU
    const std::string slot = "conv" + std::to_string(i);
    const auto weights = g.Read(tensor + ".weight", {D, channels, k, k});
    g.Values(args, slot + ".w", {D, k * k * channels}, ChannelsInnermost(weights, D, channels, k * k));
    g.Weight(args, slot + ".b", tensor + ".bias", {D});
    channels = D;
  }
  const int64_t frequencies = SubsampledFrames(stages, checkpoint.config.input_dim);
  const bool sequential = config.input_layer == "conv2d" || config.input_layer == "conv2d2";
  const std::string linear = sequential ? "encoder.embed.out.0" : "encoder.embed.linear";
  // Columns (channel, frequency) to (frequency, channel): the same exchange of axes as in a kernel.
  const auto weights = g.Read(linear + ".weight", {D, D * frequencies});
  g.Values(args, "out.w", {D, D * frequencies}, ChannelsInnermost(weights, D, D, frequencies));
  g.Weight(args, "out.b", linear + ".bias", {D});
  *out = g.Add(std::move(args));
  return Status();
}

Result<Graph> EncoderGraph(const Checkpoint& checkpoint, WeightStore& weights) {
  const EncoderConfig& config = checkpoint.config.encoder;
  GraphBuilder g("encoder", checkpoint.weights, weights);
  const ValueId features =
      g.Input("features", DType::kF32, {Dim::Symbol("F"), Dim::Fixed(checkpoint.config.input_dim)});
  Stack s{g, "T", config.output_size, config.attention_heads, config.linear_units, config.activation, config.norm_eps};
  ValueId x = 0;
  TING_RETURN_IF_ERROR(Subsampling(g, checkpoint, features, &x));
  if (config.position == PositionKind::kAbsolute) x = g.Add({"add_positions", "positions", {x}, Rows("T", s.D)});
  for (int64_t i = 0; i < config.num_blocks; ++i) {
    x = config.kind == EncoderKind::kConformer ? ConformerBlock(s, x, config, i) : TransformerBlock(s, x, i);
  }
  Args norm{"layer_norm", "out", {x}, Rows("T", s.D), MakeAttributes({{"norm_eps", s.eps}})};
  g.Norm(norm, "norm", "encoder.after_norm", s.D);
  return g.Finish({g.Add(std::move(norm))});
}

// A graph that reads a vocabulary layer's best entries. The layer's weights live once, under the graph that `head`
// names them for.
struct TopK {
  std::string name;
  const char* rows;
  double eps;
  std::map<std::string, std::string> head;
  int64_t blank;
  std::string norm;  // tensor of the norm in front; empty: none
};

Result<Graph> TopKGraph(const Checkpoint& checkpoint, WeightStore& weights, const TopK& spec) {
  GraphBuilder g(spec.name, checkpoint.weights, weights);
  Stack s{g, spec.rows, checkpoint.config.encoder.output_size, 1, 0, Activation::kNone, spec.eps};
  ValueId x = g.Input("hidden", DType::kF32, {Dim::Symbol(s.rows), Dim::Fixed(s.D)});
  if (!spec.norm.empty()) x = PreNorm(s, x, "logp", spec.norm);
  const std::vector<Dim> dims{Dim::Symbol(s.rows), Dim::Symbol("K")};
  Args args{"log_softmax_topk", "logp", {x}, {DType::kF32, dims}, MakeAttributes({{"blank", spec.blank}}), spec.head};
  const auto [logp, ids] = g.AddPair(std::move(args), "ids", {DType::kS32, dims});
  return g.Finish({logp, ids});
}

// Graphs ctc and ctc_full.
Status CtcGraphs(const Checkpoint& checkpoint, Module& module) {
  const ModelConfig& config = checkpoint.config;
  const int64_t D = config.encoder.output_size;
  GraphBuilder g("ctc_full", checkpoint.weights, module.weights);
  const ValueId x = g.Input("hidden", DType::kF32, {Dim::Symbol("T"), Dim::Fixed(D)});
  Args args{"log_softmax", "logp", {x}, Rows("T", config.vocab_size), MakeAttributes({{"blank", config.blank_id}})};
  g.Linear(args, "head", "ctc.ctc_lo", config.vocab_size, D);
  const auto head = args.weights;
  const ValueId logp = g.Add(std::move(args));
  TING_ASSIGN_OR_RETURN(module.graphs["ctc_full"], g.Finish({logp}));
  TING_ASSIGN_OR_RETURN(
      module.graphs["ctc"],
      TopKGraph(checkpoint, module.weights, {"ctc", "T", config.encoder.norm_eps, head, config.blank_id, ""}));
  return Status();
}

// One decoder: `side` is left or right, `tensor` its prefix in the state_dict.
struct DecoderSide {
  std::string side, tensor;
  int64_t layers = 0;
};

Result<Graph> CrossGraph(const Checkpoint& checkpoint, WeightStore& weights, const DecoderSide& d) {
  const int64_t D = checkpoint.config.encoder.output_size;
  GraphBuilder g("cross_" + d.side, checkpoint.weights, weights);
  const ValueId x = g.Input("encoder", DType::kF32, {Dim::Symbol("T"), Dim::Fixed(D)});
  std::vector<float> matrix, bias;
  for (int64_t i = 0; i < d.layers; ++i) {
    for (const char* part : {"k", "v"}) {
      const std::string linear = d.tensor + ".decoders." + std::to_string(i) + ".src_attn.linear_" + part;
      const auto w = g.Read(linear + ".weight", {D, D});
      auto b = g.Has(linear + ".bias") ? g.Read(linear + ".bias", {D}) : std::vector<float>(D, 0.0F);
      matrix.insert(matrix.end(), w.begin(), w.end());
      bias.insert(bias.end(), b.begin(), b.end());
    }
  }
  Args args{"linear", "keys_values", {x}, Rows("T", 2 * D * d.layers)};
  g.Values(args, "linear.w", {2 * D * d.layers, D}, matrix);
  g.Values(args, "linear.b", {2 * D * d.layers}, bias);
  return g.Finish({g.Add(std::move(args))});
}

Result<Graph> DecoderGraph(const Checkpoint& checkpoint, WeightStore& weights, const DecoderSide& d) {
  const DecoderConfig& config = checkpoint.config.decoder;
  const int64_t D = checkpoint.config.encoder.output_size;
  GraphBuilder g("decoder_" + d.side, checkpoint.weights, weights);
  Stack s{g, "U", D, config.attention_heads, config.linear_units, config.activation, config.norm_eps};
  const Dim U = Dim::Symbol("U");
  const ValueId tokens = g.Input("tokens", DType::kS32, {U});
  const ValueId positions = g.Input("positions", DType::kS32, {U});
  const ValueId slots = g.Input("slots", DType::kS32, {U});
  const ValueId offsets = g.Input("ancestor_offsets", DType::kS32, {Dim::Symbol("U1")});
  const ValueId ancestors = g.Input("ancestors", DType::kS32, {Dim::Symbol("A")});
  const ValueId sequence = g.Input("sequence", DType::kS32, {U});
  const ValueId cross = g.Input("cross", DType::kF32, {Dim::Symbol("T"), Dim::Fixed(2 * D * d.layers)});
  Args embed{"embed",
             "embed",
             {tokens, positions},
             Rows("U", D),
             MakeAttributes({{"scale", std::sqrt(static_cast<double>(D))}})};
  g.Weight(embed, "table", d.tensor + ".embed.0.weight", {checkpoint.config.vocab_size, D});
  ValueId x = g.Add(std::move(embed));
  for (int64_t i = 0; i < d.layers; ++i) {
    const std::string layer = d.tensor + ".decoders." + std::to_string(i);
    const std::string name = "d" + std::to_string(i);
    const ValueId pool = g.Input(name + ".pool", DType::kF32, {Dim::Symbol("P"), Dim::Fixed(2 * D)}, /*state=*/true);
    const ValueId self_in = PreNorm(s, x, name + ".self", layer + ".norm1");
    Args self{"tree_attention",
              name + ".self",
              {self_in, slots, offsets, ancestors, pool},
              Rows("U", D),
              MakeAttributes({{"heads", s.heads}})};
    AttentionWeights(s, self, layer + ".self_attn", {"q", "k", "v", "o"});
    x = Sum(s, x, g.Add(std::move(self)), name + ".self", 1.0);
    const ValueId cross_in = PreNorm(s, x, name + ".cross", layer + ".norm2");
    Args src{"cross_attention",
             name + ".cross",
             {cross_in, cross, sequence},
             Rows("U", D),
             MakeAttributes({{"heads", s.heads}, {"key_column", 2 * D * i}})};
    AttentionWeights(s, src, layer + ".src_attn", {"q", "o"});
    x = Sum(s, x, g.Add(std::move(src)), name + ".cross", 1.0);
    x = FeedForward(s, x, name + ".ffn", layer + ".feed_forward", layer + ".norm3", 1.0);
  }
  return g.Finish({x});
}

Result<Graph> ScoreGraph(const Checkpoint& checkpoint, WeightStore& weights, const DecoderSide& d,
                         std::map<std::string, std::string>* head) {
  const int64_t D = checkpoint.config.encoder.output_size;
  GraphBuilder g("score_" + d.side, checkpoint.weights, weights);
  Stack s{g, "U", D, 1, 0, Activation::kNone, checkpoint.config.decoder.norm_eps};
  const ValueId hidden = g.Input("hidden", DType::kF32, {Dim::Symbol("U"), Dim::Fixed(D)});
  const ValueId rows = g.Input("rows", DType::kS32, {Dim::Symbol("G")});
  const ValueId ids = g.Input("ids", DType::kS32, {Dim::Symbol("G")});
  const ValueId n = PreNorm(s, hidden, "logp", d.tensor + ".after_norm");
  Args args{"target_logp", "logp", {n, rows, ids}, {DType::kF32, {Dim::Symbol("G")}}};
  g.Linear(args, "head", d.tensor + ".output_layer", checkpoint.config.vocab_size, D);
  *head = args.weights;
  return g.Finish({g.Add(std::move(args))});
}

Status DecoderGraphs(const Checkpoint& checkpoint, const DecoderSide& d, Module& module) {
  std::map<std::string, std::string> head;
  TING_ASSIGN_OR_RETURN(module.graphs["cross_" + d.side], CrossGraph(checkpoint, module.weights, d));
  TING_ASSIGN_OR_RETURN(module.graphs["decoder_" + d.side], DecoderGraph(checkpoint, module.weights, d));
  TING_ASSIGN_OR_RETURN(module.graphs["score_" + d.side], ScoreGraph(checkpoint, module.weights, d, &head));
  if (d.side != "left") return Status();
  const TopK next{"next_left", "U", checkpoint.config.decoder.norm_eps, head, -1, d.tensor + ".after_norm"};
  TING_ASSIGN_OR_RETURN(module.graphs["next_left"], TopKGraph(checkpoint, module.weights, next));
  return Status();
}

}  // namespace

Result<Module> BuildU2Graphs(const Checkpoint& checkpoint) {
  Module module;
  TING_ASSIGN_OR_RETURN(module.graphs["encoder"], EncoderGraph(checkpoint, module.weights));
  TING_RETURN_IF_ERROR(CtcGraphs(checkpoint, module));
  const DecoderConfig& decoder = checkpoint.config.decoder;
  if (decoder.kind == DecoderKind::kTransformer) {
    TING_RETURN_IF_ERROR(DecoderGraphs(checkpoint, {"left", "decoder", decoder.num_blocks}, module));
  } else {
    TING_RETURN_IF_ERROR(DecoderGraphs(checkpoint, {"left", "decoder.left_decoder", decoder.num_blocks}, module));
    if (decoder.r_num_blocks > 0) {
      TING_RETURN_IF_ERROR(DecoderGraphs(checkpoint, {"right", "decoder.right_decoder", decoder.r_num_blocks}, module));
    }
  }
  return module;
}

}  // namespace ting
