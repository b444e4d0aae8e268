"""NoPoSplat (Ye et al., ICLR 2025): views without poses in, Gaussians out."""

import math
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize, pad, softplus

from models.geometry.camera import camera_rays
from models.geometry.gaussians import SH_DEGREE_0, Gaussians
from models.geometry.views import Views
from models.network import transform_then_fuse
from models.network.anchors import MatchedAnchors, spread
from models.network.backbone import Backbone, FirstAndOthers
from models.network.config import NoPoSplatConfig
from models.network.heads import CenterHead, LinearHead, ParameterHead

SCALE_UNIT = 1e-3
MAX_SCALE = 0.3
OPACITY, SCALES, ROTATION, HARMONICS = slice(0, 1), slice(1, 4), slice(4, 8), slice(8, None)


@dataclass(frozen=True)
class Prediction:
    """One Gaussian per pixel of every view, all in the first view's frame; units of `Gaussians`."""

    means: Float[Tensor, "batch view height width 3"]
    scales: Float[Tensor, "batch view height width 3"]
    rotations: Float[Tensor, "batch view height width 4"]
    harmonics: Float[Tensor, "batch view height width 3 sh"]
    opacities: Float[Tensor, "batch view height width"]

    def scene(self, index: int) -> Gaussians:
        """Return the Gaussians of one example of the batch, ordered by view, row and column."""
        return Gaussians(
            *(getattr(self, field.name)[index].flatten(0, 2) for field in fields(self))
        )


