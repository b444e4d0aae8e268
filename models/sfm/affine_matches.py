"""Affine matches: matches refined to a fraction of a pixel, with the affine maps around them.

The neighborhood of a match has to follow the epipolar geometry too. Affine matches therefore tell
poses apart that agree with the same points (Barath, Toth and Hajder, "A minimal solution for
two-view focal-length estimation using two affine correspondences", CVPR 2017).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from models.geometry.sampling import sample_bilinear
from models.sfm.two_view import TwoView

RADIUS_PX = 8  # of the square patches, in pixels of the coarser image
ITERATIONS = 8
MAX_CANDIDATE_ERROR_PX = 3.0  # of matches that are refined
MAX_SHIFT_PX = 3.0  # a match that moves farther was another one
MIN_CORRELATION = 0.8  # of two patches that show the same
MIN_CONTRAST = 1e-5  # standard deviation of gray values in [0, 1]: a patch below is flat
CONVERGED_PX = 0.1  # length of the last step
MAX_STEP_PX = 1.5
SHIFT_DAMPING, AFFINITY_DAMPING = 1e-4, 1e-3  # beside patches of unit variance
NEIGHBOR_PX = 6.0  # distance of the neighbors that count as further matches


@dataclass(frozen=True)
class AffineMatches:
    """Matches refined in the second image; where the images do not agree, they stay."""

    second: Float[Tensor, "match 2"]  # coordinates in the second image, in [0, 1]
    affinity: Float[Tensor, "match 2 2"]  # Jacobian from the first to the second image, in pixels
    is_refined: Bool[Tensor, " match"]  # where false, there is no affinity


def refine_affine_matches(
    images: tuple[Float[Tensor, "3 _height _width"], Float[Tensor, "3 _height2 _width2"]],
    pair: TwoView,
    poses: list[Float[Tensor, "4 4"]],
) -> AffineMatches:
    """Align the patches around matches; each pose initializes those that agree with it, in turn."""
    gray = images[0].mean(0).cpu(), images[1].mean(0).cpu()
    first, second = (points.float() for points in pair.points_px)
    refined, is_refined = second.clone(), torch.zeros(len(first), dtype=torch.bool)
    affinity = torch.zeros(len(first), 2, 2)
    for pose in poses:
        depth, _ = pair.triangulate(pose)
        errors_px = pair.sampson_px(pose).abs()
        candidate = (errors_px < MAX_CANDIDATE_ERROR_PX) & (depth > 0) & ~is_refined
        index = candidate.nonzero()[:, 0]
        initial = _initial_affinity(pair, pose, first[index], depth[index])
        finite = initial.isfinite().all(-1).all(-1)
        index, initial = index[finite], initial[finite]
        aligned_px, aligned, converged = _align_patches(gray, first[index], second[index], initial)
        done = index[converged]
        refined[done], affinity[done] = aligned_px[converged], aligned[converged]
        is_refined[done] = True
    width_height = torch.tensor(pair.cameras[1].size[::-1])
    return AffineMatches(refined / width_height, affinity, is_refined)


def affine_neighbors(pair: TwoView, affine: AffineMatches) -> TwoView:
    """Return four neighbors of each refined match as matches: right, left, below and above."""
    index = affine.is_refined
    sizes = [torch.tensor(camera.size[::-1]) for camera in pair.cameras]
    steps = NEIGHBOR_PX * torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    first = pair.points[0][index, None] + steps / sizes[0]
    second = affine.second[index, None] + steps @ affine.affinity[index].mT / sizes[1]
    return _matched_in_order(pair, first.flatten(0, 1), second.flatten(0, 1))


def with_affine_neighbors(pair: TwoView, affine: AffineMatches) -> TwoView:
    """Return the refined matches followed by their `affine_neighbors`."""
    first, second = affine_neighbors(pair, affine).points
    return _matched_in_order(
        pair, torch.cat([pair.points[0], first]), torch.cat([affine.second, second])
    )


def _matched_in_order(
    pair: TwoView, first: Float[Tensor, "match 2"], second: Float[Tensor, "match 2"]
) -> TwoView:
    matches = torch.arange(len(first))[:, None].expand(-1, 2)
    return TwoView(pair.cameras, (first, second), matches)


def _align_patches(
    gray: tuple[Float[Tensor, "_height _width"], Float[Tensor, "_height2 _width2"]],
    first: Float[Tensor, "match 2"],
    second: Float[Tensor, "match 2"],
    affinity: Float[Tensor, "match 2 2"],
) -> tuple[Float[Tensor, "match 2"], Float[Tensor, "match 2 2"], Bool[Tensor, " match"]]:
    """Align affine patches by the inverse compositional method (Baker and Matthews, IJCV 2004).

    The Jacobian is that of the template, so that only the second image is sampled at each step;
    patches are normalized for brightness and contrast. Returns positions in the second image,
    affinities, and which have converged to similar patches; all in pixels.
    """
    # Pixels of the first image per patch cell, where the second image is the coarser one.
    cell = 1 / torch.linalg.det(affinity).abs().sqrt().clamp(0.1, 1)
    line = torch.arange(-RADIUS_PX - 1.0, RADIUS_PX + 2.0)
    with_border = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)
    patch = _sample_px(gray[0], first[:, None, None] + with_border * cell[:, None, None, None])
    grid = with_border[1:-1, 1:-1].flatten(0, 1)
    window = (-grid.square().sum(1) / (2 * (0.6 * RADIUS_PX) ** 2)).exp()
    window = window / window.sum()
    template, contrast = _standardize(patch[:, 1:-1, 1:-1].flatten(1), window)
    is_flat = contrast[:, 0] <= MIN_CONTRAST
    gradient = torch.stack(
        [patch[:, 1:-1, 2:] - patch[:, 1:-1, :-2], patch[:, 2:, 1:-1] - patch[:, :-2, 1:-1]], dim=1
    ).flatten(2) / (2 * contrast[:, None])
    by_affinity = (gradient[:, :, None] * (grid / RADIUS_PX).T).flatten(1, 2)
    jacobian = torch.cat([gradient, by_affinity], dim=1)
    # Project out changes of brightness and of contrast.
    jacobian = jacobian - (jacobian * window).sum(2, keepdim=True)
    along = (jacobian * template[:, None] * window).sum(2, keepdim=True)
    jacobian = jacobian - along * template[:, None]
    damping = torch.tensor([SHIFT_DAMPING] * 2 + [AFFINITY_DAMPING] * 4)
    jacobian = jacobian.where(~is_flat[:, None, None], 0)  # nothing to align: stay
    # A patch whose few gray values are those of one edge may be singular to rounding.
    inverse_hessian, error = torch.linalg.inv_ex(
        jacobian * window @ jacobian.mT + torch.diag(damping)
    )
    inverse_hessian = inverse_hessian.where((error == 0)[:, None, None], 0)
    is_regular = ~is_flat & (error == 0)
    position, warp = second, affinity * cell[:, None, None]
    deformation = torch.zeros(len(first), 4)
    for _ in range(ITERATIONS):
        warped, _ = _standardize(_sample_px(gray[1], position[:, None] + grid @ warp.mT), window)
        residual = (jacobian * window @ (warped - template)[..., None])[..., 0]
        residual[:, 2:] += AFFINITY_DAMPING * deformation
        step = (inverse_hessian @ residual[..., None])[..., 0]
        step = step * (MAX_STEP_PX / step[:, :2].norm(dim=1, keepdim=True)).clamp(max=1)
        deformation = deformation - step[:, 2:]
        update = torch.eye(2) + (step[:, 2:] / RADIUS_PX).unflatten(1, (2, 2))
        inverse_update, error = torch.linalg.inv_ex(update)
        is_regular &= error == 0
        warp = warp @ inverse_update.where((error == 0)[:, None, None], torch.eye(2))
        position = position - (warp @ step[:, :2, None])[..., 0]
    warped, _ = _standardize(_sample_px(gray[1], position[:, None] + grid @ warp.mT), window)
    similar = (warped * template * window).sum(1) > MIN_CORRELATION
    near = (position - second).norm(dim=1) < MAX_SHIFT_PX
    converged = step[:, :2].norm(dim=1) < CONVERGED_PX
    return position, warp / cell[:, None, None], similar & near & converged & is_regular


def _sample_px(
    image: Float[Tensor, "height width"], positions: Float[Tensor, "*patch 2"]
) -> Float[Tensor, "*patch"]:
    """Sample gray values at positions in pixels, bilinearly."""
    height, width = image.shape
    coordinates = positions / positions.new_tensor([width, height])
    return sample_bilinear(image[None], coordinates.flatten(0, -2)).reshape(positions.shape[:-1])


def _standardize(
    values: Float[Tensor, "match cell"], window: Float[Tensor, " cell"]
) -> tuple[Float[Tensor, "match cell"], Float[Tensor, "match 1"]]:
    """Return values of mean 0 and variance 1 under the window, and their standard deviation."""
    centered = values - (values * window).sum(1, keepdim=True)
    deviation = (centered.square() * window).sum(1, keepdim=True).sqrt().clamp(min=MIN_CONTRAST)
    return centered / deviation, deviation


def _initial_affinity(
    pair: TwoView,
    pose: Float[Tensor, "4 4"],
    first: Float[Tensor, "match 2"],
    depth: Float[Tensor, " match"],
) -> Float[Tensor, "match 2 2"]:
    """Return the Jacobian of the homography by a plane at each point that faces both cameras."""
    intrinsics_px = [matrix.float() for matrix in pair.intrinsics_px]
    inverse = torch.linalg.inv(intrinsics_px[0])
    homogeneous = functional.pad(first, (0, 1), value=1.0)
    points = homogeneous @ inverse.T * depth[:, None]
    rotation, translation = pose[:3, :3], pose[:3, 3]
    to_second = -rotation.T @ translation - points
    normal = functional.normalize(to_second, dim=1) - functional.normalize(points, dim=1)
    planes = normal / (normal * points).sum(1, keepdim=True)
    homographies = intrinsics_px[1] @ (rotation + translation[:, None] * planes[:, None]) @ inverse
    mapped = (homographies @ homogeneous[..., None])[..., 0]
    jacobian = (
        homographies[:, :2, :2]
        - (mapped[:, :2] / mapped[:, 2:])[..., None] * homographies[:, 2:, :2]
    )
    return jacobian / mapped[:, 2, None, None]
