"""Compare the full-size network with recorded outputs of the published implementation.

    python tests/benchmarks/parity.py FOLDER

FOLDER holds `parity_*.npz`: sampled activations for weights and photos that the recipe below
makes again from nothing but names and numbers. Needs 5 GB of memory and a few seconds per file.
"""

import argparse
import re
import time
import zlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.geometry.gaussians import Gaussians
from models.geometry.views import Views
from models.network.backbone import token_positions
from models.network.config import NoPoSplatConfig
from models.network.noposplat import NoPoSplat, Prediction
from models.weights import empty_network, load_published

TOLERANCE = 5e-5  # of the largest magnitude in an array
ROLES = ("first", "others")
PARAMETERS = Path(__file__).parent.parent / "network" / "published_parameters.txt"


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Return names and shapes of every parameter in a published checkpoint."""
    lines = [line.split() for line in PARAMETERS.read_text().splitlines() if line[0] != "#"]
    return {
        key: tuple(int(n) for n in shape.split("x"))
        for keys, shape in lines
        for key in expand(keys)
    }


def expand(text: str) -> list[str]:
    """Multiply out {a,b} and {0..3}."""
    match = re.search(r"\{([^{}]*)\}", text)
    if match is None:
        return [text]
    first, dots, last = match[1].partition("..")
    options = range(int(first), int(last) + 1) if dots else match[1].split(",")
    return [x for o in options for x in expand(f"{text[: match.start()]}{o}{text[match.end() :]}")]


def recipe_weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """Make the weights of a published parameter: uniform noise seeded by its name, and scaled."""
    key = re.sub(r"layer_rn\.(\d)", lambda match: f"layer{int(match[1]) + 1}_rn", key)
    uniform = np.random.RandomState(zlib.crc32(key.encode())).random_sample(int(np.prod(shape)))
    noise = (2 * uniform - 1).reshape(shape) * np.sqrt(3)
    if len(shape) > 1:
        is_transposed = re.search(r"act_postprocess\.[01]\.1\.", key)
        fan_in = shape[0] if is_transposed else int(np.prod(shape[1:]))
        gain = 1.0
        if key.endswith("head.4.weight"):
            gain = 0.1 if "downstream_head" in key else 0.25
        noise *= gain / np.sqrt(fan_in)
    elif key.endswith("bias"):
        noise *= 0.05
    else:
        noise = 1 + 0.1 * noise
    return torch.from_numpy(noise.astype(np.float32))


def recipe_views(count: int, size: tuple[int, int]) -> Views:
    """Make striped, noisy 8-bit images with a different, off-center camera for each."""
    height, width = size
    t, u = (np.mgrid[:height, :width] + 0.5) / np.array([height, width])[:, None, None]
    values = np.empty((count, 3, height, width))
    for v, c in np.ndindex(count, 3):
        wave = np.sin(2 * np.pi * (1.5 * (c + 1) * u + 0.13 * v + 0.1 * c))
        wave *= np.cos(2 * np.pi * (0.75 * (c + 2) * t + 0.07 * v))
        stripes = np.sin(2 * np.pi * (7 * u + 5 * t + 0.31 * c + 0.17 * v))
        noise = np.random.RandomState(1000 + v).random_sample((3, height, width))[c] - 0.5
        values[v, c] = 0.5 + 0.25 * wave + 0.15 * stripes + 0.1 * noise
    images = np.floor(values.clip(0, 1) * 255 + 0.5).astype(np.float32) / np.float32(255)
    intrinsics = [
        [[0.75 + 0.2 * v, 0, 0.5 + 0.02 * v], [0, 0.8 + 0.15 * v, 0.5 - 0.03 * v], [0, 0, 1]]
        for v in range(count)
    ]
    return Views(torch.from_numpy(images)[None], torch.tensor(intrinsics)[None])


def recorded_modules(network: NoPoSplat) -> dict[str, list[str]]:
    """Return names of arrays, and the modules (first view, others) whose outputs they sample."""
    modules = {
        "intrinsic_token": ["backbone.intrinsics_embed"],
        "patch_embed": ["backbone.patch_embed"],
        "enc.norm": ["backbone.encoder_norm"],
        "dec.embed": ["backbone.decoder_embed"],
        "dec.norm": ["backbone.decoder_norm"],
        "gs.input_merger": [f"parameter_head.{role}.image_shortcut" for role in ROLES],
    }
    for i in (0, 11, 23):
        modules[f"enc.block{i:02}"] = [f"backbone.encoder.{i}"]
    for i in range(len(network.backbone.decoder)):
        modules[f"dec.block{i:02}"] = [f"backbone.decoder.{i}.{role}" for role in ROLES]
    for short, head in (("center", "center_head"), ("gs", "parameter_head")):
        modules[f"{short}.raw"] = [f"{head}.{role}.out" for role in ROLES]
        for i in range(4):
            trunks = [f"{head}.{role}.trunk" for role in ROLES]
            modules[f"{short}.layer{i + 1}_rn"] = [f"{trunk}.narrow.{i}" for trunk in trunks]
            modules[f"{short}.refinenet{i + 1}"] = [f"{trunk}.fuse.{i}" for trunk in trunks]
    return modules


def run(
    network: NoPoSplat, views: Views, tokens: Tensor
) -> tuple[dict[str, Tensor], Prediction, float]:
    """Return the recorded samples with the view axis first, the prediction, and its CPU seconds."""
    samples: dict[str, list[Tensor]] = defaultdict(list)

    def remember(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: samples[name].append(sampled(name, output, tokens))

    hooks = [
        network.get_submodule(module).register_forward_hook(remember(name))
        for name, modules in recorded_modules(network).items()
        for module in modules
    ]
    start = time.process_time()
    with torch.no_grad():
        prediction = network(views)
    seconds = time.process_time() - start
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(parts) for name, parts in samples.items()}, prediction, seconds


def sampled(name: str, x: Tensor, tokens: Tensor) -> Tensor:
    """Return the part of an output that was recorded."""
    if name == "intrinsic_token":
        return x.reshape(-1, 1, x.shape[-1])[..., ::4]
    if name == "patch_embed":
        return x.flatten(2).mT[:, tokens[:-1], ::16]
    if name.startswith(("enc.", "dec.")):
        return x.reshape(-1, *x.shape[-2:])[:, tokens, ::16]
    if name == "gs.input_merger":
        x = x.relu()
    steps = [max(1, size // 16) for size in x.shape[-2:]]
    rows, columns = slice(steps[0] // 3, None, steps[0]), slice(2 * steps[1] // 3, None, steps[1])
    return x[:, :: 1 if name.endswith(".raw") else 16, rows, columns]


def gaussian_arrays(scene: Gaussians) -> dict[str, Tensor]:
    """Return the Gaussians' arrays as recorded, with xyzw quaternions."""
    w, x, y, z = scene.rotations.unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    axes = torch.stack([torch.stack(row, -1) for row in rows], -2) * scene.scales[:, None]
    return {
        "means": scene.means,
        "scales": scene.scales,
        "rotations": scene.rotations.roll(-1, -1),
        "opacities": scene.opacities,
        "harmonics": scene.harmonics,
        "covariances": axes @ axes.mT,
    }


