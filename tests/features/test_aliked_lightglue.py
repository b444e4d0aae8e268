"""The learned matcher against another implementation of its networks: kornia's.

kornia.npz holds what kornia 0.9.0 found in the same images with the same weights: all keypoints
in pixels, every n-th descriptor, and the pixels of both keypoints of each match.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.features.aliked import Aliked
from models.features.aliked_lightglue import (
    BIAS_PX,
    MAX_KEYPOINTS,
    MAX_TENTATIVE_KEYPOINTS,
    LearnedMatcher,
    load_weights,
    rotate_image,
    weights_files,
)
from models.features.matcher import Features
from nps_cli.weights.networks import load_refinement

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
    return [load_weights(path, CPU) for path in weights_files()]


@pytest.fixture(scope="module")
def kornia() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "kornia.npz") as recorded:
        return {name: torch.from_numpy(recorded[name]).float() for name in recorded.files}


@pytest.mark.parametrize("size", [(200, 301), (96, 64)])
def test_keypoints_and_descriptors_are_those_of_kornia(learned, photo, kornia, size):
    name = f"{size[0]}x{size[1]}"
    keypoints, descriptors = kornia[f"keypoints_{name}"], kornia[f"descriptors_{name}"]

    found = learned.detect(photo[:, : size[0], : size[1]])

    pixels = found.coordinates * torch.tensor([size[1], size[0]]) - 0.5 + torch.tensor(BIAS_PX)
    assert len(pixels) == len(keypoints) > 20
    # Scores that are almost the same may change places, so each looks for its like.
    distance, index = (keypoints[:, None] - pixels).norm(dim=-1).min(1)
    assert distance.max() < 2e-3
    assert len(index.unique()) == len(index)
    ours = found.descriptors[index[:: max(1, len(keypoints) // 32)]]
    torch.testing.assert_close(ours, descriptors, atol=3e-4, rtol=0)  # recorded as float16


@torch.no_grad()
def test_fewer_keypoints_are_the_first_of_more(photo, states):
    network = Aliked(states[0])
    few, many = (network(photo[:, :200, :301], count) for count in (40, 200))
    assert len(few[0]) == 40 < len(many[0])
    torch.testing.assert_close(few[0], many[0][:40])
    torch.testing.assert_close(few[1], many[1][:40])


def test_matches_are_those_of_kornia(learned, photo, kornia):
    size = (200, 290)
    first, second = (
        learned.detect(photo[:, y : y + size[0], x : x + size[1]]) for x, y in ((0, 0), (35, 50))
    )

    found = learned.match(first, second)

    wide_high = torch.tensor([size[1], size[0]])
    both = [first.coordinates[found[:, 0]], second.coordinates[found[:, 1]]]
    pixels = torch.cat([coordinates * wide_high for coordinates in both], dim=1)
    assert len(found) > 50
    distance = (pixels[:, None] - kornia["matches"]).norm(dim=-1)
    common = int((distance.amin(1) < 0.01).sum())
    assert common >= 0.99 * max(len(found), len(kornia["matches"]))


def offsets_of_nearest(first: Tensor, second: Tensor) -> Tensor:
    """From points to the nearest others, where each is the other's nearest, within 2."""
    distance = torch.cdist(first, second)
    nearest = distance.argmin(1)
    both = distance.argmin(0)[nearest] == torch.arange(len(first))
    near = both & (distance.amin(1) < 2)
    return second[nearest[near]] - first[near]


@pytest.mark.parametrize("rotation", [0.4, -0.4])
def test_a_rotated_photo_has_its_keypoints_where_it_had_them(learned, rotation: float):
    from skimage.data import astronaut

    picture = torch.from_numpy(astronaut()).permute(2, 0, 1) / 255
    upright, other = (learned.detect(picture, angle) for angle in (0.0, rotation))
    off = offsets_of_nearest(512 * upright.coordinates, 512 * other.coordinates)
    assert len(off) > 500
    assert off.median(0).values.abs().max() < 0.25  # half a pixel where the network's bias stays


def test_photos_that_are_rotated_alike_have_more_in_common(learned, photo):
    angle = 1.2
    lying = rotate_image(photo, angle)
    first, rotated = learned.detect(photo), learned.detect(lying)
    upright = learned.detect(lying, -angle)
    few, many = learned.match(first, rotated), learned.match(first, upright)
    size = torch.tensor([330.0, 260.0])
    large = torch.tensor([lying.shape[2], lying.shape[1]])
    cosine, sine = math.cos(angle), math.sin(angle)
    rotation = torch.tensor([[cosine, sine], [-sine, cosine]])  # of rows

    def right(matches: Tensor, second: Features) -> int:
        expected = (first.coordinates[matches[:, 0]] - 0.5) * size @ rotation
        seen = (second.coordinates[matches[:, 1]] - 0.5) * large
        return int(((seen - expected).norm(dim=1) < 2).sum())

    assert right(many, upright) > 3 * right(few, rotated)
    assert right(many, upright) > 0.8 * len(many) > 100


def test_rounded_to_bfloat16_almost_the_same_matches_are_found(learned, photo):
    rounded = LearnedMatcher(CPU, bfloat16=True)
    sides = [learned.detect(photo[:, y : y + 200, x : x + 290]) for x, y in ((0, 0), (35, 50))]

    expected = set(map(tuple, learned.match(*sides).tolist()))
    found = set(map(tuple, rounded.match(*sides).tolist()))

    assert len(expected) > 50
    assert len(found & expected) >= 0.95 * max(len(found), len(expected))


@pytest.mark.parametrize("gains", [True, False])
def test_it_is_rounded_on_a_cpu_that_gains_by_it(monkeypatch, gains: bool):
    monkeypatch.setattr("nps_cli.device.cpu_multiplies_bfloat16", lambda: gains)
    learned = load_refinement(CPU)[0][-1]
    dtypes = {each.dtype for each in learned._networks[1]._weights.values()}
    assert (torch.bfloat16 in dtypes) == gains


def test_only_the_best_keypoints_have_tentative_matches(learned):
    best = torch.nn.functional.normalize(torch.randn(MAX_KEYPOINTS, 128), dim=1)
    features = Features(torch.rand(MAX_KEYPOINTS, 2), best, 1.0)
    tentative = learned.match_softly(features, features)
    assert int(tentative.matches.max()) == MAX_TENTATIVE_KEYPOINTS - 1


def test_weights_that_lack_a_layer_are_refused(monkeypatch, tmp_path, states):
    files = [tmp_path / "aliked.safetensors", tmp_path / "lightglue.safetensors"]
    for file, state in zip(files, states, strict=True):
        save_file({key: each for key, each in state.items() if "bn1.weight" not in key}, file)
    monkeypatch.setattr("models.features.aliked_lightglue.weights_files", lambda: files)
    with pytest.raises(ValueError, match=r"lack 'block1\.bn1\.weight'"):
        LearnedMatcher(CPU).detect(torch.rand(3, 64, 64))


@pytest.mark.parametrize("size", [(33, 33), (1, 40), (3, 3)])
def test_an_image_that_shows_nothing_has_no_keypoints_and_no_matches(learned, photo, size):
    empty, other = learned.detect(torch.ones(3, *size)), learned.detect(photo[:, :96, :96])
    assert empty.descriptors.shape == (len(empty), 128)
    assert len(learned.detect(torch.ones(3, 33, 33))) == 0
    for first, second in ((empty, other), (other, empty), (empty, empty)):
        assert learned.match(first, second).shape[1] == 2
        tentative = learned.match_softly(first, second)
        assert tentative.matches.shape == (len(tentative.probabilities), 2)
