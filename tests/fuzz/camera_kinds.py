"""Damaged files of cameras, lists of photos, and reports."""

import io
import json
from pathlib import Path
from typing import Any

import folder_factory
import torch
from chunk_factory import make_root
from fuzz.damage import NUMBERS, TEXTS, damaged_bytes, damaged_json, damaged_tree
from fuzz.kinds import Case, joined, kind, strange_numbers
from fuzz.scene_kinds import scene_file
from hypothesis.strategies import DataObject, integers, sampled_from
from PIL import Image

from models.evaluation.evaluate import Unusable
from models.evaluation.scores import ImageScore, PairScores, TargetScore
from models.metrics.errors import PoseError
from nps_cli.formats.evaluation import Evaluation, Subject, write_document

INTRINSICS_PX = [[500.0, 0.0, 320.0], [0.0, 500.0, 240.0], [0.0, 0.0, 1.0]]
IDENTITY = torch.eye(4).tolist()
MOVED = [[1.0, 0.0, 0.0, -0.3], *IDENTITY[1:]]


def camera(**pose: object) -> dict[str, Any]:
    return {"photo": "a.jpg", "width": 640, "height": 480, "intrinsics_px": INTRINSICS_PX, **pose}


def documents() -> tuple[Any, ...]:
    """Return cameras as `nps`, nerfstudio and 3DGS write them."""
    views = [camera(world2cam=IDENTITY), camera(cam2world=MOVED)]
    trained = {"id": 0, "img_name": "a", "width": 640, "height": 480, "fx": 500.0, "fy": 500.0}
    trained |= {"position": [0.0, 0.0, 0.0], "rotation": [row[:3] for row in IDENTITY[:3]]}
    nps = {"format": "nps-pose", "version": 1, "views": views, "pairs": []}
    frames = folder_factory.transforms()
    frames["frames"] = frames["frames"][:2]
    return nps, views, frames, [trained, trained | {"position": [0.3, 0, 0]}], camera()


@kind("poses")
def poses(folder: Path) -> Case:
    scene, cameras = scene_file(folder, ".ply"), documents()[:-1]

    def case(data: DataObject, case_folder: Path) -> list[str]:
        path = case_folder / "poses.json"
        path.write_bytes(data.draw(damaged_json(data.draw(sampled_from(cameras)))))
        out = str(case_folder / "frames")
        return ["render", str(scene), "--path", str(path), "-o", out, "--size", "16x12"]

    return case


@kind("intrinsics")
def intrinsics(folder: Path) -> Case:
    photos, cameras = [], documents()
    for name in ("a.png", "b.png"):
        Image.effect_noise((64, 48), 50).convert("RGB").save(folder / name)
        photos.append(str(folder / name))

    def case(data: DataObject, case_folder: Path) -> list[str]:
        path = case_folder / "intrinsics.json"
        path.write_bytes(data.draw(damaged_json(data.draw(sampled_from(cameras)))))
        return ["pose", *photos, "--intrinsics", str(path), "--json"]

    return case


@kind("pairs")
def pairs(folder: Path) -> Case:
    sizes, matrices = [[64, 48]] * 2, [[[50.0, 0, 32], [0, 50, 24], [0, 0, 1]]] * 2
    target = {"image": "a.png", "size": sizes[0], "K": matrices[0], "w2c": MOVED}
    entry = {"id": "x", "images": ["a.png", "b.png"], "size": sizes, "K": matrices}
    entry["w2c"] = [IDENTITY, MOVED]
    document = [{**entry, "targets": [target]}, {**entry, "id": "y"}]
    picture = io.BytesIO()
    Image.new("RGB", (64, 48)).save(picture, "PNG")

    def case(data: DataObject, case_folder: Path) -> list[str]:
        for name in ("a.png", "b.png"):
            (case_folder / name).write_bytes(picture.getvalue())
        (case_folder / "pairs.json").write_bytes(data.draw(damaged_json(document)))
        return ["data", "check", str(case_folder), "--json"]

    return case


