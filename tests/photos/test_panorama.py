import json
import math
import shlex

import numpy as np
import pytest
from PIL import Image

from nps_cli.errors import NpsError
from nps_cli.photos.exif import FOCAL_35MM, MAKE, PIXELS_X, PIXELS_Y, focal_in_pixels
from nps_cli.photos.exif import read_camera_facts as facts_of
from nps_cli.photos.intrinsics import GivenIntrinsics
from nps_cli.photos.load import load_photo, load_photos

EXIF_DIRECTORY, CUSTOM_RENDERED, MODEL = 0x8769, 0xA401, 0x0110
NAMESPACE = 'xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"'


def exif(tags: dict[int, object]) -> Image.Exif:
    made = Image.Exif()
    for tag, value in tags.items():
        (made.get_ifd(EXIF_DIRECTORY) if tag > 0x9000 else made)[tag] = value
    return made


def xmp(attributes: str = "", elements: str = "") -> bytes:
    return f"<rdf:Description {NAMESPACE} {attributes}>{elements}</rdf:Description>".encode()


def sphere(height: int = 128) -> np.ndarray:
    """Waves on a sphere, seen from its middle: what equirectangular pictures are like."""
    latitude = (0.5 - (np.arange(height) + 0.5) / height)[:, None] * math.pi
    longitude = (np.arange(2 * height) + 0.5)[None] / height * math.pi
    x, y = np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude)
    gray = 128 + 60 * np.sin(9 * x + 2) + 60 * np.cos(7 * y) * np.cos(latitude)
    return gray.clip(0, 255).astype(np.uint8)


@pytest.fixture
def photo(tmp_path):
    """Saves a gray or a given picture: `photo((400, 300), exif=...)`."""

    def save(picture: tuple[int, int] | np.ndarray, name: str = "photo.jpg", **how):
        image = Image.new("L", picture, 99) if isinstance(picture, tuple) else picture
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image.convert("RGB").save(tmp_path / name, **how)
        return tmp_path / name

    return save


@pytest.mark.parametrize("suffix", ["jpg", "webp", "heic"])
@pytest.mark.parametrize(
    "said",
    [
        xmp('GPano:ProjectionType="equirectangular"'),
        xmp(elements="<GPano:ProjectionType>equirectangular</GPano:ProjectionType>"),
        xmp("GPano:ProjectionType='Equirectangular'"),
    ],
)
def test_xmp_says_that_a_picture_is_a_sphere(photo, suffix, said):
    path = photo((400, 300), f"photo.{suffix}", xmp=said, exif=exif({FOCAL_35MM: 26}))

    with pytest.raises(NpsError, match="360-degree panorama") as caught:
        load_photo(path)

    assert f"ffmpeg -i {path}" in caught.value.hint


def test_a_part_of_a_sphere_is_cut_by_the_degrees_that_it_spans(photo):
    said = xmp(
        'GPano:ProjectionType="equirectangular" GPano:FullPanoWidthPixels="800" '
        'GPano:CroppedAreaImageWidthPixels="400"',
        "<GPano:FullPanoHeightPixels>400</GPano:FullPanoHeightPixels>"
        "<GPano:CroppedAreaImageHeightPixels>100</GPano:CroppedAreaImageHeightPixels>",
    )

    with pytest.raises(NpsError, match="panorama of 180 degrees") as caught:
        load_photo(photo((400, 300), xmp=said))

    assert "ih_fov=180:iv_fov=45" in caught.value.hint


def test_a_path_with_spaces_is_quoted_in_the_command_that_cuts(photo):
    path = photo((400, 300), "my sphere.jpg", xmp=xmp('GPano:ProjectionType="equirectangular"'))

    with pytest.raises(NpsError) as caught:
        load_photo(path)

    assert str(path) in shlex.split(caught.value.hint)


@pytest.mark.parametrize("size", [(1000, 250), (1000, 90), (300, 900)])
@pytest.mark.parametrize("tags", [{}, {FOCAL_35MM: 24, PIXELS_X: 16000, PIXELS_Y: 4000}])
def test_a_picture_longer_than_any_camera_takes_is_a_panorama(photo, size, tags):
    path = photo(size, exif=exif(tags))

    with pytest.raises(NpsError, match="panorama") as caught:
        load_photo(path)

    assert "--fov" in caught.value.hint


