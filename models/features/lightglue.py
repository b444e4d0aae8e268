"""LightGlue (Lindenberger et al., ICCV 2023): which keypoints of two photos are the same point.

Only what a trained network needs to answer: layers of attention within each photo and between
both, until it is sure; keypoints without a partner are left out on the way.
"""

import math
import re
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

_LAYERS, _HEADS = 9, 4
_SURE = 0.95  # share of the keypoints that must be decided for an early end
_UNMATCHABLE = 0.01  # probability of having a partner below which a decided keypoint is left out
_LEAST_PROBABILITY = 0.1  # of a match
_ASKED_AT_ONCE = 256  # keypoints whose attention to all others fits into a processor's cache


@dataclass(frozen=True)
class _Side:
    """What is known of one photo's keypoints on the way; `index` is their numbers."""

    state: Float[Tensor, "keypoint channel"]
    waves: Float[Tensor, "2 keypoint head_channel"]  # cosines and sines of where they are
    index: Int[Tensor, " keypoint"]

    def select(self, keep: Tensor) -> "_Side":
        return _Side(self.state[keep], self.waves[:, keep], self.index[keep])


class LightGlue:
    """The trained network; it runs where its weights are."""

    def __init__(self, weights: dict[str, Tensor], rounded: bool = False) -> None:
        """Take the weights under the names of their authors. Raises KeyError if one is missing.

        `rounded` lets the layers of attention multiply in bfloat16; sums across layers, norms and
        what decides about matches stay in float32.
        """
        # Files name the layers as the first version did, or as later ones do.
        later = re.compile(r"^transformers\.(\d+)\.(self|cross)_attn")
        self._weights = {later.sub(r"\2_attn.\1", name): each for name, each in weights.items()}
        for layer in range(_LAYERS):
            for part in ("weight", "bias"):
                name = f"self_attn.{layer}.Wqkv.{part}"
                mixed = self._weights[name].unflatten(0, (_HEADS, -1, 3))
                self._weights[name] = mixed.movedim(2, 0).flatten(0, 2).contiguous()
        if rounded:
            for name, each in self._weights.items():
                if "_attn." in name and ".ffn.1." not in name:
                    self._weights[name] = each.bfloat16()

    def __call__(
        self,
        first: tuple[Float[Tensor, "_keypoint 2"], Float[Tensor, "_keypoint 128"]],
        second: tuple[Float[Tensor, "_keypoint 2"], Float[Tensor, "_keypoint 128"]],
    ) -> Int[Tensor, "match 2"]:
        """Match keypoints, by where they are and their descriptors.

        Places are counted from the photo's center, in halves of its longer side.
        """
        sides = [self._begin(*first), self._begin(*second)]
        count = sum(len(side.index) for side in sides)
        for layer in range(_LAYERS):
            states = [self._within(side, layer) for side in sides]
            states = self._between(states[0], states[1], layer)
            sides = [
                _Side(state, side.waves, side.index)
                for state, side in zip(states, sides, strict=True)
            ]
            if layer == _LAYERS - 1:
                break
            least = min(0.8 + 0.1 * math.exp(-4 * layer / _LAYERS), 1.0)
            decided = [self._chance(f"token_confidence.{layer}.token.0", s) for s in states]
            open_questions = sum(int((sure < least).sum()) for sure in decided)
            if 1 - open_questions / count > _SURE:
                break
            sides = [
                side.select((sure <= least) | (self._has_partner(side.state, layer) > _UNMATCHABLE))
                for side, sure in zip(sides, decided, strict=True)
            ]
            if not all(len(side.index) for side in sides):
                return torch.zeros(0, 2, dtype=torch.long, device=first[0].device)
        found = self._assign(sides[0].state, sides[1].state, layer)
        return torch.stack([sides[0].index[found[:, 0]], sides[1].index[found[:, 1]]], dim=1)

    def _linear(self, name: str, given: Tensor) -> Tensor:
        """As exact as the layer's weights are."""
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.linear(given.to(weight), weight, bias)

    def _chance(self, name: str, state: Tensor) -> Float[Tensor, " keypoint"]:
        return self._linear(name, state)[:, 0].sigmoid()

    def _has_partner(self, state: Tensor, layer: int) -> Float[Tensor, " keypoint"]:
        return self._chance(f"log_assignment.{layer}.matchability", state)

    def _begin(self, places: Tensor, descriptors: Tensor) -> _Side:
        angles = places @ self._weights["posenc.Wr.weight"].T
        waves = torch.stack([angles.cos(), angles.sin()]).repeat_interleave(2, dim=-1)
        index = torch.arange(len(places), device=places.device)
        return _Side(self._linear("input_proj", descriptors), waves, index)

    def _within(self, side: _Side, layer: int) -> Tensor:
        """Let the keypoints of one photo look at each other, and at how far apart they are."""
        name = f"self_attn.{layer}"
        asked, offered, told = map(_heads, self._linear(f"{name}.Wqkv", side.state).chunk(3, -1))
        asked, offered = _turn(asked, side.waves), _turn(offered, side.waves)
        message = self._linear(f"{name}.out_proj", _attend(asked, offered, told))
        return self._take(name, side.state, message)

    def _between(self, first: Tensor, second: Tensor, layer: int) -> list[Tensor]:
        """Let the keypoints of both photos look at those of the other."""
        name = f"cross_attn.{layer}"
        keys = [_heads(self._linear(f"{name}.to_qk", state)) for state in (first, second)]
        told = [_heads(self._linear(f"{name}.to_v", state)) for state in (first, second)]
        heard = _attend(keys[0], keys[1], told[1]), _attend(keys[1], keys[0], told[0])
        return [
            self._take(name, state, self._linear(f"{name}.to_out", message))
            for state, message in zip((first, second), heard, strict=True)
        ]

    def _take(self, name: str, state: Tensor, message: Tensor) -> Tensor:
        hidden = self._linear(f"{name}.ffn.0", torch.cat([state, message], dim=-1)).to(state)
        weight, bias = self._weights[f"{name}.ffn.1.weight"], self._weights[f"{name}.ffn.1.bias"]
        hidden = functional.gelu(functional.layer_norm(hidden, bias.shape, weight, bias))
        return state + self._linear(f"{name}.ffn.3", hidden)

    def _assign(self, first: Tensor, second: Tensor, layer: int) -> Int[Tensor, "match 2"]:
        """Rows and columns that prefer each other, and have a partner at all."""
        name = f"log_assignment.{layer}"
        ours, theirs = (self._linear(f"{name}.final_proj", each) for each in (first, second))
        likeness = ours @ theirs.T / math.sqrt(ours.shape[-1])
        has_partner = [
            functional.logsigmoid(self._linear(f"{name}.matchability", each)[:, 0])
            for each in (first, second)
        ]
        chance = likeness.log_softmax(1) + likeness.log_softmax(0)
        chance = chance + has_partner[0][:, None] + has_partner[1]
        best, partner = chance.max(1)
        row = torch.arange(len(first), device=first.device)
        mutual = chance.argmax(0)[partner] == row
        keep = mutual & (best.exp() > _LEAST_PROBABILITY)
        return torch.stack([row[keep], partner[keep]], dim=1)


