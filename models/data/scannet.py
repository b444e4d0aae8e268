"""ScanNet-1500: pairs of indoor photos, a benchmark of relative poses."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models.data.pairs import PhotoPair, PosedPhoto
from models.data.report import Report
from models.data.scenes import evenly, read_encoded, read_size
from models.files.arrays import read_arrays
from models.files.regular import check_regular
from models.geometry.camera import Camera, from_pixels
from models.geometry.checks import check_camera

LIST = "test.npz"


def load_scannet(root: Path, report: Report, limit: int | None = None) -> list[PhotoPair]:
    """Read the pairs that `root/test.npz` names; photos are not decoded yet.

    The list has `name` (scene, sequence, two frames) and `rel_pose` (3x4 by rows, from the first
    camera to the second, in meters). Photos lie in `root/scans_test/sceneNNNN_NN/color`, their
    intrinsics, one for all, in `.../intrinsic/intrinsic_color.txt`. There are no targets.

    ScanNet's principal point is some pixels off center. `load` gives the photo as it is and the
    true intrinsics. `load_cropped` first moves the photo by whole pixels, black where nothing is
    left, until the principal point is within half a pixel of the center, as the published
    evaluation means to; it moves the photo the other way, by a wrong sign, so that its numbers
    come from intrinsics that are some pixels off.

    Args:
        root: The folder with `test.npz` and `scans_test`.
        report: Grows by "pair"s used and skipped.
        limit: At most so many, evenly spread over the list.

    Raises:
        ValueError: If there is no such list.
    """
    names, poses = _load_list(root / LIST)
    pairs = []
    for row in evenly(range(len(names)), limit or len(names)):
        scene, sequence, *frames = (int(number) for number in names[row])
        folder = root / "scans_test" / f"scene{scene:04d}_{sequence:02d}"
        name = f"{folder.name}/{frames[0]}-{frames[1]}"
        try:
            pairs.append(_pair(name, folder, frames, poses[row]))
        except ValueError as error:
            report.skip("pair", name, str(error))
    report.use("pair", len(pairs))
    return pairs


def _load_list(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        names, poses = read_arrays(path, ("name", "rel_pose")).values()
    except ValueError as error:
        raise ValueError(f"{path} is not the list of ScanNet-1500: {error}") from error
    if names.dtype.kind not in "iu" or poses.dtype.kind != "f":
        raise ValueError(f"{path} has `name` and `rel_pose` of {names.dtype} and {poses.dtype}")
    if not len(names) or names.shape != (len(poses), 4) or poses.shape != (len(names), 12):
        shapes = f"shapes {names.shape} and {poses.shape}, not (n, 4), (n, 12)"
        raise ValueError(f"{path} has `name` and `rel_pose` of {shapes}")
    return names, poses


def _pair(name: str, folder: Path, frames: list[int], rel_pose: np.ndarray) -> PhotoPair:
    intrinsics_px = _load_intrinsics(folder / "intrinsic" / "intrinsic_color.txt")
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3] = torch.from_numpy(rel_pose.astype(np.float64)).view(3, 4)
    paths = [folder / "color" / f"{frame}.jpg" for frame in frames]
    views = (
        _photo(paths[0], intrinsics_px, torch.eye(4, dtype=torch.float64)),
        _photo(paths[1], intrinsics_px, pose),
    )
    if not pose[:3, 3].norm() > 0:
        raise ValueError("its cameras stand on one point")
    return PhotoPair(name, folder.name, "unrated", low_parallax=False, views=views, targets=())


def _photo(
    path: Path, intrinsics_px: Float[Tensor, "3 3"], world2cam: Float[Tensor, "4 4"]
) -> PosedPhoto:
    try:
        height, width = read_size(read_encoded(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    center = intrinsics_px[:2, 2]
    try:
        camera = Camera(from_pixels(intrinsics_px, (height, width)), world2cam, (height, width))
        check_camera(camera)
    except ValueError as error:
        raise ValueError(f"frame {path.stem}: {error}") from error
    shift = round(width / 2 - float(center[0])), round(height / 2 - float(center[1]))
    return PosedPhoto(path, camera.float(), shift=shift)


def _load_intrinsics(path: Path) -> Float[Tensor, "3 3"]:
    """Read intrinsics in pixels from the upper left of a 4x4 matrix."""
    try:
        check_regular(path)
        matrix = torch.from_numpy(np.loadtxt(path, max_rows=4))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if matrix.ndim != 2 or min(matrix.shape) < 3:
        raise ValueError(f"{path} holds no matrix")
    return matrix[:3, :3]
