// src/kernels/cuda/attention.cc
// SPDX-License-Identifier: Apache-2.0
//
// The four attentions: a product for q, k and v, the heads (attention_kernels.h), a product for the output.
#include "kernels/attention.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "base/status_macros.h"
#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/position_keys.h"

namespace ting::cuda {
namespace {

// A projection as host values, in whatever form the node has it.
struct HostLinear {
  int64_t N = 0, K = 0;
  std::vector<float> rows, bias;
};

void AppendRows(HostLinear& all, const LinearParams& part, float scale, std::span<const float> shift) {
  const std::vector<float> rows = UnpackMatrix(part.weight);
  for (const float v : rows) all.rows.push_back(v * scale);
  for (int64_t n = 0; n < part.N(); ++n) {
    const float b = part.bias.present() ? part.bias.as<float>()[n] : 0.0F;
    all.bias.push_back((b + (shift.empty() ? 0.0F : shift[n])) * scale);
  }
  all.N += part.N(), all.K = part.K();
}

LinearParams ViewOf(const HostLinear& host) {
  LinearParams view;
  view.weight = {host.rows.data(), DType::kF32, {host.N, host.K}};
  view.bias = {host.bias.data(), DType::kF32, {host.N}};
  return view;
}

std::span<const float> Values(const WeightView& vector) {
  if (!vector.present()) return {};
  return {vector.as<float>(), static_cast<size_t>(vector.shape.num_elements())};
}

// The part of a packed matrix that is q, k or v.
HostLinear Rows(const HostLinear& all, int64_t first, int64_t count) {
  HostLinear part{count, all.K, {}, {}};
  part.rows.assign(all.rows.begin() + first * all.K, all.rows.begin() + (first + count) * all.K);
  part.bias.assign(all.bias.begin() + first, all.bias.begin() + first + count);
  return part;
}

// q, k and v as one projection with q = (q + u) / sqrt(Dh) already (attention.h, folded).
HostLinear FoldedQkv(const AttentionParams& params) {
  const float scale = params.folded ? 1.0F : 1.0F / std::sqrt(static_cast<float>(params.head_width()));
  const std::span<const float> shift = params.folded ? std::span<const float>() : Values(params.pos_u);
  HostLinear all;
  if (!params.packed) {
    AppendRows(all, params.q, scale, shift);
    AppendRows(all, params.k, 1.0F, {});
    AppendRows(all, params.v, 1.0F, {});
    return all;
  }
  AppendRows(all, params.qkv, 1.0F, {});
  const HostLinear q = Rows(all, 0, params.D);
  HostLinear folded;
  AppendRows(folded, ViewOf(q), scale, shift);
  std::copy(folded.rows.begin(), folded.rows.end(), all.rows.begin());
  std::copy(folded.bias.begin(), folded.bias.end(), all.bias.begin());
  return all;
}

std::vector<float> KeyBias(const AttentionParams& params) {
  if (params.folded) return {Values(params.key_bias).begin(), Values(params.key_bias).end()};
  const float scale = 1.0F / std::sqrt(static_cast<float>(params.head_width()));
  std::vector<float> bias(params.D);
  for (int64_t d = 0; d < params.D; ++d) bias[d] = (Values(params.pos_v)[d] - Values(params.pos_u)[d]) * scale;
  return bias;
}

Result<RowProduct> MakeProjection(CudaBackend& backend, const HostLinear& host, const void* identity,
                                  const AttentionParams& params, Road road) {
  RowProductSpec spec;
  spec.linear = ViewOf(host);
  spec.key = fmt::format("{}:folded:{}", identity, host.N);  // of the node's weight, not of this temporary copy
  spec.norm = params.norm;
  const bool stored = HeadType(backend.storage(), params.head_width()) == backend.storage();
  spec.output = stored ? RowProductSpec::Output::kStored : RowProductSpec::Output::kFloat;
  return RowProduct::Create(backend, spec, road);
}

Result<RowProduct> MakeOutput(CudaBackend& backend, const AttentionParams& params, Road road,
                              bool before_feed_forward = false) {
  RowProductSpec spec;
  spec.linear = params.o, spec.starts_next = before_feed_forward;
  spec.x_stored = HeadType(backend.storage(), params.head_width()) == backend.storage();
  return RowProduct::Create(backend, spec, road);
}

Result<RowProduct> MakeQkv(CudaBackend& backend, const AttentionParams& params, Road road) {
  const void* identity = params.packed ? params.qkv.weight.data : params.q.weight.data;
  return MakeProjection(backend, FoldedQkv(params), identity, params, road);
}

void FillCommon(AttentionArgs& args, const AttentionParams& params, const CudaBackend& backend, void* heads) {
  args.dtype = HeadType(backend.storage(), params.head_width());
  args.dependent = true;
  args.heads = params.heads, args.head_width = static_cast<int>(params.head_width());
  args.context = heads, args.context_stride = params.D;
}

// What the attentions share: memory for the projection and for the heads' output, and the road out.
class AttentionKernel : public CudaKernel {
 public:
  AttentionKernel(CudaBackend& backend, const AttentionParams& params, RowProduct in, RowProduct out)
      : backend_(backend), params_(params), in_(std::move(in)), out_(std::move(out)) {}

