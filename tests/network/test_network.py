"""What the network is, whatever its weights: geometry, symmetries and its untrained answer."""

from dataclasses import replace

import pytest
import torch

from models.geometry.gaussians import SH_DEGREE_0
from models.geometry.views import Views
from models.network.backbone import token_positions
from models.network.config import EMBEDDED, NoPoSplatConfig
from models.network.layers import apply_rotary, rotary_table
from models.network.noposplat import NoPoSplat, exponential_distance

TINY = NoPoSplatConfig(
    encoder_width=32,
    encoder_depth=2,
    decoder_width=24,
    decoder_depth=4,
    attention_head_width=8,
    trunk_widths=(6, 8, 10, 12),
    fusion_width=16,
    sh_degree=1,
)
ANCHORED = replace(TINY, anchor_distance=3.0, pixel_color=True)
TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}


def make_network(config: NoPoSplatConfig = TINY) -> NoPoSplat:
    torch.manual_seed(0)
    return NoPoSplat(config).eval()


def make_lively_network() -> NoPoSplat:
    """A network whose views after the first differ from it, and whose every output varies."""
    network = make_network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network


def make_views(count: int = 2, size: tuple[int, int] = (32, 48), batch: int = 1) -> Views:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(batch, count, 3, *size, generator=generator)
    intrinsics = torch.zeros(batch, count, 3, 3)
    intrinsics[..., 0, 0] = 0.8 + 0.2 * torch.rand(batch, count, generator=generator)
    intrinsics[..., 1, 1] = 1.1 + 0.2 * torch.rand(batch, count, generator=generator)
    intrinsics[..., :2, 2] = 0.45 + 0.1 * torch.rand(batch, count, 2, generator=generator)
    intrinsics[..., 2, 2] = 1
    return Views(images, intrinsics)


def take(views: Views, order: list[int]) -> Views:
    return Views(views.images[:, order], views.intrinsics[:, order])


def test_rotary_attention_depends_on_relative_positions_only():
    query, key = torch.randn(2, 1, 16, dtype=torch.float64)
    positions = torch.tensor([[3.0, 5.0], [7.0, 4.0]], dtype=torch.float64)

    def score(positions):
        table = rotary_table(positions, head_width=16)
        return apply_rotary(query, table[:, :1]) @ apply_rotary(key, table[:, 1:]).mT

    here = score(positions)
    torch.testing.assert_close(score(positions + torch.tensor([20.0, -8.0])), here)
    assert (score(positions * torch.tensor([2.0, 1.0])) - here).abs() > 1e-3
    assert (score(positions.flip(-1)) - here).abs() > 1e-3


def test_rotary_positions_keep_lengths_and_leave_the_origin_alone():
    vector = torch.randn(2, 16)
    table = rotary_table(torch.tensor([[0.0, 0.0], [3.0, 9.0]]), head_width=16)

    rotated = apply_rotary(vector, table)

    torch.testing.assert_close(rotated[0], vector[0])
    torch.testing.assert_close(rotated.norm(dim=-1), vector.norm(dim=-1))


def test_patches_are_numbered_by_row_and_the_intrinsics_token_lies_below_the_first():
    positions = token_positions((2, 3), torch.zeros(()))
    assert positions.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [2, 0]]


