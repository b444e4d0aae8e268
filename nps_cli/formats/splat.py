""".splat: 32 bytes a Gaussian, read by antimatter15/splat and other web viewers; both ways.

Lossy: colors, opacities and rotations are bytes, and spherical harmonics are cut to degree 0.
"""

from collections.abc import Iterator

import numpy as np
import torch

from models.geometry.gaussians import SH_DEGREE_0, Gaussians
from nps_cli.errors import NpsError
from nps_cli.formats.scene_file import COPY_AGAIN, PIECE, SceneFile, Source

RECORD = np.dtype(
    [("mean", "<f4", 3), ("scale", "<f4", 3), ("color", "u1", 4), ("rotation", "u1", 4)]
)
QUATERNION_ZERO = 128  # byte of a component 0; -1 is at 0, +1 at 256, clipped to 255


def encode_splat(gaussians: Gaussians) -> Iterator[bytes]:
    """Yield a file by decreasing volume times opacity: viewers draw while they load."""
    log_volume = gaussians.scales.clamp(min=1e-12).log().sum(dim=1)
    order = (log_volume + gaussians.opacities.clamp(min=1e-12).log()).argsort(descending=True)
    del log_volume
    for indices in order.split(PIECE):
        yield _encode_piece(gaussians.at(indices))


def _encode_piece(gaussians: Gaussians) -> bytes:
    color = 0.5 + SH_DEGREE_0 * gaussians.harmonics[:, :, 0]
    rotation = torch.nn.functional.normalize(gaussians.rotations, dim=-1)
    records = np.empty(len(gaussians), RECORD)
    for name, values in (
        ("mean", gaussians.means),
        ("scale", gaussians.scales),
        ("color", torch.cat([color, gaussians.opacities[:, None]], dim=1) * 255),
        ("rotation", rotation * QUATERNION_ZERO + QUATERNION_ZERO),
    ):
        values = values.detach().float().cpu()
        is_byte = RECORD[name].base == np.uint8
        records[name] = (values.round().clamp(0, 255) if is_byte else values).numpy()
    return records.tobytes()


def open_splat(source: Source) -> SceneFile:
    """Return a scene; raise NpsError if the file is not a whole number of Gaussians."""
    size = source.limit or 0
    if not size or size % RECORD.itemsize:
        raise NpsError(
            f"{source.name} is no .splat file, or cut short: {size} bytes are no multiple of "
            f"{RECORD.itemsize}.",
            hint=COPY_AGAIN,
        )
    count = size // RECORD.itemsize
    return SceneFile(".splat", count, 0, [], _decode(source, count))


def _decode(source: Source, count: int) -> Iterator[Gaussians]:
    for start in range(0, count, PIECE):
        content = source.read(min(PIECE, count - start) * RECORD.itemsize)
        records = np.frombuffer(content, RECORD)
        color = torch.from_numpy(records["color"].astype(np.float32) / 255)
        rotation = torch.from_numpy(records["rotation"].astype(np.float32) - QUATERNION_ZERO)
        rotation[(rotation == 0).all(dim=1), 0] = 1
        yield Gaussians(
            means=torch.from_numpy(records["mean"].astype(np.float32)),
            scales=torch.from_numpy(records["scale"].astype(np.float32)),
            rotations=torch.nn.functional.normalize(rotation, dim=-1),
            harmonics=((color[:, :3] - 0.5) / SH_DEGREE_0)[:, :, None],
            opacities=color[:, 3],
        )
