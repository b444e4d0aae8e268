"""ALIKED (Zhao et al., IEEE TIM 2023): keypoints with deformable descriptors.

Inference only, of the model "n16". The paper upsamples a pyramid of four feature maps to the
image's size, concatenates and normalizes them; here this is done only at the pixels that the
descriptors sample, and the score map, which needs all pixels, sums projections of few channels.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

_MAX_STRIDE = 32  # of the coarsest feature map: images are padded to multiples
_NMS_RADIUS = 2  # pixels within which a keypoint has the highest score
_TEMPERATURE = 0.1  # of the soft-argmax that refines a keypoint between pixels
_NORM_EPSILON = 1e-5
_KERNEL = 3  # size of all convolutions that are not 1 x 1
_MAX_OFFSET = 0.25  # of deformable convolutions, as a share of the longer side


class Aliked:
    """The trained network; it runs where its weights are."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """Take the weights under the names of their authors. Raises KeyError if one is missing."""
        self._weights = dict(weights)
        for block in ("block1", "block2", "block3", "block4"):
            for number in (1, 2):
                self._fold_batch_norm(f"{block}.conv{number}", f"{block}.bn{number}")
        # The score head's first layer, 1 x 1, commutes with upsampling: both are linear.
        self._score_projections = self._weights["score_head.0.weight"].chunk(4, dim=1)
        # [sample position x channel, descriptor channel]
        self._aggregation = self._weights["desc_head.agg_weights"].flatten(0, 1)

    def _fold_batch_norm(self, layer: str, norm: str) -> None:
        """Fold a batch norm into the weights, and a bias, of the convolution before it."""
        name = layer if f"{layer}.weight" in self._weights else f"{layer}.regular_conv"
        gain, bias, mean, variance = (
            self._weights[f"{norm}.{part}"]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        gain = gain / (variance + _NORM_EPSILON).sqrt()
        weight = self._weights[f"{name}.weight"]
        self._weights[f"{name}.weight"] = weight * gain[:, None, None, None]
        self._weights[f"{name}.bias"] = bias - mean * gain

    def __call__(
        self, image: Float[Tensor, "3 height width"], max_keypoints: int
    ) -> tuple[Float[Tensor, "keypoint 2"], Float[Tensor, "keypoint 128"]]:
        """Detect and describe keypoints, those with the highest scores first.

        Returns:
            Positions (x, y) in pixels, counted from the center of the first; unit descriptors.
        """
        height, width = image.shape[-2:]
        pad_x, pad_y = -width % _MAX_STRIDE, -height % _MAX_STRIDE
        left, top = pad_x // 2, pad_y // 2
        padding = (left, pad_x - left, top, pad_y - top)
        padded = functional.pad(image[None], padding, mode="replicate")
        # Channels last: convolutions take two thirds of the time on a CPU.
        pyramid = self.feature_pyramid(padded.contiguous(memory_format=torch.channels_last))
        scores = self.score_map(pyramid)[0, 0, top : top + height, left : left + width]
        keypoints = detect_keypoints(scores, max_keypoints)
        features = _FeatureMap(pyramid, (left, top), (height, width))
        return keypoints, self.deformable_descriptors(features, keypoints)

    def feature_pyramid(self, image: Float[Tensor, "1 3 height width"]) -> list[Tensor]:
        """Return features of 32 channels at full size, and at a half, an eighth and a 32nd."""
        block1 = functional.selu(self._convolve(image, "block1.conv1"))
        block1 = functional.selu(self._convolve(block1, "block1.conv2"))
        block2 = self._residual_block(functional.avg_pool2d(block1, 2), "block2")
        block3 = self._residual_block(functional.avg_pool2d(block2, 4), "block3")
        block4 = self._residual_block(functional.avg_pool2d(block3, 4), "block4")
        return [
            functional.selu(functional.conv2d(block, self._weights[f"conv{number}.weight"]))
            for number, block in enumerate((block1, block2, block3, block4), start=1)
        ]

    def _residual_block(self, inputs: Tensor, block: str) -> Tensor:
        hidden = functional.selu(self._convolve(inputs, f"{block}.conv1"))
        hidden = self._convolve(hidden, f"{block}.conv2")
        shortcut = functional.conv2d(inputs, *self._layer(f"{block}.downsample"))
        return functional.selu(hidden + shortcut)

    def _layer(self, name: str) -> tuple[Tensor, Tensor]:
        return self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]

    def _convolve(self, inputs: Tensor, name: str) -> Tensor:
        """Apply a 3 x 3 convolution, deformable (Dai et al., ICCV 2017) if it has `offset_conv`."""
        if f"{name}.weight" in self._weights:
            return functional.conv2d(inputs, *self._layer(name), padding=1)
        height, width = inputs.shape[-2:]
        limit = _MAX_OFFSET * max(height, width)
        offset = functional.conv2d(inputs, *self._layer(f"{name}.offset_conv"), padding=1)
        offset_y, offset_x = offset.clamp(-limit, limit)[0].unflatten(0, (_KERNEL**2, 2)).unbind(1)
        rows = torch.arange(height, device=inputs.device)[:, None]
        columns = torch.arange(width, device=inputs.device)
        tap = torch.arange(_KERNEL**2, device=inputs.device)[:, None, None]
        x = offset_x + columns + tap % _KERNEL - 1
        y = offset_y + rows + tap // _KERNEL - 1
        grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
        sampled = functional.grid_sample(inputs, grid.flatten(0, 1)[None], align_corners=False)
        weight, bias = self._layer(f"{name}.regular_conv")
        unfolded = sampled.reshape(weight[0].numel(), -1)
        return torch.addmm(bias[:, None], weight.flatten(1), unfolded).view(1, -1, height, width)

    def score_map(self, pyramid: list[Tensor]) -> Float[Tensor, "1 1 height width"]:
        """Return every pixel's score as a keypoint, in [0, 1]."""
        size = pyramid[0].shape[-2:]
        total = functional.conv2d(pyramid[0], self._score_projections[0])
        for features, projection in zip(pyramid[1:], self._score_projections[1:], strict=True):
            coarse = functional.conv2d(features, projection)
            total += functional.interpolate(coarse, size, mode="bilinear", align_corners=True)
        for layer in (2, 4, 6):
            weight = self._weights[f"score_head.{layer}.weight"]
            total = functional.conv2d(functional.selu(total), weight, padding=1)
        return total.sigmoid()

    def deformable_descriptors(
        self, features: "_FeatureMap", keypoints: Float[Tensor, "keypoint 2"]
    ) -> Float[Tensor, "keypoint 128"]:
        """Describe keypoints by the sparse deformable descriptor head (SDDH).

        From the 3 x 3 features around a keypoint it predicts 16 sample positions; the features
        there are aggregated by a weight matrix for each.
        """
        height, width = features.size
        taps = torch.arange(_KERNEL, device=keypoints.device)
        # The patch stays a pixel off the last row and column, as in training.
        corner_x = (keypoints[:, 0].long() - 1).clamp(0, width - 1 - _KERNEL)
        corner_y = (keypoints[:, 1].long() - 1).clamp(0, height - 1 - _KERNEL)
        x, y = torch.broadcast_tensors(
            corner_x[:, None, None] + taps, corner_y[:, None, None] + taps[:, None]
        )
        count = len(keypoints)  # may be 0
        patches = features.at(x.flatten(), y.flatten()).unflatten(0, (count, _KERNEL**2)).mT
        weight, bias = self._layer("desc_head.offset_conv.0")
        hidden = functional.selu(patches.flatten(1) @ weight.flatten(1).T + bias)
        weight, bias = self._layer("desc_head.offset_conv.2")
        offset = hidden @ weight.flatten(1).T + bias
        limit = _MAX_OFFSET * max(width, height)
        offset = offset.clamp(-limit, limit).unflatten(1, (2, -1)).mT
        positions = keypoints[:, None] + offset
        sampled = features.sample_bilinear(positions.flatten(0, 1))
        weight = self._weights["desc_head.sf_conv.weight"].flatten(1)
        sampled = functional.selu(sampled @ weight.T)
        descriptors = sampled.unflatten(0, offset.shape[:2]).flatten(1) @ self._aggregation
        return functional.normalize(descriptors, dim=1)


