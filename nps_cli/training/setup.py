"""From the options of `nps train` to a run and its batches."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nps_cli import console
from nps_cli.errors import NpsError
from nps_cli.training.options import EmbeddedOptions, PaperOptions, RunOptions

if TYPE_CHECKING:
    import torch

    from models.data.examples import ExampleBatch
    from models.data.procedural import Assets
    from models.data.report import Report
    from models.metrics.lpips import Lpips
    from models.training.config import TrainConfig
    from models.training.embedded import EmbeddedTraining
    from models.training.network import NetworkTraining
    from models.training.run import Run

OWN = "own"  # data of no published kind


@dataclass(frozen=True)
class DataSet:
    """A data set on the disk, and which of the published ones it is like."""

    kind: str | None
    folder: Path


def parse_data_sets(texts: list[str]) -> list[DataSet]:
    """Read KIND=FOLDER, or just FOLDER."""
    from models.data.settings import SETTINGS

    data_sets = []
    for text in texts:
        kind, found, folder = text.partition("=")
        is_kind = bool(found) and kind in SETTINGS
        data_set = DataSet(kind, Path(folder)) if is_kind else DataSet(None, Path(text))
        if not data_set.folder.is_dir():
            known = ", ".join(SETTINGS)
            raise typer.BadParameter(
                f"{text!r} is no folder, nor KIND=FOLDER with a KIND of {known}.",
                param_hint="--data",
            )
        data_sets.append(data_set)
    return data_sets


def paper_config(options: PaperOptions, data_sets: list[DataSet]) -> "NetworkTraining":
    """Return the chosen experiment of the paper, or its recipe for other data, with changes."""
    from models.training.ablations import ABLATIONS
    from models.training.presets import NETWORKS, PRESETS

    for value, known, option in (
        (options.preset, PRESETS, "--preset"),
        (options.network, NETWORKS, "--network"),
        (options.ablation, ABLATIONS, "--ablation"),
    ):
        _check_choice(value, known, option)
    changes = options.changes()
    chosen = PRESETS[options.preset or "re10k"]
    expected = chosen.data if options.preset else (OWN,) * len(data_sets)
    if data_sets and len(data_sets) != len(expected):
        raise typer.BadParameter(
            f"{options.preset} takes {len(expected)}: {', '.join(expected)}.", param_hint="--data"
        )
    if len(changes.get("sizes", ())) > 1 and data_sets:
        raise typer.BadParameter("one size only for data sets.", param_hint="--size")
    kinds = [data.kind or kind for data, kind in zip(data_sets, expected, strict=False)]
    if options.network:
        changes["network"] = NETWORKS[options.network]
    config = replace(chosen, data=tuple(kinds), **changes)
    return ABLATIONS[options.ablation].apply(config) if options.ablation else config


def embedded_config(options: EmbeddedOptions, device: "torch.device") -> "EmbeddedTraining":
    """Return the recipe of the embedded network, as chosen or for the device, with changes."""
    from models.training.presets import EMBEDDED
    from nps_cli.device import cpu_multiplies_bfloat16

    _check_choice(options.preset, EMBEDDED, "--preset")
    config = EMBEDDED[options.preset or ("gpu" if device.type == "cuda" else "cpu")]
    if not config.encoder_lr_scale and device.type != "cpu":
        raise typer.BadParameter(f"{options.preset} is for a CPU: add --device cpu.")
    autocast = device.type == "cuda" or cpu_multiplies_bfloat16()
    return replace(config, autocast=autocast, **options.changes())


def _check_choice(value: str | None, known: dict[str, Any], option: str) -> None:
    if value is not None and value not in known:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(known)}.", param_hint=option)


def find_lpips(path: Path | None) -> "Lpips | None":
    """Return LPIPS; where its weights are not here, warn and return None."""
    from nps_cli.weights import lpips

    found = lpips.find_lpips(path)
    if found is None:
        console.warning(
            "LPIPS has no weights on this machine: training on MSE and SSIM's structure term "
            f"instead, which is not the published loss. To get them: {lpips.FETCH}"
        )
    return found


def begin(
    config: "TrainConfig[Any]",
    options: RunOptions,
    device: "torch.device",
    init: Path | None = None,
    lpips: "Lpips | None" = None,
) -> "Run[Any]":
    """Start a new run, or resume the one in the folder, whose own settings hold."""
    from models.training import run as training
    from nps_cli.output import check_outputs, check_suffix

    if options.export:
        check_suffix(options.export, (".safetensors",))
    checkpoint = options.out / training.CHECKPOINT
    read = [init, options.meshes, checkpoint if options.resume else None]
    check_outputs(options.export, inputs=read, force=options.force)
    if options.resume and checkpoint.exists():
        try:
            run = training.resume(checkpoint, device, lpips)
        except ValueError as error:
            raise NpsError(str(error), hint="Start again in another folder.") from error
        if run.config.part != config.part:
            raise NpsError(
                f"{checkpoint} is a run of the {run.config.part} part.",
                hint=f"This command trains the {config.part} part: choose another folder.",
            )
        return run
    if checkpoint.exists() and not options.force:
        raise NpsError(
            f"{checkpoint} exists.", hint="Add --resume to go on, or --force to start again."
        )
    if checkpoint.exists():
        check_outputs(checkpoint, inputs=[init], force=True)
    if init is None:
        _warn_of_random_weights(config)
        run = training.start(config, device, lpips)
    else:
        run = start_from(init, config, device, lpips)
    options.out.mkdir(parents=True, exist_ok=True)
    return run


def _warn_of_random_weights(config: "TrainConfig[Any]") -> None:
    """Random weights of the published network put all Gaussians into the first camera."""
    from models.training.network import NetworkTraining

    if (
        isinstance(config, NetworkTraining)
        and config.network.anchor_distance is None
        and not config.center_weight
    ):
        console.warning(
            "starting from random weights, whose renderings show next to nothing to learn from: "
            "give MASt3R's or others with --init, or take --network anchored"
        )


def start_from(
    init: Path,
    config: "TrainConfig[Any]",
    device: "torch.device",
    lpips: "Lpips | None" = None,
) -> "Run[Any]":
    """Start a new run from weights, under their license and in their size; MASt3R's must fit."""
    from models.training import run as training
    from models.weights import load_initial, load_strictly

    try:
        network, license = load_initial(init, config.network)
    except ValueError as error:
        raise NpsError(
            str(error), hint="`nps train paper --help` says what --init takes."
        ) from error
    console.info(f"license of weights trained from {init}: {license}")
    config = replace(config, network=network.config, license=license)
    run: Run[Any] = training.start(config, device, lpips)
    for each in (run.network, run.average):
        load_strictly(each, network.state_dict())
    return run


