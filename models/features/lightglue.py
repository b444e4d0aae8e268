"""LightGlue (Lindenberger et al., ICCV 2023): matches keypoints of two images.

Inference only: self- and cross-attention (section 3.1), the assignment (3.2), early exit and
pruning of keypoints (3.3).
"""

import math
import re
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

_LAYERS, _HEADS = 9, 4
_EXIT_RATIO = 0.95  # share of confident keypoints at which the layers end (depth_confidence)
_MIN_MATCHABILITY = 0.01  # of a confident keypoint that is kept (1 - width_confidence)
_MIN_PROBABILITY = 0.1  # of a match (filter_threshold)
_QUERY_CHUNK = 256  # queries whose attention to all keys fits into a processor's cache


@dataclass(frozen=True)
class KeypointState:
    """The keypoints of one image that are left after pruning."""

    state: Float[Tensor, "keypoint channel"]  # descriptors after the layers so far
    rotary: Float[Tensor, "2 keypoint head_channel"]  # cosines and sines of the position encoding
    index: Int[Tensor, " keypoint"]  # their numbers among all keypoints

    def pruned(self, kept: Tensor) -> "KeypointState":
        """Return the keypoints that are kept."""
        return KeypointState(self.state[kept], self.rotary[:, kept], self.index[kept])


class LightGlue:
    """The trained network; it runs where its weights are."""

    def __init__(self, weights: dict[str, Tensor], bfloat16: bool = False) -> None:
        """Take the weights under the names of their authors. Raises KeyError if one is missing.

        `bfloat16` lets the layers of attention multiply in bfloat16; residual sums, norms and the
        assignment stay in float32.
        """
        # Files name the layers as the first version did, or as later ones do.
        later = re.compile(r"^transformers\.(\d+)\.(self|cross)_attn")
        self._weights = {later.sub(r"\2_attn.\1", name): each for name, each in weights.items()}
        for layer in range(_LAYERS):
            for part in ("weight", "bias"):
                name = f"self_attn.{layer}.Wqkv.{part}"
                interleaved = self._weights[name].unflatten(0, (_HEADS, -1, 3))
                self._weights[name] = interleaved.movedim(2, 0).flatten(0, 2).contiguous()
        if bfloat16:
            for name, each in self._weights.items():
                if "_attn." in name and ".ffn.1." not in name:
                    self._weights[name] = each.bfloat16()

    def __call__(
        self,
        first: tuple[Float[Tensor, "_keypoint 2"], Float[Tensor, "_keypoint 128"]],
        second: tuple[Float[Tensor, "_keypoint 2"], Float[Tensor, "_keypoint 128"]],
    ) -> Int[Tensor, "match 2"]:
        """Match keypoints, given their positions and descriptors.

        Positions are relative to the image's center, in halves of its longer side.
        """
        images = [self._input_projection(*first), self._input_projection(*second)]
        count = sum(len(image.index) for image in images)
        for layer in range(_LAYERS):
            states = [self.self_attention(image, layer) for image in images]
            states = self.cross_attention(states[0], states[1], layer)
            images = [
                replace(image, state=state) for image, state in zip(images, states, strict=True)
            ]
            if layer == _LAYERS - 1:
                break
            threshold = min(0.8 + 0.1 * math.exp(-4 * layer / _LAYERS), 1.0)  # section 3.3
            confidences = [self.token_confidence(state, layer) for state in states]
            unconfident = sum(int((each < threshold).sum()) for each in confidences)
            if 1 - unconfident / count > _EXIT_RATIO:
                break
            images = [
                image.pruned(
                    (confidence <= threshold)
                    | (self.matchability(image.state, layer).sigmoid() > _MIN_MATCHABILITY)
                )
                for image, confidence in zip(images, confidences, strict=True)
            ]
            if not all(len(image.index) for image in images):
                return torch.zeros(0, 2, dtype=torch.long, device=first[0].device)
        matches = self._assign(images[0].state, images[1].state, layer)
        return torch.stack([images[0].index[matches[:, 0]], images[1].index[matches[:, 1]]], dim=1)

    def self_attention(self, image: KeypointState, layer: int) -> Tensor:
        """Update an image's keypoints by attention among them, relative positions encoded."""
        name = f"self_attn.{layer}"
        qkv = self._linear(f"{name}.Wqkv", image.state)
        query, key, value = (_split_heads(each) for each in qkv.chunk(3, -1))
        query, key = apply_rotary(query, image.rotary), apply_rotary(key, image.rotary)
        message = self._linear(f"{name}.out_proj", attention(query, key, value))
        return self.feed_forward(name, image.state, message)

    def cross_attention(self, first: Tensor, second: Tensor, layer: int) -> list[Tensor]:
        """Update both images' keypoints by attention to those of the other image.

        Queries and keys are one projection, so that both directions share their similarities.
        """
        name = f"cross_attn.{layer}"
        states = first, second
        keys = [_split_heads(self._linear(f"{name}.to_qk", state)) for state in states]
        values = [_split_heads(self._linear(f"{name}.to_v", state)) for state in states]
        updated = []
        for state, own, other in zip(states, (0, 1), (1, 0), strict=True):
            message = attention(keys[own], keys[other], values[other])
            updated.append(self.feed_forward(name, state, self._linear(f"{name}.to_out", message)))
        return updated

    def feed_forward(self, name: str, state: Tensor, message: Tensor) -> Tensor:
        """Update a state by the message it received: a residual MLP on both."""
        hidden = self._linear(f"{name}.ffn.0", torch.cat([state, message], dim=-1)).to(state)
        weight, bias = self._weights[f"{name}.ffn.1.weight"], self._weights[f"{name}.ffn.1.bias"]
        hidden = functional.gelu(functional.layer_norm(hidden, bias.shape, weight, bias))
        return state + self._linear(f"{name}.ffn.3", hidden)

    def token_confidence(self, state: Tensor, layer: int) -> Float[Tensor, " keypoint"]:
        """Return the probability that a keypoint's state is final after this layer."""
        return self._linear(f"token_confidence.{layer}.token.0", state)[:, 0].sigmoid()

    def matchability(self, state: Tensor, layer: int) -> Float[Tensor, " keypoint"]:
        """Return the logit of the probability that a keypoint has a match (section 3.2)."""
        return self._linear(f"log_assignment.{layer}.matchability", state)[:, 0]

    def _input_projection(self, positions: Tensor, descriptors: Tensor) -> KeypointState:
        angles = positions @ self._weights["posenc.Wr.weight"].T
        rotary = torch.stack([angles.cos(), angles.sin()]).repeat_interleave(2, dim=-1)
        index = torch.arange(len(positions), device=positions.device)
        return KeypointState(self._linear("input_proj", descriptors), rotary, index)

    def _linear(self, name: str, inputs: Tensor) -> Tensor:
        """Apply a linear layer in the dtype of its weights."""
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.linear(inputs.to(weight), weight, bias)

    def _assign(self, first: Tensor, second: Tensor, layer: int) -> Int[Tensor, "match 2"]:
        """Return the mutual best matches of the soft assignment matrix (section 3.2)."""
        projections = [
            self._linear(f"log_assignment.{layer}.final_proj", state) for state in (first, second)
        ]
        similarity = projections[0] @ projections[1].T / math.sqrt(projections[0].shape[-1])
        log_matchability = [
            functional.logsigmoid(self.matchability(state, layer)) for state in (first, second)
        ]
        log_assignment = similarity.log_softmax(1) + similarity.log_softmax(0)
        log_assignment = log_assignment + log_matchability[0][:, None] + log_matchability[1]
        best, column = log_assignment.max(1)
        row = torch.arange(len(first), device=first.device)
        mutual = log_assignment.argmax(0)[column] == row
        kept = mutual & (best.exp() > _MIN_PROBABILITY)
        return torch.stack([row[kept], column[kept]], dim=1)


