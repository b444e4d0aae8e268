"""What `torch.save` wrote, and what pretends to be that: no more memory than the file has bytes."""

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from models.files.pickled import is_state, read_pickled


def write(path: Path, pickled: bytes, compression: int = zipfile.ZIP_STORED, **entries: bytes):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {"data.pkl": pickled, "version": b"3\n", **entries}.items():
            archive.writestr(f"archive/{name}", content)
    return path


def call(function: str, argument: bytes) -> bytes:
    """A pickle that calls a function, `module name`, with one argument."""
    module, name = function.split()
    return b"\x80\x02c%s\n%s\n%s\x85R." % (module.encode(), name.encode(), argument)


HUGE = pickle.dumps(6_000_000_000, protocol=2)[2:-1]


def test_tensors_and_plain_values_come_back(tmp_path: Path):
    path = tmp_path / "x.ckpt"
    saved = {"a": torch.arange(6).view(2, 3), "b": [1, "two", None, 2.5, True, torch.float16]}
    torch.save(saved, path)
    loaded = read_pickled(path)
    assert torch.equal(loaded.pop("a"), saved.pop("a")) and loaded == saved


@pytest.mark.parametrize(
    ("pickled", "why"),
    [
        (b"\x80\x02Nr\x00\x00\x00 .", "more memory"),  # a memo of half a billion entries
        (call("builtins bytearray", HUGE), "bytearray"),
        (call("torch FloatTensor", HUGE), "FloatTensor"),
        (call("torch.storage UntypedStorage", HUGE), "UntypedStorage"),
        (call("torch._utils _rebuild_meta_tensor_no_storage", HUGE), "_rebuild_meta"),
        (call("os system", b"X\x04\x00\x00\x00true"), "system, which was not done"),
        (b"\x80\x02(cos\nsystem\n", "system"),
        (b"", "exhausted"),
        (b"\x80\x02.", "."),
        (b"\x80\x02}X\x01\x00\x00\x00aQ.", "."),
        (b"\x80\x02" + b"]" * 50, "."),
    ],
)
def test_a_structure_that_asks_for_more_is_refused(tmp_path: Path, pickled: bytes, why: str):
    with pytest.raises(ValueError, match=why) as caught:
        read_pickled(write(tmp_path / "x.ckpt", pickled))
    assert str(caught.value) and "\n" not in str(caught.value)


def test_compressed_entries_are_refused_unread(tmp_path: Path):
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1000)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        pickled = archive.read("archive/data.pkl")
    path = write(tmp_path / "x.ckpt", pickled, zipfile.ZIP_DEFLATED, **{"data/0": bytes(4000)})
    with pytest.raises(ValueError, match="compressed"):
        read_pickled(path)


def test_a_tensor_with_more_elements_than_its_storage_is_no_weight(tmp_path: Path):
    path = tmp_path / "x.ckpt"
    torch.save({"a": torch.zeros(1).expand(10**9), "b": torch.ones(2)}, path)
    loaded = read_pickled(path)
    assert not is_state(loaded)
    del loaded["a"]
    assert is_state(loaded)
    assert not is_state({1: torch.ones(2)}) and not is_state([]) and not is_state({"a": 1})


@pytest.mark.parametrize("kept", [0, 3, 200, 900])
def test_a_file_cut_short_is_said_to_be(tmp_path: Path, kept: int):
    path = tmp_path / "x.ckpt"
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="cut short"):
        read_pickled(path)
