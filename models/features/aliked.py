"""ALIKED (Zhao et al., IEEE TIM 2023): keypoints, and descriptors of what deforms around them.

Only what a trained network of the size "n16" needs to answer. Its features are four maps, from
fine to coarse, brought to the photo's size and normalized; here this is done at the pixels that
somebody asks about, and the scores, which need all of them, come from maps of few channels.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

_COARSEST = 32  # pixels across which the coarsest features are one: photos are padded to multiples
_RADIUS = 2  # pixels within which a keypoint has the highest score
_TEMPERATURE = 0.1  # of the average of positions that places a keypoint between pixels
_NORM_EPSILON = 1e-5
_TAPS = 3  # kernel size of all convolutions that are not 1 x 1
_FARTHEST = 0.25  # of the longer side: how far features are looked for


class Aliked:
    """The trained network; it runs where its weights are."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """Take the weights under the names of their authors. Raises KeyError if one is missing."""
        self._weights = dict(weights)
        for block in ("block1", "block2", "block3", "block4"):
            for number in (1, 2):
                self._take_in_norm(f"{block}.conv{number}", f"{block}.bn{number}")
        # The score's first layer, 1 x 1, and the change of size may trade places: both are linear.
        self._score_parts = self._weights["score_head.0.weight"].chunk(4, dim=1)
        aggregate = self._weights["desc_head.agg_weights"]
        self._aggregate = aggregate.flatten(0, 1)  # position by position, channel by channel

    def _take_in_norm(self, layer: str, norm: str) -> None:
        """Scale a convolution's weights, and give it a bias, instead of normalizing after it."""
        name = layer if f"{layer}.weight" in self._weights else f"{layer}.regular_conv"
        gain, bias, mean, variance = (
            self._weights[f"{norm}.{part}"]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        gain = gain / (variance + _NORM_EPSILON).sqrt()
        self._weights[f"{name}.weight"] = (
            self._weights[f"{name}.weight"] * gain[:, None, None, None]
        )
        self._weights[f"{name}.bias"] = bias - mean * gain

    def __call__(
        self, image: Float[Tensor, "3 height width"], most: int
    ) -> tuple[Float[Tensor, "keypoint 2"], Float[Tensor, "keypoint 128"]]:
        """Find at most so many keypoints, those with the highest scores first.

        Returns:
            Positions (x, y) in pixels, counted from the center of the first; unit descriptors.
        """
        height, width = image.shape[-2:]
        extra_x, extra_y = -width % _COARSEST, -height % _COARSEST
        left, top = extra_x // 2, extra_y // 2
        padding = (left, extra_x - left, top, extra_y - top)
        padded = functional.pad(image[None], padding, mode="replicate")
        # Channels beside each other: convolutions take two thirds of the time on a CPU.
        maps = self._maps(padded.contiguous(memory_format=torch.channels_last))
        score = self._score(maps)[0, 0, top : top + height, left : left + width]
        points = _peaks(score, most)
        features = _Features(maps, (left, top), (width, height))
        return points, self._describe(features, points)

    def _maps(self, image: Float[Tensor, "1 3 height width"]) -> list[Tensor]:
        """Features of 32 channels at full size, and at a half, an eighth and a 32nd of it."""
        first = functional.selu(self._convolve(image, "block1.conv1"))
        first = functional.selu(self._convolve(first, "block1.conv2"))
        second = self._residual(functional.avg_pool2d(first, 2), "block2")
        third = self._residual(functional.avg_pool2d(second, 4), "block3")
        fourth = self._residual(functional.avg_pool2d(third, 4), "block4")
        return [
            functional.selu(functional.conv2d(found, self._weights[f"conv{number}.weight"]))
            for number, found in enumerate((first, second, third, fourth), start=1)
        ]

    def _residual(self, given: Tensor, block: str) -> Tensor:
        found = functional.selu(self._convolve(given, f"{block}.conv1"))
        found = self._convolve(found, f"{block}.conv2")
        shortcut = functional.conv2d(given, *self._layer(f"{block}.downsample"))
        return functional.selu(found + shortcut)

    def _layer(self, name: str) -> tuple[Tensor, Tensor]:
        return self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]

    def _convolve(self, given: Tensor, name: str) -> Tensor:
        """A convolution of 3 x 3, at places of its own choice if it has an `offset_conv`."""
        if f"{name}.weight" in self._weights:
            return functional.conv2d(given, *self._layer(name), padding=1)
        height, width = given.shape[-2:]
        farthest = _FARTHEST * max(height, width)
        offset = functional.conv2d(given, *self._layer(f"{name}.offset_conv"), padding=1)
        down, across = offset.clamp(-farthest, farthest)[0].unflatten(0, (_TAPS**2, 2)).unbind(1)
        rows = torch.arange(height, device=given.device)[:, None]
        columns = torch.arange(width, device=given.device)
        tap = torch.arange(_TAPS**2, device=given.device)[:, None, None]
        x = across + columns + tap % _TAPS - 1
        y = down + rows + tap // _TAPS - 1
        grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
        near = functional.grid_sample(given, grid.flatten(0, 1)[None], align_corners=False)
        weight, bias = self._layer(f"{name}.regular_conv")
        found = torch.addmm(bias[:, None], weight.flatten(1), near.reshape(weight[0].numel(), -1))
        return found.view(1, -1, height, width)

    def _score(self, maps: list[Tensor]) -> Float[Tensor, "1 1 height width"]:
        """How good a keypoint every pixel is, 0 to 1."""
        size = maps[0].shape[-2:]
        sums = functional.conv2d(maps[0], self._score_parts[0])
        for coarse, part in zip(maps[1:], self._score_parts[1:], strict=True):
            few = functional.conv2d(coarse, part)
            sums += functional.interpolate(few, size, mode="bilinear", align_corners=True)
        for layer in (2, 4, 6):
            weight = self._weights[f"score_head.{layer}.weight"]
            sums = functional.conv2d(functional.selu(sums), weight, padding=1)
        return sums.sigmoid()

    def _describe(
        self, features: "_Features", points: Float[Tensor, "keypoint 2"]
    ) -> Float[Tensor, "keypoint 128"]:
        """Gather features at 16 places around each keypoint, which the features there suggest."""
        width, height = features.size
        taps = torch.arange(_TAPS, device=points.device)
        # A patch of 3 x 3 pixels; it stays a pixel off the last row and column, as in training.
        corner_x = (points[:, 0].long() - 1).clamp(0, width - 1 - _TAPS)
        corner_y = (points[:, 1].long() - 1).clamp(0, height - 1 - _TAPS)
        x, y = torch.broadcast_tensors(
            corner_x[:, None, None] + taps, corner_y[:, None, None] + taps[:, None]
        )
        patches = features.at(x.flatten(), y.flatten()).view(len(points), _TAPS**2, -1).mT
        weight, bias = self._layer("desc_head.offset_conv.0")
        offset = functional.selu(patches.flatten(1) @ weight.flatten(1).T + bias)
        weight, bias = self._layer("desc_head.offset_conv.2")
        offset = offset @ weight.flatten(1).T + bias
        farthest = _FARTHEST * max(width, height)
        offset = offset.clamp(-farthest, farthest).unflatten(1, (2, -1)).mT
        places = points[:, None] + offset
        found = features.between(places.flatten(0, 1))
        found = functional.selu(found @ self._weights["desc_head.sf_conv.weight"].flatten(1).T)
        descriptors = found.view(len(points), -1) @ self._aggregate
        return functional.normalize(descriptors, dim=1)


