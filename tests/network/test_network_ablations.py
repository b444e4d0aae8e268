"""What the ablations of the network change, and that its defaults are the published network."""

from dataclasses import replace

import pytest
import torch
from scipy.special import sph_harm_y
from test_network import TINY, make_views

from models.geometry.camera import Camera, project
from models.geometry.rigid import invert, se3_exponential
from models.geometry.spherical_harmonics import real_harmonics, turning_matrix
from models.geometry.views import Views
from models.network.config import NoPoSplatConfig
from models.network.heads import LinearHead
from models.network.noposplat import NoPoSplat, Prediction
from models.render import render

ALL = ("token", "add", "rays", "decoder_rays", "none")


def lively(**changes: object) -> NoPoSplat:
    """A network whose every output varies."""
    torch.manual_seed(0)
    network = NoPoSplat(replace(TINY, **changes)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network


def difference(first: Prediction, second: Prediction) -> float:
    return max(float((vars(first)[name] - vars(second)[name]).abs().max()) for name in vars(first))


def longer(views: Views) -> Views:
    return Views(views.images, views.intrinsics * torch.tensor([1.3, 1.3, 1.0])[:, None])


def copy_common(target: NoPoSplat, source: NoPoSplat) -> None:
    """Give one network the weights of another, and zeros where it is wider."""
    state = target.state_dict()
    for name, value in source.state_dict().items():
        if name in state:
            state[name].zero_()
            state[name][tuple(slice(0, size) for size in value.shape)] = value


def test_the_defaults_are_the_published_network():
    config = NoPoSplatConfig()
    assert (config.intrinsics_input, config.heads, config.frame) == ("token", "dense", "first")
    assert config.image_shortcut


def test_harmonics_are_those_of_the_books():
    directions = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=-1)
    x, y, z = directions.unbind(-1)
    ours = real_harmonics(directions, 4)

    for degree in range(5):
        for order in range(degree + 1):
            theirs = torch.from_numpy(sph_harm_y(degree, order, z.arccos(), torch.atan2(y, x)))
            weight = 2**0.5 if order else 1
            at = degree * (degree + 1)
            torch.testing.assert_close(ours[:, at + order], weight * theirs.real)
            if order:
                torch.testing.assert_close(ours[:, at - order], weight * theirs.imag)
    torch.testing.assert_close(ours[:, 1], -0.4886025 * y)  # 3DGS: -y, z, -x
    torch.testing.assert_close(ours[:, 3], -0.4886025 * x)


def test_turned_harmonics_describe_the_turned_function():
    rotation = se3_exponential(torch.tensor([0, 0, 0, 0.5, -1.2, 2.0], dtype=torch.float64))[:3, :3]
    directions = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=-1)
    coefficients = torch.randn(25, dtype=torch.float64)

    before = real_harmonics(directions, 4) @ coefficients
    after = real_harmonics(directions @ rotation.mT, 4) @ turning_matrix(rotation, 4) @ coefficients

    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("intrinsics_input", ALL)
def test_only_a_network_without_intrinsics_ignores_them(intrinsics_input: str):
    network, views = lively(intrinsics_input=intrinsics_input), make_views()
    with torch.no_grad():
        changed = difference(network(views), network(longer(views)))
    assert (changed > 1e-4) == (intrinsics_input != "none")


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("intrinsics_input", ["add", "rays", "decoder_rays"])
def test_intrinsics_that_weigh_nothing_are_no_intrinsics(intrinsics_input: str, count: int):
    none, views = lively(intrinsics_input="none"), make_views(count)
    network = lively(intrinsics_input=intrinsics_input)
    copy_common(network, none)
    if intrinsics_input == "add":
        torch.nn.init.zeros_(network.backbone.intrinsics_embed.weight)
        torch.nn.init.zeros_(network.backbone.intrinsics_embed.bias)
    with torch.no_grad():
        assert difference(network(views), none(views)) < 1e-6


def test_added_intrinsics_are_one_vector_for_all_patches_of_a_view():
    network, views = lively(intrinsics_input="add"), make_views()
    backbone, images = network.backbone, views.images
    with torch.no_grad():
        change = backbone.embed(images, longer(views).intrinsics) - backbone.embed(
            images, views.intrinsics
        )
    torch.testing.assert_close(change, change[:, :1].expand_as(change), atol=1e-5, rtol=1e-4)
    assert change.shape[1] == 6 and change.abs().max() > 1e-2


