"""Damage to files that know their structure: bytes, JSON, and trees of Python values."""

import json
import re
import struct
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

PIECES = (
    *(b"\0" * 4, b"\xff" * 4, b"\xff", b"\0", b" ", b"\n", b"-", b"\0" * 64),
    *(struct.pack("<f", value) for value in (float("nan"), float("inf"), -3e38, 1e-40)),
    *(struct.pack("<I", value) for value in (1, 1 << 16, (1 << 31) - 1, 1 << 31)),
    *(struct.pack("<Q", 1 << shift) for shift in (31, 40, 63)),
)
NUMBERS = (
    *(0, -1, 1, 2, 3, 255, 256, 65_536, 2**31, 2**32 - 1, 2**53, 2**63, 2**64, -(2**63), 10**30),
    *(0.5, -0.5, 1.5, -0.0, 1e-300, 1e-40, 1e30, 1e39, 1e300),
    *(float("nan"), float("inf"), -float("inf")),
)
TEXTS = ("", "x", "\0", "\n", "é" * 300, "a" * 5000, "..", "/", "/dev/zero", "{}", "1", "nan")
VALUES = (*NUMBERS, *TEXTS, None, True, False, [], {}, [[]], [0] * 9, [[0] * 4] * 4)
RAW = {  # JSON that Python's values do not make
    f"@@{name}@@": text
    for name, text in {
        "large": "1e400",
        "digits": "9" * 5000,
        "deep": "[" * 100_000 + "]" * 100_000,
        "open": "[" * 100_000,
        "nested": '{"a":' * 3000 + "1" + "}" * 3000,
        "surrogate": '"\\ud800"',
        "twice": '{"a": 1, "a": 2}',
        "half": "tru",
        "tiny": "1e-400",
    }.items()
}


@st.composite
def damaged_bytes(draw: DrawFn, content: bytes, most: int = 3) -> bytes:
    """Overwrite, insert, delete or repeat a few pieces, or cut the end off."""
    for _ in range(draw(st.integers(1, most))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        action = draw(st.sampled_from(("overwrite", "flip", "insert", "delete", "repeat", "cut")))
        if action == "cut":
            content = content[:place]
            continue
        before, after = content[:place], content[place:]
        if action == "flip":
            content = before + bytes([after[0] ^ 1 << draw(st.integers(0, 7))] if after else [])
            content += after[1:]
        elif action in ("overwrite", "insert"):
            piece = draw(st.sampled_from(PIECES) | st.binary(min_size=1, max_size=8))
            content = before + piece + after[len(piece) if action == "overwrite" else 0 :]
        else:
            length = draw(st.integers(1, 64))
            kept = after[length:] if action == "delete" else after[:length] + after
            content = before + kept
    return content


@st.composite
def damaged_tree(draw: DrawFn, tree: Any, values: tuple[Any, ...] = VALUES, most: int = 2) -> Any:
    """Replace, drop or repeat a few values in nested dicts and lists."""
    for _ in range(draw(st.integers(1, most))):
        tree = _damage_one(draw, tree, values)
    return tree


def _damage_one(draw: DrawFn, tree: Any, values: tuple[Any, ...]) -> Any:
    if not isinstance(tree, dict | list) or not tree or draw(st.integers(0, 6)) == 0:
        return draw(st.sampled_from(values))
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    key = draw(st.sampled_from(keys))
    tree = tree.copy()
    action = draw(st.sampled_from(("inside", "inside", "inside", "drop", "repeat")))
    if action == "inside":
        tree[key] = _damage_one(draw, tree[key], values)
    elif action == "drop":
        del tree[key]
    elif isinstance(tree, list):
        tree = tree[:key] + [tree[key]] * draw(st.sampled_from((2, 3, 50))) + tree[key + 1 :]
    else:
        tree[draw(st.sampled_from(TEXTS))] = tree[key]
    return tree


@st.composite
def damaged_json(draw: DrawFn, document: Any) -> bytes:
    """Damage a document's values, its numbers as text, or its bytes."""
    action = draw(st.sampled_from(("tree", "tree", "raw", "bytes")))
    if action == "bytes":
        return draw(damaged_bytes(json.dumps(document).encode()))
    values = VALUES if action == "tree" else tuple(RAW)
    text = json.dumps(draw(damaged_tree(document, values)))
    return re.sub('"(@@[a-z]+@@)"', lambda found: RAW[found[1]], text).encode()
