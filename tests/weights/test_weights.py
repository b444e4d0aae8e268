"""Weights are loaded whole and checked, or not at all."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks.parity import recipe_views
from safetensors.torch import save_file
from tiny_weights import ABOUT, TINY

from models.network.noposplat import NoPoSplat
from models.stereo.network import StereoConfig, StereoNetwork
from models.weights import load_network, load_stereo, read_info, save_network


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
        (write_nothing, "no weights file .it is empty.* expected .safetensors"),
        (write_half, r"no weights file .it is cut short: it ends after [\d,]+ bytes.* expected"),
        (write_foreign_safetensors, "does not say its config, description, license, name"),
        (write_foreign_configuration, "not this network's configuration"),
        (write_half_a_checkpoint, "no checkpoint .it is cut short: .* 2,000 bytes.* expected"),
        (write_foreign_checkpoint, "missing: 1129 .* left over: 1 .conv1.weight"),
        (write_tensors_only, "no `state_dict` of tensors"),
    ],
)
def test_any_other_file_is_refused_with_what_was_found(tmp_path: Path, write, said: str):
    path = tmp_path / "file"
    write(path)
    with pytest.raises(ValueError, match=said):
        load_network(path)


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
    config = replace(TINY, pixel_color=True, anchor_distance=2.0, dropout=0.25)
    save_network(NoPoSplat(config), path, ABOUT)
    assert load_network(path)[0].config == config


def test_a_saved_stereo_network_comes_back_whole_and_is_no_other_network(tmp_path: Path):
    network = StereoNetwork(StereoConfig(steps=4, widths=(8, 16))).eval()
    path = tmp_path / "stereo.safetensors"
    save_network(network, path, ABOUT, dtype=torch.float16)

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


def test_loading_takes_the_weights_from_the_file_without_a_copy(tmp_path: Path):
    _, path = saved(tmp_path)
    network, info = load_network(path, sha256="known")
    linear = network.backbone.encoder[0].mlp[0].weight
    value = linear.detach().clone()
    assert info.sha256 == "known"  # the file was not read to get it

    changed = bytearray(path.read_bytes())
    start = bytes(changed).index(value.numpy().tobytes())
    changed[start : start + value.nbytes] = bytes(value.nbytes)
    with path.open("r+b") as file:
        file.write(changed)

    assert (linear == 0).all()  # it is the file
