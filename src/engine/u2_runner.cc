// src/engine/u2_runner.cc
// SPDX-License-Identifier: Apache-2.0
#include "engine/u2_runner.h"

#include <algorithm>

#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "graph/join_graphs.h"
#include "passes/precision/store_decoder_memory.h"
#include "runtime/dispatch.h"

namespace ting {
namespace {

const char* SideName(DecoderSide side) { return side == DecoderSide::kLeft ? "left" : "right"; }

StepInput HostInput(const std::vector<int32_t>& values) {
  return {{const_cast<int32_t*>(values.data()), DType::kS32, {static_cast<int64_t>(values.size())}}, nullptr, true};
}

void AppendTree(const TreeRows& rows, std::vector<StepInput>& inputs) {
  for (const auto* values :
       {&rows.tokens, &rows.positions, &rows.slots, &rows.ancestor_offsets, &rows.ancestors, &rows.sequence}) {
    inputs.push_back(HostInput(*values));
  }
}

const std::string& OnlyOutput(const Graph& graph) { return graph.values[graph.outputs[0]].name; }

}  // namespace

Result<std::unique_ptr<U2Runner>> U2Runner::Create(const U2Model& model, Device& device, const RunnerOptions& options) {
  std::unique_ptr<U2Runner> runner(new U2Runner(model, device));
  runner->options_ = options;
  TING_ASSIGN_OR_RETURN(runner->stream_, device.CreateStream());
  runner->left_.layers = model.info.left_decoder_layers;
  runner->right_.layers = model.info.right_decoder_layers;
  TING_RETURN_IF_ERROR(runner->Find("encoder_ctc").status());  // a model that cannot run says so when it is loaded
  return runner;
}

// Keys and values are kept in the type in which the device's kernels read them.
Graph U2Runner::StoredForDevice(const Graph& graph) const {
  Graph stored = graph;
  StoreDecoderMemory(stored, device_.memory_type(model_.info.encoder_width / model_.info.attention_heads));
  return stored;
}

Result<Graph> U2Runner::GraphOf(const std::string& name) const {
  const auto part = [&](const std::string& graph) -> Result<Graph> {
    const auto it = model_.module.graphs.find(graph);
    if (it == model_.module.graphs.end()) return FailedPrecondition("the model has no graph {}", graph);
    return StoredForDevice(it->second);
  };
  if (name == "encoder_ctc") {
    TING_ASSIGN_OR_RETURN(const Graph encoder, part("encoder"));
    TING_ASSIGN_OR_RETURN(const Graph ctc, part("ctc"));
    return JoinGraphs(name, encoder, ctc, {{"hidden", OnlyOutput(encoder)}});
  }
  if (!name.starts_with("rescore_")) return part(name);
  const std::string side = name.substr(std::string_view("rescore_").size());
  TING_ASSIGN_OR_RETURN(const Graph cross, part("cross_" + side));
  TING_ASSIGN_OR_RETURN(const Graph decoder, part("decoder_" + side));
  TING_ASSIGN_OR_RETURN(const Graph score, part("score_" + side));
  TING_ASSIGN_OR_RETURN(const Graph hidden, JoinGraphs(name, cross, decoder, {{"cross", OnlyOutput(cross)}}));
  return JoinGraphs(name, hidden, score, {{"hidden", OnlyOutput(decoder)}});
}

Result<Executor*> U2Runner::Find(const std::string& graph) {
  if (const auto it = executors_.find(graph); it != executors_.end()) return it->second.get();
  TING_ASSIGN_OR_RETURN(const Graph found, GraphOf(graph));
  TING_ASSIGN_OR_RETURN(auto executor, Executor::Create(found, model_.module.weights, device_));
  if (options_.profile) executor->EnableProfile();
  if (options_.count_work) executor->EnableWorkCount();
  return (executors_[graph] = std::move(executor)).get();
}

StepInput U2Runner::FeaturesInput(const float* features, bool on_host, const RowSet& rows) const {
  return {{const_cast<float*>(features), DType::kF32, {rows.num_rows(), model_.info.num_mel_bins}}, &rows, on_host};
}

Status U2Runner::CreateAll() {
  for (const auto& [name, graph] : model_.module.graphs) TING_RETURN_IF_ERROR(Find(name).status());
  return Status();
}

Result<StepOutput> U2Runner::Encode(const float* features, bool on_host, const RowSet& rows,
                                    const StepOptions& options) {
  TING_ASSIGN_OR_RETURN(Executor * executor, Find("encoder"));
  const StepInput input = FeaturesInput(features, on_host, rows);
  TING_RETURN_IF_ERROR(executor->Run({&input, 1}, {}, options, *stream_, &outputs_));
  return outputs_[0];
}

Result<EncodedTopK> U2Runner::EncodeTopK(const float* features, bool on_host, const RowSet& rows, int k,
                                         const StepOptions& options) {
  TING_ASSIGN_OR_RETURN(Executor * executor, Find("encoder_ctc"));
  const StepInput input = FeaturesInput(features, on_host, rows);
  TING_RETURN_IF_ERROR(executor->Run({&input, 1}, {{"K", k}}, options, *stream_, &outputs_));
  return EncodedTopK{outputs_[0], {outputs_[1], outputs_[2]}};
}

Status U2Runner::FetchTopK(const TopKRows& top, const float** logp, const int32_t** ids) {
  StepOutput outputs[] = {top.logp, top.ids};
  TING_RETURN_IF_ERROR(Fetch(outputs));
  *logp = outputs[0].tensor.as<float>();
  *ids = outputs[1].tensor.as<int32_t>();
  return Status();
}

Result<TensorView> U2Runner::CtcLogProbs(const StepOutput& encoder, const StepOptions& options) {
  TING_ASSIGN_OR_RETURN(Executor * executor, Find("ctc_full"));
  const StepInput input{encoder.tensor, encoder.rows};
  TING_RETURN_IF_ERROR(executor->Run({&input, 1}, {}, options, *stream_, &outputs_));
  TING_RETURN_IF_ERROR(Fetch(outputs_));
  return outputs_[0].tensor;
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

void U2Runner::AppendPools(DecoderSide which, std::vector<StepInput>& inputs) const {
  const Side& side = SideOf(which);
  for (const auto& pool : side.pools) {
    inputs.push_back({{pool->data(), DType::kF32, {side.pool_rows, 2 * model_.info.encoder_width}}});
  }
}

Status U2Runner::QueueScore(DecoderSide side, const StepOutput& encoder, const TokenTree& tree) {
  TING_RETURN_IF_ERROR(EnsurePools(side, tree.rows.size()));
  TING_ASSIGN_OR_RETURN(Executor * executor, Find(std::string("rescore_") + SideName(side)));
  std::vector<StepInput> inputs{{encoder.tensor, encoder.rows}};
  AppendTree(tree.rows, inputs);
  AppendPools(side, inputs);
  inputs.push_back(HostInput(tree.target_rows));
  inputs.push_back(HostInput(tree.target_ids));
  TING_RETURN_IF_ERROR(executor->Run(inputs, {}, {}, *stream_, &outputs_));
  SideOf(side).scores = outputs_.back();
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

Status U2Runner::BeginSearch(const StepOutput& encoder, int64_t max_rows) {
  TING_ASSIGN_OR_RETURN(Executor * executor, Find("cross_left"));
  const StepInput input{encoder.tensor, encoder.rows};
  TING_RETURN_IF_ERROR(executor->Run({&input, 1}, {}, {}, *stream_, &outputs_));
  left_.cross = outputs_[0];
  return EnsurePools(DecoderSide::kLeft, max_rows);
}

Status U2Runner::Step(const StepRows& rows, int k, std::vector<float>* logp, std::vector<int32_t>* ids) {
  TING_ASSIGN_OR_RETURN(Executor * decoder, Find("decoder_left"));
  std::vector<StepInput> inputs;
  AppendTree(rows, inputs);
  inputs.push_back({left_.cross.tensor, left_.cross.rows});
  AppendPools(DecoderSide::kLeft, inputs);
  TING_RETURN_IF_ERROR(decoder->Run(inputs, {}, {}, *stream_, &outputs_));
  TING_ASSIGN_OR_RETURN(Executor * executor, Find("next_left"));
  const StepInput input{outputs_[0].tensor};
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

void U2Runner::EnableWorkCount() {
  options_.count_work = true;
  for (const auto& [name, executor] : executors_) executor->EnableWorkCount();
}

RunnerWork U2Runner::work() const {
  RunnerWork work;
  for (const auto& [name, executor] : executors_) {
    const bool encoder = name.starts_with("encoder") || name.starts_with("ctc");
    (encoder ? work.encoder : work.decoder) += executor->work();
  }
  return work;
}

Result<std::vector<NodeDispatch>> U2Runner::Dispatch() const {
  std::vector<NodeDispatch> dispatch;
  for (const auto& [name, graph] : model_.module.graphs) {
    TING_ASSIGN_OR_RETURN(auto choices, ExplainDispatch(StoredForDevice(graph), model_.module.weights, device_));
    for (NodeChoice& choice : choices) {
      dispatch.push_back({name, std::move(choice.node), std::move(choice.op), std::move(choice.implementation),
                          std::move(choice.refusals)});
    }
  }
  return dispatch;
}

}  // namespace ting
