"""The pretrained encoder computes what DINOv2's paper and public names say."""

import pytest
import torch
from torch.nn import functional

from models.network.config import Dinov2Config
from models.network.dinov2 import Dinov2
from models.weights import embedded_path, load_encoder

LAYERS = (0, 2)


def tiny_encoder() -> Dinov2:
    torch.manual_seed(0)
    encoder = Dinov2(Dinov2Config(width=128, depth=3)).eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return encoder


def block_by_hand(x: torch.Tensor, w: dict[str, torch.Tensor], prefix: str) -> torch.Tensor:
    """A pre-norm block with LayerScale, head by head, from the weights alone."""

    def linear(values: torch.Tensor, name: str) -> torch.Tensor:
        return values @ w[f"{prefix}{name}.weight"].T + w[f"{prefix}{name}.bias"]

    def norm(values: torch.Tensor, name: str) -> torch.Tensor:
        centered = values - values.mean(-1, keepdim=True)
        deviation = (centered.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return centered / deviation * w[f"{prefix}{name}.weight"] + w[f"{prefix}{name}.bias"]

    q, k, v = linear(norm(x, "attention_norm"), "attention.qkv").split(x.shape[-1], dim=-1)
    heads = []
    for start in range(0, x.shape[-1], 64):
        part = slice(start, start + 64)
        weights = (q[..., part] @ k[..., part].mT / 8).softmax(-1)
        heads.append(weights @ v[..., part])
    attended = linear(torch.cat(heads, -1), "attention.out")
    x = x + attended * w[prefix + "attention_scale.gamma"]
    hidden = linear(norm(x, "mlp_norm"), "mlp.0")
    hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    return x + linear(hidden, "mlp.2") * w[prefix + "mlp_scale.gamma"]


@torch.no_grad()
def test_layers_agree_with_a_computation_from_the_weights_alone():
    encoder, image = tiny_encoder(), torch.rand(1, 3, 42, 28)
    w = dict(encoder.named_parameters())
    normed = (image - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    patches = [
        (normed[0, :, y : y + 14, x : x + 14] * w["patch_embed.weight"]).sum((1, 2, 3))
        + w["patch_embed.bias"]
        for y in range(0, 42, 14)
        for x in range(0, 28, 14)
    ]
    positions = functional.interpolate(
        w["position_embed"], (3, 2), mode="bicubic", antialias=True
    ).flatten(2)[0]
    tokens = torch.stack(patches) + positions.T
    x = torch.cat([w["class_token"][0] + w["class_position"][0], tokens])[None]
    expected = []
    for number in range(3):
        x = block_by_hand(x, w, f"blocks.{number}.")
        if number in LAYERS:
            expected.append(
                functional.layer_norm(x, (128,), w["norm.weight"], w["norm.bias"], 1e-6)[:, 1:]
            )
    found = encoder(image, LAYERS)
    torch.testing.assert_close(found, torch.cat(expected, -1), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_positions_of_the_trained_size_are_used_as_they_are():
    encoder = tiny_encoder()
    for block in encoder.blocks:  # tokens pass the blocks unchanged
        torch.nn.init.zeros_(block.attention_scale.gamma)
        torch.nn.init.zeros_(block.mlp_scale.gamma)
    torch.nn.init.zeros_(encoder.patch_embed.weight)
    torch.nn.init.zeros_(encoder.patch_embed.bias)
    found = encoder(torch.rand(1, 3, 37 * 14, 37 * 14), (0,))
    expected = encoder.norm(encoder.position_embed.flatten(2).mT)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(42, 70), (70, 42)])
@torch.no_grad()
def test_any_aspect_keeps_what_is_where(size):
    encoder = tiny_encoder()
    torch.nn.init.zeros_(encoder.patch_embed.weight)
    rows = torch.linspace(-1, 1, 37)
    encoder.position_embed.copy_(rows[:, None].expand(1, 128, 37, 37))
    positions = functional.interpolate(
        encoder.position_embed, (size[0] // 14, size[1] // 14), mode="bicubic", antialias=True
    )
    assert positions.std(-1).max() < 1e-5  # columns alike, rows in order
    assert (positions.diff(dim=-2) > 0).all()
    assert encoder(torch.rand(2, 3, *size), (0, 1)).shape == (2, 15, 256)


@torch.no_grad()
def test_the_embedded_encoder_finds_the_same_thing_after_a_shift():
    encoder, info = load_encoder(embedded_path("dinov2"))
    assert info.license == "Apache-2.0"
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 9, 11, generator=generator)
    image = functional.interpolate(coarse, (126, 154), mode="bicubic").clamp(0, 1)
    one, other = encoder(torch.cat([image[..., :126], image[..., 28:]]), (8,)).unflatten(1, (9, 9))
    one, other = one[:, 2:].flatten(0, 1), other[:, :-2].flatten(0, 1)
    alike = functional.normalize(one, dim=-1) @ functional.normalize(other, dim=-1).mT
    assert (alike.argmax(-1) == torch.arange(len(alike))).float().mean() > 0.6
