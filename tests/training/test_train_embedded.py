"""Training in slices on a bare machine: what is carried, and that nothing is lost on the way."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from models.data.textures import noise_textures
from models.training.network import EMBEDDED
from models.training.rates import matrix_rate, training_flops
from models.training.run import CHECKPOINT, next_worlds, resume, save, start, take_step
from models.training.travel import resume_small, save_small, settle
from nps_cli import bare, carry

CPU = torch.device("cpu")
TINY = replace(EMBEDDED["embedded-tiny"], sizes=((32, 48), (48, 32)))


@pytest.fixture(scope="module")
def textures() -> torch.Tensor:
    return noise_textures(6, 16, torch.Generator().manual_seed(0))


def test_a_small_checkpoint_goes_on_bit_for_bit_as_the_run_that_wrote_it(textures, tmp_path: Path):
    run = start(TINY, CPU)
    for _ in range(2):
        take_step(run, next_worlds(run, textures))
    save_small(settle(run), tmp_path / "state.pt")
    save(run, tmp_path / CHECKPOINT)
    runs = [run, resume(tmp_path / CHECKPOINT, CPU), resume_small(tmp_path / "state.pt", CPU)]
    for each in runs:
        for _ in range(3):  # across a draw of new worlds
            take_step(each, next_worlds(each, textures))

    assert [each.step for each in runs] == [5, 5, 5]
    for other in runs[1:]:
        assert other.config == TINY and other.seconds == run.seconds
        for name, value in run.network.state_dict().items():
            assert torch.equal(value, other.network.state_dict()[name]), name
        for name, value in run.average.state_dict().items():
            assert torch.equal(value, other.average.state_dict()[name]), name
    weights = sum(parameter.numel() for parameter in run.network.parameters())
    assert (tmp_path / "state.pt").stat().st_size < 6.5 * weights + 3e5


def test_several_batches_are_drawn_at_a_time_and_each_is_as_large_as_asked(textures):
    run = start(TINY, CPU)
    held = []
    for run.step in range(5):
        assert next_worlds(run, textures).images.shape[0] == TINY.batch
        held.append(list(run.worlds))

    assert [len(worlds) for worlds in held] == [2, 2, 2, 2, 3]
    assert held[0] == held[3] and held[4][0] is held[0][1]


def test_settling_keeps_what_a_step_is_made_of(textures):
    run = start(TINY, CPU)
    for _ in range(3):
        take_step(run, next_worlds(run, textures))
    before = run.optimizer.state_dict()["state"]
    exact = {i: (m["exp_avg"].clone(), m["exp_avg_sq"].clone()) for i, m in before.items()}
    weights = [parameter.clone() for parameter in run.network.parameters()]
    settle(run)

    after = run.optimizer.state_dict()["state"]
    for index, (first, second) in exact.items():
        step = first / (second.sqrt() + 1e-15)
        rounded = after[index]["exp_avg"] / (after[index]["exp_avg_sq"].sqrt() + 1e-15)
        there = second > 1e-30
        torch.testing.assert_close(rounded[there], step[there], atol=0.12, rtol=0)
        assert (after[index]["exp_avg_sq"][~there] == 0).all()
    for was, now in zip(weights, run.network.parameters(), strict=True):
        torch.testing.assert_close(now, was, atol=1e-7, rtol=1e-3)


def test_what_is_no_small_checkpoint_is_refused(tmp_path: Path):
    (tmp_path / "state.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="broken or of another version"):
        resume_small(tmp_path / "state.pt", CPU)


def test_operations_are_counted_on_shapes():
    four_times = [training_flops(TINY.network, size) for size in ((32, 32), (64, 64))]
    one_conv = 2 * 3 * 2 * 32 * 32 * 16 * 16 * 9  # of a parameter head: there, back twice; 2 views

    assert all(2 < four_times[1][part] / four_times[0][part] < 4.5 for part in four_times[0])
    assert one_conv < four_times[0]["heads"] < 10 * one_conv
    assert matrix_rate(CPU, side=64) > 1e6


@pytest.fixture
def cut(tmp_path: Path) -> tuple[Path, Path]:
    """Two files, the larger in three pieces that lie in two folders."""
    for name, size in (("large", 25), ("small", 4)):
        (tmp_path / name).write_bytes(bytes(range(size)))
    folders = tmp_path / "load1", tmp_path / "load2"
    for folder in folders:
        folder.mkdir()
    bare.cut([tmp_path / "large", tmp_path / "small"], folders[0], limit=10)
    (folders[0] / "large.02").rename(folders[1] / "large.02")
    return folders


def test_pieces_from_several_folders_are_what_was_cut(cut: tuple[Path, Path], tmp_path: Path):
    (tmp_path / "there").mkdir()
    joined = bare.join(cut, tmp_path / "there")

    assert [file.read_bytes() for file in joined] == [bytes(range(25)), bytes(range(4))]
    assert max(file.stat().st_size for file in cut[0].glob("large.*")) == 10


@pytest.mark.parametrize(("harm", "reason"), [
    (lambda folders: (folders[1] / "large.02").unlink(), r"missing: large\.02 of large"),
    (lambda folders: (folders[0] / "large.01").write_bytes(b"0123456789"), "not what was cut"),
    (lambda folders: (folders[0] / bare.LISTING).unlink(), "bring the first load"),
])  # fmt: skip
def test_missing_and_broken_pieces_are_named(cut: tuple[Path, Path], harm, reason, tmp_path: Path):
    harm(cut)
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match=reason):
        bare.join(cut, tmp_path / "there")


def test_only_packages_that_are_missing_are_unpacked(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "wheels.zip", "w") as wheels:
        for module in ("torch", "nowhere_else"):
            with wheels.open(f"{module}-1.whl", "w") as file, zipfile.ZipFile(file, "w") as wheel:
                wheel.writestr(f"{module}/__init__.py", "")
                wheel.writestr(f"{module}-1.dist-info/METADATA", "")
    bare.unpack(tmp_path / "wheels.zip")

    assert (tmp_path / "wheels/nowhere_else/__init__.py").is_file()
    assert not (tmp_path / "wheels/torch").exists()


def test_loads_are_no_larger_than_can_be_carried(tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "state.pt").write_bytes(bytes(400_000))
    loads = carry.pack(tmp_path / "packed", run, ["--score", "1"], None, None, None, None, 0.5)

    assert [load.name for load in loads] == ["load1", "load2"]
    sizes = [sum(file.stat().st_size for file in load.iterdir()) for load in loads]
    assert max(sizes) <= 2**19
    assert {"start.py", bare.LISTING} < {file.name for file in loads[0].iterdir()}


HIDDEN = """
import importlib.machinery
find = importlib.machinery.PathFinder.find_spec
def find_others(name, path=None, target=None):
    return None if name.split(".")[0] in {hidden} else find(name, path, target)
