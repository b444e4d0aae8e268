"""`nps train`, its commands called as functions: resuming, what it refuses, exports."""

from pathlib import Path

import pytest
import torch
import typer
from chunk_factory import make_root

from models.training import ablations
from models.training.run import CHECKPOINT, resume
from models.weights import load_stereo
from nps_cli.commands import train
from nps_cli.errors import NpsError


def train_stereo(out: Path, **options: object) -> None:
    given = {"size": ["48x32"], "batch": 1, "steps": 1, "device": "cpu", **options}
    train.stereo(out=out, **given)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    train_stereo(tmp_path / "run", total_steps=7)
    return tmp_path / "run"


def test_a_second_call_goes_on_with_the_first_ones_settings(begun: Path, capsys):
    export = begun / "stereo.safetensors"
    train_stereo(begun, resume=True, total_steps=99, export=export, score=1)
    output = capsys.readouterr()
    run = resume(begun / CHECKPOINT, next(load_stereo(export)[0].parameters()).device)

    assert (run.step, run.config.total_steps, run.config.sizes) == (2, 7, ((32, 48),))
    assert "depth_error" in output.out and "train stereo" in output.err


def test_a_run_is_not_overwritten_unasked(begun: Path):
    with pytest.raises(NpsError, match="exists"):
        train_stereo(begun)


def test_a_run_of_another_part_is_not_resumed(begun: Path):
    with pytest.raises(NpsError, match="stereo"):
        train.embedded(out=begun, preset="tiny", resume=True, steps=1, device="cpu")


def test_sizes_that_no_network_takes_are_refused(tmp_path: Path):
    with pytest.raises(typer.BadParameter, match="50x32"):
        train_stereo(tmp_path, size=["48x32", "50x32"])


def train_paper(out: Path, **options: object) -> None:
    given = {"size": ["48x32"], "batch": 1, "steps": 1, "device": "cpu", "network": "anchored"}
    train.paper(out=out, **{**given, "workers": 0, "log_every": 1, "pictures": 1, **options})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_root(tmp_path / "data")


def test_a_bad_chunk_is_named_and_counted_and_training_goes_on(data: Path, tmp_path: Path, capsys):
    chunk = sorted((data / "train").glob("*.torch"))[0]
    chunk.write_bytes(chunk.read_bytes()[:100])
    train_paper(tmp_path / "run", data=[str(data)], steps=2, batch=2)
    output, run = capsys.readouterr().err, tmp_path / "run"

    assert chunk.name in output and "4 of " in output
    assert "LPIPS has no weights" in output and "nps weights fetch lpips-vgg" in output
    assert f"--data {data} --out {run} --resume" in output
    assert len((run / "log.jsonl").read_text().splitlines()) == 2
    assert len(list((run / "pictures").glob("*.png"))) == 2
    assert list((run / "tensorboard").glob("events*"))


def test_a_run_on_data_goes_on_where_it_stopped(data: Path, tmp_path: Path):
    train_paper(tmp_path / "run", data=[f"own={data}"], total_steps=2)
    train_paper(tmp_path / "run", data=[str(data)], resume=True, total_steps=9)
    run = resume(tmp_path / "run" / CHECKPOINT, torch.device("cpu"))
    assert (run.step, run.config.total_steps, run.config.data) == (2, 2, ("own",))


def test_data_of_another_kind_than_the_presets_is_refused_with_the_way_out(
    data: Path, tmp_path: Path
):
    with pytest.raises(NpsError, match="too few for a gap of 25") as raised:
        train_paper(tmp_path / "run", data=[str(data)], preset="re10k")
    assert "own=" in raised.value.hint


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"preset": "re10k"}, "either data sets or --procedural"),
        ({"data": ["DATA"], "procedural": True}, "either data sets or --procedural"),
        ({"data": ["nowhere"]}, "no folder"),
        ({"data": ["DATA"], "preset": "re20k"}, "re10k-dl3dv-512"),
        ({"data": ["DATA"], "preset": "re10k-dl3dv"}, "takes 2: re10k, dl3dv"),
        ({"data": ["DATA"], "ablation": "no-ablation"}, "transform-then-fuse"),
        ({"data": ["DATA"], "network": "huge"}, "tiny"),
        ({"data": ["DATA"], "centers": 1.0}, "procedural"),
    ],
)
def test_what_makes_no_sense_is_a_wrong_usage(
    options: dict, reason: str, data: Path, tmp_path: Path
):
    if options.get("data") == ["DATA"]:
        options = {**options, "data": [str(data)]}
    with pytest.raises(typer.BadParameter, match=reason):
        train_paper(tmp_path / "run", **options)


def test_all_ablations_are_compared_and_none_twice(tmp_path: Path, capsys, monkeypatch):
    two = {name: ablations.ABLATIONS[name] for name in ("published", "no-rgb-shortcut")}
    monkeypatch.setattr(ablations, "ABLATIONS", two)
    monkeypatch.setattr("models.training.ablation_study.ABLATIONS", two)
    options = {"size": ["48x32"], "batch": 1, "total_steps": 1, "score": 1, "seeds": 1}
    train.ablations(out=tmp_path, **options)
    first = capsys.readouterr()
    train.ablations(out=tmp_path, **options, resume=True)
    second = capsys.readouterr()

    assert (
        "| no-rgb-shortcut |" in first.out and (tmp_path / "ablations.md").read_text() in first.out
    )
    assert second.out == first.out and "seed 0" in first.err and "seed 0" not in second.err
    with pytest.raises(NpsError, match="exists"):
        train.ablations(out=tmp_path, **options)
