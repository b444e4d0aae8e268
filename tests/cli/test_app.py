"""The command line as a whole: help, exit codes, streams, interruption."""

import os
import subprocess
import sys

import pytest

from nps_cli.errors import NpsError

COMMANDS = [
    *("reconstruct", "pose", "render", "view", "inspect"),
    *("evaluate", "train", "doctor", "weights"),
]
HEAVY = ["torch", "numpy", "cv2", "numba", "PIL", "av", "scipy", "skimage"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(nps, command: str):
    ran = nps(command, "--help")
    assert ran.code == 0
    assert f"nps {command}" in ran.out


@pytest.mark.parametrize("command", [[], *([command] for command in COMMANDS)])
def test_help_imports_nothing_heavy(command: list[str]):
    code = (
        "import sys\nfrom nps_cli.app import main\n"
        f"try: main({[*command, '--help']!r})\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == "[]"


@pytest.mark.parametrize("command", ["reconstruct", "pose"])
def test_what_is_no_photo_is_refused_before_torch_is_imported(command: str):
    out = "nowhere.ply" if command == "reconstruct" else "nowhere.json"
    arguments = [command, __file__, "nowhere.jpg", "-o", out]
    code = (
        "import sys\nfrom nps_cli.app import main\n"
        f"try: main({arguments!r})\nfinally: print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 1
    assert "test_app.py is not an image" in ran.stderr
    assert ran.stdout == "False\n"


def test_the_version_is_a_result(nps):
    from nps_cli import __version__

    assert nps("--version").out == f"nps {__version__}\n"


def test_an_unknown_command_is_wrong_usage(nps):
    assert nps("rekonstruct").code == 2


@pytest.mark.parametrize("photos", [1, 4])
@pytest.mark.parametrize("command", ["reconstruct", "pose"])
def test_only_two_or_three_photos_are_accepted(nps, command: str, photos: int):
    ran = nps(command, *["a.jpg"] * photos, "-o", "out.ply")
    assert ran.code == 2
    assert f"2 or 3 photos of one place, not {photos}" in ran.err


def test_an_error_is_told_with_its_hint_and_without_a_traceback(nps, monkeypatch):
    def fail(*arguments: object, **options: object) -> None:
        raise NpsError("cat[old].jpg is \x1b[31mred\x1b[0m.", hint="Use [another].")

    monkeypatch.setattr("nps_cli.photos.load.load_photos", fail)
    ran = nps("pose", "a.jpg", "b.jpg", "--quiet")
    assert ran.code == 1
    assert ran.err == "error: cat[old].jpg is \ufffd[31mred\ufffd[0m.\n hint: Use [another].\n"
    assert ran.out == ""


def test_an_interrupted_run_ends_with_130_and_no_traceback(nps, monkeypatch):
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nps_cli.photos.load.load_photos", interrupt)
    ran = nps("pose", "a.jpg", "b.jpg")
    assert ran.code == 130
    assert "Traceback" not in ran.err


def test_a_reader_that_went_away_is_no_reason_to_complain():
    reading, writing = os.pipe()
    os.close(reading)
    code = "from nps_cli.app import main; main(['weights', 'list', '--json'])"
    with os.fdopen(writing) as closed:
        ran = subprocess.run([sys.executable, "-c", code], stdout=closed, stderr=subprocess.PIPE)
    assert ran.stderr == b""
    assert ran.returncode == 1
