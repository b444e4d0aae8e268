"""Where centers start: other views take the centers of what is alike in the first."""

import torch

from models.network.anchors import MatchedAnchors, agree, around_peak, spread
from models.network.config import EMBEDDED

GRID = (5, 6)
TOKENS = GRID[0] * GRID[1]
INTRINSICS = torch.tensor([[1.0, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]]).expand(1, 2, 3, 3)


def random_anchors() -> MatchedAnchors:
    torch.manual_seed(0)
    return MatchedAnchors(EMBEDDED, 128)


@torch.no_grad()
def test_a_view_that_shows_the_same_shifted_takes_the_first_ones_centers():
    first = torch.randn(*GRID, EMBEDDED.feature_width)
    second = torch.randn(*GRID, EMBEDDED.feature_width)
    second[:, :-1] = first[:, 1:]  # by one patch
    encoded = torch.stack([first, second]).flatten(1, 2)[None]
    anchors = random_anchors()
    anchors.log_sharpness.fill_(5.0)
    anchors.unmatched.fill_(0.4)
    points, certainty = anchors(encoded, INTRINSICS, GRID)
    points, certainty = points.unflatten(2, GRID)[0], certainty.view(2, *GRID)

    torch.testing.assert_close(points[1, :, :-1], points[0, :, 1:], atol=0.02, rtol=0)
    assert (certainty[0] == 1).all() and (certainty[1, :, :-1] > 0.9).all()
    assert (certainty[1, :, -1] < 0.5).all()  # what only the second view shows


@torch.no_grad()
def test_distances_are_where_rays_say():
    anchors = random_anchors()
    anchors.distance.bias.fill_(0.7)
    points, _ = anchors(torch.randn(1, 2, TOKENS, EMBEDDED.feature_width), INTRINSICS, GRID)
    torch.testing.assert_close(points[0, 0, :, 2], torch.full((TOKENS,), 0.7).exp())
    assert points[0, 0, 0, 0] < 0 < points[0, 0, -1, 0]  # left to right


def test_neighbors_on_the_same_sides_count():
    alike = torch.zeros(1, TOKENS, TOKENS)
    alike[0, 14, 14] = alike[0, 15, 15] = alike[0, 3, 20] = 1.0
    agreed = agree(alike, GRID)[0]
    assert agreed[14, 14] > agreed[3, 20] > 0 and agreed[14, 15] == 0
    torch.testing.assert_close(
        agree(torch.ones(1, TOKENS, TOKENS), GRID), torch.ones(1, TOKENS, TOKENS)
    )


def test_only_what_is_around_the_peak_counts():
    shares = torch.zeros(1, TOKENS)
    shares[0, 14] = 0.6
    marked = around_peak(shares, GRID).view(GRID)
    assert marked.sum() == 9 and marked[1:4, 1:4].all()


def test_pixels_lie_between_their_patches():
    centers = torch.arange(TOKENS, dtype=torch.float32).view(1, 1, TOKENS, 1)
    pixels = spread(centers, GRID, (70, 84))[0, 0, ..., 0]
    assert pixels.shape == (70, 84) and pixels[0, 0] == 0 and pixels[-1, -1] == TOKENS - 1
    torch.testing.assert_close(pixels[7:63, 7:77].mean(), torch.tensor((TOKENS - 1) / 2))
