#!/usr/bin/env python3
# scripts/make_kernel_goldens.py
# SPDX-License-Identifier: Apache-2.0
#
# Writes tests/golden/kernels/*.npz: inputs, weights and float64 results of every op, from the definitions in WeNet's
# terms (PyTorch weight shapes, mask matrices, padding before the convolution), not from the contracts' loops. Only at
# the end are weights permuted to the layout that the kernels' contracts state.
#
#   python scripts/make_kernel_goldens.py tests/golden/kernels        (needs numpy alone)
#
# Arrays of a case: CASE/op, CASE/attr.NAME, CASE/weight.SLOT, CASE/input.I, CASE/lengths.I (row set of input I),
# CASE/output.I, CASE/state.I (input I afterwards), CASE/options = chunk_frames, num_left_chunks, blank_penalty.
import math
import pathlib
import sys

import numpy as np

rng = np.random.default_rng(20240607)
erf = np.vectorize(math.erf)


def draw(*shape, scale=1.0):
    """Multiples of scale / 64: exact in f32, and they compress."""
    return rng.integers(-64, 65, size=shape).astype(np.float64) / 64 * scale


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ACTIVATIONS = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "swish": lambda x: x * sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
}


def layer_norm(x, gamma, beta, eps=1e-5):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * gamma + beta


def softmax(s, mask):
    """Rows without a visible key are 0."""
    out = np.zeros_like(s)
    for i in range(s.shape[0]):
        if mask[i].any():
            e = np.exp(np.where(mask[i], s[i] - s[i][mask[i]].max(), -np.inf))
            out[i] = e / e.sum()
    return out