def _split_heads(inputs: Float[Tensor, "keypoint channel"]) -> Float[Tensor, "head keypoint part"]:
    return inputs.unflatten(-1, (_HEADS, -1)).transpose(0, 1)


def apply_rotary(
    inputs: Float[Tensor, "head keypoint part"], rotary: Float[Tensor, "2 keypoint part"]
) -> Float[Tensor, "head keypoint part"]:
    """Rotate pairs of channels by angles, so that products encode relative positions."""
    even, odd = inputs[..., ::2], inputs[..., 1::2]
    rotated = torch.stack([-odd, even], dim=-1).flatten(-2)
    return inputs * rotary[0] + rotated * rotary[1]


def attention(
    query: Float[Tensor, "head keypoint part"],
    key: Float[Tensor, "head other part"],
    value: Float[Tensor, "head other part"],
) -> Float[Tensor, "keypoint channel"]:
    """Multi-head attention, computed in the dtype of `value`."""
    if value.dtype == torch.float32:
        message = functional.scaled_dot_product_attention(query[None], key[None], value[None])[0]
    else:  # PyTorch's own attention is no faster in bfloat16 on a CPU than in float32.
        scaled = (key / math.sqrt(key.shape[-1])).to(value).mT
        chunks = query.to(value).split(_QUERY_CHUNK, dim=1)
        message = torch.cat([(chunk @ scaled).softmax(-1) @ value for chunk in chunks], dim=1)
    return message.transpose(0, 1).flatten(1)
