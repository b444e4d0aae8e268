"""Read what `torch.save` wrote, without running code or trusting sizes that the file states."""

import argparse
import pickletools
import re
import zipfile
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor

from models.files.regular import check_regular

MAX_PICKLE_BYTES = 64 * 2**20  # of a file's structure; tensors lie beside it
# What a file may name: tensors' storages and data types, and containers that are no larger than
# what is put into them. Others run code, or reserve as much memory as a number says.
HARMLESS = re.compile(
    r"torch (?!Untyped|Typed)\w+Storage|torch (Size|device|(u?int|b?float|complex)\d+|bool)"
    r"|torch\._utils _rebuild_(tensor_v2|parameter)|collections (OrderedDict|Counter)"
    r"|(builtins|__builtin__) (set|complex)|_codecs encode|argparse Namespace"
)


def read_pickled(path: Path) -> object:
    """Return tensors, memory-mapped, and plain values. Code never runs.

    Raises:
        ValueError: If the file is something else, broken, or asks for more than it has.
    """
    size = check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            structure = _check_entries(archive, size)
            _check_structure(archive.read(structure))
        with torch.serialization.safe_globals([argparse.Namespace]):  # MASt3R's settings
            return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except zipfile.BadZipFile as error:
        raise ValueError(f"it is cut short, or no archive: {error}") from error
    except Exception as error:  # files from elsewhere: whatever is wrong, it is named
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(reason) from error


def is_state(value: object) -> TypeGuard[dict[str, Tensor]]:
    """Return True for tensors by name, none of which is larger than what the file has of it."""
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) and has_own_elements(tensor)
        for name, tensor in value.items()
    )


def has_own_elements(tensor: Tensor) -> bool:
    """Return True if a tensor's storage holds all its elements, so that copies are no larger."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _check_entries(archive: zipfile.ZipFile, size: int) -> zipfile.ZipInfo:
    """Return the entry of the structure, if no entry is compressed or larger than the file."""
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its parts are compressed")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("its parts are larger than the file")
    structure = next((each for each in entries if each.filename.endswith("/data.pkl")), None)
    if structure is None or structure.file_size > MAX_PICKLE_BYTES:
        raise ValueError("it has no data.pkl of a usual size")
    return structure


def _check_structure(pickled: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in ("GLOBAL", "INST") and not HARMLESS.fullmatch(str(argument)):
            name = str(argument).replace(" ", ".")
            raise ValueError(f"it asks to run {name}, which was not done")
        if opcode.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(pickled):
            raise ValueError("it asks for more memory than it has content")
