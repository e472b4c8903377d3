"""Options that every measurement takes, as one parameter of a command.

A command declares its own options and, at the end, `common: MeasureOptions`; `@measuring` expands that
parameter for typer.
"""

from __future__ import annotations

import contextlib
import functools
import inspect  # noqa: F401  (for the doctest)
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from diptych.cli.shared import options
from diptych.cli.shared.console import progress
from diptych.cli.shared.encoders import EncoderSettings
from diptych.cli.shared.option_groups import with_groups
from diptych.cli.shared.options import Output
from diptych.cli.shared.own_files import is_written_by_diptych
from diptych.cli.shared.picture_limit import MaxPixels, picture_limit
from diptych.cli.shared.reporting import ReportDir, print_report
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.backends import ExportedEncoder, TorchEncoder
    from diptych.datasets.dataset import ImageCollection
    from diptych.evaluation import FeatureStore, Settings
    from diptych.reports import Report


Data = TypeVar("Data", bound="ImageCollection")


@dataclass(frozen=True)
class RunOptions(EncoderSettings, Output):
    """Options of every measurement, in the order of `--help`.

    Most commands take `MeasureOptions`; a command with its own options for models derives from this class.
    """

    report: ReportDir = None
    json: options.Json = False
    quiet: options.Quiet = False
    fast: options.Fast = False
    runtime: options.Runtime = "auto"
    device: options.Device = "auto"
    precision: options.Precision = "auto"
    threads: options.Threads = "auto"
    batch_size: options.BatchSize = "auto"
    max_pixels: MaxPixels = None
    cache: options.Cache = None

    @property
    def exact(self) -> bool:
        """Exact mode (float32), unless --fast or --precision is given."""
        return not self.fast and self.precision == "auto"

    def settings(self, store: FeatureStore | None = None) -> Settings:
        """Settings of every protocol; embeddings are kept in `store`, by default in the folder of --cache."""
        from diptych.evaluation import FeatureStore

        if store is None and self.cache is not None:
            store = FeatureStore(self.cache)
        threads, batch_size = self.counts(64)
        return {
            "exact": not self.fast,
            "threads": threads,
            "batch_size": batch_size,
            "command": options.command(),
            "store": store,
            "stage": self.stage(""),
        }

    @contextlib.contextmanager
    def measuring_bar(self, settings: Settings, title: str, pictures: int) -> Iterator[Settings]:
        """Settings with a progress bar that is open during the block."""
        with self.progress(title, pictures, unit="pictures") as advance:
            yield {**settings, "progress": advance}

    def print_report(self, report: Report) -> None:
        """Print a report or its JSON, and save its files with --report."""
        print_report(report, self.report, json=self.json, quiet=self.quiet)


@dataclass(frozen=True)
class EncoderOptions(RunOptions):
    """Options of a measurement of one model on pictures that the measurement generates."""

    model: options.Model = "default"
    pretrained: options.Pretrained = None

    def encoder(self) -> TorchEncoder | ExportedEncoder:
        """Load the model."""
        return self.open(self.model, self.pretrained)

    def settings(self, store: FeatureStore | None = None) -> Settings:
        """Settings as for `RunOptions`, with the name of the model."""
        return {**super().settings(store), "model": self.model, "pretrained": self.pretrained or ""}


@dataclass(frozen=True)
class MeasureOptions(EncoderOptions):
    """Options of a measurement of one model on data."""

    limit: options.Limit = None

    def limited(self, dataset: Data, seed: int = 0) -> Data:
        """The data set, or the sample of it that --limit sets."""
        return limited(dataset, self.limit, seed)


def limited(dataset: Data, limit: int | None, seed: int = 0) -> Data:
    """A data set, or a sample of at most `limit` pictures, stratified by class if it has labels."""
    return dataset if limit is None else dataset.sample(limit, seed)


def _require_folder(option: str, folder: Path | None) -> None:
    """Check that a folder can be written into, before the measurement, which may take hours."""
    if folder is None:
        return
    page = folder / "index.html"
    if option == "--report" and page.exists() and not is_written_by_diptych(page):
        raise InputError(f"{option} {folder}: {page} was not written by diptych; choose another folder")
    nearest = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if not nearest.is_dir():
        raise InputError(
            f"{option} {folder}: {nearest} is a file; expected a folder, which need not exist yet"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{option} {folder}: {nearest} is not writable; choose another folder")


def measuring(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command take the fields of its parameter `common`, a `RunOptions`, as options.

    While the command runs, a progress bar is open and `--max-pixels` applies.

    Examples
    --------
    >>> @measuring
    ... def find(pictures: str, *, common: MeasureOptions) -> None:
    ...     print(pictures, common.model, common.quiet)
    >>> find(pictures="photos", model="runs/mine")
    photos runs/mine False
    >>> list(inspect.signature(find).parameters)[:4]
    ['pictures', 'report', 'json', 'quiet']
    """

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        common: RunOptions = arguments["common"]
        _require_folder("--report", common.report)
        _require_folder("--cache", common.cache)
        # Open during the whole command, so that reading data and loading the model show progress too.
        bar = progress(command.__name__.replace("_", " "), None, unit="steps", quiet=common.quiet)
        with picture_limit(common.max_pixels), bar:
            command(**arguments)

    return with_groups(run)
