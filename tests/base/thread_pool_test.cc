// tests/base/thread_pool_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>

namespace ting {
namespace {

class ThreadPoolTest : public ::testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, EveryTaskRunsOnceWithAThreadNumberInRange) {
  ThreadPool pool(GetParam());
  ASSERT_EQ(pool.num_threads(), GetParam());
  for (const int64_t num_tasks : {0, 1, 2, 3, 7, 64, 1000}) {
    std::vector<std::atomic<int>> runs(num_tasks);
    std::atomic<int> out_of_range = 0;
    pool.ParallelFor(num_tasks, [&](int64_t task, int thread) {
      ++runs[task];
      if (thread < 0 || thread >= pool.num_threads()) ++out_of_range;
    });
    for (int64_t i = 0; i < num_tasks; ++i) ASSERT_EQ(runs[i], 1) << "task " << i << " of " << num_tasks;
    EXPECT_EQ(out_of_range, 0);
  }
}

TEST_P(ThreadPoolTest, TheThreadNumberNamesScratchThatNobodyElseUses) {
  ThreadPool pool(GetParam());
  std::vector<std::atomic<int>> users(GetParam());
  std::atomic<int> collisions = 0;
  pool.ParallelFor(500, [&](int64_t, int thread) {
    if (++users[thread] != 1) ++collisions;
    std::this_thread::yield();
    --users[thread];
  });
  EXPECT_EQ(collisions, 0);
}

// Loops that follow each other closely, and loops after the workers have gone to sleep: both hand-over paths. The
// sums are plain memory, so this also shows (and thread sanitizer checks) that a loop's writes are seen after it.
TEST_P(ThreadPoolTest, ManyShortLoopsWithAndWithoutPauses) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> values(16);
  for (int loop = 0; loop < 2000; ++loop) {
    pool.ParallelFor(16, [&](int64_t task, int) { values[task] += task + loop; });
    if (loop % 200 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const int64_t sum_of_loops = 2000 * 1999 / 2;
  for (int64_t task = 0; task < 16; ++task) EXPECT_EQ(values[task], 2000 * task + sum_of_loops);
}

TEST_P(ThreadPoolTest, UnevenTasksAreAllDoneOnReturn) {
  ThreadPool pool(GetParam());
  std::atomic<int> done = 0;
  pool.ParallelFor(9, [&](int64_t task, int) {
    std::this_thread::sleep_for(std::chrono::milliseconds(task == 0 ? 20 : 1));
    ++done;
  });
  EXPECT_EQ(done, 9);
}

TEST_P(ThreadPoolTest, CanBeDestroyedAwakeAsleepAndUnused) {
  { ThreadPool unused(GetParam()); }
  {
    ThreadPool awake(GetParam());
    awake.ParallelFor(4, [](int64_t, int) {});
  }
  ThreadPool asleep(GetParam());
  asleep.ParallelFor(4, [](int64_t, int) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, ::testing::Values(1, 2, 3, 8));

TEST(ThreadPool, ZeroMeansOneACore) {
  const ThreadPool pool(0);
  EXPECT_EQ(pool.num_threads(), static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
}

// With more tasks than one, and tasks that wait for each other, two threads must really run at the same time.
TEST(ThreadPool, TasksRunAtTheSameTime) {
  ThreadPool pool(2);
  std::atomic<int> arrived = 0;
  pool.ParallelFor(2, [&](int64_t, int) {
    ++arrived;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (arrived != 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  });
  EXPECT_EQ(arrived, 2);
}

}  // namespace
}  // namespace ting
