"""Memory: freed, it stays with the process; where there is too little, a word is said."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import numpy as np
from nps_cli.device import keep_freed_memory
if {keep}:
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(2**26, dtype=np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_a_large_block_is_reused_without_asking_the_system_for_pages():
    def faults(keep: bool) -> int:
        script = SCRIPT.format(keep=keep)
        ran = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        return int(ran.stdout)

    assert faults(keep=True) < faults(keep=False) / 4


def test_a_full_gpu_hands_the_work_to_the_cpu(capsys):
    import torch

    from nps_cli.device import with_cpu_to_fall_back_on

    devices = []

    def work(device: str) -> str:
        devices.append(device)
        if len(devices) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "done"

    assert with_cpu_to_fall_back_on("auto", work) == "done"
    assert devices == ["auto", "cpu"]
    assert "not enough memory" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory: you tried"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_too_little_memory_is_one_sentence(nps, monkeypatch, tmp_path, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("nps_cli.formats.read._open_source", fail)
    (tmp_path / "scene.ply").touch()

    ran = nps("inspect", tmp_path / "scene.ply")

    assert ran.code == 1 and "not enough memory" in ran.err and "Traceback" not in ran.err


def test_suggested_names_are_free(tmp_path, monkeypatch):
    from nps_cli.options import unused

    monkeypatch.chdir(tmp_path)
    assert str(unused("orbit.mp4")) == "orbit.mp4"
    for name in ("orbit.mp4", "orbit-2.mp4"):
        (tmp_path / name).touch()
    assert str(unused("orbit.mp4")) == "orbit-3.mp4"
