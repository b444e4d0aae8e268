"""Weights are loaded whole and checked, or not at all."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks.parity import published_shapes, recipe_views, recipe_weight
from safetensors.torch import save_file

from models import weights
from models.network.noposplat import NoPoSplat, NoPoSplatConfig
from models.stereo.network import StereoConfig, StereoNetwork
from models.weights import (
    empty_network,
    load_network,
    load_published,
    load_stereo,
    read_info,
    rename,
    save_network,
    save_stereo,
)

TINY = NoPoSplatConfig(
    encoder_width=16,
    encoder_depth=2,
    decoder_width=16,
    decoder_depth=2,
    attention_head_width=8,
    trunk_widths=(4, 5, 6, 7),
    fusion_width=8,
    sh_degree=1,
    anchor_distance=2.0,
)
ABOUT = {
    "name": "tiny",
    "license": "MIT",
    "description": "Not trained.",
    "trained_on": "nothing",
}


def published_state() -> dict[str, torch.Tensor]:
    """A tiny checkpoint with published names, aliases included."""
    shapes = {name: tuple(value.shape) for name, value in empty_network(TINY).state_dict().items()}
    return {
        key: recipe_weight(key, shapes[rename(key)])
        for key in published_shapes()
        if rename(key) in shapes
    }


def saved(tmp_path: Path, **options: torch.dtype) -> tuple[NoPoSplat, Path]:
    torch.manual_seed(0)
    network, path = NoPoSplat(TINY).eval(), tmp_path / "tiny.safetensors"
    save_network(network, path, ABOUT, **options)
    return network, path


def test_a_saved_network_comes_back_with_its_answers_and_its_story(tmp_path: Path):
    network, path = saved(tmp_path)

    loaded, info = load_network(path)

    views = recipe_views(2, (32, 48))
    assert torch.equal(loaded.reconstruct(views).means, network.reconstruct(views).means)
    assert loaded.config == TINY
    assert not loaded.training
    assert (info.name, info.license, info.description) == ("tiny", "MIT", "Not trained.")
    assert info.metadata == {"trained_on": "nothing"}
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(tmp_path.iterdir()) == [path]


def test_a_half_precision_file_is_half_as_large_and_loads_as_float32(tmp_path: Path):
    network, path = saved(tmp_path, dtype=torch.float16)
    size = path.stat().st_size

    loaded, _ = load_network(path)

    assert all(value.dtype == torch.float32 for value in loaded.state_dict().values())
    for value, exact in zip(loaded.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(value, exact, rtol=1e-3, atol=1e-6)
    save_network(network, path, ABOUT)
    count = sum(value.numel() for value in network.parameters())
    assert path.stat().st_size - size == pytest.approx(2 * count, rel=0.01)


def test_a_loaded_network_can_be_trained_further(tmp_path: Path):
    _, path = saved(tmp_path)
    network, _ = load_network(path)
    network(recipe_views(2, (32, 32))).means.sum().backward()
    assert network.center_head.first.out.weight.grad is not None


def test_a_published_checkpoint_is_read_under_our_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, state = tmp_path / "re10k.ckpt", published_state()
    torch.save({"epoch": 0, "global_step": 7, "state_dict": state, "loops": {"fit": [1]}}, path)
    monkeypatch.setattr(weights, "NoPoSplatConfig", lambda: TINY)  # the real one has 2.4 GB

    network, info = load_network(path)

    assert info.name == "re10k"
    assert "MASt3R" in info.license
    theirs = state["encoder.backbone.dec_blocks2.1.cross_attn.projk.weight"]
    ours = network.backbone.decoder[1].others.cross_attention.key.weight
    assert torch.equal(ours, theirs)


def test_a_confidence_channel_of_the_center_heads_is_dropped():
    state, network = published_state(), NoPoSplat(TINY)
    for head in ("downstream_head1", "downstream_head2"):
        for key in (f"encoder.{head}.dpt.head.4.weight", f"encoder.{head}.dpt.head.4.bias"):
            state[key] = torch.cat([state[key], torch.full_like(state[key][:1], 99)])

    load_published(network, state)

    assert network.center_head.others.out.weight.shape[0] == 3
    assert network.center_head.others.out.weight.max() < 99


def test_aliases_may_be_absent_but_not_contradict():
    state = published_state()
    alias = "encoder.gaussian_param_head2.dpt.scratch.layer_rn.2.weight"
    load_published(NoPoSplat(TINY), {k: v for k, v in state.items() if "layer_rn" not in k})

    state[alias] = state[alias] + 1

    with pytest.raises(ValueError, match=r"layer3_rn|layer_rn\.2.*other values"):
        load_published(NoPoSplat(TINY), state)


def test_everything_that_does_not_fit_is_said_at_once():
    state = published_state()
    del state["encoder.backbone.enc_norm.bias"]
    state["encoder.backbone.intrinsic_encoder.weight"] = torch.zeros(16, 4)
    state["lpips.net.0.weight"] = torch.zeros(1)

    with pytest.raises(ValueError) as caught:
        load_published(NoPoSplat(TINY), state)

    message = str(caught.value)
    assert "missing: 1 (backbone.encoder_norm.bias)" in message
    assert "left over: 1 (lpips.net.0.weight)" in message
    assert "backbone.intrinsics_embed.weight (16, 4) instead of (16, 9)" in message


def test_loading_fills_the_parameters_that_an_optimizer_already_holds():
    network, state = NoPoSplat(TINY), published_state()
    held = network.backbone.patch_embed.bias
    load_published(network, state)
    assert network.backbone.patch_embed.bias is held
    assert torch.equal(held, state["encoder.backbone.patch_embed.proj.bias"])


def test_a_refused_state_leaves_the_network_as_it_was():
    network = NoPoSplat(TINY)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = published_state()
    del state["encoder.backbone.enc_norm.bias"]
    with pytest.raises(ValueError):
        load_published(network, state)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def write_text(path: Path) -> None:
    path.write_text("These are not the weights that you are looking for.")


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_half(path: Path) -> None:
    save_network(NoPoSplat(TINY), path, ABOUT)
    path.write_bytes(path.read_bytes()[:-1000])


def write_foreign_safetensors(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path)


def write_foreign_configuration(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path, {"config": '{"layers": 3}', **ABOUT})


def write_half_a_checkpoint(path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])


def write_foreign_checkpoint(path: Path) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.zeros(2)}}, path)


def write_tensors_only(path: Path) -> None:
    torch.save([torch.zeros(2)], path)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (write_text, "no weights file .* expected .safetensors"),
        (write_nothing, "no weights file .* expected .safetensors"),
        (write_half, "no weights file .* expected .safetensors"),
        (write_foreign_safetensors, "does not say its config, description, license, name"),
        (write_foreign_configuration, "not a network's configuration"),
        (write_half_a_checkpoint, "no checkpoint .* expected .safetensors"),
        (write_foreign_checkpoint, "missing: 1129 .* left over: 1 .conv1.weight"),
        (write_tensors_only, "no `state_dict` of tensors"),
    ],
)
def test_any_other_file_is_refused_with_what_was_found(tmp_path: Path, write, said: str):
    path = tmp_path / "file"
    write(path)
    with pytest.raises(ValueError, match=said):
        load_network(path)


class Evil:
    def __reduce__(self):
        return print, ("code from a weights file ran",)


def test_code_in_a_checkpoint_never_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(ValueError, match="broken or no checkpoint"):
        load_network(path)
    assert "ran" not in capsys.readouterr().out


def test_weights_without_name_and_license_are_not_written(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(ValueError, match="metadata lacks license, name"):
        save_network(NoPoSplat(TINY), path, {"description": "?"})
    assert not path.exists()


def test_a_failed_save_keeps_the_old_file(tmp_path: Path):
    _, path = saved(tmp_path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_network(NoPoSplat(TINY), path, ABOUT | {"epoch": 3})  # safetensors keeps text only
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_every_switch_of_the_configuration_survives_a_file(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    config = replace(TINY, pixel_color=True, anchor_distance=None, dropout=0.25)
    save_network(NoPoSplat(config), path, ABOUT)
    assert load_network(path)[0].config == config


def test_a_saved_stereo_network_comes_back_whole_and_is_no_other_network(tmp_path: Path):
    network = StereoNetwork(StereoConfig(planes=4, widths=(8, 16))).eval()
    path = tmp_path / "stereo.safetensors"
    save_stereo(network, path, ABOUT, dtype=torch.float16)

    loaded, info = load_stereo(path)

    assert (loaded.config, loaded.training, info.name) == (network.config, False, "tiny")
    for key, value in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value.half().float())
    with pytest.raises(ValueError, match="configuration"):
        load_network(path)
    with pytest.raises(ValueError, match="configuration"):
        load_stereo(saved(tmp_path)[1])


def test_what_a_file_is_can_be_told_without_its_weights(tmp_path: Path):
    _, path = saved(tmp_path)
    assert read_info(path) == load_network(path)[1]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="broken"):
        read_info(path)
