"""What commands share that learn from one data set and answer on another: the data, the model, the settings.

The commands are `probe` (with knn) and `few_shot`.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.evaluate.measuring import limited
from diptych.cli.shared.console import progress
from diptych.cli.shared.labels import class_texts

if TYPE_CHECKING:
    from diptych.datasets import ImageDataset
    from diptych.datasets.dataset import Pictures
    from diptych.encoder import Encoder
    from diptych.evaluation import FeatureStore, Result, Settings

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
    """What was read: the parts, all with the classes of the training part, and the texts of these."""

    train: ImageDataset
    test: ImageDataset
    validation: ImageDataset | None
    texts: dict[str, list[str]]

    @property
    def named(self) -> dict[str, list[str]] | None:
        """Texts for the zero-shot classifier, where there are several of a class."""
        return {name: self.texts[name] for name in self.test.class_names} if self.texts else None

    @property
    def roles(self) -> Sequence[str]:
        """What messages call each of `parts`."""
        from diptych.evaluation.probes.transfer import ROLES

        return ROLES[: len(self.parts)]

    @property
    def parts(self) -> list[ImageDataset]:
        """All there are."""
        return [self.train, self.test, *([] if self.validation is None else [self.validation])]


def read(
    train: Path, test: Path, validation: Path | None, names: str | None, limit: int | None = None
) -> Data:
    """Open the data sets and see that their classes match, before a model is loaded.

    Of a folder that holds several parts, TRAIN takes the training part, TEST the test part and --val the
    validation part; with --val, TRAIN leaves that part out where the data set tells it apart.
    """
    from diptych.datasets import load_labelled
    from diptych.evaluation.probes.transfer import align_classes

    words, texts = class_texts(names)
    teaching = "train" if validation is None else "train_only"
    taught = load_labelled(train, class_names=words, part=teaching)
    others = [(path, part) for path, part in ((test, "test"), (validation, "val")) if path is not None]
    parts = [
        align_classes(taught, load_labelled(path, class_names=words, part=part)) for path, part in others
    ]
    taught, *parts = (limited(part, limit) for part in (taught, *parts))
    return Data(taught, parts[0], parts[1] if len(parts) > 1 else None, texts)


def compare_contents(
    datasets: Sequence[Pictures], *, allow: bool, quiet: bool, roles: Sequence[str] = ()
) -> None:
    """Refuse data sets that share many pictures, before a model is loaded; see `check_overlaps`."""
    from diptych.datasets.overlap import check_overlaps

    for one in datasets:
        with progress(f"{one.name}, contents", len(one), unit="pictures", quiet=quiet) as advance:
            one.digests(advance)
    check_overlaps(datasets, allow=allow, roles=roles)


def distinct(data: Sequence[Data]) -> list[Data]:
    """The same with names told apart: train/flowers and test/flowers would be one in a report."""
    taken: Counter[str] = Counter()

    def named(part: ImageDataset | None) -> Any:
        if part is None:
            return None
        taken[part.name] += 1
        return replace(part, name=f"{part.name} ({taken[part.name]})") if taken[part.name] > 1 else part

    tests = [named(one.test) for one in data]
    return [
        Data(named(one.train), test, named(one.validation), one.texts)
        for one, test in zip(data, tests, strict=True)
    ]


@contextlib.contextmanager
def kept(cache: Path | None) -> Iterator[FeatureStore]:
    """Where rows are kept: the folder of --cache, or one that is gone when the command ends."""
    from diptych.evaluation import FeatureStore

    if cache is not None:
        yield FeatureStore(cache)
        return
    with tempfile.TemporaryDirectory(prefix="diptych-") as folder:
        yield FeatureStore(folder)


def encode(encoder: Encoder, data: Data, features: str, quiet: bool, settings: Settings) -> None:
    """Put the rows of all parts into the store, with a bar: what learns from them shows another."""
    from diptych.evaluation.probes.transfer import embed_part
    from diptych.evaluation.protocols.settings import Setup

    for part in data.parts:
        with progress(part.name, len(part), unit="pictures", quiet=quiet) as advance:
            shown: Settings = {**settings, "progress": advance}
            embed_part(Setup.of(**shown), encoder, data.train, part, features)  # type: ignore[arg-type]  # checked there


def own_metrics(path: Path, test: ImageDataset) -> tuple[str, ...]:
    """The paper's metric of a known data set, where every result has not got it anyway (`also`).

    Left out where these pictures do not define it, such as a part of Kinetics with five classes.
    """
    from diptych.datasets.discovery import paper_metric

    metric = paper_metric(path.name, path.resolve().parent.name)
    defined = {
        "roc_auc": len(test.class_names) == 2 and set(test.labels.tolist()) == {0, 1},
        "mean_acc1_acc5": len(test.class_names) > 5,
    }
    return (metric,) if defined.get(metric) else ()


def zero_shot(
    encoder: Encoder,
    data: Data,
    templates: str,
    quiet: bool,
    settings: Settings,
    also: Sequence[str] = (),
) -> Result:
    """The same model on the same test pictures, from the class names alone."""
    from diptych.evaluation import evaluate_zero_shot

    told = f"{data.test.name}, zero-shot"
    with progress(told, len(data.test), unit="pictures", quiet=quiet) as advance:
        shown: Settings = {**settings, "progress": advance}
        return evaluate_zero_shot(encoder, data.test, data.named, templates=templates, also=also, **shown)
