"""The network is the published one: its names, its shapes, and its mathematics said twice.

The reference below shares no code with the package: plain functions of the published parameter
names, one view at a time, in float64.
"""

import math

import pytest
import torch
from benchmarks.parity import published_shapes, recipe_views, recipe_weight
from torch.nn.functional import conv2d

from models.geometry.views import Views
from models.network.config import NoPoSplatConfig
from models.network.noposplat import NoPoSplat
from models.weights import empty_network, load_published, rename

HEAD = 8  # channels of an attention head
FULL = NoPoSplatConfig()
TINY = NoPoSplatConfig(
    encoder_width=32,
    encoder_depth=3,
    decoder_width=24,
    decoder_depth=4,
    attention_head_width=HEAD,
    trunk_widths=(6, 8, 10, 12),
    fusion_width=16,
)


def tiny_state() -> dict[str, torch.Tensor]:
    """Published names with the recipe's values, in the shapes of a shallow and narrow network."""
    shapes = {name: tuple(value.shape) for name, value in empty_network(TINY).state_dict().items()}
    return {
        key: recipe_weight(key, shapes[rename(key)])
        for key in published_shapes()
        if rename(key) in shapes
    }


def test_the_full_size_network_has_the_published_names_and_shapes():
    ours = {key: tuple(value.shape) for key, value in empty_network(FULL).state_dict().items()}

    theirs = published_shapes()

    assert len(theirs) == 1145
    assert {rename(key): shape for key, shape in theirs.items()} == ours


def test_the_full_size_network_has_as_many_parameters_as_published():
    assert sum(value.numel() for value in empty_network(FULL).parameters()) == 611_996_332


@pytest.mark.parametrize(
    ("count", "size"),
    [(2, (32, 32)), (2, (32, 48)), (2, (80, 48)), (3, (48, 32)), (4, (16, 48))],
)
def test_the_network_computes_what_was_published(count: int, size: tuple[int, int]):
    state, views = tiny_state(), recipe_views(count, size)
    network = NoPoSplat(TINY).eval()
    load_published(network, state)

    prediction = network.double()(Views(views.images.double(), views.intrinsics.double()))

    weights = {key.removeprefix("encoder."): value.double() for key, value in state.items()}
    expected = reference(weights, views.images[0].double(), views.intrinsics[0].double())
    for name, value in expected.items():
        ours = getattr(prediction, name)[0]
        torch.testing.assert_close(ours, value, rtol=1e-6, atol=1e-9 * value.abs().max().item())


@pytest.mark.parametrize("count", [2, 3])
def test_encoder_and_decoder_compute_what_was_published(count: int):
    state, views = tiny_state(), recipe_views(count, (48, 32))
    network = NoPoSplat(TINY)
    load_published(network, state)
    images, intrinsics = views.images.double() * 2 - 1, views.intrinsics.double()

    encoded, *decoded = network.double().backbone(images, intrinsics)

    weights = {key.removeprefix("encoder."): value.double() for key, value in state.items()}
    expected = transformer(weights, list(images[0]), intrinsics[0])
    for view, maps in enumerate(expected):
        for ours, theirs in zip((encoded, *decoded), maps, strict=True):
            torch.testing.assert_close(ours[0, view], theirs, rtol=1e-6, atol=1e-9)


def reference(w, images, intrinsics):
    pixels = [image * 2 - 1 for image in images]
    features = transformer(w, pixels, intrinsics)
    views = [gaussians(w, v, pixels[v], features[v]) for v in range(len(images))]
    return {name: torch.stack([view[name] for view in views]) for name in views[0]}