def test_a_phone_says_that_it_stitched_a_picture_of_any_shape(photo):
    path = photo((400, 300), exif=exif({MAKE: "Apple", CUSTOM_RENDERED: 6}))

    with pytest.raises(NpsError, match="panorama"):
        load_photo(path)


def test_a_phones_panorama_is_cut_by_the_angle_of_its_lens(photo):
    with pytest.raises(NpsError) as caught:
        load_photo(photo((1000, 250), exif=exif({FOCAL_35MM: 18})))

    assert "iv_fov=90" in caught.value.hint  # 36 mm of film at 18 mm
    assert "ih_fov=360" in caught.value.hint  # 4 times as long: 8 radians


@pytest.mark.parametrize("size", [(400, 300), (2400, 1000), (1000, 2050)])
def test_what_cameras_take_is_no_panorama(photo, size):
    assert load_photo(photo(size)).intrinsics_source == "guessed"


def test_a_strip_of_a_frame_that_exif_describes_is_no_panorama(photo):
    tags = {FOCAL_35MM: 26, PIXELS_X: 1000, PIXELS_Y: 750}

    assert load_photo(photo((1000, 250), exif=exif(tags))).intrinsics_source == "exif-35mm"


def test_a_person_knows_better_than_the_shape(photo):
    path = photo((1000, 250))

    (loaded,) = load_photos([path], GivenIntrinsics(fov_deg=(80.0,)))

    assert loaded.hfov_deg == pytest.approx(80)


def test_a_person_does_not_know_better_than_the_xmp(photo):
    path = photo((1000, 500), xmp=xmp('GPano:ProjectionType="equirectangular"'))

    with pytest.raises(NpsError, match="360-degree"):
        load_photos([path], GivenIntrinsics(fov_deg=(80.0,)))


def test_the_pixels_of_a_sphere_tell_without_any_xmp(photo):
    with pytest.raises(NpsError, match="360-degree panorama"):
        load_photo(photo(sphere()))


def test_a_camera_for_spheres_tells_without_any_xmp(photo):
    with pytest.raises(NpsError, match="360-degree panorama"):
        load_photo(photo((400, 200), exif=exif({MAKE: "RICOH", MODEL: "RICOH THETA X"})))


@pytest.mark.parametrize(
    "picture",
    [
        np.full((128, 256), 90, np.uint8),  # a wall
        np.ascontiguousarray(sphere()[:, ::-1][:, 30:222]),  # no longer twice as wide
        np.ascontiguousarray(sphere(192)[48:144, :192]),  # no poles, no seam
    ],
)
def test_other_pictures_twice_as_wide_as_high_are_photos(photo, picture):
    assert load_photo(photo(picture)).intrinsics_source == "guessed"


def test_inspect_says_that_a_file_is_a_panorama(nps, photo):
    ran = nps("inspect", "--json", photo((1000, 250)), photo((400, 300), "other.jpg"))

    panorama, other = json.loads(ran.out)
    assert "panorama (1000 x 250" in panorama["error"]
    assert other["kind"] == "photo"
    assert ran.code == 1


@pytest.mark.parametrize("frame", [(1e6, 1), (1, 1e6), (1, 1), (4000, 3), (65535, 1), (30000, 200)])
@pytest.mark.parametrize("size", [(3000, 4000), (4000, 3000), (300, 400)])
def test_sizes_that_disagree_with_the_photo_leave_a_lens_that_exists(frame, size):
    tags = {FOCAL_35MM: 26, PIXELS_X: frame[0], PIXELS_Y: frame[1]}

    focal_px, source = focal_in_pixels(facts_of(tags), size)

    assert source == "exif-35mm"
    assert 50 < math.degrees(2 * math.atan(size[1] / 2 / focal_px)) < 80


@pytest.mark.parametrize("frame", [(1e6, 1), (65535, 1)])
def test_an_impossible_frame_is_as_good_as_none(frame):
    tags = {FOCAL_35MM: 26, PIXELS_X: frame[0], PIXELS_Y: frame[1]}

    assert focal_in_pixels(facts_of(tags), (300, 400)) == focal_in_pixels(
        facts_of({FOCAL_35MM: 26}), (300, 400)
    )
