"""The networks, the result type, and the network's own reconstruction, with poses by PnP."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.confidence import TRUSTED_CONFIDENCE, PairQuality, pnp_quality
from models.features.matcher import Matcher
from models.geometry.camera import Camera
from models.geometry.depth_map import DepthMap
from models.geometry.gaussians import PARAMETERS, Gaussians
from models.geometry.rigid import transform_points
from models.geometry.views import View, Views
from models.metrics.lpips import Lpips
from models.network.dinov2 import Dinov2
from models.network.noposplat import NoPoSplat
from models.network.preprocessing import Preprocessing
from models.options import PoseMethod
from models.pose.photometric import align_pose
from models.pose.pnp import PnpPose, pose_from_centers
from models.sfm.focal_length import FocalEstimate
from models.stereo.network import StereoNetwork


@dataclass(frozen=True)
class Networks:
    """The loaded networks, all on one device.

    Attributes:
        noposplat: Predicts Gaussians from photos, and gives scenes their scale.
        preprocessing: The part of each photo that `noposplat` sees, and its size.
        matchers: Find matches; each is asked if the ones before it found too few.
        stereo: Refines depth; where it or `matchers` are missing, the prediction is the result.
        lpips: The perceptual distance by which poses are aligned, beside color and structure.
        encoder: Tells what belongs together where stereo is not sure.
        pose_reliability: Share of its poses that are right where it was measured: a factor of the
            confidence in them.
    """

    noposplat: NoPoSplat
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    matchers: tuple[Matcher, ...] = ()
    stereo: StereoNetwork | None = None
    lpips: Lpips | None = None
    encoder: Dinov2 | None = None
    pose_reliability: float = 1.0

    @property
    def device(self) -> torch.device:
        """The device that all are on; photos are moved there."""
        return next(self.noposplat.parameters()).device

    def inputs(self, views: list[View]) -> Views:
        """Return what `noposplat` sees of photos."""
        return self.preprocessing.apply(views, self.noposplat.config.patch_size)


@dataclass(frozen=True)
class Reconstruction:
    """A scene in the first view's frame, and the cameras that took its photos.

    Attributes:
        gaussians: The scene.
        cameras: Of the photos, with estimated focal lengths applied. The first is the world.
        depths: Depth (z) of each photo in its own camera.
        points: Triangulated matches in the world; none where the network alone gave the poses.
        observations: Coordinates at which each photo shows the points, NaN where it does not.
        pairs: How well the photos support the relative poses.
        problems: Sentences; any means that the result should not be trusted.
        focal: The focal lengths that were estimated, if any were.
    """

    gaussians: Gaussians
    cameras: tuple[Camera, ...]
    depths: tuple[Float[Tensor, "_height _width"], ...]
    points: Float[Tensor, "point 3"]
    observations: Float[Tensor, "view point 2"]
    pairs: tuple[PairQuality, ...]
    problems: tuple[str, ...]
    focal: FocalEstimate | None = None

    @property
    def world2cam(self) -> Float[Tensor, "view 4 4"]:
        """The poses of all cameras."""
        return torch.stack([camera.world2cam for camera in self.cameras])

    @property
    def confidence(self) -> float:
        """The least confidence in any pair."""
        return min(pair.confidence for pair in self.pairs)


def check_finite(what: str, gaussians: Gaussians, cameras: tuple[Camera, ...] = ()) -> None:
    """Raise FloatingPointError if a scene, or a camera, has numbers that are not finite."""
    tensors = [getattr(gaussians, name) for name in PARAMETERS]
    tensors += [matrix for camera in cameras for matrix in (camera.intrinsics, camera.world2cam)]
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise FloatingPointError(f"{what} has numbers that are not finite.")


@torch.no_grad()
def predict(views: list[View], networks: Networks) -> Reconstruction:
    """Return the network's Gaussians, and poses by PnP on their centers.

    Raises FloatingPointError where the Gaussians are not finite.
    """
    inputs = networks.inputs(views)
    gaussians = networks.noposplat.reconstruct(inputs)
    check_finite("The network's prediction", gaussians)
    maps = (len(views), *inputs.size)
    centers, opacities = gaussians.means.unflatten(0, maps), gaussians.opacities.unflatten(0, maps)
    unknown = PnpPose(torch.eye(4, device=inputs.images.device), 0, 0.0)
    poses = [
        pose_from_centers(centers[view], opacities[view], inputs.intrinsics[0, view]) or unknown
        for view in range(1, len(views))
    ]
    poses = [unknown, *poses]
    return _prediction(views, inputs, gaussians, poses, PoseMethod.pnp, networks.pose_reliability)


@torch.no_grad()
def align_prediction(
    prediction: Reconstruction, views: list[View], networks: Networks
) -> Reconstruction:
    """Move a prediction's poses until its Gaussians, rendered, look most like the photos."""
    inputs = networks.inputs(views)
    poses = [PnpPose(prediction.cameras[0].world2cam, 0, 0.0)]
    for pair in prediction.pairs:
        number, world2cam = pair.second, prediction.cameras[pair.second].world2cam
        if pair.inliers:
            camera = Camera(inputs.intrinsics[0, number], world2cam, inputs.size)
            view = View(inputs.images[0, number], camera)
            with torch.enable_grad():
                aligned = align_pose(prediction.gaussians, view, lpips=networks.lpips)
            world2cam = aligned.world2cam
        poses.append(PnpPose(world2cam, pair.inliers, pair.inlier_ratio))
    method, reliability = PoseMethod.photometric, networks.pose_reliability
    found = _prediction(views, inputs, prediction.gaussians, poses, method, reliability)
    return replace(found, focal=prediction.focal)


