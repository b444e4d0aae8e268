"""Loading of assets of worlds from folders and files, and textures of noise."""

from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from models.data.procedural import Assets
from models.data.procedural.meshes import load_meshes


def load_textures(
    folder: Path, count: int, size: int, generator: torch.Generator
) -> Float[Tensor, "texture 3 size size"]:
    """Load central squares of random images in a folder; fewer if there are not as many."""
    paths = _find_images(folder)
    order = torch.randperm(len(paths), generator=generator, device=generator.device)[:count]
    textures = torch.empty(len(order), 3, size, size)
    for texture, index in zip(textures, order.tolist(), strict=True):
        image = Image.open(paths[index]).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.resize(
            (size, size), box=(left, top, left + side, top + side), reducing_gap=2
        )
        texture.copy_(_to_tensor(square))
    return textures


def load_panoramas(folder: Path, height: int = 256) -> Float[Tensor, "panorama 3 height width"]:
    """Load all images of a folder as equirectangular panoramas, twice as wide as high."""
    images = [Image.open(path).convert("RGB") for path in _find_images(folder)]
    return torch.stack([_to_tensor(image.resize((2 * height, height))) for image in images])


def load_assets(
    textures: Path | None,
    panoramas: Path | None,
    meshes: Path | None,
    count: int,
    size: int,
    generator: torch.Generator,
) -> Assets:
    """Load the assets of worlds, on the CPU.

    Args:
        textures: A folder of images to cut textures from; noise without one.
        panoramas: A folder of equirectangular ones.
        meshes: A file of them; see `load_meshes`.
        count: Number of textures, at most.
        size: Of the textures, in pixels.
        generator: Chooses textures, or makes noise.

    Raises:
        ValueError: If there is nothing of use in one of them.
    """
    if textures is None:
        made = noise_textures(min(count, 100), size, generator)
    else:
        made = load_textures(textures, count, size, generator)
    return Assets(
        made,
        None if panoramas is None else load_panoramas(panoramas),
        None if meshes is None else load_meshes(meshes),
    )


def _find_images(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    if not paths:
        raise ValueError(f"no .jpg or .png in {folder}")
    return paths


def _to_tensor(image: Image.Image) -> Float[Tensor, "3 height width"]:
    data = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return data.view(image.height, image.width, 3).permute(2, 0, 1) / 255


def noise_textures(
    count: int, size: int, generator: torch.Generator
) -> Float[Tensor, "texture 3 size size"]:
    """Make fractal noise of random color, octaves and contrast."""
    device = generator.device
    textures = torch.zeros(count, 3, size, size, device=device)
    octave = 2
    weights = torch.rand(count, 1, 1, 1, 16, generator=generator, device=device)
    while octave <= size:
        noise = torch.rand(count, 3, octave, octave, generator=generator, device=device)
        layer = torch.nn.functional.interpolate(noise, (size, size), mode="bilinear") - 0.5
        textures += layer * weights[..., octave.bit_length()]
        octave *= 2
    mean = torch.rand(count, 3, 1, 1, generator=generator, device=device)
    sharp = 1 + 8 * torch.rand(count, 1, 1, 1, generator=generator, device=device)
    return (0.5 * mean + 0.5 * torch.sigmoid(sharp * textures)).clamp(0, 1)
