# bench/peers/folded_modules.py
# SPDX-License-Identifier: Apache-2.0
"""The same model with what algebra can remove taken out by hand, as far as PyTorch's operators go. No masks: utterances
of a batch are equally long, which is the peer's best case.

  positions     (q+u)·k + (q+v)·P = (q+u)·(k+P) + (v-u)·P: a table is added to the keys, and each key has a constant.
                The constant is one more column of the keys against a column of ones of the queries; heads grow from 64
                to 72 columns, as flash attention takes no bias and wants multiples of 8
  projections   Q, K, V are one product with the scale, u and the column of ones in it
  constants     BatchNorm in the depthwise filter, 1/2 in the second feed-forward matrix, sqrt(D) in the projection in
                front of the blocks
  convolution   pointwise ones are products over the last axis, the depthwise one a sum of shifted rows: the compiler
                makes one kernel of it and its neighbours, without transposes
  decoder       cross keys and values of all blocks in one product, once an utterance and not once a hypothesis
  log-softmax   never stored: logits less their log-sum-exp, for the ten best or the targets alone
"""

import math

import torch
from torch import nn
from torch.nn import functional


def buffer(module, **tensors):
    for name, value in tensors.items():
        module.register_buffer(name, value.detach().clone().contiguous())


def pad_heads(weight, heads, columns):
    """Rows of a projection to `heads` heads, with `columns` rows of zeros behind each head's."""
    split = weight.view(heads, -1, *weight.shape[1:])
    zeros = split.new_zeros(heads, columns, *weight.shape[1:])
    return torch.cat([split, zeros], 1).flatten(0, 1)


class SelfAttention(nn.Module):
    """Over packed Q, K, V; `table` [H, T, Dh] is added to the keys."""

    def __init__(self, heads, weight, bias, out, out_bias, table=None):
        super().__init__()
        self.heads, self.causal = heads, table is None
        buffer(self, weight=weight, bias=bias, out=out, out_bias=out_bias)
        if table is not None:
            buffer(self, table=table)

    def forward(self, x):
        rows, length, _ = x.shape
        qkv = functional.linear(x, self.weight, self.bias).view(rows, length, 3, self.heads, -1)
        q, k, v = (qkv[:, :, i].transpose(1, 2) for i in range(3))
        if not self.causal:
            k = k + self.table[:, :length]
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal, scale=1.0)
        return functional.linear(y.transpose(1, 2).reshape(rows, length, -1), self.out, self.out_bias)


