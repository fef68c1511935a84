# bench/peers/peer_cpu.py
# SPDX-License-Identifier: Apache-2.0
"""Speed of CPU peers on WeNet's exports, beside our own program, on one machine and the same audio.

Every system has its own process that sleeps while another is measured. Passes are interleaved over the systems, in
turn forwards and backwards, so that a slower minute of the machine meets all of them. A pass is all clips, from
samples in memory to the rescored text; the peers take their ten hypotheses from a list made beforehand (their search
is Python), our program does its own search within its time. The first pass of each system warms up and is not counted.
"""

import argparse
import collections
import json
import os
import pathlib
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time

import numpy as np
import soundfile

HERE = pathlib.Path(__file__).resolve().parent
SHARED = HERE.parents[1].parent / "shared"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = pathlib.Path(os.environ.get("TING_SHARED") or SHARED)
    parser.add_argument("--model", type=pathlib.Path, default=shared / "models/aishell", help="WeNet checkpoint folder")
    parser.add_argument("--onnx", type=pathlib.Path, default=shared / "onnx/aishell",
                        help="its full-context CPU export: skeletons (fill.py one folder up) or whole files")
    parser.add_argument("--clips", type=pathlib.Path, nargs="+",
                        default=[shared / "tts/aishell_test", shared / "real/commonvoice_zh"],
                        help="folders with clips/ and a list.tsv or text.tsv of id and text")
    parser.add_argument("--counts", type=int, nargs="+", default=[64, 32], help="the first N clips of each, sorted")
    parser.add_argument("--quick", action="store_true", help="a quarter of the clips")
    parser.add_argument("--threads", type=lambda text: [int(n) for n in text.split(",")], default=[os.cpu_count()],
                        help="such as 2, or 1,2: every system with each of them, in the same passes, as NAME@THREADS")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--systems", help="comma-separated; default: all (streams only with two threads or more)")
    parser.add_argument("--ctc-weight", type=float, default=0.5)
    parser.add_argument("--reverse-weight", type=float, default=0.0)
    parser.add_argument("--ting", action="append", default=[], metavar="[NAME=]COMMAND",
                        help="our program, run once a pass: {threads} and {list} (a file of clip paths) are filled in; "
                             "it prints a line of JSON with \"rtfx\" (and may print \"texts\")")
    parser.add_argument("--golden", type=pathlib.Path,
                        help="folder of PyTorch's transcripts (*.chunk-1.tsv), to count the equal ones")
    parser.add_argument("--work", type=pathlib.Path, help="folder for filled models and n-best lists (kept)")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file; default: standard output")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


# ---- worker process -------------------------------------------------------------------------------------------------


