"""From photos and weights to a reconstruction: what `reconstruct` and `pose` share."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nps_cli import console
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    import torch

    from models.network.noposplat import NoPoSplat
    from models.network.preprocessing import Preprocessing
    from models.reconstruct import Refinement
    from models.reconstruction import Reconstruction
    from models.weights import PublishedCheckpoint, WeightsInfo
    from nps_cli.formats.provenance import SceneCamera
    from nps_cli.photos.intrinsics import GivenIntrinsics
    from nps_cli.photos.load import Photo

ROUNDED_FROM = 100e6  # parameters: smaller networks take less than a second anyway


@dataclass(frozen=True)
class NetworkChoice:
    """Which network is asked, and how; as people say it in options."""

    weights: str | None = None
    device: str = "auto"
    precision: str = "auto"
    crop: str | None = None


@dataclass(frozen=True)
class Result:
    """What a run made, and from what."""

    photos: "list[Photo]"
    reconstruction: "Reconstruction"
    weights: "WeightsInfo"
    seconds: float

    @property
    def cameras(self) -> "list[SceneCamera]":
        """The photos' cameras, as a scene file records them."""
        from models.geometry.camera import Camera
        from nps_cli.formats.provenance import SceneCamera

        return [
            SceneCamera(
                photo.name, Camera(photo.intrinsics, pose.cpu(), (photo.height, photo.width))
            )
            for photo, pose in zip(self.photos, self.reconstruction.world2cam, strict=True)
        ]


def reconstruct_photos(
    paths: list[Path],
    given: "GivenIntrinsics",
    choice: NetworkChoice,
    refine: bool,
    resolution: int,
    seed: int,
    align: bool = False,
    compete: bool = False,
    poses_only: bool = False,
) -> Result:
    """Load photos and weights, reconstruct, and say on stderr what was assumed."""
    began = time.perf_counter()
    with console.stages() as stage:
        stage("loading photos")
        from nps_cli.photos.load import load_photos

        photos = load_photos(paths, given)
        _check_differ(photos)
        for photo in photos:
            console.info(_provenance(photo))
        stage("loading weights")
        import torch

        from models.reconstruct import reconstruct
        from nps_cli.device import pick_device
        from nps_cli.weights.lpips import find_lpips

        where = pick_device(choice.device)
        network, info = open_network(choice.weights, where, len(photos), choice.precision)
        console.info(f"weights: {info.name} (sha256 {info.sha256[:12]})")
        lpips = find_lpips() if align else None
        reconstruction = reconstruct(
            [photo.image.to(where) for photo in photos],
            torch.stack([photo.intrinsics for photo in photos]).to(where),
            network,
            open_refinement(where) if refine else None,
            resolution=resolution,
            seed=seed,
            guessed=any(photo.intrinsics_source == "guessed" for photo in photos),
            unknown_focal=_of_one_unknown_camera(photos),
            align=align,
            compete=compete,
            poses_only=poses_only,
            preprocessing=preprocessing_for(info, choice.crop),
            lpips=lpips and lpips.to(where),
            on_stage=stage,
        )
    photos = _with_estimates(photos, reconstruction)
    for problem in reconstruction.problems:
        console.warning(problem)
    return Result(photos, reconstruction, info, time.perf_counter() - began)


def _of_one_unknown_camera(photos: "list[Photo]") -> tuple[int, ...]:
    """Numbers of the photos with a guessed focal length, if one camera may have taken them all."""
    guessed = [each for each, photo in enumerate(photos) if photo.intrinsics_source == "guessed"]
    cameras = {
        (*sorted((photo.width, photo.height)), photo.camera.make, photo.camera.model)
        for photo in (photos[each] for each in guessed)
    }
    return tuple(guessed) if len(guessed) > 1 and len(cameras) == 1 else ()


def _with_estimates(photos: "list[Photo]", reconstruction: "Reconstruction") -> "list[Photo]":
    """The photos with the focal length that was estimated, if one was, and a line about it."""
    import torch

    focal = reconstruction.focal
    if focal is None:
        return photos
    applied = focal.applied_to(torch.stack([photo.intrinsics for photo in photos]))
    known = list(photos)
    for view in focal.views:
        known[view] = replace(photos[view], intrinsics=applied[view], intrinsics_source="estimated")
        console.info(
            f"{known[view].name}: focal length {known[view].intrinsics_note} "
            f"(give or take {focal.spread:.0%})"
        )
    return known


