"""A scene file while it is read: its facts, and its Gaussians in pieces that are checked."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

import torch

from models.geometry.gaussians import PARAMETERS, Gaussians, find_valid
from nps_cli import console
from nps_cli.errors import NpsError

PIECE = 1 << 18  # Gaussians that are decoded at a time
PIECE_BYTES = 1 << 24
MAX_BROKEN = 0.1  # share of the Gaussians that may be left out
MAX_EXPANSION, MIN_EXPANDED_BYTES = 50, 1 << 24  # of compressed data, over its size


@dataclass(frozen=True)
class SceneFile:
    """The facts of a header, and an iterator that decodes the rest; both can be read once.

    Attributes:
        kind: Name of the format, such as "PLY".
        count: Number of Gaussians.
        sh_degree: Degree of their spherical harmonics.
        comments: Lines for `read_cameras`.
        pieces: The Gaussians, at most `PIECE` at a time.
    """

    kind: str
    count: int
    sh_degree: int
    comments: list[str]
    pieces: Iterator[Gaussians]


@dataclass(frozen=True)
class Source:
    """An open file, its name for messages, and how many bytes it may hold; None: not known."""

    file: BinaryIO
    name: str
    limit: int | None

    def read(self, length: int) -> bytes:
        """Return exactly `length` bytes; raise NpsError if the file ends before."""
        content = bytearray()
        with self.damage_named():
            while len(content) < length:
                piece = self.file.read(min(length - len(content), PIECE_BYTES))
                if not piece:
                    raise cut_short(self.name)
                content += piece
        return bytes(content)

    def check_length(self, length: int) -> None:
        """Raise NpsError if the file cannot hold so much, before memory is allocated for it."""
        if self.limit is not None and length > self.limit:
            raise cut_short(self.name)

    @contextmanager
    def damage_named(self) -> Iterator[None]:
        """Turn what decompression raises into an NpsError."""
        import lzma
        import zlib

        import zstandard

        try:
            yield
        except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            raise damaged(self.name, str(error)) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise NpsError(f"{self.name} cannot be read ({reason}).", hint=COPY_AGAIN) from error


COPY_AGAIN = "Copy it again, or make it again."


def expansion_limit(compressed: int) -> int:
    """Return how many bytes a file of a size may decompress to: far more than any scene does."""
    return max(MAX_EXPANSION * compressed, MIN_EXPANDED_BYTES)


def cut_short(name: str) -> NpsError:
    """Return the error for a file with less in it than its header says."""
    return NpsError(f"{name} is cut short, or its header is damaged.", hint=COPY_AGAIN)


def damaged(name: str, reason: str) -> NpsError:
    """Return the error for a file that breaks its format's rules."""
    return NpsError(f"{name} is damaged ({reason}).", hint=COPY_AGAIN)


def check_pieces(scene: SceneFile, name: str) -> Iterator[Gaussians]:
    """Yield the pieces of a scene without broken Gaussians; say at the end how many they were.

    Raises NpsError if the scene is empty, or more than a tenth of it is broken.
    """
    if scene.count == 0:
        raise NpsError(f"{name} is empty: 0 Gaussians.", hint="Make the scene again.")
    broken = 0
    for piece in _decoded(scene, name):
        valid = find_valid(piece)
        lost = len(piece) - int(valid.sum())
        broken += lost
        if broken > MAX_BROKEN * scene.count:
            raise NpsError(
                f"{name}: at least {broken:,} of {scene.count:,} Gaussians are not finite, or "
                "impossible.",
                hint="The file is damaged; make it again.",
            )
        yield piece.select(valid) if lost else piece
    if broken:
        console.warning(
            f"{name}: {broken:,} of {scene.count:,} Gaussians are not finite, or impossible; they "
            "are left out"
        )


def _decoded(scene: SceneFile, name: str) -> Iterator[Gaussians]:
    """Yield the pieces of a scene; raise NpsError where its numbers contradict each other."""
    try:
        yield from scene.pieces
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise damaged(name, f"{type(error).__name__}: {error}") from error


def collect(scene: SceneFile, name: str) -> Gaussians:
    """Return all checked pieces as one, each tensor allocated once."""
    count, terms = scene.count, (scene.sh_degree + 1) ** 2
    shapes = (count, 3), (count, 3), (count, 4), (count, 3, terms), (count,)
    whole = Gaussians(*(torch.empty(shape) for shape in shapes))
    guessed = torch.zeros(count, dtype=torch.bool)
    filled = 0
    for piece in check_pieces(scene, name):
        for key in PARAMETERS:
            getattr(whole, key)[filled : filled + len(piece)] = getattr(piece, key)
        if piece.guessed is not None:
            guessed[filled : filled + len(piece)] = piece.guessed
        filled += len(piece)
    whole = replace(whole, guessed=guessed) if guessed.any() else whole
    return whole.map(lambda tensor: tensor[:filled]) if filled < count else whole