def transformer(w, pixels, intrinsics):
    """For every view, the four maps that the dense heads read."""
    _, height, width = pixels[0].shape
    h, w_ = height // 16, width // 16
    positions = [(y, x) for y in range(h) for x in range(w_)] + [(h, 0)]
    encoded = []
    for image, camera in zip(pixels, intrinsics, strict=True):
        kernel = w["backbone.patch_embed.proj.weight"].flatten(1)
        patches = image.reshape(3, h, 16, w_, 16).permute(1, 3, 0, 2, 4).reshape(h * w_, -1)
        patches = patches @ kernel.T + w["backbone.patch_embed.proj.bias"]
        x = torch.cat([patches, linear(w, "backbone.intrinsic_encoder", camera.reshape(1, 9))])
        for i in range(TINY.encoder_depth):
            b = f"backbone.enc_blocks.{i}"
            x = x + self_attention(w, f"{b}.attn", layer_norm(w, f"{b}.norm1", x), positions)
            x = x + mlp(w, f"{b}.mlp", layer_norm(w, f"{b}.norm2", x))
        encoded.append(layer_norm(w, "backbone.enc_norm", x))

    layers = [encoded, [linear(w, "backbone.decoder_embed", x) for x in encoded]]
    for i in range(TINY.decoder_depth):
        before = layers[-1]
        after = []
        for v, x in enumerate(before):
            b = f"backbone.dec_blocks{'2' if v else ''}.{i}"
            x = x + self_attention(w, f"{b}.attn", layer_norm(w, f"{b}.norm1", x), positions)
            others = [y for j, y in enumerate(before) if j != v]
            memory = layer_norm(w, f"{b}.norm_y", torch.cat(others))
            x = (
                x
                + attention(
                    linear(w, f"{b}.cross_attn.projq", layer_norm(w, f"{b}.norm2", x)),
                    linear(w, f"{b}.cross_attn.projk", memory),
                    linear(w, f"{b}.cross_attn.projv", memory),
                    positions,
                    positions * (len(before) - 1),
                )
                @ w[f"{b}.cross_attn.proj.weight"].T
                + w[f"{b}.cross_attn.proj.bias"]
            )
            after.append(x + mlp(w, f"{b}.mlp", layer_norm(w, f"{b}.norm3", x)))
        layers.append(after)
    layers[-1] = [layer_norm(w, "backbone.dec_norm", x) for x in layers[-1]]
    used = [layers[0], layers[3], layers[4], layers[5]]  # of a decoder of 4: 1/2, 3/4, all
    return [[level[v][:-1].T.reshape(-1, h, w_) for level in used] for v in range(len(pixels))]


def linear(w, key, x):
    return x @ w[f"{key}.weight"].T + w[f"{key}.bias"]


def layer_norm(w, key, x):
    centered = x - x.mean(-1, keepdim=True)
    normed = centered / ((centered**2).mean(-1, keepdim=True) + 1e-6).sqrt()
    return normed * w[f"{key}.weight"] + w[f"{key}.bias"]


def mlp(w, key, x):
    x = linear(w, f"{key}.fc1", x)
    return linear(w, f"{key}.fc2", x * 0.5 * (1 + torch.erf(x / math.sqrt(2))))


def self_attention(w, key, x, positions):
    width = x.shape[-1]
    qkv = linear(w, f"{key}.qkv", x)
    q, k, v = qkv[:, :width], qkv[:, width : 2 * width], qkv[:, 2 * width :]
    return linear(w, f"{key}.proj", attention(q, k, v, positions, positions))


def attention(q, k, v, q_positions, k_positions):
    heads = []
    for start in range(0, q.shape[-1], HEAD):
        part = slice(start, start + HEAD)
        scores = turned(q[:, part], q_positions) @ turned(k[:, part], k_positions).T
        heads.append((scores / math.sqrt(HEAD)).softmax(-1) @ v[:, part])
    return torch.cat(heads, -1)


def turned(x, positions):
    """Rotary positions as complex numbers: y turns the first half of the channels, x the second."""
    half, count = HEAD // 2, HEAD // 4
    parts = []
    for axis in (0, 1):
        numbers = x[:, axis * half :][:, :count] + 1j * x[:, axis * half + count :][:, :count]
        steps = torch.tensor([p[axis] for p in positions], dtype=torch.float64)
        frequencies = 100 ** (-2 * torch.arange(count, dtype=torch.float64) / half)
        numbers = numbers * torch.exp(1j * steps[:, None] * frequencies)
        parts += [numbers.real, numbers.imag]
    return torch.cat(parts, -1)


