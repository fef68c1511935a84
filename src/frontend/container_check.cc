// src/frontend/container_check.cc
// SPDX-License-Identifier: Apache-2.0
#include "frontend/container_check.h"

#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/status_macros.h"

namespace ting {
namespace {

bool HasTag(std::span<const std::byte> bytes, size_t at, std::string_view tag) {
  return at <= bytes.size() && bytes.size() - at >= tag.size() &&
         std::memcmp(bytes.data() + at, tag.data(), tag.size()) == 0;
}

enum class ByteOrder { kLittle, kBig };

uint32_t ReadUint32(std::span<const std::byte> bytes, size_t at, ByteOrder order) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i)
    value = value << 8 | std::to_integer<uint32_t>(bytes[at + (order == ByteOrder::kBig ? i : 3 - i)]);
  return value;
}

// RIFF and its big-endian ancestor: chunks of tag, size and contents padded to an even size, from byte 12 on.
Status CheckChunks(std::span<const std::byte> bytes, ByteOrder order, std::string_view sample_tag) {
  constexpr uint32_t kOpenLength = 0x7ffff000;
  for (size_t at = 12; at + 8 <= bytes.size();) {
    const uint64_t size = ReadUint32(bytes, at + 4, order), there = bytes.size() - at - 8;
    if (HasTag(bytes, at, sample_tag)) {
      if (size <= there || size >= kOpenLength) return Status();
      return DataLoss("the file ends early: its header promises {} bytes of samples and {} are there; copy it again",
                      size, there);
    }
    if (size >= there) return Status();
    at += 8 + size + (size & 1);
  }
  return Status();
}

Status CheckOgg(std::span<const std::byte> bytes) {
  constexpr size_t kHeader = 27;  // then a table of segment lengths
  for (size_t at = 0; HasTag(bytes, at, "OggS");) {
    const size_t there = bytes.size() - at;
    size_t page = kHeader;
    if (there >= kHeader) {
      const size_t segments = std::to_integer<size_t>(bytes[at + kHeader - 1]);
      page += segments;
      for (size_t i = 0; i < segments && kHeader + i < there; ++i)
        page += std::to_integer<size_t>(bytes[at + kHeader + i]);
    }
    if (page > there) {
      return DataLoss("the file ends early: its last Ogg page has {} bytes and {} are there; copy it again", page,
                      there);
    }
    at += page;
  }
  return Status();
}

}  // namespace

Status CheckNotCutShort(std::span<const std::byte> bytes) {
  if (HasTag(bytes, 0, "RIFF") && HasTag(bytes, 8, "WAVE")) return CheckChunks(bytes, ByteOrder::kLittle, "data");
  if (HasTag(bytes, 0, "RIFX") && HasTag(bytes, 8, "WAVE")) return CheckChunks(bytes, ByteOrder::kBig, "data");
  if (HasTag(bytes, 0, "FORM") && HasTag(bytes, 8, "AIF")) return CheckChunks(bytes, ByteOrder::kBig, "SSND");
  if (HasTag(bytes, 0, "OggS")) return CheckOgg(bytes);
  return Status();
}

}  // namespace ting