 protected:
  virtual Status Heads(const KernelContext& context, const void* projected, void* heads) = 0;
  // Columns of the projection that another matrix gets.
  virtual RowGemmScatter Scatter(const KernelContext&) const { return {}; }
  Status Step(const KernelContext& context, Carver& carver) override {
    const RowRange range = RangeOf(context);
    const auto* x = context.inputs[0].as<float>();
    const auto bytes = static_cast<int64_t>(DTypeSize(HeadType(backend_.storage(), params_.head_width())));
    void* projected = carver.Take(range.rows * in_.N() * bytes);
    void* heads = carver.Take(range.rows * params_.D * bytes);
    TING_RETURN_IF_ERROR(in_.Run(context, x, nullptr, projected, range, carver, Scatter(context)));
    if (context.workspace != nullptr && range.rows > 0) TING_RETURN_IF_ERROR(Heads(context, projected, heads));
    return out_.Run(context, heads, params_.residual ? x : nullptr, context.outputs[0].data, range, carver);
  }

  CudaBackend& backend_;
  AttentionParams params_;
  RowProduct in_, out_;
};

class SelfAttention : public AttentionKernel {
 public:
  SelfAttention(CudaBackend& backend, const AttentionParams& params, RowProduct in, RowProduct out,
                std::unique_ptr<PositionKeys> positions)
      : AttentionKernel(backend, params, std::move(in), std::move(out)), positions_(std::move(positions)) {}

 protected:
  Status Heads(const KernelContext& context, const void* qkv, void* heads) override {
    const DeviceRows& rows = context.device_rows[0];
    const cudaStream_t stream = StreamOf(context).handle();
    SelfAttentionArgs args;
    FillCommon(args, params_, backend_, heads);
    args.qkv = qkv, args.qkv_stride = 3 * params_.D;
    args.offsets = rows.offsets, args.sequences = rows.max_sequences;
    args.rows = static_cast<int>(context.inputs[0].rows());
    if (positions_) {
      TING_ASSIGN_OR_RETURN(const PositionTable table, positions_->Get(rows.max_length, stream));
      args.positions = table.keys, args.position_stride = params_.D;
      args.key_bias = table.bias, args.bias_stride = params_.heads;
    }
    args.chunk_frames = context.options->chunk_frames, args.num_left_chunks = context.options->num_left_chunks;
    return LaunchSelfAttention(args, stream);
  }

 private:
  std::unique_ptr<PositionKeys> positions_;  // null: self_attention
};

class TreeAttention : public AttentionKernel {
 public:
  using AttentionKernel::AttentionKernel;

 protected:
  // The pool is this kernel's own: its rows hold k and v in the storage type. The projection puts them there itself
  // where it can.
  bool scatters() const { return in_.CanScatter(params_.D); }
  RowGemmScatter Scatter(const KernelContext& context) const override {
    if (!scatters()) return {};
    return {context.inputs[1].as<int32_t>(), context.inputs[4].data, 2 * params_.D, params_.D};
  }
  Status Heads(const KernelContext& context, const void* qkv, void* heads) override {
    TreeAttentionArgs args;
    FillCommon(args, params_, backend_, heads);
    args.qkv = qkv, args.qkv_stride = 3 * params_.D;
    args.slots = context.inputs[1].as<int32_t>();
    args.ancestor_offsets = context.inputs[2].as<int32_t>();
    args.ancestors = context.inputs[3].as<int32_t>();
    args.num_rows = context.device_rows[0].count, args.rows = static_cast<int>(context.inputs[0].rows());
    args.pool = context.inputs[4].data, args.pool_stride = 2 * params_.D;
    args.store = !scatters();
    return LaunchTreeAttention(args, StreamOf(context).handle());
  }
};

class CrossAttention : public AttentionKernel {
 public:
  using AttentionKernel::AttentionKernel;

