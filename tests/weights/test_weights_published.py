"""Published checkpoints, and MASt3R's, become networks under our names, strictly."""

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_weights import ABOUT, TINY, published_state

from models.network.noposplat import NoPoSplat
from models.training.network import NetworkTraining
from models.training.run import export
from models.weights import (
    initialize_from_mast3r,
    load_initial,
    load_network,
    load_published,
    published,
    save_network,
)
from nps_cli.training.setup import start_from


def test_a_published_checkpoint_is_read_under_our_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, state = tmp_path / "re10k.ckpt", published_state()
    torch.save({"epoch": 0, "global_step": 7, "state_dict": state, "loops": {"fit": [1]}}, path)
    monkeypatch.setattr(published, "ARCHITECTURE", TINY)  # the real one has 2.4 GB

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


class Evil:
    def __init__(self, function: Callable[..., object], argument: str) -> None:
        self.call = function, (argument,)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [print, os.mkdir])
def test_code_in_a_checkpoint_never_runs(tmp_path: Path, capsys, function):
    path, trace = tmp_path / "evil.ckpt", tmp_path / "trace"
    torch.save({"state_dict": Evil(function, str(trace))}, path)
    with pytest.raises(ValueError, match=f"to run .*{function.__name__}, which was not done"):
        load_network(path)
    assert not capsys.readouterr().out and not trace.exists()


def mast3r_state() -> dict[str, torch.Tensor]:
    """A MASt3R checkpoint: no prefix, a confidence channel, descriptors, no parameter heads."""
    state = {
        key.removeprefix("encoder.").removeprefix("backbone."): value
        for key, value in published_state().items()
        if "gaussian_param_head" not in key and "intrinsic_encoder" not in key
    }
    for head in ("downstream_head1", "downstream_head2"):
        for key in (f"{head}.dpt.head.4.weight", f"{head}.dpt.head.4.bias"):
            state[key] = torch.cat([state[key], torch.full_like(state[key][:1], 99)])
        state[f"{head}.head_local_features.fc1.weight"] = torch.zeros(3, 3)
    return state


def test_mast3r_fills_the_backbone_and_the_center_heads_and_nothing_else():
    network, state = NoPoSplat(TINY), mast3r_state()
    before = {key: value.clone() for key, value in network.state_dict().items()}

    initialize_from_mast3r(network, state)

    filled = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    assert filled == {
        key
        for key in before
        if not key.startswith(("parameter_head.", "backbone.intrinsics_embed."))
    }
    decoder = network.backbone.decoder[1].others.attention.qkv.weight
    assert torch.equal(decoder, state["dec_blocks2.1.attn.qkv.weight"])
    center = network.center_head.others.out.weight
    assert torch.equal(center, state["downstream_head2.dpt.head.4.weight"][:3])


def test_mast3r_fills_layers_that_take_rays_too():
    state = mast3r_state()
    kernel, columns = state["patch_embed.proj.weight"], state["decoder_embed.weight"]
    encoder = NoPoSplat(replace(TINY, intrinsics_input="rays", ray_degree=2))
    decoder = NoPoSplat(replace(TINY, intrinsics_input="decoder_rays", ray_degree=0))
    for network in (encoder, decoder):
        initialize_from_mast3r(network, state)
    wide, joined = encoder.backbone.patch_embed.weight, decoder.backbone.decoder_embed.weight

    assert wide.shape[1] == 12 and torch.equal(wide[:, 7], kernel[:, 1] * (3 / 12))
    torch.testing.assert_close(wide.sum(1), kernel.sum(1))  # a gray image is seen alike
    width = columns.shape[1]
    assert joined.shape[1] == width + 3 and torch.equal(joined[:, :width], columns / 2)
    parts = columns.tensor_split(3, dim=1)
    torch.testing.assert_close(joined[:, -1], parts[2].mean(1) / 2)


def test_linear_heads_start_on_their_own_and_take_the_backbone_from_mast3r():
    network = NoPoSplat(replace(TINY, heads="linear"))
    before = network.center_head.first.out.weight.clone()

    initialize_from_mast3r(network, mast3r_state())

    assert torch.equal(network.center_head.first.out.weight, before)
    ours = network.backbone.encoder[1].mlp[2].bias
    assert torch.equal(ours, mast3r_state()["enc_blocks.1.mlp.fc2.bias"])


