# bench/peers/peer_gpu.py
# SPDX-License-Identifier: Apache-2.0
"""Speed of PyTorch fp16 on a GPU: the encoder with its CTC head and the decoder's scoring, as WeNet computes them
(wenet_modules.py) and folded by hand (folded_modules.py), both with torch.compile(mode="reduce-overhead").

Every form and batch size has its own process: all compile side by side, then they are timed one after another. A line
of JSON each: ms of a step when steps follow one another without a pause, the median of several such runs, as
`ting bench --stages` measures. --check compares both forms in f32, without a compiler, on any machine.
"""

import argparse
import copy
import json
import os
import statistics
import sys
import time

import torch

import folded_modules
import wenet_modules

FORMS = ("wenet", "folded")
MODES = {"eager": None, "compile": "default", "reduce-overhead": "reduce-overhead"}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=lambda text: [int(x) for x in text.split(",")], default=[1, 8, 16, 64])
    parser.add_argument("--forms", type=lambda text: text.split(","), default=list(FORMS))
    parser.add_argument("--mode", choices=MODES, default="reduce-overhead")
    parser.add_argument("--frames", type=int, default=500, help="feature frames of an utterance")
    parser.add_argument("--tokens", type=int, default=16, help="of a hypothesis")
    parser.add_argument("--beam", type=int, default=10, help="hypotheses, and symbols of a frame")
    parser.add_argument("--blocks", type=int, default=12, help="of the encoder; half as many of the decoder")
    parser.add_argument("--repetitions", type=int, default=50, help="steps in a row")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--check", action="store_true", help="compare both forms in f32 and exit")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


class Models:
    """Both stages in one form, and inputs of the right sizes; the same weights and inputs whatever the form."""

    def __init__(self, form, arguments, batch, dtype):
        sizes = wenet_modules.Sizes(blocks=arguments.blocks, decoder_blocks=max(1, arguments.blocks // 2),
                                    beam=arguments.beam)
        length = arguments.tokens + 1  # <sos> and the tokens; the targets are the tokens and <eos>
        frames = ((arguments.frames - 1) // 2 - 1) // 2
        encoder = wenet_modules.fill_randomly(wenet_modules.Encoder(sizes, frames), 1)
        decoder = wenet_modules.fill_randomly(wenet_modules.Decoder(sizes, length), 2)
        if form == "folded":
            encoder = folded_modules.Encoder(copy.deepcopy(encoder))
            decoder = folded_modules.Decoder(copy.deepcopy(decoder))
        self.encoder, self.decoder = (m.eval().to(arguments.device, dtype) for m in (encoder, decoder))

        generator = torch.Generator().manual_seed(3)
        features = torch.rand(batch, arguments.frames, sizes.mel_bins, generator=generator) * 2 - 1
        hypotheses = torch.randint(1, sizes.vocab - 1, (batch, arguments.beam, length + 1), generator=generator)
        place = lambda x: x.to(arguments.device)
        self.features = features.to(arguments.device, dtype)
        self.lengths = place(torch.full((batch,), arguments.frames))
        memory = torch.randn(batch, frames, sizes.width, generator=generator)
        self.memory = memory.to(arguments.device, dtype)
        self.memory_lengths = place(torch.full((batch,), frames))
        self.tokens, self.targets = (place(x.contiguous()) for x in (hypotheses[..., :-1], hypotheses[..., 1:]))
        self.token_lengths = place(torch.full((batch, arguments.beam), length))

    def stages(self):
        return {"encoder": (self.encoder, (self.features, self.lengths)),
                "decoder": (self.decoder, (self.memory, self.memory_lengths, self.tokens, self.token_lengths,
                                           self.targets))}


def synchronize(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize()


@torch.inference_mode()
def check(arguments):
    """The largest differences of both forms' results over the spread of the values; fails where they disagree."""
    torch.backends.cudnn.allow_tf32 = False
    batch = arguments.batches[0]
    results = {form: {stage: module(*inputs) for stage, (module, inputs)
                      in Models(form, arguments, batch, torch.float32).stages().items()} for form in FORMS}
    compared = {}
    for name, a, b in (("encoder", *(results[form]["encoder"][0] for form in FORMS)),
                       ("best_logp", *(results[form]["encoder"][1] for form in FORMS)),
                       ("score", *(results[form]["decoder"] for form in FORMS))):
        compared[name] = ((a - b).abs().max() / a.std()).item()
    print(json.dumps({"check": compared, "device": arguments.device}))
    return all(difference < 1e-4 for difference in compared.values())  # a NaN is not less


@torch.inference_mode()
def time_stage(module, inputs, arguments):
    runs = []
    for _ in range(arguments.runs):
        synchronize(arguments.device)
        start = time.perf_counter()
        for _ in range(arguments.repetitions):
            module(*inputs)
        synchronize(arguments.device)
        runs.append((time.perf_counter() - start) * 1e3 / arguments.repetitions)
    return statistics.median(runs), min(runs), max(runs)


@torch.inference_mode()
def warm_up(module, inputs, arguments):
    start = time.perf_counter()
    for _ in range(4):  # compiles, records, replays
        module(*inputs)
    synchronize(arguments.device)
    return time.perf_counter() - start


def work(form, batch, arguments, ready, turn, answers):
    """A process: compiles both stages, says so, waits for its turn, times them."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "2"
    torch.backends.cudnn.benchmark = True
    models = Models(form, arguments, batch, torch.float16 if arguments.device.startswith("cuda") else torch.float32)
    stages, compile_s = {}, {}
    for name, (module, inputs) in models.stages().items():
        if arguments.mode != "eager":
            module = torch.compile(module, mode=MODES[arguments.mode], dynamic=False)
        compile_s[name] = warm_up(module, inputs, arguments)
        stages[name] = (module, inputs)
    ready.wait()
    with turn:
        for name, (module, inputs) in stages.items():
            warm_up(module, inputs, arguments)
            median, low, high = time_stage(module, inputs, arguments)
            answers.put({"form": form, "mode": arguments.mode, "batch": batch, "stage": name,
                         "ms": round(median, 4), "ms_min": round(low, 4), "ms_max": round(high, 4),
                         "compile_s": round(compile_s[name], 1)})
    answers.put(None)


def measure(arguments):
    context = torch.multiprocessing.get_context("spawn")
    jobs = [(form, batch) for form in arguments.forms for batch in arguments.batches]
    ready, turn, answers = context.Barrier(len(jobs)), context.Lock(), context.Queue()
    processes = [context.Process(target=work, args=(*job, arguments, ready, turn, answers)) for job in jobs]
    for process in processes:
        process.start()
    unfinished = len(processes)
    while unfinished > 0:
        try:
            answer = answers.get(timeout=1)
        except Exception:  # queue.Empty: has one died? Then the others wait for it in vain
            if any(process.exitcode not in (None, 0) for process in processes):
                ready.abort()
                return False
            continue
        if answer is None:
            unfinished -= 1
        else:
            print(json.dumps(answer), flush=True)
    for process in processes:
        process.join()
    return True


def main():
    arguments = parse_arguments()
    if arguments.check:
        return 0 if check(arguments) else "peer_gpu: the two forms disagree"
    name = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else arguments.device
    print(json.dumps({"torch": torch.__version__, "device": name, "frames": arguments.frames,
                      "hypotheses": arguments.beam, "tokens": arguments.tokens}), flush=True)
    return 0 if measure(arguments) else "peer_gpu: a process died, see its message above"


if __name__ == "__main__":
    sys.exit(main())
