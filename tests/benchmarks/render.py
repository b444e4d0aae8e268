"""Times the CPU renderer: `python tests/benchmarks/render.py`.

All that is compared takes turns, so that a busy machine slows down all alike.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from models.geometry.camera import Camera, camera_rays
from models.geometry.gaussians import PARAMETERS, SH_DEGREE_0, Gaussians
from models.geometry.rigid import look_at
from models.render import render

SOURCE = 256  # photos of this many pixels across give the Gaussians: one for every pixel
INTRINSICS = torch.tensor([[0.9, 0.0, 0.5], [0.0, 0.9, 0.5], [0.0, 0.0, 1.0]])
PASSES = ("forward", "camera backward", "full backward")


def pixel_aligned(views: int = 2) -> Gaussians:
    """Gaussians about one pixel wide on a hilly surface, as a network gives them."""
    torch.manual_seed(0)
    rays = camera_rays(INTRINSICS, (SOURCE, SOURCE)).reshape(-1, 3).repeat(views, 1)
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


def milliseconds(work: Callable[[], object]) -> tuple[float, float]:
    """Time a call on the clock and on all processors; the latter hardly minds other programs."""
    clock, processors = time.perf_counter(), time.process_time()
    work()
    return 1e3 * (time.perf_counter() - clock), 1e3 * (time.process_time() - processors)


def measure(scene: Gaussians, size: tuple[int, int], rounds: int) -> list[tuple[float, float]]:
    """Return medians of the milliseconds of each of `PASSES`, on the clock and of processors."""
    position, target = torch.tensor([0.25, 0.03, -0.05]), torch.tensor([0.0, 0.0, 2.3])
    pose = torch.linalg.inv(look_at(position, target, torch.tensor([0.0, 1.0, 0.0])))
    camera = Camera(INTRINSICS, pose, size)
    moving = replace(camera, world2cam=pose.clone().requires_grad_())
    leaves = Gaussians(*(getattr(scene, name).clone().requires_grad_() for name in PARAMETERS))
    weights = torch.rand(3, *size)

    def loss(gaussians: Gaussians) -> torch.Tensor:
        return (render(gaussians, moving).color * weights).sum()

    times = []
    for _ in range(rounds + 1):  # the first one compiles
        forward = milliseconds(lambda: render(scene, camera))
        backwards = [milliseconds(loss(gaussians).backward) for gaussians in (scene, leaves)]
        times.append([forward, *backwards])
    return torch.tensor(times[1:]).median(dim=0).values.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    scene = pixel_aligned()
    for side in (256, 512):
        medians = measure(scene, (side, side), options.rounds)
        print(f"{len(scene)} Gaussians, {side} x {side} px, {options.threads} threads")
        print(f"{'':18} {'clock':>10} {'forwards':>9} {'processors':>14} {'forwards':>9}")
        base_clock, base_processors = medians[0]
        for name, (clock, processors) in zip(PASSES, medians, strict=True):
            print(
                f"{name:18} {clock:7.1f} ms {clock / base_clock:9.2f} "
                f"{processors:11.1f} ms {processors / base_processors:9.2f}"
            )


if __name__ == "__main__":
    main()
