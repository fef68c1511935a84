// src/kernels/ref/attention.cc
// SPDX-License-Identifier: Apache-2.0
//
// The four attentions: projections around AttendRow. Positions are computed anew in each call: a reference needs no
// table, and has no limit.
#include "kernels/attention.h"

#include <algorithm>

#include "kernels/ref/attention_row.h"
#include "kernels/ref/ref_call.h"
#include "kernels/ref/ref_math.h"
#include "kernels/ref/ref_ops.h"

namespace ting::ref {
namespace {

// Norm, q/k/v and output of an attention, whichever of them the node has.
class Projections {
 public:
  explicit Projections(const AttentionParams& params) : params_(params), o_(params.o) {
    if (params.packed) {
      qkv_ = Linear(params.qkv);
      return;
    }
    q_ = Linear(params.q);
    if (params.k.weight.present()) k_ = Linear(params.k), v_ = Linear(params.v);
  }
  const AttentionParams& params() const { return params_; }
  int64_t D() const { return params_.D; }
  int64_t ScratchSize() const { return o_.ScratchSize(); }  // all matrices read rows of width D

  // qkv [rows, 3D] of norm(x); `normed` [rows, D] is scratch.
  void Qkv(const float* x, int64_t rows, float* normed, float* qkv, double* scratch) const {
    const float* h = NormRows(params_.norm, x, rows, D(), normed);
    if (params_.packed) return qkv_.Apply(h, rows, qkv, scratch);
    q_.Apply(h, rows, qkv, 3 * D(), scratch);
    k_.Apply(h, rows, qkv + D(), 3 * D(), scratch);
    v_.Apply(h, rows, qkv + 2 * D(), 3 * D(), scratch);
  }
  void Query(const float* x, int64_t rows, float* normed, float* q, double* scratch) const {
    q_.Apply(NormRows(params_.norm, x, rows, D(), normed), rows, q, scratch);
  }
  // y = [x +] Wo context + bo
  void Output(const float* x, const float* context, int64_t rows, float* y, double* scratch) const {
    o_.Apply(context, rows, y, scratch);
    if (!params_.residual) return;
    for (int64_t i = 0; i < rows * D(); ++i) y[i] += x[i];
  }

 private:
  AttentionParams params_;
  Linear qkv_, q_, k_, v_, o_;
};

class SelfAttention : public RefKernel {
 public:
  SelfAttention(const OpDesc& desc, const AttentionParams& params) : RefKernel(desc), projections_(params) {
    if (params.relative) pos_ = Linear(params.pos);
  }

  size_t WorkspaceBytes(const KernelContext& context) const override {
    Workspace workspace(nullptr);
    Plan(RowsOf(context, 0), LongestSequence(RowSetOrNull(context, 0)), workspace);
    return workspace.bytes();
  }

  Status Run(const KernelContext& context) override {
    const int64_t D = projections_.D();
    TING_RETURN_IF_ERROR(CheckRowsToRows(context, D, D));
    TING_ASSIGN_OR_RETURN(const RowSet* sequences, RequireRowSet(context, 0));
    const int64_t rows = context.inputs[0].rows(), longest = LongestSequence(sequences);
    const float* x = context.inputs[0].as<float>();
    Workspace workspace(context.workspace);
    const Buffers buffers = Plan(rows, longest, workspace);
    projections_.Qkv(x, rows, buffers.normed, buffers.qkv, buffers.scratch);
    if (projections_.params().relative) {
      for (int64_t p = 0; p < longest; ++p) PositionRow(p, D, buffers.table + p * D);
      pos_.Apply(buffers.table, longest, buffers.positions, buffers.scratch);
    }
    for (int b = 0; b < sequences->num_sequences(); ++b) {
      AttendSequence(OptionsOf(context), sequences->begin(b), sequences->length(b), buffers);
    }
    projections_.Output(x, buffers.context, rows, context.outputs[0].as<float>(), buffers.scratch);
    return Status();
  }

 private:
  struct Buffers {
    float *normed, *qkv, *context;  // [rows, D], [rows, 3D], [rows, D]
    float *table, *positions;       // PE and P [longest, D], relative only
    double *scores, *scratch;       // [longest]
  };
  Buffers Plan(int64_t rows, int64_t longest, Workspace& workspace) const {
    const int64_t D = projections_.D();
    const int64_t num_positions = projections_.params().relative ? longest : 0;
    Buffers buffers;
    buffers.normed = workspace.Take<float>(rows * D);
    buffers.qkv = workspace.Take<float>(rows * 3 * D);
    buffers.context = workspace.Take<float>(rows * D);
    buffers.table = workspace.Take<float>(num_positions * D);
    buffers.positions = workspace.Take<float>(num_positions * D);
    buffers.scores = workspace.Take<double>(longest);
    buffers.scratch = workspace.Take<double>(projections_.ScratchSize());
    return buffers;
  }

