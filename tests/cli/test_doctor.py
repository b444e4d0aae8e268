"""`nps doctor`: what there is, and what is said when it is not."""

import json
import sys
from pathlib import Path

import pytest
from tiny_weights import TINY

from models import weights
from models.network.noposplat import NoPoSplat


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch) -> Path:
    """A folder in place of the one that comes with the package, with two small networks."""
    monkeypatch.setattr(
        weights, "embedded_path", lambda name="network": tmp_path / f"{name}.safetensors"
    )
    about = {"name": "tiny", "license": "MIT", "description": "made of [noise]"}
    for name in ("network", "dinov2"):
        weights.save_network(NoPoSplat(TINY), tmp_path / f"{name}.safetensors", about)
    return tmp_path


def test_a_machine_that_can_do_the_main_job_gets_0(nps, embedded: Path):
    ran = nps("doctor")
    assert ran.code == 0, ran.out + ran.err
    for word in ("torch", "H.264", "HEIC", "renderer", "models/__init__.py", "weights: network"):
        assert word in ran.out
    assert "nps reconstruct" in ran.err


@pytest.mark.parametrize("name", ["network", "dinov2"])
def test_missing_weights_are_told_with_a_way_out(nps, embedded: Path, name: str):
    (embedded / f"{name}.safetensors").unlink()
    ran = nps("doctor", "--json")
    assert ran.code == 1
    report = json.loads(ran.out)
    assert report["works"] is False
    (check,) = (check for check in report["checks"] if check["name"] == f"weights: {name}")
    assert (check["works"], check["found"]) == (False, "missing")
    assert f"weights: {name}" in ran.err


def test_missing_matching_weights_are_told_with_a_way_out(nps, embedded: Path, monkeypatch):
    monkeypatch.setattr("models.features.aliked_lightglue.WEIGHTS", ("absent.safetensors",))
    ran = nps("doctor")
    (line,) = (line for line in ran.out.splitlines() if "weights: matching" in line)
    assert line.startswith("no") and "absent.safetensors" in line
    assert "weights: matching: install nps again" in ran.err


def test_published_weights_are_told_but_not_needed(nps, embedded: Path, monkeypatch):
    monkeypatch.setattr(
        "nps_cli.weights.hub.find_cached", lambda each: embedded if "acid" in each.name else None
    )
    (line,) = (line for line in nps("doctor").out.splitlines() if "weights: published" in line)
    assert line.startswith("yes") and line.endswith("noposplat-acid")

    monkeypatch.setattr("nps_cli.weights.hub.find_cached", lambda each: None)
    ran = nps("doctor")
    assert ran.code == 0
    assert "nps weights fetch noposplat-mix" in ran.err


def test_what_is_only_nice_to_have_is_no_failure(nps, embedded: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    ran = nps("doctor", "--json")
    assert ran.code == 0
    checks = {check["name"]: check for check in json.loads(ran.out)["checks"]}
    assert not checks["HEIC photos"]["works"]
    assert "pillow-heif" in checks["HEIC photos"]["hint"]


@pytest.mark.parametrize(("pip", "command"), [(True, "-m pip install"), (False, "uv pip install")])
def test_a_missing_package_is_told_with_the_command_that_this_installation_has(
    nps, embedded: Path, monkeypatch, pip: bool, command: str
):
    monkeypatch.setattr("nps_cli.commands.doctor.find_spec", lambda name: pip or None)
    monkeypatch.setitem(sys.modules, "exifread", None)
    ran = nps("doctor")
    assert ran.code == 1
    (line,) = (line for line in ran.err.splitlines() if line.startswith("exifread:"))
    assert command in line and line.endswith("reinstall exifread")


def test_a_package_that_hides_our_models_is_found_out(nps, embedded: Path, monkeypatch):
    import models

    monkeypatch.setattr(models, "__file__", "/elsewhere/models/__init__.py")
    ran = nps("doctor")
    assert ran.code == 1
    assert "PYTHONPATH" in ran.err


def test_a_broken_renderer_is_told_not_thrown(nps, embedded: Path, monkeypatch):
    def raise_error(*arguments: object) -> None:
        raise RuntimeError("no locator available\nfor a function")

    monkeypatch.setattr("models.render.render", raise_error)
    ran = nps("doctor")
    assert ran.code == 1
    assert "RuntimeError: no locator available" in ran.out


def test_kernels_that_no_folder_can_keep_are_told_with_a_way_out(nps, embedded: Path, monkeypatch):
    monkeypatch.setattr("models.render.kernels.compiler.cache_folder", lambda: None)
    ran = nps("doctor")
    assert ran.code == 0
    assert "kept nowhere" in ran.out
    assert "NUMBA_CACHE_DIR" in ran.err
