"""The options that every measurement takes, given to a command in one piece.

A command writes only what is its own, and `asked: Measuring` at the end; `@measuring` spells the rest out for
typer. What the options are called is `options`' business, what is measured the command's.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from diptych.cli.evaluate.reporting import ReportDir
from diptych.cli.shared import options
from diptych.cli.shared.console import progress
from diptych.cli.shared.own_files import is_own
from diptych.cli.shared.picture_limit import MaxPixels, picture_limit
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.backends import ExportedEncoder, TorchEncoder
    from diptych.datasets.dataset import Pictures
    from diptych.evaluation import FeatureStore, Settings
    from diptych.weights import Checkpoint


Data = TypeVar("Data", bound="Pictures")


@dataclass(frozen=True)
class SharedOptions:
    """Options of every measurement; the fields are options, in the order of `--help`.

    A command takes them as `Measuring`, or as a subclass of its own where it names its models itself.
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

    def open(self, model: str | Checkpoint, pretrained: str | None) -> TorchEncoder | ExportedEncoder:
        """Open a model; exact (float32) unless --fast or --precision say otherwise."""
        return options.open_model(
            model,
            pretrained,
            device=self.device,
            precision=self.precision,
            threads=self.threads,
            batch_size=self.batch_size,
            exact=not self.fast and self.precision == "auto",
            runtime=self.runtime,
        )

    def settings(self, store: FeatureStore | None = None) -> Settings:
        """What every protocol takes beside the encoder and the data; rows go to `store` or --cache."""
        from diptych.evaluation import FeatureStore

        if store is None and self.cache is not None:
            store = FeatureStore(self.cache)
        return {
            "exact": not self.fast,
            "threads": options.count(self.threads, "--threads"),
            "batch_size": options.count(self.batch_size, "--batch-size") or 64,
            "command": options.command(),
            "store": store,
            "stage": lambda what, total: progress(what, total, unit="", quiet=self.quiet),
        }


@dataclass(frozen=True)
class Drawing(SharedOptions):
    """Options of a measurement of one model on pictures that are drawn for it."""

    model: options.Model = "default"
    pretrained: options.Pretrained = None

    def encoder(self) -> TorchEncoder | ExportedEncoder:
        """Open the model."""
        return self.open(self.model, self.pretrained)

    def settings(self, store: FeatureStore | None = None) -> Settings:
        """As for `SharedOptions`, with the model's name."""
        return {**super().settings(store), "model": self.model, "pretrained": self.pretrained or ""}


@dataclass(frozen=True)
class Measuring(Drawing):
    """Options of a measurement of one model on data."""

    limit: options.Limit = None

    def limited(self, dataset: Data, seed: int = 0) -> Data:
        """The data set, or the sample of it that --limit asks for."""
        return limited(dataset, self.limit, seed)


def limited(dataset: Data, limit: int | None, seed: int = 0) -> Data:
    """A data set, or a sample of at most `limit` of its pictures, by class where it has labels."""
    return dataset if limit is None else dataset.sample(limit, seed)  # type: ignore[return-value]  # of its kind


def _require_folder(option: str, folder: Path | None) -> None:
    """Refuse a folder that cannot be written into before hours are spent on what should be in it."""
    if folder is None:
        return
    page = folder / "index.html"
    if option == "--report" and page.exists() and not is_own(page):
        raise InputError(f"{option} {folder}: {page} was not written by diptych; choose another folder")
    nearest = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    if not nearest.is_dir():
        raise InputError(f"{option} {folder}: {nearest} is a file; expected a folder, which may be new")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{option} {folder}: {nearest} cannot be written into; choose another folder")


def measuring(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command whose `asked` is a `SharedOptions` (mostly `Measuring`) take its fields as options.

    Typer reads a command's signature, so the one that is given to it has them written out. Options of one
    name that the command itself declares come first.

    Examples
    --------
    >>> @measuring
    ... def find(pictures: str, *, asked: Measuring) -> None:
    ...     print(pictures, asked.model, asked.quiet)
    >>> find(pictures="photos", model="runs/mine")
    photos runs/mine False
    >>> list(inspect.signature(find).parameters)[:4]
    ['pictures', 'report', 'json', 'quiet']
    """
    hints = get_type_hints(command, include_extras=True)
    kind = hints.pop("asked")
    together = get_type_hints(kind, include_extras=True)
    own = inspect.signature(command).parameters
    parameters = [own[name].replace(annotation=hints[name]) for name in own if name != "asked"]
    parameters += [
        inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=together[one.name]
        )
        for one in fields(kind)
    ]

    @functools.wraps(command)
    def spread(**given: Any) -> None:
        asked = kind(**{one.name: given.pop(one.name, one.default) for one in fields(kind)})
        _require_folder("--report", asked.report)
        _require_folder("--cache", asked.cache)
        # Open all the time: reading data, loading a model and resampling show that they run, too.
        showing = progress(command.__name__.replace("_", " "), None, unit="steps", quiet=asked.quiet)
        with picture_limit(asked.max_pixels), showing:
            command(**given, asked=asked)

    spread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    spread.__annotations__ = {one.name: one.annotation for one in parameters}
    return spread
