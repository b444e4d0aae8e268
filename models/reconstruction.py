"""The network's own answer: its Gaussians, and poses by PnP on their centers."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.confidence import TRUSTED, PairEvidence, pnp_evidence
from models.geometry.camera import Camera
from models.geometry.depth_map import DepthMap
from models.geometry.gaussians import Gaussians
from models.geometry.rigid import transform_points
from models.geometry.views import View
from models.metrics.lpips import Lpips
from models.network.noposplat import NoPoSplat
from models.network.preprocessing import Preprocessing
from models.pose.photometric import align_pose
from models.pose.pnp import PnpPose, pose_from_centers
from models.sfm.focal_length import SharedFocal


@dataclass(frozen=True)
class Reconstruction:
    """A scene in the first view's frame, and where the photos were taken.

    `points` are what the photos are known to have in common, `sightings` where each shows them
    (coordinates, NaN where it does not); there are none when the network alone has answered.
    """

    gaussians: Gaussians
    world2cam: Float[Tensor, "view 4 4"]  # the first is the identity
    depths: tuple[Float[Tensor, "_height _width"], ...]  # z in each photo's own camera
    points: Float[Tensor, "point 3"]
    sightings: Float[Tensor, "view point 2"]
    pairs: tuple[PairEvidence, ...]
    problems: tuple[str, ...]  # sentences; any means that the result should not be trusted
    focal: SharedFocal | None = None  # the one that was estimated, if any was


@torch.no_grad()
def predict(
    images: list[Float[Tensor, "3 _height _width"]],
    intrinsics: Float[Tensor, "view 3 3"],
    network: NoPoSplat,
    preprocessing: Preprocessing,
    align: bool = False,
    lpips: Lpips | None = None,
) -> Reconstruction:
    """The network's answer alone: its Gaussians, and poses by PnP on their centers.

    With `align`, the poses are then moved until the Gaussians look most like the photos.
    """
    identity = torch.eye(4, device=intrinsics.device)
    views = preprocessing.apply(
        [
            View(image, Camera(matrix, identity, (image.shape[-2], image.shape[-1])))
            for image, matrix in zip(images, intrinsics, strict=True)
        ]
    )
    height, width = views.size
    gaussians = network.reconstruct(views)
    centers = gaussians.means.unflatten(0, (len(images), height, width))
    opacities = gaussians.opacities.unflatten(0, (len(images), height, width))
    poses = [
        pose_from_centers(centers[view], opacities[view], views.intrinsics[0, view])
        for view in range(1, len(images))
    ]
    if align:
        poses = [
            pose
            and _aligned(
                pose,
                gaussians,
                View(
                    views.images[0, view],
                    Camera(views.intrinsics[0, view], pose.world2cam, views.size),
                ),
                lpips,
            )
            for view, pose in enumerate(poses, start=1)
        ]
    world2cam = torch.stack(
        [identity, *(identity if pose is None else pose.world2cam for pose in poses)]
    )
    depths = tuple(
        transform_points(points.flatten(0, 1), pose)[:, 2].unflatten(0, (height, width))
        for points, pose in zip(centers, world2cam, strict=True)
    )
    views_with_depth = [
        DepthMap(image, depth, torch.ones_like(depth), Camera(matrix, pose, (height, width)))
        for image, depth, matrix, pose in zip(
            views.images[0], depths, views.intrinsics[0], world2cam, strict=True
        )
    ]
    pairs = tuple(
        pnp_evidence(view, pose, views_with_depth) for view, pose in enumerate(poses, start=1)
    )
    if align:
        pairs = tuple(replace(pair, method="pnp+photometric") for pair in pairs)
    problems = tuple(
        f"The network's centers do not tell where photo {pair.second + 1} was taken."
        for pair in pairs
        if pair.confidence < TRUSTED
    )
    return Reconstruction(
        gaussians=gaussians,
        world2cam=world2cam,
        depths=depths,
        points=world2cam.new_zeros(0, 3),
        sightings=world2cam.new_zeros(len(images), 0, 2),
        pairs=pairs,
        problems=problems,
    )


@torch.enable_grad()
def _aligned(pose: PnpPose, gaussians: Gaussians, view: View, lpips: Lpips | None) -> PnpPose:
    return replace(pose, world2cam=align_pose(gaussians, view, lpips=lpips).world2cam)
