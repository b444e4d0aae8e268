import os

import pytest

from nps_cli.errors import NpsError
from nps_cli.output import check_target, whole_file, whole_folder


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "scene.ply"

    with whole_file(target, force=False) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".ply"

    assert target.read_text() == "half"
    assert os.listdir(tmp_path) == ["scene.ply"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_leaves_nothing_and_spares_what_was_there(tmp_path, error):
    target = tmp_path / "scene.ply"
    target.write_text("old")

    with pytest.raises(error), whole_file(target, force=True) as temporary:
        temporary.write_text("half")
        raise error

    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["scene.ply"]


def test_an_existing_file_is_replaced_only_by_force(tmp_path):
    target = tmp_path / "scene.ply"
    target.write_text("old")

    with pytest.raises(NpsError, match="exists"), whole_file(target, force=False):
        pytest.fail("the work has begun")
    with whole_file(target, force=True) as temporary:
        temporary.write_text("new")

    assert target.read_text() == "new"


def test_a_symbolic_link_stays_one(tmp_path):
    real, link = tmp_path / "real.ply", tmp_path / "link.ply"
    real.write_text("old")
    link.symlink_to(real)

    with whole_file(link, force=True) as temporary:
        temporary.write_text("new")

    assert link.is_symlink()
    assert real.read_text() == "new"


def test_a_new_file_has_ordinary_permissions(tmp_path):
    (tmp_path / "ordinary").write_text("")
    with whole_file(tmp_path / "scene.ply", force=False) as temporary:
        temporary.write_text("")

    modes = {file.stat().st_mode for file in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_pipe_is_written_to_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with whole_file(pipe, force=False) as path:
        assert path == pipe

    assert pipe.is_fifo()


def test_a_full_disk_is_an_error_with_a_hint(tmp_path):
    with (
        pytest.raises(NpsError, match="No space left"),
        whole_file(tmp_path / "scene.ply", force=False),
    ):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "name, expected",
    [
        ("missing/scene.ply", "There is no folder"),
        ("file/scene.ply", "There is no folder"),
        ("x" * 300 + ".ply", "name too long"),
        ("file", "exists"),
        ("full", "exists"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_early(tmp_path, name, expected):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "other").write_text("")

    with pytest.raises(NpsError, match=expected) as caught:
        check_target(tmp_path / name, force=False)

    assert caught.value.hint


def test_a_folder_without_permission_is_refused_early(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may do anything

    with pytest.raises(NpsError, match="may not be written"):
        check_target(tmp_path / "scene.ply", force=False)


def test_a_folder_is_no_place_for_a_file_even_by_force(tmp_path):
    with pytest.raises(NpsError, match="is a folder"), whole_file(tmp_path, force=True):
        pytest.fail("the work has begun")


def test_a_folder_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "frames"

    with whole_folder(target, force=False) as temporary:
        (temporary / "00000.png").write_text("frame")
        assert not target.exists()
    with pytest.raises(ValueError), whole_folder(tmp_path / "other", force=False) as temporary:
        (temporary / "00000.png").write_text("frame")
        raise ValueError

    assert os.listdir(tmp_path) == ["frames"]
    assert os.listdir(target) == ["00000.png"]


def test_force_replaces_files_of_the_same_name_and_spares_all_others(tmp_path):
    target = tmp_path / "frames"
    target.mkdir()
    (target / "00000.png").write_text("old")
    (target / "letter.txt").write_text("mine")

    with pytest.raises(NpsError, match="exists"), whole_folder(target, force=False):
        pytest.fail("the work has begun")
    with whole_folder(target, force=True) as temporary:
        (temporary / "00000.png").write_text("new")

    assert (target / "00000.png").read_text() == "new"
    assert (target / "letter.txt").read_text() == "mine"
    assert os.listdir(tmp_path) == ["frames"]
