#!/usr/bin/env python3
# scripts/make_unicode_table.py
# SPDX-License-Identifier: Apache-2.0
"""Writes src/text/unicode_table.inc: what scoring asks of Unicode, from Python's unicodedata.

    scripts/make_unicode_table.py > src/text/unicode_table.inc

Scoring has to agree with a Python script about every character, hence the same source. Its version is written into the
table; tests compare the table's check sums, which this program prints with --sums.
"""
import sys
import unicodedata
import zlib

LAST = 0x10FFFF
# Values of ting::CharacterClass and ting::CharacterCluster, in their order.
CLASSES = {"Lo": 1, "Zs": 2, "Cn": 3}
NUMBER, MANDARIN, ENGLISH, JAPANESE, IGNORED = 1, 2, 3, 4, 5
CLUSTERS = [
    ("DIGIT", NUMBER),
    ("CJK UNIFIED IDEOGRAPH", MANDARIN),
    ("CJK COMPATIBILITY IDEOGRAPH", MANDARIN),
    ("LATIN CAPITAL LETTER", ENGLISH),
    ("LATIN SMALL LETTER", ENGLISH),
    ("HIRAGANA LETTER", JAPANESE),
    ("AMPERSAND", IGNORED), ("APOSTROPHE", IGNORED), ("COMMERCIAL AT", IGNORED), ("DEGREE CELSIUS", IGNORED),
    ("EQUALS SIGN", IGNORED), ("FULL STOP", IGNORED), ("HYPHEN-MINUS", IGNORED), ("LOW LINE", IGNORED),
    ("NUMBER SIGN", IGNORED), ("PLUS SIGN", IGNORED), ("SEMICOLON", IGNORED),
]


def properties(code):
    """Bits 0-1 class, bit 2 wide, bits 3-5 cluster."""
    c = chr(code)
    name = unicodedata.name(c, "")
    cluster = next((value for prefix, value in CLUSTERS if name.startswith(prefix)), 0)
    wide = unicodedata.east_asian_width(c) in "AFW"
    return CLASSES.get(unicodedata.category(c), 0) | wide << 2 | cluster << 3


def property_ranges():
    ranges = []
    for code in range(LAST + 1):
        value = properties(code)
        if not ranges or ranges[-1][1] != value:
            ranges.append((code, value))
    return ranges


def upper(code):
    return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code).upper()


def upper_runs():
    """(first, last, step, difference) of characters with one upper-case character, and (code, text) of the others."""
    runs, specials = [], []
    for code in range(LAST + 1):
        if 0xD800 <= code < 0xE000:
            continue
        text = upper(code)
        if len(text) > 1:
            specials.append((code, text))
        elif ord(text) != code:
            difference = ord(text) - code
            if runs and runs[-1][3] == difference:
                first, last, step, _ = runs[-1]
                if code - last <= 2 and step in (0, code - last):
                    runs[-1] = (first, code, code - last, difference)
                    continue
            runs.append((code, code, 0, difference))
    return [(a, b, step or 1, d) for a, b, step, d in runs], specials


def rows(items, width=118):
    line = " "
    for item in items:
        if len(line) + len(item) + 2 > width:
            yield line
            line = " "
        line += " " + item + ","
    yield line


def print_sums():
    print("properties", zlib.crc32(bytes(properties(code) for code in range(LAST + 1))))
    text = "".join(upper(code) for code in range(LAST + 1))
    print("upper", zlib.crc32(text.encode("utf-8")))


def print_table():
    runs, specials = upper_runs()
    print("// src/text/unicode_table.inc")
    print("// SPDX-License-Identifier: Apache-2.0")
    print("//")
    print(f"// Made by scripts/make_unicode_table.py from Unicode {unicodedata.unidata_version}. Do not edit.")
    print("// clang-format off")
    print("// First code point << 8 | properties, up to the next entry.")
    print("constexpr uint32_t kPropertyRanges[] = {")
    print("\n".join(rows(f"0x{code << 8 | value:x}" for code, value in property_ranges())))
    print("};")
    print("// First and last code point, step, difference of the upper-case character.")
    print("constexpr UpperRun kUpperRuns[] = {")
    print("\n".join(rows(f"{{0x{a:x}, 0x{b:x}, {step}, {d}}}" for a, b, step, d in runs)))
    print("};")
    print("// Characters whose upper case is several.")
    print("constexpr UpperSpecial kUpperSpecials[] = {")
    escape = lambda text: "".join(f"\\u{ord(c):04x}" if ord(c) > 127 else c for c in text)
    print("\n".join(rows(f'{{0x{code:x}, u"{escape(text)}"}}' for code, text in specials)))
    print("};")
    print("// clang-format on")


if __name__ == "__main__":
    print_sums() if "--sums" in sys.argv else print_table()
