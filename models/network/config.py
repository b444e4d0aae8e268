"""The shape of the network, and of the ablations."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

# Bounds hold for configurations in files: a network of any other shape is a mistake or a trap.
Width = Annotated[int, Meta(ge=1, le=8192)]
Depth = Annotated[int, Meta(ge=1, le=64)]
HarmonicDegree = Annotated[int, Meta(ge=0, le=4)]
Layer = Annotated[int, Meta(ge=0, le=63)]
LevelWidths = tuple[Width, Width, Width, Width]
# Intrinsics enter as a token of their own (published), added to every token, as the ray of every
# pixel next to its color or of every patch before the decoder, there with a token, or not at all.
IntrinsicsInput = Literal["token", "add", "rays", "decoder_rays", "decoder", "none"]
PATCH_SIZES = {"croco": 16, "dinov2": 14}


@dataclass(frozen=True, kw_only=True)
class Dinov2Config:
    """The shape of the pretrained encoder; the defaults are ViT-S/14."""

    width: Width = 384
    depth: Depth = 12


@dataclass(frozen=True, kw_only=True)
class NoPoSplatConfig:
    """The shape of the network. The defaults are the published model, at any image size."""

    encoder: Literal["croco", "dinov2"] = "croco"
    encoder_layers: tuple[Layer, ...] = ()  # of DINOv2, whose outputs the decoder gets
    encoder_width: Width = 1024
    encoder_depth: Depth = 24
    decoder_width: Width = 768
    decoder_depth: Depth = 12
    attention_head_width: Width = 64
    rotary: bool = True  # positions in attention; DINOv2's tokens know theirs
    trunk_widths: LevelWidths = (96, 192, 384, 768)  # of the DPTs' levels, fine to coarse
    fusion_width: Annotated[int, Meta(ge=2, le=8192)] = 256
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.1  # in the parameter heads, while training
    sh_degree: HarmonicDegree = 4
    # Centers start on the pixel's own ray, this far away.
    anchor_distance: Annotated[float, Meta(ge=1e-3, le=1e3)] | None = None
    # Centers start where a pretrained encoder's features of this width say (see `MatchedAnchors`).
    anchor_width: Width | None = None
    pixel_color: bool = False  # colors start from the pixel's
    # What follows is for ablations only; the defaults are the published network.
    intrinsics_input: IntrinsicsInput = "token"
    ray_degree: HarmonicDegree = 4  # of the spherical harmonics that encode rays
    image_shortcut: bool = True  # of the parameter heads
    heads: Literal["dense", "linear"] = "dense"  # linear: without the image's shortcut
    frame: Literal["first", "own"] = "first"  # own: transform then fuse, by poses that are given

    def __post_init__(self) -> None:
        """Raise ValueError for a shape that cannot be built."""
        for width in (self.encoder_width, self.decoder_width):
            if width % self.attention_head_width:
                raise ValueError(f"{width} channels do not split into {self.attention_head_width}s")
        if self.encoder == "dinov2":
            self._check_pretrained()
        if self.attention_head_width % 4:
            raise ValueError(
                f"attention_head_width {self.attention_head_width} is no multiple of 4"
            )
        if self.decoder_depth < 2:
            raise ValueError(f"decoder_depth {self.decoder_depth} is less than 2")
        if self.heads == "linear" and (self.anchor_distance is not None or self.pixel_color):
            raise ValueError("linear heads start neither at an anchor nor with the pixel's color")
        if self.intrinsics_input == "none" and self.anchor_distance is not None:
            raise ValueError("without intrinsics there are no rays to start centers on")

    def _check_pretrained(self) -> None:
        layers = self.encoder_layers
        if list(layers) != sorted({*layers} & {*range(self.encoder_depth)}) or not layers:
            raise ValueError(f"encoder_layers {layers} are not in order, or there are none")
        if self.intrinsics_input not in ("decoder_rays", "decoder"):
            raise ValueError("a pretrained encoder knows no intrinsics: they enter at the decoder")
        if self.encoder_width % 64:
            raise ValueError(f"encoder_width {self.encoder_width} is no multiple of 64")

    @property
    def patch_size(self) -> int:
        """The side of a patch, in pixels."""
        return PATCH_SIZES[self.encoder]

    @property
    def feature_width(self) -> int:
        """The number of channels that the encoder gives the decoder."""
        return self.encoder_width * max(1, len(self.encoder_layers))

    @property
    def sh_count(self) -> int:
        """The number of spherical harmonics per color channel."""
        return (self.sh_degree + 1) ** 2


EMBEDDED = NoPoSplatConfig(  # the variant in the package
    encoder="dinov2",
    encoder_layers=(5, 8, 11),
    encoder_width=384,
    encoder_depth=12,
    decoder_width=256,
    decoder_depth=4,
    trunk_widths=(24, 48, 96, 128),
    fusion_width=48,
    rotary=False,
    dropout=0.0,
    sh_degree=0,
    anchor_distance=1.0,
    anchor_width=128,
    pixel_color=True,
    intrinsics_input="decoder",
)
