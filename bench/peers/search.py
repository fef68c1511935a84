# bench/peers/search.py
# SPDX-License-Identifier: Apache-2.0
"""CTC prefix beam search in plain Python (never timed: it makes the n-best lists that all peers rescore), and
WeNet's rescoring of them."""

import math

import numpy as np

MINUS_INFINITY = float("-inf")


def log_add(a, b):
    if a < b:
        a, b = b, a
    return a if b == MINUS_INFINITY else a + math.log1p(math.exp(b - a))


def ctc_prefix_beam(log_probs, beam=10, blank=0):
    """[(tokens, score)] best first: the `beam` best symbols of each frame extend the `beam` best prefixes."""
    prefixes = [((), 0.0, MINUS_INFINITY)]  # prefix, log P ending in blank, log P ending in its last token
    for frame in log_probs:
        best = np.argpartition(-frame, beam)[:beam]
        following = {}

        def add(prefix, blank_score, token_score):
            b, t = following.get(prefix, (MINUS_INFINITY, MINUS_INFINITY))
            following[prefix] = (log_add(b, blank_score), log_add(t, token_score))

        for symbol in sorted(best.tolist(), key=lambda s: -frame[s]):
            p = float(frame[symbol])
            for prefix, ends_blank, ends_token in prefixes:
                total = log_add(ends_blank, ends_token)
                if symbol == blank:
                    add(prefix, total + p, MINUS_INFINITY)
                elif prefix and prefix[-1] == symbol:
                    add(prefix, MINUS_INFINITY, ends_token + p)
                    add(prefix + (symbol,), MINUS_INFINITY, ends_blank + p)
                else:
                    add(prefix + (symbol,), MINUS_INFINITY, total + p)
        ranked = sorted(following.items(), key=lambda item: -log_add(*item[1]))[:beam]
        prefixes = [(prefix, b, t) for prefix, (b, t) in ranked]
    return [(list(prefix), log_add(b, t)) for prefix, b, t in prefixes]


def ctc_greedy(log_probs, blank=0):
    ids = log_probs.argmax(axis=1)
    kept = ids[np.concatenate(([True], ids[1:] != ids[:-1]))]
    return [int(i) for i in kept if i != blank]


def decoder_inputs(nbest, sos, eos):
    longest = max(len(tokens) for tokens, _ in nbest)
    hyps = np.full((len(nbest), longest + 1), eos, np.int64)
    hyps[:, 0] = sos
    for row, (tokens, _) in enumerate(nbest):
        hyps[row, 1:len(tokens) + 1] = tokens
    return hyps, np.array([len(tokens) + 1 for tokens, _ in nbest], np.int64)


def best_hypothesis(nbest, score, r_score, eos, ctc_weight, reverse_weight):
    """Index of the best of `nbest` by attention score + ctc_weight * CTC score. WeNet adds token by token in Python;
    here each hypothesis is one gather, which is kinder to the peers."""
    totals = []
    for row, (tokens, ctc_score) in enumerate(nbest):
        targets = tokens + [eos]
        total = float(score[row, np.arange(len(targets)), targets].sum())
        if reverse_weight > 0:
            right = tokens[::-1] + [eos]
            right_total = float(r_score[row, np.arange(len(right)), right].sum())
            total = (1 - reverse_weight) * total + reverse_weight * right_total
        totals.append(total + ctc_weight * ctc_score)
    return int(np.argmax(totals))
