// tests/kernels/tuning_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/tuning.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace ting {
namespace {

const TuningProduct kProduct{"row_gemm", "f16", 768, 256, "norm half"};

TEST(TuningTable, FindsARecordByProductAndRows) {
  TuningTable table;
  EXPECT_FALSE(table.Find(kProduct, 128));
  table.Put({kProduct, 128, {{"tile_n", 64}}, 3.5, 4});
  ASSERT_TRUE(table.Find(kProduct, 128));
  EXPECT_EQ(table.Find(kProduct, 128)->at("tile_n"), 64);
  EXPECT_FALSE(table.Find(kProduct, 160));
  for (TuningProduct other : {TuningProduct{"cublaslt", "f16", 768, 256, "norm half"},
                              {"row_gemm", "bf16", 768, 256, "norm half"},
                              {"row_gemm", "f16", 769, 256, "norm half"},
                              {"row_gemm", "f16", 768, 512, "norm half"},
                              {"row_gemm", "f16", 768, 256, "half"}}) {
    EXPECT_FALSE(table.Find(other, 128)) << other.ToString();
  }
  table.Put({kProduct, 128, {{"tile_n", 128}}, 3, 4});
  EXPECT_EQ(table.Find(kProduct, 128)->at("tile_n"), 128);
  EXPECT_EQ(table.Records().size(), 1U);
  table.Clear();
  EXPECT_FALSE(table.Find(kProduct, 128));
}

TEST(TuningTable, TellsOnceOfWhatItIgnores) {
  TuningTable table;
  std::vector<std::string> notes;
  table.SetNote([&](const std::string& note) { notes.push_back(note); });
  table.Put({kProduct, 128, {{"tile_n", 48}}, 3, 4});
  table.Put({kProduct, 256, {{"tile_n", 64}}, 3, 4});
  table.Ignore(kProduct, 128, "no kernel of 48 columns");
  table.Ignore(kProduct, 128, "no kernel of 48 columns");
  EXPECT_FALSE(table.Find(kProduct, 128));
  EXPECT_TRUE(table.Find(kProduct, 256));
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_EQ(notes[0],
            "the tuning record of row_gemm f16 [768, 256] norm half for 128 rows is ignored: no kernel of 48 columns");
  TuningTable silent;
  silent.Put({kProduct, 128, {}, 0, 0});
  silent.Ignore(kProduct, 128, "nobody listens");
  EXPECT_TRUE(silent.Records().empty());
}

TEST(TuningTable, ServesThreadsAtOnce) {
  TuningTable table;
  std::atomic<int> notes = 0;
  table.SetNote([&](const std::string&) { ++notes; });
  for (int64_t rows = 0; rows < 100; ++rows) table.Put({kProduct, rows, {{"tile_n", rows}}, 1, 1});
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int64_t rows = 0; rows < 100; ++rows) {
        if (rows % 3 == 0) table.Ignore(kProduct, rows, "every third");
        const auto found = table.Find(kProduct, rows);
        if (found && found->at("tile_n") != rows) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(notes, 34);
  EXPECT_EQ(table.Records().size(), 66U);
}

TEST(TuningConfig, ValuesMustBeThereAndInRange) {
  const TuningConfig config{{"split", 4}, {"huge", int64_t{1} << 40}, {"less", -1}};
  EXPECT_EQ(ConfigValue(config, "split", 1, 16), 4);
  EXPECT_EQ(ConfigValue(config, "split", 4, 4), 4);
  EXPECT_FALSE(ConfigValue(config, "split", 5, 16));
  EXPECT_FALSE(ConfigValue(config, "split", 1, 3));
  EXPECT_FALSE(ConfigValue(config, "share", 1, 16));
  EXPECT_FALSE(ConfigValue(config, "huge", 1, 1 << 30));
  EXPECT_FALSE(ConfigValue(config, "less", 0, 16));
}

}  // namespace
}  // namespace ting
