"""The renderer for CPUs: compiled kernels as one differentiable function."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int32, Int64
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from models.geometry.camera import Camera
from models.geometry.gaussians import Gaussians
from models.render import Rendering
from models.render.kernels.drawing import add_up, draw, draw_backward
from models.render.kernels.layout import SPLAT_COLUMNS, TILE
from models.render.kernels.projection import project, project_backward
from models.render.kernels.shading import MOST_TERMS, shade, shade_backward
from models.render.kernels.tiles import count_tiles, depth_order, fill_tiles, place_tiles

MOST_PARTS = 16  # of the work on the way back: every part has sums of its own for every Gaussian


def render_cpu(
    gaussians: Gaussians,
    camera: Camera,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Rendering:
    """Render a scene with our own rasterizer: see `models.render.render`.

    Gradients reach the Gaussians and the camera, but not `background`. Arithmetic
    is float32 where pixels are counted and float64 in the geometry before. What is not finite is
    not drawn.
    """
    check(gaussians, camera.size)
    device = gaussians.means.device
    picture = Draw.apply(
        *(
            tensor.to("cpu", torch.float32).contiguous()
            for tensor in (
                gaussians.means,
                gaussians.scales,
                gaussians.rotations,
                gaussians.harmonics,
                gaussians.opacities,
            )
        ),
        camera.world2cam.to("cpu", torch.float64).contiguous(),
        camera.intrinsics_px.to("cpu", torch.float64),
        camera.size,
        torch.tensor(background, dtype=torch.float32),
    ).to(device)
    return Rendering(color=picture[:3], depth=picture[3], alpha=1 - picture[4])


def check(gaussians: Gaussians, size: tuple[int, int]) -> None:
    """Refuse what the kernels, which check nothing, would read or write out of bounds."""
    count, terms = gaussians.means.shape[0], gaussians.harmonics.shape[2]
    shapes = {
        "means": (gaussians.means, (count, 3)),
        "scales": (gaussians.scales, (count, 3)),
        "rotations": (gaussians.rotations, (count, 4)),
        "harmonics": (gaussians.harmonics, (count, 3, (gaussians.sh_degree + 1) ** 2)),
        "opacities": (gaussians.opacities, (count,)),
    }
    for name, (tensor, shape) in shapes.items():
        if tuple(tensor.shape) != shape or terms == 0:
            raise ValueError(f"{name} of {count} Gaussians have shape {tuple(tensor.shape)}")
    if min(size) < 1:
        raise ValueError(f"a picture of {size[0]} x {size[1]} pixels has none")


class Draw(Function):
    """Gaussians and a camera to a picture: color, depth and what is left of the light."""

    @staticmethod
    def forward(
        ctx: Any,
        means: Float32[Tensor, "gaussian 3"],
        scales: Float32[Tensor, "gaussian 3"],
        rotations: Float32[Tensor, "gaussian 4"],
        harmonics: Float32[Tensor, "gaussian 3 sh"],
        opacities: Float32[Tensor, " gaussian"],
        world2cam: Float64[Tensor, "4 4"],
        intrinsics_px: Float64[Tensor, "3 3"],
        size: tuple[int, int],
        background: Float32[Tensor, "3"],
    ) -> Float32[Tensor, "5 height width"]:
        """Project, color, sort and draw."""
        (height, width), parts = size, torch.get_num_threads()
        count, terms = len(means), min(harmonics.shape[2], MOST_TERMS)
        scene = [tensor.numpy() for tensor in (means, scales, rotations, opacities)]
        view = world2cam.numpy(), lens_of(intrinsics_px).numpy(), width, height
        colors = means.numpy(), harmonics.numpy(), eye_of(world2cam).numpy(), terms
        # NumPy's memory: it asks the system for large pages, which torch does not.
        flat = np.empty((count, SPLAT_COLUMNS), np.float32), np.empty((count, 4), np.int32)
        boxes, depths = flat[1], np.empty(count)
        picture = torch.empty(5, height, width)
        last = torch.empty(height, width, dtype=torch.int32)
        pixels = background.numpy(), picture.numpy(), last.numpy()
        with ThreadPoolExecutor(parts) as pool:
            each(pool, parts, lambda part: project(*scene, *view, *flat, depths, part, parts))
            order = pool.submit(depth_order, depths, boxes)
            shares = 4 * parts  # small ones: a thread is busy with the order
            each(pool, shares, lambda share: shade(*colors, *flat, share, shares))
            lists = tile_lists(order.result(), boxes, size, pool, parts)
            each(pool, parts, lambda part: draw(*flat, *lists, *pixels, part, parts))
        ctx.save_for_backward(
            *(means, scales, rotations, harmonics, world2cam, intrinsics_px),
            *(torch.from_numpy(array) for array in (*flat, *lists)),
            *(background, picture, last),
        )
        return picture

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_picture: Float32[Tensor, "5 height width"]) -> tuple:
        """Go the same way back; skip what nobody asked for."""
        means, scales, rotations, harmonics, world2cam, intrinsics_px, *drawn = ctx.saved_tensors
        (count, _, sh), (_, height, width) = harmonics.shape, by_picture.shape
        whole = any(ctx.needs_input_grad[index] for index in (0, 1, 2, 4))
        wants_harmonics = ctx.needs_input_grad[3]
        parts = min(torch.get_num_threads(), MOST_PARTS)
        scene = [tensor.numpy() for tensor in (means, scales, rotations)]
        view = world2cam.numpy(), lens_of(intrinsics_px).numpy(), width, height
        colors = means.numpy(), harmonics.numpy(), eye_of(world2cam).numpy(), min(sh, MOST_TERMS)
        done = [tensor.numpy() for tensor in drawn]
        pixels, flat = by_picture.contiguous().numpy(), done[:2]
        # NumPy's zeros: torch's would leave OpenMP threads spinning on the cores that we need.
        by_scene = [
            np.zeros((count * whole, *shape), np.float32) for shape in ((3,), (3,), (4,), ())
        ]
        by_harmonics = np.zeros((count * wants_harmonics, 3, sh), np.float32)
        tints = whole, by_scene[0], wants_harmonics, by_harmonics
        shares = np.zeros((parts, count, SPLAT_COLUMNS), np.float32)
        moments, by_camera, by_eye = shares[0], np.zeros((parts, 4, 4)), np.zeros((parts, 3))
        with ThreadPoolExecutor(parts) as pool:
            each(
                pool,
                parts,
                lambda part: draw_backward(*done, pixels, shares[part], part, parts),
            )
            each(pool, parts, lambda part: add_up(shares, part, parts))
            each(
                pool,
                parts,
                lambda part: shade_backward(
                    *colors, *flat, moments, by_eye[part], *tints, part, parts
                ),
            )
            each(
                pool,
                parts,
                lambda part: project_backward(
                    *scene, *view, *flat, moments, by_camera[part], whole, *by_scene, part, parts
                ),
            )
        by_view = camera_gradient(
            world2cam, torch.from_numpy(by_camera.sum(0)), torch.from_numpy(by_eye.sum(0))
        )
        by_means, by_scales, by_rotations, by_opacities = map(torch.from_numpy, by_scene)
        by_gaussians = by_means, by_scales, by_rotations, torch.from_numpy(by_harmonics)
        gradients = [*by_gaussians, by_opacities, *by_view]
        wanted = zip(gradients, ctx.needs_input_grad, strict=False)
        return *(gradient if wants else None for gradient, wants in wanted), None, None


def each(pool: ThreadPoolExecutor, parts: int, work: Callable[[int], None]) -> None:
    """Call work(0), work(1) and so on, all at the same time."""
    list(pool.map(work, range(parts)))


def tile_lists(
    order: Int32[np.ndarray, " drawn"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    size: tuple[int, int],
    pool: ThreadPoolExecutor,
    parts: int,
) -> tuple[Int64[np.ndarray, " bounds"], Int32[np.ndarray, " entries"]]:
    """Where the list of every tile starts, and the lists: Gaussians in the given order."""
    tiles_x, tiles_y = ((pixels + TILE - 1) // TILE for pixels in reversed(size))
    places = np.zeros((parts, tiles_x * tiles_y), np.int64)
    each(pool, parts, lambda part: count_tiles(order, boxes, tiles_x, places[part], part, parts))
    starts = place_tiles(places)
    entries = np.empty(starts[-1], np.int32)
    each(
        pool,
        parts,
        lambda part: fill_tiles(order, boxes, tiles_x, places[part], entries, part, parts),
    )
    return starts, entries


def lens_of(intrinsics_px: Float64[Tensor, "3 3"]) -> Float64[Tensor, "4"]:
    """(fx, fy, cx, cy)."""
    return intrinsics_px[[0, 1, 0, 1], [0, 1, 2, 2]]


def eye_of(world2cam: Float64[Tensor, "4 4"]) -> Float64[Tensor, "3"]:
    """The camera's center in the world."""
    return -world2cam[:3, :3].T @ world2cam[:3, 3]


def camera_gradient(
    world2cam: Float64[Tensor, "4 4"], sums: Float64[Tensor, "4 4"], by_eye: Float64[Tensor, "3"]
) -> tuple[Float64[Tensor, "4 4"], Float64[Tensor, "3 3"]]:
    """Derivatives by every entry of `world2cam` and of the intrinsics in pixels."""
    by_world2cam = sums.clone()
    by_world2cam[3] = 0
    by_world2cam[:3, :3] -= torch.outer(world2cam[:3, 3], by_eye)
    by_world2cam[:3, 3] -= world2cam[:3, :3] @ by_eye
    by_intrinsics_px = torch.zeros(3, 3, dtype=torch.float64)
    by_intrinsics_px[[0, 1, 0, 1], [0, 1, 2, 2]] = sums[3]
    return by_world2cam, by_intrinsics_px