 protected:
  // Keys and values between rows or columns that 16-byte loads cannot take are copied to where they can.
  Status Step(const KernelContext& context, Carver& carver) override {
    const TensorView& memory = context.inputs[1];
    const auto aligned = [](int64_t columns) { return columns % 8 == 0; };
    aligned_ = nullptr;
    if (!aligned(memory.shape[1]) || !aligned(params_.key_column)) {
      aligned_ = carver.Take(memory.rows() * 2 * params_.D * static_cast<int64_t>(DTypeSize(memory.dtype)));
    }
    return AttentionKernel::Step(context, carver);
  }
  Status CopyAligned(const TensorView& memory, size_t element_bytes, CudaStream& stream) const {
    const size_t width = 2 * params_.D * element_bytes;
    const auto* from = static_cast<const std::byte*>(memory.data) + params_.key_column * element_bytes;
    return CudaStatus(cudaMemcpy2DAsync(aligned_, width, from, memory.shape[1] * element_bytes, width, memory.rows(),
                                        cudaMemcpyDeviceToDevice, stream.handle()),
                      "copy of keys and values");
  }

  Status Heads(const KernelContext& context, const void* q, void* heads) override {
    const TensorView& memory = context.inputs[1];
    const DeviceRows& rows = context.device_rows[1];
    CrossAttentionArgs args;
    FillCommon(args, params_, backend_, heads);
    if (memory.dtype != args.dtype) {
      return Internal("keys and values in {}, heads in {}", DTypeName(memory.dtype), DTypeName(args.dtype));
    }
    args.q = q, args.q_stride = params_.D;
    args.sequence = context.inputs[2].as<int32_t>();
    args.num_rows = context.device_rows[0].count, args.rows = static_cast<int>(context.inputs[0].rows());
    args.memory = memory.data, args.memory_stride = memory.shape[1], args.key_column = params_.key_column;
    if (aligned_ != nullptr) {
      TING_RETURN_IF_ERROR(CopyAligned(memory, DTypeSize(args.dtype), StreamOf(context)));
      args.memory = aligned_, args.memory_stride = 2 * params_.D, args.key_column = 0;
      args.dependent = false;  // the copy must have ended
    }
    args.offsets = rows.offsets, args.sequences = rows.max_sequences;
    return LaunchCrossAttention(args, StreamOf(context).handle());
  }

 private:
  std::byte* aligned_ = nullptr;  // of the running step
};

}  // namespace

Result<std::unique_ptr<Kernel>> CreateSelfAttention(const OpDesc& desc, Road road) {
  TING_ASSIGN_OR_RETURN(const AttentionParams params, ParseSelfAttention(desc));
  CudaBackend& backend = BackendOf(desc);
  TING_ASSIGN_OR_RETURN(RowProduct in, MakeQkv(backend, params, road));
  TING_ASSIGN_OR_RETURN(RowProduct out, MakeOutput(backend, params, road));
  std::unique_ptr<PositionKeys> positions;
  if (params.relative) {
    TING_ASSIGN_OR_RETURN(positions, PositionKeys::Create(backend, params, KeyBias(params)));
  }
  return std::unique_ptr<Kernel>(
      std::make_unique<SelfAttention>(backend, params, std::move(in), std::move(out), std::move(positions)));
}

Result<std::unique_ptr<Kernel>> CreateTreeAttention(const OpDesc& desc, Road road) {
  TING_ASSIGN_OR_RETURN(const AttentionParams params, ParseTreeAttention(desc));
  CudaBackend& backend = BackendOf(desc);
  TING_ASSIGN_OR_RETURN(RowProduct in, MakeQkv(backend, params, road));
  TING_ASSIGN_OR_RETURN(RowProduct out, MakeOutput(backend, params, road));
  return std::unique_ptr<Kernel>(std::make_unique<TreeAttention>(backend, params, std::move(in), std::move(out)));
}

Result<std::unique_ptr<Kernel>> CreateCrossAttention(const OpDesc& desc, Road road) {
  TING_ASSIGN_OR_RETURN(const AttentionParams params, ParseCrossAttention(desc));
  CudaBackend& backend = BackendOf(desc);
  HostLinear q;
  AppendRows(q, params.q, params.folded ? 1.0F : 1.0F / std::sqrt(static_cast<float>(params.head_width())), {});
  TING_ASSIGN_OR_RETURN(RowProduct in, MakeProjection(backend, q, params.q.weight.data, params, road));
  TING_ASSIGN_OR_RETURN(RowProduct out, MakeOutput(backend, params, road, /*before_feed_forward=*/true));
  return std::unique_ptr<Kernel>(std::make_unique<CrossAttention>(backend, params, std::move(in), std::move(out)));
}

}  // namespace ting::cuda
