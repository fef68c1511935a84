# bench/peers/systems.py
# SPDX-License-Identifier: Apache-2.0
"""The peers. Each loads in its own process and answers run_pass(): all clips once, from samples in memory to text.

A system is named by a runtime and its setting:
  ort_fp32        ONNX Runtime, one session a stage, `threads` intra-op threads, spinning off (three sessions that
                  spin have more threads than there are cores)
  ort_fp32_Nx1    ONNX Runtime, one thread a call, N Python threads that take an utterance each
  ov_fp32, ov_bf16  OpenVINO, latency hint, that precision
  sherpa_fp32     sherpa-onnx: greedy CTC only, it has neither prefix beam search nor rescoring for WeNet
"""

import re
import threading
import time

import kaldi_native_fbank as knf
import numpy as np

import search

SAMPLE_RATE_HZ = 16000


def compute_fbank(samples):
    """[T, 80] from a list of floats in int16 range."""
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = 80
    options.energy_floor = 0
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(SAMPLE_RATE_HZ, samples)
    fbank.input_finished()
    return np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])


class OrtStage:
    def __init__(self, path, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [{value.name} for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]

    def __call__(self, outputs, feeds):
        return self.session.run(outputs, feeds)


class OpenVinoStage:
    def __init__(self, path, threads, precision):
        import openvino

        compiled = openvino.Core().compile_model(path, "CPU", {
            "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision})
        self.request = compiled.create_infer_request()
        self.inputs = [set(port.names) for port in compiled.inputs]  # a port may have taken a neighbour's name too
        self.outputs = compiled.outputs

    def __call__(self, outputs, feeds):
        self.request.infer(feeds, share_inputs=True)
        return [self.request.get_tensor(name).data for name in outputs]


def choose_feeds(stage, feeds):
    """Those that the graph kept: an exporter drops inputs that nothing reads."""
    wanted = {name: feeds[name] for names in stage.inputs for name in names & feeds.keys()}
    if len(wanted) < len(stage.inputs):
        raise SystemExit(f"the export wants {stage.inputs}, here are {sorted(feeds)}: it is no full-context CPU export")
    return wanted


class Stages:
    """Encoder, CTC head and decoder of WeNet's CPU export, whatever runs them."""

    def __init__(self, make_stage, parts, model):
        self.encoder, self.ctc, self.decoder = (make_stage(parts[name]) for name in ("encoder", "ctc", "decoder"))
        self.model = model
        self.reverse_weight = model["reverse_weight"] if len(self.decoder.outputs) > 1 else 0.0

    def encode(self, features):
        feeds = {"chunk": features[None], "offset": np.array(0, np.int64),
                 "att_cache": np.zeros(self.model["att_cache_shape"], np.float32)}
        return self.encoder(["output"], choose_feeds(self.encoder, feeds))[0]

    def log_probs(self, encoder_out):
        return self.ctc(["probs"], {"hidden": encoder_out})[0][0]

    def rescore(self, encoder_out, nbest):
        sos, eos = self.model["sos"], self.model["eos"]
        hyps, lens = search.decoder_inputs(nbest, sos, eos)
        feeds = {"hyps": hyps, "hyps_lens": lens, "encoder_out": encoder_out}
        wanted = ["score", "r_score"] if self.reverse_weight > 0 else ["score"]
        scores = self.decoder(wanted, choose_feeds(self.decoder, feeds))
        best = search.best_hypothesis(nbest, scores[0], scores[-1], eos, self.model["ctc_weight"], self.reverse_weight)
        return nbest[best][0]


class StagedSystem:
    """fbank, encoder, CTC log-probabilities, [search: skipped], rescoring of the stored n-best."""

    def __init__(self, make_stage, config, streams=1):
        self.stages = Stages(make_stage, config["parts"], config["model"])
        self.clips, self.nbest, self.streams = config["clips"], config.get("nbest"), streams

    def recognize(self, index, parts):
        t0 = time.perf_counter()
        features = compute_fbank(self.clips[index])
        t1 = time.perf_counter()
        encoder_out = self.stages.encode(features)
        t2 = time.perf_counter()
        self.stages.log_probs(encoder_out)
        t3 = time.perf_counter()
        tokens = self.stages.rescore(encoder_out, self.nbest[index])
        times = {"fbank": t1 - t0, "encoder": t2 - t1, "ctc": t3 - t2, "rescore": time.perf_counter() - t3}
        for name, seconds in times.items():
            parts[name] = parts.get(name, 0.0) + seconds
        return tokens

    def run_pass(self):
        results, parts = [None] * len(self.clips), [{} for _ in range(self.streams)]
        todo, lock = iter(range(len(self.clips))), threading.Lock()

        def work(stream):
            while True:
                with lock:
                    index = next(todo, None)
                if index is None:
                    return
                results[index] = self.recognize(index, parts[stream])

        start = time.perf_counter()
        if self.streams == 1:
            work(0)
        else:
            threads = [threading.Thread(target=work, args=(s,)) for s in range(self.streams)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        wall = time.perf_counter() - start
        if any(result is None for result in results):
            raise SystemExit("a stream died: see its traceback above")
        return wall, results, {name: sum(p[name] for p in parts if name in p) for name in parts[0]}

    def make_nbest(self):
        encoded = (self.stages.encode(compute_fbank(clip)) for clip in self.clips)
        return [search.ctc_prefix_beam(self.stages.log_probs(encoder_out)) for encoder_out in encoded]


class SherpaSystem:
    def __init__(self, config, threads):
        import sherpa_onnx

        if "sherpa" not in config["parts"]:
            raise SystemExit("sherpa_fp32 needs the GPU export of the encoder beside the CPU one")
        self.recognizer = sherpa_onnx.OfflineRecognizer.from_wenet_ctc(
            model=config["parts"]["sherpa"], tokens=config["units"], num_threads=threads)
        self.clips = [np.array(clip, np.float32) / 32768 for clip in config["clips"]]

    def run_pass(self):
        texts = []
        start = time.perf_counter()
        for clip in self.clips:
            stream = self.recognizer.create_stream()
            stream.accept_waveform(SAMPLE_RATE_HZ, clip)
            self.recognizer.decode_stream(stream)
            texts.append(stream.result.text)
        return time.perf_counter() - start, texts, {}


def make_system(name, config):
    threads = config["threads"]
    if match := re.fullmatch(r"ort_fp32(?:_(\d+)x1)?", name):
        streams = int(match[1] or 1)
        return StagedSystem(lambda path: OrtStage(path, 1 if match[1] else threads), config, streams)
    if match := re.fullmatch(r"ov_(fp32|bf16)", name):
        precision = {"fp32": "f32", "bf16": "bf16"}[match[1]]
        return StagedSystem(lambda path: OpenVinoStage(path, threads, precision), config)
    if name == "sherpa_fp32":
        return SherpaSystem(config, threads)
    raise SystemExit(f"unknown system {name}; there are ort_fp32, ort_fp32_Nx1, ov_fp32, ov_bf16, sherpa_fp32")
