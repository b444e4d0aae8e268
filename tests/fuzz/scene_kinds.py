"""Damaged scenes of every format that `nps` reads."""

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from foreign_files import FILES, known_scene
from fuzz.damage import TEXTS, damaged_bytes, damaged_json, damaged_tree
from fuzz.kinds import Case, joined, kind, strange_numbers
from hypothesis.strategies import DataObject, integers, sampled_from
from PIL import Image

from models.geometry.camera import Camera
from nps_cli.formats import SceneCamera, save_scene

Damage = Callable[[DataObject, bytes], bytes]
COUNTS = ("99999999999", "-1", "1" * 400, "list", "uchar", "double", "nan", "vertex")
ZEROS = gzip.compress(bytes(200 << 20), 1)
INTEGERS = struct.Struct("<I")


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
    save_scene(known_scene(), path, cameras, force=True)
    return path


def scenes(name: str, *files: str) -> Callable[[Damage], Damage]:
    """Enter a kind of scenes: made as named in `FILES`, damaged by bytes and as a function does."""

    def enter(damage: Damage) -> Damage:
        @kind(name)
        def make(folder: Path) -> Case:
            contents = {file: FILES[file](known_scene()) for file in files}
            if files[0] in ("3dgs.ply", "ours.glb"):
                contents["cameras"] = scene_file(folder, f".{name}").read_bytes()

            def case(data: DataObject, case_folder: Path) -> list[str]:
                content = contents[data.draw(sampled_from(tuple(contents)))]
                structured = data.draw(integers(0, 3))
                path = case_folder / f"case.{files[0].split('.', 1)[1]}"
                damaged = damage if structured else (lambda data, _: data.draw(damaged_bytes(_)))
                path.write_bytes(damaged(data, content))
                match data.draw(sampled_from(("json", "json", "text", "render", "convert"))):
                    case "render":
                        out = str(path.with_suffix(".png"))
                        return ["render", str(path), "-o", out, "--size", "16x12"]
                    case "convert":
                        return ["convert", str(path), str(path.with_name("out.spz"))]
                    case shown:
                        return ["inspect", str(path), *(["--json"] if shown == "json" else [])]

            return case

        return damage

    return enter


@scenes("ply", "3dgs.ply")
@scenes("compressed-ply", "compressed.ply")
def damage_ply(data: DataObject, content: bytes) -> bytes:
    header, body = content.split(b"end_header\n", 1)
    lines = header.decode().splitlines()
    views = [place for place, line in enumerate(lines) if line.startswith("comment view ")]
    match data.draw(sampled_from(("header", "body", *(["view"] if views else [])))):
        case "header":
            words = [line.split(" ") for line in lines]
            tree = data.draw(damaged_tree(words, (*TEXTS, *COUNTS, ["property", "x"])))
            return joined(tree) + b"\nend_header\n" + body
        case "body":
            return header + b"end_header\n" + strange_numbers(data, body)
    place = data.draw(sampled_from(views))
    view = json.loads(lines[place].split(" ", 2)[2])
    encoded = [line.encode() for line in lines]
    encoded[place] = b"comment view " + data.draw(damaged_json(view))
    return b"\n".join([*encoded, b"end_header\n"]) + body


@scenes("gz", "ply.gz", "v3.spz")
def damage_gz(data: DataObject, content: bytes) -> bytes:
    plain = gzip.decompress(content)
    match data.draw(sampled_from(("inside", "inside", "twice", "zeros"))):
        case "inside":
            return gzip.compress(data.draw(damaged_bytes(plain)), 1)
        case "twice":
            return gzip.compress(content, 1)
    count = data.draw(sampled_from((1, 6, 10**6, 2**24, 2**31, 2**32 - 1)))
    start = plain[: data.draw(integers(0, len(plain)))]
    if plain.startswith(b"NGSP"):
        start = plain[:8] + INTEGERS.pack(count) + plain[12:16]
    else:
        start = start.replace(b"vertex 4", b"vertex %d" % count)
    return gzip.compress(start, 1) + ZEROS


@scenes("spz", "v1.spz", "v3.spz", "v4.spz", "extended.spz")
def damage_spz(data: DataObject, content: bytes) -> bytes:
    packed = content.startswith(b"\x1f\x8b")
    plain = gzip.decompress(content) if packed else content
    if data.draw(integers(0, 1)):
        numbers = [data.draw(integers(0, 255)) for _ in range(4)]
        version = data.draw(sampled_from((plain[4], plain[4], plain[4], 0, 1, 2, 3, 4, 2**32 - 1)))
        count = data.draw(sampled_from((0, 1, 3, 4, 4, 4, 5, 2**24, 2**32 - 1)))
        plain = struct.pack("<4sII4B", b"NGSP", version, count, *numbers) + plain[16:]
    else:
        head = strange_numbers(data, plain[:120], "<u4") if not packed else plain[:120]
        plain = head + (data.draw(damaged_bytes(plain[120:])) if packed else plain[120:])
    return gzip.compress(plain, 1) if packed else plain


@scenes("splat", "web.splat")
def damage_splat(data: DataObject, content: bytes) -> bytes:
    return strange_numbers(data, content)


@scenes("ksplat", "plain.ksplat", "half.ksplat", "bytes.ksplat")
def damage_ksplat(data: DataObject, content: bytes) -> bytes:
    start, length = data.draw(sampled_from(((0, 48), (4096, 48), (5120, len(content)))))
    number = data.draw(sampled_from(("<u4", "<u2", "<f4")))
    part = strange_numbers(data, content[start : start + length], number)
    return content[:start] + part + content[start + length :]


@scenes("glb", "ours.glb", "elsewhere.glb")
def damage_glb(data: DataObject, content: bytes) -> bytes:
    (length,) = INTEGERS.unpack_from(content, 12)
    text, numbers = content[20 : 20 + length], content[28 + length :]
    if data.draw(integers(0, 2)):
        text = data.draw(damaged_json(json.loads(text)))
    else:
        numbers = strange_numbers(data, numbers)
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(numbers), b"BIN\0") + numbers
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


@scenes("sog", "v1.sog", "v2.sog")
def damage_sog(data: DataObject, content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = data.draw(sampled_from(("meta.json", *parts)))
    match data.draw(sampled_from(("drop", "bytes", "size", "tree", "tree"))):
        case "drop":
            del parts[name]
        case "bytes":
            parts[name] = data.draw(damaged_bytes(parts[name]))
        case "size" if name != "meta.json":
            sides = [data.draw(sampled_from((1, 2, 64, 3000))) for _ in range(2)]
            made, form = io.BytesIO(), data.draw(sampled_from(("RGB", "L", "RGBA")))
            Image.new(form, tuple(sides)).save(made, data.draw(sampled_from(("WEBP", "PNG"))))
            parts[name] = made.getvalue()
        case _:
            parts["meta.json"] = data.draw(damaged_json(json.loads(parts["meta.json"])))
    stream = io.BytesIO()
    compression = data.draw(sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for part, held in parts.items():
            archive.writestr(part, held)
    return stream.getvalue()
