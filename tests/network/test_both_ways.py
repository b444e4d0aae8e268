"""Asked both ways, a network says the same of photos in any order."""

import torch
from test_network import make_lively_network, make_views, take

from models.geometry.rigid import se3_exponential, transform_points
from models.network.both_ways import fitted, reconstruct_in_every_order


def test_points_fit_onto_themselves_turned_scaled_and_moved():
    points = torch.randn(50, 3) * torch.tensor([1.0, 2.0, 0.1])
    motion = se3_exponential(torch.tensor([0.3, -2.0, 1.0, 0.5, 0.9, -0.7]))
    moved = 2.5 * transform_points(points, motion)

    torch.testing.assert_close(fitted(points, moved), moved, atol=1e-4, rtol=0)
    mirrored = points * torch.tensor([-1.0, 1.0, 1.0])
    assert (fitted(mirrored, points) - points).norm(dim=-1).max() > 0.1


def test_the_order_of_the_photos_changes_no_shape_when_all_are_asked():
    network = make_lively_network()
    for count in (2, 3):
        views = make_views(count)
        order = [1, 0, 2][:count]
        pixels = views.size[0] * views.size[1]

        def means(ask, order=order, views=views, count=count, pixels=pixels):
            swapped = ask(take(views, order)).means.unflatten(0, (count, pixels))
            return ask(views).means, swapped[order].flatten(0, 1)

        given, swapped = means(network.reconstruct)
        alone = (fitted(swapped, given) - given).norm() / given.norm()
        given, swapped = means(lambda asked: reconstruct_in_every_order(network, asked))
        together = (fitted(swapped, given) - given).norm() / given.norm()

        assert alone > 0.01
        assert together < (1e-4 if count == 2 else alone / 2)


def test_all_but_the_centers_is_the_answer_to_the_given_order():
    network, views = make_lively_network(), make_views()
    given, both = network.reconstruct(views), reconstruct_in_every_order(network, views)

    assert torch.equal(both.harmonics, given.harmonics) and torch.equal(both.scales, given.scales)
    assert not torch.allclose(both.means, given.means)
