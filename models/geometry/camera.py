"""The pinhole camera, image coordinates, and rays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.rigid import invert, transform_points


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with its pose, or a batch of cameras whose images have one size.

    Attributes:
        intrinsics: Normalized calibration matrix: row 0 by the image's width, row 1 by its height.
        world2cam: Rigid motion from the world's to the camera's axes (OpenCV's).
        size: (height, width) of the image, in pixels.
        focal_group: None where the focal length is known. Where it is a guess: a number that the
            photos of one physical camera, and of one focal length, share.
    """

    intrinsics: Float[Tensor, "*batch 3 3"]
    world2cam: Float[Tensor, "*batch 4 4"]
    size: tuple[int, int]
    focal_group: int | None = None

    @property
    def cam2world(self) -> Float[Tensor, "*batch 4 4"]:
        """The inverse of `world2cam`."""
        return invert(self.world2cam)

    @property
    def center(self) -> Float[Tensor, "*batch 3"]:
        """The center of projection in the world."""
        return self.cam2world[..., :3, 3]

    @property
    def intrinsics_px(self) -> Float[Tensor, "*batch 3 3"]:
        """The calibration matrix in pixels."""
        return to_pixels(self.intrinsics, self.size)

    def __getitem__(self, index: int | slice | Tensor | tuple[int | slice, ...] | None) -> "Camera":
        """Select cameras along the first axes of a batch; `[None]` makes a batch of one."""
        return replace(self, intrinsics=self.intrinsics[index], world2cam=self.world2cam[index])

    def __len__(self) -> int:
        """Return the number of cameras along the first axis of a batch."""
        return self.world2cam[..., 0, 0].shape[0]

    def __iter__(self) -> "Iterator[Camera]":
        """Iterate over the first axis of a batch."""
        return (self[index] for index in range(len(self)))

    def to(self, device: torch.device) -> "Camera":
        """Copy to a device; the original is untouched."""
        return replace(
            self, intrinsics=self.intrinsics.to(device), world2cam=self.world2cam.to(device)
        )

    def float(self) -> "Camera":
        """Return the camera in single precision."""
        return replace(self, intrinsics=self.intrinsics.float(), world2cam=self.world2cam.float())

    def project(
        self, points: Float[Tensor, "*batch point 3"]
    ) -> tuple[Float[Tensor, "*batch point 2"], Float[Tensor, "*batch point"]]:
        """Project world points to coordinates (x, y), in [0, 1] inside the image, and depth z.

        Where z <= 0 the coordinates mean nothing.
        """
        return project(points, self.world2cam, self.intrinsics)

    def unproject(
        self, depth: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width 3"]:
        """Return the world points of a depth map's pixels; depth is z, not distance."""
        points = camera_rays(self.intrinsics, self.size) * depth[..., None]
        cam2world = self.cam2world
        rotated = torch.einsum("...ij,...hwj->...hwi", cam2world[..., :3, :3], points)
        return rotated + cam2world[..., None, None, :3, 3]

    def rays_at(
        self, coordinates: Float[Tensor, "*batch point 2"]
    ) -> Float[Tensor, "*batch point 3"]:
        """Return rays through image points in camera axes, with z = 1."""
        homogeneous = torch.cat([coordinates, torch.ones_like(coordinates[..., :1])], dim=-1)
        return homogeneous @ torch.linalg.inv(self.intrinsics).mT

    def resized(self, size: tuple[int, int]) -> "Camera":
        """Return the camera of the image resized to (height, width)."""
        return replace(self, size=size)

    def cropped(self, top: int, left: int, size: tuple[int, int]) -> "Camera":
        """Return the camera of a window, in pixels; a negative corner widens the view."""
        (height, width), (new_height, new_width) = self.size, size
        moved = self.intrinsics.clone()
        moved[..., 0, :] *= width / new_width
        moved[..., 1, :] *= height / new_height
        moved[..., 0, 2] -= left / new_width
        moved[..., 1, 2] -= top / new_height
        return replace(self, intrinsics=moved, size=size)

    def framed(self, size: tuple[int, int]) -> "Camera":
        """Return the camera of the largest central part of the image that has `size`'s aspect.

        This part is resized to `size`. Where the aspects agree the intrinsics are unchanged.
        """
        widening = (size[1] / size[0]) / (self.size[1] / self.size[0])
        kept = self.intrinsics.new_tensor([min(1.0, widening), min(1.0, 1 / widening)])
        intrinsics = self.intrinsics.clone()
        intrinsics[..., :2, :2] = self.intrinsics[..., :2, :2] / kept[:, None]
        intrinsics[..., :2, 2] = (self.intrinsics[..., :2, 2] - 0.5) / kept + 0.5
        return replace(self, intrinsics=intrinsics, size=size)


def transform_camera(camera: Camera, rigid: Float[Tensor, "4 4"], factor: float) -> Camera:
    """Return the camera that sees a scene as before, after `gaussians.transform` moved it."""
    moved = camera.world2cam @ invert(rigid).to(camera.world2cam)
    moved[..., :3, 3] += (factor - 1) * camera.world2cam[..., :3, 3]
    return replace(camera, world2cam=moved)


def stack_cameras(cameras: Sequence[Camera]) -> Camera:
    """Join cameras of one size into a batch; its focal lengths count as known.

    Raises:
        ValueError: If the sizes differ.
    """
    sizes = {camera.size for camera in cameras}
    if len(sizes) != 1:
        raise ValueError(f"cameras of one size are needed, not of {sorted(sizes)}")
    return Camera(
        intrinsics=torch.stack([camera.intrinsics for camera in cameras]),
        world2cam=torch.stack([camera.world2cam for camera in cameras]),
        size=sizes.pop(),
    )


def with_poses(
    cameras: Sequence[Camera], world2cam: Float[Tensor, "view 4 4"]
) -> tuple[Camera, ...]:
    """Return cameras, which may differ in size, at other poses."""
    return tuple(
        replace(camera, world2cam=pose) for camera, pose in zip(cameras, world2cam, strict=True)
    )


def project(
    points: Float[Tensor, "*batch point 3"],
    world2cam: Float[Tensor, "*batch 4 4"],
    intrinsics: Float[Tensor, "*batch 3 3"],
) -> tuple[Float[Tensor, "*batch point 2"], Float[Tensor, "*batch point"]]:
    """Project world points: see `Camera.project`; in pixels if the intrinsics are in pixels."""
    in_camera = transform_points(points, world2cam)
    on_image = in_camera @ intrinsics.mT
    depth = in_camera[..., 2]
    return on_image[..., :2] / on_image[..., 2:], depth


def pixel_grid(
    size: tuple[int, int], like: Float[Tensor, "..."]
) -> Float[Tensor, "height width 2"]:
    """Return coordinates (x, y) of every pixel's center, with the device and dtype of `like`."""
    height, width = size
    y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) / height
    x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def camera_rays(
    intrinsics: Float[Tensor, "*batch 3 3"], size: tuple[int, int]
) -> Float[Tensor, "*batch height width 3"]:
    """Return rays through every pixel's center in camera axes, with z = 1: point = ray * depth."""
    grid = pixel_grid(size, intrinsics)
    homogeneous = torch.cat([grid, torch.ones_like(grid[..., :1])], dim=-1)
    return torch.einsum("...ij,hwj->...hwi", torch.linalg.inv(intrinsics), homogeneous)


def to_pixels(
    intrinsics: Float[Tensor, "*batch 3 3"], size: tuple[int, int]
) -> Float[Tensor, "*batch 3 3"]:
    """Turn normalized intrinsics into pixels of an image of this (height, width)."""
    height, width = size
    return intrinsics * intrinsics.new_tensor([width, height, 1])[:, None]


def from_pixels(
    intrinsics_px: Float[Tensor, "*batch 3 3"], size: tuple[int, int]
) -> Float[Tensor, "*batch 3 3"]:
    """Normalize intrinsics given in pixels of an image of this (height, width)."""
    height, width = size
    return intrinsics_px / intrinsics_px.new_tensor([width, height, 1])[:, None]
