"""How a measurement is made, whatever it measures: decoding, batches, features kept, what the result says.

Every protocol of this room takes these as keywords, so that one explanation holds for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self, TypedDict, Unpack

from diptych.datasets.dataset import Pictures
from diptych.embedding.batches import Failed
from diptych.encoder import CostedEncoder, Encoder
from diptych.evaluation.protocols.features import Embedding, FeatureStore, embed_dataset
from diptych.evaluation.results.result import Result, versions
from diptych.progress import Progress, Stage, silent
from diptych.zeroshot import ZeroShotClassifier
from diptych.zeroshot.labels import Names, read_labels
from diptych.zeroshot.templates import resolve


class Settings(TypedDict, total=False):
    """Keywords of every protocol; all may be left out.

    Attributes
    ----------
    batch_size : int
        Pictures encoded at a time; 64.
    threads : int, optional
        Threads that decode; by default one per core, at most 8.
    exact : bool
        Decode pictures in full and take their colours as stored, whatever profile lies in the file, as the
        reference implementations do; True.
    store : FeatureStore, optional
        Where rows of pictures are kept from one measurement to the next.
    progress : callable, optional
        Called with the number of pictures just done.
    stage : callable, optional
        Opens the progress of a step that is not counted in pictures: called with what is done and how many
        steps it has (None: not known), it gives a context manager whose value is called with steps done.
    allow_overlap : bool
        Measure on data sets that share many pictures, with a warning; False: an error.
    model, pretrained, command : str
        Carried into the result.
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


class Data(Protocol):
    """What a result says of its data; every data set fulfils it."""

    @property
    def name(self) -> str:
        """What results call it."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash over contents and answers."""
        ...

    @property
    def extent(self) -> str:
        """How much of it was measured, in words."""
        ...

    @property
    def sampled_from(self) -> int | None:
        """How many cases it has, where a sample of it was measured."""
        ...


_DATA = "Data, "  # before a data set's name among the facts


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
    """The same with everything filled in."""

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
        """From the keywords of a protocol."""
        return cls(**settings)

    def embed(self, encoder: Encoder, dataset: Pictures, *, features: bool = False) -> Embedding:
        """Rows of the pictures that can be read; `features`: before the projection, as probes want them."""
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
        self, encoder: Encoder, names: Names, templates: str | Sequence[str] | None, what: str
    ) -> ZeroShotClassifier:
        """A fitted zero-shot classifier; encoding its prompts, of which ImageNet has 80,000, is a stage."""
        texts = sum(len(label.texts) for label in read_labels(names))
        with self.stage(f"{what}: prompts", texts * len(resolve(templates))) as advance:
            return ZeroShotClassifier(encoder, templates=templates).fit(names, progress=advance)

    def facts(self, encoder: Encoder, *datasets: Data) -> dict[str, str]:
        """What stands at the foot of a report: the command, fingerprints, how it was computed, versions."""
        return {
            "Command": self.command,
            "Model": " ".join(filter(None, (self.model, self.pretrained))),
            "Model identity": encoder.identity,
            **({"Model cost": str(encoder.cost())} if isinstance(encoder, CostedEncoder) else {}),
            **{f"{_DATA}{one.name}": f"{one.fingerprint}, {one.extent}" for one in datasets},
            "Computed in": getattr(encoder, "precision", "float32"),
            "Pictures decoded": "in full, colours as stored" if self.exact else "scaled while decoding",
            "Versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        }

    def result(
        self,
        encoder: Encoder,
        dataset: Data,
        *,
        task: str,
        metrics: Mapping[str, float],
        chance: Mapping[str, float],
        n: int,
        failures: tuple[Failed, ...],
        **more: Any,
    ) -> Result:
        """A result that says of which model and data it is, and how it was measured."""
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
