// tools/ting/interrupt.h
// SPDX-License-Identifier: Apache-2.0
//
// SIGINT as a question: a long run finishes what it has begun, writes it and says how far it came. A second SIGINT
// ends the program at once.
#pragma once

namespace ting::tool {

// From here on the first SIGINT only sets the flag. Commands that have nothing to save do not call it.
void CatchInterrupt();
bool Interrupted();

}  // namespace ting::tool