class _Features:
    """The four maps as one of 128 channels, unit vectors, wherever somebody asks."""

    def __init__(self, maps: list[Tensor], origin: tuple[int, int], size: tuple[int, int]) -> None:
        """Take maps of a padded photo, where its (x, y) = (0, 0) is in it, and (width, height)."""
        self.size = size
        self._origin = origin
        # [place, channel]: quick to pick from.
        self._tables = [found[0].flatten(1).T.contiguous() for found in maps]
        self._shapes = [(found.shape[-2], found.shape[-1]) for found in maps]

    def at(
        self, x: Int[Tensor, " pixel"], y: Int[Tensor, " pixel"]
    ) -> Float[Tensor, "pixel channel"]:
        """At pixels of the photo."""
        x, y = x + self._origin[0], y + self._origin[1]
        height, width = self._shapes[0]
        found = [self._tables[0][y * width + x]]
        for table, (rows, columns) in zip(self._tables[1:], self._shapes[1:], strict=True):
            # The maps' corners lie on each other.
            where = x * ((columns - 1) / (width - 1)), y * ((rows - 1) / (height - 1))
            found.append(_interpolate(table, columns, *where))
        return functional.normalize(torch.cat(found, dim=1), dim=1)

    def between(self, places: Float[Tensor, "place 2"]) -> Float[Tensor, "place channel"]:
        """Interpolated between the four pixels around each place; beyond the photo all is zero."""
        width, height = self.size
        low = places.floor()
        part = places - low
        found = places.new_zeros(1, 1)
        for right in (0, 1):
            for below in (0, 1):
                x, y = low[:, 0].long() + right, low[:, 1].long() + below
                inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
                share_x = part[:, 0] if right else 1 - part[:, 0]
                share_y = part[:, 1] if below else 1 - part[:, 1]
                here = self.at(x.clamp(0, width - 1), y.clamp(0, height - 1))
                found = found + here * (inside * share_x * share_y)[:, None]
        return found


