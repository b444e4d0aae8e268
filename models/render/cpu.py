"""The renderer for CPUs: compiled kernels as one differentiable function."""

from typing import Any

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from models.camera import to_pixels
from models.gaussians import Gaussians
from models.render import Rendering
from models.render.kernels.drawing import draw, draw_backward
from models.render.kernels.layout import SPLAT_COLUMNS, TILE
from models.render.kernels.projection import project, project_backward
from models.render.kernels.shading import MOST_TERMS, shade, shade_backward
from models.render.kernels.tiles import depth_order, tile_lists

MOST_PARTS = 16  # of the work on the way back: every part has sums of its own for every Gaussian


def render_cpu(
    gaussians: Gaussians,
    world2cam: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    size: tuple[int, int],
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Rendering:
    """Draw a scene from one camera: see `models.render.render`.

    Gradients reach the Gaussians, `world2cam` and `intrinsics`, but not `background`. Arithmetic
    is float32 where pixels are counted and float64 in the geometry before. What is not finite is
    not drawn.
    """
    check(gaussians, size)
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
        world2cam.to("cpu", torch.float64).contiguous(),
        to_pixels(intrinsics, size).to("cpu", torch.float64),
        size,
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
        height, width = size
        count, terms = len(means), min(harmonics.shape[2], MOST_TERMS)
        threads = torch.get_num_threads()
        scene = [tensor.numpy() for tensor in (means, scales, rotations, opacities)]
        pose, lens = world2cam.numpy(), lens_of(intrinsics_px).numpy()
        splats = torch.empty(count, SPLAT_COLUMNS)
        boxes = torch.empty(count, 4, dtype=torch.int32)
        depths = torch.empty(count, dtype=torch.float64)
        rows, spans = splats.numpy(), boxes.numpy()
        project(*scene, pose, lens, width, height, rows, spans, depths.numpy(), threads)
        eye = eye_of(world2cam).numpy()
        shade(scene[0], harmonics.numpy(), eye, terms, rows, spans, threads)
        tiles_x, tiles_y = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
        order = depth_order(depths.numpy(), spans)
        starts, entries = tile_lists(order, spans, tiles_x, tiles_y, threads)
        picture = torch.empty(5, height, width)
        last = torch.empty(height, width, dtype=torch.int32)
        draw(
            *(rows, spans, starts, entries),
            *(background.numpy(), picture.numpy(), last.numpy(), threads),
        )
        lists = torch.from_numpy(starts), torch.from_numpy(entries)
        ctx.save_for_backward(
            *(means, scales, rotations, harmonics, world2cam, intrinsics_px),
            *(splats, boxes, *lists, background, picture, last),
        )
        return picture

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_picture: Float32[Tensor, "5 height width"]) -> tuple:
        """Go the same way back; skip what nobody asked for."""
        means, scales, rotations, harmonics, world2cam, intrinsics_px, *drawn = ctx.saved_tensors
        splats, boxes = drawn[0].numpy(), drawn[1].numpy()
        (count, _, sh), (_, height, width) = harmonics.shape, by_picture.shape
        wants_harmonics, threads = ctx.needs_input_grad[3], torch.get_num_threads()
        whole = any(ctx.needs_input_grad[index] for index in (0, 1, 2, 4))

        moments = torch.zeros(min(threads, MOST_PARTS), count, SPLAT_COLUMNS).numpy()
        draw_backward(
            *(tensor.numpy() for tensor in drawn), by_picture.contiguous().numpy(), moments
        )
        by_scene = [torch.zeros(count if whole else 0, *shape) for shape in ((3,), (3,), (4,), ())]
        by_harmonics = torch.zeros(count if wants_harmonics else 0, 3, sh)
        by_eye = torch.zeros(threads, 3, dtype=torch.float64)
        shade_backward(
            *(means.numpy(), harmonics.numpy(), eye_of(world2cam).numpy(), min(sh, MOST_TERMS)),
            *(splats, boxes, moments[0], by_eye.numpy()),
            *(whole, by_scene[0].numpy(), wants_harmonics, by_harmonics.numpy()),
        )
        sums = torch.zeros(threads, 4, 4, dtype=torch.float64)
        project_backward(
            *(means.numpy(), scales.numpy(), rotations.numpy()),
            *(world2cam.numpy(), lens_of(intrinsics_px).numpy(), width, height),
            *(splats, boxes, moments[0], sums.numpy()),
            *(whole, *(tensor.numpy() for tensor in by_scene)),
        )
        by_world2cam, by_intrinsics_px = camera_gradient(world2cam, sums.sum(0), by_eye.sum(0))
        gradients = [*by_scene[:3], by_harmonics, by_scene[3], by_world2cam, by_intrinsics_px]
        wanted = zip(gradients, ctx.needs_input_grad, strict=False)
        return *(gradient if wants else None for gradient, wants in wanted), None, None


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
