"""`diptych evaluate datasets`: the data sets known by name, and which of them a folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.evaluate.reporting import print_table
from diptych.cli.shared import options
from diptych.cli.shared.console import note, print_json
from diptych.errors import DataError

if TYPE_CHECKING:
    from diptych.datasets.discovery import DatasetLocation

_WORDS = {
    "acc1": "accuracy",
    "mean_per_class_recall": "mean per class",
    "mean_acc1_acc5": "mean of top 1 and 5",
    "mean_average_precision_11_point": "11-point mAP",
    "roc_auc": "ROC AUC",
    "image_retrieval_recall@1": "recall@1",
}
Root = Annotated[
    Path | None, typer.Argument(metavar="[ROOT]", help="A folder of data sets.", show_default=False)
]


def datasets(root: Root = None, json: options.Json = False) -> None:
    """List the known data sets: their classes, prompts and metric; with ROOT, those it holds.

    Files are recognised by their names and not opened: cifar10-test.tar.gz,
    cifar-10-batches-py, MNIST/raw, wds_vtab-cifar10.

    [bold]Examples[/bold]

      diptych evaluate datasets

      diptych evaluate datasets ~/data
    """
    from diptych.datasets.discovery import DatasetLocation, available_datasets
    from diptych.datasets.parts import PARTS
    from diptych.datasets.registry import KNOWN
    from diptych.reports import Table

    if root is not None and not root.is_dir():
        raise DataError(f"{root} is not a folder: expected one that holds data sets")
    rows = [_row(DatasetLocation(one, {})) for one in KNOWN.values()]
    if root is not None:
        rows = [_row(place) for place in available_datasets(root)]
    if json:
        print_json(rows, indent=1)
    elif not rows:
        typer.echo(f"{root} holds no known data set; names: diptych evaluate datasets")
    elif root is None:
        cells = [[row["name"], row["classes"], row["prompts"] or "", _WORDS[row["metric"]]] for row in rows]
        caption = "No number of classes: the files tell. No prompts: those of the files, or plain."
        print_table(Table(["data set", "classes", "prompts", "metric"], cells, caption))
    else:
        cells = [
            [row["name"], row["classes"], _WORDS[row["metric"]], part, _told(root, row[part])]
            for row in rows
            for part in PARTS
            if row[part]
        ]
        print_table(Table(["data set", "classes", "metric", "part", "where"], cells))
        for row in rows:
            if row["unused"]:
                note(f"{row['name']}: not read, for the above stand for it: {', '.join(row['unused'])}")


def _row(place: DatasetLocation) -> dict[str, Any]:
    """Plain values of a data set."""
    from diptych.datasets.parts import PARTS

    one = place.known
    return {
        "name": one.name,
        "task": one.task,
        "classes": one.classes,
        "prompts": one.prompts,
        "metric": one.metric,
        **{part: [str(path) for path in place.parts.get(part, ())] for part in PARTS},
        "unused": [str(path) for path in place.unused],
    }


def _told(root: Path, paths: Sequence[str]) -> str:
    """The first path below the root, and how many more.

    Examples
    --------
    >>> _told(Path("d"), ["d/a-0.tar", "d/a-1.tar"]), _told(Path("d"), ["d"])
    ('a-0.tar and 1 more', '.')
    """
    first = Path(paths[0]).relative_to(root).as_posix()
    return first if len(paths) == 1 else f"{first} and {len(paths) - 1} more"
