""".splat: 32 bytes a Gaussian, what the first viewers for web pages read, both ways.

Colors, opacities and rotations are bytes and there are no harmonics but the constant one, so a
scene that is read back is only nearly what was written.
"""

from pathlib import Path

import numpy as np
import torch

from models.geometry.gaussians import SH_DEGREE_0, Gaussians
from nps_cli.errors import NpsError

RECORD = np.dtype(
    [("mean", "<f4", 3), ("scale", "<f4", 3), ("color", "u1", 4), ("rotation", "u1", 4)]
)
MIDDLE = 128  # the byte that stands for a zero of a quaternion; 1 is as far away


def save_splat(gaussians: Gaussians, path: Path) -> None:
    """Write a scene, the Gaussians that show most first: viewers draw while they load."""
    extent = gaussians.scales.clamp(min=1e-12).log().sum(dim=1)
    order = (extent + gaussians.opacities.clamp(min=1e-12).log()).argsort(descending=True)
    color = 0.5 + SH_DEGREE_0 * gaussians.harmonics[:, :, 0]
    rotation = torch.nn.functional.normalize(gaussians.rotations, dim=-1) * MIDDLE + MIDDLE
    records = np.empty(len(gaussians), RECORD)
    for name, values in (
        ("mean", gaussians.means),
        ("scale", gaussians.scales),
        ("color", torch.cat([color, gaussians.opacities[:, None]], dim=1) * 255),
        ("rotation", rotation),
    ):
        values = values[order].detach().float().cpu()
        whole = RECORD[name].base == np.uint8
        records[name] = (values.round().clamp(0, 255) if whole else values).numpy()
    path.write_bytes(records.tobytes())


def load_splat(path: Path) -> Gaussians:
    """Read a scene."""
    content = path.read_bytes()
    if not content or len(content) % RECORD.itemsize:
        raise NpsError(
            f"{path} is no .splat file, or cut short: {len(content)} bytes are no multiple of "
            f"{RECORD.itemsize}.",
            hint="Copy it again, or make it again.",
        )
    records = np.frombuffer(content, RECORD)
    color = torch.from_numpy(records["color"].astype(np.float32) / 255)
    rotation = torch.from_numpy(records["rotation"].astype(np.float32) - MIDDLE)
    rotation[(rotation == 0).all(dim=1), 0] = 1
    return Gaussians(
        means=torch.from_numpy(records["mean"].astype(np.float32)),
        scales=torch.from_numpy(records["scale"].astype(np.float32)),
        rotations=torch.nn.functional.normalize(rotation, dim=-1),
        harmonics=((color[:, :3] - 0.5) / SH_DEGREE_0)[:, :, None],
        opacities=color[:, 3],
    )
