"""Pairs of photos of which one is mirrored, as some phones store what their front camera sees."""

from dataclasses import replace
from itertools import combinations

from models.features.sift import SiftMatcher
from models.geometry.views import View
from models.sfm.correspondences import find_correspondences

MIN_INLIERS = 25  # of a photo and the mirror image of another
MIN_GAIN = 2.0  # over the inliers of the photos as they are


def find_mirrored_pairs(views: list[View]) -> list[tuple[int, int]]:
    """Return the pairs of views that agree far better if one of the two is mirrored.

    Nothing in the images says which one of the two it is. Poses are ignored.
    """
    return [
        (first, second)
        for first, second in combinations(range(len(views)), 2)
        if _inliers(views[first], mirror(views[second]))
        >= max(MIN_INLIERS, MIN_GAIN * _inliers(views[first], views[second]))
    ]


def mirror(view: View) -> View:
    """Swap left and right of an image, and of its camera's principal point."""
    intrinsics = view.camera.intrinsics.clone()
    intrinsics[0, 1] *= -1
    intrinsics[0, 2] = 1 - intrinsics[0, 2]
    mask = None if view.mask is None else view.mask.flip(-1)
    return View(view.image.flip(-1), replace(view.camera, intrinsics=intrinsics), mask)


def _inliers(first: View, second: View) -> int:
    return len(find_correspondences([first, second], [SiftMatcher()]).poses.get((0, 1), ()))