def gaussians(w, view, pixels, features):
    center = f"downstream_head{2 if view else 1}.dpt"
    other = f"gaussian_param_head{'2' if view else ''}.dpt"

    x = doubled(conv(w, f"{center}.head.0", trunk(w, center, features)))
    raw = conv(w, f"{center}.head.4", conv(w, f"{center}.head.2", x).clamp(min=0))
    raw = raw.permute(1, 2, 0)
    distance = (raw**2).sum(-1, keepdim=True).sqrt()

    shortcut = conv(w, f"{other}.input_merger.0", pixels).clamp(min=0)
    x = conv(w, f"{other}.head.0", doubled(trunk(w, other, features)) + shortcut)
    parameters = conv(w, f"{other}.head.4", x.clamp(min=0)).permute(1, 2, 0)
    qx, qy, qz, qw = parameters[..., 4:8].unbind(-1)
    wxyz = torch.stack([qw, qx, qy, qz], -1)
    falloff = [1.0] + [0.025] * 3 + [0.00625] * 5 + [0.0015625] * 7 + [0.000390625] * 9
    return {
        "means": raw / distance * (distance.exp() - 1),
        "scales": (0.001 * (1 + parameters[..., 1:4].exp()).log()).clamp(max=0.3),
        "rotations": wxyz / (wxyz**2).sum(-1, keepdim=True).sqrt(),
        "harmonics": parameters[..., 8:].unflatten(-1, (3, 25)) * torch.tensor(falloff).double(),
        "opacities": 1 / (1 + (-parameters[..., 0]).exp()),
    }


def trunk(w, head, features):
    levels = [conv(w, f"{head}.act_postprocess.{i}.0", x) for i, x in enumerate(features)]
    levels[0] = spread(w, f"{head}.act_postprocess.0.1", levels[0])
    levels[1] = spread(w, f"{head}.act_postprocess.1.1", levels[1])
    levels[3] = conv(w, f"{head}.act_postprocess.3.1", levels[3], stride=2)
    levels = [conv(w, f"{head}.scratch.layer{i + 1}_rn", x) for i, x in enumerate(levels)]
    _, height, width = levels[2].shape
    x = fused(w, f"{head}.scratch.refinenet4", levels[3])[:, :height, :width]
    for i in (3, 2, 1):
        unit = f"{head}.scratch.refinenet{i}"
        x = fused(w, unit, x + residual(w, f"{unit}.resConfUnit1", levels[i - 1]))
    return x


def fused(w, key, x):
    return conv(w, f"{key}.out_conv", doubled(residual(w, f"{key}.resConfUnit2", x)))


def residual(w, key, x):
    inner = conv(w, f"{key}.conv1", x.clamp(min=0)).clamp(min=0)
    return x + conv(w, f"{key}.conv2", inner)


def conv(w, key, x, stride=1):
    weight = w[f"{key}.weight"]
    return conv2d(x[None], weight, w.get(f"{key}.bias"), stride, weight.shape[-1] // 2)[0]


def spread(w, key, x):
    """A transposed convolution whose stride is its kernel's size."""
    blocks = torch.einsum("ihw,ioyx->ohywx", x, w[f"{key}.weight"])
    return blocks.flatten(3, 4).flatten(1, 2) + w[f"{key}.bias"][:, None, None]


def doubled(x):
    """Bilinear, corners on corners, as a product with two matrices of hat functions."""

    def hats(n):
        at = torch.arange(2 * n, dtype=torch.float64) * (n - 1) / (2 * n - 1)
        return (1 - (at[:, None] - torch.arange(n)).abs()).clamp(min=0)

    return hats(x.shape[-2]) @ x @ hats(x.shape[-1]).T
