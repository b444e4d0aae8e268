"""Published weights from the hub: under known terms, checked, whole or not at all."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fake_hub import FakeHub, served
from huggingface_hub import constants
from tiny_weights import TINY, write_checkpoint

from models.weights import CHECKPOINTS, PublishedCheckpoint, find_checkpoint, published
from nps_cli.errors import NpsError
from nps_cli.weights import checksums, hub
from nps_cli.weights.networks import open_network

NAME = "noposplat-re10k"
CPU = torch.device("cpu")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the hub library's own, and a hub that does not answer."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(published, "ARCHITECTURE", TINY)
    use_endpoint(monkeypatch, "http://127.0.0.1:9")
    return tmp_path


def use_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def fake(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    fake = FakeHub(write_checkpoint(place / "theirs.ckpt").read_bytes())
    with served(fake) as address:
        use_endpoint(monkeypatch, address)
        yield fake


@pytest.fixture
def checkpoint() -> PublishedCheckpoint:
    found = find_checkpoint(NAME)
    assert found
    return found


def cached_files(place: Path) -> list[Path]:
    return [path for path in place.glob("hub/models--*/**/*") if path.is_file()]


def gets(fake: FakeHub) -> list[str]:
    """Downloads begun; the library also asks for this and that of its own."""
    return [each for each in fake.requests if each.startswith("GET") and "/resolve/" in each]


def test_terms_are_said_before_the_download_even_to_those_who_want_quiet(
    nps, fake: FakeHub, photo_pair: tuple[Path, Path]
):
    fake.status = 503
    ran = nps("pose", *photo_pair, "--weights", NAME, "--quiet", "--device", "cpu")
    assert ran.code == 1
    assert "2.4 GB" in ran.err and "CC BY-NC-SA" in ran.err and not gets(fake)


def test_what_was_fetched_is_known_by_path_hash_and_licence_and_not_fetched_again(
    nps, fake: FakeHub
):
    ran = nps("weights", "fetch", NAME)
    assert ran.code == 0, ran.err
    path = Path(ran.out.strip())
    assert path.read_bytes() == fake.body
    assert len(gets(fake)) == 1

    fake.requests.clear()
    assert nps("weights", "fetch", NAME).out == ran.out
    assert nps("weights", "path", NAME).out == ran.out
    assert nps("weights", "verify", NAME).out.split() == [fake.stated_sha256, NAME]
    network, info = open_network(NAME, CPU)
    assert not fake.requests

    assert (info.name, info.sha256) == (NAME, fake.stated_sha256)
    assert "MASt3R" in info.license and info.metadata["image_size"] == "256"
    assert network.config == TINY


def test_a_network_that_is_not_here_is_fetched_when_it_is_asked_for(fake: FakeHub, capsys):
    _, info = open_network(NAME, CPU)
    assert info.sha256 == fake.stated_sha256
    assert f"fetching {NAME}" in capsys.readouterr().err


def test_a_broken_connection_goes_on_where_it_broke(
    fake: FakeHub, checkpoint: PublishedCheckpoint, monkeypatch
):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
    fake.cut_after = 1000
    assert hub.fetch(checkpoint).read_bytes() == fake.body
    assert gets(fake)[1].endswith("bytes=1000-")


def test_half_a_file_is_nothing(fake: FakeHub, checkpoint, place: Path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    fake.cut_after, fake.status_after_cut = 1000, 503
    with pytest.raises(NpsError, match="answered 503"):
        hub.fetch(checkpoint)
    assert hub.find_cached(checkpoint) is None
    assert not any(path.stat().st_size == 1000 for path in cached_files(place))


def test_a_file_other_than_the_hub_says_is_refused_and_removed(
    fake: FakeHub, checkpoint, place: Path
):
    true, fake.stated_sha256 = fake.stated_sha256, "0" * 64
    with pytest.raises(NpsError, match=f"has sha256 {true}, but expected {'0' * 64}"):
        hub.fetch(checkpoint)
    assert hub.find_cached(checkpoint) is None
    assert not any(path.stat().st_size == len(fake.body) for path in cached_files(place))


def test_a_file_that_changed_on_this_machine_is_noticed_and_can_be_fetched_again(
    nps, fake: FakeHub, checkpoint
):
    path = hub.fetch(checkpoint)
    damaged = bytearray(fake.body)
    damaged[-5000] ^= 1
    path.resolve().write_bytes(damaged)

    ran = nps("weights", "verify")
    assert ran.code == 1
    assert f"expected {fake.stated_sha256}" in ran.err and f"fetch --force {NAME}" in ran.err
    with pytest.raises(NpsError, match="expected"):
        open_network(NAME, CPU)

    assert nps("weights", "fetch", NAME, "--force").code == 0
    assert path.read_bytes() == fake.body


def test_a_file_that_another_program_fetched_is_used_after_a_check(fake: FakeHub, checkpoint):
    path = hub.fetch(checkpoint)
    checksums.record_path().unlink(missing_ok=True)
    assert hub.obtain(checkpoint) == (path, fake.stated_sha256)

    path.resolve().write_bytes(fake.body[:-1])
    with pytest.raises(NpsError, match="according to the hub"):
        hub.obtain(checkpoint)


def test_large_files_are_read_again_only_when_they_changed(fake: FakeHub, checkpoint, monkeypatch):
    monkeypatch.setattr(checksums, "LARGE_BYTES", 1000)
    path = hub.fetch(checkpoint)
    with monkeypatch.context() as patch:
        patch.setattr("models.weights.digest_of", lambda path: pytest.fail("read again"))
        assert hub.obtain(checkpoint)[1] == fake.stated_sha256

    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    monkeypatch.setattr("models.weights.digest_of", lambda path: "f" * 64)
    with pytest.raises(NpsError, match=f"has sha256 {'f' * 64}"):
        hub.obtain(checkpoint)


def no_network(fake: FakeHub, patch: pytest.MonkeyPatch) -> None:
    use_endpoint(patch, "http://127.0.0.1:9")


def offline(fake: FakeHub, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(constants, "HF_HUB_OFFLINE", True)


def hub_down(fake: FakeHub, patch: pytest.MonkeyPatch) -> None:
    fake.status = 503


def withdrawn(fake: FakeHub, patch: pytest.MonkeyPatch) -> None:
    fake.status = 404


def no_room(fake: FakeHub, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))


def disk_full_halfway(fake: FakeHub, patch: pytest.MonkeyPatch) -> None:
    def write(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr("huggingface_hub.file_download.http_get", write)


@pytest.mark.parametrize(
    ("trouble", "said", "hint"),
    [
        (no_network, "could not be fetched from http://127.0.0.1:9/", "HTTPS_PROXY"),
        (offline, "HF_HUB_OFFLINE forbids it", "Unset HF_HUB_OFFLINE"),
        (hub_down, "answered 503, expected the file", "Try again later"),
        (withdrawn, "has no re10k.ckpt", "nps weights list"),
        (no_room, "takes 0.00 GB, but .* 0.00 GB left", "HF_HUB_CACHE"),
        (disk_full_halfway, "the disk is full", "HF_HUB_CACHE"),
    ],
)
def test_trouble_is_one_sentence_and_a_way_out_and_leaves_nothing(
    nps, fake: FakeHub, place: Path, monkeypatch, trouble, said: str, hint: str
):
    trouble(fake, monkeypatch)
    ran = nps("weights", "fetch", NAME)
    assert (ran.code, ran.out) == (1, "")
    (error,) = (line for line in ran.err.splitlines() if line.startswith("error: "))
    assert re.search(said, error) and NAME in error and hint in ran.err
    assert not any(
        path.stat().st_size for path in cached_files(place) if path.parent.name != "refs"
    )


def test_without_a_name_a_gpu_gets_the_best_here_for_as_many_photos_and_a_cpu_the_embedded(
    place: Path, monkeypatch
):
    from nps_cli.weights.networks import _best_published

    here = {"noposplat-acid", "noposplat-mix-512", "noposplat-re10k-3view"}
    monkeypatch.setattr(hub, "find_cached", lambda each: place if each.name in here else None)
    chosen = {views: _best_published(torch.device("cuda"), views) for views in (2, 3)}
    assert {views: each and each.name for views, each in chosen.items()} == {
        2: "noposplat-mix-512",
        3: "noposplat-re10k-3view",
    }
    assert _best_published(CPU, 2) is None
    here.clear()
    assert _best_published(torch.device("cuda"), 2) is None


def test_the_environment_chooses_hub_and_folder(fake: FakeHub, tmp_path: Path):
    settings = {"HF_ENDPOINT": constants.ENDPOINT, "HF_HOME": str(tmp_path / "home")}
    ran = subprocess.run(
        [sys.executable, "-m", "nps_cli", "weights", "fetch", NAME],
        env={**os.environ, **settings, "HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert Path(ran.stdout.strip()).is_relative_to(tmp_path / "home")


def test_the_hub_is_not_even_imported_before_it_is_needed():
    code = "import sys, nps_cli.app, models.weights; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_published_checkpoint_says_its_terms():
    assert len({checkpoint.name for checkpoint in CHECKPOINTS}) == 5
    for checkpoint in CHECKPOINTS:
        info = checkpoint.info("0" * 64)
        assert "non-commercial" in info.license and "MIT" in info.metadata["code_license"]
        assert checkpoint.file in info.metadata["source"]
