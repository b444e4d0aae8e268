"""How likely two photos' keypoints make a motion, without deciding which of them are one point.

Matches are the few keypoints that are alike beyond doubt; several motions may explain them. Most
others are alike to some degree, and a right motion brings more of those into agreement than a wrong
one, all over the photos.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from models.sfm.two_view import MatchedPair, epipolar_offsets, triangulate

ERROR_PX = 2.0  # standard deviation of a keypoint's distance from its epipolar line
STRAY = 0.05  # share of right guesses that are further off
SPAN_PX = 300.0  # over which the distances of wrong guesses spread


def log_likelihood(
    pair: MatchedPair, first2second: Float[Tensor, "*motion 4 4"]
) -> Float[Tensor, "*motion"]:
    """Logarithm of how much likelier the guesses are under this motion than under none.

    A keypoint of the first photo is one of its guesses or none of them; the right one lies near its
    epipolar line and in front of the camera, any other anywhere.
    """
    guesses = pair.guesses
    at = pair.where(guesses.pairs)
    offsets = epipolar_offsets(at, pair.intrinsics, pair.sizes, first2second).float()
    depth, _ = triangulate(*at, pair.intrinsics[0], pair.intrinsics[1], first2second)
    peak = (1 - STRAY) * SPAN_PX / (ERROR_PX * math.sqrt(2 * math.pi))
    ratio = STRAY + peak * (-(offsets / ERROR_PX).square() / 2).exp() * (depth > 0)
    keypoints, keypoint = guesses.pairs[:, 0].unique(return_inverse=True)
    evidence = torch.ones(*first2second.shape[:-2], len(keypoints))
    return evidence.index_add_(-1, keypoint, guesses.chances * (ratio - 1)).log().sum(-1)