class NoPoSplat(nn.Module):
    """Predict 3D Gaussians from two or more photos without poses, in one forward pass."""

    def __init__(self, config: NoPoSplatConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        if config.anchor_width is not None:
            self.anchors = MatchedAnchors(config, config.anchor_width)
        decoder_widths = (config.decoder_width,) * 3
        widths = (config.feature_width, *decoder_widths), config.trunk_widths, config.fusion_width
        patch = config.patch_size
        out_width = HARMONICS.start + 3 * config.sh_count
        self.center_head: FirstAndOthers[CenterHead | LinearHead]
        self.parameter_head: FirstAndOthers[ParameterHead | LinearHead]
        if config.heads == "dense":
            options = out_width, config.dropout, config.image_shortcut
            self.center_head = FirstAndOthers(lambda: CenterHead(*widths, patch))
            self.parameter_head = FirstAndOthers(lambda: ParameterHead(*widths, *options))
        else:
            self.center_head = FirstAndOthers(lambda: LinearHead(config.decoder_width, 3, patch))
            self.parameter_head = FirstAndOthers(
                lambda: LinearHead(config.decoder_width, out_width, patch, rectify=True)
            )
        if config.anchor_distance is not None:
            self.start_at_anchor(config.anchor_distance)
        if config.pixel_color:
            self.start_with_pixel_color()
        # The heads' convolutions are faster with channels last.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def start_at_anchor(self, distance: float) -> None:
        """Initialize the heads to one opaque, pixel-sized Gaussian at every pixel's anchor."""
        scale = distance / 256 / SCALE_UNIT  # about a pixel: the network is meant for 256 x 256
        for center in (self.center_head.first, self.center_head.others):
            set_constant_output(center.out, slice(0, 3), [0.0, 0.0, 0.0])
        for other in (self.parameter_head.first, self.parameter_head.others):
            set_constant_output(other.out, OPACITY, [math.log(0.9 / 0.1)])
            set_constant_output(other.out, SCALES, [math.log(math.expm1(scale))] * 3)
            set_constant_output(other.out, ROTATION, [0.0, 0.0, 0.0, 1.0])  # xyzw: no rotation

    def start_with_pixel_color(self) -> None:
        """Initialize the heads to the pixels' own colors."""
        for head in (self.parameter_head.first, self.parameter_head.others):
            set_constant_output(head.out, HARMONICS, [0.0] * (3 * self.config.sh_count))

    def forward(
        self,
        views: Views,
        autocast: bool = False,
        cam2world: Float[Tensor, "batch view 4 4"] | None = None,
    ) -> Prediction:
        """Predict one Gaussian per pixel of every view, in the first view's frame.

        Args:
            views: Two or more; height and width are multiples of the patch.
            autocast: Run the backbone in bfloat16; heads and geometry stay in float32, because
                rounding a center moves it by pixels.
            cam2world: The views' poses, needed only by the ablation whose Gaussians lie in each
                view's own frame.
        """
        height, width = views.size
        patch = self.config.patch_size
        if height % patch or width % patch:
            raise ValueError(f"images of {height} x {width} are not multiples of {patch}")
        if views.images.shape[1] < 2:
            raise ValueError(f"at least 2 views are needed, not {views.images.shape[1]}")
        images = views.images * 2 - 1
        with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
            features = self.backbone(images, views.intrinsics)
        features = [feature.to(images.dtype) for feature in features]
        centers, certainty = self.raw_centers(features, views.intrinsics, views.size)
        parameters = self.parameter_head(images, *features).movedim(2, -1).to(images.dtype)
        prediction = activate(centers, parameters)
        if self.config.anchor_distance is not None:  # the size of a pixel grows with the distance
            distance = prediction.means.norm(dim=-1, keepdim=True)
            scales = prediction.scales * distance / self.config.anchor_distance
            opacities = prediction.opacities * certainty
            scales = scales.clamp(max=MAX_SCALE)
            prediction = replace(prediction, scales=scales, opacities=opacities)
        if self.config.frame == "own":
            if cam2world is None:
                raise ValueError("Gaussians in each view's own frame need `cam2world` to be joined")
            raw_scales = parameters[..., SCALES]
            prediction = transform_to_first_view(
                prediction, centers, raw_scales, cam2world, views.intrinsics
            )
        if self.config.pixel_color:
            constant = ((views.images.movedim(2, -1) - 0.5) / SH_DEGREE_0)[..., None]
            harmonics = prediction.harmonics + pad(constant, (0, self.config.sh_count - 1))
            prediction = replace(prediction, harmonics=harmonics)
        return prediction

    def raw_centers(
        self,
        features: list[Float[Tensor, "batch view _channel grid_height grid_width"]],
        intrinsics: Float[Tensor, "batch view 3 3"],
        size: tuple[int, int],
        stride: int = 1,
    ) -> tuple[Float[Tensor, "batch view _height _width 3"], Float[Tensor, "*maps"]]:
        """Predict centers before `exponential_distance`, of every `stride`th row and column.

        Returns:
            The centers, and how likely each is where the first view shows the same: 1 without
            anchors that match.
        """
        every = {} if stride == 1 else {"stride": stride}
        centers = self.center_head(*features, **every).movedim(2, -1)
        certainty = centers.new_ones(())
        if self.config.anchor_width is not None:
            encoded = features[0].flatten(3).mT
            grid = (features[0].shape[-2], features[0].shape[-1])
            points, shares = self.anchors(encoded, intrinsics, grid)
            start = spread(torch.cat([points, shares], dim=-1), grid, size)
            start, certainty = start[:, :, ::stride, ::stride].split([3, 1], dim=-1)
            length = start.norm(dim=-1, keepdim=True).clamp(min=1e-4)
            centers = centers + start * (length.log1p() / length)
        elif self.config.anchor_distance is not None:
            rays = normalize(camera_rays(intrinsics, size)[:, :, ::stride, ::stride], dim=-1)
            centers = centers + rays * math.log1p(self.config.anchor_distance)
        return centers, certainty.squeeze(-1)

    def reconstruct(self, views: Views, autocast: bool = False) -> Gaussians:
        """Predict one scene, without gradients; Gaussians are ordered by view, row and column.

        Not in `torch.inference_mode`, whose tensors could not be used in refinement later.
        """
        if views.images.shape[0] != 1:
            raise ValueError(f"one scene at a time, not a batch of {views.images.shape[0]}")
        was_training = self.training
        self.eval()
        with torch.no_grad():
            scene = self(views, autocast).scene(0)
        self.train(was_training)
        return scene


@torch.no_grad()
def set_constant_output(conv: nn.Conv2d, channels: slice, values: list[float]) -> None:
    """Initialize some channels of a convolution to the same values for every input."""
    conv.weight[channels] = 0
    conv.get_parameter("bias")[channels] = torch.tensor(values)


def activate(
    centers: Float[Tensor, "batch view height width 3"],
    parameters: Float[Tensor, "batch view height width channel"],
) -> Prediction:
    """Turn the heads' raw outputs into lengths, probabilities, quaternions and coefficients."""
    raw_harmonics = parameters[..., HARMONICS].unflatten(-1, (3, -1))
    wxyz = parameters[..., ROTATION].roll(1, dims=-1)  # the network speaks xyzw
    return Prediction(
        means=exponential_distance(centers),
        scales=(SCALE_UNIT * softplus(parameters[..., SCALES])).clamp(max=MAX_SCALE),
        rotations=wxyz / (wxyz.norm(dim=-1, keepdim=True) + 1e-8),
        harmonics=raw_harmonics * harmonic_weights(raw_harmonics),
        opacities=parameters[..., OPACITY].squeeze(-1).sigmoid(),
    )


def transform_to_first_view(
    own: Prediction,
    raw_centers: Float[Tensor, "batch view height width 3"],
    raw_scales: Float[Tensor, "batch view height width 3"],
    cam2world: Float[Tensor, "batch view 4 4"],
    intrinsics: Float[Tensor, "batch view 3 3"],
) -> Prediction:
    """Transform Gaussians from their views' own frames into the first view's."""
    means, distance = transform_then_fuse.place_centers(raw_centers, cam2world, intrinsics)
    rotation = cam2world[..., :3, :3]
    return Prediction(
        means=means,
        scales=transform_then_fuse.pixel_sized_scales(raw_scales, distance, intrinsics),
        rotations=transform_then_fuse.rotate_quaternions(own.rotations, rotation),
        harmonics=transform_then_fuse.rotate_harmonics(own.harmonics, rotation),
        opacities=own.opacities,
    )


def exponential_distance(raw: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Keep the direction of a vector and turn its length d into exp(d) - 1."""
    length = raw.norm(dim=-1, keepdim=True).clamp(min=1e-8)
    return raw * (length.expm1() / length)


def harmonic_weights(harmonics: Float[Tensor, "*batch sh"]) -> Float[Tensor, " sh"]:
    """Return the factors of raw coefficients: 1 for degree 0, 0.1 / 4^degree for higher ones."""
    number = torch.arange(harmonics.shape[-1], device=harmonics.device, dtype=harmonics.dtype)
    return torch.where(number == 0, 1.0, 0.1 * 0.25 ** number.sqrt().floor())
