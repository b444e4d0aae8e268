"""The command line as a whole: help, exit codes, streams, interruption."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nps_cli import options
from nps_cli.app import repeat_options
from nps_cli.errors import NpsError

COMMANDS = [
    *("reconstruct", "pose", "pick", "batch", "render", "view", "inspect"),
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


def test_what_people_type_first_is_understood(nps, monkeypatch, tmp_path):
    from nps_cli import __version__

    assert nps("-V").out == f"nps {__version__}\n"
    assert nps("help").out == nps("--help").out
    assert nps("help", "weights", "fetch").out == nps("weights", "fetch", "--help").out
    assert nps("help", "rekonstruct").code == 2
    assert "--output" in nps("render", "--help").out


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        ("a.jpg b.jpg", "nps reconstruct a.jpg b.jpg -o scene.ply"),
        ("a.jpg b.jpg -o s.spz", "nps reconstruct a.jpg b.jpg -o s.spz"),
        ("scene.ply", "nps view scene.ply"),
    ],
)
def test_files_without_a_command_are_answered_with_one(nps, words: str, suggested: str):
    ran = nps(*words.split())
    assert ran.code == 2
    assert ran.err.endswith(f"hint: Try: {suggested}\n")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--fov 60 70 a b", "--fov 60 --fov 70 a b"),
        ("a --fov 60,70.5 b", "a --fov 60 --fov 70.5 b"),
        ("--fov=60,70 a", "--fov 60 --fov 70 a"),
        ("--focal-35mm 26 48 13", "--focal-35mm 26 --focal-35mm 48 --focal-35mm 13"),
        ("--fov 60 --fov 70", "--fov 60 --fov 70"),
        ("--fov wide a", "--fov wide a"),
        ("a --fov", "a --fov"),
        ("--seed 1 2", "--seed 1 2"),
        ("-- --fov 60 70", "-- --fov 60 70"),
    ],
)
def test_one_number_per_photo_may_be_listed(typed: str, meant: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert repeat_options(typed.split()) == meant.split()


def test_a_number_that_names_a_file_is_a_photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "70").touch()
    assert repeat_options(["--fov", "60", "70"]) == ["--fov", "60", "70"]


@pytest.mark.parametrize("command", ["reconstruct", "pose"])
def test_a_folder_beside_a_photo_is_wrong_usage(nps, photo_pair, command: str):
    ran = nps(command, photo_pair[0].parent, photo_pair[1], "-o", "new.ply")
    assert ran.code == 2
    assert "is a folder" in " ".join(ran.err.split())


@pytest.mark.parametrize(
    "words",
    [
        "reconstruct a.jpg b.jpg -o scene.obj",
        "reconstruct a.jpg b.jpg -o scene",
        "reconstruct a.jpg b.jpg -o s.ply -o scene.obj",
        "reconstruct a.jpg b.jpg -o s.ply --video film.avi",
        "reconstruct a.jpg b.jpg -o s.ply --poses b.jpg",
        "pose a.jpg b.jpg -o pose.txt",
        "pose a.jpg b.jpg --plot plot.jpg",
        "render s.ply -o film.avi",
        "render s.ply -o film.avi --path missing.json",
        "view s.ply -o page.htm",
        "weights convert network -o w.ckpt",
        "data sheet -o sheet.jpg",
        "train stereo -o run --export w.pt",
    ],
)
def test_a_suffix_that_cannot_be_written_is_wrong_usage_before_any_work(nps, words: str):
    ran = nps(*words.split())
    assert ran.code == 2, ran.err


def test_a_suggested_command_can_be_typed_whatever_the_name():
    assert options.quoted(Path("a b.ply"), Path("-x.ply")) == "'a b.ply' ./-x.ply"
    name = "a\nb'\\\udcff.ply"
    script = f"printf %s {options.quoted(Path(name))}"
    assert subprocess.run(["bash", "-c", script], capture_output=True).stdout == os.fsencode(name)
