// src/base/thread_pool.cc
// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <algorithm>
#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ting {
namespace {

// How long a worker waits awake for the next loop. Loops of one step follow each other within a few
// microseconds; a worker that slept would cost a wake-up of 30-60 us each time.
constexpr auto kSpin = std::chrono::microseconds(100);

void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  if (num_threads <= 0) num_threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  workers_.reserve(num_threads - 1);
  for (int thread = 1; thread < num_threads; ++thread) workers_.emplace_back([this, thread] { Work(thread); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    generation_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::Dispatch(int64_t num_tasks, Invoke invoke, void* context) {
  invoke_ = invoke;
  context_ = context;
  num_tasks_ = num_tasks;
  next_task_.store(0, std::memory_order_relaxed);
  running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  // seq_cst on both sides: either a worker that goes to sleep sees the new generation, or this thread sees
  // that it sleeps and wakes it.
  generation_.fetch_add(1, std::memory_order_seq_cst);
  if (sleeping_.load(std::memory_order_seq_cst) > 0) {
    { std::lock_guard lock(mutex_); }
    wake_.notify_all();
  }
  RunTasks(0);
  while (running_.load(std::memory_order_acquire) != 0) Pause();
}

void ThreadPool::RunTasks(int thread) {
  for (;;) {
    const int64_t task = next_task_.fetch_add(1, std::memory_order_relaxed);
    if (task >= num_tasks_) return;
    invoke_(context_, task, thread);
  }
}

void ThreadPool::Work(int thread) {
  uint64_t seen = 0;
  for (;;) {
    const auto deadline = std::chrono::steady_clock::now() + kSpin;
    bool ready = false;
    while (!ready && std::chrono::steady_clock::now() < deadline) {
      for (int i = 0; i < 32 && !ready; ++i) {
        ready = generation_.load(std::memory_order_acquire) != seen;
        if (!ready) Pause();
      }
    }
    if (!ready) {
      std::unique_lock lock(mutex_);
      sleeping_.fetch_add(1, std::memory_order_seq_cst);
      wake_.wait(lock, [&] { return generation_.load(std::memory_order_seq_cst) != seen; });
      sleeping_.fetch_sub(1, std::memory_order_relaxed);
    }
    seen = generation_.load(std::memory_order_acquire);
    if (stop_) return;
    RunTasks(thread);
    running_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace ting
