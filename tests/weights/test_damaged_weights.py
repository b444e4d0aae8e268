"""Weights files that are damaged, or made to do damage: refused in one sentence, and soon."""

import io
import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_weights import ABOUT, TINY, published_state

from models.features.aliked_lightglue import load_weights
from models.geometry.camera import Camera
from models.geometry.views import View
from models.network.noposplat import NoPoSplat
from models.network.preprocessing import Preprocessing
from models.reconstruction import Networks, predict
from models.stereo.network import StereoConfig, StereoNetwork
from models.weights import WeightsInfo, load_network, load_stereo, published, save_network
from nps_cli.errors import NpsError
from nps_cli.weights.networks import preprocessing_for


@pytest.fixture
def own(tmp_path: Path) -> Path:
    save_network(NoPoSplat(TINY), tmp_path / "own.safetensors", ABOUT)
    return tmp_path / "own.safetensors"


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(published, "ARCHITECTURE", TINY)


def with_config(path: Path, text: str) -> None:
    save_file(load_file(path), path, {**ABOUT, "config": text})


def refused(path: Path, load=load_network) -> str:
    with pytest.raises(ValueError) as caught:
        load(path)
    said = str(caught.value)
    assert said and "\n" not in said and len(said) < 600
    return said


@pytest.mark.parametrize("value", [-1, 0, 1.5, "x", [], None, True, 100_000, 10**30, {}])
@pytest.mark.parametrize("name", ["encoder_width", "encoder_depth", "fusion_width", "trunk_widths"])
def test_a_network_of_impossible_shape_is_not_built(own: Path, name: str, value: object):
    with_config(own, json.dumps(asdict(TINY) | {name: value}))
    assert "configuration" in refused(own)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dropout", 1.0),
        ("sh_degree", 5),
        ("sh_degree", -1),
        ("anchor_distance", 0),
        ("pixel_color", 1),
        ("heads", "round"),
        ("intrinsics_input", ["token"]),
        ("ray_degree", 1000),
        ("trunk_widths", [4, 5, 6, 1e9]),
        ("layers", 3),
    ],
)
def test_every_value_of_a_configuration_has_a_type_and_bounds(own: Path, name: str, value: object):
    with_config(own, json.dumps(asdict(TINY) | {name: value}))
    said = refused(own)
    assert "configuration" in said and name in said


@pytest.mark.parametrize("text", ["[" * 100_000, "NaN", "[]", "", "{", '{"encoder_width": 1e400}'])
def test_a_configuration_that_is_none_is_refused(own: Path, text: str):
    with_config(own, text)
    assert str(own) in refused(own)


@pytest.mark.parametrize(
    "changes",
    [{"steps": 1}, {"widths": []}, {"widths": [8, 10**9]}, {"widths": [8] * 50}, {"steps": 10**9}],
)
def test_the_stereo_network_has_bounds_too(tmp_path: Path, changes: dict):
    config = StereoConfig(steps=4, widths=(8, 16), feature_widths=(8, 16), feature_channels=4)
    path = tmp_path / "stereo.safetensors"
    save_network(StereoNetwork(config), path, ABOUT)
    load_stereo(path)
    with_config(path, json.dumps(asdict(config) | changes))
    assert "configuration" in refused(path, load_stereo)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(own: Path, tmp_path: Path, value: float):
    state = load_file(own)
    name = next(key for key in state if state[key].ndim == 2)
    state[name][-1, -1] = value
    save_file(state, own, {**ABOUT, "config": json.dumps(asdict(TINY))})
    assert f"not finite numbers: 1 ({name})" in refused(own)

    theirs = published_state()
    theirs["encoder.backbone.mask_token"] = torch.full_like(
        theirs["encoder.backbone.mask_token"], value
    )
    torch.save({"state_dict": theirs}, tmp_path / "x.ckpt")
    assert "not finite numbers: 1 (backbone.mask_token)" in refused(tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="not finite"):
        load_weights(own, torch.device("cpu"))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_weights_that_are_not_real_numbers_are_refused(own: Path, dtype: torch.dtype):
    state = load_file(own)
    name = next(iter(state))
    state[name] = state[name].to(dtype)
    save_file(state, own, {**ABOUT, "config": json.dumps(asdict(TINY))})
    assert name in refused(own)


def damaged(content: bytes) -> list[bytes]:
    """Copies of a file with a few bytes changed, cut out, or doubled, where its structure is."""
    generator = torch.Generator().manual_seed(0)

    def number(below: int) -> int:
        return int(torch.randint(below, (1,), generator=generator))

    copies = []
    for _ in range(20):
        copy = bytearray(content)
        for _ in range(1 + number(4)):
            start = number(1500) if number(2) else len(copy) - 1 - number(min(len(copy), 1500))
            match number(4):
                case 0:
                    copy[start] = number(256)
                case 1:
                    copy[start] ^= 1 << number(8)
                case 2:
                    del copy[start : start + 1 + number(30)]
                case _:
                    copy[start:start] = copy[start : start + 1 + number(30)]
        copies.append(bytes(copy))
    return copies


def test_damage_anywhere_in_a_structure_is_a_sentence_or_harmless(own: Path, tmp_path: Path):
    buffer = io.BytesIO()
    torch.save({"state_dict": {"a": torch.zeros(3), "b": torch.ones(2, 2)}, "epoch": 1}, buffer)
    path = tmp_path / "x"
    for content in (own.read_bytes(), buffer.getvalue()):
        for copy in damaged(content):
            path.write_bytes(copy)
            try:
                load_network(path)
            except ValueError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("side", ["x", "-256", "1e3", "99999999", "0256", "\u0663\u0663\u0663"])
def test_the_size_of_training_photos_has_bounds(side: str):
    info = WeightsInfo("theirs", "0" * 64, "MIT", "", {"image_size": side})
    with pytest.raises(NpsError, match="image_size"):
        preprocessing_for(info, None)


def test_a_prediction_that_is_not_finite_is_an_error():
    network = NoPoSplat(TINY).eval()
    with torch.no_grad():
        network.center_head.first.out.bias.fill_(float("inf"))
    camera = Camera(torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]), torch.eye(4), (32, 32))
    views = [View(torch.rand(3, 32, 32), camera) for _ in range(2)]
    with pytest.raises(FloatingPointError, match="not finite"):
        predict(views, Networks(network, Preprocessing(side=32)))
