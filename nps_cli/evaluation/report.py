"""Write and print the report of an evaluation."""

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

from nps_cli import console

if TYPE_CHECKING:
    from nps_cli.formats.evaluation import Evaluation


def report(
    evaluation: "Evaluation", out: Path | None, *, pose: bool, views: bool, json: bool, force: bool
) -> None:
    """Write the report to its file, if there is one, and print it: columns of poses, of views.

    Neither of both means both; with `json` the whole document is printed.
    """
    from models.evaluation.summary import summarize
    from nps_cli.formats import tables
    from nps_cli.formats.evaluation import write_document
    from nps_cli.output import whole_file

    pose, views = pose or not views, views or not pose
    if out is not None:
        if out.suffix == ".json":
            text = dumps(write_document(evaluation), indent=1, allow_nan=False)
        elif out.suffix == ".csv":
            text = tables.as_csv(evaluation)
        else:
            text = tables.as_markdown(evaluation, pose=pose, views=views)
        with whole_file(out, force=force) as path:
            path.write_text(text, encoding="utf-8")
    if json:
        console.print_json(write_document(evaluation))
    else:
        table = tables.overview(summarize(evaluation.scores), pose=pose, views=views)
        console.print_table(table.title, table.columns, table.rows)
    console.info(tables.count_used(evaluation))
    if out is not None:
        console.info(f"wrote {out}")
