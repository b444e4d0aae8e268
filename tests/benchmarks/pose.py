"""Times the alignment of a camera: `python tests/benchmarks/pose.py [--device cuda]`.

One step renders 131,072 Gaussians at 256x256, computes the loss against an image, and its gradient
by the camera's pose.
"""

import argparse
import statistics
import time

import torch
from render import pixel_aligned

from models.geometry.camera import Camera
from models.geometry.rigid import se3_exponential, twist_gradient
from models.metrics.ssim import window_statistics
from models.pose.photometric import PhotometricLoss
from models.render import render

SIZE = (256, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=0, help="200 on CUDA, else 20")
    options = parser.parse_args()
    device = torch.device(options.device)
    steps = options.steps or (200 if device.type == "cuda" else 20)
    scene = pixel_aligned().to(device)
    intrinsics = torch.tensor([[0.9, 0, 0.5], [0, 0.9, 0.5], [0, 0, 1]], device=device)
    with torch.no_grad():
        image = render(scene, Camera(intrinsics, torch.eye(4, device=device), SIZE)).color
    loss = PhotometricLoss(window_statistics(image), None)
    world2cam = se3_exponential(torch.full((6,), 0.01)).to(device).requires_grad_()
    camera = Camera(intrinsics, world2cam, SIZE)

    def step() -> None:
        (gradient,) = torch.autograd.grad(loss(scene, camera), world2cam)
        twist_gradient(world2cam.detach().cpu(), gradient.cpu())  # which waits for a GPU

    times = []
    for _ in range(steps + 3):  # the first ones compile
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    median, total = statistics.median(times[3:]), sum(times[3:])
    print(f"{len(scene)} Gaussians, {SIZE[1]} x {SIZE[0]} px, {device}")
    print(f"a step takes {1e3 * median:.1f} ms (median), {steps} steps {total:.2f} s")


if __name__ == "__main__":
    main()
