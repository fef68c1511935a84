// tests/runtime/upload_ring_test.cc
// SPDX-License-Identifier: Apache-2.0
//
// Copies that are late: on a device whose copies run only when the host waits for them, nothing that was sent may
// change.
#include "runtime/upload_ring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

namespace ting {
namespace {

// A stream that does nothing before it must.
class LateStream : public Stream {
 public:
  Status CopyToDevice(void* device, const void* host, size_t bytes) override {
    copies_.push_back([=] { std::memcpy(device, host, bytes); });
    return Status();
  }
  Status Synchronize() override { return RunUntil(copies_.size()); }
  size_t queued() const { return copies_.size(); }
  size_t done() const { return done_; }
  Status RunUntil(size_t end) {
    for (; done_ < end; ++done_) copies_[done_]();
    return Status();
  }

 private:
  std::vector<std::function<void()>> copies_;
  size_t done_ = 0;
};

class LateEvent : public Event {
 public:
  Status Record(Stream& stream) override {
    stream_ = static_cast<LateStream*>(&stream), end_ = stream_->queued();
    return Status();
  }
  Status Wait() override { return stream_ == nullptr ? Status() : stream_->RunUntil(end_); }

 private:
  LateStream* stream_ = nullptr;
  size_t end_ = 0;
};

class LateDevice : public Device {
 public:
  explicit LateDevice(ThreadPool& pool) : host_(std::move(CreateCpuDevice("ref", pool)).value()) {}
  const std::string& name() const override { return host_->name(); }
  Result<std::unique_ptr<DeviceBuffer>> Allocate(size_t bytes) override {
    ++allocations;
    return host_->Allocate(bytes);
  }
  Result<std::unique_ptr<Stream>> CreateStream() override {
    return std::unique_ptr<Stream>(std::make_unique<LateStream>());
  }
  Result<std::unique_ptr<Event>> CreateEvent() override {
    return std::unique_ptr<Event>(std::make_unique<LateEvent>());
  }
  std::span<const KernelEntry> kernels() const override { return {}; }

  int allocations = 0;

 private:
  std::unique_ptr<Device> host_;
};

class UploadRingTest : public ::testing::Test {
 protected:
  void Send(std::vector<std::byte>& target, std::byte value) {
    auto host = ring_.Begin(target.size());
    ASSERT_TRUE(host.ok()) << host.status().ToString();
    std::memset(*host, static_cast<int>(value), target.size());
    ASSERT_TRUE(ring_.Send(target.data(), target.size(), stream_).ok());
  }
  static bool Holds(const std::vector<std::byte>& target, std::byte value) {
    return std::all_of(target.begin(), target.end(), [&](std::byte b) { return b == value; });
  }

  ThreadPool pool_{1};
  LateDevice device_{pool_};
  UploadRing ring_{device_};
  LateStream stream_;
};

TEST_F(UploadRingTest, WhatWasSentArrivesHoweverLate) {
  std::vector<std::vector<std::byte>> targets(9, std::vector<std::byte>(100));
  for (size_t i = 0; i < targets.size(); ++i) {
    targets[i].resize(100 + 50 * (i % 4));  // some do not fit into what was sent before
    Send(targets[i], static_cast<std::byte>(i + 1));
  }
  ASSERT_TRUE(stream_.Synchronize().ok());
  for (size_t i = 0; i < targets.size(); ++i) EXPECT_TRUE(Holds(targets[i], static_cast<std::byte>(i + 1))) << i;
}

TEST_F(UploadRingTest, WaitsForTheCopyBeforeTheLastOnly) {
  std::vector<std::byte> target(64);
  for (int i = 0; i < 5; ++i) {
    Send(target, static_cast<std::byte>(i));
    EXPECT_EQ(stream_.queued() - stream_.done(), i == 0 ? 1U : 2U) << "copies on their way";
  }
  EXPECT_EQ(device_.allocations, 2);
}

}  // namespace
}  // namespace ting
