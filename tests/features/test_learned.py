"""The learned matcher against another implementation of its networks: kornia's."""

import math
import re

import pytest
import torch
from torch import Tensor

from models.features.aliked import Aliked
from models.features.aliked_lightglue import (
    BIAS,
    GUESSED,
    KEYPOINTS,
    LearnedMatcher,
    turned,
    weights_files,
)
from models.features.matcher import Features
from nps_cli.reconstruction import open_refinement

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """Soft spots of all sizes, larger than what is cut out of it."""
    generator = torch.Generator().manual_seed(3)
    parts = [
        torch.nn.functional.interpolate(
            torch.randn(1, 3, side, side, generator=generator), (260, 330), mode="bicubic"
        )
        for side in (6, 20, 60, 150)
    ]
    return (0.5 + 0.13 * sum(parts))[0].clamp(0, 1)


@pytest.fixture(scope="module")
def states() -> list[dict[str, Tensor]]:
    return [torch.load(path, weights_only=True) for path in weights_files()]


@pytest.mark.parametrize("size", [(200, 301), (96, 64)])
def test_keypoints_and_descriptors_are_those_of_kornia(photo, states, size: tuple[int, int]):
    from kornia.feature import ALIKED

    other = ALIKED("aliked-n16", max_num_keypoints=KEYPOINTS, detection_threshold=-1).eval()
    other.load_state_dict(states[0], strict=False)
    image = photo[:, : size[0], : size[1]]
    with torch.no_grad():
        expected = other(image[None])[0]

    found = LearnedMatcher(CPU).detect(image)

    pixels = found.coordinates * torch.tensor([size[1], size[0]]) - 0.5 + torch.tensor(BIAS)
    assert len(pixels) == len(expected.keypoints) > 20
    # Scores that are almost the same may change places, so each looks for its like.
    distance, index = (pixels[:, None] - expected.keypoints).norm(dim=-1).min(1)
    assert distance.max() < 2e-3
    assert len(index.unique()) == len(index)
    torch.testing.assert_close(found.descriptors, expected.descriptors[index], atol=1e-4, rtol=0)


@torch.no_grad()
def test_fewer_keypoints_are_the_first_of_more(photo, states):
    network = Aliked(states[0])
    few, many = (network(photo[:, :200, :301], most) for most in (40, 200))
    assert len(few[0]) == 40 < len(many[0])
    torch.testing.assert_close(few[0], many[0][:40])
    torch.testing.assert_close(few[1], many[1][:40])


def test_matches_are_those_of_kornia(photo, states):
    from kornia.feature import LightGlue

    matcher = LearnedMatcher(CPU)
    size = (200, 290)
    first, second = (
        matcher.detect(photo[:, y : y + size[0], x : x + size[1]]) for x, y in ((0, 0), (35, 50))
    )
    layer = re.compile(r"^(self|cross)_attn\.(\d+)")
    other = LightGlue(features=None, input_dim=128).eval()
    named = {layer.sub(r"transformers.\2.\1_attn", key): each for key, each in states[1].items()}
    other.load_state_dict(named, strict=False)
    wide_high = torch.tensor([[float(size[1]), size[0]]])
    sides = [
        {
            "keypoints": (each.coordinates * wide_high)[None],
            "descriptors": each.descriptors[None],
            "image_size": wide_high,
        }
        for each in (first, second)
    ]
    with torch.no_grad():
        expected = other({"image0": sides[0], "image1": sides[1]})["matches"][0]

    found = matcher.match(first, second)

    assert len(found) > 50
    common = set(map(tuple, found.tolist())) & set(map(tuple, expected.tolist()))
    assert len(common) >= 0.99 * max(len(found), len(expected))


def offsets_of_nearest(first: Tensor, second: Tensor) -> Tensor:
    """From points to the nearest others, where each is the other's nearest, within 2."""
    distance = torch.cdist(first, second)
    nearest = distance.argmin(1)
    both = distance.argmin(0)[nearest] == torch.arange(len(first))
    near = both & (distance.amin(1) < 2)
    return second[nearest[near]] - first[near]


@pytest.mark.parametrize("turn", [0.4, -0.4])
def test_a_turned_photo_has_its_keypoints_where_it_had_them(turn: float):
    from skimage.data import astronaut

    picture = torch.from_numpy(astronaut()).permute(2, 0, 1) / 255
    upright, other = (LearnedMatcher(CPU).detect(picture, angle) for angle in (0.0, turn))
    off = offsets_of_nearest(512 * upright.coordinates, 512 * other.coordinates)
    assert len(off) > 500
    assert off.median(0).values.abs().max() < 0.25  # half a pixel where the network's bias stays


def test_photos_that_are_turned_alike_have_more_in_common(photo):
    angle = 1.2
    lying = turned(photo, angle)
    matcher = LearnedMatcher(CPU)
    first, asleep, upright = (
        matcher.detect(photo),
        matcher.detect(lying),
        matcher.detect(lying, -angle),
    )
    few, many = matcher.match(first, asleep), matcher.match(first, upright)
    size = torch.tensor([330.0, 260.0])
    large = torch.tensor([lying.shape[2], lying.shape[1]])
    cosine, sine = math.cos(angle), math.sin(angle)
    rotation = torch.tensor([[cosine, sine], [-sine, cosine]])  # of rows

    def right(matches: Tensor, second: Features) -> int:
        expected = (first.coordinates[matches[:, 0]] - 0.5) * size @ rotation
        seen = (second.coordinates[matches[:, 1]] - 0.5) * large
        return int(((seen - expected).norm(dim=1) < 2).sum())

    assert right(many, upright) > 3 * right(few, asleep)
    assert right(many, upright) > 0.8 * len(many) > 100


def test_rounded_to_bfloat16_almost_the_same_matches_are_found(photo):
    exact, rounded = LearnedMatcher(CPU), LearnedMatcher(CPU, rounded=True)
    sides = [exact.detect(photo[:, y : y + 200, x : x + 290]) for x, y in ((0, 0), (35, 50))]

    expected = set(map(tuple, exact.match(*sides).tolist()))
    found = set(map(tuple, rounded.match(*sides).tolist()))

    assert len(expected) > 50
    assert len(found & expected) >= 0.95 * max(len(found), len(expected))


@pytest.mark.parametrize("gains", [True, False])
def test_it_is_rounded_on_a_cpu_that_gains_by_it(monkeypatch, gains: bool):
    monkeypatch.setattr("nps_cli.device.cpu_multiplies_bfloat16", lambda: gains)
    learned = open_refinement(CPU).matchers[-1]
    dtypes = {each.dtype for each in learned._networks[1]._weights.values()}
    assert (torch.bfloat16 in dtypes) == gains


def test_only_the_best_keypoints_are_guessed_about():
    best = torch.nn.functional.normalize(torch.randn(KEYPOINTS, 128), dim=1)
    features = Features(torch.rand(KEYPOINTS, 2), best, 1.0)
    guesses = LearnedMatcher(CPU).guess(features, features)
    assert int(guesses.pairs.max()) == GUESSED - 1


def test_weights_that_lack_a_layer_are_refused(monkeypatch, tmp_path, states):
    files = [tmp_path / "aliked.pth", tmp_path / "lightglue.pth"]
    for file, state in zip(files, states, strict=True):
        torch.save({key: each for key, each in state.items() if "bn1.weight" not in key}, file)
    monkeypatch.setattr("models.features.aliked_lightglue.weights_files", lambda: files)
    with pytest.raises(ValueError, match=r"lack 'block1\.bn1\.weight'"):
        LearnedMatcher(CPU).detect(torch.rand(3, 64, 64))
