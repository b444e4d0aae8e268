"""Rotary 2D positions (RoPE, Su et al., 2021), attention, MLP and transformer blocks."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

ROTARY_BASE = 100.0
LayerNorm = partial(nn.LayerNorm, eps=1e-6)  # not torch's 1e-5: the published weights feel it


def rotary_table(
    positions: Float[Tensor, "token 2"], head_width: int
) -> Float[Tensor, "2 token 2 frequency"]:
    """Return cosines and sines of the angles by which `apply_rotary` rotates each token.

    The first half of a head's channels encodes the first coordinate of the position (y), the
    second half the other one (x); each half has `head_width / 4` frequencies, from 1 down to
    almost 1 / ROTARY_BASE.
    """
    count = head_width // 4
    steps = torch.arange(count, device=positions.device, dtype=positions.dtype)
    angles = positions[..., None] * ROTARY_BASE ** (-steps / count)
    return torch.stack([angles.cos(), angles.sin()])


def apply_rotary(
    heads: Float[Tensor, "*batch token channel"], table: Float[Tensor, "2 token 2 frequency"]
) -> Float[Tensor, "*batch token channel"]:
    """Rotate pairs of channels by their token's angles.

    A product of two rotated vectors then depends on their relative position only. Within each
    half of the channels, channel j is paired with channel j + frequency.
    """
    cos, sin = table
    u, v = heads.unflatten(-1, (2, 2, -1)).unbind(-2)
    rotated = torch.stack([u * cos - v * sin, v * cos + u * sin], dim=-2)
    return rotated.flatten(-3).to(heads.dtype)


def split_heads(
    x: Float[Tensor, "batch token width"], head_width: int
) -> Float[Tensor, "batch head token channel"]:
    """Split the channels into attention heads."""
    return x.unflatten(-1, (-1, head_width)).transpose(1, 2)


def attend(
    q: Float[Tensor, "batch head token channel"],
    k: Float[Tensor, "batch head memory_token channel"],
    v: Float[Tensor, "batch head memory_token channel"],
) -> Float[Tensor, "batch token width"]:
    """Average values by the softmax of products, and join the heads."""
    if q.requires_grad and q.dtype is torch.bfloat16 and not q.is_cuda:
        # Twice as fast as torch's own kernel, in training on a CPU.
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
        return (weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)
    return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Multi-head attention among the tokens of one view."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.head_width = head_width
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "batch token width"],
        rotary: Float[Tensor, "2 token 2 frequency"] | None,
    ) -> Float[Tensor, "batch token width"]:
        """Attend from every token to all of them; without rotary positions if they are None."""
        q, k, v = (split_heads(part, self.head_width) for part in self.qkv(x).chunk(3, dim=-1))
        if rotary is not None:
            q, k = apply_rotary(q, rotary), apply_rotary(k, rotary)
        return self.out(attend(q, k, v))


class CrossAttention(nn.Module):
    """Multi-head attention from the tokens of one view to a memory of other views' tokens."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.head_width = head_width
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "batch token width"],
        memory: Float[Tensor, "batch memory_token width"],
        rotary: Float[Tensor, "2 token 2 frequency"] | None,
        memory_rotary: Float[Tensor, "2 memory_token 2 frequency"] | None,
    ) -> Float[Tensor, "batch token width"]:
        """Attend from every token to those of the memory."""
        q = split_heads(self.query(x), self.head_width)
        k = split_heads(self.key(memory), self.head_width)
        v = split_heads(self.value(memory), self.head_width)
        if rotary is not None and memory_rotary is not None:
            q, k = apply_rotary(q, rotary), apply_rotary(k, memory_rotary)
        return self.out(attend(q, k, v))


class MLP(nn.Sequential):
    """Two linear layers with a GELU between them, four times as wide there."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class LayerScale(nn.Module):
    """A learned factor per channel (Touvron et al., ICCV 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Scale the channels."""
        return x * self.gamma


class EncoderBlock(nn.Module):
    """Pre-norm transformer block: self-attention and MLP, each added to its input."""

    def __init__(self, width: int, head_width: int, layer_scale: bool = False) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(width)
        self.attention = SelfAttention(width, head_width)
        self.attention_scale = LayerScale(width) if layer_scale else nn.Identity()
        self.mlp_norm = LayerNorm(width)
        self.mlp = MLP(width)
        self.mlp_scale = LayerScale(width) if layer_scale else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "batch token width"],
        rotary: Float[Tensor, "2 token 2 frequency"] | None = None,
    ) -> Float[Tensor, "batch token width"]:
        """Update the tokens of one view."""
        x = x + self.attention_scale(self.attention(self.attention_norm(x), rotary))
        return x + self.mlp_scale(self.mlp(self.mlp_norm(x)))


class DecoderBlock(nn.Module):
    """Pre-norm transformer block with cross-attention to a memory of the other views' tokens."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(width)
        self.attention = SelfAttention(width, head_width)
        self.cross_norm = LayerNorm(width)
        self.memory_norm = LayerNorm(width)
        self.cross_attention = CrossAttention(width, head_width)
        self.mlp_norm = LayerNorm(width)
        self.mlp = MLP(width)

    def forward(
        self,
        x: Float[Tensor, "batch token width"],
        memory: Float[Tensor, "batch memory_token width"],
        rotary: Float[Tensor, "2 token 2 frequency"] | None,
        memory_rotary: Float[Tensor, "2 memory_token 2 frequency"] | None,
    ) -> Float[Tensor, "batch token width"]:
        """Update the tokens of one view."""
        x = x + self.attention(self.attention_norm(x), rotary)
        normed_memory = self.memory_norm(memory)
        x = x + self.cross_attention(self.cross_norm(x), normed_memory, rotary, memory_rotary)
        return x + self.mlp(self.mlp_norm(x))
