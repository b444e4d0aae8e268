"""Options used by more than one command: each is spelled, and explained, once."""

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nps_cli import console
from nps_cli.formats import READABLE

if TYPE_CHECKING:
    from nps_cli.photos.intrinsics import GivenIntrinsics


DEVICES = "auto|cpu|cuda[:N]"


def out_option(metavar: str, help: str) -> Any:
    """Return the option --out, --output, -o."""
    return typer.Option("--out", "--output", "-o", metavar=metavar, help=help)


def existing_file(help: str) -> Any:
    """Return an option for a file that must exist."""
    return typer.Option(metavar="FILE", exists=True, dir_okay=False, help=help)


def existing_folder(help: str) -> Any:
    """Return an option for a folder that must exist."""
    return typer.Option(metavar="DIR", exists=True, file_okay=False, help=help)


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise typer.BadParameter(f"{value!r} is none of {DEVICES}.")
    return value


def check_report(path: Path | None) -> None:
    """Refuse a report whose name is not that of a page."""
    if path is not None and path.suffix.lower() != ".html":
        raise typer.BadParameter(f"{path} does not end in .html.", param_hint="--report")


def _positive(values: list[float] | None) -> list[float] | None:
    for value in values or []:
        if not 0 < value < float("inf"):
            raise typer.BadParameter(f"{value:g} is not a positive number.")
    return values


def _degrees(values: list[float] | None) -> list[float] | None:
    for value in values or []:
        if not 1 <= value <= 170:
            raise typer.BadParameter(f"{value:g} is not between 1 and 170 degrees.")
    return values


def two_or_three(context: typer.Context, photos: list[Path]) -> list[Path]:
    """Accept two or three photos, or one source to choose them from; a stereo photo is two."""
    if not _is_one_source(photos):
        for folder in (path for path in photos if path.is_dir()):
            raise typer.BadParameter(f"{folder} is a folder: give it alone, or only photos.")
    if context.params.get("stereo"):
        if len(photos) != 1 or _is_one_source(photos):
            raise typer.BadParameter("takes 1 picture with --stereo: both eyes' side by side.")
        return photos
    if len(photos) not in (2, 3) and not _is_one_source(photos):
        from nps_cli.photos.stereo import is_stereo_photo

        if len(photos) == 1 and is_stereo_photo(photos[0]):
            return photos
        raise typer.BadParameter(
            f"takes 2 or 3 photos of one place, not {len(photos)}; or, to choose them from, a "
            "folder, a video, or a pattern in quotes, like 'photos/*.jpg'."
        )
    return photos


def many_photos(photos: list[Path]) -> list[Path]:
    """Accept two or more photos, or one folder, pattern or video to choose them from."""
    if len(photos) == 1 and not _is_one_source(photos):
        raise typer.BadParameter(f"{photos[0]} is no folder, no pattern and no video.")
    return photos


def _is_one_source(photos: list[Path]) -> bool:
    from nps_cli.pick import is_source

    return len(photos) == 1 and is_source(photos[0])


