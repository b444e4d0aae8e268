"""Study of all ablations at a small scale, on the same procedural worlds."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean, stdev

from models.data.procedural import Textures
from models.training.ablations import ABLATIONS
from models.training.batches import sample_worlds
from models.training.network import NetworkTraining
from models.training.presets import NETWORKS
from models.training.run import start, take_step

SMALL_SCALE = NetworkTraining(  # unlike the paper's, these networks start from random weights
    preset="ablations", data=(), network=NETWORKS["tiny"], sizes=((48, 48),), targets=1,
    skipped_views=1, batch=4, total_steps=150, warmup_steps=10, learning_rate=2e-3,
    pretrained_lr_scale=1.0, recompute=False, first_difficulty=0.3, last_difficulty=0.3,
    unit="distance", center_weight=1.0,
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """Scores of one network on worlds that none was trained on."""

    ablation: str
    seed: int
    parameters: int
    scores: dict[str, float]


def run_study(
    experiment: NetworkTraining,
    names: Iterable[str],
    seeds: Iterable[int],
    pairs: int,
    textures: Textures,
    on_result: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Train every ablation from every seed on the same worlds, and validate all on the same others.

    Args:
        experiment: What all have in common.
        names: Of `ABLATIONS`.
        seeds: Of initial weights and of worlds.
        pairs: Number of worlds to validate on.
        textures: Of the worlds; everything is computed on their device.
        on_result: Called with every result at once.
    """
    results = []
    for seed in seeds:
        seeded = replace(experiment, seed=seed)
        stream = sample_worlds(seeded, textures, textures.device)
        shared = list(islice(stream, experiment.total_steps))
        for name in names:
            config = ABLATIONS[name].apply(seeded)
            run = start(config, textures.device)
            for worlds in shared:
                take_step(run, config.make_batch(worlds))
            scores = config.validate(run.average, textures, pairs)
            parameters = sum(parameter.numel() for parameter in run.network.parameters())
            results.append(Result(name, seed, parameters, scores))
            on_result(results[-1])
    return results


def table(results: list[Result], first: str = "published") -> str:
    """Return Markdown: means over seeds, standard errors, and paired differences to `first`."""
    measured = list(results[0].scores)
    header = ["ablation", "parameters", *measured, f"{measured[0]} minus {first}'s"]
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    baseline = {result.seed: result for result in results if result.ablation == first}
    for name in dict.fromkeys(result.ablation for result in results):
        own = [result for result in results if result.ablation == name]
        cells = [_with_error([result.scores[score] for result in own]) for score in measured]
        differences = [
            result.scores[measured[0]] - baseline[result.seed].scores[measured[0]]
            for result in own
            if result.seed in baseline and name != first
        ]
        row = [name, f"{own[0].parameters:,}", *cells, _with_error(differences)]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _with_error(values: list[float]) -> str:
    if not values:
        return "-"
    mean = f"{fmean(values):.3f}"
    return mean if len(values) < 2 else f"{mean} ± {stdev(values) / math.sqrt(len(values)):.3f}"
