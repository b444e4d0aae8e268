"""The architecture as a test: imports go down, and every foreign package has a home."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = (  # from the ground up; folders of one layer do not know each other
    ("models.geometry", "models.files"),
    ("models.metrics", "models.features", "models.network", "models.render"),
    ("models.sfm", "models.stereo", "models.pose", "models.data"),
    ("models.scene",),
    ("models.weights",),
    ("models.evaluation", "models.training"),
    ("nps_cli.photos", "nps_cli.weights"),
    ("nps_cli.formats",),
    ("nps_cli.evaluation", "nps_cli.training"),
    ("nps_cli.commands",),
)
HOMES = {  # foreign package: the only places that know it
    "PIL": ("nps_cli.photos", "nps_cli.formats", "models.data"),
    "av": ("nps_cli.formats",),
    "cv2": ("models.features", "models.sfm", "models.pose", "models.data"),
    "exifread": ("nps_cli.photos",),
    "gaussforge": ("nps_cli.formats",),
    "gsplat": ("models.render",),
    "huggingface_hub": ("nps_cli.weights",),
    "matplotlib": ("nps_cli.formats",),
    "msgspec": ("models.files.json_reader", "models.network.config", "models.stereo.network"),
    "numba": ("models.render",),
    "pillow_heif": ("nps_cli.photos",),
    "plyfile": ("nps_cli.formats",),
    "poselib": ("models.sfm",),
    "ray": ("models.workers",),
    "rich": ("nps_cli.console",),
    "safetensors": ("models.weights", "models.features"),
    "skimage": ("nps_cli.demo",),
    "typer": ("nps_cli.app", "nps_cli.options", "nps_cli.commands", "nps_cli.training"),
}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("models", "nps_cli")
    for path in (ROOT / package).rglob("*.py")
}


def is_within(module: str, part: str) -> bool:
    return module == part or module.startswith(part + ".")


def room_of(module: str) -> str:
    """The folder that a module lies in, two names deep; a module outside folders is its own."""
    return ".".join(module.split(".")[:2])


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


def test_imports_go_down():
    arrows: dict[str, set[str]] = {}
    for module in MODULES:
        ours = {room_of(name) for name in imported_by(module) if name in MODULES}
        arrows.setdefault(room_of(module), set()).update(ours - {room_of(module)})
    height = {folder: layer for layer, folders in enumerate(FOLDERS) for folder in folders}
    upward = [
        f"{room} imports {other}"
        for room, others in arrows.items()
        for other in others & height.keys()
        if room in height and height[other] >= height[room]
    ]
    assert not upward
    assert {room for room in arrows if (ROOT / room.replace(".", "/")).is_dir()} == {
        *height,
        "models",
        "nps_cli",
    }
    TopologicalSorter(arrows).prepare()  # raises CycleError where rooms import each other


def test_foreign_packages_stay_at_home():
    strays = [
        f"{module} imports {name}"
        for module in MODULES
        for name in imported_by(module)
        if not any(is_within(module, home) for home in HOMES.get(name.split(".")[0], (module,)))
    ]
    assert not strays
