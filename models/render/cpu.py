"""The renderer for CPUs: compiled kernels as one differentiable function."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int32, Int64
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from models.geometry.camera import Camera
from models.geometry.gaussians import PARAMETERS, Gaussians
from models.render import Rendering
from models.render.kernels.layout import SPLAT_COLUMNS, TILE
from models.render.kernels.projection import project, project_backward
from models.render.kernels.rasterize import rasterize
from models.render.kernels.rasterize_backward import rasterize_backward, sum_over_chunks
from models.render.kernels.shading import MAX_SH_TERMS, shade, shade_backward
from models.render.kernels.tiles import counts_to_offsets, depth_order, fill_tiles
from models.render.slabs import MAX_AT_ONCE, render_in_slabs

MAX_BACKWARD_CHUNKS = 16  # each has sums of its own for every Gaussian


def render_cpu(
    gaussians: Gaussians, camera: Camera, background: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Rendering:
    """Render a scene with our own rasterizer: see `models.render.render`.

    Gradients reach the Gaussians and the camera, but not `background`. Geometry is computed in
    float64, pixels in float32. Gaussians that are not finite are left out. Large scenes are
    rendered in slabs where no gradients are wanted.

    Raises:
        ValueError: If a tensor of the Gaussians has the wrong shape, or the image no pixels.
    """
    check_shapes(gaussians, camera.size)
    if len(gaussians) > MAX_AT_ONCE and not torch.is_grad_enabled():
        scene = replace(gaussians, guessed=None).map(lambda tensor: tensor.to("cpu", torch.float32))
        return render_in_slabs(scene, camera, background, render_cpu)
    device = gaussians.means.device
    image = Rasterize.apply(
        *(getattr(gaussians, name).to("cpu", torch.float32).contiguous() for name in PARAMETERS),
        camera.world2cam.to("cpu", torch.float64).contiguous(),
        camera.intrinsics_px.to("cpu", torch.float64),
        camera.size,
        torch.tensor(background, dtype=torch.float32),
    ).to(device)
    return Rendering(color=image[:3], depth=image[3], alpha=1 - image[4])


def check_shapes(gaussians: Gaussians, size: tuple[int, int]) -> None:
    """Refuse shapes with which the kernels, which check nothing, would leave their arrays."""
    count, terms = len(gaussians), max(gaussians.sh_degree + 1, 1) ** 2
    for name, shape in zip(PARAMETERS, ((3,), (3,), (4,), (3, terms), ()), strict=True):
        found = tuple(getattr(gaussians, name).shape)
        if found != (count, *shape):
            raise ValueError(f"{name} of {count} Gaussians have shape {found}")
    if min(size) < 1:
        raise ValueError(f"an image of {size[0]} x {size[1]} pixels has none")


class Rasterize(Function):
    """Gaussians and a camera to an image: color, depth and transmittance."""

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
        """Project, shade, sort and rasterize."""
        (height, width), chunks = size, torch.get_num_threads()
        count, terms = len(means), min(harmonics.shape[2], MAX_SH_TERMS)
        scene = [tensor.numpy() for tensor in (means, scales, rotations, opacities)]
        view = world2cam.numpy(), pinhole_parameters(intrinsics_px).numpy(), width, height
        colors = means.numpy(), harmonics.numpy(), camera_center(world2cam).numpy(), terms
        # NumPy's memory: it asks the system for large pages, which torch does not.
        splats = np.empty((count, SPLAT_COLUMNS), np.float32), np.empty((count, 4), np.int32)
        boxes, depths = splats[1], np.empty(count)
        image = torch.empty(5, height, width)
        last_splat = torch.empty(height, width, dtype=torch.int32)
        pixels = background.numpy(), image.numpy(), last_splat.numpy()
        with ThreadPoolExecutor(chunks) as pool:
            run(pool, chunks, lambda chunk: project(*scene, *view, *splats, depths, chunk, chunks))
            order = pool.submit(depth_order, depths, boxes)
            small = 4 * chunks  # pieces, as one thread is busy sorting
            run(pool, small, lambda chunk: shade(*colors, *splats, chunk, small))
            lists = tile_lists(order.result(), boxes, size, pool, chunks)
            run(pool, chunks, lambda chunk: rasterize(*splats, *lists, *pixels, chunk, chunks))
        ctx.save_for_backward(
            *(means, scales, rotations, harmonics, world2cam, intrinsics_px),
            *(torch.from_numpy(array) for array in (*splats, *lists)),
            *(background, image, last_splat),
        )
        return image

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_image: Float32[Tensor, "5 height width"]) -> tuple:
        """Return the gradients of all inputs that need one."""
        means, scales, rotations, harmonics, world2cam, intrinsics_px, *rest = ctx.saved_tensors
        (count, _, sh), (_, height, width) = harmonics.shape, grad_image.shape
        wants_shapes = any(ctx.needs_input_grad[index] for index in (0, 1, 2, 4))
        wants_harmonics = ctx.needs_input_grad[3]
        chunks = min(torch.get_num_threads(), MAX_BACKWARD_CHUNKS)
        scene = [tensor.numpy() for tensor in (means, scales, rotations)]
        view = world2cam.numpy(), pinhole_parameters(intrinsics_px).numpy(), width, height
        terms = min(sh, MAX_SH_TERMS)
        colors = means.numpy(), harmonics.numpy(), camera_center(world2cam).numpy(), terms
        rasterized = [tensor.numpy() for tensor in rest]
        grad_pixels, splats = grad_image.contiguous().numpy(), rasterized[:2]
        # NumPy's zeros: torch's would leave OpenMP threads spinning on the cores that we need.
        grad_scene = [
            np.zeros((count * wants_shapes, *shape), np.float32) for shape in ((3,), (3,), (4,), ())
        ]
        grad_harmonics = np.zeros((count * wants_harmonics, 3, sh), np.float32)
        grad_colors = wants_shapes, grad_scene[0], wants_harmonics, grad_harmonics
        moments = np.zeros((chunks, count, SPLAT_COLUMNS), np.float32)
        grad_camera, grad_center = np.zeros((chunks, 4, 4)), np.zeros((chunks, 3))

        def backward_pixels(chunk: int) -> None:
            rasterize_backward(*rasterized, grad_pixels, moments[chunk], chunk, chunks)

        def backward_colors(chunk: int) -> None:
            sums = moments[0], grad_center[chunk]
            shade_backward(*colors, *splats, *sums, *grad_colors, chunk, chunks)

        def backward_geometry(chunk: int) -> None:
            sums = moments[0], grad_camera[chunk]
            wanted = wants_shapes, *grad_scene
            project_backward(*scene, *view, *splats, *sums, *wanted, chunk, chunks)

        with ThreadPoolExecutor(chunks) as pool:
            run(pool, chunks, backward_pixels)
            run(pool, chunks, lambda chunk: sum_over_chunks(moments, chunk, chunks))
            run(pool, chunks, backward_colors)
            run(pool, chunks, backward_geometry)
        grad_view = camera_gradient(
            world2cam, torch.from_numpy(grad_camera.sum(0)), torch.from_numpy(grad_center.sum(0))
        )
        grad_scene.insert(3, grad_harmonics)
        gradients = *map(torch.from_numpy, grad_scene), *grad_view
        wanted = zip(gradients, ctx.needs_input_grad, strict=False)
        return *(gradient if wants else None for gradient, wants in wanted), None, None


def run(pool: ThreadPoolExecutor, chunks: int, work: Callable[[int], None]) -> None:
    """Call work(0), work(1) and so on in the pool's threads, and wait for all."""
    list(pool.map(work, range(chunks)))


