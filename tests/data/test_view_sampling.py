import numpy as np
import pytest

from models.data.sampling import sample_views
from models.data.settings import SETTINGS, GapCurriculum

MANY = 400


def sampled(frames=200, gaps=(45, 90), **more):
    rng = np.random.default_rng(0)
    return [sample_views(frames, gaps, rng, **more) for _ in range(MANY)]


@pytest.mark.parametrize(
    ("name", "step", "expected"),
    [
        ("re10k", 0, (25, 25)),
        ("re10k", 4687, (34, 57)),  # 25 + int(20 * 0.49995), 25 + int(65 * 0.49995)
        ("re10k", 9375, (45, 90)),
        ("re10k", 10**6, (45, 90)),
        ("dl3dv", 0, (5, 7)),
        ("dl3dv", 9375, (8, 22)),
        ("scannetpp", 9375, (5, 15)),
    ],
)
def test_gaps_grow_with_the_step_to_the_published_bounds(name, step, expected):
    assert SETTINGS[name].gaps.at(step) == expected


def test_without_warm_up_the_gaps_are_the_last_ones_at_once():
    assert GapCurriculum((1, 1), (3, 9), steps=0).at(0) == (3, 9)


def test_gaps_and_places_fill_their_range_evenly_and_never_leave_it():
    samples = sampled(frames=100)
    gaps = [sample.context[1] - sample.context[0] for sample in samples]
    assert set(gaps) == set(range(45, 91)) and min(gaps) == 45 and max(gaps) == 90
    assert np.mean(gaps) == pytest.approx(67.5, abs=2)
    assert min(sample.context[0] for sample in samples) == 0
    assert max(sample.context[1] for sample in samples) == 99


def test_targets_come_from_the_whole_range_and_may_be_context_views():
    samples = sampled(frames=8, gaps=(3, 3))
    offsets = {target - sample.context[0] for sample in samples for target in sample.targets}
    assert offsets == {0, 1, 2, 3}
    assert any(len(set(sample.targets)) < 4 for sample in samples)


def test_a_short_sequence_limits_the_gap_and_a_shorter_one_is_refused():
    assert {sample.context for sample in sampled(frames=46)} == {(0, 45)}
    with pytest.raises(ValueError, match="45 frames, too few"):
        sampled(frames=45)


def test_further_context_views_are_distinct_and_strictly_between():
    samples = sampled(frames=9, gaps=(1, 4), views=4)
    assert {sample.context[-1] - sample.context[0] for sample in samples} == {3, 4}
    for sample in samples:
        first, *between, last = sample.context
        assert len(set(between)) == 2 and all(first < frame < last for frame in between)
    assert any(sample.context[1] > sample.context[2] for sample in samples)
