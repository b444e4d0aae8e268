"""A network may be rounded: faster, almost as right, and never by accident."""

import pytest
import torch
from test_network import TINY, make_lively_network, make_views

from models.network.noposplat import NoPoSplat, Prediction
from models.network.precision import BFloat16Linear, round_to_bfloat16
from nps_cli.weights.networks import open_network


def make_pair() -> tuple[NoPoSplat, NoPoSplat]:
    rounded = make_lively_network()
    round_to_bfloat16(rounded)
    return make_lively_network(), rounded


def off_by(found: Prediction, expected: Prediction) -> float:
    """Root of the mean square of how far centers are off, as a part of their distance."""
    error = (found.means - expected.means).norm(dim=-1) / expected.means.norm(dim=-1)
    return error.square().mean().sqrt().item()


@torch.no_grad()
def test_a_rounded_network_answers_almost_as_the_exact_one_in_float32():
    exact, rounded = make_pair()
    views = make_views(3)

    prediction, expected = rounded(views), exact(views)

    assert prediction.means.dtype == prediction.harmonics.dtype == torch.float32
    assert 1e-5 < off_by(prediction, expected) < 2e-2
    torch.testing.assert_close(prediction.opacities, expected.opacities, rtol=0, atol=0.02)
    torch.testing.assert_close(prediction.harmonics, expected.harmonics, rtol=0, atol=0.02)


def test_rounding_halves_the_blocks_and_leaves_what_draws_the_centers():
    _, rounded = make_pair()
    sizes = {name: p.element_size() for name, p in rounded.named_parameters()}

    linears = [m for m in rounded.backbone.modules() if isinstance(m, BFloat16Linear)]
    assert len(linears) == 4 * TINY.encoder_depth + 16 * TINY.decoder_depth
    assert (
        sizes["backbone.encoder.0.mlp.0.weight"] == sizes["parameter_head.others.out.weight"] == 2
    )
    assert sizes["center_head.first.fine.weight"] == sizes["backbone.patch_embed.weight"] == 4


def test_a_large_network_is_rounded_on_a_cpu_that_gains_by_it_unless_it_is_told(monkeypatch):
    def is_rounded(*choice: object) -> bool:
        network, _ = open_network("network", torch.device("cpu"), 2, *choice)
        return any(isinstance(module, BFloat16Linear) for module in network.modules())

    monkeypatch.setattr("nps_cli.device.cpu_multiplies_bfloat16", lambda: True)
    assert not is_rounded()
    monkeypatch.setattr("nps_cli.weights.networks.MIN_PARAMETERS_TO_ROUND", 1e6)
    assert is_rounded() and is_rounded("bfloat16") and not is_rounded("float32")
    monkeypatch.setattr("nps_cli.device.cpu_multiplies_bfloat16", lambda: False)
    assert not is_rounded() and is_rounded("bfloat16")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("precision", "most"), [("float32", 1e-4), ("tf32", 5e-3), ("bfloat16", 2e-2)]
)
@torch.no_grad()
def test_cuda_answers_as_the_cpu_does_within_its_precision(
    precision: str, most: float, monkeypatch: pytest.MonkeyPatch
):
    for library in (torch.backends.cuda.matmul, torch.backends.cudnn):
        monkeypatch.setattr(library, "allow_tf32", precision == "tf32")
    expected = make_lively_network()(make_views())
    network = make_lively_network().cuda()
    if precision == "bfloat16":
        round_to_bfloat16(network)
    views = make_views().to(torch.device("cuda"))

    prediction = network(views)

    on_cpu = Prediction(**{name: value.cpu() for name, value in vars(prediction).items()})
    assert off_by(on_cpu, expected) < most
    torch.testing.assert_close(on_cpu.opacities, expected.opacities, rtol=0, atol=most)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.no_grad()
def test_a_forward_pass_can_be_captured_as_a_cuda_graph():
    network, views = make_lively_network().cuda(), make_views(3).to(torch.device("cuda"))
    expected = network(views).means
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        means = network(views).means
    graph.replay()
    torch.testing.assert_close(means, expected)