def run_worker(name):
    """Reads a line of JSON (configuration), then commands; answers each with a line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer
    config = json.loads(sys.stdin.readline())
    config["clips"] = [read_samples(path) for path in config["clips"]]
    import systems

    system = systems.make_system(name, config)

    def answer(value):
        print(json.dumps(value), file=answers, flush=True)

    answer({"loaded": True})
    for line in sys.stdin:
        if line.strip() == "nbest":
            answer({"nbest": system.make_nbest()})
        else:
            cpu = time.process_time()
            wall, results, parts = system.run_pass()
            answer({"wall_s": wall, "results": results, "parts_s": parts, "cpu_s": time.process_time() - cpu})


class Worker:
    """A peer in a process of its own; `label` names it in the report."""

    def __init__(self, label, system, config):
        self.name = label
        self.process = subprocess.Popen([sys.executable, str(HERE / "peer_cpu.py"), "--worker", system],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask(json.dumps(config))

    def ask(self, line):
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} died: see its message above")
        return json.loads(answer)

    def run_pass(self):
        return self.ask("pass")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def children_cpu_s():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def machine_cpu_s():
    """Busy seconds of all cores since the start: user, nice, system, irq, softirq, steal."""
    ticks = [int(x) for x in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks[:3]) + sum(ticks[5:8])) / os.sysconf("SC_CLK_TCK")


class Command:
    """An external program measured by itself: one run is one pass."""

    def __init__(self, name, command, threads, list_path):
        self.name = name
        self.words = [word.replace("{threads}", str(threads)).replace("{list}", str(list_path))
                      for word in shlex.split(command)]

    def run_pass(self):
        cpu = children_cpu_s()
        done = subprocess.run(self.words, stdout=subprocess.PIPE, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        try:
            answer = json.loads(lines[-1]) if lines else {}
        except json.JSONDecodeError:
            answer = {}
        if done.returncode != 0 or "rtfx" not in answer:
            raise SystemExit(f"{self.name}: exit status {done.returncode}; it must be 0, with a line of JSON that has "
                             f"\"rtfx\"; it printed: {done.stdout[-300:]!r}")
        return {"rtfx": answer["rtfx"], "results": answer.get("texts"), "cpu_s": children_cpu_s() - cpu}

    def close(self):
        pass


# ---- material -------------------------------------------------------------------------------------------------------


def read_samples(path):
    samples, rate = soundfile.read(path, dtype="int16")
    if rate != 16000 or samples.ndim != 1:
        raise SystemExit(f"{path}: {rate} Hz, {samples.ndim} dimensions; the clips must be mono at 16 kHz")
    return samples.astype(np.float32).tolist()


def choose_clips(folders, counts):
    """[(path, reference text or None)]: the first of each folder in sorted order."""
    chosen = []
    for folder, count in zip(folders, counts, strict=True):
        texts = {}
        for table in (folder / "list.tsv", folder / "text.tsv"):
            if table.exists():
                texts = dict(line.split("\t")[:2] for line in table.read_text("utf-8").splitlines())
        paths = sorted(path for path in (folder / "clips").iterdir() if path.stem in texts)[:count]
        if len(paths) < count:
            raise SystemExit(f"{folder} has {len(paths)} clips with a text and {count} were asked for")
        chosen += [(path, texts[path.stem]) for path in paths]
    return chosen


def describe_model(folder, arguments, parts):
    import onnx

    properties = {p.key: p.value for p in onnx.load(parts["encoder"], load_external_data=False).metadata_props}
    heads, blocks, width = (int(properties[key]) for key in ("head", "num_blocks", "output_size"))
    return {"sos": int(properties["sos_symbol"]), "eos": int(properties["eos_symbol"]),
            "att_cache_shape": [blocks, heads, 0, 2 * width // heads],
            "ctc_weight": arguments.ctc_weight, "reverse_weight": arguments.reverse_weight}


def load_nbest(path, config):
    """Made once by the ort_fp32 worker, without any time measured."""
    key = [pathlib.Path(clip).name for clip in config["clips"]]
    if path.exists():
        stored = json.loads(path.read_text())
        if stored["clips"] == key:
            return stored["nbest"]
    worker = Worker("ort_fp32", "ort_fp32", config)
    nbest = worker.ask("nbest")["nbest"]
    worker.close()
    path.write_text(json.dumps({"clips": key, "nbest": nbest}))
    return nbest


# ---- report ---------------------------------------------------------------------------------------------------------


def edit_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def character_error_rate(texts, references):
    pairs = [(text.replace(" ", "").upper(), ref.replace(" ", "").upper()) for text, ref in zip(texts, references)]
    return 100 * sum(edit_distance(*pair) for pair in pairs) / sum(len(ref) for _, ref in pairs)


def equal_to_reference(texts, clips, folder, column):
    """How many texts are those of a table "clip, greedy, prefix beam, rescoring" (PyTorch's), where it has the clip."""
    rows = {}
    for table in sorted(folder.glob("*.chunk-1.tsv")):
        rows.update((line.split("\t")[0], line.split("\t")) for line in table.read_text("utf-8").splitlines())
    pairs = [(text, rows[clip.stem][column]) for text, clip in zip(texts, clips) if clip.stem in rows]
    return f"{sum(a == b for a, b in pairs)} of {len(pairs)}"


def to_texts(results, units):
    return [r if isinstance(r, str) else "".join(units[t] for t in r).replace("\u2581", " ").strip() for r in results]


def summarize(name, passes, seconds, units, references, clips, golden):
    rtfx = [p["rtfx"] if "rtfx" in p else seconds / p["wall_s"] for p in passes]
    summary = {"rtfx": round(statistics.median(rtfx), 1), "rtfx_passes": [round(x, 1) for x in rtfx],
               "spread_pct": round(100 * (max(rtfx) - min(rtfx)) / statistics.median(rtfx), 1),
               # Audio seconds over processor seconds: per core, and far less moved by what else runs.
               "rtfx_per_core": round(statistics.median(seconds / p["cpu_s"] for p in passes), 1),
               "cpu_s": [round(p["cpu_s"], 2) for p in passes],
               # What other programs took meanwhile: a result with much of it is no result.
               "other_cpu_s": [round(p["other_cpu_s"], 2) for p in passes]}
    if parts := passes[0].get("parts_s"):
        summary["parts_median_s"] = {part: round(statistics.median(p["parts_s"][part] for p in passes), 3)
                                     for part in parts}
    if passes[-1].get("results"):
        texts = to_texts(passes[-1]["results"], units)
        summary["cer"] = round(character_error_rate(texts, references), 2)
        if golden:
            summary["equal_to_golden"] = equal_to_reference(texts, clips, golden,
                                                            1 if name.startswith("sherpa_fp32") else 3)
    return summary


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def measure(systems, num_passes):
    for system in systems:
        system.run_pass()
        print(f"warm: {system.name}", file=sys.stderr)
    passes = collections.defaultdict(list)
    for number in range(num_passes):
        for system in systems if number % 2 == 0 else reversed(systems):
            busy = machine_cpu_s()
            result = system.run_pass()
            result["other_cpu_s"] = max(0.0, machine_cpu_s() - busy - result["cpu_s"])
            passes[system.name].append(result)
        print(f"pass {number + 1} of {num_passes}, load {os.getloadavg()[0]:.2f}", file=sys.stderr)
    return passes


def start_systems(arguments, config, list_path):
    """Peers and our program, with each number of threads. Streams of one thread each want two threads or more."""
    systems = []
    for threads in arguments.threads:
        label = "{}" if len(arguments.threads) == 1 else "{}@" + str(threads)
        names = (arguments.systems or "ort_fp32,ort_fp32_2x1,ov_fp32,ov_bf16,sherpa_fp32").split(",")
        if threads == 1 and not arguments.systems:
            names.remove("ort_fp32_2x1")
        systems += [Worker(label.format(name), name, config | {"threads": threads}) for name in names if name]
        for number, command in enumerate(arguments.ting):
            named = "=" in command.split(" ")[0]
            name, _, rest = command.partition("=") if named else (f"ting{number or ''}", "", command)
            systems.append(Command(label.format(name), rest, threads, list_path))
    return systems


def scaling(summaries, threads):
    """How much faster a system is with the most threads than with the fewest."""
    few, many = min(threads), max(threads)
    names = [name.removesuffix(f"@{few}") for name in summaries if name.endswith(f"@{few}")]
    return {name: round(summaries[f"{name}@{many}"]["rtfx"] / summaries[f"{name}@{few}"]["rtfx"], 2)
            for name in names if f"{name}@{many}" in summaries}


def main():
    arguments = parse_arguments()
    if arguments.worker:
        return run_worker(arguments.worker)
    import models

    work = arguments.work or HERE / ".work"
    work.mkdir(parents=True, exist_ok=True)
    counts = [max(1, n // 4) for n in arguments.counts] if arguments.quick else arguments.counts
    clips, references = zip(*choose_clips(arguments.clips, counts))
    seconds = sum(soundfile.info(path).duration for path in clips)
    parts = models.prepare(arguments.onnx, arguments.model, work)
    units_path = arguments.model / "units.txt"
    units = {int(i): token for token, i in (line.split() for line in units_path.read_text("utf-8").splitlines())}
    config = {"threads": max(arguments.threads), "parts": parts, "units": str(units_path),
              "clips": [str(p) for p in clips], "model": describe_model(arguments.model, arguments, parts)}
    list_path = work / f"clips_{len(clips)}.scp"
    list_path.write_text("".join(f"{path.stem} {path}\n" for path in clips))  # a Kaldi list: key path
    config["nbest"] = load_nbest(work / f"nbest_{len(clips)}.json", config)
    systems = start_systems(arguments, config, list_path)
    passes = measure(systems, arguments.passes)
    for system in systems:
        system.close()
    summaries = {name: summarize(name, p, seconds, units, references, clips, arguments.golden)
                 for name, p in passes.items()}
    report = {
        "what": "audio seconds over wall seconds, samples in memory to rescored text; peers without their search, "
                "sherpa_fp32 greedy only",
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "load_at_end": os.getloadavg()[0]},
        "audio": {"clips": len(clips), "seconds": round(seconds, 1)},
        "threads": arguments.threads,
        "systems": summaries,
    }
    if len(arguments.threads) > 1:
        report["scaling"] = scaling(summaries, arguments.threads)
    text = json.dumps(report, indent=1)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
