// src/text/detokenize.h
// SPDX-License-Identifier: Apache-2.0
//
// Token ids to the text of a hypothesis, in one of two styles.
//   kPython   WeNet's Python tools: the units are joined as they are; in BPE models "▁" then becomes a space and both
//             ends are trimmed. A character model's "▁" and "<unk>" stay in the text. It is the default: transcripts
//             can be compared byte by byte with WeNet's.
//   kRuntime  WeNet's C++ runtime (language_type 0, without its lower-casing): <unk>, <context> and </context> go;
//             spaces stay only between two words of English letters; then each run of "▁" becomes one space.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "text/token_table.h"
#include "ting/status.h"

namespace ting {

enum class TextStyle { kPython, kRuntime };

// Fails on an id outside the table.
Result<std::string> Detokenize(const TokenTable& table, std::span<const int32_t> ids,
                               TextStyle style = TextStyle::kPython);

// The rule of kRuntime on a text that was joined already (also for texts that come from a word-level search).
std::string CleanText(std::string_view joined);

}  // namespace ting
