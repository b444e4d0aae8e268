"""Examples as training takes them: context views, target views, and their normalized cameras."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from models.data.augmentation import mirror_cameras
from models.data.crop import crop_camera, rescale_and_crop
from models.data.sampling import Sample
from models.data.scenes import Scene, decode, to_float
from models.data.settings import DataSettings
from models.geometry.camera import Camera, stack_cameras
from models.geometry.rigid import invert


@dataclass(frozen=True)
class ExampleBatch:
    """Views of several scenes.

    Images are RGB in [0, 1]; cameras are (batch, view). The world is the first context view's
    camera (its `world2cam` is the identity); its unit is the distance from there to the last
    context view's, which was `scale` before: the published near plane is 0.1 / scale, far
    100 / scale.
    """

    images: Float[Tensor, "batch view 3 height width"]
    cameras: Camera
    target_images: Float[Tensor, "batch target 3 height width"]
    target_cameras: Camera
    scale: Float[Tensor, " batch"]
    keys: tuple[str, ...]

    def to(self, device: torch.device) -> "ExampleBatch":
        """Copy to a device; the original is untouched."""
        moved = {name: value.to(device) for name, value in vars(self).items() if name != "keys"}
        return replace(self, **moved)

    def __getitem__(self, index: slice) -> "ExampleBatch":
        """Select scenes of a batch."""
        return ExampleBatch(*(value[index] for value in vars(self).values()))


@dataclass(frozen=True)
class Example:
    """One scene of a batch; context views first, then targets."""

    pixels: UInt8[Tensor, "view 3 height width"]
    cameras: Camera
    scale: float
    key: str


def make_example(
    scene: Scene,
    sample: Sample,
    settings: DataSettings,
    size: tuple[int, int],
    *,
    flip: bool = False,
) -> Example:
    """Decode, filter, crop and normalize the views of a sample.

    Args:
        scene: Its cameras must be good ones.
        sample: Frame numbers.
        settings: Of the data set the scene is from.
        size: (height, width) of the result.
        flip: Mirror the world from left to right; unlike the published code's, the principal
            point moves along.

    Raises:
        ValueError: If the sample does not pass the filters; says which and why.
    """
    frames = [*sample.context, *sample.targets]
    check_fov(scene.intrinsics[frames], settings.max_fov_deg)
    world2cam, scale = normalize_poses(
        scene.world2cam[frames], len(sample.context), settings.baselines
    )
    crops = {
        frame: _crop_frame(scene, frame, settings, size, flip) for frame in dict.fromkeys(frames)
    }
    pixels, cropped = zip(*(crops[frame] for frame in frames), strict=True)
    cameras = replace(stack_cameras(cropped), world2cam=world2cam)
    if flip:
        cameras = mirror_cameras(cameras)
    return Example(torch.stack(pixels), cameras, scale, scene.key)


def collate(examples: Sequence[Example], context: int) -> ExampleBatch:
    """Stack examples of one size; the first `context` views of each are its context."""
    images = to_float(torch.stack([example.pixels for example in examples]))
    cameras = stack_cameras([example.cameras for example in examples])
    return ExampleBatch(
        images=images[:, :context],
        cameras=cameras[:, :context],
        target_images=images[:, context:],
        target_cameras=cameras[:, context:],
        scale=torch.tensor([example.scale for example in examples]),
        keys=tuple(example.key for example in examples),
    )


def check_fov(intrinsics: Float[Tensor, "view 3 3"], max_fov_deg: float) -> None:
    """Refuse views whose horizontal or vertical field of view is wider than a limit.

    The angle is between the rays through the middles of opposite edges.

    Raises:
        ValueError: If one does.
    """
    edges = intrinsics.new_tensor([[0, 0.5, 1], [1, 0.5, 1], [0.5, 0, 1], [0.5, 1, 1]])
    rays = torch.linalg.solve_ex(intrinsics, edges.T.expand(len(intrinsics), 3, 4)).result
    rays = torch.nn.functional.normalize(rays, dim=1)
    cosines = (rays[..., ::2] * rays[..., 1::2]).sum(1)
    widest = float(cosines.clamp(-1, 1).acos().max().rad2deg())
    if not widest <= max_fov_deg:
        raise ValueError(f"a view sees {widest:.0f} degrees, more than {max_fov_deg:g}")


def normalize_poses(
    world2cam: Float[Tensor, "view 4 4"], context: int, baselines: tuple[float, float]
) -> tuple[Float[Tensor, "view 4 4"], float]:
    """Move the world to the first view's camera, and scale the last context view's distance to 1.

    Returns:
        The poses, and the distance that lengths were divided by.

    Raises:
        ValueError: If that distance is not between the two bounds.
    """
    exact = world2cam.double()
    relative = exact @ invert(exact[:1])
    relative[0] = torch.eye(4)
    scale = float(relative[context - 1, :3, 3].norm())
    low, high = baselines
    if not low <= scale <= high:
        raise ValueError(f"its baseline is {scale:.3g}, not between {low:g} and {high:g}")
    relative[:, :3, 3] /= scale
    return relative.float(), scale


def _crop_frame(
    scene: Scene, frame: int, settings: DataSettings, size: tuple[int, int], flip: bool
) -> tuple[UInt8[Tensor, "3 height width"], Camera]:
    """Return a frame's pixels at the network's size, and its camera."""
    try:
        image = decode(scene.images[frame])
        shape = image.height, image.width
        settings.check_size(shape)
        camera = Camera(scene.intrinsics[frame], scene.world2cam[frame], shape)
        cropped = crop_camera(camera, size, move_center=settings.move_center)
        return rescale_and_crop(image, size, flip=flip), cropped
    except ValueError as error:
        raise ValueError(f"frame {frame}: {error}") from error
