"""`nps weights`: what is listed, verified and converted, and what is said when it cannot be."""

import json
import re
from pathlib import Path

import pytest
import torch
from benchmarks.parity import recipe_views
from huggingface_hub import constants
from tiny_weights import ABOUT, TINY, write_checkpoint

from models import weights
from models.network.noposplat import NoPoSplat
from models.weights import CHECKPOINTS, load_network, published, read_info


@pytest.fixture(autouse=True)
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One small network in place of those in the package, and an empty cache of the hub."""
    folder = tmp_path / "embedded"
    folder.mkdir()
    monkeypatch.setattr(
        weights, "embedded_path", lambda name="network": folder / f"{name}.safetensors"
    )
    monkeypatch.setattr(published, "ARCHITECTURE", TINY)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    about = ABOUT | {"description": "made of [noise]"}
    weights.save_network(NoPoSplat(TINY), folder / "network.safetensors", about)
    return folder


def test_weights_are_listed_with_licence_hash_and_place(nps, embedded: Path):
    own, *others, distance = json.loads(nps("weights", "list", "--json").out)
    path = embedded / "network.safetensors"
    assert own["path"] == str(path)
    assert own["sha256"] == read_info(path).sha256
    assert (own["name"], own["license"], own["present"]) == ("network", "MIT", True)
    assert [each["name"] for each in others] == [each.name for each in CHECKPOINTS]
    for each, checkpoint in zip(others, CHECKPOINTS, strict=True):
        assert (each["present"], each["path"], each["sha256"]) == (False, None, checkpoint.sha256)
        assert checkpoint.sha256 is None or re.fullmatch("[0-9a-f]{64}", checkpoint.sha256)
        assert "MASt3R" in each["license"] and each["metadata"]["code_license"]
    assert (distance["name"], distance["present"]) == ("lpips-vgg", False)
    table = nps("weights", "list").out
    assert "made of [noise]" in table and own["sha256"][:12] in table


def test_a_listed_name_can_be_used():
    from nps_cli.weights.networks import open_network

    network, info = open_network("network", torch.device("cpu"))
    assert (info.name, network.config) == ("tiny", TINY)
    assert open_network(None, torch.device("cpu"))[1] == info


def test_names_that_nobody_knows_are_told_what_there_is(nps):
    ran = nps("weights", "path", "noposplat")
    assert ran.code == 1 and "no weights noposplat" in ran.err and "weights list" in ran.err
    ran = nps("weights", "fetch", "mast3r")
    assert ran.code == 1 and "noposplat-re10k-3view" in ran.err
    ran = nps("weights", "path", "noposplat-mix")
    assert ran.code == 1 and "nps weights fetch noposplat-mix" in ran.err


@pytest.mark.parametrize("half", [False, True])
def test_a_converted_checkpoint_gives_the_same_gaussians_and_says_what_it_is(
    nps, tmp_path: Path, half: bool
):
    source, out = write_checkpoint(tmp_path / "theirs.ckpt"), tmp_path / "ours.safetensors"
    ran = nps("weights", "convert", source, "-o", out, *["--half"] * half)
    assert ran.code == 0 and "CC BY-NC-SA" in ran.err and ran.out == ""

    theirs, known = load_network(source)
    ours, info = load_network(out)
    views = recipe_views(2, (32, 32))
    expected, found = theirs(views), ours(views)
    if half:
        torch.testing.assert_close(found.means, expected.means, rtol=0.1, atol=0.01)
    assert torch.equal(found.means, expected.means) != half
    assert (info.name, info.license) == ("theirs", known.license)
    assert info.metadata["converted_from_sha256"] == known.sha256
    assert nps("weights", "verify", out).out.split()[0] == info.sha256


def test_what_cannot_be_converted_leaves_nothing(nps, tmp_path: Path):
    broken, out = tmp_path / "broken.ckpt", tmp_path / "ours.safetensors"
    broken.write_bytes(write_checkpoint(tmp_path / "theirs.ckpt").read_bytes()[:5000])
    ran = nps("weights", "convert", broken, "-o", out)
    assert ran.code == 1 and "broken.ckpt is broken or no checkpoint" in ran.err
    assert nps("weights", "convert", broken, "-o", "ours.ckpt").code == 2
    assert not list(tmp_path.glob("*ours*"))


def test_a_full_disk_is_told_and_leaves_nothing(nps, tmp_path: Path, monkeypatch):
    def write(tensors: object, path: Path, about: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    from safetensors import SafetensorError

    monkeypatch.setattr("models.weights.files.save_file", write)
    source = write_checkpoint(tmp_path / "theirs.ckpt")
    before = sorted(tmp_path.iterdir())
    ran = nps("weights", "convert", source, "-o", tmp_path / "ours.safetensors")
    assert ran.code == 1 and "No space left" in ran.err
    assert sorted(tmp_path.iterdir()) == before


def test_verification_tells_whole_from_broken(nps, embedded: Path):
    whole = nps("weights", "verify")
    assert whole.code == 0 and whole.out.split()[1] == "network"
    file = embedded / "network.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    ran = nps("weights", "verify")
    assert ran.code == 1 and "broken" in ran.err and ran.out == ""
