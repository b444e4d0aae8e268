import numpy as np
import pytest
from PIL import Image

from models.data.lanczos import resize_part

LANCZOS = Image.Resampling.LANCZOS


def noise(rng, height: int, width: int) -> np.ndarray:
    """Values that overshoot on either side when they are resized."""
    return (rng.integers(0, 2, (height, width, 3)) * rng.integers(200, 256)).astype(np.uint8)


@pytest.mark.parametrize("trial", range(8))
@pytest.mark.parametrize("flip", [False, True])
def test_a_part_is_bit_for_bit_what_pillow_makes_of_the_whole(trial, flip):
    rng = np.random.default_rng(trial)
    old = rng.integers(30, 200, 2).tolist()
    new = [max(4, round(side * rng.uniform(0.2, 1.3))) for side in old]
    part = [int(rng.integers(1, side + 1)) for side in new]
    top, left = (
        int(rng.integers(0, side - kept + 1)) for side, kept in zip(new, part, strict=True)
    )
    pixels = noise(rng, *old)

    seen = Image.fromarray(pixels[:, ::-1] if flip else pixels)
    whole = np.asarray(seen.resize((new[1], old[0]), LANCZOS).resize(new[::-1], LANCZOS))
    found = resize_part(pixels, tuple(new), (top, left), tuple(part), flip=flip)

    expected = whole[top : top + part[0], left : left + part[1]].transpose(2, 0, 1)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("old", [(90, 160), (120, 120), (150, 100)])
def test_an_image_of_a_usual_shape_is_resized_in_pillows_order(old):
    pixels = noise(np.random.default_rng(0), *old)
    new = round(0.7 * old[0]), round(0.7 * old[1])
    whole = np.asarray(Image.fromarray(pixels).resize(new[::-1], LANCZOS))
    assert np.array_equal(resize_part(pixels, new, (0, 0), new), whole.transpose(2, 0, 1))


def test_an_image_of_the_same_size_stays_as_it_is():
    pixels = noise(np.random.default_rng(0), 20, 30)
    found = resize_part(pixels, (20, 30), (0, 0), (20, 30))
    assert np.array_equal(found, pixels.transpose(2, 0, 1))
