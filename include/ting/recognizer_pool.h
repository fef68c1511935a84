// include/ting/recognizer_pool.h
// SPDX-License-Identifier: Apache-2.0
//
// RecognizerPool: recognisers of one model, on one device or on several, that take batches from one queue.
//
//   auto pool = ting::RecognizerPool::Load("model.ting", {.device = "cuda:all"}, {});
//   auto first = (*pool)->Submit(batches[0], {});  // batches stay where they are until their answers are there
//   auto second = (*pool)->Submit(batches[1], {});
//   std::puts(first.get().results[0].nbest[0].text.c_str());
//
// A lane is a recogniser with a thread of its own, which takes the next batch when it is free. The lanes of a GPU share
// its copy of the weights; while one waits for its search or packs audio, the others keep the GPU busy.
// A device that is lost (status kUnavailable) takes no further batches, and what its lanes had is done again by the
// others, so that no batch is lost with it. Only when the last device is gone, or three went while they had the same
// batch, is the status the batch's own. CUDA gives up all GPUs of a process with the first fatal error on one of them:
// what outlives a GPU is a lane on the CPU, or another process.
// What does not fit into a device's memory is halved by the recogniser.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <future>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "ting/options.h"
#include "ting/recognizer.h"
#include "ting/result.h"
#include "ting/status.h"

namespace ting {

struct PoolOptions {
  // Of each device. 0: eight on a GPU; on the CPU one a thread, but 16 at most, since each needs memory of its own.
  int lanes = 0;
  // How many batches will come, at most. On the CPU there are no more lanes than that, and each has more threads.
  size_t max_batches = std::numeric_limits<size_t>::max();
};

// A batch is closed before it would hold more; a longer recording is a batch of its own.
struct BatchLimits {
  // Of audio, in all. A GPU takes as long for anything that its tiles hold at once: an H100 or H200 8,448 encoder
  // frames of 40 ms in its fastest form. And the memory for attention grows with the square of the length.
  static constexpr double kDefaultSeconds = 335;

  int recordings = 8;
  double seconds = std::numeric_limits<double>::infinity();
};
// `audio` in its order, in parts that a recogniser may take at once.
std::vector<std::span<const Audio>> CutBatches(std::span<const Audio> audio, const BatchLimits& limits);

struct RecognizedBatch {
  std::vector<RecognitionResult> results;  // results[i] belongs to the batch's recording i
  StageTimes stages;
  double wall_ms = 0;      // of the call that recognised it
  bool cancelled = false;  // no lane had begun it; every result says so
};

class RecognizerPool {
 public:
  struct Lane {
    std::unique_ptr<Recognizer> recognizer;
    std::string device;   // lanes of the same name are lost together
    int num_threads = 1;  // that the recogniser computes with
  };

  // `options.device` may name several GPUs: "cuda:0,1", or "cuda:all". The model is read once for all of them.
  // `options.num_threads` is what all lanes on the CPU have together, each its share and one at least; it is of each
  // lane on a GPU.
  static Result<std::unique_ptr<RecognizerPool>> Load(const std::string& path, const RecognizerOptions& options,
                                                      const PoolOptions& pool);
  // Of recognisers that exist: one at least, of the same model.
  explicit RecognizerPool(std::vector<Lane> lanes);
  // Cancels what waits and finishes what runs.
  ~RecognizerPool();
  RecognizerPool(const RecognizerPool&) = delete;
  RecognizerPool& operator=(const RecognizerPool&) = delete;

  const ModelInfo& info() const { return lanes_[0].recognizer->info(); }
  int num_lanes() const { return static_cast<int>(lanes_.size()); }
  int num_devices() const { return static_cast<int>(num_devices_); }
  int num_threads() const;  // of all lanes together
  // Batches that can be under way: one in each lane, and one that waits for it.
  int capacity() const { return 2 * num_lanes(); }

  // Queues a batch, which must stay where it is until its answer is there. Waits while as many batches as there are
  // lanes have not been begun. Any number of threads may call; batches are begun in the order of the calls.
  std::future<RecognizedBatch> Submit(std::span<const Audio> batch, const DecodeOptions& options);
  // Answers what no lane has begun with `cancelled`.
  void CancelWaiting();

  // All of `audio` in batches, in their order.
  std::vector<RecognizedBatch> RecognizeAll(std::span<const Audio> audio, const BatchLimits& limits,
                                            const DecodeOptions& options);

  // Another pool of as many lanes on the same devices; it shares the weights.
  Result<std::unique_ptr<RecognizerPool>> Clone() const;

  // Why each device that was lost was, in the order in which they went.
  std::vector<Status> Losses() const;
  // Of all lanes together; call it while no batch is under way.
  std::vector<NodeProfile> Profile() const;
  // Of one lane: they are alike.
  Result<std::vector<NodeDispatch>> Dispatch() const { return lanes_[0].recognizer->Dispatch(); }

 private:
  struct Job {
    std::span<const Audio> batch;
    DecodeOptions options;
    std::promise<RecognizedBatch> answer;
    int losses = 0;  // devices that went while they had it
  };

  void Work(Lane& lane);
  bool IsLost(const Lane& lane) const { return lost_.contains(lane.device); }
  void Lose(const Lane& lane, const Status& why);
  void PutBack(Job job, RecognizedBatch failed);
  void AnswerWaiting(const Status& status);

  std::vector<Lane> lanes_;
  size_t num_devices_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable work_, room_;
  std::deque<Job> waiting_;
  std::map<std::string, Status> lost_;  // by device
  std::vector<Status> losses_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace ting