def check_outputs(*files: Path | None, folder: Path | None = None, force: bool) -> None:
    """Refuse outputs that could not be written, or that name one place twice, before any work."""
    from nps_cli.output import check_target

    wanted = [file for file in files if file is not None]
    for file in wanted:
        check_target(file, force=force)
        if file.is_dir():
            raise NpsError(
                f"{file} is a folder.", hint="Give the name of a file, perhaps inside it."
            )
    if folder is not None:
        check_target(folder, force=force)
        wanted.append(folder)
    places = [path.resolve() for path in wanted]
    twice = next((path for path in wanted if places.count(path.resolve()) > 1), None)
    if twice is not None:
        raise NpsError(f"{twice} is named for two outputs.", hint="Choose another name for one.")


def open_network(
    weights: str | None, device: "torch.device", views: int = 2, precision: str = "auto"
) -> "tuple[NoPoSplat, WeightsInfo]":
    """Load the network that --weights names, or else the best on this machine for the photos."""
    from models.network.precision import round_to_bfloat16
    from models.weights import embedded_path, find_checkpoint, load_network
    from nps_cli.weights import hub
    from nps_cli.weights.checksums import sha256_of

    checkpoint = find_checkpoint(weights) if weights else _best_published(device, views)
    path = embedded_path(weights or "network")
    if weights and not path.is_file():
        path = Path(weights)
    if checkpoint:
        path, sha256 = hub.obtain(checkpoint)
    elif path.is_file():
        sha256 = sha256_of(path)
    else:
        raise NpsError(
            f"There are no weights {path}.",
            hint="`nps weights list` shows what there is; a file's name works too.",
        )
    try:
        network, info = load_network(path, sha256)
    except (OSError, ValueError) as error:
        raise NpsError(str(error), hint="`nps weights list` shows weights that work.") from error
    network.to(device)
    if precision == "bfloat16" or (precision == "auto" and _rather_rounded(network, device)):
        round_to_bfloat16(network)
    return network, checkpoint.info(sha256) if checkpoint else info


def _rather_rounded(network: "NoPoSplat", device: "torch.device") -> bool:
    """Whether bfloat16 saves seconds: on a CPU that has it, with networks of published size."""
    from nps_cli.device import cpu_multiplies_bfloat16

    parameters = sum(parameter.numel() for parameter in network.parameters())
    return device.type == "cpu" and parameters > ROUNDED_FROM and cpu_multiplies_bfloat16()


def preprocessing_for(info: "WeightsInfo", crop: str | None) -> "Preprocessing":
    """What the network sees of photos: by default what it saw when it was trained.

    The published networks saw squares of one size, and the weights say which; others do not mind.
    """
    from models.network.preprocessing import Crop, Preprocessing

    side = info.metadata.get("image_size")
    usual = Crop.full if side is None else Crop.square
    return Preprocessing(Crop(crop or usual), int(side or Preprocessing.side))


def _best_published(device: "torch.device", views: int) -> "PublishedCheckpoint | None":
    """The first that was fetched for as many photos; none on a CPU, where it takes seconds."""
    from models.weights import CHECKPOINTS
    from nps_cli.weights import hub

    if device.type == "cpu":
        return None
    fitting = (each for each in CHECKPOINTS if each.views == views)
    return next((each for each in fitting if hub.find_cached(each)), None)


def open_refinement(device: "torch.device") -> "Refinement | None":
    """Load what refinement uses; None, with a warning, where a part of it is missing."""
    from models.features.aliked_lightglue import LearnedMatcher
    from models.features.sift import SiftMatcher
    from models.reconstruct import Refinement
    from models.weights import embedded_path, load_stereo
    from nps_cli.device import cpu_multiplies_bfloat16

    try:
        stereo, _ = load_stereo(embedded_path("stereo"))
        learned = LearnedMatcher(device, device.type == "cpu" and cpu_multiplies_bfloat16())
        return Refinement([SiftMatcher(), learned], stereo.to(device))
    except FileNotFoundError as error:
        console.warning(f"no refinement: {error} (see `nps doctor`)")
        return None


def _provenance(photo: "Photo") -> str:
    line = f"{photo.name}: {photo.width} x {photo.height}, focal length {photo.intrinsics_note}"
    if photo.intrinsics_source == "guessed":
        line += "; if you know better, use --focal-35mm or --fov"
    return line


def _check_differ(photos: "list[Photo]") -> None:
    import torch

    for index, photo in enumerate(photos):
        for other in photos[:index]:
            if torch.equal(photo.image, other.image):
                raise NpsError(
                    f"{other.name} and {photo.name} are the same picture.",
                    hint="Take the second photo from another spot, a step to the side.",
                )
