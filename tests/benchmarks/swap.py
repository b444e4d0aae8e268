"""How much the order of two photos matters to a network, and whether asking it both ways helps.

    python tests/benchmarks/swap.py PAIRS.json --weights noposplat-mix --limit 20

PAIRS.json is what `nps evaluate` takes. The network is asked for each pair in both orders, and the
second answer is laid onto the first by the similarity that fits the centers of all pixels best.
`asymmetry` is what remains between them: the root of the mean square of the differences, as a part
of the centers' distances. `first` and `both` are PSNR at the true poses, without any refinement:
of the first answer, and of a scene whose centers are the mean of both.
"""

import argparse
import statistics
from pathlib import Path

from torch import Tensor

from models.data.pairs import load_pairs, spread_over_scenes
from models.evaluation.evaluate import EvaluationConfig, evaluate_pair
from models.geometry.gaussians import Gaussians
from models.geometry.views import Views
from models.network.both_ways import reconstruct_in_every_order
from models.network.noposplat import NoPoSplat
from models.network.preprocessing import Framing
from models.reconstruct import reconstruct
from models.reconstruction import Reconstruction
from nps_cli.device import pick_device
from nps_cli.reconstruction import framing_for, open_network


class BothWays:
    """Stands in for a network, as `--symmetric` asks it, and keeps what was apart."""

    def __init__(self, network: NoPoSplat) -> None:
        self.network = network
        self.asymmetry: list[float] = []

    def reconstruct(self, views: Views) -> Gaussians:
        given = self.network.reconstruct(views).means
        both = reconstruct_in_every_order(self.network, views)
        apart = 2 * (both.means - given)  # the mean lies half way
        error = apart.norm(dim=-1) / given.norm(dim=-1)
        self.asymmetry.append(error.square().mean().sqrt().item())
        return both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--weights", help="as in `nps reconstruct`")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--crop", choices=("square", "full"))
    parser.add_argument("--limit", type=int, default=20, help="pairs, from all scenes")
    options = parser.parse_args()
    device = pick_device(options.device)
    network, info = open_network(options.weights, device)
    framing = framing_for(info, options.crop)
    both = BothWays(network)

    def asker(asked: NoPoSplat | BothWays, seen: Framing):
        def ask(photos: list[Tensor], intrinsics: Tensor) -> Reconstruction:
            on_device = [photo.to(device) for photo in photos]
            return reconstruct(on_device, intrinsics.to(device), asked, None, framing=seen)

        return ask

    config = EvaluationConfig(align=False)
    gains, firsts, boths = [], [], []
    pairs = [pair for pair in load_pairs(options.pairs) if len(pair.views) == 2]
    for pair in spread_over_scenes(pairs, options.limit):
        scores = [
            evaluate_pair(pair, asker(asked, framing), config).scores for asked in (network, both)
        ]
        if any(score.failure or not score.targets for score in scores):
            print(f"{pair.id}: {scores[0].failure or scores[1].failure or 'no targets'}")
            continue
        first, second = (
            statistics.mean(target.posed.psnr for target in score.targets) for score in scores
        )
        firsts.append(first)
        boths.append(second)
        gains.append(second - first)
        print(
            f"{pair.id}: asymmetry {both.asymmetry[-1]:.3f}, {first:.2f} dB, both {second:.2f} dB"
        )
    print(
        f"{info.name}, {framing.crop}, {len(gains)} pairs: median asymmetry "
        f"{statistics.median(both.asymmetry):.3f}; first {statistics.mean(firsts):.2f} dB, both "
        f"{statistics.mean(boths):.2f} dB, better on {sum(gain > 0 for gain in gains)}"
    )


if __name__ == "__main__":
    main()
