// src/text/wer_tokens.h
// SPDX-License-Identifier: Apache-2.0
//
// Lines to tokens as WeNet's compute-wer.py splits and normalises them; the cluster that a token is counted under.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/compute_wer.h"

namespace ting {

// The first token is the utterance's id; an empty list for an empty line.
//   characters: letters of category Lo are tokens; any other character starts a run that goes on over ASCII until a
//   space (or, if it starts with '<', through '>'); spaces, unassigned characters and a list of punctuation marks start
//   none. So punctuation inside or after a run stays, and "1,5" is one token.
//   words: split at white space.
std::vector<std::string> SplitWerLine(std::string_view line, bool characters);

// Upper case, tags and ignored words, as options say. `tokens` are those after the id; tokens that become empty go.
std::vector<std::string> NormalizeWerTokens(const std::vector<std::string>& tokens, const WerOptions& options);

// The script that all characters share ("Mandarin", "English", "Number", "Japanese"; "." and the like are passed over),
// otherwise "Other".
std::string_view WerClusterOf(std::string_view token);

}  // namespace ting
