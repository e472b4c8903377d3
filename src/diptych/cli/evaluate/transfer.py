"""Shared parts of the commands that train on one data set and test on another: probe, knn, few-shot."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from diptych.cli.shared import options
from diptych.cli.shared.labels import class_texts
from diptych.cli.shared.measuring import RunOptions, limited
from diptych.cli.shared.options import argument, option

if TYPE_CHECKING:
    from diptych.datasets import ImageDataset
    from diptych.datasets.dataset import ImageCollection
    from diptych.encoder import Encoder
    from diptych.evaluation import FeatureStore, Result, Settings

Train = Annotated[Path, argument("TRAIN", "Training data.")]
Test = Annotated[Path, argument("TEST", "Test data.")]
Validation = Annotated[
    Path | None,
    option("PATH", "Validation data to choose the L2 strength. Default: a part of TRAIN.", "--val"),
]
Features = Annotated[str, option("tower|embeddings", "Features before the projection, or the embeddings.")]


@dataclass(frozen=True)
class ClassOptions:
    """Class names, prompt templates, and whether data sets may share pictures."""

    names: options.Names = None
    templates: options.Templates = "plain"
    allow_overlap: options.AllowOverlap = False


@dataclass(frozen=True)
class TransferData:
    """Training, test and validation data with the classes of the training data, and their texts."""

    train: ImageDataset
    test: ImageDataset
    validation: ImageDataset | None
    texts: dict[str, list[str]]

    @property
    def named(self) -> dict[str, list[str]] | None:
        """Texts of each class for the zero-shot classifier, if a class has several."""
        return {name: self.texts[name] for name in self.test.class_names} if self.texts else None

    @property
    def roles(self) -> Sequence[str]:
        """The name of each of `parts` in messages."""
        from diptych.evaluation.probes.transfer import ROLES

        return ROLES[: len(self.parts)]

    @property
    def parts(self) -> list[ImageDataset]:
        """Training, test and, if given, validation data."""
        return [self.train, self.test, *([] if self.validation is None else [self.validation])]


def load_parts(
    train: Path, test: Path, validation: Path | None, names: str | None, limit: int | None = None
) -> TransferData:
    """Open the data sets and check that their classes match, before a model is loaded.

    If a folder holds several splits, TRAIN uses the training split, TEST the test split and --val the
    validation split; with --val, TRAIN excludes the validation split if the data set separates it.
    """
    from diptych.datasets import load_labelled
    from diptych.evaluation.probes.transfer import align_classes

    words, texts = class_texts(names)
    training_part = "train" if validation is None else "train_only"
    training = load_labelled(train, class_names=words, part=training_part)
    others = [(path, part) for path, part in ((test, "test"), (validation, "val")) if path is not None]
    parts = [
        align_classes(training, load_labelled(path, class_names=words, part=part)) for path, part in others
    ]
    training, *parts = (limited(part, limit) for part in (training, *parts))
    return TransferData(training, parts[0], parts[1] if len(parts) > 1 else None, texts)


def compare_contents(
    datasets: Sequence[ImageCollection], common: RunOptions, *, allow: bool, roles: Sequence[str] = ()
) -> None:
    """Refuse data sets that share many pictures, before a model is loaded; see `check_overlaps`."""
    from diptych.datasets.overlap import check_overlaps

    for dataset in datasets:
        with common.progress(f"{dataset.name}, contents", len(dataset), unit="pictures") as advance:
            dataset.digests(advance)  # cached in the data set
    check_overlaps(datasets, allow=allow, roles=roles)


def with_distinct_names(data: Sequence[TransferData]) -> list[TransferData]:
    """Number equal names, since reports could not distinguish train/flowers and test/flowers."""
    used: Counter[str] = Counter()

    def renamed(part: ImageDataset | None) -> Any:
        if part is None:
            return None
        used[part.name] += 1
        return replace(part, name=f"{part.name} ({used[part.name]})") if used[part.name] > 1 else part

    tests = [renamed(item.test) for item in data]  # first, so that test data keep their names
    return [
        TransferData(renamed(item.train), test, renamed(item.validation), item.texts)
        for item, test in zip(data, tests, strict=True)
    ]


@contextlib.contextmanager
def feature_store(cache: Path | None) -> Iterator[FeatureStore]:
    """A store for features: the folder of --cache, or a temporary folder."""
    from diptych.evaluation import FeatureStore

    if cache is not None:
        yield FeatureStore(cache)
        return
    with tempfile.TemporaryDirectory(prefix="diptych-") as folder:
        yield FeatureStore(folder)


def embed_parts(
    encoder: Encoder, data: TransferData, features: str, settings: Settings, common: RunOptions
) -> None:
    """Put the features of all parts into the store, with a progress bar for each."""
    from diptych.evaluation.probes.transfer import embed_part
    from diptych.evaluation.protocols.settings import Setup

    for part in data.parts:
        with common.measuring_bar(settings, part.name, len(part)) as with_bar:
            setup = Setup.of(**with_bar)
            embed_part(setup, encoder, data.train, part, features)  # type: ignore[arg-type]  # checked by the callee


def own_metrics(path: Path, test: ImageDataset) -> tuple[str, ...]:
    """The paper's metric of a known data set, if it is not among the metrics of every result.

    Empty if the metric is undefined for these pictures, such as top 5 of five classes.
    """
    from diptych.datasets.discovery import paper_metric

    metric = paper_metric(path.name, path.resolve().parent.name)
    defined = {
        "roc_auc": len(test.class_names) == 2 and set(test.labels.tolist()) == {0, 1},
        "mean_acc1_acc5": len(test.class_names) > 5,
    }
    return (metric,) if defined.get(metric) else ()


def measure_zero_shot(
    encoder: Encoder,
    data: TransferData,
    templates: str,
    settings: Settings,
    common: RunOptions,
    also: Sequence[str] = (),
) -> Result:
    """Zero-shot classification by the same model on the same test pictures."""
    from diptych.evaluation import evaluate_zero_shot

    with common.measuring_bar(settings, f"{data.test.name}, zero-shot", len(data.test)) as with_bar:
        return evaluate_zero_shot(encoder, data.test, data.named, templates=templates, also=also, **with_bar)
