"""Asking a network about photos in every order that matters, so that their order does not."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.gaussians import Gaussians
from models.geometry.views import Views
from models.network.noposplat import NoPoSplat


def reconstruct_in_every_order(
    network: NoPoSplat, views: Views, autocast: bool = False
) -> Gaussians:
    """Predict one scene whose centers are the mean of what the network says in several orders.

    Each photo comes first once; the order of the others means nothing to the network. Every
    answer is laid onto the first by the similarity that fits the centers of all pixels best. All
    but the centers is the answer to the given order.
    """
    given = network.reconstruct(views, autocast)
    count = views.images.shape[1]
    answers = [given.means]
    for first in range(1, count):
        order = [first, *(view for view in range(count) if view != first)]
        asked = Views(views.images[:, order], views.intrinsics[:, order])
        means = network.reconstruct(asked, autocast).means.unflatten(0, (count, -1))
        in_given_order = means[torch.tensor(order).argsort().to(means.device)].flatten(0, 1)
        answers.append(fitted(in_given_order, given.means))
    return replace(given, means=torch.stack(answers).mean(dim=0))


def fitted(
    source: Float[Tensor, "point 3"], target: Float[Tensor, "point 3"]
) -> Float[Tensor, "point 3"]:
    """Points, turned, scaled and moved onto others as well as can be (Horn 1987).

    The scale is the ratio of the spreads, so that fitting the other way round gives its inverse.
    """
    centers = source.mean(dim=0), target.mean(dim=0)
    a, b = source - centers[0], target - centers[1]
    u, _, vt = torch.linalg.svd((b.T @ a).double())
    mirror = torch.ones_like(u[0])
    mirror[2] = torch.det(u @ vt).sign()
    turn = (u * mirror @ vt).to(a.dtype)
    return a @ turn.T * (b.norm() / a.norm().clamp(min=1e-12)) + centers[1]
