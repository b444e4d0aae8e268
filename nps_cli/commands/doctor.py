"""`nps doctor`: what works on this machine, and how to get the rest."""

import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import typer

from nps_cli import __version__, console, options

PACKAGES = (
    "torch numpy scipy numba opencv-python poselib pillow exifread safetensors huggingface_hub"
)
MODULES = {"opencv-python": "cv2", "pillow": "PIL"}  # that Python knows by another name than pip


@dataclass(frozen=True)
class Check:
    """The result of one check, with a hint where it failed."""

    name: str
    works: bool
    found: str
    hint: str = ""
    needed: bool = True  # for the main job: photos in, a scene out


def doctor(json: options.Json = False) -> None:
    """Show what works on this machine, and how to get the rest."""
    with console.stages() as stage:
        stage("trying everything, the renderer last: the first time takes some seconds")
        checks = [check for run in CHECKS for check in run()]
    broken = [check for check in checks if check.needed and not check.works]
    if json:
        console.print_json({"works": not broken, "checks": [asdict(check) for check in checks]})
    else:
        rows = [("yes" if check.works else "no", check.name, check.found) for check in checks]
        console.print_table("", ("works", "what", "found"), rows)
    for check in checks:
        if not check.works and check.hint:
            console.info(f"{check.name}: {check.hint}")
    if broken:
        console.info(f"nps cannot do its main job here: see {broken[0].name}")
        raise typer.Exit(1)
    console.info("nps can turn photos into a scene here; try: nps reconstruct a.jpg b.jpg -o s.ply")


def _packages() -> Iterator[Check]:
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Check("nps", True, f"{__version__}, Python {python}")
    for package in PACKAGES.split():
        try:
            import_module(MODULES.get(package, package))
            yield Check(package, True, version(package))
        except (ImportError, OSError, PackageNotFoundError) as error:
            yield Check(package, False, str(error).splitlines()[0], _reinstall(package))


def _reinstall(package: str) -> str:
    """Return the command that installs a package again; what uv installed has no pip."""
    if find_spec("pip"):
        return f"try: {sys.executable} -m pip install --force-reinstall {package}"
    return f"try: uv pip install --python {sys.executable} --reinstall {package}"


def _own_models() -> Iterator[Check]:
    import models
    import nps_cli

    found = Path(models.__file__ or "?").resolve()
    ours = Path(nps_cli.__file__).resolve().parent.parent / "models" / "__init__.py"
    hint = f"another package called `models` hides ours ({ours}): remove it from PYTHONPATH"
    yield Check("models", found == ours, str(found), hint)


def _weights() -> Iterator[Check]:
    from models.weights import CHECKPOINTS, embedded_path, read_info
    from nps_cli.weights import hub, lpips

    for name in ("network", "dinov2", "stereo"):
        path, found, works = embedded_path(name), "missing", False
        if path.is_file():
            try:
                found, works = f"sha256 {read_info(path).sha256[:12]}, {path}", True
            except ValueError as error:
                found = str(error)
        yield Check(f"weights: {name}", works, found, "install nps again", needed=name != "stereo")
    try:
        learned = import_module("models.features.aliked_lightglue")
        yield Check("weights: matching", True, str(learned.weights_files()[0].parent), needed=False)
    except (ImportError, FileNotFoundError) as error:
        yield Check("weights: matching", False, str(error), "install nps again", needed=False)
    here = [checkpoint.name for checkpoint in CHECKPOINTS if hub.find_cached(checkpoint)]
    hint = f"not needed; on a GPU, for the paper's quality: nps weights fetch {CHECKPOINTS[0].name}"
    found = ", ".join(here) or "none fetched"
    yield Check("weights: published", bool(here), found, hint, needed=False)
    path, hint = lpips.default_path(), f"not needed; to evaluate or train with it: {lpips.FETCH}"
    yield Check("weights: LPIPS", path.is_file(), str(path), hint, needed=False)


def _device() -> Iterator[Check]:
    import torch

    threads = f"CPU, {torch.get_num_threads()} threads"
    if not torch.cuda.is_available():
        hint = "not needed; with an NVIDIA card, see https://pytorch.org/get-started"
        yield Check("GPU", False, f"PyTorch sees none; {threads}", hint, needed=False)
        return
    yield Check("GPU", True, f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    try:
        import_module("gsplat.cuda._backend")
        works, found = True, f"gsplat {version('gsplat')}"
    except Exception as error:  # it compiles on first import, and says anything when it cannot
        works, found = False, f"gsplat: {str(error).splitlines()[0]}"
    hint = "install the CUDA toolkit (nvcc), ninja and a C++ compiler, or use --device cpu"
    yield Check("rendering on the GPU", works, found, hint, needed=False)


def _codecs() -> Iterator[Check]:
    try:
        found = f"pillow-heif {import_module('pillow_heif').__version__}"
        yield Check("HEIC photos", True, found, needed=False)
    except (ImportError, OSError) as error:
        hint = f"{_reinstall('pillow-heif')}; or export photos as JPEG"
        yield Check("HEIC photos", False, str(error), hint, needed=False)
    try:
        av = import_module("av")
        av.Codec("libx264", "w")
        yield Check("H.264 videos", True, f"PyAV {av.__version__}", needed=False)
    except (ImportError, OSError, ValueError) as error:
        hint = f"{_reinstall('av')}; or write .gif"
        yield Check("H.264 videos", False, str(error), hint, needed=False)


def _renderer() -> Iterator[Check]:
    """Render one Gaussian: the first time on a machine this compiles the kernels."""
    from models.render.kernels.compiler import cache_folder

    began = time.perf_counter()
    try:
        _render_one()
        works, found = True, f"the first rendering took {time.perf_counter() - began:.1f} s"
    except Exception as error:  # a compiler fails in many ways
        works, found = False, f"{type(error).__name__}: {str(error).splitlines()[0]}"
    yield Check("renderer", works, found, "try: pip install --force-reinstall numba llvmlite")
    folder = cache_folder()
    found = f"kept in {folder}" if folder else "kept nowhere: no folder for them can be written"
    hint = "every rendering compiles them anew: set NUMBA_CACHE_DIR to a writable folder"
    yield Check("compiled kernels", folder is not None, found, hint, needed=False)


def _render_one() -> None:
    import torch

    from models.geometry.camera import Camera
    from models.geometry.gaussians import Gaussians
    from models.render import render

    one = Gaussians(
        means=torch.tensor([[0.0, 0.0, 2.0]]),
        scales=torch.full((1, 3), 0.1),
        rotations=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        harmonics=torch.ones(1, 3, 1),
        opacities=torch.ones(1),
    )
    intrinsics = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    color = render(one, Camera(intrinsics, torch.eye(4), (16, 16))).color
    if not color[0, 8, 8] > 0.5:
        raise RuntimeError(f"a white dot was rendered {color[0, 8, 8]:.3f} bright")


CHECKS = (_packages, _own_models, _weights, _device, _codecs, _renderer)