def batches(
    run: "Run[Any]",
    data_sets: list[DataSet],
    assets: "Assets",
    workers: int,
    report: "Report",
    worlds: Path | None = None,
) -> Iterator[Any]:
    """Return the batches from the run's next step on: of data sets, or of procedural worlds."""
    from models.training.batches import TrainingBatch, world_batches
    from models.training.embedded import EmbeddedTraining
    from models.training.encoded_worlds import encoded_batches
    from models.training.network import NetworkTraining

    config = run.config
    if isinstance(config, EmbeddedTraining) and worlds and not config.encoder_lr_scale:
        return encoded_batches(config, assets, worlds, run.step)
    if not isinstance(config, NetworkTraining) or not config.data:
        return world_batches(config, assets, run.device, run.step)
    if len(data_sets) != len(config.data):
        raise NpsError(
            f"This run learns from {len(config.data)} data sets: {', '.join(config.data)}.",
            hint="Give as many --data, in this order.",
        )
    examples = _examples(config, data_sets, workers, report, run.step)
    return (TrainingBatch(batch).to(run.device) for batch in examples)


def _examples(
    config: "NetworkTraining",
    data_sets: list[DataSet],
    workers: int,
    report: "Report",
    first_step: int,
) -> "Iterator[ExampleBatch]":
    from models.data.settings import SETTINGS
    from models.data.stream import ExampleStream, examples, open_source
    from models.training import processes

    try:
        sources = []
        for kind, data_set in zip(config.data, data_sets, strict=True):
            settings = SETTINGS[kind]
            gaps = replace(settings.gaps, steps=config.gap_steps)
            sources.append(open_source(data_set.folder, replace(settings, gaps=gaps), report))
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
    try:
        yield from examples(stream, report, first_step, workers)
    except ValueError as error:
        raise NpsError(
            str(error),
            hint="Say what kind of data it is, such as --data own=FOLDER; "
            "`nps data check` says what is wrong with it.",
        ) from error
