// src/engine/u2_runner.cc
// SPDX-License-Identifier: Apache-2.0
#include "engine/u2_runner.h"

#include <algorithm>

#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "passes/precision/store_decoder_memory.h"

namespace ting {
namespace {

const char* SideName(DecoderSide side) { return side == DecoderSide::kLeft ? "left" : "right"; }

StepInput HostInput(const std::vector<int32_t>& values) {
  return {{const_cast<int32_t*>(values.data()), DType::kS32, {static_cast<int64_t>(values.size())}}, nullptr, true};
}

}  // namespace

Result<std::unique_ptr<U2Runner>> U2Runner::Create(const U2Model& model, Device& device, bool profile) {
  std::unique_ptr<U2Runner> runner(new U2Runner(model, device));
  runner->profile_ = profile;
  TING_ASSIGN_OR_RETURN(runner->stream_, device.CreateStream());
  runner->left_.layers = model.info.left_decoder_layers;
  runner->right_.layers = model.info.right_decoder_layers;
  TING_RETURN_IF_ERROR(runner->Find("encoder").status());  // a model that cannot run says so when it is loaded
  TING_RETURN_IF_ERROR(runner->Find("ctc").status());
  return runner;
}

Result<Executor*> U2Runner::Find(const std::string& graph) {
  if (const auto it = executors_.find(graph); it != executors_.end()) return it->second.get();
  const auto it = model_.module.graphs.find(graph);
  if (it == model_.module.graphs.end()) return FailedPrecondition("the model has no graph {}", graph);
  Graph stored = it->second;
  StoreDecoderMemory(stored, device_.memory_type(model_.info.encoder_width / model_.info.attention_heads));
  TING_ASSIGN_OR_RETURN(auto executor, Executor::Create(stored, model_.module.weights, device_));
  if (profile_) executor->EnableProfile();
  return (executors_[graph] = std::move(executor)).get();
}

Result<StepOutput> U2Runner::Encode(const float* features, bool on_host, const RowSet& rows,
                                    const StepOptions& options) {
  TING_ASSIGN_OR_RETURN(Executor * executor, Find("encoder"));
  const StepInput input{
      {const_cast<float*>(features), DType::kF32, {rows.num_rows(), model_.info.num_mel_bins}}, &rows, on_host};
  TING_RETURN_IF_ERROR(executor->Run({&input, 1}, {}, options, *stream_, &outputs_));
  return outputs_[0];
}

Result<TopKRows> U2Runner::CtcTopK(const StepOutput& encoder, int k, const StepOptions& options) {
  TING_ASSIGN_OR_RETURN(Executor * executor, Find("ctc"));
  const StepInput input{encoder.tensor, encoder.rows};
  TING_RETURN_IF_ERROR(executor->Run({&input, 1}, {{"K", k}}, options, *stream_, &outputs_));
  return TopKRows{outputs_[0], outputs_[1]};
}

Status U2Runner::CtcTopK(const StepOutput& encoder, int k, const StepOptions& options, const float** logp,
                         const int32_t** ids) {
  TING_RETURN_IF_ERROR(CtcTopK(encoder, k, options).status());
  TING_RETURN_IF_ERROR(Fetch(outputs_));
  *logp = outputs_[0].tensor.as<float>();
  *ids = outputs_[1].tensor.as<int32_t>();
  return Status();
}

Result<TensorView> U2Runner::CtcLogProbs(const StepOutput& encoder, const StepOptions& options) {
  TING_ASSIGN_OR_RETURN(Executor * executor, Find("ctc_full"));
  const StepInput input{encoder.tensor, encoder.rows};
  TING_RETURN_IF_ERROR(executor->Run({&input, 1}, {}, options, *stream_, &outputs_));
  TING_RETURN_IF_ERROR(Fetch(outputs_));
  return outputs_[0].tensor;
}

Status U2Runner::PrepareDecoder(DecoderSide side, const StepOutput& encoder) {
  TING_ASSIGN_OR_RETURN(Executor * executor, Find(std::string("cross_") + SideName(side)));
  const StepInput input{encoder.tensor, encoder.rows};
  TING_RETURN_IF_ERROR(executor->Run({&input, 1}, {}, {}, *stream_, &outputs_));
  SideOf(side).cross = outputs_[0];
  return Status();
}

Status U2Runner::EnsurePools(DecoderSide which, int64_t rows) {
  Side& side = SideOf(which);
  rows = device_.PadRows(rows);
  const size_t bytes = static_cast<size_t>(rows) * 2 * model_.info.encoder_width * sizeof(float);
  side.pools.resize(side.layers);
  for (auto& pool : side.pools) {
    if (pool && pool->size() >= bytes) continue;
    pool.reset();
    TING_ASSIGN_OR_RETURN(pool, device_.Allocate(bytes + bytes / 4));  // growing makes a GPU wait, and record anew
  }
  side.pool_rows = rows;
  return Status();
}

Result<StepOutput> U2Runner::Decode(DecoderSide which, const TreeRows& rows) {
  Side& side = SideOf(which);
  TING_ASSIGN_OR_RETURN(Executor * executor, Find(std::string("decoder_") + SideName(which)));
  std::vector<StepInput> inputs{HostInput(rows.tokens),
                                HostInput(rows.positions),
                                HostInput(rows.slots),
                                HostInput(rows.ancestor_offsets),
                                HostInput(rows.ancestors),
                                HostInput(rows.sequence),
                                {side.cross.tensor, side.cross.rows}};
  for (const auto& pool : side.pools) {
    inputs.push_back({{pool->data(), DType::kF32, {side.pool_rows, 2 * model_.info.encoder_width}}});
  }
  TING_RETURN_IF_ERROR(executor->Run(inputs, {}, {}, *stream_, &outputs_));
  return outputs_[0];
}

Status U2Runner::QueueScore(DecoderSide side, const TokenTree& tree) {
  TING_RETURN_IF_ERROR(EnsurePools(side, tree.rows.size()));
  TING_ASSIGN_OR_RETURN(const StepOutput hidden, Decode(side, tree.rows));
  TING_ASSIGN_OR_RETURN(Executor * executor, Find(std::string("score_") + SideName(side)));
  const StepInput inputs[] = {{hidden.tensor}, HostInput(tree.target_rows), HostInput(tree.target_ids)};
  TING_RETURN_IF_ERROR(executor->Run(inputs, {}, {}, *stream_, &outputs_));
  SideOf(side).scores = outputs_[0];
  return Status();
}

Result<std::vector<std::vector<float>>> U2Runner::FetchScores(std::span<const DecoderSide> sides) {
  std::vector<StepOutput> outputs;
  for (const DecoderSide side : sides) outputs.push_back(SideOf(side).scores);
  TING_RETURN_IF_ERROR(Fetch(outputs));
  std::vector<std::vector<float>> scores;
  for (const StepOutput& output : outputs) {
    const float* logp = output.tensor.as<float>();
    scores.emplace_back(logp, logp + output.tensor.num_elements());
  }
  return scores;
}

Status U2Runner::BeginSearch(int64_t max_rows) { return EnsurePools(DecoderSide::kLeft, max_rows); }

Status U2Runner::Step(const StepRows& rows, int k, std::vector<float>* logp, std::vector<int32_t>* ids) {
  TING_ASSIGN_OR_RETURN(const StepOutput hidden, Decode(DecoderSide::kLeft, rows));
  TING_ASSIGN_OR_RETURN(Executor * executor, Find("next_left"));
  const StepInput input{hidden.tensor};
  TING_RETURN_IF_ERROR(executor->Run({&input, 1}, {{"K", k}}, {}, *stream_, &outputs_));
  TING_RETURN_IF_ERROR(Fetch(outputs_));
  logp->assign(outputs_[0].tensor.as<float>(), outputs_[0].tensor.as<float>() + outputs_[0].tensor.num_elements());
  ids->assign(outputs_[1].tensor.as<int32_t>(), outputs_[1].tensor.as<int32_t>() + outputs_[1].tensor.num_elements());
  return Status();
}

Status U2Runner::Fetch(std::span<StepOutput> outputs) {
  if (device_.uses_host_memory()) return Status();
  size_t bytes = 0;
  for (const StepOutput& output : outputs) bytes += AlignUp(output.tensor.bytes());
  if (!fetched_ || fetched_->size() < bytes) {
    TING_ASSIGN_OR_RETURN(fetched_, device_.AllocateHost(bytes + bytes / 4));
  }
  std::byte* at = fetched_->data();
  for (StepOutput& output : outputs) {
    TING_RETURN_IF_ERROR(stream_->CopyToHost(at, output.tensor.data, output.tensor.bytes()));
    output.tensor.data = at;
    at += AlignUp(output.tensor.bytes());
  }
  return stream_->Synchronize();
}

Status U2Runner::ReleaseMemory() {
  TING_RETURN_IF_ERROR(stream_->Synchronize());
  for (auto& [name, executor] : executors_) executor->ReleaseMemory();
  for (Side* side : {&left_, &right_}) {
    side->cross = side->scores = {};
    side->pools.clear();
    side->pool_rows = 0;
  }
  return Status();
}

std::vector<NodeProfile> U2Runner::Profile() const {
  std::vector<NodeProfile> profile;
  for (const auto& [name, executor] : executors_) {
    for (const NodeTime& time : executor->Profile()) {
      profile.push_back({name, time.node, time.op, time.implementation, time.calls, time.total_ms});
    }
  }
  return profile;
}

}  // namespace ting