def _interpolate(
    table: Float[Tensor, "place channel"],
    columns: int,
    x: Float[Tensor, " point"],
    y: Float[Tensor, " point"],
) -> Float[Tensor, "point channel"]:
    """A map of so many columns between the four places around each point, weighted and summed."""
    left, top = x.floor(), y.floor()
    right, below = x - left, y - top
    corner = (top * columns + left).long()
    # Where a point lies on the last row or column, what is beyond weighs nothing.
    around = torch.stack([corner, corner + 1, corner + columns, corner + columns + 1], dim=1)
    weights = torch.stack(
        [(1 - right) * (1 - below), right * (1 - below), (1 - right) * below, right * below], dim=1
    )
    return functional.embedding_bag(
        around.clamp(max=len(table) - 1), table, mode="sum", per_sample_weights=weights
    )


def _peaks(score: Float[Tensor, "height width"], most: int) -> Float[Tensor, "keypoint 2"]:
    """Where the score is higher than anywhere near; between pixels by a weighted average."""
    height, width = score.shape
    side = 2 * _RADIUS + 1
    highest = functional.max_pool2d(score[None], side, stride=1, padding=_RADIUS)[0]
    inner = torch.zeros_like(score, dtype=torch.bool)
    inner[_RADIUS : height - _RADIUS, _RADIUS : width - _RADIUS] = True
    (index,) = ((score == highest) & inner).flatten().nonzero(as_tuple=True)
    steps = torch.arange(-_RADIUS, _RADIUS + 1, device=score.device)
    around = (steps[:, None] * width + steps).flatten()
    nearby = score.flatten()[index[:, None] + around]
    single = (nearby == nearby.amax(1, keepdim=True)).sum(1) == 1
    index, nearby = index[single], nearby[single]
    best = score.flatten()[index].topk(min(most, len(index))).indices
    index, nearby = index[best], nearby[best]
    weights = ((nearby - nearby.amax(1, keepdim=True)) / _TEMPERATURE).exp()
    offsets = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).flatten(0, 1)
    moved = weights @ offsets.to(weights) / weights.sum(1, keepdim=True)
    return torch.stack([index % width, index // width], dim=1) + moved
