"""Overlays that stand still between photos: watermarks, subtitles, what is left of frames."""

import torch
from jaxtyping import Bool
from torch import Tensor

from models.sfm.two_view import MAX_EPIPOLAR_ERROR_PX, TwoView, estimate_relative_pose

SAME_PX = 1.0  # distance of positions that are the same pixel
MIN_STILL = 8  # matches at the same pixel: fewer do no harm
MIN_MOVING_INLIERS = 20  # that support a motion
MIN_MOTION_PX = 3.0  # median of theirs
MAX_AGREEING = 0.5  # share of the still matches that a far background would surpass


def find_overlay(pair: TwoView, seed: int = 0) -> Bool[Tensor, " match"] | None:
    """Return which matches stand still on an overlay; None where there is none.

    There is one where the other matches support a motion that most of the still ones contradict,
    and the still ones are fewer: else something moved before a camera that stood still.
    """
    still = stands_still(pair)
    if int(still.sum()) < MIN_STILL:
        return None
    pose = estimate_relative_pose(pair.with_matches(pair.matches[~still]), seed)
    if pose is None or len(pose) < MIN_MOVING_INLIERS:
        return None
    moving = pair.with_matches(pose.inliers).points_px
    if float((moving[0] - moving[1]).norm(dim=1).median()) < MIN_MOTION_PX:
        return None
    of_still = pair.with_matches(pair.matches[still])
    agreeing = of_still.sampson_px(pose.first2second).abs() < MAX_EPIPOLAR_ERROR_PX
    if float(agreeing.float().mean()) > MAX_AGREEING:
        return None
    return still if len(of_still.matches) < len(pose) else None


def stands_still(pair: TwoView) -> Bool[Tensor, " match"]:
    """Test which matches are at the same pixel of images of one size."""
    first, second = pair.points_px
    if pair.cameras[0].size != pair.cameras[1].size:
        return torch.zeros(len(first), dtype=torch.bool)
    return (first - second).norm(dim=1) < SAME_PX
