"""Fixtures: the command line in-process, seeds, a tiny scene, tiny photos."""

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Ran:
    """The outcome of one run of `nps`: its exit code and what it wrote."""

    code: int
    out: str
    err: str
    out_bytes: bytes


@pytest.fixture
def nps(capsysbinary, monkeypatch) -> Callable[..., Ran]:
    """Runs the command line in this process: `nps("render", path, "-o", out).code`."""
    from nps_cli.app import main

    def run(*argv: object, stdin: bytes = b"") -> Ran:
        capsysbinary.readouterr()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = 0
        try:
            main([str(argument) for argument in argv])
        except SystemExit as exit:
            code = exit.code or 0
        out, err = capsysbinary.readouterr()
        return Ran(code, out.decode(errors="replace"), err.decode(errors="replace"), out)

    return run


@pytest.fixture(autouse=True)
def _seed():
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)  # on a loaded machine two are far slower, and each test is small


@pytest.fixture(scope="session")
def learned():
    """The learned matcher on the CPU, whose networks are loaded once."""
    import torch

    from models.features.aliked_lightglue import LearnedMatcher

    return LearnedMatcher(torch.device("cpu"))


@pytest.fixture
def tiny_scene():
    """A wall of 24 x 16 colored Gaussians two units in front of the first camera."""
    import torch

    from models.geometry.gaussians import SH_DEGREE_0, Gaussians

    height, width = 16, 24
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = (x.flatten() + 0.5) / width - 0.5, (y.flatten() + 0.5) / height - 0.5
    color = torch.stack([x + 0.5, y + 0.5, ((x + y) * 8).floor() % 2], dim=-1)
    count = height * width
    return Gaussians(
        means=torch.stack([2.4 * x, 1.6 * y, torch.full_like(x, 2.0)], dim=-1),
        scales=torch.full((count, 3), 0.05),
        rotations=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        harmonics=((color - 0.5) / SH_DEGREE_0)[:, :, None],
        opacities=torch.full((count,), 0.95),
    )


@pytest.fixture
def photo_pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two small JPEGs of one random texture, the second moved by six pixels."""
    import numpy as np
    from PIL import Image

    coarse = np.random.default_rng(0).integers(0, 256, (14, 20, 3), dtype=np.uint8)
    texture = Image.fromarray(coarse).resize((160, 112), Image.Resampling.BICUBIC)
    paths = tmp_path / "left.jpg", tmp_path / "right.jpg"
    for path, left in zip(paths, (0, 6), strict=True):
        texture.crop((left, 0, left + 144, 108)).save(path, quality=95)
    return paths


@pytest.fixture
def reconstruction(tiny_scene):
    """The tiny scene as if reconstructed from two photos, the second from the right."""
    import torch

    from models.confidence import PairQuality
    from models.geometry.camera import Camera
    from models.geometry.rigid import se3_exponential
    from models.options import PoseMethod
    from models.reconstruction import Reconstruction

    second = se3_exponential(torch.tensor([-0.3, 0.0, 0.0, 0.0, -0.15, 0.0]))
    intrinsics = torch.tensor([[1.0, 0.0, 0.5], [0.0, 4 / 3, 0.5], [0.0, 0.0, 1.0]])
    depth = torch.linspace(1.5, 2.5, 16 * 24).reshape(16, 24)
    return Reconstruction(
        gaussians=tiny_scene,
        cameras=tuple(Camera(intrinsics, pose, (108, 144)) for pose in (torch.eye(4), second)),
        depths=(depth, depth + 0.1),
        points=tiny_scene.means[:5],
        observations=torch.rand(2, 5, 2),
        pairs=(PairQuality(0, 1, PoseMethod.matches, 120, 0.8, 0.05, 0.9, 0.95),),
        problems=(),
    )


@pytest.fixture
def fake_pipeline(monkeypatch, reconstruction):
    """Lets commands run with no weights: whatever the photos show, the result is the fixture's.

    Assign `fake_pipeline.reconstruction` to change it; `fake_pipeline.calls` are the arguments of
    each run.
    """
    from types import SimpleNamespace

    from models.weights import WeightsInfo

    fake = SimpleNamespace(reconstruction=reconstruction, calls=[])
    weights = WeightsInfo("tiny", "0" * 64, "MIT", "for tests", {})

    def reconstruct(views, networks, options, on_stage):
        fake.calls.append(SimpleNamespace(views=views, options=options))
        return fake.reconstruction

    monkeypatch.setattr(
        "nps_cli.weights.networks.load_networks", lambda *choice, **parts: (None, weights)
    )
    monkeypatch.setattr("models.reconstruct.reconstruct", reconstruct)
    monkeypatch.setattr("models.reconstruct.estimate_poses", reconstruct)
    return fake