def test_a_center_keeps_its_direction_and_gets_an_exponential_distance():
    raw = torch.tensor([[0.0, 0.6, -0.8], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])

    centers = exponential_distance(raw)

    expected = torch.tensor([[0.0, 0.6, -0.8], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    expected *= torch.tensor([[1.0], [3.0], [0.0]]).expm1()
    torch.testing.assert_close(centers, expected)


def test_a_center_at_the_origin_can_be_moved_by_its_gradient():
    raw = torch.zeros(3, requires_grad=True)
    exponential_distance(raw).sum().backward()
    torch.testing.assert_close(raw.grad, torch.ones(3))


@pytest.mark.parametrize("size", [(32, 32), (32, 48), (48, 32), (16, 64), (80, 48)])
def test_every_pixel_of_every_view_gets_one_physical_gaussian(size: tuple[int, int]):
    prediction = make_lively_network()(make_views(3, size))

    assert prediction.means.shape == (1, 3, *size, 3)
    assert prediction.harmonics.shape == (1, 3, *size, 3, 4)
    assert ((prediction.opacities > 0) & (prediction.opacities < 1)).all()
    assert ((prediction.scales > 0) & (prediction.scales <= 0.3)).all()
    torch.testing.assert_close(
        prediction.rotations.norm(dim=-1), torch.ones(1, 3, *size), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("size", [(32, 64), (64, 32), (48, 80)])
def test_untrained_centers_lie_on_their_own_pixels_rays(size: tuple[int, int]):
    views = make_views(2, size)

    means = make_network(ANCHORED)(views).means

    torch.testing.assert_close(means.norm(dim=-1), torch.full((1, 2, *size), 3.0))
    on_image = torch.einsum("bvij,bvhwj->bvhwi", views.intrinsics, means / means[..., 2:])
    for row, column in ((0, 0), (5, 21), (size[0] - 1, size[1] - 1)):
        x, y = (column + 0.5) / size[1], (row + 0.5) / size[0]
        expected = torch.tensor([x, y, 1.0]).expand(1, 2, 3)
        torch.testing.assert_close(on_image[:, :, row, column], expected)


def test_an_untrained_network_shows_the_photos_as_opaque_pixel_sized_gaussians():
    views = make_views(2)

    prediction = make_network(ANCHORED)(views)

    colors = 0.5 + SH_DEGREE_0 * prediction.harmonics[..., 0]
    torch.testing.assert_close(colors, views.images.movedim(2, -1))
    assert (prediction.harmonics[..., 1:] == 0).all()
    pixel = torch.full_like(prediction.scales, 3.0 / 256)
    torch.testing.assert_close(prediction.scales, pixel)
    torch.testing.assert_close(prediction.opacities, torch.full_like(prediction.opacities, 0.9))
    upright = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand_as(prediction.rotations)
    torch.testing.assert_close(prediction.rotations, upright)


def test_an_anchored_network_can_still_learn_everything():
    network = make_network(ANCHORED).train()
    prediction = network(make_views(2))
    sum(value.square().sum() for value in vars(prediction).values()).backward()
    for head in (*network.center_head.children(), *network.parameter_head.children()):
        assert (head.out.weight.grad.abs().sum(dim=(1, 2, 3)) > 0).sum() >= 3


def test_the_order_of_the_views_after_the_first_only_orders_the_answer():
    network, views = make_lively_network(), make_views(3)

    straight, swapped = network(views), network(take(views, [0, 2, 1]))

    torch.testing.assert_close(swapped.means[:, [0, 2, 1]], straight.means, **TOLERANCE)
    torch.testing.assert_close(swapped.opacities[:, [0, 2, 1]], straight.opacities, **TOLERANCE)
    assert (swapped.means[:, 1] - straight.means[:, 1]).abs().max() > 1e-3


def test_the_first_view_is_special():
    network, views = make_lively_network(), make_views(2)
    straight, swapped = network(views), network(take(views, [1, 0]))
    assert (swapped.means[:, 1] - straight.means[:, 0]).abs().max() > 1e-3


def test_a_memory_that_says_everything_twice_says_the_same():
    block = make_lively_network().backbone.decoder[0].first
    x, memory = torch.randn(2, 1, 7, 24)
    table = rotary_table(token_positions((2, 3), x), head_width=8)

    once = block(x, memory, table, table)
    twice = block(x, memory.repeat(1, 2, 1), table, table.repeat(1, 2, 1, 1))

    torch.testing.assert_close(twice, once, **TOLERANCE)
    assert (block(x, memory + 1, table, table) - once).abs().max() < 1e-4  # layer norm
    assert (block(x, memory.flip(-1), table, table) - once).abs().max() > 1e-3


@pytest.mark.parametrize("changed", [0, 1])
def test_every_view_sees_every_other_views_intrinsics(changed: int):
    network, views = make_lively_network(), make_views(3)
    intrinsics = views.intrinsics.clone()
    intrinsics[:, changed, 0, 0] *= 1.2

    difference = network(Views(views.images, intrinsics)).means - network(views).means

    assert (difference.abs().amax(dim=(0, 2, 3, 4)) > 1e-4).all()


def test_examples_of_a_batch_do_not_see_each_other():
    network, views = make_lively_network(), make_views(2, batch=2)

    together = network(views).scene(1)
    alone = network(Views(views.images[1:], views.intrinsics[1:])).scene(0)

    torch.testing.assert_close(together.means, alone.means, **TOLERANCE)
    torch.testing.assert_close(together.harmonics, alone.harmonics, **TOLERANCE)


def test_a_reconstruction_is_ordered_by_view_row_and_column():
    network, views = make_lively_network(), make_views(2, (32, 48))

    scene, prediction = network.reconstruct(views), network(views)

    index = 1 * 32 * 48 + 7 * 48 + 11
    torch.testing.assert_close(scene.means[index], prediction.means[0, 1, 7, 11])
    torch.testing.assert_close(scene.harmonics[index], prediction.harmonics[0, 1, 7, 11])
    assert len(scene) == 2 * 32 * 48


def test_a_reconstruction_ignores_dropout_and_can_be_refined_afterwards():
    network, views = make_lively_network().train(), make_views(2)

    scene, again = network.reconstruct(views), network.reconstruct(views)

    assert network.training
    assert torch.equal(scene.harmonics, again.harmonics)
    shift = torch.zeros(3, requires_grad=True)
    (scene.means * shift).sum().backward()  # impossible with tensors of inference mode
    torch.testing.assert_close(shift.grad, scene.means.sum(0))


def test_autocast_rounds_the_backbone_but_hands_out_float32():
    network, views = make_lively_network(), make_views(2)

    exact, rounded = network.reconstruct(views), network.reconstruct(views, autocast=True)

    assert rounded.means.dtype == torch.float32
    assert 0 < (rounded.means - exact.means).abs().max() < 0.05 * exact.means.abs().max()


@pytest.mark.parametrize("size", [(24, 32), (32, 40)])
def test_a_size_that_is_no_multiple_of_the_patch_is_refused(size: tuple[int, int]):
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} .* 16"):
        make_network()(make_views(2, size))


def test_one_view_is_refused():
    with pytest.raises(ValueError, match="at least 2 views are needed, not 1"):
        make_network()(make_views(1))


def test_a_batch_is_no_scene():
    with pytest.raises(ValueError, match="not a batch of 2"):
        make_network().reconstruct(make_views(batch=2))


def test_both_decoders_start_alike_and_the_heads_do_not():
    network = make_network()
    for layer in network.backbone.decoder:
        for first, others in zip(layer.first.parameters(), layer.others.parameters(), strict=True):
            assert torch.equal(first, others)
    head = network.center_head
    assert not torch.equal(head.first.coarse.weight, head.others.coarse.weight)


def test_initial_linear_layers_are_xavier_uniform():
    layer = make_network().backbone.encoder[0].mlp[0]
    bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
    assert 0.95 * bound < layer.weight.abs().max() <= bound
    assert (layer.bias == 0).all()


def test_the_embedded_network_is_small():
    with torch.device("meta"):
        network = NoPoSplat(EMBEDDED)
    size = {name: value.numel() for name, value in network.named_parameters()}
    encoder = sum(size[name] for name in size if name.startswith("backbone.encoder."))
    assert 20e6 < encoder < 24e6 and sum(size.values()) - encoder < 12.5e6


def test_widths_that_do_not_split_into_attention_heads_are_refused():
    with pytest.raises(ValueError, match="100 channels do not split into 64s"):
        NoPoSplatConfig(encoder_width=100)
