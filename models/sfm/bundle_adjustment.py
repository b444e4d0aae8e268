"""Bundle adjustment: the camera poses and points with the least reprojection error."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.geometry.camera import Camera, project, with_poses
from models.geometry.rigid import cross_matrix, se3_exponential, transform_points

CAUCHY_SCALE_PX = 0.7  # error from which Cauchy's loss grows slowly
MAX_ITERATIONS = 20
MIN_GAIN = 1e-5  # share of the cost; a step that gains less is the last
INITIAL_DAMPING = 1e-3
BEHIND_COST = 1e6  # of an observation behind the camera, in squares of `CAUCHY_SCALE_PX`


def bundle_adjust(
    cameras: Sequence[Camera],
    points: Float[Tensor, "point 3"],
    observations: Float[Tensor, "view point 2"],
) -> tuple[tuple[Camera, ...], Float[Tensor, "point 3"]]:
    """Adjust all poses but the first, and all points, to the least reprojection error.

    Levenberg-Marquardt with Cauchy's loss, on the Schur complement of the points (Triggs et al.,
    "Bundle adjustment: a modern synthesis", 2000). Damping alone fixes the scale; intrinsics stay.
    Observations are coordinates in [0, 1], NaN where a view does not observe a point.
    """
    world2cam = torch.stack([camera.world2cam for camera in cameras])
    width_height = torch.tensor([camera.size[::-1] for camera in cameras])
    intrinsics_px = torch.stack([camera.intrinsics_px for camera in cameras]).double()
    problem = _Problem(observations.double() * width_height[:, None], intrinsics_px)
    poses, points = world2cam.double(), points.double()
    cost, damping = problem.cost(poses, points), INITIAL_DAMPING
    for _ in range(MAX_ITERATIONS):
        twists, shifts = problem.step(poses, points, damping)
        new_poses, new_points = se3_exponential(twists) @ poses, points + shifts
        new_cost = problem.cost(new_poses, new_points)
        if new_cost < cost:
            gain, cost = 1 - new_cost / cost, new_cost
            poses, points, damping = new_poses, new_points, damping / 5
            if gain < MIN_GAIN:
                break
        else:
            damping *= 10
    return with_poses(cameras, poses.to(world2cam)), points.to(world2cam)


@dataclass(frozen=True)
class _Problem:
    """Observations, NaN where there is none, and intrinsics, both in pixels."""

    observed_px: Float[Tensor, "view point 2"]
    intrinsics_px: Float[Tensor, "view 3 3"]

    def residuals(
        self, poses: Float[Tensor, "view 4 4"], points: Float[Tensor, "point 3"]
    ) -> tuple[Float[Tensor, "view point 2"], Bool[Tensor, "view point"]]:
        """Return errors in pixels, zero where unobserved or behind, and which are valid."""
        projected, depth = project(points.expand(len(poses), -1, -1), poses, self.intrinsics_px)
        valid = self.observed_px.isfinite().all(-1) & (depth > 1e-9)
        return (projected - self.observed_px).where(valid[..., None], 0), valid

    def cost(self, poses: Float[Tensor, "view 4 4"], points: Float[Tensor, "point 3"]) -> float:
        """Return the sum of Cauchy's loss over all observations."""
        residuals, valid = self.residuals(poses, points)
        observed = self.observed_px.isfinite().all(-1)
        squares = residuals.square().sum(-1) / CAUCHY_SCALE_PX**2
        return float(squares.where(valid | ~observed, BEHIND_COST).log1p().sum())

    def step(
        self, poses: Float[Tensor, "view 4 4"], points: Float[Tensor, "point 3"], damping: float
    ) -> tuple[Float[Tensor, "view 6"], Float[Tensor, "point 3"]]:
        """Solve the damped normal equations: twists to the left of every pose, and point shifts.

        The first pose's twist is zero. Cauchy's loss enters by iteratively reweighted least
        squares.
        """
        residuals, valid = self.residuals(poses, points)
        weight = valid / (1 + residuals.square().sum(-1) / CAUCHY_SCALE_PX**2)
        in_camera = transform_points(points.expand(len(poses), -1, -1), poses)
        inverse_depth = 1 / in_camera[..., 2].where(valid, 1)
        focal = self.intrinsics_px[:, None, [0, 1], [0, 1]] * inverse_depth[..., None]
        by_depth = -(focal * in_camera[..., :2] * inverse_depth[..., None])
        by_camera_point = torch.cat([torch.diag_embed(focal), by_depth[..., None]], dim=-1)
        by_rotation = -by_camera_point @ cross_matrix(in_camera)
        by_twist = torch.cat([by_camera_point, by_rotation], dim=-1)[1:]
        by_point = by_camera_point @ poses[:, None, :3, :3]

        # Blocks of the normal equations, and the gradients.
        others = weight[1:]
        point_block = torch.einsum("vpki,vp,vpkj->pij", by_point, weight, by_point)
        mixed_block = torch.einsum("vpki,vp,vpkj->pvij", by_twist, others, by_point[1:]).flatten(
            1, 2
        )
        pose_blocks = torch.einsum("vpki,vp,vpkj->vij", by_twist, others, by_twist)
        point_gradient = torch.einsum("vpki,vp,vpk->pi", by_point, weight, residuals)
        pose_gradient = torch.einsum("vpki,vp,vpk->vi", by_twist, others, residuals[1:]).flatten()

        def damped(matrix: Tensor) -> Tensor:
            diagonal = matrix.diagonal(dim1=-2, dim2=-1)
            return matrix + torch.diag_embed(damping * diagonal + 1e-9)

        # Singular blocks give steps that are not finite or raise the cost: neither is taken.
        inverse_points = torch.linalg.inv_ex(damped(point_block)).inverse
        eliminated = mixed_block @ inverse_points
        schur_complement = damped(torch.block_diag(*pose_blocks)) - torch.einsum(
            "pij,pkj->ik", eliminated, mixed_block
        )
        right_side = torch.einsum("pij,pj->i", eliminated, point_gradient) - pose_gradient
        twists = torch.linalg.solve_ex(schur_complement, right_side).result
        rest = point_gradient + torch.einsum("pij,i->pj", mixed_block, twists)
        shifts = -(inverse_points @ rest[..., None])[..., 0]
        return torch.cat([twists.new_zeros(1, 6), twists.view(-1, 6)]), shifts