class _FeatureMap:
    """The pyramid as one map of 128 channels, unit vectors, computed at single pixels."""

    def __init__(
        self, pyramid: list[Tensor], origin: tuple[int, int], size: tuple[int, int]
    ) -> None:
        """Take a padded image's pyramid, its unpadded origin (x, y) and size (height, width)."""
        self.size = size
        self._origin = origin
        # [pixel, channel]: fast to gather from.
        self._tables = [features[0].flatten(1).T.contiguous() for features in pyramid]
        self._shapes = [(features.shape[-2], features.shape[-1]) for features in pyramid]

    def at(
        self, x: Int[Tensor, " pixel"], y: Int[Tensor, " pixel"]
    ) -> Float[Tensor, "pixel channel"]:
        """Return the features of pixels of the unpadded image."""
        x, y = x + self._origin[0], y + self._origin[1]
        height, width = self._shapes[0]
        levels = [self._tables[0][y * width + x]]
        for table, (rows, columns) in zip(self._tables[1:], self._shapes[1:], strict=True):
            # Upsampling with align_corners=True.
            scaled = x * ((columns - 1) / (width - 1)), y * ((rows - 1) / (height - 1))
            levels.append(_interpolate(table, columns, *scaled))
        return functional.normalize(torch.cat(levels, dim=1), dim=1)

    def sample_bilinear(
        self, positions: Float[Tensor, "position 2"]
    ) -> Float[Tensor, "position channel"]:
        """Interpolate features between pixels; beyond the image all are zero."""
        height, width = self.size
        corner = positions.floor()
        fraction = positions - corner
        sampled = positions.new_zeros(1, 1)
        for right in (0, 1):
            for below in (0, 1):
                x, y = corner[:, 0].long() + right, corner[:, 1].long() + below
                inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
                weight_x = fraction[:, 0] if right else 1 - fraction[:, 0]
                weight_y = fraction[:, 1] if below else 1 - fraction[:, 1]
                features = self.at(x.clamp(0, width - 1), y.clamp(0, height - 1))
                sampled = sampled + features * (inside * weight_x * weight_y)[:, None]
        return sampled


