"""`diptych evaluate datasets`: list known data sets, and those in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared import options
from diptych.cli.shared.console import note, print_json
from diptych.cli.shared.options import argument
from diptych.cli.shared.reporting import print_table
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
    Path | None, argument("[ROOT]", "A folder of data sets; without it all known data sets are listed.")
]


def datasets(root: Root = None, json: options.Json = False) -> None:
    """List known data sets with classes, prompts and metric; with ROOT, those in that folder.

    Data sets are recognised by file names; no file is opened: cifar10-test.tar.gz,
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
        raise DataError(f"{root} is not a folder: expected a folder of data sets")
    rows = [_row(DatasetLocation(dataset, {})) for dataset in KNOWN.values()]
    if root is not None:
        rows = [_row(location) for location in available_datasets(root)]
    if json:
        print_json(rows, indent=1)
    elif not rows:
        typer.echo(f"{root} holds no known data set; to list their names: diptych evaluate datasets")
    elif root is None:
        cells = [[row["name"], row["classes"], row["prompts"] or "", _WORDS[row["metric"]]] for row in rows]
        caption = "No number of classes: see the files. No prompts: those of the files, or plain."
        print_table(Table(["data set", "classes", "prompts", "metric"], cells, caption))
    else:
        cells = [
            [row["name"], row["classes"], _WORDS[row["metric"]], part, _path_summary(root, row[part])]
            for row in rows
            for part in PARTS
            if row[part]
        ]
        print_table(Table(["data set", "classes", "metric", "part", "where"], cells))
        for row in rows:
            if row["unused"]:
                note(
                    f"{row['name']}: not used, since the paths above hold the same data: "
                    f"{', '.join(row['unused'])}"
                )


def _row(location: DatasetLocation) -> dict[str, Any]:
    """A data set as JSON values."""
    from diptych.datasets.parts import PARTS

    dataset = location.known
    return {
        "name": dataset.name,
        "task": dataset.task,
        "classes": dataset.classes,
        "prompts": dataset.prompts,
        "metric": dataset.metric,
        **{part: [str(path) for path in location.parts.get(part, ())] for part in PARTS},
        "unused": [str(path) for path in location.unused],
    }


def _path_summary(root: Path, paths: Sequence[str]) -> str:
    """The first path relative to the root, and the number of further ones.

    Examples
    --------
    >>> _path_summary(Path("d"), ["d/a-0.tar", "d/a-1.tar"]), _path_summary(Path("d"), ["d"])
    ('a-0.tar and 1 more', '.')
    """
    first = Path(paths[0]).relative_to(root).as_posix()
    return first if len(paths) == 1 else f"{first} and {len(paths) - 1} more"
