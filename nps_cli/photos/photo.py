"""The type of a loaded photo, and photos inside of frames."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nps_cli.photos.exif import (
    FILM_DIAGONAL_MM,
    GUESSED_35MM,
    CameraFacts,
    Source,
    focal_in_pixels,
)
from nps_cli.photos.intrinsics import pinhole

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from models.geometry.camera import Camera
    from models.geometry.views import View
    from models.sfm.shared_frame import Window


@dataclass(frozen=True)
class Photo:
    """A photo as people see it: upright, in sRGB, on white where it is transparent.

    Attributes:
        name: Of the file.
        image: RGB in [0, 1], possibly reduced.
        camera: Of the full upright photo, or of the window. Its pose is not known: the identity.
        intrinsics_source: What the focal length rests on.
        orientation: The EXIF tag that was found and applied, 1 to 8, or None.
        facts: What EXIF says about the camera.
        mask: True where the image is not transparent; None where all of it is opaque.
        window: The part of the file's upright picture that this is, where the rest is a frame.
    """

    name: str
    image: "Float[Tensor, '3 _height _width']"
    camera: "Camera"
    intrinsics_source: Source
    orientation: int | None
    facts: CameraFacts
    mask: "Bool[Tensor, '_height _width'] | None" = None
    window: "Window | None" = None

    @property
    def view(self) -> "View":
        """The image with its camera, as `models.reconstruct` takes it."""
        from models.geometry.views import View

        size = self.image.shape[1], self.image.shape[2]
        return View(self.image, self.camera.resized(size), self.mask)

    @property
    def hfov_deg(self) -> float:
        """Horizontal field of view, as if the principal point were central."""
        return math.degrees(2 * math.atan(0.5 / float(self.camera.intrinsics[0, 0])))

    @property
    def focal_35mm(self) -> float:
        """The 35 mm equivalent of the focal length, whatever its source, by the diagonal."""
        height, width = self.camera.size
        focal_px = float(self.camera.intrinsics[0, 0]) * width
        return focal_px * FILM_DIAGONAL_MM / math.hypot(width, height)

    @property
    def intrinsics_note(self) -> str:
        """The source of the focal length, in words that may follow it."""
        match self.intrinsics_source:
            case "exif-35mm":
                return f"{self.facts.focal_35mm:g} mm equivalent from EXIF"
            case "exif-sensor":
                return f"{self.facts.focal_mm:g} mm from EXIF and the sensor's size"
            case "given":
                return "as given"
            case "guessed":
                return f"guessed, {GUESSED_35MM:g} mm equivalent"
            case "estimated":
                return f"estimated from matches, {self.focal_35mm:.0f} mm equivalent"

    def inside(self, window: "Window") -> "Photo":
        """Return what is inside a frame, with its own camera; a guess is of its own size."""
        part = window.scaled(self.image.shape[2] / self.camera.size[1])
        camera = self.camera.cropped(window.top, window.left, window.size)
        if self.intrinsics_source == "guessed":
            focal_px, _ = focal_in_pixels(self.facts, window.size)
            matrix = pinhole(focal_px, window.size)
            camera = replace(camera, intrinsics=camera.intrinsics.new_tensor(matrix))
        return replace(self, image=part.cut(self.image), camera=camera, window=window)


def shared_window(photos: list[Photo]) -> "Window | None":
    """Return what is inside a frame that all photos share, as those of screenshots do."""
    from models.sfm.shared_frame import find_inside_frame

    is_cut_out = any(photo.mask is not None for photo in photos)
    if len(photos) < 2 or is_cut_out or len({photo.camera.size for photo in photos}) > 1:
        return None
    window = find_inside_frame([photo.image for photo in photos])
    return window and window.scaled(photos[0].camera.size[1] / photos[0].image.shape[2])
