"""Write and print the report of an evaluation."""

from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

from nps_cli import console

if TYPE_CHECKING:
    from nps_cli.formats.evaluation import Evaluation


@dataclass(frozen=True)
class ReportChoice:
    """Contents and file of a report; the values are those of the command line's options."""

    out: Path | None
    pose: bool
    views: bool
    details: bool
    json: bool
    force: bool


def report(evaluation: "Evaluation", choice: ReportChoice) -> None:
    """Write the report to its file, if there is one, and print it."""
    from models.evaluation.summary import summarize
    from nps_cli.formats import tables
    from nps_cli.formats.evaluation import write_document
    from nps_cli.output import whole_file

    pose, views = choice.pose or not choice.views, choice.views or not choice.pose
    if choice.out is not None:
        if choice.out.suffix == ".json":
            text = dumps(write_document(evaluation), indent=1, allow_nan=False)
        elif choice.out.suffix == ".csv":
            text = tables.as_csv(evaluation)
        else:
            text = tables.as_markdown(evaluation, pose=pose, views=views)
        with whole_file(choice.out, force=choice.force) as path:
            path.write_text(text, encoding="utf-8")
    if choice.json:
        console.print_json(write_document(evaluation))
    else:
        printed = [tables.overview(summarize(evaluation.scores), pose=pose, views=views)]
        for table in printed + (tables.details(evaluation) if choice.details else []):
            console.print_table(table.title, table.columns, table.rows)
    console.info(tables.count_used(evaluation))
    if choice.out is not None:
        console.info(f"wrote {choice.out}")
