"""Epipolar lines go through what they belong to, and end where the photo ends."""

import pytest
import torch

from models.geometry.camera import project
from models.geometry.epipolar import epipolar_segments, fundamental_matrix
from models.geometry.rigid import se3_exponential

FIRST = torch.tensor([[0.8, 0, 0.5], [0, 1.1, 0.5], [0, 0, 1]])
SECOND = torch.tensor([[1.2, 0, 0.45], [0, 1.6, 0.55], [0, 0, 1]])


def test_a_match_lies_on_the_line_of_its_point():
    torch.manual_seed(1)
    points = torch.rand(50, 3) * torch.tensor([2, 1, 3]) + torch.tensor([-1, -0.5, 3])
    first2second = se3_exponential(torch.tensor([-0.5, 0.1, 0.2, 0.05, -0.1, 0.1]))
    at_first, _ = project(points, torch.eye(4), FIRST)
    at_second, _ = project(points, first2second, SECOND)
    fundamental = fundamental_matrix(first2second, FIRST, SECOND)
    start, end = epipolar_segments(at_first, fundamental).unbind(1)
    along = end - start
    offset = at_second - start
    across = along[:, 0] * offset[:, 1] - along[:, 1] * offset[:, 0]
    assert (across.abs() / along.norm(dim=1)).max() < 1e-5
    share = (along * offset).sum(1) / (along * along).sum(1)
    seen = ((at_second > 0) & (at_second < 1)).all(1)
    assert seen.sum() > 20
    assert ((share[seen] > 0) & (share[seen] < 1)).all()


def test_a_step_to_the_side_gives_level_lines_from_border_to_border():
    step = torch.eye(4)
    step[0, 3] = -1
    segments = epipolar_segments(torch.tensor([[0.3, 0.2]]), fundamental_matrix(step, FIRST, FIRST))
    torch.testing.assert_close(segments[0], torch.tensor([[0.0, 0.2], [1.0, 0.2]]))


@pytest.mark.parametrize("x", [0.1, 0.5, 0.8])
def test_a_step_up_gives_upright_lines_from_border_to_border(x: float):
    step = torch.eye(4)
    step[1, 3] = 1
    (segment,) = epipolar_segments(torch.tensor([[x, 0.6]]), fundamental_matrix(step, FIRST, FIRST))
    torch.testing.assert_close(segment[:, 0], torch.tensor([x, x]))
    assert sorted(segment[:, 1].tolist()) == pytest.approx([0, 1])


def test_a_line_that_misses_the_photo_has_no_ends():
    step = torch.eye(4)
    step[0, 3] = -1
    outside = torch.tensor([[0.3, 1.2], [0.3, 0.9]])
    segments = epipolar_segments(outside, fundamental_matrix(step, FIRST, FIRST))
    assert segments[0].isnan().all() and segments[1].isfinite().all()