@pytest.mark.parametrize(("degree", "numbers"), [(0, 3), (2, 9), (4, 25), (8, 81)])
def test_rays_widen_the_first_layer_of_encoder_or_decoder(degree: int, numbers: int):
    encoder = NoPoSplat(replace(TINY, intrinsics_input="rays", ray_degree=degree)).backbone
    decoder = NoPoSplat(replace(TINY, intrinsics_input="decoder_rays", ray_degree=degree)).backbone

    assert encoder.patch_embed.weight.shape[1] == 3 + numbers
    assert decoder.decoder_embed.weight.shape[1] == TINY.encoder_width + numbers
    assert not hasattr(encoder, "intrinsics_embed") and not hasattr(decoder, "intrinsics_embed")


def test_without_the_shortcut_no_pixel_reaches_the_colors_but_through_its_patch():
    views = make_views()
    brighter = Views(views.images * 0.5, views.intrinsics)
    changed = {}
    for image_shortcut in (True, False):
        network = lively(image_shortcut=image_shortcut)
        torch.nn.init.zeros_(network.backbone.patch_embed.weight)
        with torch.no_grad():
            changed[image_shortcut] = difference(network(views), network(brighter))
    assert changed[True] > 1e-3 and changed[False] == 0


def test_a_linear_head_answers_for_one_patch_from_one_token():
    head = LinearHead(in_width=4, out_width=5, patch_size=16)
    tokens = torch.randn(1, 4, 2, 3)
    changed = tokens.clone()
    changed[0, :, 1, 2] += 1
    with torch.no_grad():
        where = (head(changed) != head(tokens)).any(1)[0]

    assert head(tokens).shape == (1, 5, 32, 48)
    assert where[16:, 32:].all() and where.sum() == 256


def test_a_linear_parameter_head_hears_nothing_below_zero_and_a_center_head_does():
    network = lively(heads="linear")
    tokens = -torch.rand(1, network.config.decoder_width, 2, 3)
    with torch.no_grad():
        moved = [
            float((head.first(tokens) - head.first(2 * tokens)).abs().max())
            for head in (network.center_head, network.parameter_head)
        ]
    assert moved[0] > 0 and moved[1] == 0


def test_linear_heads_predict_one_gaussian_per_pixel():
    network, views = lively(heads="linear"), make_views(3, batch=2)
    with torch.no_grad():
        prediction = network(views)
    assert prediction.means.shape == (2, 3, 32, 48, 3)
    assert not any("trunk" in name for name in network.state_dict())


def poses(count: int = 2) -> torch.Tensor:
    twists = torch.linspace(0, 1, count)[:, None] * torch.tensor([0.5, -0.2, 0.1, 0.3, -0.6, 0.2])
    return se3_exponential(twists)[None]


def test_gaussians_in_their_own_frames_cannot_be_joined_without_poses():
    with pytest.raises(ValueError, match="cam2world"):
        lively(frame="own")(make_views())


def test_gaussians_in_their_own_frames_lie_on_their_pixels_rays():
    network, views, cam2world = lively(frame="own"), make_views(), poses()
    with torch.no_grad():
        means = network(views, cam2world=cam2world).means[0].flatten(1, 2)

    at, depth = project(means, invert(cam2world[0]), views.intrinsics[0])

    rows, columns = (torch.arange(32) + 0.5) / 32, (torch.arange(48) + 0.5) / 48
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).flatten(0, 1)
    torch.testing.assert_close(at, pixels.expand_as(at), atol=1e-4, rtol=1e-4)
    assert (depth > 0).all()


def test_a_scene_joined_elsewhere_looks_the_same_from_a_camera_that_moved_along():
    network, views, cam2world = lively(frame="own", sh_degree=2), make_views(), poses()
    move = se3_exponential(torch.tensor([0.4, 1.0, -0.3, 1.0, -0.7, 0.5]))
    with torch.no_grad():
        here = network(views, cam2world=cam2world)
        there = network(views, cam2world=move @ cam2world)
    camera = invert(cam2world[0, 1])
    renderings = [
        render(scene.scene(0), Camera(views.intrinsics[0, 1], world2cam, (32, 48))).color
        for scene, world2cam in ((here, camera), (there, camera @ invert(move)))
    ]

    assert (here.means - there.means).abs().max() > 0.1 and renderings[0].std() > 0.01
    torch.testing.assert_close(*renderings, atol=2e-3, rtol=0)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="linear heads"):
        replace(TINY, heads="linear", pixel_color=True)
    with pytest.raises(ValueError, match="without intrinsics"):
        replace(TINY, intrinsics_input="none", anchor_distance=1.0)
