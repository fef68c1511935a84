// tests/kernels/cuda/host_copy_test.cc
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/host_copy.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/gpu_test.h"

namespace ting::cuda {
namespace {

// The host writes the same pinned place anew for every step: a copy must see the newest values, at every size.
TEST(CopyFromPinned, BringsWhatTheHostWroteLast) {
  TING_SKIP_WITHOUT_GPU();
  void* memory = nullptr;
  EXPECT_CUDA(cudaMallocHost(&memory, kMostHostCopyBytes));
  auto* pinned = static_cast<int32_t*>(memory);
  int32_t first = 1;
  for (const size_t bytes :
       {size_t{16}, size_t{64}, size_t{2032}, size_t{2048}, size_t{2064}, size_t{10368}, kMostHostCopyBytes}) {
    const size_t count = bytes / 4;
    const DeviceArray<int32_t> device(count);
    for (int step = 0; step < 3; ++step, first += 1000) {
      std::iota(pinned, pinned + count, first);
      EXPECT_OK(CopyFromPinned(device.data(), pinned, bytes, nullptr));
      std::vector<int32_t> expected(count);
      std::iota(expected.begin(), expected.end(), first);
      EXPECT_EQ(device.Download(), expected) << bytes << " bytes, step " << step;
    }
  }
  EXPECT_OK(CopyFromPinned(nullptr, nullptr, 0, nullptr));
  cudaFreeHost(memory);
}

}  // namespace
}  // namespace ting::cuda
