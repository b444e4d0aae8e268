"""Processes of `map_on_workers`: what becomes of them when others are killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORK = """
import os, time
from pathlib import Path
from models.files.atomic import temporary_beside
from models.workers import map_on_processes

def open_work():
    return work

def work(item):
    with temporary_beside(Path("out")) as folder:
        folder.mkdir()
        print(os.getpid(), flush=True)
        time.sleep(60)

if __name__ == "__main__":
    list(map_on_processes(open_work, [b""], 1))
"""


def is_running(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_process_whose_parent_is_killed_ends_and_leaves_nothing(tmp_path: Path):
    (tmp_path / "work.py").write_text(WORK)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "work.py"]
    run = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE)
    worker = int(run.stdout.readline())
    run.send_signal(signal.SIGKILL)
    run.wait()
    deadline = time.monotonic() + 30
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(worker)
    assert os.listdir(tmp_path) == ["work.py"]
