"""Settings that all evaluation protocols share: decoding, batches, cache, progress, and facts of results.

Every protocol takes these as keywords, documented in `Settings`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self, TypedDict, Unpack

from diptych.datasets.dataset import ImageCollection
from diptych.embedding.batches import Failed
from diptych.encoder import CostedEncoder, Encoder
from diptych.evaluation.protocols.features import DatasetEmbeddings, FeatureStore, embed_dataset
from diptych.evaluation.results.result import Result, versions
from diptych.progress import Progress, Stage, silent
from diptych.zeroshot import ZeroShotClassifier
from diptych.zeroshot.labels import Names, read_labels
from diptych.zeroshot.templates import resolve


class Settings(TypedDict, total=False):
    """Keywords of every protocol; all are optional.

    Attributes
    ----------
    batch_size : int
        Images encoded at a time; default 64.
    threads : int, optional
        Threads that decode; by default one per core, at most 8.
    exact : bool
        Decode images in full and keep their colours as stored, ignoring colour profiles, as the reference
        implementations do; default True.
    store : FeatureStore, optional
        Cache of embeddings.
    progress : callable, optional
        Called with the number of images just done.
    stage : callable, optional
        Opens the progress of a step that is not counted in images. Called with a title and the number of
        steps (None: unknown), it returns a context manager whose value is called with steps done.
    allow_overlap : bool
        Warn about data sets that share many images; False: raise an error.
    model, pretrained, command : str
        Stored in the result.
    """

    batch_size: int
    threads: int | None
    exact: bool
    store: FeatureStore | None
    progress: Progress | None
    stage: Stage
    allow_overlap: bool
    model: str
    pretrained: str
    command: str


class MeasuredData(Protocol):
    """Properties of a data set that a result stores."""

    @property
    def name(self) -> str:
        """Name in results."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash over contents and answers."""
        ...

    @property
    def extent(self) -> str:
        """Number of measured images or cases, in words."""
        ...

    @property
    def sampled_from(self) -> int | None:
        """Number of images or cases from which a sample was drawn; None for a whole data set."""
        ...


_DATA = "Data, "  # prefix of a data set's name in facts


def sampled_data(facts: Mapping[str, str]) -> list[str]:
    """Sentences on the data sets of which a sample was measured, from the facts of a report.

    Examples
    --------
    >>> sampled_data({"Command": "x", "Data, toy": "sha256:1, a random sample of 5 of 9 pictures"})
    ['toy: a random sample of 5 of 9 pictures.']
    """
    return [
        f"{name.removeprefix(_DATA)}: {text.partition(', ')[2]}."
        for name, text in facts.items()
        if name.startswith(_DATA) and ", a random sample of " in text
    ]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """`Settings` with all defaults filled in."""

    batch_size: int = 64
    threads: int | None = None
    exact: bool = True
    store: FeatureStore | None = None
    progress: Progress | None = None
    stage: Stage = silent
    allow_overlap: bool = False
    model: str = ""
    pretrained: str = ""
    command: str = ""

    @classmethod
    def of(cls, **settings: Unpack[Settings]) -> Self:
        """Fill in the defaults of a protocol's keywords."""
        return cls(**settings)

    def embed(
        self, encoder: Encoder, dataset: ImageCollection, *, features: bool = False
    ) -> DatasetEmbeddings:
        """Encode the readable images; with `features`, to features before the projection, as for probes."""
        return embed_dataset(
            encoder,
            dataset,
            features=features,
            batch_size=self.batch_size,
            threads=self.threads,
            exact=self.exact,
            store=self.store,
            progress=self.progress,
            stage=self.stage,
        )

    def classifier(
        self, encoder: Encoder, names: Names, templates: str | Sequence[str] | None, dataset_name: str
    ) -> ZeroShotClassifier:
        """Fit a zero-shot classifier; encoding its prompts (80,000 for ImageNet) is a stage of progress."""
        texts = sum(len(label.texts) for label in read_labels(names))
        with self.stage(f"{dataset_name}: prompts", texts * len(resolve(templates))) as advance:
            return ZeroShotClassifier(encoder, templates=templates).fit(names, progress=advance)

    def facts(self, encoder: Encoder, *datasets: MeasuredData) -> dict[str, str]:
        """Facts for the foot of a report: command, fingerprints, precision, decoding, versions."""
        return {
            "Command": self.command,
            "Model": " ".join(filter(None, (self.model, self.pretrained))),
            "Model identity": encoder.identity,
            **({"Model cost": str(encoder.cost())} if isinstance(encoder, CostedEncoder) else {}),
            **{f"{_DATA}{dataset.name}": f"{dataset.fingerprint}, {dataset.extent}" for dataset in datasets},
            "Computed in": getattr(encoder, "precision", "float32"),
            "Pictures decoded": "in full, colours as stored" if self.exact else "scaled while decoding",
            "Versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        }

    def result(
        self,
        encoder: Encoder,
        dataset: MeasuredData,
        *,
        task: str,
        metrics: Mapping[str, float],
        chance: Mapping[str, float],
        n: int,
        failures: tuple[Failed, ...],
        **more: Any,
    ) -> Result:
        """Build a result with the facts of the model, the data and the settings."""
        by_class = any(name.startswith(("mean_per_class_recall", "macro_acc", "roc_auc")) for name in metrics)
        labels = getattr(dataset, "labels", None)  # (N,) of data sets with one class a picture
        return Result(
            dataset=dataset.name,
            task=task,
            metrics=metrics,
            chance=chance,
            n=n,
            failures=failures,
            identity=encoder.identity,
            data_fingerprint=dataset.fingerprint,
            exact=self.exact,
            precision=getattr(encoder, "precision", "float32"),
            model=self.model,
            pretrained=self.pretrained,
            command=self.command,
            cost=asdict(encoder.cost()) if isinstance(encoder, CostedEncoder) else {},
            sampled_from=dataset.sampled_from,
            labels=tuple(labels.tolist()) if by_class and labels is not None else (),
            **more,
        )
