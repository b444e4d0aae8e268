"""Times the CPU renderer, and what it is compared to: `python tests/benchmarks/render.py`.

`--prototype FILE` names a Python file with a function `render(scene, world2cam, intrinsics_px,
width, height)`, beside a `splat_reference.py` that makes the scene. All that is compared takes
turns, so that a busy machine slows down all alike.
"""

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import torch

from models.geometry.camera import camera_rays, from_pixels
from models.geometry.gaussians import SH_DEGREE_0, Gaussians
from models.geometry.rigid import look_at
from models.render import render

SOURCE = 256  # photos of this many pixels across give the Gaussians: one for every pixel
WHAT = ("forward", "camera backward", "full backward", "prototype forward")


def pixel_aligned(views: int = 2) -> Gaussians:
    """Gaussians about one pixel wide on a hilly surface, as a network gives them."""
    torch.manual_seed(0)
    intrinsics = torch.tensor([[0.9, 0.0, 0.5], [0.0, 0.9, 0.5], [0.0, 0.0, 1.0]])
    rays = camera_rays(intrinsics, (SOURCE, SOURCE)).reshape(-1, 3).repeat(views, 1)
    rays = rays + torch.randn_like(rays) * torch.tensor([1e-3, 1e-3, 0.0])
    hills = 0.35 * torch.sin(5 * rays[:, 0]) + 0.25 * torch.cos(7 * rays[:, 1])
    step = 0.7 * (rays[:, 0] ** 2 + rays[:, 1] ** 2 < 0.06)
    depth = (2.2 + hills - step)[:, None]
    count = len(rays)
    harmonics = torch.randn(count, 3, 16) * 0.04
    harmonics[..., 0] = (torch.rand(count, 3) - 0.5) / SH_DEGREE_0
    shape = torch.tensor([1.1, 1.1, 0.55])
    return Gaussians(
        means=rays * depth,
        scales=depth / (0.9 * SOURCE) * torch.exp(0.45 * torch.randn(count, 3)) * shape,
        rotations=torch.nn.functional.normalize(torch.randn(count, 4), dim=-1),
        harmonics=harmonics,
        opacities=torch.sigmoid(0.3 + 1.5 * torch.randn(count)),
    )


def from_prototype(folder: Path) -> tuple[Callable, dict, Gaussians]:
    """The prototype's `render`, its scene, and the same scene for us."""
    sys.path.insert(0, str(folder))
    scene, _, _ = importlib.import_module("splat_reference").make_scene(SOURCE, sh_degree=3)
    arrays = {name: torch.from_numpy(array) for name, array in scene.items()}
    ours = Gaussians(
        means=arrays["means"],
        scales=arrays["scales"],
        rotations=arrays["quats"],
        harmonics=arrays["sh"].mT.contiguous(),
        opacities=arrays["opacities"],
    )
    return importlib.import_module("splat_prototype").render, scene, ours


def milliseconds(work: Callable[[], object]) -> tuple[float, float]:
    """On the clock, and of the processors: the second hardly minds what else is running."""
    clock, processors = time.perf_counter(), time.process_time()
    work()
    return 1e3 * (time.perf_counter() - clock), 1e3 * (time.process_time() - processors)


def measure(
    scene: Gaussians, prototype: Callable[..., object] | None, size: int, rounds: int
) -> dict[str, tuple[float, float]]:
    """Median milliseconds, on the clock and of the processors, of everything, taking turns."""
    eye, target = torch.tensor([0.25, 0.03, -0.05]), torch.tensor([0.0, 0.0, 2.3])
    world2cam = torch.linalg.inv(look_at(eye, target, torch.tensor([0.0, 1.0, 0.0])))
    intrinsics_px = torch.tensor([[0.9, 0, 0.5], [0, 0.9, 0.5], [0, 0, 1 / size]]) * size
    intrinsics = from_pixels(intrinsics_px, (size, size))
    camera = world2cam.clone().requires_grad_()
    leaves = Gaussians(
        *(getattr(scene, field.name).clone().requires_grad_() for field in fields(scene))
    )
    weights = torch.rand(3, size, size)

    def loss(gaussians: Gaussians) -> torch.Tensor:
        return (render(gaussians, camera, intrinsics, (size, size)).color * weights).sum()

    pose, lens = world2cam.double().numpy(), intrinsics_px.double().numpy()

    def compared() -> None:
        if prototype:
            prototype(pose, lens, size, size)

    times: dict[str, list[tuple[float, float]]] = {name: [] for name in WHAT}
    for _ in range(rounds + 1):
        times[WHAT[0]].append(
            milliseconds(lambda: render(scene, world2cam, intrinsics, (size, size)))
        )
        times[WHAT[1]].append(milliseconds(loss(scene).backward))
        times[WHAT[2]].append(milliseconds(loss(leaves).backward))
        times[WHAT[3]].append(milliseconds(compared))
    return {
        name: (
            statistics.median(clock for clock, _ in values[1:]),
            statistics.median(processors for _, processors in values[1:]),
        )
        for name, values in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prototype", type=Path, help="what to compare with")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    prototype = None
    scene = pixel_aligned()
    if options.prototype:
        import numba

        numba.set_num_threads(options.threads)
        theirs, arrays, scene = from_prototype(options.prototype.parent)

        def prototype(*camera: object) -> object:
            return theirs(arrays, *camera)

    for size in (256, 512):
        medians = measure(scene, prototype, size, options.rounds)
        print(f"{len(scene)} Gaussians, {size} x {size} px, {options.threads} threads")
        print(f"{'':18} {'clock':>10} {'forwards':>9} {'processors':>14} {'forwards':>9}")
        base_clock, base_processors = medians[WHAT[0]]
        for name, (clock, processors) in medians.items():
            if name != WHAT[3] or prototype:
                print(
                    f"{name:18} {clock:7.1f} ms {clock / base_clock:9.2f} "
                    f"{processors:11.1f} ms {processors / base_processors:9.2f}"
                )


if __name__ == "__main__":
    main()
