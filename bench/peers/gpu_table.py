# bench/peers/gpu_table.py
# SPDX-License-Identifier: Apache-2.0
"""gpu_table.py PEERS.json TING.txt…: times of peer_gpu.py and of `ting bench --stages` as one table with ratios. Of
several runs of Ting the mean counts; how far they lie apart is printed too."""

import json
import pathlib
import statistics
import sys

STAGES = ("encoder", "decoder")


def read_peers(path):
    """The line that describes the run, and {(form, batch): [encoder ms, decoder ms]}."""
    lines = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines() if line.startswith("{")]
    times = {(x["form"], x["batch"], x["stage"]): x["ms"] for x in lines if "ms" in x}
    pairs = {(form, batch) for form, batch, _ in times}
    return lines[0], {pair: [times[(*pair, stage)] for stage in STAGES] for pair in sorted(pairs)}


def read_ting(path):
    """{batch: [encoder ms, decoder ms]} of the rows of the table; what stands behind these columns is the roofline's."""
    rows = (line.split() for line in pathlib.Path(path).read_text().splitlines())
    return {int(row[0]): [float(x) for x in row[1:3]] for row in rows if len(row) >= 3 and row[0].isdigit()}


def main(peers_path, *ting_paths):
    run, peers = read_peers(peers_path)
    runs = [read_ting(path) for path in ting_paths]
    batches = sorted(runs[0])
    ting = {batch: [statistics.mean(run[batch][i] for run in runs) for i in range(2)] for batch in batches}
    spread = max(abs(run[batch][i] / ting[batch][i] - 1) for run in runs for batch in batches for i in range(2))
    row = lambda name, cells: print(f"| {name} | " + " | ".join(cells) + " |")
    show = lambda a, b, digits: f"{a:.{digits}f} / {b:.{digits}f}"

    print(f"{run['device']}, PyTorch {run['torch']}, fp16, {run['frames']} frames, {run['hypotheses']} hypotheses of "
          f"{run['tokens']}; Ting's runs lie within {100 * spread:.1f} % of their mean")
    row("encoder / decoder ms", [f"B{batch}" for batch in batches])
    row("---", ["---"] * len(batches))
    names = {"wenet": "torch.compile, WeNet's modules", "folded": "torch.compile, folded by hand"}
    forms = [form for form in names if all((form, batch) in peers for batch in batches)]
    for form in forms:
        row(names[form], [show(*peers[form, batch], 3) for batch in batches])
    row("Ting f16", [show(*ting[batch], 3) for batch in batches])
    for form in forms:
        ratios = {batch: [peer / own for peer, own in zip(peers[form, batch], ting[batch])] for batch in batches}
        row(f"{names[form]} / Ting", [show(*ratios[batch], 2) for batch in batches])


if __name__ == "__main__":
    main(*sys.argv[1:])
