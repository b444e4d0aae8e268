"""All ablations side by side at a small scale, on procedural worlds: the same for each."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean, stdev

from models.data.procedural import Textures, WorldBatch
from models.training.ablations import ABLATIONS
from models.training.presets import NETWORKS
from models.training.rendering import RenderTraining
from models.training.run import start, take_step

SMALL_SCALE = RenderTraining(  # unlike the paper's, these networks start from nothing
    preset="ablations",
    data=(),
    network=NETWORKS["tiny"],
    sizes=((48, 48),), targets=1, batch=4, spare=1, total_steps=150, warmup_steps=10,
    learning_rate=2e-3, pretrained_share=1.0, recompute=False,
    first_difficulty=0.3, last_difficulty=0.3, unit="distance", center_weight=1.0,
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What one network reached on worlds that none was trained on."""

    ablation: str
    seed: int
    parameters: int
    scores: dict[str, float]


def run_study(
    experiment: RenderTraining,
    names: Iterable[str],
    seeds: Iterable[int],
    pairs: int,
    textures: Textures,
    on_result: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Train every ablation from every seed on the same worlds, and score it on the same others.

    Args:
        experiment: What all have in common.
        names: Of `ABLATIONS`.
        seeds: Of first weights and of worlds.
        pairs: How many worlds to score on.
        textures: Of the worlds; their device is where everything happens.
        on_result: Called with every result as it is there.
    """
    results = []
    for seed in seeds:
        seeded = replace(experiment, seed=seed)
        worlds = _shared_worlds(seeded, textures)
        for name in names:
            config = ABLATIONS[name].of(seeded)
            run = start(config, textures.device)
            while run.step < config.total_steps:
                take_step(run, config.lesson(worlds(run.step)))
            scores = config.score(run.average, textures, pairs)
            parameters = sum(parameter.numel() for parameter in run.network.parameters())
            results.append(Result(name, seed, parameters, scores))
            on_result(results[-1])
    return results


def table(results: list[Result], first: str = "published") -> str:
    """Markdown: means over seeds, their standard errors, and paired differences to the first."""
    measures = list(results[0].scores)
    heads = ["ablation", "parameters", *measures, f"{measures[0]} minus {first}'s"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    base = {result.seed: result for result in results if result.ablation == first}
    for name in dict.fromkeys(result.ablation for result in results):
        own = [result for result in results if result.ablation == name]
        cells = [_with_error([result.scores[measure] for result in own]) for measure in measures]
        gains = [
            result.scores[measures[0]] - base[result.seed].scores[measures[0]]
            for result in own
            if result.seed in base and name != first
        ]
        row = [name, f"{own[0].parameters:,}", *cells, _with_error(gains)]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _shared_worlds(experiment: RenderTraining, textures: Textures) -> Callable[[int], WorldBatch]:
    """The worlds of every step, drawn once for all ablations."""

    @cache
    def at(step: int) -> WorldBatch:
        return experiment.draw_worlds(textures, step, process=0, device=textures.device)

    return at


def _with_error(values: list[float]) -> str:
    if not values:
        return "-"
    mean = f"{fmean(values):.3f}"
    return mean if len(values) < 2 else f"{mean} ± {stdev(values) / math.sqrt(len(values)):.3f}"
