"""Time the full-size network, alone or against the original: `make bench ORIGINAL=checkout`.

    python tests/benchmarks/network.py --original CHECKOUT --size 256 --threads 2
    python tests/benchmarks/network.py --device cuda --size 512

Weights and photos are made up by the recipe of `parity.py`: values do not change the time.
Every contestant has its own process, as on a user's machine, and they take turns, so that a busy
machine slows down all alike. The original is whatever checkout of its authors' repository is
named; of what it imports, its forward pass needs only `einops` besides torch. `--weights FILE`
keeps the made-up checkpoint (2.4 GB) for the next time.
"""

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import multiprocessing
import re
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import torch
from parity import published_shapes, recipe_views, recipe_weight
from torch import Tensor

from models.geometry.views import Views
from models.network.precision import round_to_bfloat16
from models.weights import load_network
from nps_cli.device import keep_freed_memory

CONTESTANTS = {
    "cpu": ("float32", "bfloat16"),
    "cuda": ("float32", "tf32", "bfloat16", "bfloat16 graph"),
}
Forward = Callable[[], Tensor]  # gives the centers of all Gaussians, [view * height * width, 3]


class Placeholders(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Importer of stand-ins: the original imports packages that its forward pass does not use."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith(self.prefix) or "curope" in name:  # without that it is slower, but
            return None  # right: a placeholder for the compiled positions would give none at all
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return MagicMock(name=spec.name, __path__=[], __spec__=spec)

    def exec_module(self, module: ModuleType) -> None:
        pass


def make_checkpoint(path: Path) -> None:
    """Write made-up weights as the authors write theirs; two names of one tensor share it."""
    made: dict[str, Tensor] = {}
    for key, shape in published_shapes().items():
        first = re.sub(r"layer_rn\.(\d)", lambda match: f"layer{int(match[1]) + 1}_rn", key)
        made[key] = made[first] if first in made else recipe_weight(key, shape)
    torch.save({"state_dict": made}, path)


def open_original(checkout: Path, weights: Path, views: Views) -> Forward:
    """Build the authors' own encoder, with the settings of their released models."""
    sys.path.insert(0, str(checkout))
    sys.meta_path.insert(0, Placeholders("torchvision"))  # the one here may not fit this torch
    sys.meta_path.append(Placeholders(""))  # whatever is not here
    from src.model.encoder.backbone.backbone_croco import BackboneCrocoCfg
    from src.model.encoder.common.gaussian_adapter import GaussianAdapterCfg
    from src.model.encoder.encoder_noposplat import (
        EncoderNoPoSplat,
        EncoderNoPoSplatCfg,
        OpacityMappingCfg,
    )

    config = EncoderNoPoSplatCfg(
        name="noposplat",
        d_feature=128,
        num_monocular_samples=32,
        backbone=BackboneCrocoCfg(
            name="croco",
            model="ViTLarge_BaseDecoder",
            intrinsics_embed_loc="encoder",
            intrinsics_embed_degree=4,
            intrinsics_embed_type="token",
        ),
        visualizer=None,
        gaussian_adapter=GaussianAdapterCfg(0.5, 15.0, 4),
        apply_bounds_shim=True,
        opacity_mapping=OpacityMappingCfg(0.0, 0.0, 1),
        gaussians_per_pixel=1,
        num_surfaces=1,
        gs_params_head_type="dpt_gs",
        pose_free=True,
    )
    encoder = EncoderNoPoSplat(config)
    state = torch.load(weights, mmap=True, weights_only=True)["state_dict"]
    encoder.load_state_dict({key.removeprefix("encoder."): state[key] for key in state})
    encoder.eval().to(views.images.device)
    context = {"image": views.images * 2 - 1, "intrinsics": views.intrinsics}
    return lambda: encoder(context, 0).means[0]


def open_ours(name: str, weights: Path, views: Views) -> Forward:
    """Build our network, as `nps` runs it in this precision."""
    keep_freed_memory()
    network, _ = load_network(weights, "not read")
    network.to(views.images.device)
    if name.startswith("bfloat16"):
        round_to_bfloat16(network)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    if name.endswith("graph"):
        return captured(lambda: network(views).means.flatten(0, 3))
    return lambda: network(views).means.flatten(0, 3)


def captured(forward: Forward) -> Forward:
    """Capture the forward pass as one CUDA graph: launching its kernels costs nothing any more."""
    stream = torch.cuda.Stream()
    with torch.no_grad(), torch.cuda.stream(stream):
        for _ in range(3):
            forward()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        means = forward()

    def replay() -> Tensor:
        graph.replay()
        return means

    return replay


def work(connection: Connection, name: str, options: argparse.Namespace) -> None:
    """Run once at every request, in a contestant's own process, and send time and memory."""
    torch.set_num_threads(options.threads)
    views = recipe_views(options.views, (options.size, options.size))
    views = views.to(torch.device(options.device))
    if name == "original":
        forward = open_original(options.original, options.weights, views)
    else:
        forward = open_ours(name, options.weights, views)
    if options.device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()  # loading is over
    connection.send(peak_bytes(options.device))
    for _ in range(options.rounds + 1):
        connection.recv()
        with torch.no_grad():
            seconds, means = timed(forward, options.device)
        connection.send((seconds, peak_bytes(options.device), means.float().cpu().numpy()))


def timed(forward: Forward, device: str) -> tuple[float, Tensor]:
    """Return the seconds of a forward pass, on a GPU by its own clock, and its result."""
    if device == "cpu":
        began = time.perf_counter()
        means = forward()
        return time.perf_counter() - began, means
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    means = forward()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3, means


def peak_bytes(device: str) -> int:
    """Return the peak memory: of the process, or what was allocated on the GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--original", type=Path, help="a checkout of the authors' repository")
    parser.add_argument("--size", type=int, default=256, help="of the square photos")
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="of our own contestants")
    parser.add_argument("--weights", type=Path, help="the made-up checkpoint, kept")
    options = parser.parse_args()
    if options.original and not importlib.util.find_spec("einops"):
        raise SystemExit("the original needs einops: .venv/bin/python -m pip install einops")
    with tempfile.TemporaryDirectory() as folder:
        options.weights = options.weights or Path(folder, "made_up.ckpt")
        if not options.weights.exists():
            make_checkpoint(options.weights)
        compete(options)


def compete(options: argparse.Namespace) -> None:
    """Start everyone, let them take turns, and print what they took."""
    names = [*(options.only or CONTESTANTS[options.device])]
    names += ["original"] if options.original else []
    spawn = multiprocessing.get_context("spawn")
    workers = {}
    for name in names:
        workers[name], theirs = spawn.Pipe()
        spawn.Process(target=work, args=(theirs, name, options), daemon=True).start()
        theirs.close()  # so that its end is noticed
    held = {name: connection.recv() for name, connection in workers.items()}
    runs: dict[str, list] = {name: [] for name in names}
    for _ in range(options.rounds + 1):
        for name, connection in workers.items():
            connection.send(True)
            runs[name].append(connection.recv())
    print(
        f"{options.views} views, {options.size} x {options.size} px, {options.device}, "
        f"{options.threads} threads, median of {options.rounds} after a first run"
    )
    medians = {name: statistics.median(run[0] for run in runs[name][1:]) for name in names}
    exact = torch.from_numpy(runs["original" if options.original else names[0]][-1][2])
    for name in names:
        means = torch.from_numpy(runs[name][-1][2])
        error = ((means - exact).norm(dim=-1) / exact.norm(dim=-1)).square().mean().sqrt()
        ratio = f"{medians[name] / medians['original']:5.2f}x" if options.original else ""
        first, memory = runs[name][0][0], runs[name][-1][1]
        print(
            f"{name:15} {1e3 * medians[name]:8.1f} ms {ratio}  first {1e3 * first:8.1f} ms  "
            f"memory {held[name] / 1e9:.2f} GB before, {memory / 1e9:.2f} GB at most  "
            f"centers off by {error:.1e} of their distance"
        )


if __name__ == "__main__":
    main()