def chunk_mask(size, chunk, left):
    """WeNet's subsequent_chunk_mask; chunk <= 0: everything."""
    mask = np.zeros((size, size), dtype=bool)
    for i in range(size):
        if chunk <= 0:
            mask[i] = True
            continue
        start = 0 if left < 0 else max((i // chunk - left) * chunk, 0)
        mask[i, start:min((i // chunk + 1) * chunk, size)] = True
    return mask


def positions(count, D):
    """The table as PyTorch's f32 arithmetic makes it, up to the last bit of exp, sin and cos."""
    step = np.float32(-(math.log(10000.0) / D))
    div = np.exp((np.arange(0, D, 2, dtype=np.float32) * step).astype(np.float64)).astype(np.float32)
    angle = (np.arange(count, dtype=np.float32)[:, None] * div).astype(np.float64)
    table = np.zeros((count, D))
    table[:, 0::2] = np.sin(angle)
    table[:, 1::2] = np.cos(angle)[:, : D // 2]
    return table.astype(np.float32).astype(np.float64)


class Golden:
    """The cases of one file."""

    def __init__(self):
        self.arrays = {}

    def add(self, case, op, attrs, weights, inputs, outputs, lengths=None, options=(0, -1, 0), states=None):
        put = lambda name, value: self.arrays.__setitem__(f"{case}/{name}", value)
        put("op", np.array([op]))
        for name, value in attrs.items():
            put(f"attr.{name}", np.array([value]))
        for slot, value in weights.items():
            assert np.array_equal(value, value.astype(np.float32)), "weights must be exact in f32"
            put(f"weight.{slot}", value.astype(np.float32))
        as_stored = lambda a: np.asarray(a, dtype=np.int32 if np.asarray(a).dtype.kind == "i" else np.float32)
        for i, value in enumerate(inputs):
            put(f"input.{i}", as_stored(value))
        for i, value in enumerate(outputs):
            put(f"output.{i}", as_stored(value))
        for i, value in (lengths or {}).items():
            put(f"lengths.{i}", np.array(value, dtype=np.int32))
        for i, value in (states or {}).items():
            put(f"state.{i}", as_stored(value))
        put("options", np.array(options, dtype=np.float32))


def linear_weights(weights, prefix, N, K, bias=True):
    weights[prefix + ".w"] = draw(N, K, scale=2.0 ** -round(math.log2(K) / 2))
    if bias:
        weights[prefix + ".b"] = draw(N)


def norm_weights(weights, prefix, D):
    weights[prefix + ".gamma"] = 1 + draw(D, scale=0.5)
    weights[prefix + ".beta"] = draw(D, scale=0.5)


def apply_linear(weights, prefix, x):
    return x @ weights[prefix + ".w"].T + weights.get(prefix + ".b", 0)


def apply_norm(weights, prefix, x):
    if prefix + ".gamma" not in weights:
        return x
    return layer_norm(x, weights[prefix + ".gamma"], weights[prefix + ".beta"])


def split(x, lengths):
    return np.split(x, np.cumsum(lengths)[:-1])


def elementwise_file(g):
    a, b = draw(7, 4), draw(7, 4)
    g.add("add_half", "add", {"scale": 0.5}, {}, [a, b], [a + 0.5 * b])
    g.add("add_default", "add", {}, {}, [a, b], [a + b])
    x = draw(10, 36)
    y = x + np.concatenate([positions(n, 36) for n in (1, 2, 7)])
    g.add("positions", "add_positions", {}, {}, [x], [y], {0: (1, 2, 7)})
    for D in (4, 36):
        w = {}
        norm_weights(w, "norm", D)
        x = draw(7, D) + 3
        g.add(f"norm{D}", "layer_norm", {}, w, [x], [apply_norm(w, "norm", x)])
    g.add("norm_eps", "layer_norm", {"norm_eps": 1e-2}, w, [x * 0.125],
          [layer_norm(x * 0.125, w["norm.gamma"], w["norm.beta"], 1e-2)])
    table = draw(11, 36)
    tokens, where = np.array([0, 10, 3, 3, 7]), np.array([0, 1, 2, 40, 0])
    y = table[tokens] * 6 + positions(41, 36)[where]
    g.add("embed", "embed", {"scale": 6}, {"table": table}, [tokens, where], [y])


def linear_file(g):
    for N, K, rows, activation, bias in [(3, 1, 2, "none", True), (11, 36, 7, "relu", True), (33, 7, 5, "swish", False),
                                         (5, 145, 6, "gelu", True)]:
        w = {}
        linear_weights(w, "linear", N, K, bias)
        x = draw(rows, K)
        g.add(f"{N}x{K}_{activation}", "linear", {"activation": activation}, w, [x],
              [ACTIVATIONS[activation](apply_linear(w, "linear", x))])
    for D, F, rows, activation, residual, norm, post in [(4, 9, 1, "relu", 0, False, False),
                                                         (36, 50, 7, "swish", 0.5, True, False),
                                                         (36, 33, 6, "gelu", 1, True, True)]:
        w = {}
        linear_weights(w, "w1", F, D)
        linear_weights(w, "w2", D, F)
        if norm:
            norm_weights(w, "norm", D)
        if post:
            norm_weights(w, "post", D)
        x = draw(rows, D, scale=2)
        f = apply_linear(w, "w2", ACTIVATIONS[activation](apply_linear(w, "w1", apply_norm(w, "norm", x))))
        y = apply_norm(w, "post", f if residual == 0 else x + residual * f)
        g.add(f"ffn_{activation}", "feed_forward", {"activation": activation, "residual": residual}, w, [x], [y])


def heads_of(x, heads):
    return x.reshape(x.shape[0], heads, x.shape[1] // heads).transpose(1, 0, 2)  # [H, T, Dh]


def attend(q, k, v, heads, mask, bias=None):
    """q, k, v [*, D]; bias [H, T1, T2] joins the scores before the scaling."""
    q, k, v = heads_of(q, heads), heads_of(k, heads), heads_of(v, heads)
    out = []
    for h in range(heads):
        s = q[h] @ k[h].T + (0 if bias is None else bias[h])
        out.append(softmax(s / math.sqrt(q.shape[2]), mask) @ v[h])
    return np.concatenate(out, axis=1)


def rel_bias_terms(q, u, v, pos, k, heads):
    """matrix_ac + matrix_bd of WeNet minus q k^T, so that attend() can add q k^T itself."""
    qh, kh, ph = heads_of(q, heads), heads_of(k, heads), heads_of(pos, heads)
    u, v = u.reshape(heads, 1, -1), v.reshape(heads, 1, -1)
    ac = (qh + u) @ kh.transpose(0, 2, 1)
    bd = (qh + v) @ ph.transpose(0, 2, 1)
    return ac + bd - qh @ kh.transpose(0, 2, 1)


def stored(w, D, packed):
    """The weights as a node holds them: three linears, or one with rows q, k, v."""
    w = dict(w)
    if packed:
        w["qkv.w"] = np.concatenate([w.pop(f"{n}.w") for n in "qkv"])
        w["qkv.b"] = np.concatenate([w.pop(f"{n}.b") for n in "qkv"])
    return w


def attention_weights(D, norm, names="qkvo"):
    w = {}
    for name in names:
        linear_weights(w, name, D, D)
    if norm:
        norm_weights(w, "norm", D)
    return w


def attention_file(g):
    for case, D, heads, lengths, chunk, left, norm, residual, packed in [
            ("one", 4, 1, (1,), 0, -1, False, 0, False), ("full", 36, 4, (1, 2, 7), 0, -1, True, 1, True),
            ("chunk4_left1", 36, 4, (11, 3), 4, 1, True, 1, False), ("chunk2_left0", 4, 2, (7, 0, 2), 2, 0, False, 0, True),
            ("chunk3_all", 4, 2, (8,), 3, -1, False, 1, False)]:
        for op in ("self_attention", "rel_attention"):
            w = attention_weights(D, norm)
            if op == "rel_attention":
                linear_weights(w, "pos", D, D, bias=False)
                w["pos_u"], w["pos_v"] = draw(D), draw(D)
            x = draw(sum(lengths), D, scale=2)
            out = []
            for part in split(x, lengths):
                h, T = apply_norm(w, "norm", part), part.shape[0]
                q, k, v = (apply_linear(w, n, h) for n in "qkv")
                bias = None
                if op == "rel_attention":
                    pos = positions(T, D) @ w["pos.w"].T
                    bias = rel_bias_terms(q, w["pos_u"], w["pos_v"], pos, k, heads)
                context = attend(q, k, v, heads, chunk_mask(T, chunk, left), bias) if T else np.zeros((0, D))
                out.append(residual * part + apply_linear(w, "o", context))
            g.add(f"{op}_{case}", op, {"heads": heads, "residual": residual}, stored(w, D, packed), [x],
                  [np.concatenate(out)], {0: lengths}, (chunk, left, 0))
    tree_cases(g)
    cross_cases(g)


def tree_cases(g):
    """Each row's result equals that of its path alone under a causal mask; the pool already holds two paths' starts."""
    for case, D, heads, parents, norm, packed in [("chain", 4, 2, [-1, 0, 1], False, False),
                                                  ("forest", 36, 4, [-1, 0, 0, 2, -2, 4, 1], True, True)]:
        w = attention_weights(D, norm)
        U, P = len(parents), len(parents) + 5
        slots = rng.permutation(P)[: U + 2]
        earlier, slots = slots[:2], slots[2:]  # pool rows of an earlier step: -2 continues the path of both of them
        pool = draw(P, 2 * D)
        x = draw(U, D, scale=2)
        h = apply_norm(w, "norm", x)
        q, k, v = (apply_linear(w, n, h) for n in "qkv")
        after = pool.copy()
        after[slots] = np.concatenate([k, v], axis=1)
        paths, context = [], []
        for r, parent in enumerate(parents):
            path = [] if parent == -1 else list(earlier) if parent == -2 else list(paths[parent])
            paths.append(path + [slots[r]])
            keys = after[paths[r]]
            context.append(attend(q[r:r + 1], keys[:, :D], keys[:, D:], heads, np.ones((1, len(keys)), bool)))
        y = x + apply_linear(w, "o", np.concatenate(context))
        offsets = np.cumsum([0] + [len(p) for p in paths])
        g.add(f"tree_{case}", "tree_attention", {"heads": heads, "residual": 1}, stored(w, D, packed),
              [x, slots, offsets, np.concatenate(paths), pool], [y], states={4: after})


def cross_cases(g):
    for case, D, heads, lengths, sequence, column, norm, residual in [
            ("one", 4, 1, (1,), [0], 0, False, 0), ("three", 36, 4, (7, 2, 33), [0, 0, 2, 2, 2, 1], 72, True, 1)]:
        w = attention_weights(D, norm, "qo")
        memory = draw(sum(lengths), column + 2 * D + (3 if column else 0))  # other layers before and after
        x = draw(len(sequence), D, scale=2)
        q = apply_linear(w, "q", apply_norm(w, "norm", x))
        context = []
        for r, s in enumerate(sequence):
            part = split(memory, lengths)[s]
            k, v = part[:, column:column + D], part[:, column + D:column + 2 * D]
            context.append(attend(q[r:r + 1], k, v, heads, np.ones((1, len(part)), bool)))
        y = residual * x + apply_linear(w, "o", np.concatenate(context))
        g.add(f"cross_{case}", "cross_attention", {"heads": heads, "residual": residual, "key_column": column}, w,
              [x, memory, np.array(sequence)], [y], {1: lengths})


def conv_file(g):
    for case, D, taps, causal, conv_norm, lengths, norm, residual in [
            ("one_tap", 4, 1, 0, "none", (1, 2), False, 0), ("causal8", 36, 8, 1, "batch_norm", (1, 2, 11), True, 1),
            ("causal15", 36, 15, 1, "layer_norm", (7, 20), True, 1), ("symmetric15", 36, 15, 0, "batch_norm", (20, 3), True, 1),
            ("symmetric3", 4, 3, 0, "layer_norm", (5, 0, 1), False, 0)]:
        w = {}
        linear_weights(w, "pw1", 2 * D, D)
        linear_weights(w, "pw2", D, D)
        if norm:
            norm_weights(w, "norm", D)
        depthwise = draw(D, 1, taps, scale=0.5)  # PyTorch's Conv1d, groups = D
        w["dw.w"], w["dw.b"] = depthwise[:, 0, :].T.copy(), draw(D)
        if conv_norm != "none":
            norm_weights(w, "conv_norm", D)
        if conv_norm == "batch_norm":
            w["conv_norm.mean"], w["conv_norm.var"] = draw(D, scale=0.5), 1 + draw(D, scale=0.5)
        x = draw(sum(lengths), D, scale=2)
        out = [residual * p + conv_module(w, depthwise, apply_norm(w, "norm", p), causal, conv_norm) if len(p) else p
               for p in split(x, lengths)]
        g.add(case, "conv_module", {"causal": causal, "conv_norm": conv_norm, "residual": residual}, w, [x],
              [np.concatenate(out)], {0: lengths})


def conv_module(w, depthwise, h, causal, conv_norm):
    D, _, taps = depthwise.shape
    if causal:
        h = np.concatenate([np.zeros((taps - 1, D)), h])  # before the first pointwise convolution, as WeNet
    a = apply_linear(w, "pw1", h)
    gated = a[:, :D] * sigmoid(a[:, D:])
    if not causal:
        side = np.zeros(((taps - 1) // 2, D))
        gated = np.concatenate([side, gated, side])
    c = np.stack([np.convolve(gated[:, d], depthwise[d, 0, ::-1], mode="valid") for d in range(D)], axis=1) + w["dw.b"]
    if conv_norm == "layer_norm":
        c = layer_norm(c, w["conv_norm.gamma"], w["conv_norm.beta"])
    if conv_norm == "batch_norm":
        c = (c - w["conv_norm.mean"]) / np.sqrt(w["conv_norm.var"] + 1e-5) * w["conv_norm.gamma"] + w["conv_norm.beta"]
    return apply_linear(w, "pw2", ACTIVATIONS["swish"](c))


STAGES = {"conv2d": [(3, 2), (3, 2)], "conv2d2": [(3, 2), (3, 1)], "conv2d6": [(3, 2), (5, 3)],
          "conv2d8": [(3, 2), (3, 2), (3, 2)]}


def conv2d(x, weight, bias, stride):
    """x [Cin, T, F], weight [Cout, Cin, k, k], no padding, as torch.nn.Conv2d."""
    taps = weight.shape[2]
    T, F = ((n - taps) // stride + 1 for n in x.shape[1:])
    out = np.zeros((weight.shape[0], T, F))
    for t in range(T):
        for f in range(F):
            patch = x[:, t * stride:t * stride + taps, f * stride:f * stride + taps]
            out[:, t, f] = np.tensordot(weight, patch, axes=3) + bias
    return out


def subsample_file(g):
    for kind, mel, C, D, lengths, cmvn in [("conv2d", 23, 4, 6, (7, 8, 19), True), ("conv2d2", 11, 3, 5, (9, 12), True),
                                           ("conv2d6", 23, 4, 6, (11, 30), False), ("conv2d8", 20, 3, 4, (15, 31), True)]:
        stages, w, weights = STAGES[kind], {}, []
        mean, istd = (draw(mel, scale=4), 1 + draw(mel, scale=0.5)) if cmvn else (0, 1)
        if cmvn:
            w["mean"], w["istd"] = mean, istd
        in_channels, F = 1, mel
        for i, (taps, stride) in enumerate(stages):
            weight, bias = draw(C, in_channels, taps, taps, scale=0.5), draw(C)
            weights.append((weight, bias))
            w[f"conv{i}.w"] = weight.transpose(0, 2, 3, 1).reshape(C, -1)
            w[f"conv{i}.b"] = bias
            in_channels, F = C, (F - taps) // stride + 1
        out_weight, out_bias = draw(D, C * F, scale=0.25), draw(D)  # PyTorch: columns (channel, frequency)
        w["out.w"], w["out.b"] = out_weight.reshape(D, C, F).transpose(0, 2, 1).reshape(D, -1), out_bias
        x = draw(sum(lengths), mel, scale=8)
        out = []
        for part in split(x, lengths):
            plane = ((part - mean) * istd)[None]
            for (weight, bias), (taps, stride) in zip(weights, stages):
                plane = np.maximum(conv2d(plane, weight, bias, stride), 0)
            out.append((plane.transpose(1, 0, 2).reshape(plane.shape[1], -1) @ out_weight.T + out_bias) * 2)
        g.add(kind, "subsample_conv2d", {"kind": kind, "scale": 2}, w, [x], [np.concatenate(out)], {0: lengths})


def output_file(g):
    for case, D, V, rows, norm, blank, penalty in [("plain", 4, 11, 1, False, -1, 0), ("norm", 36, 11, 7, True, 0, 0),
                                                   ("penalty", 36, 33, 6, True, 3, 2.5), ("no_blank", 4, 7, 5, False, -1, 2.5)]:
        w = {}
        linear_weights(w, "head", V, D)
        if norm:
            norm_weights(w, "norm", D)
        x = draw(rows, D, scale=4)
        if case == "plain":  # equal logits: columns 2, 5 and 8 are the same function
            for v in (5, 8):
                w["head.w"][v], w["head.b"][v] = w["head.w"][2], w["head.b"][2]
        logits = apply_linear(w, "head", apply_norm(w, "norm", x))
        if blank >= 0:
            logits[:, blank] -= penalty
        logp = logits - logits.max(-1, keepdims=True)
        logp -= np.log(np.exp(logp).sum(-1, keepdims=True))
        attrs, options = {"blank": blank}, (0, -1, penalty)
        g.add(f"{case}_full", "log_softmax", attrs, w, [x], [logp], options=options)
        order = np.argsort(-logp.astype(np.float32), axis=-1, kind="stable")
        for k in (1, V):
            ids = order[:, :k]
            g.add(f"{case}_top{k}", "log_softmax_topk", attrs, w, [x], [np.take_along_axis(logp, ids, -1), ids],
                  options=options)
        at = np.sort(rng.integers(0, rows, 9))
        ids = rng.integers(0, V, 9)
        g.add(f"{case}_targets", "target_logp", attrs, w, [x, at, ids], [logp[at, ids]], options=options)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in [("elementwise", elementwise_file), ("linear", linear_file), ("attention", attention_file),
                       ("conv_module", conv_file), ("subsample_conv2d", subsample_file), ("output_head", output_file)]:
        golden = Golden()
        make(golden)
        np.savez_compressed(folder / f"{name}.npz", **golden.arrays)


if __name__ == "__main__":
    main()
