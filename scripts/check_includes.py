#!/usr/bin/env python3
# scripts/check_includes.py
# SPDX-License-Identifier: Apache-2.0
"""Fails when an #include points against the layering of the folders (docs/architecture.md):

    base <- tensor <- {graph, kernels} <- {importers, passes, runtime} <- models <- engine <- tools

frontend, decoders and text stand beside that chain and need only base and tensor. include/ting is free to all. The link
lists in CMake say the same, but a header-only include would slip through them.

    scripts/check_includes.py          checks the repository it is in
    scripts/check_includes.py --test   checks the checker
"""
import pathlib
import re
import sys

# What a folder of src/ may include besides itself.
ALLOWED = {
    "base": set(),
    "tensor": {"base"},
    "frontend": {"base", "tensor"},
    "decoders": {"base", "tensor"},
    "text": {"base", "tensor"},
    "graph": {"base", "tensor"},
    "kernels": {"base", "tensor"},
    "importers": {"base", "tensor", "graph", "kernels", "text"},  # a model directory holds its list of units
    "passes": {"base", "tensor", "graph", "kernels"},
    "runtime": {"base", "tensor", "graph", "kernels"},
}
ALLOWED["models"] = ALLOWED["runtime"] | {"importers", "passes", "runtime", "text"}
ALLOWED["engine"] = ALLOWED["models"] | {"models", "frontend", "decoders"}
ALLOWED["tools"] = {"base", "text"}  # everything else through include/ting

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def folder_of(path):
    """src/graph/ir.h -> graph; tools/ting/main.cc -> tools; anything else -> None."""
    parts = pathlib.PurePosixPath(path).parts
    if len(parts) > 2 and parts[0] == "src":
        return parts[1]
    return "tools" if parts[0] == "tools" else None


def violations(path, text):
    folder = folder_of(path)
    if folder is None:
        return
    if folder not in ALLOWED:
        yield f"{path}: the folder {folder} has no rule; add it to scripts/check_includes.py"
        return
    for match in INCLUDE.finditer(text):
        target = match.group(1).split("/")[0]
        line = text.count("\n", 0, match.start()) + 1
        if "/" not in match.group(1):
            yield f'{path}:{line}: "{match.group(1)}" must be included from the root of src, tools or include'
        elif target not in ALLOWED and target != "ting":
            yield f'{path}:{line}: "{match.group(1)}" is in no folder of the library'
        elif target not in ALLOWED[folder] | {folder, "ting"}:
            yield f'{path}:{line}: {folder} must not include {target} ("{match.group(1)}")'


def check_repository():
    root = pathlib.Path(__file__).resolve().parent.parent
    found, num_files = [], 0
    for top in ("src", "tools"):
        for file in sorted((root / top).rglob("*")):
            if file.suffix in (".h", ".cc", ".cu", ".cuh", ".inc"):
                num_files += 1
                found += violations(file.relative_to(root).as_posix(), file.read_text(encoding="utf-8"))
    print("\n".join(found) if found else f"includes: {num_files} files follow the layering")
    if num_files == 0:
        sys.exit("includes: no source file found")
    return not found


def check_checker():
    """Each case: path, one include, whether it is a violation."""
    cases = [
        ("src/graph/ir.cc", '#include "kernels/kernel.h"', True),
        ("src/kernels/cpu/linear.cc", '#include "graph/ir.h"', True),
        ("src/passes/fold.cc", '#include "graph/ir.h"', False),
        ("src/base/status.cc", '  #  include "tensor/tensor.h"', True),
        ("src/base/status.cc", "#include <vector>", False),
        ("src/base/status.cc", '#include "ting/status.h"', False),
        ("src/text/writers.cc", '#include "decoders/ctc_greedy.h"', True),
        ("src/engine/batch.cc", '#include "decoders/ctc_greedy.h"', False),
        ("src/graph/ir.cc", '#include "ir.h"', True),
        ("src/graph/ir.cc", '#include "grpah/ir.h"', True),
        ("src/new_folder/a.cc", "", True),
        ("tools/ting/eval.cc", '#include "engine/u2_recognizer.h"', True),
        ("tests/graph/ir_test.cc", '#include "engine/u2_recognizer.h"', False),
    ]
    wrong = [case for case in cases if bool(list(violations(case[0], case[1]))) != case[2]]
    print("\n".join(f"wrong verdict: {case}" for case in wrong) if wrong else "check_includes: all cases right")
    return not wrong


if __name__ == "__main__":
    sys.exit(0 if (check_checker() if sys.argv[1:] == ["--test"] else check_repository()) else 1)
