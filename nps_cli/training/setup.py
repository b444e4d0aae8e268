"""From what a person asked `nps train` for to a run, its lessons and its records."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nps_cli import console, options
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    import torch

    from models.data.procedural import Assets
    from models.data.report import Report
    from models.metrics.lpips import Lpips
    from models.training.config import TrainConfig
    from models.training.rendering import RenderTraining
    from models.training.run import Run
    from models.training.tensorboard import Board

OWN = "own"  # data of no published kind


@dataclass(frozen=True)
class Root:
    """A data set on the disk, and which of the published ones it is like."""

    kind: str | None
    folder: Path

    def __str__(self) -> str:
        """As it is asked for."""
        return f"{self.kind}={self.folder}" if self.kind else str(self.folder)


@dataclass(frozen=True)
class Made:
    """Where what worlds are made of lies; None where there is none."""

    textures: Path | None
    panoramas: Path | None = None
    meshes: Path | None = None

    def __str__(self) -> str:
        """As it is asked for."""
        given = {name: path for name, path in vars(self).items() if path}
        return " ".join(f"--{name} {options.quoted(path)}" for name, path in given.items())


def parse_roots(texts: list[str]) -> list[Root]:
    """Read KIND=FOLDER, or just FOLDER."""
    from models.data.settings import SETTINGS

    roots = []
    for text in texts:
        kind, found, folder = text.partition("=")
        root = Root(kind, Path(folder)) if found and kind in SETTINGS else Root(None, Path(text))
        if not root.folder.is_dir():
            known = ", ".join(SETTINGS)
            raise typer.BadParameter(
                f"{text!r} is no folder, nor KIND=FOLDER with a KIND of {known}.",
                param_hint="--data",
            )
        roots.append(root)
    return roots


def experiment(
    preset: str | None, roots: list[Root], network: str | None, given: dict[str, Any]
) -> "RenderTraining":
    """The paper's experiment of this name, or its recipe for one's own data, with changes."""
    from models.training.presets import NETWORKS, PRESETS

    if preset is not None and preset not in PRESETS:
        raise typer.BadParameter(
            f"{preset!r} is none of {', '.join(PRESETS)}.", param_hint="--preset"
        )
    if network is not None and network not in NETWORKS:
        raise typer.BadParameter(
            f"{network!r} is none of {', '.join(NETWORKS)}.", param_hint="--network"
        )
    chosen = PRESETS[preset or "re10k"]
    expected = chosen.data if preset else (OWN,) * len(roots)
    if roots and len(roots) != len(expected):
        raise typer.BadParameter(
            f"{preset} takes {len(expected)}: {', '.join(expected)}.", param_hint="--data"
        )
    kinds = tuple(root.kind or kind for root, kind in zip(roots, expected, strict=False))
    if len(given.get("sizes", ())) > 1 and roots:
        raise typer.BadParameter("one size only for data sets.", param_hint="--size")
    if network:
        given = {"network": NETWORKS[network], **given}
    return replace(chosen, data=kinds, **given)


def embedded(preset: str, given: dict[str, Any]) -> "TrainConfig[Any]":
    """How the embedded network is trained, at full size or tiny, with changes."""
    from models.training.network import EMBEDDED

    if preset not in EMBEDDED:
        raise typer.BadParameter(
            f"{preset!r} is none of {', '.join(EMBEDDED)}.", param_hint="--preset"
        )
    return replace(EMBEDDED[preset], **given)


def ablated(config: "RenderTraining", name: str) -> "RenderTraining":
    """The experiment with one of the paper's ablations."""
    from models.training.ablations import ABLATIONS

    if name not in ABLATIONS:
        known = ", ".join([*ABLATIONS, "all"])
        raise typer.BadParameter(f"{name!r} is none of {known}.", param_hint="--ablation")
    return ABLATIONS[name].of(config)


def find_perceptual(config: "TrainConfig[Any]", trunk: Path | None) -> "Lpips | None":
    """LPIPS, for recipes that use it; where its weights are not here, that is said."""
    from models.training.rendering import RenderTraining
    from nps_cli.weights import lpips

    if not isinstance(config, RenderTraining):
        return None
    found = lpips.find_lpips(trunk)
    if found is None:
        console.warning(
            "LPIPS has no weights on this machine: training on MSE and SSIM's structure term "
            f"instead, which is not the published loss. To get them: {lpips.FETCH}"
        )
    return found


