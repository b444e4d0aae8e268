"""`nps view`: a scene in the browser."""

from pathlib import Path
from typing import Annotated

from nps_cli import console, options
from nps_cli.errors import NpsError


def view(
    scene: options.Scene,
    out: Annotated[
        Path | None, options.out_option("FILE.html", "Write the page there, and open nothing.")
    ] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Look at a scene in the browser, on a page that needs no network."""
    console.set_verbosity(quiet=quiet, verbose=verbose)
    from nps_cli.formats import load_scene, read_cameras, save_scene
    from nps_cli.output import check_outputs, check_suffix

    if out is not None:
        check_suffix(out, (".html",))
    check_outputs(out, inputs=[scene], force=force)
    gaussians, comments = load_scene(scene)
    page = out or _temporary(scene)
    save_scene(gaussians, page, read_cameras(comments), force=force)
    if out is not None:
        console.info(f"wrote {out} ({len(gaussians):,} Gaussians)")
        return
    console.info(f"opening {page}")
    import webbrowser

    if not webbrowser.open(page.as_uri()):
        raise NpsError(
            "There is no browser here.",
            hint=f"Open {page} in one, or write a page to take along with -o page.html.",
        )


def _temporary(scene: Path) -> Path:
    """Return a path in a temporary folder that is kept: the browser may read it later."""
    from tempfile import mkdtemp

    name = "scene" if str(scene) == "-" else scene.stem
    return Path(mkdtemp(prefix="nps-")) / f"{name}.html"
