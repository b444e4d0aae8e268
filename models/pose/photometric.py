"""A camera's pose from Gaussian centers and their pixels, and its photometric alignment."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from torch.nn import functional

from models.geometry.camera import Camera, pixel_grid, project, to_pixels
from models.geometry.gaussians import Gaussians
from models.geometry.rigid import se3_exponential, transform_points, twist_gradient
from models.geometry.views import resize
from models.metrics.errors import Structure, structure_loss, structure_of
from models.metrics.lpips import Lpips
from models.render import render

INLIER_DISTANCE = 5 / 256  # largest reprojection error of an inlier, a share of the longer side
STRUCTURE_WEIGHT = 0.1  # of the structure loss, beside the mean squared error
PERCEPTUAL_WEIGHT = 0.05  # of LPIPS, where there is one
SLOWER = 0.35  # by which steps get shorter from one size of the picture to the next
PATIENCE, LEAST_GAIN = 15, 1e-3  # so many steps that gain less than this share end a size
_BETAS = 0.8, 0.95  # Adam's memory: shorter than usual, as every step starts somewhere else
_LEAST_SIDE = 11  # pixels that the structure loss compares at once
_GAUSSIANS_PER_PIXEL = 8  # are enough to align by
_FEWEST_POINTS = 6  # what PnP with RANSAC needs
_THINNEST = 1e-4  # second extent of the points over the first: below it they lie on a line
_RANSAC_POINTS = 4096  # few, so that many draws are affordable
_REFIT_POINTS = 16384
_REFITS = 5  # each gathers new inliers: the error of the first draw falls by 1.5 to 20 times


@dataclass(frozen=True)
class PnpPose:
    """A camera found from points and the pixels that see them."""

    world2cam: Float[Tensor, "4 4"]
    inliers: int
    inlier_ratio: float  # of the points that were opaque and finite


def pose_from_centers(
    means: Float[Tensor, "height width 3"],
    opacities: Float[Tensor, "height width"],
    intrinsics: Float[Tensor, "3 3"],
    min_opacity: float = 0.3,
    iterations: int = 1000,
) -> PnpPose | None:
    """Find the camera that sees each center in the middle of its pixel (PnP with RANSAC).

    The same input gives the same pose: OpenCV seeds these draws itself.

    Args:
        means: Centers predicted for every pixel of the view, in the first view's frame.
        opacities: Probabilities; only centers above `min_opacity` count.
        intrinsics: Normalized, of this view.
        min_opacity: See `opacities`.
        iterations: Most samples that RANSAC draws.

    Returns:
        The pose, or None where the centers do not determine one: too few of them, all on a point
        or a line, or nothing that more than a handful agree on.
    """
    usable = (opacities > min_opacity) & means.isfinite().all(dim=-1)
    points = means.detach()[usable].double().cpu()
    if len(points) < _FEWEST_POINTS or _on_a_line(points):
        return None
    size = (opacities.shape[0], opacities.shape[1])
    sides = torch.tensor([size[1], size[0]], dtype=torch.float64)
    pixels = pixel_grid(size, points)[usable.cpu()] * sides
    intrinsics_px = to_pixels(intrinsics.detach().double().cpu(), size)
    limit_px = INLIER_DISTANCE * max(size)

    world2cam = _consensus(points, pixels, intrinsics_px, limit_px, iterations)
    fewer = _spread(len(points), _REFIT_POINTS)
    for _ in range(_REFITS):
        if world2cam is None:
            return None
        near = _within(points[fewer], pixels[fewer], world2cam, intrinsics_px, limit_px)
        world2cam = _fit(points[fewer][near], pixels[fewer][near], intrinsics_px)
    if world2cam is None:
        return None
    inliers = int(_within(points, pixels, world2cam, intrinsics_px, limit_px).sum())
    if inliers < _FEWEST_POINTS:
        return None
    return PnpPose(world2cam.to(means), inliers, inliers / len(points))


def _on_a_line(points: Float[Tensor, "point 3"]) -> bool:
    centered = points - points.mean(dim=0)
    extents = torch.linalg.svdvals(centered.mT @ centered).sqrt()
    return bool(extents[1] <= _THINNEST * extents[0])


def _spread(count: int, most: int) -> Int[Tensor, " chosen"]:
    """Indices of at most `most` of `count` things, spread evenly."""
    return torch.linspace(0, count - 1, min(count, most)).round().long()


def _within(
    points: Float[Tensor, "point 3"],
    pixels: Float[Tensor, "point 2"],
    world2cam: Float[Tensor, "4 4"],
    intrinsics_px: Float[Tensor, "3 3"],
    limit_px: float,
) -> Bool[Tensor, " point"]:
    projected, depth = project(points, world2cam, intrinsics_px)
    return ((projected - pixels).norm(dim=-1) < limit_px) & (depth > 0)


def _consensus(
    points: Float[Tensor, "point 3"],
    pixels: Float[Tensor, "point 2"],
    intrinsics_px: Float[Tensor, "3 3"],
    limit_px: float,
    iterations: int,
) -> Float[Tensor, "4 4"] | None:
    fewer = _spread(len(points), _RANSAC_POINTS)
    try:
        found, rotation_vector, translation, _ = cv2.solvePnPRansac(
            points[fewer].numpy(),
            pixels[fewer].numpy(),
            intrinsics_px.numpy(),
            None,
            iterationsCount=iterations,
            reprojectionError=limit_px,
            flags=cv2.SOLVEPNP_SQPNP,
        )
    except cv2.error:  # how OpenCV says that these points admit no pose
        return None
    return _motion(rotation_vector, translation) if found else None


def _fit(
    points: Float[Tensor, "point 3"],
    pixels: Float[Tensor, "point 2"],
    intrinsics_px: Float[Tensor, "3 3"],
) -> Float[Tensor, "4 4"] | None:
    if len(points) < _FEWEST_POINTS:
        return None
    try:
        found, rotation_vector, translation = cv2.solvePnP(
            points.numpy(), pixels.numpy(), intrinsics_px.numpy(), None, flags=cv2.SOLVEPNP_SQPNP
        )
    except cv2.error:
        return None
    return _motion(rotation_vector, translation) if found else None


def _motion(rotation_vector: np.ndarray, translation: np.ndarray) -> Float[Tensor, "4 4"] | None:
    if not (np.isfinite(rotation_vector).all() and np.isfinite(translation).all()):
        return None
    world2cam = torch.eye(4, dtype=torch.float64)
    world2cam[:3, :3] = torch.from_numpy(cv2.Rodrigues(rotation_vector)[0])
    world2cam[:3, 3] = torch.from_numpy(translation[:, 0])
    return world2cam


def align_pose(
    gaussians: Gaussians,
    world2cam: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    photo: Float[Tensor, "3 height width"],
    steps: tuple[int, ...] = (100, 60, 40, 30),
    learning_rate: float = 2e-2,
    lpips: Lpips | None = None,
) -> Float[Tensor, "4 4"]:
    """Move a camera so that the scene, as it is, looks most like the photo.

    Adam on a twist to the left of the pose, from coarse to fine, with steps that get ever shorter;
    a size is left when its loss no longer falls. Where a picture is small, a random few of the
    Gaussians, enlarged, stand for all.

    Args:
        gaussians: The scene.
        world2cam: Where to begin.
        intrinsics: Normalized, of the photo.
        photo: What the camera should see.
        steps: The most to take at each size; the last is the photo's own, each half the next.
        learning_rate: Of the first steps, in radians: turning, or going around the scene.
        lpips: The perceptual distance, which then counts too, at the photo's own size.

    Returns:
        Where the loss was least; `world2cam` itself if nothing better was found.
    """
    found, rate, distance = world2cam, learning_rate, _distance(gaussians, world2cam)
    for level, count in enumerate(steps):
        factor = 2 ** (len(steps) - 1 - level)
        size = (photo.shape[1] // factor, photo.shape[2] // factor)
        if min(size) < _LEAST_SIDE and factor > 1:
            continue
        goal = Goal(intrinsics, structure_of(resize(photo, size)), None if factor > 1 else lpips)
        fewer = thin(gaussians, _GAUSSIANS_PER_PIXEL * size[0] * size[1])
        found = _descend(fewer, found, goal, distance, count, rate)
        rate *= SLOWER
    goal = Goal(intrinsics, structure_of(photo), lpips)
    with torch.no_grad():
        before, after = (goal.missed(gaussians, pose) for pose in (world2cam, found))
    return found if after < before else world2cam


@dataclass(frozen=True)
class Goal:
    """What a camera should see."""

    intrinsics: Float[Tensor, "3 3"]
    structure: Structure
    lpips: Lpips | None

    def missed(self, gaussians: Gaussians, world2cam: Float[Tensor, "4 4"]) -> Float[Tensor, ""]:
        """How far the scene is from looking like the photo."""
        photo = self.structure.photo
        camera = Camera(self.intrinsics, world2cam, (photo.shape[1], photo.shape[2]))
        picture = render(gaussians, camera).color
        loss = functional.mse_loss(picture, photo)
        loss = loss + STRUCTURE_WEIGHT * structure_loss(picture, self.structure)
        if self.lpips is not None:
            loss = loss + PERCEPTUAL_WEIGHT * self.lpips(picture[None], photo[None])[0]
        return loss


def _distance(gaussians: Gaussians, world2cam: Float[Tensor, "4 4"]) -> float:
    """How far in front of the camera the scene is; 1 if nothing is."""
    depth = transform_points(gaussians.means, world2cam)[:, 2]
    seen = depth[depth > 0]
    return float(seen.median()) if len(seen) else 1.0


def thin(gaussians: Gaussians, most: int) -> Gaussians:
    """At most so many of the Gaussians, drawn at random and enlarged to cover about as much."""
    count = len(gaussians)
    if count <= most:
        return gaussians
    generator = torch.Generator().manual_seed(0)
    keep = torch.zeros(count, dtype=torch.bool)
    keep[torch.randperm(count, generator=generator)[:most]] = True
    fewer = gaussians.select(keep.to(gaussians.means.device))
    return replace(fewer, scales=fewer.scales * (count / most) ** 0.5)


def _axes(distance: float) -> Float64[Tensor, "6 6"]:
    """Twists, column by column: three that go around what a camera looks at, three that turn it.

    A step aside and a turn look almost alike, and Adam does not know: it would take one for the
    other. A step that keeps the middle of the scene in view is told apart from a turn.
    """
    axes = torch.diag(torch.tensor([*[distance] * 3, 1.0, 1.0, 1.0], dtype=torch.float64))
    axes[3, 1], axes[4, 0] = 1, -1
    return axes


def _descend(
    gaussians: Gaussians,
    world2cam: Float[Tensor, "4 4"],
    goal: Goal,
    distance: float,
    steps: int,
    learning_rate: float,
) -> Float[Tensor, "4 4"]:
    """Take steps, each from where the last one led, and return the best place visited.

    Six numbers are too few for a GPU: only the picture's gradient by the camera is asked there.
    """
    axes = _axes(distance)
    change = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=learning_rate, betas=_BETAS)
    pose = world2cam.detach().cpu().double()
    best, least, since = pose, float("inf"), 0
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate * SLOWER ** (step / steps)
        camera = pose.to(world2cam).requires_grad_()
        loss = goal.missed(gaussians, camera)
        (by_camera,) = torch.autograd.grad(loss, camera)
        read = torch.cat([loss.detach().reshape(1), by_camera.flatten()]).cpu().double()
        value = float(read[0])
        since = 0 if value < least * (1 - LEAST_GAIN) else since + 1
        if value < least:
            best, least = pose, value
        if since >= PATIENCE:
            break
        change.grad = axes.mT @ twist_gradient(pose, read[1:].unflatten(0, (4, 4)))
        optimizer.step()
        with torch.no_grad():
            pose = se3_exponential(axes @ change) @ pose
            change.zero_()
    return best.to(world2cam)
