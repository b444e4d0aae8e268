"""`nps pose`: the document on stdout or in a file."""

import json
from dataclasses import replace
from pathlib import Path


def test_the_document_is_all_that_stdout_gets(nps, faked, photo_pair):
    ran = nps("pose", *photo_pair)
    assert ran.code == 0, ran.err
    document = json.loads(ran.out)
    assert [view["photo"] for view in document["views"]] == ["left.jpg", "right.jpg"]
    assert "next: nps reconstruct" in ran.err


def test_a_file_gets_what_stdout_would(nps, faked, photo_pair, tmp_path: Path):
    out = tmp_path / "pose.json"
    ran = nps("pose", *photo_pair, "-o", out)
    assert (ran.code, ran.out) == (0, "")
    assert json.loads(out.read_text()) == json.loads(nps("pose", *photo_pair).out)


def test_an_existing_file_is_kept_unless_forced(nps, faked, photo_pair, tmp_path: Path):
    out = tmp_path / "pose.json"
    out.write_text("precious")
    assert nps("pose", *photo_pair, "-o", out).code == 1
    assert (out.read_text(), faked.calls) == ("precious", [])
    assert nps("pose", *photo_pair, "-o", out, "--force").code == 0


def test_a_pose_not_to_be_trusted_is_written_but_ends_with_3(nps, faked, photo_pair):
    faked.reconstruction = replace(faked.reconstruction, problems=("No overlap.",))
    ran = nps("pose", *photo_pair)
    assert ran.code == 3
    assert json.loads(ran.out)["problems"] == ["No overlap."]
    assert "warning: No overlap." in ran.err
