"""Depth maps as files: the numbers, and a picture to look at."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def write_depths(depths: "Sequence[Tensor]", folder: Path, *, force: bool) -> None:
    """Write 00000.npy (float32 z in scene units, height x width) and 00000.png per photo."""
    import numpy as np
    import torch

    from models.geometry.colormap import color_depth, depth_range
    from nps_cli.formats.video import write_png
    from nps_cli.output import whole_folder

    maps = [depth.detach().float().cpu() for depth in depths]
    near, far = depth_range(torch.cat([depth.flatten() for depth in maps]))
    with whole_folder(folder, force=force) as temporary:
        for index, depth in enumerate(maps):
            np.save(temporary / f"{index:05d}.npy", depth.numpy())
            write_png(color_depth(depth, near, far), temporary / f"{index:05d}.png")
