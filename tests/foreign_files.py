"""Small scene files as other programs write them, made from known numbers."""

import gzip
import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import torch
import zstandard
from PIL import Image

from models.geometry.gaussians import PARAMETERS, SH_DEGREE_0, Gaussians
from nps_cli.formats import load_scene
from nps_cli.formats.glb import encode_glb
from nps_cli.formats.ply import encode_ply
from nps_cli.formats.splat import encode_splat
from nps_cli.formats.spz import encode_spz

EXTENSION = "KHR_gaussian_splatting"


def read(folder: Path, name: str, content: bytes) -> Gaussians:
    path = folder / name
    path.write_bytes(content)
    return load_scene(path)[0]


def assert_same(found: Gaussians, expected: Gaussians, tolerance: float = 1e-6) -> None:
    for name in PARAMETERS:
        one, other = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(one, other, atol=tolerance, rtol=0)


def known_scene(sh_degree: int = 1) -> Gaussians:
    """Four Gaussians whose numbers every format can hold, or nearly."""
    generator = torch.Generator().manual_seed(3)
    rest = torch.randn(4, 3, (sh_degree + 1) ** 2 - 1, generator=generator) * 0.2
    color = torch.tensor([[0.2, 0.4, 0.6], [1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.0, 1.0, 0.8]])
    return Gaussians(
        means=torch.tensor([[0.5, -1.0, 2.0], [-0.25, 0.0, 3.0], [0, 0.5, 2.5], [0, 0, 4.0]]),
        scales=torch.tensor([-3.0, -4.0, -3.5, -2.0])[:, None].exp()
        * torch.tensor([1.0, 0.5, 0.25]),
        rotations=torch.nn.functional.normalize(
            torch.tensor(
                [[1.0, 0, 0, 0], [0.9, 0.1, -0.2, 0.3], [0.1, 0.9, 0.2, -0.1], [0, 0, 1, 1]]
            ),
            dim=1,
        ),
        harmonics=torch.cat([((color - 0.5) / SH_DEGREE_0)[:, :, None], rest], dim=2),
        opacities=torch.tensor([0.2, 0.4, 0.8, 1.0]),
    )


def spz_content(scene: Gaussians) -> bytes:
    return gzip.decompress(b"".join(encode_spz(scene)))


def spz_4(scene: Gaussians, extension: bytes = b"") -> bytes:
    """The attributes of version 3, each in a Zstandard frame."""
    content = spz_content(scene)
    count, degree = struct.unpack_from("<I", content, 8)[0], content[12]
    widths = [9, 1, 3, 3, 4] + ([3 * ((degree + 1) ** 2 - 1)] if degree else [])
    frames, table, place = [], b"", 16
    for width in widths:
        part = content[place : place + count * width]
        place += len(part)
        frames.append(zstandard.compress(part))
        table += struct.pack("<QQ", len(frames[-1]), len(part))
    start = 32 + len(extension)
    flags = 2 if extension else 0
    header = struct.pack(
        "<4sII4BI12x", b"NGSP", 4, count, degree, content[13], flags, len(widths), start
    )
    return header + extension + table + b"".join(frames)


def spz_1(scene: Gaussians) -> bytes:
    """Version 1: half-precision positions, rotations as three bytes."""
    means = scene.means.numpy() * [1, -1, -1]
    wxyz = torch.where(scene.rotations[:, :1] < 0, -scene.rotations, scene.rotations)
    xyz = (wxyz[:, 1:].numpy() * [1, -1, -1] * 127.5 + 127.5).round().clip(0, 255)
    content = spz_content(scene)
    count = len(scene)
    middle = content[16 + 9 * count : 16 + 16 * count]
    header = struct.pack("<4sII4B", b"NGSP", 1, count, 0, 12, 0, 0)
    body = means.astype("<f2").tobytes() + middle + xyz.astype("u1").tobytes()
    return gzip.compress(header + body, mtime=0)


