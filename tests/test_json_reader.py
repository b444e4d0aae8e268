"""JSON from elsewhere: what no computation can use is refused in one sentence, and soon."""

import os
from pathlib import Path

import pytest

from models.files import json_reader
from models.files.json_reader import parse_json, read_json


def test_values_come_back_as_they_were_written():
    time = '"time": 1700000000000000000'
    text = f'\ufeff{{"a": [1, -2.5e3, true, null, "\\ud83d\\ude00 \\u00e9"], {time}}}'
    assert parse_json(text) == {
        "a": [1, -2500.0, True, None, "\U0001f600 é"],
        "time": 1700000000000000000,
    }


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[NaN]", "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b"[1e400]", "out of range"),
        (b"[1" + b"0" * 5000 + b"]", "out of range"),
        (b"[1" + b"0" * 40 + b"]", "64 bits"),
        (b'{"a": [' + b"9" * 20 + b"]}", "64 bits"),
        (b"[" * 100_000, "nested"),
        (b"[" * 100 + b"]" * 100, "nested"),
        (b'{"a":' * 100_000, "nested"),
        (b'["\\ud800"]', "JSON"),
        (b'{"\\udc00\\ud800": 1}', "JSON"),
        (b'["\xed\xa0\x80"]', "JSON"),
        (b"\xff\xfe[\x001\x00]\x00", "JSON"),
        (b"[1] 2", "JSON"),
        (b"", "JSON"),
    ],
)
def test_what_cannot_be_computed_with_is_refused_in_a_sentence(tmp_path: Path, content, why):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=why) as caught:
        read_json(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


def test_more_values_than_fit_are_refused_before_they_are_parsed(monkeypatch):
    monkeypatch.setattr(json_reader, "MAX_COMMAS", 3)
    assert parse_json("[[],[],[],[]]") == [[]] * 4
    with pytest.raises(ValueError, match="values"):
        parse_json("[[],[],[],[],[]]")


def test_only_regular_files_of_bounded_size_are_opened(tmp_path: Path, monkeypatch):
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(ValueError, match="not a regular file"):
            read_json(path)
    with pytest.raises(ValueError, match=r"nowhere.json cannot be read .No such file"):
        read_json(tmp_path / "nowhere.json")
    monkeypatch.setattr(json_reader, "MAX_BYTES", 10)
    (tmp_path / "large.json").write_text("[1, 2, 3, 4]")
    with pytest.raises(ValueError, match="12 bytes; at most 10"):
        read_json(tmp_path / "large.json")


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ('[NaN, -Infinity, {"a": Infinity}, 1]', ["NaN", "-Infinity", {"a": "Infinity"}, 1]),
        ('["NaN", "\\"NaN", "\\\\", NaN]', ["NaN", '"NaN', "\\", "NaN"]),
    ],
)
def test_what_is_no_number_can_be_left_to_who_expects_one(tmp_path, content, value):
    (tmp_path / "a.json").write_text(content)
    assert read_json(tmp_path / "a.json", nan_as_text=True) == value


def test_quoting_takes_time_in_proportion_to_the_file(tmp_path):
    (tmp_path / "a.json").write_text('[NaN, "' + r"\"" * 10**6)
    with pytest.raises(ValueError, match="JSON"):
        read_json(tmp_path / "a.json", nan_as_text=True)
