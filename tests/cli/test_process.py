"""The process: signals, standard streams that are closed or full, places that cannot be written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def start(code: str, **options) -> subprocess.Popen:
    """Start Python code with the signals of `nps`; it prints a line when it is ready."""
    code = f"from nps_cli.process import *\nhandle_signals()\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        preexec_fn=heed_signals,
        **options,
    )


def heed_signals() -> None:
    """Undo what a parent like `nohup` has set: what it ignores, `nps` would ignore too."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def nps_with(redirections: str, *arguments: object) -> subprocess.CompletedProcess:
    words = " ".join(map(str, arguments))
    script = f'"{sys.executable}" -m nps_cli {words} {redirections}'
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT)


WRITING = """
import sys, time
from pathlib import Path
from nps_cli.output import whole_file, whole_folder
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path({folder!r})
try:
    with whole_file(folder / "a.ply", force=False) as file, \\
            whole_folder(folder / "b", force=False) as frames:
        file.write_text("half")
        (frames / "0.png").write_text("half")
        print("ready", flush=True)
        {wait}
finally:
    end_if_stopped()
"""
IN_AN_IMPORT = "(folder / 'slow.py').write_text('import time; time.sleep(60)'); "
IN_AN_IMPORT += "sys.path.insert(0, str(folder)); import slow"
IN_A_DESTRUCTOR = "D = type('D', (), {'__del__': lambda self: time.sleep(60)}); d = D(); del d"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("wait", ["time.sleep(60)", IN_AN_IMPORT, IN_A_DESTRUCTOR])
def test_a_signal_ends_the_run_without_a_traceback_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals, wait: str
):
    run = start(WRITING.format(folder=str(tmp_path), wait=wait))
    assert run.stdout.readline() == b"ready\n"
    time.sleep(0.05)
    run.send_signal(number)
    _, err = run.communicate(timeout=20)
    assert (run.returncode, err) == (128 + number, b"")
    assert [name for name in os.listdir(tmp_path) if not name.startswith(("slow", "__"))] == []


def test_an_alarm_that_a_library_set_to_abort_is_called_off():
    code = "import time\nsignal.alarm(60)\ntry:\n    print(flush=True)\n    time.sleep(60)\n"
    run = start(code + "except SystemExit: print(signal.alarm(0), flush=True)")
    run.stdout.readline()
    run.send_signal(signal.SIGTERM)
    assert run.communicate(timeout=20)[0] == b"0\n"


def test_importing_the_entry_point_imports_next_to_nothing():
    code = "import sys, nps_cli.__main__; print(sys.modules.keys() & {'typer', 'json', 'typing'})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ran.stdout == "set()\n"


@pytest.mark.parametrize("redirections", [">/dev/full", ">&-"])
def test_a_result_that_cannot_be_written_is_an_error(redirections: str):
    ran = nps_with(redirections, "--version")
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: ") and "stdout" in ran.stderr
    assert "Traceback" not in ran.stderr and "ignored" not in ran.stderr


def test_help_on_a_full_disk_is_one_sentence():
    ran = nps_with(">/dev/full", "--help")
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[0] == "error: No space left on device."
    assert len(ran.stderr.splitlines()) == 2


@pytest.mark.parametrize("redirections", ["2>/dev/full", "2>&-", "<&-", "<&- 2>&-"])
def test_a_result_does_not_need_the_other_streams(redirections: str):
    ran = nps_with(redirections, "--version")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("nps ")


def test_nothing_is_written_into_a_file_that_took_the_place_of_a_closed_stream(tmp_path: Path):
    code = (
        "import os\nfrom nps_cli.process import open_closed_streams\nopen_closed_streams()\n"
        f"number = os.open({str(tmp_path / 'scene.ply')!r}, os.O_CREAT | os.O_WRONLY)\n"
        "raise SystemExit(number)"
    )
    script = '"$0" -c "$1" <&- >&- 2>&-'
    ran = subprocess.run(["bash", "-c", script, sys.executable, code], cwd=ROOT)
    assert ran.returncode > 2


def test_a_terminal_that_knows_ascii_only_gets_escapes(tmp_path: Path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    code = "from nps_cli.console import print_result; print_result('B\\xe4r.jpg')"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=environment, cwd=ROOT, check=True
    )
    assert ran.stdout == b"B\\xe4r.jpg\n"


def test_kernels_are_compiled_where_no_folder_can_keep_them(tmp_path: Path):
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": "/proc/nowhere",
        "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator",  # none beside the source
    }
    code = (
        "from models.render.kernels.compiler import cache_folder, cached_njit\n"
        "cached_njit()(lambda value: 2 * value)\n"
        "print(cache_folder())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    assert ran.stdout == "None\n", ran.stderr


def test_kernels_run_though_the_disk_that_keeps_them_is_full(monkeypatch):
    from numba.core.caching import FunctionCache

    from models.render.kernels.compiler import cached_njit

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FunctionCache, "save_overload", fail)
    assert cached_njit()(lambda value: 3 * value)(14) == 42
