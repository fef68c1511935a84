# tests/golden/fbank/make_golden.py
# SPDX-License-Identifier: Apache-2.0
"""Makes the references of kaldi-native-fbank beside this file: synthetic sounds of 0.4 s, and their features.

usage: make_golden.py      (needs numpy and kaldi_native_fbank 1.23)
An array `NAME.samples` is int16 [n], `NAME.fbank` f32 [frames, bins]: dither 0, energy_floor 0, snip_edges, other
options default (povey window, preemphasis 0.97, 20 Hz to Nyquist, natural log).
"""

import pathlib

import kaldi_native_fbank as knf
import numpy as np

HERE = pathlib.Path(__file__).parent


def sounds(rate):
    n = rate * 2 // 5 + 7
    t = np.arange(n) / rate
    rng = np.random.default_rng(20)
    sweep = 12000 * np.sin(2 * np.pi * (100 * t + (rate / 2 - 200) / (2 * t[-1]) * t**2))
    steps = np.where((t * 50).astype(int) % 2 == 0, 3000, -3000) + 500
    return {
        "noise": rng.normal(0, 4000, n),
        "quiet_noise": rng.normal(0, 3, n),
        "sine_with_offset": 9000 * np.sin(2 * np.pi * 440 * t) + 1000,
        "sweep": sweep + rng.normal(0, 20, n),
        "full_scale_steps": 8 * steps,
    }


def features(samples, rate, bins, length_ms, shift_ms):
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = True
    options.frame_opts.frame_length_ms = length_ms
    options.frame_opts.frame_shift_ms = shift_ms
    options.mel_opts.num_bins = bins
    options.energy_floor = 0
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(rate, samples.astype(np.float32).tolist())
    fbank.input_finished()
    return np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])


def main():
    cases = {"knf_16k_80": (16000, 80, 25, 10), "knf_8k_40": (8000, 40, 25, 10), "knf_16k_23_20ms": (16000, 23, 20, 12.5)}
    for name, (rate, bins, length_ms, shift_ms) in cases.items():
        arrays = {}
        for sound, samples in sounds(rate).items():
            samples = np.clip(np.round(samples), -32768, 32767).astype(np.int16)
            arrays[sound + ".samples"] = samples
            arrays[sound + ".fbank"] = features(samples, rate, bins, length_ms, shift_ms)
        np.savez_compressed(HERE / f"{name}.npz", **arrays)


main()
