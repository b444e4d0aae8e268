"""SIFT keypoints and their matches."""

from dataclasses import dataclass

import cv2
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from models.matching.features import Features


@dataclass(frozen=True)
class SiftMatcher:
    """Finds SIFT keypoints, and those that look alike."""

    features: int = 16_000
    contrast: float = 0.004  # well below OpenCV's 0.04: indoor walls have little else
    ratio: float = 0.8  # Lowe's test: best descriptor distance over second best

    def detect(self, image: Float[Tensor, "3 height width"]) -> Features:
        """Find keypoints; RootSIFT descriptors (Arandjelovic and Zisserman, CVPR 2012)."""
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
        return Features(centers / torch.tensor([width, height]), rooted, width / height)

    def match(self, first: Features, second: Features) -> Int[Tensor, "match 2"]:
        """Keypoint numbers of mutual nearest neighbors that pass the ratio test."""
        if len(first.coordinates) < 2 or len(second.coordinates) < 2:
            return torch.zeros(0, 2, dtype=torch.long)
        similarity = first.descriptors @ second.descriptors.T
        best, index = similarity.topk(2, dim=1)
        distance = (2 - 2 * best).clamp(min=0).sqrt()
        number = torch.arange(len(index))
        mutual = similarity.argmax(0)[index[:, 0]] == number
        good = mutual & (distance[:, 0] < self.ratio * distance[:, 1])
        return torch.stack([number[good], index[good, 0]], dim=1)
