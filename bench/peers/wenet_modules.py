# bench/peers/wenet_modules.py
# SPDX-License-Identifier: Apache-2.0
"""The 46 M AISHELL conformer in PyTorch, computed as WeNet's modules compute it: the same operators in the same order,
with padding masks, position products and repeated encoder output. Own code; what the modules do is a published fact.

B utterances, T frames, D width, H heads, V symbols, N hypotheses, U tokens of a hypothesis (with <sos>).
"""

import dataclasses
import math

import torch
from torch import nn
from torch.nn import functional


@dataclasses.dataclass
class Sizes:
    mel_bins: int = 80
    width: int = 256
    heads: int = 4
    ffn: int = 2048
    blocks: int = 12
    kernel: int = 15
    decoder_blocks: int = 6
    vocab: int = 4233
    beam: int = 10


def sinusoids(length, width):
    position = torch.arange(length, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
    table = torch.zeros(length, width)
    table[:, 0::2], table[:, 1::2] = torch.sin(position * rate), torch.cos(position * rate)
    return table


class FeedForward(nn.Module):
    def __init__(self, width, hidden, activation):
        super().__init__()
        self.w_1, self.w_2, self.activation = nn.Linear(width, hidden), nn.Linear(hidden, width), activation

    def forward(self, x):
        return self.w_2(self.activation(self.w_1(x)))


class Attention(nn.Module):
    """Dot products over sqrt(d_k), softmax in f32, masked weights set to zero."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.linear_q, self.linear_k = nn.Linear(width, width), nn.Linear(width, width)
        self.linear_v, self.linear_out = nn.Linear(width, width), nn.Linear(width, width)

    def split(self, x):  # [B, T, D] -> [B, H, T, Dh]
        return x.view(x.size(0), -1, self.heads, x.size(-1) // self.heads).transpose(1, 2)

    def weigh(self, scores, v, mask):
        hidden = mask.unsqueeze(1).eq(0)  # [B, 1, 1 or T, T]
        scores = scores.masked_fill(hidden, -float("inf"))
        weights = torch.softmax(scores.float(), dim=-1).type_as(v).masked_fill(hidden, 0.0)
        out = torch.matmul(weights, v).transpose(1, 2).contiguous()
        return self.linear_out(out.view(out.size(0), -1, self.heads * v.size(-1)))

    def forward(self, query, memory, mask):
        q, k, v = self.split(self.linear_q(query)), self.split(self.linear_k(memory)), self.split(self.linear_v(memory))
        return self.weigh(torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(q.size(-1)), v, mask)


class RelativeAttention(Attention):
    """rel_pos without a shift: the position of the key alone."""

    def __init__(self, width, heads):
        super().__init__(width, heads)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.empty(heads, width // heads))
        self.pos_bias_v = nn.Parameter(torch.empty(heads, width // heads))

    def forward(self, x, positions, mask):
        q = self.linear_q(x).view(x.size(0), -1, self.heads, x.size(-1) // self.heads)
        k, v, p = self.split(self.linear_k(x)), self.split(self.linear_v(x)), self.split(self.linear_pos(positions))
        content = torch.matmul((q + self.pos_bias_u).transpose(1, 2), k.transpose(-2, -1))
        position = torch.matmul((q + self.pos_bias_v).transpose(1, 2), p.transpose(-2, -1))
        return self.weigh((content + position) / math.sqrt(q.size(-1)), v, mask)


class ConvModule(nn.Module):
    def __init__(self, width, kernel):
        super().__init__()
        self.pointwise_conv1 = nn.Conv1d(width, 2 * width, 1)
        self.depthwise_conv = nn.Conv1d(width, width, kernel, padding=(kernel - 1) // 2, groups=width)
        self.norm = nn.BatchNorm1d(width)
        self.pointwise_conv2 = nn.Conv1d(width, width, 1)

    def forward(self, x, mask):
        x = x.transpose(1, 2).masked_fill(~mask, 0.0)
        x = functional.glu(self.pointwise_conv1(x), dim=1)
        x = self.pointwise_conv2(functional.silu(self.norm(self.depthwise_conv(x))))
        return x.masked_fill(~mask, 0.0).transpose(1, 2)


class EncoderBlock(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        width = sizes.width
        self.feed_forward_macaron = FeedForward(width, sizes.ffn, functional.silu)
        self.self_attn = RelativeAttention(width, sizes.heads)
        self.conv_module = ConvModule(width, sizes.kernel)
        self.feed_forward = FeedForward(width, sizes.ffn, functional.silu)
        self.norm_ff_macaron, self.norm_mha, self.norm_conv = (nn.LayerNorm(width) for _ in range(3))
        self.norm_ff, self.norm_final = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x, positions, mask):
        x = x + 0.5 * self.feed_forward_macaron(self.norm_ff_macaron(x))
        x = x + self.self_attn(self.norm_mha(x), positions, mask)
        x = x + self.conv_module(self.norm_conv(x), mask)
        x = x + 0.5 * self.feed_forward(self.norm_ff(x))
        return self.norm_final(x)


class Encoder(nn.Module):
    """Features [B, T_in, F] and their lengths to encoder output [B, T, D] and the best symbols of every frame."""

    def __init__(self, sizes, max_frames):
        super().__init__()
        self.sizes, width = sizes, sizes.width
        self.mean, self.istd = (nn.Parameter(torch.empty(sizes.mel_bins)) for _ in range(2))
        self.conv = nn.Sequential(nn.Conv2d(1, width, 3, 2), nn.ReLU(), nn.Conv2d(width, width, 3, 2), nn.ReLU())
        self.out = nn.Linear(width * (((sizes.mel_bins - 1) // 2 - 1) // 2), width)
        self.register_buffer("positions", sinusoids(max_frames, width)[None])
        self.encoders = nn.ModuleList(EncoderBlock(sizes) for _ in range(sizes.blocks))
        self.after_norm = nn.LayerNorm(width)
        self.ctc_lo = nn.Linear(width, sizes.vocab)

    def forward(self, features, lengths):
        mask = (torch.arange(features.size(1), device=lengths.device) < lengths[:, None])[:, None]  # [B, 1, T_in]
        x = (features - self.mean) * self.istd
        x = self.conv(x.unsqueeze(1))
        x = self.out(x.transpose(1, 2).contiguous().view(x.size(0), x.size(2), -1))
        mask = mask[:, :, 2::2][:, :, 2::2]
        positions = self.positions[:, : x.size(1)]
        x = x * math.sqrt(self.sizes.width)
        for block in self.encoders:
            x = block(x, positions, mask)
        x = self.after_norm(x)
        logp = functional.log_softmax(self.ctc_lo(x), dim=2)
        return (x, *torch.topk(logp, self.sizes.beam, dim=2))


class DecoderBlock(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        width = sizes.width
        self.self_attn, self.src_attn = Attention(width, sizes.heads), Attention(width, sizes.heads)
        self.feed_forward = FeedForward(width, sizes.ffn, functional.relu)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x, mask, memory, memory_mask):
        y = self.norm1(x)
        x = x + self.self_attn(y, y, mask)
        x = x + self.src_attn(self.norm2(x), memory, memory_mask)
        return x + self.feed_forward(self.norm3(x))


class Decoder(nn.Module):
    """Encoder output [B, T, D] and hypotheses [B, N, U], U = <sos> and the tokens, to their scores [B, N]."""

    def __init__(self, sizes, max_tokens):
        super().__init__()
        self.sizes, width = sizes, sizes.width
        self.embed = nn.Embedding(sizes.vocab, width)
        self.register_buffer("positions", sinusoids(max_tokens, width)[None])
        self.decoders = nn.ModuleList(DecoderBlock(sizes) for _ in range(sizes.decoder_blocks))
        self.after_norm = nn.LayerNorm(width)
        self.output_layer = nn.Linear(width, sizes.vocab)

    def forward(self, memory, memory_lengths, tokens, token_lengths, targets):
        beam, length = tokens.size(1), tokens.size(2)
        memory = memory[:, None].repeat(1, beam, 1, 1).view(-1, memory.size(1), memory.size(2))  # [B * N, T, D]
        frames = torch.arange(memory.size(1), device=memory.device)
        memory_mask = (frames < memory_lengths.repeat_interleave(beam)[:, None])[:, None]
        steps = torch.arange(length, device=memory.device)
        present = (steps < token_lengths.view(-1)[:, None])[:, None]  # [B * N, 1, U]
        mask = present & (steps[:, None] >= steps)
        x = self.embed(tokens.view(-1, length)) * math.sqrt(self.sizes.width) + self.positions[:, :length]
        for block in self.decoders:
            x = block(x, mask, memory, memory_mask)
        logp = functional.log_softmax(self.output_layer(self.after_norm(x)), dim=-1)
        scores = logp.gather(2, targets.view(-1, length, 1)).squeeze(-1) * present.squeeze(1)
        return scores.float().sum(1).view(-1, beam)


def fill_randomly(module, seed):
    """Outputs about as large as inputs, so that half precision neither overflows nor works on zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            spread = math.sqrt(3 * value.size(0) / value.numel()) if value.dim() > 1 else 0.2
            value.copy_((torch.rand(value.shape, generator=generator) * 2 - 1) * spread)
            if value.dim() == 1 and (name.endswith("istd") or ("norm" in name and name.endswith("weight"))):
                value.add_(1)
        for name, value in module.named_buffers():
            if name.endswith("running_mean") or name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=generator) * 0.4 + (0.8 if "var" in name else -0.2))
    return module.eval().requires_grad_(False)
