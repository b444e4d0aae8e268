"""What goes to which stream, and what is kept from a terminal."""

import json
import sys

import pytest

from nps_cli import console
from nps_cli.errors import NpsError


@pytest.fixture(autouse=True)
def normal():
    console.set_verbosity()
    yield
    console.set_verbosity()


def test_results_go_to_stdout_and_words_to_stderr(capsys):
    console.print_result("result")
    console.info("words")
    console.warning("careful")
    assert capsys.readouterr() == ("result\n", "words\nwarning: careful\n")


def test_quiet_leaves_only_results_and_errors(capsys):
    console.set_verbosity(quiet=True)
    console.info("words")
    console.warning("careful")
    console.print_result("result")
    console.error("broken", "mend it")
    assert capsys.readouterr() == ("result\n", "error: broken\n hint: mend it\n")


def test_finished_stages_are_told_to_who_asked_for_more(capsys):
    console.set_verbosity(verbose=True)
    with console.stages() as stage:
        stage("matching")
        stage("drawing")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[-1] for line in lines] == ["matching", "drawing"]


def test_progress_says_nothing_where_no_person_is_watching(capsys):
    with console.stages() as stage:
        stage("matching")
    with console.progress("drawing", 2) as advance:
        advance()
    assert capsys.readouterr() == ("", "")


def test_progress_is_shown_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with console.progress("drawing [frames]", 2) as advance:
        advance()
        advance()
    out, err = capsys.readouterr()
    assert out == ""
    assert "drawing [frames]" in err


def test_a_table_in_a_pipe_is_aligned_and_never_cut(capsys):
    console.print_table("facts", ("file", "size"), [("a" * 200, 1), ("b[x]", 22)])
    title, header, first, second = capsys.readouterr().out.splitlines()
    assert title == "facts"
    assert first.index("1") == second.index("22") == header.index("size") == 202
    assert second.startswith("b[x] ")


def test_what_could_steer_a_terminal_is_made_visible(capsys):
    console.info("a\x1b]0;title\x07.jpg \udcff \u202e")
    err = capsys.readouterr().err
    assert err == "a\ufffd]0;title\ufffd.jpg \ufffd \ufffd\n"


def test_a_name_with_an_end_of_line_cannot_forge_a_message(capsys):
    console.error("no\nnext: x.jpg does not exist.", "a\nb")
    console.print_table("", ("scene", "c\nd.ply"), [("a\nb.jpg", 1)])
    out, err = capsys.readouterr()
    assert err == "error: no\ufffdnext: x.jpg does not exist.\n hint: a\ufffdb\n"
    assert len(out.splitlines()) == 2


def test_json_results_are_json_or_an_error(capsys):
    console.print_json({"name": "Bär\udcff"})
    assert json.loads(capsys.readouterr().out) == {"name": "Bär\udcff"}
    with pytest.raises(ValueError):
        console.print_json({"error": float("nan")})


def test_an_error_that_quotes_a_long_file_is_cut(capsys):
    console.error("it holds " + "a" * 10**6, "Give another.")
    message, hint = capsys.readouterr().err.splitlines()
    assert message.startswith("error: it holds aaa") and message.endswith("a...")
    assert len(message) < 2000 and hint == " hint: Give another."


@pytest.mark.parametrize("write", ["print_table", "print_result", "print_json"])
def test_a_result_for_a_closed_stdout_is_refused(monkeypatch, write: str):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(NpsError, match="stdout is closed"):
        getattr(console, write)(*(("", ("a",), [("b",)]) if write == "print_table" else ("b",)))