Photos = Annotated[
    list[Path],
    typer.Argument(
        metavar="PHOTO",
        callback=two_or_three,
        help="Two or three photos of one place, each from its own spot; or a folder, a video or a "
        "pattern in quotes, of which the best are chosen as `nps pick` shows.",
    ),
]
Stereo = Annotated[
    bool,
    typer.Option(
        "--stereo",
        is_eager=True,  # the number of photos depends on it
        help="The one photo shows what both eyes see, side by side; .mpo and spatial .heic files "
        "say so themselves.",
    ),
]
Scene = Annotated[
    Path,
    typer.Argument(metavar="SCENE", help=f"A {console.either(*READABLE)} file, or - for stdin."),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Network weights: a name from `nps weights list` (fetched if it is not here), or a "
        ".safetensors or .ckpt file. Default: the best on this machine.",
    ),
]
Device = Annotated[
    str,
    typer.Option(metavar=DEVICES, callback=_device, help="Where to compute; auto prefers CUDA."),
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option(help="Of the network; auto: bfloat16 for large networks on a CPU that has it."),
]
Crop = Annotated[
    Literal["square", "full"] | None,
    typer.Option(
        help="What the network sees: the central square, equally wide in all photos, or all of "
        "them. Default: square for published weights, full for others."
    ),
]
Focal35mm = Annotated[
    list[float] | None,
    typer.Option(
        "--focal-35mm",
        metavar="MM",
        callback=_positive,
        help="Focal length as its 35 mm equivalent, instead of EXIF. Repeat for one per photo.",
    ),
]
Fov = Annotated[
    list[float] | None,
    typer.Option(
        metavar="DEG",
        callback=_degrees,
        help="Horizontal field of view of the upright photo, instead of EXIF. "
        "Repeat for one per photo.",
    ),
]
Intrinsics = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="JSON with `intrinsics_px`, `width`, `height`, one for all photos or a list with one "
        "per photo; a pose document, transforms.json or cameras.json works too.",
    ),
]
Refine = Annotated[
    bool, typer.Option(help="Refine the network's prediction by matches and stereo.")
]
Polish = Annotated[
    bool, typer.Option("--polish", help="Fit the scene to the photos once more; takes seconds.")
]
Resolution = Annotated[
    int,
    typer.Option(
        metavar="PIXELS", min=64, max=2048, help="Long side of the depth maps; a Gaussian a pixel."
    ),
]
Seed = Annotated[
    int, typer.Option(metavar="N", min=0, help="Of all random choices: the same gives the same.")
]
Jobs = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Processes. Default: one a core, or GPU.")
]
Engine = Annotated[
    Literal["processes", "ray"],
    typer.Option(help="What starts them; ray uses the cluster that RAY_ADDRESS names."),
]
Textures = Annotated[
    Path | None, existing_folder("Images to cut textures of worlds from. Default: noise.")
]
Panoramas = Annotated[
    Path | None,
    existing_folder(
        "Equirectangular images: skies of worlds, and what is seen through their windows."
    ),
]
Meshes = Annotated[
    Path | None,
    existing_file("Furniture and other things in worlds, packed as .npz (docs/worlds.md)."),
]
Report = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Also a page about the run, to look at and send: .html."),
]
NoGuesses = Annotated[
    bool, typer.Option("--no-guesses", help="Leave out what no photo shows and nps continued.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")]
Json = Annotated[bool, typer.Option("--json", help="Report on stdout as JSON.")]


def given_intrinsics(
    focal_35mm: list[float] | None, fov: list[float] | None, file: Path | None
) -> "GivenIntrinsics":
    """Return what a person said about the cameras; more than one way is a wrong usage."""
    from nps_cli.photos.intrinsics import GivenIntrinsics

    if bool(focal_35mm) + bool(fov) + bool(file) > 1:
        raise typer.BadParameter("Use only one of --focal-35mm, --fov and --intrinsics.")
    return GivenIntrinsics(tuple(focal_35mm or ()), tuple(fov or ()), file)


def parse_size(
    text: str, multiple_px: int = 1, limits_px: tuple[int, int] = (32, 9999)
) -> tuple[int, int]:
    """Return the (height, width) of WIDTHxHEIGHT; raise BadParameter for any other text.

    Args:
        text: Value of --size.
        multiple_px: A number that both sides are multiples of.
        limits_px: Shortest and longest side.
    """
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    sides = [int(side) for side in match.groups()] if match else []
    shortest, longest = limits_px
    if not sides or any(side % multiple_px or not shortest <= side <= longest for side in sides):
        both = "both" if multiple_px == 1 else f"both multiples of {multiple_px},"
        raise typer.BadParameter(
            f"{text!r} is not WIDTHxHEIGHT, {both} from {shortest} to {longest}, such as 320x256.",
            param_hint="--size",
        )
    return sides[1], sides[0]


def unused(name: str) -> Path:
    """Return a name that no file here has: the given one, or one with a number, for suggestions."""
    path, number = Path(name), 2
    while path.exists():
        path = Path(name).with_stem(f"{Path(name).stem}-{number}")
        number += 1
    return path


def repeated(given: dict[str, Any]) -> str:
    """Return options that were given, for the commands that are suggested next."""
    words = []
    for option, values in given.items():
        for value in values if isinstance(values, list) else [values]:
            if value is True:
                words.append(option)
            elif value:
                words += [option, quoted(value)]
    return "".join(f" {word}" for word in words)


def quoted(*paths: Path | str) -> str:
    """Quote paths as a shell takes them, for the commands that are suggested next."""
    return " ".join(map(_quoted, map(str, paths)))


def _quoted(name: str) -> str:
    if name.startswith("-") and name != "-":  # no option
        name = f"./{name}"
    if name.isprintable():
        return shlex.quote(name)
    return (
        "$'"
        + "".join(
            character
            if character.isprintable() and character not in "'\\"
            else "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
            for character in name
        )
        + "'"
    )