def _interpolate(
    table: Float[Tensor, "pixel channel"],
    columns: int,
    x: Float[Tensor, " point"],
    y: Float[Tensor, " point"],
) -> Float[Tensor, "point channel"]:
    """Interpolate a map, given as a table of its pixels, bilinearly."""
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


def detect_keypoints(
    scores: Float[Tensor, "height width"], max_keypoints: int
) -> Float[Tensor, "keypoint 2"]:
    """Detect local maxima by the differentiable keypoint detection of ALIKE (DKD).

    Non-maximum suppression, the highest scores, and a soft-argmax for the fraction of a pixel.
    """
    height, width = scores.shape
    side = 2 * _NMS_RADIUS + 1
    highest = functional.max_pool2d(scores[None], side, stride=1, padding=_NMS_RADIUS)[0]
    inner = torch.zeros_like(scores, dtype=torch.bool)
    inner[_NMS_RADIUS : height - _NMS_RADIUS, _NMS_RADIUS : width - _NMS_RADIUS] = True
    (index,) = ((scores == highest) & inner).flatten().nonzero(as_tuple=True)
    steps = torch.arange(-_NMS_RADIUS, _NMS_RADIUS + 1, device=scores.device)
    window = (steps[:, None] * width + steps).flatten()
    patches = scores.flatten()[index[:, None] + window]
    unique = (patches == patches.amax(1, keepdim=True)).sum(1) == 1
    index, patches = index[unique], patches[unique]
    best = scores.flatten()[index].topk(min(max_keypoints, len(index))).indices
    index, patches = index[best], patches[best]
    weights = ((patches - patches.amax(1, keepdim=True)) / _TEMPERATURE).exp()
    offsets = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).flatten(0, 1)
    refinement = weights @ offsets.to(weights) / weights.sum(1, keepdim=True)
    return torch.stack([index % width, index // width], dim=1) + refinement