@kind("transforms")
def transforms(folder: Path) -> Case:
    document = folder_factory.transforms()

    def case(data: DataObject, case_folder: Path) -> list[str]:
        scene = case_folder / "scene"
        folder_factory.write_images(scene)
        (scene / "transforms.json").write_bytes(data.draw(damaged_json(document)))
        return ["data", "convert", str(scene), "-o", str(case_folder / "out")]

    return case


@kind("colmap")
def colmap(folder: Path) -> Case:
    models = {
        ".txt": folder_factory.write_text_model(folder / "text"),
        ".bin": folder_factory.write_binary_model(folder / "binary"),
    }
    contents = {
        path.name: path.read_bytes()
        for suffix, model in models.items()
        for path in (model / "sparse" / "0").glob(f"*{suffix}")
    }

    def case(data: DataObject, case_folder: Path) -> list[str]:
        suffix = data.draw(sampled_from(tuple(models)))
        damaged = data.draw(sampled_from(("cameras", "images"))) + suffix
        model = case_folder / "scene" / "sparse" / "0"
        folder_factory.write_images(case_folder / "scene")
        model.mkdir(parents=True)
        for name, content in contents.items():
            if name.endswith(suffix):
                whole = name != damaged
                (model / name).write_bytes(content if whole else colmap_damage(data, content))
        return ["data", "convert", str(case_folder / "scene"), "-o", str(case_folder / "out")]

    return case


def colmap_damage(data: DataObject, content: bytes) -> bytes:
    if not data.draw(integers(0, 2)):
        return data.draw(damaged_bytes(content))
    if b"\0" in content:
        start = data.draw(integers(0, 63))
        number = data.draw(sampled_from(("<u4", "<u8", "<f8")))
        return (
            content[:start]
            + strange_numbers(data, content[start : start + 120], number)
            + (content[start + 120 :])
        )
    words = [line.split(" ") for line in content.decode().splitlines()]
    return joined(data.draw(damaged_tree(words, (*TEXTS, *NUMBERS, "OPENCV", "FISHEYE", ["7"]))))


@kind("index")
def index(folder: Path) -> Case:
    root = make_root(folder, scenes=2, stage="test")
    named = json.loads((root / "test" / "index.json").read_text())
    frames = {"context": [0, 3], "target": [1, 2], "overlap": 0.5}
    evaluation = dict.fromkeys(named, frames)

    def case(data: DataObject, case_folder: Path) -> list[str]:
        path = case_folder / "evaluation.json"
        path.write_bytes(data.draw(damaged_json(evaluation)))
        return ["data", "check", str(root), "--index", str(path), "--json"]

    return case


@kind("report")
def report(folder: Path) -> Case:
    score = ImageScore(20.0, 0.5)
    scores = PairScores(
        id="a",
        scene="desk",
        difficulty="hard",
        low_parallax=False,
        failure=None,
        problems=("flat",),
        seconds=1.5,
        poses=(PoseError(1.0, 2.0, 2.0),),
        first_view=score,
        targets=(TargetScore("t.png", score, ImageScore(21.0, 0.6, 0.1)),),
    )
    subject = Subject("pairs.json", "d" * 64, "tiny", "0" * 64, {"refine": True, "size": 256})
    gone = Unusable("b", "it is gone")
    evaluation = Evaluation(subject, (1, 1), ("a", "b"), (scores,), (scores,), (gone,), (), 2.0, 1)
    document = write_document(evaluation)

    def case(data: DataObject, case_folder: Path) -> list[str]:
        path = case_folder / "report.json"
        path.write_bytes(data.draw(damaged_json(document)))
        out = case_folder / f"all.{data.draw(sampled_from(('md', 'csv', 'json')))}"
        return ["evaluate", "merge", str(path), "-o", str(out), "--json"]

    return case
