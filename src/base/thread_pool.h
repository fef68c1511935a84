// src/base/thread_pool.h
// SPDX-License-Identifier: Apache-2.0
//
// A fork-join pool for the short parallel loops of one step: the caller works too, workers spin briefly
// before they sleep, and tasks are handed out one by one. A step has about a hundred such loops of 0.1-1 ms,
// so the join costs more than the queue; a general work-stealing pool was not needed.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace ting {

class ThreadPool {
 public:
  // `num_threads` counts the caller: 1 starts no thread. 0: one a core.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(task, thread) for task in [0, num_tasks); returns when all are done. `thread` is in
  // [0, num_threads()) and names scratch space that no other running task uses. Not reentrant; one caller
  // at a time. `body` must not throw.
  template <typename Body>
  void ParallelFor(int64_t num_tasks, Body&& body) {
    if (num_tasks <= 0) return;
    if (workers_.empty() || num_tasks == 1) {
      for (int64_t task = 0; task < num_tasks; ++task) body(task, 0);
      return;
    }
    using Callable = std::remove_reference_t<Body>;
    Dispatch(
        num_tasks, [](void* context, int64_t task, int thread) { (*static_cast<Callable*>(context))(task, thread); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Invoke = void (*)(void* context, int64_t task, int thread);
  void Dispatch(int64_t num_tasks, Invoke invoke, void* context);
  void Work(int thread);
  void RunTasks(int thread);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  Invoke invoke_ = nullptr;
  void* context_ = nullptr;
  int64_t num_tasks_ = 0;
  alignas(64) std::atomic<int64_t> next_task_{0};
  alignas(64) std::atomic<uint64_t> generation_{0};  // one more for each loop
  alignas(64) std::atomic<int> running_{0};          // workers that have not finished this loop
  std::atomic<int> sleeping_{0};
  bool stop_ = false;
};

}  // namespace ting
