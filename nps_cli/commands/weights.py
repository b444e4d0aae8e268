"""`nps weights`: which weights there are."""

import typer

from nps_cli import console, options

weights = typer.Typer(no_args_is_help=True, help="Which weights exist, and where they are.")


@weights.callback()
def _weights() -> None:
    """Keeps `list` a subcommand while it is the only one."""


@weights.command("list")
def list_weights(json: options.Json = False) -> None:
    """List the weights on this machine: licence, what they were trained on, hash, file."""
    from models.weights import embedded_path, read_info

    files = sorted(embedded_path().parent.glob("*.safetensors"))
    found = [(file, read_info(file)) for file in files]
    if json:
        console.emit_json(
            [
                {
                    "name": file.stem,
                    "title": info.name,
                    "license": info.license,
                    "description": info.description,
                    "sha256": info.sha256,
                    "path": str(file),
                    "metadata": info.metadata,
                }
                for file, info in found
            ]
        )
        return
    console.print_table(
        "",
        ("name", "licence", "sha256", "MB", "description"),
        [
            (
                file.stem,
                info.license,
                info.sha256[:12],
                f"{file.stat().st_size / 1e6:.1f}",
                info.description,
            )
            for file, info in found
        ],
    )
    console.say(f"in {embedded_path().parent}")
    console.say("use one with --weights NAME, or any .safetensors file with --weights FILE")
