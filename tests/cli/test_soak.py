"""A few reconstructions in one process leave nothing open, running or lying about."""

from pathlib import Path

from benchmarks.soak import soak


def test_reconstructions_leave_no_files_threads_or_handles(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", None)  # and put back what it was
    first, second = soak(2, 64, tmp_path)
    assert (second.files, second.threads, second.temporary) == (first.files, first.threads, 0)
