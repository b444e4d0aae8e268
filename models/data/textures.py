"""Textures from a folder of photos, or from noise."""

from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor


def load_textures(
    folder: Path, count: int, size: int, generator: torch.Generator
) -> Float[Tensor, "texture 3 size size"]:
    """Central squares of random images in a folder, resized; fewer if there are not as many."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    if not paths:
        raise ValueError(f"no .jpg or .png in {folder}")
    order = torch.randperm(len(paths), generator=generator, device=generator.device)[:count]
    textures = torch.empty(len(order), 3, size, size)
    for texture, index in zip(textures, order.tolist(), strict=True):
        image = Image.open(paths[index]).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.resize(
            (size, size), box=(left, top, left + side, top + side), reducing_gap=2
        )
        data = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8)
        texture.copy_(data.view(size, size, 3).permute(2, 0, 1) / 255)
    return textures


def noise_textures(
    count: int, size: int, generator: torch.Generator
) -> Float[Tensor, "texture 3 size size"]:
    """Clouds of random color, grain and sharpness."""
    device = generator.device
    textures = torch.zeros(count, 3, size, size, device=device)
    octave = 2
    weights = torch.rand(count, 1, 1, 1, 16, generator=generator, device=device)
    while octave <= size:
        noise = torch.rand(count, 3, octave, octave, generator=generator, device=device)
        layer = torch.nn.functional.interpolate(noise, (size, size), mode="bilinear") - 0.5
        textures += layer * weights[..., octave.bit_length()]
        octave *= 2
    base = torch.rand(count, 3, 1, 1, generator=generator, device=device)
    sharp = 1 + 8 * torch.rand(count, 1, 1, 1, generator=generator, device=device)
    return (0.5 * base + 0.5 * torch.sigmoid(sharp * textures)).clamp(0, 1)