def tile_lists(
    order: Int32[np.ndarray, " visible"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    size: tuple[int, int],
    pool: ThreadPoolExecutor,
    chunks: int,
) -> tuple[Int64[np.ndarray, " bounds"], Int32[np.ndarray, " entries"]]:
    """Return where each tile's list starts, and the lists: its Gaussians in the given order."""
    tiles_x, tiles_y = ((pixels + TILE - 1) // TILE for pixels in reversed(size))
    offsets = np.zeros((chunks, tiles_x * tiles_y), np.int64)
    entries = np.empty(0, np.int32)

    def fill(chunk: int) -> None:
        fill_tiles(order, boxes, tiles_x, offsets[chunk], entries, chunk, chunks)

    run(pool, chunks, fill)
    starts = counts_to_offsets(offsets)
    entries = np.empty(starts[-1], np.int32)
    run(pool, chunks, fill)
    return starts, entries


def pinhole_parameters(intrinsics_px: Float64[Tensor, "3 3"]) -> Float64[Tensor, "4"]:
    """Return (fx, fy, cx, cy)."""
    return intrinsics_px[[0, 1, 0, 1], [0, 1, 2, 2]]


def camera_center(world2cam: Float64[Tensor, "4 4"]) -> Float64[Tensor, "3"]:
    """Return the center of projection in the world."""
    return -world2cam[:3, :3].T @ world2cam[:3, 3]


def camera_gradient(
    world2cam: Float64[Tensor, "4 4"],
    sums: Float64[Tensor, "4 4"],
    grad_center: Float64[Tensor, "3"],
) -> tuple[Float64[Tensor, "4 4"], Float64[Tensor, "3 3"]]:
    """Return the gradients of every entry of `world2cam` and of the intrinsics in pixels."""
    grad_world2cam = sums.clone()
    grad_world2cam[3] = 0
    grad_world2cam[:3, :3] -= torch.outer(world2cam[:3, 3], grad_center)
    grad_world2cam[:3, 3] -= world2cam[:3, :3] @ grad_center
    grad_intrinsics_px = torch.zeros(3, 3, dtype=torch.float64)
    grad_intrinsics_px[[0, 1, 0, 1], [0, 1, 2, 2]] = sums[3]
    return grad_world2cam, grad_intrinsics_px