importlib.machinery.PathFinder.find_spec = find_others
"""


def test_two_slices_run_from_packed_files_alone_and_without_optional_packages(tmp_path: Path):
    for name in ("textures", "hiding"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (64, 64), (200, 90, 20)).save(tmp_path / "textures/one.png")
    hidden = ("cv2", "numba", "skimage", "scipy", "gsplat", "kornia", "poselib", "tensorboard")
    (tmp_path / "hiding/sitecustomize.py").write_text(HIDDEN.format(hidden=hidden))
    run, settings = tmp_path / "run", ["--preset", "embedded-tiny", "--score", "1"]
    for number in (1, 2):
        packed = tmp_path / f"packed{number}"
        carry.pack(packed, run, settings, tmp_path / "textures", None, None, None)
        ran = subprocess.run(
            [sys.executable, packed / "load1/start.py", "--", "--steps", "1", "--log-every", "1"],
            env={"PYTHONPATH": str(tmp_path / "hiding"), "OMP_NUM_THREADS": "1"},
            cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        carry.home([packed / "work/out"], run)

    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[1]["samples"] == 4 and rows[1]["hours"] > rows[0]["hours"] > 0
    assert 0 < rows[1]["teraflops"] < 1 and 0 < rows[1]["drawing"] < 1
    assert rows[1]["scores"].keys() == {"depth_error", "second_error"}  # no OpenCV, no numba
    assert resume_small(run / "state.pt", CPU).step == 2
    assert importlib.util.find_spec("cv2") is not None  # here the same measures poses too
