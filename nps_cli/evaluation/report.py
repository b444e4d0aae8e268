"""Write and print the report of an evaluation."""

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

from nps_cli import console

if TYPE_CHECKING:
    from nps_cli.formats.evaluation import Evaluation


def report(
    evaluation: "Evaluation",
    outs: Sequence[Path],
    *,
    pose: bool,
    views: bool,
    json: bool,
    force: bool,
) -> None:
    """Write the report to its files, and print it: columns of poses, of views.

    Neither of both means both; with `json` the whole document is printed.
    """
    from models.evaluation.summary import summarize
    from nps_cli.formats import tables
    from nps_cli.formats.evaluation import write_document
    from nps_cli.output import naming_finished, whole_file

    pose, views = pose or not views, views or not pose
    finished: list[Path] = []
    with naming_finished(finished):
        for out in outs:
            if out.suffix == ".json":
                text = dumps(write_document(evaluation), indent=1, allow_nan=False)
            elif out.suffix == ".csv":
                text = tables.as_csv(evaluation)
            else:
                text = tables.as_markdown(evaluation, pose=pose, views=views)
            with whole_file(out, force=force) as path:
                path.write_text(text, encoding="utf-8")
            finished.append(out)
        if json:
            console.print_json(write_document(evaluation))
        else:
            table = tables.overview(summarize(evaluation.scores), pose=pose, views=views)
            console.print_table(table.title, table.columns, table.rows)
    console.info(tables.count_used(evaluation))
    for out in outs:
        console.info(f"wrote {out}")
