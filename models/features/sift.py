"""SIFT keypoints (Lowe, IJCV 2004) and their matches."""

import cv2
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from models.features.matcher import NO_TENTATIVE_MATCHES, Features, TentativeMatches

MAX_KEYPOINTS = 16_000
MIN_CONTRAST = 0.004  # well below OpenCV's 0.04: indoor walls have little else
MAX_RATIO = 0.8  # of the distances to the nearest and the second nearest descriptor
_CHUNK = 2048  # descriptors compared at once: all similarities would take a gigabyte


class SiftMatcher:
    """SIFT with RootSIFT descriptors, matched by mutual nearest neighbors and Lowe's ratio test."""

    def __init__(self, max_keypoints: int = MAX_KEYPOINTS) -> None:
        """Detect at most so many keypoints, those of the highest contrast."""
        self._max_keypoints = max_keypoints

    def detect(self, image: Float[Tensor, "3 height width"], rotation: float = 0.0) -> Features:
        """Detect keypoints; describe them by RootSIFT (Arandjelovic and Zisserman, CVPR 2012).

        Descriptors are invariant to rotation: `rotation` is ignored.
        """
        height, width = image.shape[-2:]
        gray = (image.mean(0).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        sift = cv2.SIFT.create(
            self._max_keypoints, contrastThreshold=MIN_CONTRAST, enable_precise_upscale=True
        )
        keypoints, descriptors = sift.detectAndCompute(gray, None)
        if not keypoints:
            return Features(torch.zeros(0, 2), torch.zeros(0, 128), width / height)
        # OpenCV counts from the center of the first pixel, we from its corner.
        coordinates = torch.from_numpy(cv2.KeyPoint.convert(keypoints)) + 0.5
        root_sift = functional.normalize(torch.from_numpy(descriptors), p=1, dim=1).sqrt()
        orientations = torch.deg2rad(torch.tensor([keypoint.angle for keypoint in keypoints]))
        size = torch.tensor([width, height])
        return Features(coordinates / size, root_sift, width / height, orientations)

    def match(self, first: Features, second: Features) -> Int[Tensor, "match 2"]:
        """Return mutual nearest neighbors that pass the ratio test."""
        if len(first) < 2 or len(second) < 2:
            return torch.zeros(0, 2, dtype=torch.long)
        top2 = [(chunk @ second.descriptors.T).topk(2) for chunk in first.descriptors.split(_CHUNK)]
        similarity, index = (torch.cat(parts) for parts in zip(*top2, strict=True))
        distance = (2 - 2 * similarity).clamp(min=0).sqrt()
        distinct = (distance[:, 0] < MAX_RATIO * distance[:, 1]).nonzero()[:, 0]
        neighbor = index[distinct, 0]
        back = (second.descriptors[neighbor] @ first.descriptors.T).argmax(1)
        mutual = back == distinct
        return torch.stack([distinct[mutual], neighbor[mutual]], dim=1)

    def match_softly(self, first: Features, second: Features) -> TentativeMatches:
        """Return none: what fails the ratio test is hardly ever right."""
        return NO_TENTATIVE_MATCHES
