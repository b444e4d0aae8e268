"""A small valid file of every kind that `nps` reads, and how it is damaged."""

import gzip
import io
import json
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_factory
import numpy as np
import torch
from chunk_factory import make_root
from fuzz.damage import NUMBERS, TEXTS, VALUES, damaged_bytes, damaged_json, damaged_tree
from hypothesis.strategies import DataObject, binary, integers, sampled_from
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational
from random_gaussians import random_gaussians
from tiny_weights import ABOUT, TINY, published_state

from models.geometry.camera import Camera
from models.weights import empty_network, save_network
from nps_cli.formats import SceneCamera, save_scene

Case = Callable[[DataObject, Path], list[str]]
CASES: dict[str, Callable[[Path], Case]] = {}  # by kind: from an empty folder to what makes cases
INTRINSICS_PX = [[500.0, 0.0, 320.0], [0.0, 500.0, 240.0], [0.0, 0.0, 1.0]]


def kind(name: str) -> Callable[[Callable[[Path], Case]], Callable[[Path], Case]]:
    """Enter what makes cases of a kind into `CASES`."""

    def enter(make: Callable[[Path], Case]) -> Callable[[Path], Case]:
        CASES[name] = make
        return make

    return enter


def scene_file(folder: Path, suffix: str) -> Path:
    """Write a scene of a few Gaussians, with two cameras where the format has a place for them."""
    intrinsics = torch.tensor([[0.8, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    moved = torch.eye(4)
    moved[0, 3] = -0.3
    cameras = [
        SceneCamera(name, Camera(intrinsics, pose, (48, 64)))
        for name, pose in (("a.jpg", torch.eye(4)), ("b.jpg", moved))
    ]
    path = folder / f"scene{suffix}"
    save_scene(random_gaussians(6, 1), path, cameras, force=True)
    return path


def looked_at(data: DataObject, path: Path, content: bytes) -> list[str]:
    """Write a scene, and return a command that reads it."""
    path.write_bytes(content)
    if data.draw(integers(0, 3)):
        return ["inspect", str(path), *(["--json"] if data.draw(integers(0, 2)) else [])]
    return ["render", str(path), "-o", str(path.with_suffix(".png")), "--size", "16x12"]


@kind("ply")
def ply(folder: Path) -> Case:
    content = scene_file(folder, ".ply").read_bytes()
    header, body = content.split(b"end_header\n")
    words = [line.split(" ") for line in header.decode().splitlines()]
    view = json.loads(header.decode().splitlines()[3].split(" ", 2)[2])

    def case(data: DataObject, case_folder: Path) -> list[str]:
        path = case_folder / "case.ply"
        match data.draw(sampled_from(("bytes", "header", "floats", "view"))):
            case "bytes":
                return looked_at(data, path, data.draw(damaged_bytes(content)))
            case "header":
                counts = (
                    "99999999999",
                    "-1",
                    "1" * 400,
                    "list",
                    "uchar",
                    "double",
                    "nan",
                    "vertex",
                )
                lines = data.draw(damaged_tree(words, (*TEXTS, *counts, ["property", "x"])))
                return looked_at(data, path, joined(lines) + b"\nend_header\n" + body)
            case "floats":
                return looked_at(data, path, header + b"end_header\n" + strange_floats(data, body))
        line = b"comment view " + data.draw(damaged_json(view)) + b"\n"
        lines = header.splitlines(keepends=True)
        return looked_at(
            data, path, b"".join([*lines[:3], line, *lines[4:], b"end_header\n", body])
        )

    return case


def strange_floats(data: DataObject, body: bytes) -> bytes:
    """Replace some of an array of float32."""
    values = np.frombuffer(body, "<f4").copy()
    with np.errstate(over="ignore"):
        for _ in range(data.draw(integers(1, 4))):
            place = data.draw(integers(0, len(values) - 1))
            values[place] = np.float32(data.draw(sampled_from(NUMBERS)))
    return values.tobytes()


@kind("spz")
def spz(folder: Path) -> Case:
    content = scene_file(folder, ".spz").read_bytes()
    plain = gzip.decompress(content)

    def case(data: DataObject, case_folder: Path) -> list[str]:
        path = case_folder / "case.spz"
        match data.draw(sampled_from(("bytes", "header", "body"))):
            case "bytes":
                damaged = data.draw(damaged_bytes(content))
            case "header":
                numbers = [data.draw(integers(0, 255)) for _ in range(4)]
                version = data.draw(sampled_from((0, 1, 2, 3, 3, 3, 4, 2**32 - 1)))
                count = data.draw(sampled_from((0, 1, 5, 6, 6, 6, 7, 2**24, 2**32 - 1)))
                header = struct.pack("<4sII4B", b"NGSP", version, count, *numbers)
                damaged = gzip.compress(header + plain[16:], 1)
            case _:
                damaged = gzip.compress(data.draw(damaged_bytes(plain)), 1)
        return looked_at(data, path, damaged)

    return case


@kind("splat")
def splat(folder: Path) -> Case:
    content = scene_file(folder, ".splat").read_bytes()

    def case(data: DataObject, case_folder: Path) -> list[str]:
        damage = strange_floats(data, content) if data.draw(integers(0, 1)) else None
        damaged = damage or data.draw(damaged_bytes(content))
        return looked_at(data, case_folder / "case.splat", damaged)

    return case


@kind("glb")
def glb(folder: Path) -> Case:
    content = scene_file(folder, ".glb").read_bytes()
    length = struct.unpack_from("<I", content, 12)[0]
    document, body = json.loads(content[20 : 20 + length]), content[28 + length :]

    def case(data: DataObject, case_folder: Path) -> list[str]:
        path = case_folder / "case.glb"
        match data.draw(sampled_from(("bytes", "json", "floats"))):
            case "bytes":
                return looked_at(data, path, data.draw(damaged_bytes(content)))
            case "json":
                text, numbers = data.draw(damaged_json(document)), body
            case _:
                text, numbers = json.dumps(document).encode(), strange_floats(data, body)
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        chunks += struct.pack("<I4s", len(numbers), b"BIN\0") + numbers
        whole = struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
        return looked_at(data, path, whole)

    return case


def camera(**pose: object) -> dict[str, object]:
    return {"photo": "a.jpg", "width": 640, "height": 480, "intrinsics_px": INTRINSICS_PX, **pose}


@kind("poses")
def poses(folder: Path) -> Case:
    scene = scene_file(folder, ".ply")
    identity = torch.eye(4).tolist()
    views = [camera(world2cam=identity), camera(cam2world=identity)]
    document = {"format": "nps-pose", "version": 1, "views": views, "pairs": []}

    def case(data: DataObject, case_folder: Path) -> list[str]:
        path = case_folder / "poses.json"
        path.write_bytes(data.draw(damaged_json(data.draw(sampled_from((document, views))))))
        out = str(case_folder / "frames")
        return ["render", str(scene), "--path", str(path), "-o", out, "--size", "16x12"]

    return case


@kind("intrinsics")
def intrinsics(folder: Path) -> Case:
    photos = []
    for name in ("a.png", "b.png"):
        Image.effect_noise((64, 48), 50).convert("RGB").save(folder / name)
        photos.append(str(folder / name))
    documents = (camera(), [camera(), camera()], {"views": [camera(), camera()]})

    def case(data: DataObject, case_folder: Path) -> list[str]:
        path = case_folder / "intrinsics.json"
        path.write_bytes(data.draw(damaged_json(data.draw(sampled_from(documents)))))
        return ["pose", *photos, "--intrinsics", str(path), "--json"]

    return case


@kind("pairs")
def pairs(folder: Path) -> Case:
    moved = torch.eye(4)
    moved[0, 3] = -0.3
    w2c = [torch.eye(4).tolist(), moved.tolist()]
    sizes, matrices = [[64, 48]] * 2, [[[50.0, 0, 32], [0, 50, 24], [0, 0, 1]]] * 2
    target = {"image": "a.png", "size": sizes[0], "K": matrices[0], "w2c": w2c[1]}
    entry = {"id": "x", "images": ["a.png", "b.png"], "size": sizes, "K": matrices, "w2c": w2c}
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
    if b"PINHOLE" not in content or data.draw(integers(0, 1)):
        return data.draw(damaged_bytes(content))
    words = [line.split(" ") for line in content.decode().splitlines()]
    return joined(data.draw(damaged_tree(words, (*TEXTS, *NUMBERS, "OPENCV", "FISHEYE", ["7"]))))


def joined(lines: Any) -> bytes:
    """Return damaged lists of words as lines."""
    rows = lines if isinstance(lines, list) else []
    return "\n".join(" ".join(map(str, row)) for row in rows if isinstance(row, list)).encode()


def strange_tensors() -> tuple[Any, ...]:
    """Return tensors, and values, that are not what a file should hold."""
    return (
        torch.zeros(0),
        torch.tensor(float("nan")),
        torch.full((12, 18), float("inf")),
        torch.zeros(1).expand(1 << 31),
        torch.zeros(12, 18, dtype=torch.int64),
        torch.zeros(12, 18, dtype=torch.complex64),
        torch.zeros(3, dtype=torch.bfloat16),
        torch.zeros(12, 18, device="meta"),
        torch.zeros(12, 18).to_sparse(),
        *VALUES,
    )


def saved(tree: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(tree, stream)
    return stream.getvalue()


@kind("chunk")
def chunk(folder: Path) -> Case:
    root = make_root(folder, scenes=2)
    (path,) = (root / "train").glob("*.torch")
    content, entries = path.read_bytes(), torch.load(path, weights_only=True)
    tensors = strange_tensors()

    def case(data: DataObject, case_folder: Path) -> list[str]:
        (case_folder / "train").mkdir()
        target = case_folder / "train" / "000000.torch"
        if data.draw(integers(0, 2)):
            target.write_bytes(saved(data.draw(damaged_tree(entries, tensors))))
        else:
            target.write_bytes(data.draw(damaged_bytes(content)))
        whole = ["--whole"] if data.draw(integers(0, 1)) else []
        return ["data", "check", str(case_folder), "--json", *whole]

    return case


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


@kind("safetensors")
def safetensors(folder: Path) -> Case:
    path = folder / "tiny.safetensors"
    with torch.no_grad():
        network = empty_network(TINY).to_empty(device="cpu")
        for parameter in network.parameters():
            parameter.fill_(0.01)
    save_network(network, path, ABOUT)
    content = path.read_bytes()
    length = struct.unpack_from("<Q", content)[0]
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    config = json.loads(header["__metadata__"]["config"])

    def case(data: DataObject, case_folder: Path) -> list[str]:
        target = case_folder / "case.safetensors"
        match data.draw(sampled_from(("bytes", "json", "config", "floats"))):
            case "bytes":
                target.write_bytes(data.draw(damaged_bytes(content)))
                return ["weights", "verify", str(target)]
            case "json":
                text, numbers = data.draw(damaged_json(header)), body
            case "config":
                damaged = data.draw(damaged_json(config)).decode(errors="replace")
                metadata = {**header["__metadata__"], "config": damaged}
                text, numbers = json.dumps({**header, "__metadata__": metadata}).encode(), body
            case _:
                text, numbers = content[8 : 8 + length], strange_floats(data, body)
        target.write_bytes(struct.pack("<Q", len(text)) + text + numbers)
        return ["weights", "verify", str(target)]

    return case


@kind("ckpt")
def ckpt(folder: Path) -> Case:
    state = {"epoch": 0, "global_step": 7, "state_dict": dict(published_state())}
    content, tensors = saved(state), strange_tensors()

    def case(data: DataObject, case_folder: Path) -> list[str]:
        target = case_folder / "case.ckpt"
        if data.draw(integers(0, 1)):
            target.write_bytes(saved(data.draw(damaged_tree(state, tensors))))
        else:
            target.write_bytes(data.draw(damaged_bytes(content)))
        return ["weights", "verify", str(target)]

    return case


@kind("photo")
def photo(folder: Path) -> Case:
    image = Image.effect_noise((40, 30), 50).convert("RGB")
    contents = {}
    for suffix in ("JPEG", "PNG", "WEBP", "TIFF"):
        stream = io.BytesIO()
        image.save(stream, suffix, exif=tags().tobytes())
        contents[suffix.lower()] = stream.getvalue()
    exif = tags().tobytes()

    def case(data: DataObject, case_folder: Path) -> list[str]:
        action = data.draw(sampled_from(("bytes", "exif", "tags", "size")))
        suffix = "png" if action == "size" else data.draw(sampled_from(tuple(contents)))
        path = case_folder / f"case.{suffix}"
        if action == "bytes":
            path.write_bytes(data.draw(damaged_bytes(contents[suffix])))
        elif action == "size":
            path.write_bytes(resized_png(data, contents["png"]))
        else:
            changed = data.draw(damaged_bytes(exif)) if action == "exif" else strange_tags(data)
            try:
                with warnings.catch_warnings(action="ignore"):
                    image.save(path, suffix, exif=changed)
            except Exception:  # more than Pillow writes
                image.save(path, suffix)
        return ["inspect", str(path), "--json"]

    return case


def tags() -> Image.Exif:
    """Return what a phone writes."""
    found = Image.Exif()
    found[ExifTags.Base.Make], found[ExifTags.Base.Model] = "Maker", "Phone 5"
    found[ExifTags.Base.Orientation] = 6
    details = found.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.FocalLength] = IFDRational(57, 10)
    details[ExifTags.Base.FocalLengthIn35mmFilm] = 26
    details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight] = 40, 30
    return found


def strange_tags(data: DataObject) -> Image.Exif:
    found = tags()
    details = found.get_ifd(ExifTags.IFD.Exif)
    rationals = (IFDRational(1, 0), IFDRational(0, 0), IFDRational(-1, 3), IFDRational(2**32 - 1))
    values = (*rationals, *TEXTS, 0, 9, 65_535, b"\xff" * 9, (1, 2, 3), (IFDRational(1, 0),) * 2)
    names = ("FocalLength", "FocalLengthIn35mmFilm", "FocalPlaneXResolution", "ExifImageWidth")
    for _ in range(data.draw(integers(1, 3))):
        tag = data.draw(sampled_from((*names, "Make", "Model", "Orientation", "DigitalZoomRatio")))
        place = found if tag in ("Make", "Model", "Orientation") else details
        place[ExifTags.Base[tag]] = data.draw(sampled_from(values))
    return found


def resized_png(data: DataObject, content: bytes) -> bytes:
    """Return a picture that claims another size, depth or kind of colors."""
    sides = (0, 1, 40, 30, 4000, 20_000, 65_536, 2**31 - 1)
    width, height = data.draw(sampled_from(sides)), data.draw(sampled_from(sides))
    rest = data.draw(sampled_from((b"\x08\x02\0\0\0", b"\x10\x06\0\0\1"))) or data.draw(binary())
    header = b"IHDR" + struct.pack(">II", width, height) + rest
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
