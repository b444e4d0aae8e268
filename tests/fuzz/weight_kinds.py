"""Damaged weights, chunks and other files of tensors and arrays."""

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chunk_factory import make_root
from fuzz.damage import VALUES, damaged_bytes, damaged_json, damaged_tree
from fuzz.kinds import Case, kind, strange_numbers
from hypothesis.strategies import DataObject, integers, sampled_from
from mesh_factory import MESHES
from tiny_weights import ABOUT, TINY, published_state

from models.weights import empty_network, save_network


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
                text, numbers = content[8 : 8 + length], strange_numbers(data, body)
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


@kind("meshes")
def meshes(folder: Path) -> Case:
    arrays = MESHES
    strange = (
        np.zeros(0),
        np.array(1.5),
        np.array([0, 2**40]),
        np.full((12, 3), np.nan),
        np.zeros((3, 3), complex),
        np.array(["a", "b"]),
        np.arange(5),
        -np.ones((24, 3), np.int64),
        np.zeros((1 << 24,), np.uint8),
    )

    def case(data: DataObject, case_folder: Path) -> list[str]:
        target = case_folder / "meshes.npz"
        changed = dict(arrays)
        for _ in range(data.draw(integers(1, 2))):
            name = data.draw(sampled_from(tuple(arrays)))
            if data.draw(integers(0, 1)):
                changed[name] = data.draw(sampled_from(strange))
            else:
                content = strange_numbers(data, arrays[name].tobytes(), arrays[name].dtype.str)
                changed[name] = np.frombuffer(content, arrays[name].dtype)
                changed[name] = changed[name].reshape(arrays[name].shape)
        stream = io.BytesIO()
        (np.savez_compressed if data.draw(integers(0, 1)) else np.savez)(stream, **changed)
        content = stream.getvalue()
        target.write_bytes(
            content if data.draw(integers(0, 2)) else data.draw(damaged_bytes(content))
        )
        out = str(case_folder / "sheet.png")
        size = ["--size", "32x32", "--count", "1"]
        return ["data", "sheet", "-o", out, "--meshes", str(target), *size]

    return case
