import io
import struct
import time

import pytest
from PIL import Image

from nps_cli.photos import tags as tags_module
from nps_cli.photos.exif import FOCAL_35MM, read_camera_facts
from nps_cli.photos.load import load_photo
from nps_cli.photos.tags import read_tags

ASCII, SHORT, LONG, RATIO, UNDEFINED = 2, 3, 4, 5, 7


def directory(start: int, entries: list[tuple[int, int, int, bytes]]) -> bytes:
    """A TIFF directory at this place, with the values that do not fit behind it."""
    behind = start + 2 + 12 * len(entries) + 4
    table, values = struct.pack("<H", len(entries)), b""
    for tag, kind, count, value in entries:
        place = value.ljust(4, b"\0")
        if len(value) > 4:
            place = struct.pack("<I", behind + len(values))
            values += value
        table += struct.pack("<HHI", tag, kind, count) + place
    return table + bytes(4) + values


def exif(make: str, standard: list, note: bytes = b"", note_count: int | None = None) -> bytes:
    """EXIF of this make, with standard tags and a maker note, whose place is given to it."""
    name = make.encode() + b"\0"
    main = [(0x010F, ASCII, len(name), name), (0x8769, LONG, 1, struct.pack("<I", 0))]
    start = 8 + len(directory(8, main))
    main[1] = (0x8769, LONG, 1, struct.pack("<I", start))
    if note:
        standard = [*standard, (0x927C, UNDEFINED, note_count or len(note), note)]
    return b"Exif\0\0II*\0\x08\0\0\0" + directory(8, main) + directory(start, standard)


def opened(blob: bytes) -> Image.Image:
    stream = io.BytesIO()
    Image.new("RGB", (64, 48)).save(stream, "jpeg", exif=blob)
    return Image.open(stream)


def facts(blob: bytes):
    return read_camera_facts(read_tags(opened(blob)))


def ratio(numerator: int, denominator: int) -> bytes:
    return struct.pack("<II", numerator, denominator)


def olympus(*entries: tuple[int, int, int, bytes]) -> bytes:
    """A maker note; its directory's places count from the TIFF's start, behind EXIF of 90 bytes."""
    place = 8 + len(directory(8, [(0x010F, ASCII, 8, b"OLYMPUS\0"), (0x8769, LONG, 1, b"")]))
    place += 2 + 12 * 2 + 4 + 8  # the Exif directory: a focal length of 8 bytes, and the note
    return b"OLYMP\0\1\0" + directory(place + 8, list(entries))


FOCAL_MM = (0x920A, RATIO, 1, ratio(62, 10))


def test_a_maker_note_tells_the_diagonal_of_the_sensor():
    note = olympus((0x0205, RATIO, 1, ratio(775, 100)))

    found = facts(exif("OLYMPUS", [FOCAL_MM], note))

    assert found.focal_mm == pytest.approx(6.2)
    assert found.sensor_diagonal_mm == pytest.approx(7.75)


def test_a_focal_length_and_a_noted_diagonal_make_intrinsics(tmp_path):
    note = olympus((0x0205, RATIO, 1, ratio(775, 100)))
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (400, 300)).save(path, exif=exif("OLYMPUS", [FOCAL_MM], note))

    photo = load_photo(path)

    assert photo.intrinsics_source == "exif-sensor"
    assert photo.camera.intrinsics[0, 0].item() * 400 == pytest.approx(500 * 6.2 / 7.75)


def test_a_maker_note_tells_the_digital_zoom_where_exif_does_not():
    note = olympus((0x0204, RATIO, 1, ratio(3, 2)))
    standard = (0xA404, RATIO, 1, ratio(2, 1))

    assert facts(exif("OLYMPUS", [FOCAL_MM], note)).digital_zoom == pytest.approx(1.5)
    assert facts(exif("OLYMPUS", [FOCAL_MM, standard])).digital_zoom == pytest.approx(2)


def test_exifread_is_asked_first_and_pillow_second(monkeypatch):
    image = opened(exif("Maker", [(FOCAL_35MM, SHORT, 1, struct.pack("<H", 26))]))
    asked = read_tags(image)
    monkeypatch.setattr(tags_module.exifread, "process_file", lambda *_, **__: 1 / 0)

    by_pillow = read_tags(image)

    assert asked[FOCAL_35MM] == by_pillow[FOCAL_35MM] == 26
    assert asked[0x010F] == by_pillow[0x010F] == "Maker"


@pytest.mark.parametrize("count", [0xFFFFFFFF, 0x7FFFFFFF, 10_000_000])
def test_a_maker_note_of_four_gigabytes_ends_soon(count):
    began = time.perf_counter()

    found = facts(exif("OLYMPUS", [FOCAL_MM], b"OLYMP\0\1\0" * 9, count))

    assert found.make == "OLYMPUS"
    assert time.perf_counter() - began < 5


def test_directories_that_contain_themselves_end_soon():
    blob = bytearray(exif("Maker", [FOCAL_MM]))
    place = blob.index(struct.pack("<HHI", 0x8769, LONG, 1))
    struct.pack_into("<I", blob, place + 8, 8)
    began = time.perf_counter()

    assert facts(bytes(blob)).make == "Maker"
    assert time.perf_counter() - began < 5


def test_the_place_of_a_photo_is_not_among_its_tags():
    made = Image.Exif()
    made[0x010F] = "Maker"
    made.get_ifd(0x8825).update({1: "N", 2: (47.0, 12.0, 34.5)})

    tags = read_tags(opened(made.tobytes()))

    assert tags.keys() <= {0x010F, 0x8825, 0x8769}
    assert "34.5" not in str(tags)