def compressed_ply(scene: Gaussians) -> bytes:
    """PlayCanvas' layout: one chunk, colors with bounds of their own."""
    logs = scene.scales.log().numpy()
    colors = (scene.harmonics[:, :, 0] * SH_DEGREE_0 + 0.5).numpy()
    parts = [scene.means.numpy(), logs, colors]
    low, high = (
        [part.min(axis=0) if end else part.max(axis=0) for part in parts] for end in (1, 0)
    )

    def pack(shares: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
        word = np.zeros(len(shares), np.uint32)
        for share, width in zip(shares.T, bits, strict=True):
            word = word << np.uint32(width) | (share * (2**width - 1)).round().astype(np.uint32)
        return word

    shares = [(p - a) / np.where(b > a, b - a, 1) for p, a, b in zip(parts, low, high, strict=True)]
    rgba = np.c_[shares[2], scene.opacities.numpy()]
    words = np.stack(
        [
            pack(shares[0], (11, 10, 11)),
            _smallest_three(scene.rotations.numpy()),
            pack(shares[1], (11, 10, 11)),
            pack(rgba, (8, 8, 8, 8)),
        ],
        axis=1,
    ).astype("<u4")
    rest = scene.harmonics[:, :, 1:].flatten(1).numpy()
    steps = (rest / 8 * 256 + 128 - 0.5).round().clip(0, 255).astype("u1")
    axes = [*"xyz", "scale_x", "scale_y", "scale_z", *"rgb"]
    names = [
        f"{end}_{axis}"
        for part in (axes[:3], axes[3:6], axes[6:])
        for end in ("min", "max")
        for axis in part
    ]
    bounds = np.concatenate([row for pair in zip(low, high, strict=True) for row in pair]).astype(
        "<f4"
    )
    lines = ["ply", "format binary_little_endian 1.0", "element chunk 1"]
    lines += [f"property float {name}" for name in names]
    lines += [f"element vertex {len(scene)}"]
    lines += [f"property uint packed_{name}" for name in ("position", "rotation", "scale", "color")]
    if rest.size:
        lines += [f"element sh {len(scene)}"]
        lines += [f"property uchar f_rest_{index}" for index in range(rest.shape[1])]
    header = "\n".join([*lines, "end_header", ""]).encode()
    return header + bounds.tobytes() + words.tobytes() + steps.tobytes()


def _smallest_three(wxyz: np.ndarray) -> np.ndarray:
    largest = np.abs(wxyz).argmax(axis=1)
    words = []
    for row, index in zip(wxyz, largest, strict=True):
        row = row * np.sign(row[index])
        word = int(index)
        for value in np.delete(row, index):
            word = word << 10 | round((value / 2**0.5 + 0.5) * 1023)
        words.append(word)
    return np.array(words, np.uint32)


def glb_elsewhere(scene: Gaussians) -> bytes:
    """glTF of another program: turned about z, half as large, moved, in a node inside a node."""
    content = b"".join(encode_glb(scene))
    length = struct.unpack_from("<I", content, 12)[0]
    document = json.loads(content[20 : 20 + length])
    document["asset"]["generator"] = "another program"
    document["nodes"] = [
        {"children": [1], "translation": [1.0, 2.0, 3.0]},
        {"mesh": 0, "rotation": [0.0, 0.0, 1.0, 0.0], "scale": [0.5, 0.5, 0.5]},
    ]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = content[20 + length :]
    return (
        struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON")
        + text
        + rest
    )


def sog(scene: Gaussians, version: int = 2) -> bytes:
    """Version 2 with a codebook of exactly the values there are, or version 1 with ranges."""
    logs = (scene.means.sign() * scene.means.abs().log1p()).numpy()
    low, high = logs.min(axis=0), logs.max(axis=0)
    fixed = ((logs - low) / (high - low) * 65535).round().astype(np.uint16)
    images = {"means_l.webp": fixed & 255, "means_u.webp": fixed >> 8}
    wxyz = scene.rotations.numpy()
    largest = np.abs(wxyz).argmax(axis=1)
    quats = []
    for row, index in zip(wxyz, largest, strict=True):
        three = np.delete(row * np.sign(row[index]), index)
        quats.append([*(three * 2**0.5 * 127.5 + 127.5).round(), 252 + index])
    images["quats.webp"] = np.array(quats)
    meta: dict = {
        "means": {
            "mins": low.tolist(),
            "maxs": high.tolist(),
            "files": ["means_l.webp", "means_u.webp"],
        },
        "quats": {"files": ["quats.webp"]},
    }
    opacity = np.round(scene.opacities.numpy() * 255)
    for name, values in (
        ("scales", scene.scales.log().numpy()),
        ("sh0", scene.harmonics[:, :, 0].numpy()),
    ):
        if version == 2:
            codebook = sorted(set(values.ravel().tolist()))
            steps = np.searchsorted(codebook, values)
            meta[name] = {"codebook": codebook + [0.0] * (256 - len(codebook))}
        else:
            a, b = values.min(axis=0), values.max(axis=0) + 1e-6
            steps = ((values - a) / (b - a) * 255).round()
            meta[name] = {"mins": a.tolist(), "maxs": b.tolist()}
        if name == "sh0":
            if version == 1:
                logits = scene.opacities.clamp(1e-4, 1 - 1e-4).logit().numpy()
                opacity = ((logits + 10) / 20 * 255).round()
                meta[name] = {
                    "mins": [*meta[name]["mins"], -10.0],
                    "maxs": [*meta[name]["maxs"], 10.0],
                }
            steps = np.c_[steps, opacity]
        meta[name]["files"] = [f"{name}.webp"]
        images[f"{name}.webp"] = steps
    rest = scene.harmonics[:, :, 1:].numpy()
    if rest.size and version == 2:
        codebook = sorted(set(rest.ravel().tolist()))
        terms = rest.shape[2]
        palette = np.zeros((64 * terms, 3))
        palette[: len(scene) * terms] = (
            np.searchsorted(codebook, rest).transpose(0, 2, 1).reshape(-1, 3)
        )
        bands = round((terms + 1) ** 0.5) - 1
        files = ["shN_centroids.webp", "shN_labels.webp"]
        meta["shN"] = {"count": len(scene), "bands": bands, "codebook": codebook, "files": files}
        images["shN_centroids.webp"] = palette
        images["shN_labels.webp"] = np.c_[np.arange(len(scene)), np.zeros((len(scene), 2))]
    meta |= {"version": 2, "count": len(scene)} if version == 2 else {}
    if version == 1:
        meta["means"]["shape"] = [len(scene), 3]
    return sog_archive(meta, images)


def sog_archive(meta: dict, images: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("meta.json", json.dumps(meta))
        for name, values in images.items():
            values = np.asarray(values)
            width = 64 * (len(values) // 64) if "centroids" in name else len(values)
            pixels = np.full((len(values), 4), 255, np.uint8)
            pixels[:, : values.shape[1]] = values
            picture = Image.fromarray(pixels.reshape(-1, width, 4))
            file = io.BytesIO()
            picture.save(file, "WEBP", lossless=True, exact=True)
            archive.writestr(name, file.getvalue())
    return stream.getvalue()


def ksplat(scene: Gaussians, level: int = 0) -> bytes:
    """One section; above level 0 a full bucket of two Gaussians and a partial one with the rest."""
    count, terms = len(scene), scene.harmonics.shape[2]
    degree = round(terms**0.5) - 1
    centers = np.array([[0.0, 0.0, 2.0], [0.0, 0.0, 3.0]], "<f4")
    bucket = np.array([0, 0] + [1] * (count - 2))
    number = "<f2" if level else "<f4"
    means = scene.means.numpy()
    if level:
        means = ((means - centers[bucket]) / (5.0 / 2 / 32767) + 32767).round().clip(0, 65535)
    color = np.c_[scene.harmonics[:, :, 0].numpy() * SH_DEGREE_0 + 0.5, scene.opacities.numpy()]
    rest = [
        scene.harmonics[:, :, each**2 : (each + 1) ** 2].flatten(1).numpy()
        for each in range(1, degree + 1)
    ]
    harmonics = np.concatenate(rest, axis=1) if rest else np.empty((count, 0))
    if level == 2:
        harmonics = ((harmonics + 1.5) / 3 * 255).round()
    fields = [
        means.astype("<u2" if level else "<f4"),
        scene.scales.numpy().astype(number),
        scene.rotations.numpy().astype(number),
        (color * 255).round().astype("u1"),
        harmonics.astype({0: "<f4", 1: "<f2", 2: "u1"}[level]),
    ]
    records = b"".join(part[index].tobytes() for index in range(count) for part in fields)
    header = struct.pack("<BB2xIIIIH14xff", 0, 1, 1, 1, count, count, level, -1.5, 1.5)
    buckets = (2, 2, 5.0, 12, 32767, 0, 1, 1) if level else (0, 0, 0.0, 0, 0, 0, 0, 0)
    section = struct.pack("<IIIIfHxxIIIIH", count, count, *buckets, degree)
    meta = struct.pack("<I", count - 2) + centers.tobytes() if level else b""
    return header.ljust(4096, b"\0") + section.ljust(1024, b"\0") + meta + records


FILES = {
    "3dgs.ply": lambda scene: b"".join(encode_ply(scene)),
    "ply.gz": lambda scene: gzip.compress(b"".join(encode_ply(scene)), mtime=0),
    "compressed.ply": compressed_ply,
    "v1.spz": spz_1,
    "v3.spz": lambda scene: b"".join(encode_spz(scene)),
    "v4.spz": spz_4,
    "extended.spz": lambda scene: spz_4(scene, b"extension"),
    "ours.glb": lambda scene: b"".join(encode_glb(scene)),
    "elsewhere.glb": glb_elsewhere,
    "v2.sog": sog,
    "v1.sog": lambda scene: sog(scene, 1),
    "plain.ksplat": ksplat,
    "half.ksplat": lambda scene: ksplat(scene, 1),
    "bytes.ksplat": lambda scene: ksplat(scene, 2),
    "web.splat": lambda scene: b"".join(encode_splat(scene)),
}