  void AttendSequence(const StepOptions& options, int64_t begin, int64_t T, const Buffers& buffers) const {
    const int64_t D = projections_.D();
    for (int64_t i = 0; i < T; ++i) {
      const KeyRange range = VisibleKeys(options, i, T);
      const float* first_key = buffers.qkv + (begin + range.first) * 3 * D;
      KeyRows keys{first_key + D, first_key + 2 * D, 3 * D};
      keys.positions = buffers.positions + (projections_.params().relative ? range.first * D : 0);
      keys.count = range.last - range.first;
      AttendRow(projections_.params(), buffers.qkv + (begin + i) * 3 * D, keys, buffers.scores,
                buffers.context + (begin + i) * D);
    }
  }

  Projections projections_;
  Linear pos_;
};

class TreeAttention : public RefKernel {
 public:
  TreeAttention(const OpDesc& desc, const AttentionParams& params) : RefKernel(desc), projections_(params) {}

  size_t WorkspaceBytes(const KernelContext& context) const override {
    Workspace workspace(nullptr);
    Plan(RowsOf(context, 0), RowsOf(context, 3), workspace);
    return workspace.bytes();
  }

  Status Run(const KernelContext& context) override {
    TING_RETURN_IF_ERROR(Check(context));
    const int64_t D = projections_.D(), U = context.inputs[0].rows();
    const float* x = context.inputs[0].as<float>();
    const auto* slots = context.inputs[1].as<int32_t>();
    const auto* offsets = context.inputs[2].as<int32_t>();
    float* pool = context.inputs[4].as<float>();
    Workspace workspace(context.workspace);
    const Buffers buffers = Plan(U, context.inputs[3].rows(), workspace);
    projections_.Qkv(x, U, buffers.normed, buffers.qkv, buffers.scratch);
    for (int64_t r = 0; r < U; ++r) std::copy_n(buffers.qkv + r * 3 * D + D, 2 * D, pool + slots[r] * (2 * D));
    for (int64_t r = 0; r < U; ++r) {
      KeyRows keys{pool, pool + D, 2 * D};
      keys.index = context.inputs[3].as<int32_t>() + offsets[r];
      keys.count = offsets[r + 1] - offsets[r];
      AttendRow(projections_.params(), buffers.qkv + r * 3 * D, keys, buffers.scores, buffers.context + r * D);
    }
    projections_.Output(x, buffers.context, U, context.outputs[0].as<float>(), buffers.scratch);
    return Status();
  }

 private:
  struct Buffers {
    float *normed, *qkv, *context;  // [U, D], [U, 3D], [U, D]
    double *scores, *scratch;       // [A]
  };
  Buffers Plan(int64_t U, int64_t A, Workspace& workspace) const {
    const int64_t D = projections_.D();
    Buffers buffers;
    buffers.normed = workspace.Take<float>(U * D);
    buffers.qkv = workspace.Take<float>(U * 3 * D);
    buffers.context = workspace.Take<float>(U * D);
    buffers.scores = workspace.Take<double>(A);
    buffers.scratch = workspace.Take<double>(projections_.ScratchSize());
    return buffers;
  }

  Status Check(const KernelContext& context) const {
    const int64_t D = projections_.D();
    TING_RETURN_IF_ERROR(CheckCounts(context, 5, 1));
    TING_RETURN_IF_ERROR(CheckInput(context, 0, DType::kF32, {-1, D}));
    const int64_t U = context.inputs[0].rows();
    TING_RETURN_IF_ERROR(CheckInput(context, 1, DType::kS32, {U}));
    TING_RETURN_IF_ERROR(CheckInput(context, 2, DType::kS32, {U + 1}));
    TING_RETURN_IF_ERROR(CheckInput(context, 3, DType::kS32, {-1}));
    TING_RETURN_IF_ERROR(CheckInput(context, 4, DType::kF32, {-1, 2 * D}));
    TING_RETURN_IF_ERROR(CheckOutput(context, 0, DType::kF32, {U, D}));
    return CheckTree(context, U, context.inputs[3].rows(), context.inputs[4].rows());
  }

  Status CheckTree(const KernelContext& context, int64_t U, int64_t A, int64_t P) const {
    const auto* slots = context.inputs[1].as<int32_t>();
    const auto* offsets = context.inputs[2].as<int32_t>();
    const auto* ancestors = context.inputs[3].as<int32_t>();
    for (int64_t r = 0; r < U; ++r) {
      if (slots[r] < 0 || slots[r] >= P) {
        return InvalidArgument("{}: slot {} of row {} is outside the pool's [0, {})", where(), slots[r], r, P);
      }
      if (offsets[r] < 0 || offsets[r] > offsets[r + 1] || offsets[r + 1] > A) {
        return InvalidArgument("{}: ancestors [{}, {}) of row {} are no range of the {} given", where(), offsets[r],
                               offsets[r + 1], r, A);
      }
    }
    for (int64_t a = 0; a < A; ++a) {
      if (ancestors[a] < 0 || ancestors[a] >= P) {
        return InvalidArgument("{}: ancestor {} is outside the pool's [0, {})", where(), ancestors[a], P);
      }
    }
    return Status();
  }