def _heads(given: Float[Tensor, "keypoint channel"]) -> Float[Tensor, "head keypoint part"]:
    return given.unflatten(-1, (_HEADS, -1)).transpose(0, 1)


def _turn(given: Tensor, waves: Float[Tensor, "2 keypoint part"]) -> Tensor:
    """Turn pairs of numbers by angles, so that products tell differences of places."""
    even, odd = given[..., ::2], given[..., 1::2]
    aside = torch.stack([-odd, even], dim=-1).flatten(-2)
    return given * waves[0] + aside * waves[1]


def _attend(
    asked: Float[Tensor, "head keypoint part"],
    offered: Float[Tensor, "head other part"],
    told: Float[Tensor, "head other part"],
) -> Float[Tensor, "keypoint channel"]:
    """What every keypoint hears from the others, as exact as what they tell."""
    if told.dtype == torch.float32:
        found = functional.scaled_dot_product_attention(asked[None], offered[None], told[None])[0]
    else:  # PyTorch's own attention is no faster in bfloat16 on a CPU than in float32.
        keys = (offered / math.sqrt(offered.shape[-1])).to(told).mT
        parts = asked.to(told).split(_ASKED_AT_ONCE, dim=1)
        found = torch.cat([(part @ keys).softmax(-1) @ told for part in parts], dim=1)
    return found.transpose(0, 1).flatten(1)