def compare(network: NoPoSplat, path: Path) -> tuple[dict[str, float], float]:
    """Return every array's largest difference over its largest magnitude, and CPU seconds."""
    recorded = np.load(path)
    rows, columns = recorded["pos"].max(axis=0) + 1
    grid = int(rows), int(columns)
    views = recipe_views(len(recorded["in.intrinsics"]), (16 * grid[0], 16 * grid[1]))
    sums = (views.images[0].double() * 255).round().sum(dim=(-2, -1)).numpy()
    if (sums != recorded["in.image_u8_sum"]).any():
        raise ValueError(f"{path}: its photos are not the recipe's")

    tokens = torch.from_numpy(recorded["idx.tokens"])
    ours, prediction, seconds = run(network, views, tokens)
    ours["pos"] = token_positions(grid, views.images)[:-1]
    for name, array in gaussian_arrays(prediction.scene(0)).items():
        ours[f"g.{name}"] = array[:: int(recorded["idx.gaussian_stride"])]
        exact = array.double()
        ours[f"stat.{name}"] = torch.stack([exact.mean(), exact.std(), exact.abs().max()])

    is_about_recipe = ("in.", "w.", "idx.")
    ratios = {}
    for name in recorded.files:
        if not name.startswith(is_about_recipe):
            theirs = torch.from_numpy(recorded[name])
            if theirs.shape != ours[name].shape:
                raise ValueError(f"{name}: {tuple(ours[name].shape)}, not {tuple(theirs.shape)}")
            ratios[name] = ((ours[name] - theirs).abs().max() / theirs.abs().max()).item()
    return ratios, seconds


def main() -> None:
    """Print the worst arrays of every recording; fail when one is out of tolerance."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds parity_*.npz")
    parser.add_argument("--all", action="store_true", help="print every array, not the worst three")
    arguments = parser.parse_args()
    paths = sorted(arguments.folder.glob("parity_*.npz"))
    if not paths:
        raise SystemExit(f"no parity_*.npz in {arguments.folder}")

    network = empty_network(NoPoSplatConfig()).eval()
    state = {key: recipe_weight(key, shape) for key, shape in published_shapes().items()}
    load_published(network, state)
    del state
    has_failed = False
    print(f"largest difference / largest magnitude of each array; tolerance {TOLERANCE:g}")
    for path in paths:
        ratios, seconds = compare(network, path)
        worst = sorted(ratios, key=lambda name: -ratios[name])
        has_failed |= not ratios[worst[0]] <= TOLERANCE
        print(f"{path.name}: {len(ratios)} arrays, forward {seconds:.2f} CPU s")
        for name in worst if arguments.all else worst[:3]:
            print(f"  {ratios[name]:.2e}  {name}")
    raise SystemExit(has_failed)


if __name__ == "__main__":
    main()
