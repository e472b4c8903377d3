"""What commands share that learn from one data set and answer on another: the data, the model, the settings.

The commands are `probe` (with knn) and `few_shot`.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli import options
from diptych.cli.console import progress
from diptych.cli.labels import class_texts

if TYPE_CHECKING:
    from diptych.encoders import TorchEncoder
    from diptych.evaluation import FeatureStore, ImageDataset, Result

Train = Annotated[Path, typer.Argument(metavar="TRAIN", show_default=False)]
Test = Annotated[Path, typer.Argument(metavar="TEST", show_default=False)]
Validation = Annotated[
    Path | None,
    typer.Option("--val", metavar="PATH", help="Chooses the strength of L2; else a part of TRAIN does."),
]
Features = Annotated[
    str, typer.Option(metavar="tower|embeddings", help="Before the projection, or the shared space.")
]


@dataclass(frozen=True)
class Data:
    """What was read: the parts, and the texts of their classes."""

    train: ImageDataset
    test: ImageDataset
    validation: ImageDataset | None
    texts: dict[str, list[str]]

    @property
    def named(self) -> dict[str, list[str]] | None:
        """Texts for the zero-shot classifier, where there are several of a class."""
        return {name: self.texts[name] for name in self.test.class_names} if self.texts else None


def read(train: Path, test: Path, validation: Path | None, names: str | None) -> Data:
    """Open the data sets and see that their classes match, before a model is loaded."""
    from diptych.evaluation import load_labelled
    from diptych.evaluation.transfer import matched

    words, texts = class_texts(names)
    parts = [load_labelled(path, class_names=words) for path in (train, test)]
    chooser = None if validation is None else load_labelled(validation, class_names=words)
    for other in (parts[1], *(() if chooser is None else (chooser,))):
        matched(parts[0], other)
    return Data(parts[0], parts[1], chooser, texts)


@contextlib.contextmanager
def kept(cache: Path | None) -> Iterator[FeatureStore]:
    """Where rows are kept: the folder of --cache, or one that is gone when the command ends."""
    from diptych.evaluation import FeatureStore

    if cache is not None:
        yield FeatureStore(cache)
        return
    with tempfile.TemporaryDirectory(prefix="diptych-") as folder:
        yield FeatureStore(folder)


def settings(
    model: str, pretrained: str | None, fast: bool, threads: str, batch_size: str, store: FeatureStore
) -> dict[str, Any]:
    """The keywords of every protocol."""
    return {
        "model": model,
        "pretrained": pretrained or "",
        "exact": not fast,
        "threads": options.count(threads, "--threads"),
        "batch_size": options.count(batch_size, "--batch-size") or 64,
        "command": shlex.join(["diptych", *sys.argv[1:]]),
        "store": store,
    }


def zero_shot(encoder: TorchEncoder, data: Data, templates: str, quiet: bool, **settings: Any) -> Result:
    """The same model on the same test pictures, from the class names alone."""
    from diptych.evaluation import evaluate_zero_shot

    with progress(f"{data.test.name}, zero-shot", len(data.test), unit="pictures", quiet=quiet) as advance:
        return evaluate_zero_shot(
            encoder, data.test, data.named, templates=templates, progress=advance, **settings
        )


def pictures(data: Data) -> int:
    """How many pictures a protocol goes through."""
    parts = (data.train, data.test, data.validation)
    return sum(len(part) for part in parts if part is not None)