def fold_relative_attention(attention, positions):
    heads, extra = attention.heads, 8
    scale = 1 / math.sqrt(attention.linear_q.out_features // heads)
    u, v = attention.pos_bias_u, attention.pos_bias_v
    q_bias = pad_heads((attention.linear_q.bias + u.flatten()) * scale, heads, extra).view(heads, -1)
    q_bias[:, -extra] = 1.0  # the column of ones
    p = attention.linear_pos(positions[0]).view(positions.size(1), heads, -1).transpose(0, 1)  # [H, T, Dh]
    constant = (p * (v - u)[:, None]).sum(-1, keepdim=True) * scale
    table = torch.cat([p, constant, p.new_zeros(heads, p.size(1), extra - 1)], -1)
    k, w = attention.linear_k, attention.linear_v
    weights = [attention.linear_q.weight * scale, k.weight, w.weight]
    out = pad_heads(attention.linear_out.weight.t().contiguous(), heads, extra).t()
    return SelfAttention(heads, torch.cat([pad_heads(x, heads, extra) for x in weights]),
                         torch.cat([q_bias.flatten(), *(pad_heads(x, heads, extra) for x in (k.bias, w.bias))]),
                         out, attention.linear_out.bias, table)


def fold_causal_attention(attention):
    scale = 1 / math.sqrt(attention.linear_q.out_features // attention.heads)
    q, k, v, out = attention.linear_q, attention.linear_k, attention.linear_v, attention.linear_out
    return SelfAttention(attention.heads, torch.cat([q.weight * scale, k.weight, v.weight]),
                         torch.cat([q.bias * scale, k.bias, v.bias]), out.weight, out.bias)


class FeedForward(nn.Module):
    def __init__(self, wenet, factor, activation):
        super().__init__()
        self.activation = activation
        buffer(self, w1=wenet.w_1.weight, b1=wenet.w_1.bias, w2=wenet.w_2.weight * factor, b2=wenet.w_2.bias * factor)

    def forward(self, x):
        return functional.linear(self.activation(functional.linear(x, self.w1, self.b1)), self.w2, self.b2)


class ConvModule(nn.Module):
    def __init__(self, wenet):
        super().__init__()
        norm, depthwise = wenet.norm, wenet.depthwise_conv
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        taps = (depthwise.weight.squeeze(1) * scale[:, None]).t()  # [K, D]
        buffer(self, taps=taps, bias=(depthwise.bias - norm.running_mean) * scale + norm.bias,
               w1=wenet.pointwise_conv1.weight.squeeze(2), b1=wenet.pointwise_conv1.bias,
               w2=wenet.pointwise_conv2.weight.squeeze(2), b2=wenet.pointwise_conv2.bias)

    def forward(self, x):
        reach, length = self.taps.size(0) // 2, x.size(1)
        x = functional.pad(functional.glu(functional.linear(x, self.w1, self.b1), dim=2), (0, 0, reach, reach))
        total = sum(x[:, i : i + length].float() * self.taps[i].float() for i in range(self.taps.size(0)))
        return functional.linear(functional.silu(total + self.bias.float()).type_as(x), self.w2, self.b2)


class EncoderBlock(nn.Module):
    def __init__(self, wenet, positions):
        super().__init__()
        self.macaron = FeedForward(wenet.feed_forward_macaron, 0.5, functional.silu)
        self.attention = fold_relative_attention(wenet.self_attn, positions)
        self.conv = ConvModule(wenet.conv_module)
        self.feed_forward = FeedForward(wenet.feed_forward, 0.5, functional.silu)
        self.norm_macaron, self.norm_attention, self.norm_conv = wenet.norm_ff_macaron, wenet.norm_mha, wenet.norm_conv
        self.norm_feed_forward, self.norm_final = wenet.norm_ff, wenet.norm_final

    def forward(self, x):
        x = x + self.macaron(self.norm_macaron(x))
        x = x + self.attention(self.norm_attention(x))
        x = x + self.conv(self.norm_conv(x))
        x = x + self.feed_forward(self.norm_feed_forward(x))
        return self.norm_final(x)


class Encoder(nn.Module):
    """As wenet_modules.Encoder, with its weights; lengths are not looked at."""

    def __init__(self, wenet):
        super().__init__()
        width, first, second = wenet.sizes.width, wenet.conv[0], wenet.conv[2]
        self.beam = wenet.sizes.beam
        # The second convolution's output lies channels last; the projection's columns follow it.
        columns = wenet.out.weight.view(width, width, -1).transpose(1, 2).flatten(1)
        buffer(self, mean=wenet.mean, istd=wenet.istd, first=first.weight, first_bias=first.bias,
               second_bias=second.bias, out=columns * math.sqrt(width), out_bias=wenet.out.bias * math.sqrt(width),
               ctc=wenet.ctc_lo.weight, ctc_bias=wenet.ctc_lo.bias)
        self.register_buffer("second", second.weight.detach().clone().contiguous(memory_format=torch.channels_last))
        self.blocks = nn.ModuleList(EncoderBlock(block, wenet.positions) for block in wenet.encoders)
        self.after_norm = wenet.after_norm

    def forward(self, features, _lengths):
        x = ((features - self.mean) * self.istd).unsqueeze(1)
        x = functional.relu(functional.conv2d(x, self.first, self.first_bias, stride=2))
        x = functional.relu(functional.conv2d(x, self.second, self.second_bias, stride=2))
        x = functional.linear(x.permute(0, 2, 3, 1).flatten(2), self.out, self.out_bias)
        for block in self.blocks:
            x = block(x)
        x = self.after_norm(x)
        logits = functional.linear(x, self.ctc, self.ctc_bias)
        values, symbols = torch.topk(logits, self.beam, dim=2)
        return x, values.float() - logits.float().logsumexp(2, keepdim=True), symbols


class CrossAttention(nn.Module):
    def __init__(self, wenet):
        super().__init__()
        self.heads = wenet.heads
        scale = 1 / math.sqrt(wenet.linear_q.out_features // wenet.heads)
        buffer(self, q=wenet.linear_q.weight * scale, q_bias=wenet.linear_q.bias * scale,
               out=wenet.linear_out.weight, out_bias=wenet.linear_out.bias)

    def forward(self, x, keys, values):  # x [B, N * U, D]; keys, values [B, H, T, Dh]
        q = functional.linear(x, self.q, self.q_bias).view(x.size(0), x.size(1), self.heads, -1).transpose(1, 2)
        y = functional.scaled_dot_product_attention(q, keys, values, scale=1.0)
        return functional.linear(y.transpose(1, 2).reshape(x.shape), self.out, self.out_bias)


class DecoderBlock(nn.Module):
    def __init__(self, wenet):
        super().__init__()
        self.self_attention, self.cross = fold_causal_attention(wenet.self_attn), CrossAttention(wenet.src_attn)
        self.feed_forward = FeedForward(wenet.feed_forward, 1.0, functional.relu)
        self.norm1, self.norm2, self.norm3 = wenet.norm1, wenet.norm2, wenet.norm3

    def forward(self, x, keys, values):  # x [B * N, U, D]
        x = x + self.self_attention(self.norm1(x))
        rows = self.norm2(x).view(keys.size(0), -1, x.size(2))
        x = x + self.cross(rows, keys, values).view(x.shape)
        return x + self.feed_forward(self.norm3(x))


class Decoder(nn.Module):
    """As wenet_modules.Decoder, with its weights; lengths are not looked at."""

    def __init__(self, wenet):
        super().__init__()
        self.heads = wenet.sizes.heads
        sources = [block.src_attn for block in wenet.decoders]
        linears = [linear for source in sources for linear in (source.linear_k, source.linear_v)]
        buffer(self, embedding=wenet.embed.weight * math.sqrt(wenet.sizes.width), positions=wenet.positions,
               memory=torch.cat([x.weight for x in linears]), memory_bias=torch.cat([x.bias for x in linears]),
               out=wenet.output_layer.weight, out_bias=wenet.output_layer.bias)
        self.blocks = nn.ModuleList(DecoderBlock(block) for block in wenet.decoders)
        self.after_norm = wenet.after_norm

    def forward(self, memory, _memory_lengths, tokens, _token_lengths, targets):
        batch, beam, length = tokens.shape
        cross = functional.linear(memory, self.memory, self.memory_bias)
        cross = cross.view(batch, memory.size(1), 2 * len(self.blocks), self.heads, -1)
        x = self.embedding[tokens.view(-1, length)] + self.positions[:, :length]
        for i, block in enumerate(self.blocks):
            x = block(x, cross[:, :, 2 * i].transpose(1, 2), cross[:, :, 2 * i + 1].transpose(1, 2))
        logits = functional.linear(self.after_norm(x), self.out, self.out_bias)
        chosen = logits.gather(2, targets.view(-1, length, 1)).squeeze(-1)
        return (chosen.float() - logits.float().logsumexp(2)).sum(1).view(batch, beam)
