"""README.md and docs/: every command and option exists, and what the README shows first runs."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from nps_cli.app import app

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
COMMAND = re.compile(r"(?:^|[`|;&(]|\$ |next: )\s*nps ((?:[^`\n#\\]|\\\|)+)", re.MULTILINE)


def commands_of(page: Path) -> list[list[str]]:
    """The words of every `nps ...` on a page; what is optional or a choice is left in."""
    text = page.read_text(encoding="utf-8").replace("\\|", "/")
    found = (re.split(r" \| | > | && |;", match)[0] for match in COMMAND.findall(text))
    return [re.sub(r"[\[\]()']", " ", command).split() for command in found]


FIRST = {"reconstruct": "a.jpg", "pose": "a.jpg", "render": "scene.ply"}
SHOWN = [(page.name, words) for page in PAGES for words in commands_of(page)]


@pytest.mark.parametrize(("page", "words"), SHOWN, ids=[" ".join(each[1]) for each in SHOWN])
def test_a_command_that_is_shown_exists_with_its_options(page: str, words: list[str]):
    command, name = get_command(app), "nps"
    for word in words:
        if name == "nps evaluate" and word != "merge":
            command = command.commands["data"]  # the one that runs where none is named
        if not hasattr(command, "commands") or not re.fullmatch(r"[a-z/]+", word):
            break
        choices = word.split("/")
        assert set(choices) <= command.commands.keys(), f"{page}: `{name}` has no {word}"
        command, name = command.commands[choices[0]], f"{name} {choices[0]}"
    options = {option for parameter in command.params for option in parameter.opts}
    options |= {option for parameter in command.params for option in parameter.secondary_opts}
    shown = {word.split("=")[0].rstrip(",.:") for word in words if re.match(r"--?[a-z]", word)}
    shown = {option for each in shown for option in each.split("/") if option.startswith("-")}
    assert shown <= options | {"--help"}, f"{page}: `{name}` has no {shown - options}"


def test_options_named_alone_exist():
    root = get_command(app)
    every = {"--help", "--version"}
    pending = [root]
    while pending:
        command = pending.pop()
        pending += getattr(command, "commands", {}).values()
        every |= {o for each in command.params for o in (*each.opts, *each.secondary_opts)}
    named = set(re.findall(r"`(--[a-z0-9-]+)", PAGES[0].read_text(encoding="utf-8")))
    assert named and named <= every


@pytest.mark.parametrize("command", FIRST)
def test_what_the_readme_shows_first_runs(
    nps, fake_pipeline, photo_pair, tmp_path: Path, monkeypatch, command: str
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nps_cli.video.DEFAULT_FRAMES", 2)
    for photo, name in zip(photo_pair, ("a.jpg", "b.jpg"), strict=True):
        photo.rename(tmp_path / name)
    if command == "render":
        assert nps("reconstruct", "a.jpg", "b.jpg", "-o", "scene.ply").code == 0
    shown = next(words for _, words in SHOWN if words[:2] == [command, FIRST[command]])
    argv = [word for word in shlex.split(" ".join(shown)) if word != "c.jpg"]

    ran = nps(*argv, *(["--frames", "2", "--size", "64x48"] if command == "render" else []))

    assert ran.code == 0, ran.err
    if "-o" in argv:
        assert Path(argv[argv.index("-o") + 1]).stat().st_size > 0
    else:
        assert '"nps-pose"' in ran.out