  Projections projections_;
};

class CrossAttention : public RefKernel {
 public:
  CrossAttention(const OpDesc& desc, const AttentionParams& params) : RefKernel(desc), projections_(params) {}

  size_t WorkspaceBytes(const KernelContext& context) const override {
    Workspace workspace(nullptr);
    Plan(RowsOf(context, 0), LongestSequence(RowSetOrNull(context, 1)), workspace);
    return workspace.bytes();
  }

  Status Run(const KernelContext& context) override {
    TING_RETURN_IF_ERROR(Check(context));
    TING_ASSIGN_OR_RETURN(const RowSet* memory_rows, RequireRowSet(context, 1));
    const auto* sequence = context.inputs[2].as<int32_t>();
    const int64_t D = projections_.D(), U = context.inputs[0].rows(), M = context.inputs[1].shape[1];
    TING_RETURN_IF_ERROR(CheckSequences(sequence, U, memory_rows->num_sequences()));
    const float* x = context.inputs[0].as<float>();
    const float* k = context.inputs[1].as<float>() + projections_.params().key_column;
    Workspace workspace(context.workspace);
    const Buffers buffers = Plan(U, LongestSequence(memory_rows), workspace);
    projections_.Query(x, U, buffers.normed, buffers.q, buffers.scratch);
    for (int64_t r = 0; r < U; ++r) {
      const float* first_key = k + memory_rows->begin(sequence[r]) * M;
      KeyRows keys{first_key, first_key + D, M};
      keys.count = memory_rows->length(sequence[r]);
      AttendRow(projections_.params(), buffers.q + r * D, keys, buffers.scores, buffers.context + r * D);
    }
    projections_.Output(x, buffers.context, U, context.outputs[0].as<float>(), buffers.scratch);
    return Status();
  }

 private:
  struct Buffers {
    float *normed, *q, *context;  // [U, D]
    double *scores, *scratch;     // [longest]
  };
  Buffers Plan(int64_t U, int64_t longest, Workspace& workspace) const {
    const int64_t D = projections_.D();
    Buffers buffers;
    buffers.normed = workspace.Take<float>(U * D);
    buffers.q = workspace.Take<float>(U * D);
    buffers.context = workspace.Take<float>(U * D);
    buffers.scores = workspace.Take<double>(longest);
    buffers.scratch = workspace.Take<double>(projections_.ScratchSize());
    return buffers;
  }

  Status Check(const KernelContext& context) const {
    const int64_t D = projections_.D(), last_column = projections_.params().key_column + 2 * D;
    TING_RETURN_IF_ERROR(CheckCounts(context, 3, 1));
    TING_RETURN_IF_ERROR(CheckInput(context, 0, DType::kF32, {-1, D}));
    const int64_t U = context.inputs[0].rows();
    TING_RETURN_IF_ERROR(CheckInput(context, 1, DType::kF32, {-1, -1}));
    TING_RETURN_IF_ERROR(CheckInput(context, 2, DType::kS32, {U}));
    TING_RETURN_IF_ERROR(CheckOutput(context, 0, DType::kF32, {U, D}));
    if (context.inputs[1].shape[1] >= last_column) return Status();
    return InvalidArgument("{}: input 1 is {}, but key_column = {} needs {} columns", where(),
                           context.inputs[1].shape.ToString(), projections_.params().key_column, last_column);
  }

  Status CheckSequences(const int32_t* sequence, int64_t U, int num_sequences) const {
    for (int64_t r = 0; r < U; ++r) {
      if (sequence[r] >= 0 && sequence[r] < num_sequences) continue;
      return InvalidArgument("{}: sequence {} of row {} is outside [0, {})", where(), sequence[r], r, num_sequences);
    }
    return Status();
  }

  Projections projections_;
};

}  // namespace

Result<std::unique_ptr<Kernel>> MakeSelfAttention(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const AttentionParams params, ParseSelfAttention(desc));
  return std::unique_ptr<Kernel>(new SelfAttention(desc, params));
}

Result<std::unique_ptr<Kernel>> MakeTreeAttention(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const AttentionParams params, ParseTreeAttention(desc));
  return std::unique_ptr<Kernel>(new TreeAttention(desc, params));
}

Result<std::unique_ptr<Kernel>> MakeCrossAttention(const OpDesc& desc) {
  TING_ASSIGN_OR_RETURN(const AttentionParams params, ParseCrossAttention(desc));
  return std::unique_ptr<Kernel>(new CrossAttention(desc, params));
}

}  // namespace ting::ref