def begin(
    config: "TrainConfig[Any]",
    out: Path,
    init: Path | None,
    device: "torch.device",
    perceptual: "Lpips | None",
    *,
    go_on: bool,
    force: bool,
) -> "Run[Any]":
    """A new run with these settings, or the one in the folder, whose own settings hold."""
    from models.training import run as training

    checkpoint = out / training.CHECKPOINT
    if go_on and checkpoint.exists():
        try:
            run = training.resume(checkpoint, device, perceptual)
        except ValueError as error:
            raise NpsError(str(error), hint="Start again in another folder.") from error
        if run.config.part != config.part:
            raise NpsError(
                f"{checkpoint} is a run of the {run.config.part} part.",
                hint=f"Ask for the {run.config.part} part, or choose another folder.",
            )
        return run
    if checkpoint.exists() and not force:
        raise NpsError(
            f"{checkpoint} exists.", hint="Add --resume to go on, or --force to start again."
        )
    if init is None:
        _warn_of_nothing(config)
        run = training.start(config, device, perceptual)
    else:
        run = start_from(init, config, device, perceptual)
    out.mkdir(parents=True, exist_ok=True)
    return run


def _warn_of_nothing(config: "TrainConfig[Any]") -> None:
    """Random weights of the published network put all Gaussians into the first camera."""
    from models.training.rendering import RenderTraining

    if (
        isinstance(config, RenderTraining)
        and config.network.anchor_distance is None
        and not config.center_weight
    ):
        console.warning(
            "starting from random weights, which draw next to nothing to learn from: give MASt3R's "
            "or others with --init, or take --network embedded"
        )


def start_from(
    init: Path,
    config: "TrainConfig[Any]",
    device: "torch.device",
    perceptual: "Lpips | None" = None,
) -> "Run[Any]":
    """A new run that starts from weights, in their size and under their license."""
    from models.training import run as training
    from models.training.network import NetworkTraining
    from models.training.rendering import RenderTraining
    from models.weights import load_initial, load_strictly

    if not isinstance(config, NetworkTraining | RenderTraining):
        raise typer.BadParameter("starts the network only.", param_hint="--init")
    try:
        architecture = config.network if isinstance(config, RenderTraining) else None
        network, license = load_initial(init, architecture)
    except ValueError as error:
        raise NpsError(str(error), hint="`nps train --help` says what --init takes.") from error
    console.info(f"license of weights trained from {init}: {license}")
    config = replace(config, network=network.config, license=license)
    run: Run[Any] = training.start(config, device, perceptual)
    for each in (run.network, run.average):
        load_strictly(each, network.state_dict())
    return run


def lessons(
    run: "Run[Any]",
    roots: list[Root],
    assets: "Assets",
    workers: int,
    report: "Report",
) -> Callable[[], Any]:
    """What gives the batch of the run's next step: of data sets, or of procedural worlds."""
    from models.training import processes
    from models.training.rendering import RenderTraining
    from models.training.run import next_worlds

    if not isinstance(run.config, RenderTraining):
        return lambda: next_worlds(run, assets)
    config, device = run.config, run.generator.device
    if not config.data:
        return lambda: config.draw(assets, run.step, processes.rank(), device)
    if len(roots) != len(config.data):
        raise NpsError(
            f"This run learns from {len(config.data)} data sets: {', '.join(config.data)}.",
            hint="Give as many --data, in this order.",
        )
    from_data = _examples(config, roots, workers, report, run.step)
    return lambda: _next(from_data).to(device)


def _examples(
    config: "RenderTraining", roots: list[Root], workers: int, report: "Report", first_step: int
) -> Iterator[Any]:
    from models.data.settings import SETTINGS
    from models.data.stream import ExampleStream, examples, open_source
    from models.training import processes
    from models.training.batches import Lesson

    try:
        sources = []
        for kind, root in zip(config.data, roots, strict=True):
            settings = SETTINGS[kind]
            gaps = replace(settings.gaps, steps=config.gap_steps)
            sources.append(open_source(root.folder, replace(settings, gaps=gaps), report))
    except (OSError, ValueError) as error:
        raise NpsError(
            str(error), hint="A data set is a folder with train/*.torch; `nps data` makes some."
        ) from error
    stream = ExampleStream(
        sources=tuple(sources),
        size=config.sizes[0],
        batch=config.batch,
        views=config.context,
        targets=config.targets,
        seed=config.seed,
        rank=processes.rank(),
        processes=processes.count(),
    )
    return (Lesson(batch) for batch in examples(stream, report, first_step, workers))


def _next(lessons: Iterator[Any]) -> Any:
    try:
        return next(lessons)
    except ValueError as error:
        raise NpsError(
            str(error),
            hint="Say what kind of data it is, such as --data own=FOLDER; "
            "`nps data check` says what is wrong with it.",
        ) from error


def open_board(folder: Path) -> "Board | None":
    """TensorBoard's log, if that is installed; said where it is not."""
    from models.training.tensorboard import Board

    try:
        return Board(folder / "tensorboard")
    except ImportError:
        console.debug("TensorBoard is not installed (pip install tensorboard): log.jsonl only")
        return None