def test_a_mast3r_without_a_block_or_with_one_more_is_refused():
    state = mast3r_state()
    del state["enc_blocks.1.attn.qkv.bias"]
    state["enc_blocks.2.attn.qkv.bias"] = torch.zeros(48)
    with pytest.raises(ValueError, match=r"missing: 1 .*encoder\.1\..*left over: 1 .*encoder\.2\."):
        initialize_from_mast3r(NoPoSplat(TINY), state)


def test_training_starts_from_mast3rs_file_or_from_ours_under_their_licenses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(published, "ARCHITECTURE", TINY)
    settings = argparse.Namespace(model="AsymmetricMASt3R(...)")  # its file has them too
    torch.save({"args": settings, "model": mast3r_state()}, tmp_path / "mast3r.pth")

    save_network(NoPoSplat(TINY), tmp_path / "own.safetensors", ABOUT)

    network, license = load_initial(tmp_path / "mast3r.pth")
    again, own_license = load_initial(tmp_path / "own.safetensors")

    assert torch.equal(
        network.backbone.encoder[1].mlp[2].bias, mast3r_state()["enc_blocks.1.mlp.fc2.bias"]
    )
    assert "CC BY-NC-SA" in license and own_license == "MIT"
    assert network.training and again.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_run_that_starts_from_weights_keeps_their_shape_and_their_license(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(published, "ARCHITECTURE", TINY)
    torch.save({"model": mast3r_state()}, tmp_path / "mast3r.pth")
    out = tmp_path / "out.safetensors"

    config = NetworkTraining(network=TINY)
    run = start_from(tmp_path / "mast3r.pth", config, torch.device("cpu"))
    export(run, out)

    network, info = load_network(out)
    assert network.config == run.config.network == TINY and "CC BY-NC-SA" in info.license
    theirs = mast3r_state()["enc_blocks.1.mlp.fc2.weight"]
    assert torch.equal(network.backbone.encoder[1].mlp[2].weight, theirs)
    assert torch.equal(run.network.backbone.encoder[1].mlp[2].weight, theirs)


def test_a_run_starts_from_networks_only(nps, tmp_path: Path):
    file = tmp_path / "any"
    file.write_text("nothing")
    start = ("--steps", 1, "--init", file, "-o", tmp_path / "run")
    ran = nps("train", "paper", "--procedural", *start)
    assert ran.code == 1 and "no weights file" in ran.err and not (tmp_path / "run").exists()
    assert nps("train", "stereo", *start).code == 2


SPFSPLAT_LAYERS = ("more_mlps.0", "more_mlps.2", "fc_t", "fc_rot")
SPFSPLAT_POSE_HEAD = (  # what each of the two has, by its authors' code; half of it no weights
    *("max_scale", "min_scale", "max_inv_scale", "h_beta", "min_inv_scale"),
    *(f"{layer}.{what}" for layer in SPFSPLAT_LAYERS for what in ("weight", "bias")),
)


def test_spfsplat_is_read_without_its_pose_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(published, "ARCHITECTURE", TINY)
    state, path = published_state(), tmp_path / "re10k.ckpt"
    heads = ("encoder.pose_head.", "encoder.pose_head2.")
    pose = {head + name: torch.zeros(1) for head in heads for name in SPFSPLAT_POSE_HEAD}
    torch.save({"state_dict": state | pose}, path)

    network, info = load_network(path)

    assert info.description.startswith("SPFSplat,")
    theirs = state["encoder.gaussian_param_head.dpt.head.4.bias"]
    assert torch.equal(network.parameter_head.first.out.bias, theirs)
    with pytest.raises(ValueError, match="without intrinsics"):
        load_network(path.rename(tmp_path / "re10k_nointrin.ckpt"))


def test_spfsplat_v2_is_another_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(published, "ARCHITECTURE", TINY)
    token = {"encoder.backbone.pose_token": torch.zeros(1, 1, 1, 16)}
    torch.save({"state_dict": published_state() | token}, tmp_path / "v2.ckpt")
    with pytest.raises(ValueError, match=r"v2.ckpt: this is SPFSplatV2.*expected"):
        load_network(tmp_path / "v2.ckpt")
