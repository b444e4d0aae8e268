"""The architecture as a test: imports go down, and every foreign package has a home."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = (  # from the ground up; parts of one layer do not know each other
    ("models.camera", "models.gaussians", "models.colormap", "models.views"),
    ("models.epipolar", "models.lpips", "models.structure"),
    (
        *("models.trajectory", "models.metrics", "models.matching", "models.sightings"),
        *("models.overview", "models.render", "models.fusion"),
    ),
    (
        *("models.network", "models.stereo", "models.fill", "models.refine"),
        *("models.pose", "models.data", "models.scores"),
    ),
    (
        *("models.weights", "models.framing", "models.evidence", "models.losses"),
        *("models.stereo.train", "models.summary", "models.alignment", "models.engines"),
        *("models.surface", "models.exposure", "models.antialiasing"),
    ),
    ("models.prediction", "models.novel_views"),
    ("models.reconstruct",),
    ("models.training", "models.evaluate"),
    ("nps_cli",),
    tuple(f"nps_cli.commands.{path.stem}" for path in (ROOT / "nps_cli/commands").glob("[!_]*.py")),
    ("nps_cli.app",),
    ("nps_cli.__main__", "nps_cli.demo", "nps_cli.bare"),
    ("nps_cli.carry",),
)
STRANGERS = (  # what stays apart although the layers would allow it
    ("models.network", "models.render"),  # a network is no picture
    ("models.stereo", "models.render"),
    ("models.data", "models.render"),  # ray-traced worlds can judge the renderer
)
HOMES = {  # foreign package: the only places that know it
    "PIL": ("nps_cli.photos", "nps_cli.formats.canvas", "nps_cli.formats.video", "models.data"),
    "av": ("nps_cli.formats.video",),
    "cv2": ("models.matching", "models.pose", "models.data.lens"),
    "exifread": ("nps_cli.exif",),
    "gsplat": ("models.render.cuda",),
    "huggingface_hub": ("nps_cli.hub", "nps_cli.hashes"),
    "numba": ("models.render", "models.data.lanczos", "models.structure"),
    "pillow_heif": ("nps_cli.photos",),
    "plyfile": ("nps_cli.formats.ply",),
    "poselib": ("models.matching",),
    "ray": ("models.engines",),
    "rich": ("nps_cli.console",),
    "safetensors": ("models.weights",),
    "skimage": ("models.metrics", "nps_cli.demo"),
    "typer": ("nps_cli.app", "nps_cli.options", "nps_cli.commands", "nps_cli.recipes"),
}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("models", "nps_cli")
    for path in (ROOT / package).rglob("*.py")
}


def is_within(module: str, part: str) -> bool:
    return module == part or module.startswith(part + ".")


def find_part(module: str) -> tuple[int, str]:
    """The layer, counted from the ground, and the most precise part of it that has the module."""
    found = [
        (len(part), height, part)
        for height, layer in enumerate(LAYERS)
        for part in layer
        if is_within(module, part)
    ]
    assert found, f"{module} has no place in LAYERS: give it one"
    return max(found)[1:]


def imported_by(module: str) -> set[str]:
    """Absolute names of all modules that a module imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}: imports are absolute here"
            within = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= within & MODULES.keys() or {node.module}
    return names


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"models", "nps_cli"}))
def test_imports_go_down(module: str):
    height, part = find_part(module)
    for name in imported_by(module):
        if name in ("models", "nps_cli") or name.split(".")[0] not in ("models", "nps_cli"):
            continue
        target_height, target = find_part(name)
        assert target_height < height or target == part, f"{module} imports {name}"
        apart = any(is_within(module, a) and is_within(name, b) for a, b in STRANGERS)
        assert not apart, f"{module} and {name} stay apart"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_foreign_packages_stay_at_home(module: str):
    for name in imported_by(module):
        homes = HOMES.get(name.split(".")[0], (module,))
        assert any(is_within(module, home) for home in homes), f"{module} imports {name}"
