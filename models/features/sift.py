"""SIFT keypoints and their matches."""

from dataclasses import dataclass

import cv2
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from models.features.matcher import NO_GUESSES, Features, Guesses


@dataclass(frozen=True)
class SiftMatcher:
    """Finds SIFT keypoints, and those that look alike."""

    features: int = 16_000
    contrast: float = 0.004  # well below OpenCV's 0.04: indoor walls have little else
    ratio: float = 0.8  # Lowe's test: best descriptor distance over second best

    def detect(self, image: Float[Tensor, "3 height width"], turn: float = 0.0) -> Features:
        """Find keypoints; RootSIFT descriptors (Arandjelovic and Zisserman, CVPR 2012).

        They are the same whichever way is up: `turn` does not matter.
        """
        height, width = image.shape[-2:]
        gray = (image.mean(0).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        sift = cv2.SIFT.create(
            nfeatures=self.features, contrastThreshold=self.contrast, enable_precise_upscale=True
        )
        keypoints, descriptors = sift.detectAndCompute(gray, None)
        if not keypoints:
            return Features(torch.zeros(0, 2), torch.zeros(0, 128), width / height)
        # OpenCV counts from the center of the first pixel, we from its corner.
        centers = torch.from_numpy(cv2.KeyPoint.convert(keypoints)) + 0.5
        rooted = functional.normalize(torch.from_numpy(descriptors), p=1, dim=1).sqrt()
        angles = torch.deg2rad(torch.tensor([keypoint.angle for keypoint in keypoints]))
        return Features(centers / torch.tensor([width, height]), rooted, width / height, angles)

    def match(self, first: Features, second: Features) -> Int[Tensor, "match 2"]:
        """Keypoint numbers of mutual nearest neighbors that pass the ratio test."""
        if len(first.coordinates) < 2 or len(second.coordinates) < 2:
            return torch.zeros(0, 2, dtype=torch.long)
        # All similarities at once would be a gigabyte.
        found = [(part @ second.descriptors.T).topk(2) for part in first.descriptors.split(2048)]
        best, index = (torch.cat(parts) for parts in zip(*found, strict=True))
        distance = (2 - 2 * best).clamp(min=0).sqrt()
        clear = (distance[:, 0] < self.ratio * distance[:, 1]).nonzero()[:, 0]
        partner = index[clear, 0]
        back = (second.descriptors[partner] @ first.descriptors.T).argmax(1)
        mutual = back == clear
        return torch.stack([clear[mutual], partner[mutual]], dim=1)

    def guess(self, first: Features, second: Features) -> Guesses:
        """Nothing: what fails the ratio test is hardly ever right."""
        return NO_GUESSES
