"""Folders as other programs write them: nerfstudio's and COLMAP's, text and binary."""

import json
import struct
from pathlib import Path

import torch
from chunk_factory import SHAPE, make_scene

from models.geometry.rigid import invert, to_wxyz

HEIGHT, WIDTH = SHAPE
FX, FY, CX, CY = 57.6, 57.6, 33.0, 17.0
NORMALIZED = torch.tensor([[0.9, 0, 33 / 64], [0, 1.6, 17 / 36], [0, 0, 1]])
SCENE = make_scene("a", frames=11)


def write_images(folder: Path, name: str = "images") -> None:
    (folder / name).mkdir(parents=True)
    for frame, image in enumerate(SCENE.images):
        (folder / name / f"frame_{frame}.png").write_bytes(image.numpy().tobytes())


def opengl(world2cam: torch.Tensor) -> list[list[float]]:
    """The camera's x, y and z axes as columns: right, up, and backward."""
    right, down, forward, center = invert(world2cam)[:3].unbind(1)
    rows = torch.stack([right, -down, -forward, center], dim=1).tolist()
    return [*rows, [0, 0, 0, 1]]


def transforms(**changes) -> dict:
    frames = [
        {"file_path": f"images/frame_{frame}.png", "transform_matrix": opengl(world2cam)}
        for frame, world2cam in enumerate(SCENE.world2cam)
    ]
    camera = {"fl_x": FX, "fl_y": FY, "cx": CX, "cy": CY, "w": WIDTH, "h": HEIGHT}
    return camera | {"frames": frames[::-1]} | changes


def write_nerfstudio(folder: Path, **changes) -> Path:
    write_images(folder)
    (folder / "transforms.json").write_text(json.dumps(transforms(**changes)))
    return folder


def write_text_model(folder: Path, camera: str = f"PINHOLE {WIDTH} {HEIGHT} {FX} {FY} {CX} {CY}"):
    write_images(folder)
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    (model / "cameras.txt").write_text(f"# cameras\n7 {camera}\n")
    lines = ["# images"]
    for frame, world2cam in enumerate(SCENE.world2cam):
        pose = [*to_wxyz(world2cam[:3, :3]).tolist(), *world2cam[:3, 3].tolist()]
        lines += [f"{frame + 1} {' '.join(map(str, pose))} 7 frame_{frame}.png"]
        lines += ["" if frame % 2 else "1.5 2.5 -1 3.5 4.5 9"]
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_binary_model(folder: Path):
    write_images(folder)
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    camera = struct.pack("<iiQQ", 7, 2, WIDTH, HEIGHT) + struct.pack("<4d", FX, CX, CY, 0.1)
    (model / "cameras.bin").write_bytes(struct.pack("<Q", 1) + camera)
    content = struct.pack("<Q", len(SCENE))
    for frame, world2cam in enumerate(SCENE.world2cam):
        pose = [*to_wxyz(world2cam[:3, :3]).tolist(), *world2cam[:3, 3].tolist()]
        content += struct.pack("<i7di", frame + 1, *pose, 7)
        content += f"frame_{frame}.png".encode() + b"\0"
        content += struct.pack("<Q", frame % 3) + struct.pack("<ddq", 1.5, 2.5, -1) * (frame % 3)
    (model / "images.bin").write_bytes(content)
    return folder
