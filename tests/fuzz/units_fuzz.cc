// tests/fuzz/units_fuzz.cc
// SPDX-License-Identifier: Apache-2.0
//
// units.txt: an accepted table finds each of its tokens under its id, and survives being written and read.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "text/token_table.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto table = ting::TokenTable::Parse({reinterpret_cast<const char*>(data), size});
  if (!table.ok()) return 0;
  for (int64_t id = 0; id < table->size(); ++id) {
    if (table->Find(table->text(id)) != id) std::abort();
  }
  const auto again = ting::TokenTable::Parse(table->ToText());
  if (!again.ok() || again->ToText() != table->ToText() || again->kind() != table->kind()) std::abort();
  return 0;
}
