"""From photo files to a reconstruction: the run that `nps reconstruct` and `nps pose` share."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from nps_cli import console
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    from models.options import Options
    from models.reconstruction import Networks, Reconstruction
    from models.weights import WeightsInfo
    from nps_cli.formats.provenance import SceneCamera
    from nps_cli.photos.intrinsics import GivenIntrinsics
    from nps_cli.photos.load import Photo
    from nps_cli.weights.networks import NetworkChoice


@dataclass(frozen=True)
class Result:
    """The product of a run, with the photos and weights that it came from."""

    photos: "list[Photo]"
    reconstruction: "Reconstruction"
    weights: "WeightsInfo"
    seconds: float

    @property
    def cameras(self) -> "list[SceneCamera]":
        """The photos' cameras, as a scene file records them."""
        from nps_cli.formats.poses import photo_cameras
        from nps_cli.formats.provenance import SceneCamera

        cameras = photo_cameras(self.photos, self.reconstruction)
        pairs = zip(self.photos, cameras, strict=True)
        return [SceneCamera(photo.name, camera) for photo, camera in pairs]


def reconstruct_photos(
    paths: list[Path],
    given: "GivenIntrinsics",
    load: "Callable[[int, str | None], tuple[Networks, WeightsInfo]]",
    options: "Options",
    *,
    poses_only: bool = False,
    side_by_side: bool = False,
) -> Result:
    """Load photos and networks, reconstruct, and report on stderr what was assumed.

    `load` is given the number of photos and, where the memory of the device that was asked for is
    full, "cpu" instead of None; usually it is a partial of `load_for`.
    """
    began = time.perf_counter()
    with console.stages() as stage:
        stage("loading photos")
        from nps_cli.photos.load import load_photos

        photos = load_photos(paths, given, side_by_side=side_by_side)
        if len(photos) not in (2, 3):
            raise NpsError(
                f"The {len(paths)} files hold {len(photos)} photos; two or three can be used.",
                hint="Give a stereo photo alone, or with one other photo.",
            )
        _check_differ(photos)
        for photo in photos:
            console.info(_provenance(photo))
        stage("loading weights")
        from models import reconstruct
        from models.reconstruction import check_finite
        from nps_cli.device import with_cpu_to_fall_back_on

        run = reconstruct.estimate_poses if poses_only else reconstruct.reconstruct

        def compute(device: str | None) -> "tuple[Reconstruction, WeightsInfo]":
            networks, weights = load(len(photos), device)
            console.info(f"weights: {weights.name} (sha256 {weights.sha256[:12]})")
            return run([photo.view for photo in photos], networks, options, stage), weights

        try:
            reconstruction, weights = with_cpu_to_fall_back_on(None, compute)
            check_finite("The result", reconstruction.gaussians, reconstruction.cameras)
        except FloatingPointError as error:
            hint = "Use other weights (`nps weights list`), or try --precision float32."
            raise NpsError(str(error), hint=hint) from error
    if reconstruction.problems:
        problems = (*reconstruction.problems, *_mirrored(photos))
        reconstruction = replace(reconstruction, problems=problems)
    photos = _with_estimated_focal(photos, reconstruction)
    for problem in reconstruction.problems:
        console.warning(problem)
    console.info(f"poses: {_certainty(reconstruction)}")
    return Result(photos, reconstruction, weights, time.perf_counter() - began)


def _mirrored(photos: "list[Photo]") -> list[str]:
    """Return a sentence for each pair of photos of which one is mirrored."""
    from models.sfm.mirroring import find_mirrored_pairs

    return [
        f"{photos[first].name} and {photos[second].name} agree if one of them is mirrored, as "
        "phones store selfies: flip that one left to right."
        for first, second in find_mirrored_pairs([photo.view for photo in photos])
    ]


def load_for(
    choice: "NetworkChoice", options: "Options", views: int, device: str | None
) -> "tuple[Networks, WeightsInfo]":
    """Load the networks that a reconstruction of so many photos with these options needs.

    A device other than None takes the place of the chosen one.
    """
    from models.options import PoseMethod
    from nps_cli.weights.networks import load_networks

    return load_networks(
        *(choice._replace(device=device) if device else choice),
        views=views,
        refine=options.method in (PoseMethod.matches, PoseMethod.auto),
        lpips=options.method is PoseMethod.photometric,
    )


def _with_estimated_focal(photos: "list[Photo]", reconstruction: "Reconstruction") -> "list[Photo]":
    """Return the photos with the focal length that was estimated, if one was, and report it."""
    focal = reconstruction.focal
    if focal is None:
        return photos
    known = list(photos)
    for view in sorted(focal.factors):
        intrinsics = reconstruction.cameras[view].intrinsics.cpu()
        camera = replace(photos[view].camera, intrinsics=intrinsics, focal_group=None)
        known[view] = replace(photos[view], camera=camera, intrinsics_source="estimated")
        console.info(
            f"{known[view].name}: focal length {known[view].intrinsics_note} "
            f"(give or take {focal.spread:.0%})"
        )
    return known


def _certainty(reconstruction: "Reconstruction") -> str:
    """Return how sure the poses are, in words and as a probability."""
    from models.confidence import describe_confidence

    words = describe_confidence(reconstruction.confidence, reconstruction.problems)
    return f"{words} (confidence {reconstruction.confidence:.2f} of 1)"


def _provenance(photo: "Photo") -> str:
    """Return a line about the photo's size, and its focal length and the source of it."""
    height, width = photo.camera.size
    line = f"{photo.name}: {width} x {height}"
    if photo.window is not None:
        line += f" inside a frame, from pixel {photo.window.left}, {photo.window.top} on"
    line += f", focal length {photo.intrinsics_note}"
    if photo.intrinsics_source == "guessed":
        line += "; if you know better, use --focal-35mm or --fov"
    return line


def _check_differ(photos: "list[Photo]") -> None:
    for photo, other in combinations(photos, 2):
        if photo.image.equal(other.image):
            raise NpsError(
                f"{photo.name} and {other.name} are the same picture.",
                hint="Take the second photo from another spot, a step to the side.",
            )