def without_masked(
    prediction: Reconstruction, views: list[View], networks: Networks
) -> Reconstruction:
    """Leave out the Gaussians of pixels that the views' masks exclude."""
    if all(view.mask is None for view in views):
        return prediction
    masks = [
        torch.ones_like(view.image) if view.mask is None else view.mask.float().expand(3, -1, -1)
        for view in views
    ]
    as_images = [replace(view, image=mask) for view, mask in zip(views, masks, strict=True)]
    kept = networks.inputs(as_images).images[0, :, 0].flatten() > 0.5
    return replace(prediction, gaussians=prediction.gaussians.select(kept))


def _prediction(
    views: list[View],
    inputs: Views,
    gaussians: Gaussians,
    poses: list[PnpPose],
    method: PoseMethod,
    reliability: float,
) -> Reconstruction:
    """Return the network's reconstruction with these poses.

    Args:
        views: The photos.
        inputs: The crops of them that the network saw.
        gaussians: One per pixel of `inputs`, view by view.
        poses: Of all views, with the inliers of PnP.
        method: How the poses were found; see `PairQuality`.
        reliability: See `Networks`.
    """
    world2cam = torch.stack([pose.world2cam for pose in poses])
    depth_maps = []
    for image, centers, camera in zip(
        inputs.images[0],
        gaussians.means.unflatten(0, (len(views), -1)),
        Camera(inputs.intrinsics[0], world2cam, inputs.size),
        strict=True,
    ):
        depth = transform_points(centers, camera.world2cam)[:, 2].unflatten(0, inputs.size)
        depth_maps.append(DepthMap(image, depth, torch.ones_like(depth), camera))
    pairs = tuple(
        pnp_quality(method, second, poses[second], depth_maps, reliability)
        for second in range(1, len(views))
    )
    return Reconstruction(
        gaussians=gaussians,
        cameras=tuple(
            replace(view.camera, world2cam=pose)
            for view, pose in zip(views, world2cam, strict=True)
        ),
        depths=tuple(depth_map.depth for depth_map in depth_maps),
        points=gaussians.means.new_zeros(0, 3),
        observations=gaussians.means.new_zeros(len(views), 0, 2),
        pairs=pairs,
        problems=tuple(
            f"The network's centers do not tell where photo {pair.second + 1} was taken."
            for pair in pairs
            if pair.confidence < TRUSTED_CONFIDENCE
        ),
    )
