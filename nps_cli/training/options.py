"""The options of `nps train`'s commands, as frozen dataclasses; shared ones are inherited."""

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_type_hints

import typer

from nps_cli import options


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of every command."""

    command: ClassVar[str]
    patch_px: ClassVar[int] = 16

    out: Annotated[Path, options.out_option("DIR", "Folder for the checkpoint and the logs.")]
    textures: options.Textures = None
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WxH",
            help="Training images, multiples of 16 pixels (14: embedded). Worlds: repeat for "
            "several, used in turn. Default: the recipe's own.",
        ),
    ] = None
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Examples per step, process and data set. Default: the recipe's own.",
        ),
    ] = None
    total_steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Steps over which the learning rate falls, of all runs with --resume together. "
            "Default: the recipe's own.",
        ),
    ] = None
    learning_rate: Annotated[
        float | None, typer.Option(metavar="R", min=0, help="Default: the recipe's own.")
    ] = None
    score: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Measure on N worlds never trained on, at the end."),
    ] = 0
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from what is in --out, if there is anything.")
    ] = False
    device: options.Device = "auto"
    quiet: options.Quiet = False
    verbose: options.Verbose = False

    def changes(self) -> dict[str, Any]:
        """Return the settings of `TrainConfig` that were given."""
        sizes = [options.parse_size(text, multiple_px=self.patch_px) for text in self.size or ()]
        given = {
            "sizes": tuple(sizes) or None,
            "batch": self.batch,
            "total_steps": self.total_steps,
            "learning_rate": self.learning_rate,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class RunOptions(TrainOptions):
    """Options of commands that train one network."""

    panoramas: options.Panoramas = None
    meshes: options.Meshes = None
    minutes: Annotated[
        float | None, typer.Option(metavar="M", min=0, help="Stop after this time.")
    ] = None
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Stop after so many steps.")
    ] = None
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write .safetensors at the end.")
    ] = None
    pictures: Annotated[
        int, typer.Option(metavar="N", min=0, help="Steps between images in the log; 0: none.")
    ] = 500
    log_every: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps between lines of the log.")
    ] = 20
    force: options.Force = False

    def arguments(self) -> str:
        """Return the command and the options that choose the same recipe and data again."""
        words = [self.command]
        for name in ("textures", "panoramas", "meshes"):
            path = getattr(self, name)
            words += [f"--{name} {options.quoted(path)}"] if path else []
        return " ".join(words)


@dataclass(frozen=True, kw_only=True)
class StereoOptions(RunOptions):
    """Options of `nps train stereo`."""

    command = "stereo"


@dataclass(frozen=True, kw_only=True)
class EmbeddedOptions(RunOptions):
    """Options of `nps train embedded`."""

    command = "embedded"
    patch_px = 14

    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="cpu: the encoder stays as it is; gpu: it learns too; tiny: to rehearse. "
            "Default: by the device.",
        ),
    ] = None
    worlds: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where encoded worlds are kept; those that are there are used. "
            "Default: worlds in --out.",
        ),
    ] = None

    def arguments(self) -> str:
        """Return the command and the options that choose the same recipe and data again."""
        words = [super().arguments()]
        words += [f"--preset {self.preset}"] if self.preset else []
        words += [f"--worlds {options.quoted(self.worlds)}"] if self.worlds else []
        return " ".join(words)


@dataclass(frozen=True, kw_only=True)
class PaperOptions(RunOptions):
    """Options of `nps train paper`."""

    command = "paper"

    init: Annotated[
        Path | None,
        options.existing_file(
            "Start from weights of ours, a published NoPoSplat .ckpt, or MASt3R's .pth. "
            "Default: random."
        ),
    ] = None

    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[KIND=]DIR",
            help="A data set in the published layout: DIR/train/*.torch. Repeat for several, "
            "each with a batch of its own. KIND (re10k, acid, dl3dv, ..., own) is the preset's, or "
            "own.",
        ),
    ] = None
    procedural: Annotated[
        bool, typer.Option("--procedural", help="Train on random ray-traced worlds instead.")
    ] = False
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="re10k, acid, dl3dv, re10k-3view, re10k-dl3dv, re10k-dl3dv-512 or re10k-1x8; the "
            "options here change it. Default: re10k, for data of any kind.",
        ),
    ] = None
    ablation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="One change to it: no-intrinsics, global-add, dense-0, dense-2, dense-4, "
            "dense-4-decoder, no-rgb-shortcut, linear-heads, transform-then-fuse or 3-views.",
        ),
    ] = None
    network: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="published, tiny, or anchored: smaller, and its Gaussians start in front of "
            "their pixels. Default: published.",
        ),
    ] = None
    centers: Annotated[
        float | None,
        typer.Option(
            metavar="W",
            min=0,
            help="Worlds: weight of the distance to true centers, which the paper has not.",
        ),
    ] = None
    lpips: Annotated[
        Path | None,
        options.existing_file(
            "Weights of LPIPS, .safetensors. Default: where `nps weights fetch lpips-vgg` puts "
            "them."
        ),
    ] = None
    workers: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            show_default=False,
            help="Processes that read data sets ahead. Default: one a core, 4 at most.",
        ),
    ] = min(4, os.cpu_count() or 1)

    def changes(self) -> dict[str, Any]:
        """Return the settings of `TrainConfig` that were given."""
        more = {} if self.centers is None else {"center_weight": self.centers}
        return super().changes() | more

    def arguments(self) -> str:
        """Return the command and the options that choose the same recipe and data again."""
        words = [super().arguments()]
        words += [f"--preset {self.preset}"] if self.preset else []
        words += ["--procedural"] if self.procedural else []
        words += [f"--data {options.quoted(Path(text))}" for text in self.data or ()]
        return " ".join(words)


@dataclass(frozen=True, kw_only=True)
class AblationOptions(TrainOptions):
    """Options of `nps train ablations`."""

    command = "ablations"

    score: Annotated[
        int, typer.Option(metavar="N", min=1, help="Worlds to measure every network on.")
    ] = 32
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="How often each is trained.")] = 2


OptionsT = TypeVar("OptionsT", bound=TrainOptions)


def takes(kind: type[OptionsT]) -> Callable[[Callable[[OptionsT], None]], Callable[..., None]]:
    """Give a command the fields of a dataclass as options; it is called with the dataclass."""

    def decorate(command: Callable[[OptionsT], None]) -> Callable[..., None]:
        @wraps(command)
        def run(**given: Any) -> None:
            command(kind(**given))

        hints = get_type_hints(kind, include_extras=True)
        run.__annotations__ = {field.name: hints[field.name] for field in fields(kind)}
        run.__signature__ = inspect.signature(kind).replace(return_annotation=None)  # type: ignore[attr-defined]
        return run

    return decorate
