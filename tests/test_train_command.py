"""`nps train`, called as a function: slices, what resuming refuses, exports."""

from pathlib import Path

import pytest
import typer

from models.training.run import CHECKPOINT, resume
from models.weights import load_stereo
from nps_cli.commands.train import Part, train
from nps_cli.errors import NpsError


def slice_of_stereo(out: Path, **options: object) -> None:
    given = {"size": ["48x32"], "batch": 1, "steps": 1, "device": "cpu", **options}
    train(out, procedural=True, part=Part.stereo, **given)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    slice_of_stereo(tmp_path / "run", total_steps=7)
    return tmp_path / "run"


def test_a_second_slice_goes_on_with_the_first_ones_settings(begun: Path, capsys):
    export = begun / "stereo.safetensors"
    slice_of_stereo(begun, resume=True, total_steps=99, export=export, score=1)
    said = capsys.readouterr()
    run = resume(begun / CHECKPOINT, next(load_stereo(export)[0].parameters()).device)

    assert (run.step, run.config.total_steps, run.config.sizes) == (2, 7, ((32, 48),))
    assert "depth_error" in said.out and "--part stereo" in said.err


def test_a_run_is_not_overwritten_unasked(begun: Path):
    with pytest.raises(NpsError, match="exists"):
        slice_of_stereo(begun)


def test_a_run_of_another_part_is_not_resumed(begun: Path):
    with pytest.raises(NpsError, match="stereo"):
        train(begun, procedural=True, part=Part.network, resume=True, steps=1)


def test_sizes_that_no_network_takes_are_refused(tmp_path: Path):
    with pytest.raises(typer.BadParameter, match="50x32"):
        slice_of_stereo(tmp_path, size=["48x32", "50x32"])
