"""`nps inspect`: facts about photos and scenes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nps_cli import console, options
from nps_cli.errors import NpsError

MAX_COMMENT_LENGTH = 100


def inspect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Photos or scenes.")],
    json: options.Json = False,
) -> None:
    """Show what nps knows about photos and scenes."""
    facts = [_describe(file) for file in files]
    if json:
        console.print_json(facts)
    else:
        _show_photos([entry for entry in facts if entry.get("kind") == "photo"])
        _show_scenes([entry for entry in facts if entry.get("kind") == "scene"])
        for entry in facts:
            if "error" in entry:
                console.error(entry["error"], entry["hint"])
    if any("error" in entry for entry in facts):
        raise typer.Exit(1)


def _describe(file: Path) -> dict[str, Any]:
    from nps_cli.formats import is_scene

    try:
        return {
            "file": str(file),
            **(_describe_scene(file) if is_scene(file) else _describe_photo(file)),
        }
    except NpsError as error:
        return {"file": str(file), "error": str(error), "hint": error.hint}


def _describe_photo(file: Path) -> dict[str, Any]:
    from models.geometry.camera import to_pixels
    from nps_cli.photos.load import load_photo

    photo = load_photo(file)
    intrinsics_px = to_pixels(photo.camera.intrinsics.double(), photo.camera.size)
    height, width = photo.camera.size
    return {
        "kind": "photo",
        "width": width,
        "height": height,
        "orientation": photo.orientation,
        "make": photo.facts.make,
        "model": photo.facts.model,
        "focal_mm": photo.facts.focal_mm,
        "focal_35mm": photo.facts.focal_35mm,
        "intrinsics_px": [[round(value, 3) for value in row] for row in intrinsics_px.tolist()],
        "intrinsics_source": photo.intrinsics_source,
        "hfov_deg": round(photo.hfov_deg, 3),
    }


def _describe_scene(file: Path) -> dict[str, Any]:
    import torch

    from nps_cli.formats import open_scene, read_cameras
    from nps_cli.formats.scene_file import check_pieces

    with open_scene(file) as (scene, name):
        photos = [photo.name for photo in read_cameras(scene.comments)]
        count, guesses, low, high = 0, 0, torch.full((3,), torch.inf), torch.full((3,), -torch.inf)
        for piece in check_pieces(scene, name):
            count += len(piece)
            guesses += 0 if piece.guessed is None else int(piece.guessed.sum())
            if len(piece):
                low = torch.minimum(low, piece.means.amin(dim=0))
                high = torch.maximum(high, piece.means.amax(dim=0))
    return {
        "kind": "scene",
        "format": scene.kind,
        "gaussians": count,
        "guesses": guesses,
        "sh_degree": scene.sh_degree,
        "bounds": {"min": low.tolist(), "max": high.tolist()},
        "photos": photos,
        "comments": scene.comments,
    }


def _show_photos(photos: list[dict[str, Any]]) -> None:
    if not photos:
        return
    columns = ("photo", "upright size", "EXIF turn", "camera", "focal length", "view", "source")
    rows = [
        (
            entry["file"],
            f"{entry['width']} x {entry['height']}",
            entry["orientation"] or "-",
            " ".join(filter(None, (entry["make"], entry["model"]))) or "-",
            f"{entry['intrinsics_px'][0][0]:.0f} px",
            f"{entry['hfov_deg']:.1f} deg",
            entry["intrinsics_source"],
        )
        for entry in photos
    ]
    console.print_table("", columns, rows)


def _show_scenes(scenes: list[dict[str, Any]]) -> None:
    for entry in scenes:
        bounds = zip("xyz", entry["bounds"]["min"], entry["bounds"]["max"], strict=True)
        comments = [line for line in entry["comments"] if not line.startswith("view ")]
        rows = [
            ("format", entry["format"]),
            ("Gaussians", entry["gaussians"]),
            *([("of these, guesses", entry["guesses"])] if entry["guesses"] else []),
            ("SH degree", entry["sh_degree"]),
            *((axis, f"{least:.4g} to {most:.4g}") for axis, least, most in bounds),
            *(("photo", photo) for photo in entry["photos"]),
            *(("comment", line[:MAX_COMMENT_LENGTH]) for line in comments),
        ]
        console.print_table("", ("scene", entry["file"]), rows)
