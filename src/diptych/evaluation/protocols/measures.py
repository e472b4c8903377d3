"""A data set together with its protocol, so that one encoder after another can be measured on it.

Labelled pictures are named, captioned ones are found: which of the two, `open_measure` sees by the files and
`measure_known` by the registry. The protocols are `classification`'s and `retrieval`'s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.datasets.dataset import (
    CaptionDataset,
    ImageDataset,
    load_captioned,
    load_labelled,
    load_labelled_shards,
)
from diptych.datasets.discovery import Place
from diptych.datasets.multilabel import MultiLabelDataset, load_multi_label
from diptych.datasets.parts import Part
from diptych.encoder import Encoder
from diptych.errors import DataError
from diptych.evaluation.protocols.classification import ALSO, evaluate_zero_shot
from diptych.evaluation.protocols.multilabel import evaluate_multi_label
from diptych.evaluation.protocols.retrieval import evaluate_retrieval
from diptych.evaluation.results.result import Result
from diptych.zeroshot import class_texts
from diptych.zeroshot.labels import Names
from diptych.zeroshot.languages import Language


@dataclass(frozen=True)
class Measure:
    """What is measured; called with an encoder, it gives the `Result`.

    Attributes
    ----------
    dataset : ImageDataset, MultiLabelDataset or CaptionDataset
    names : names, optional
        For labelled pictures: other words for the classes, as for `evaluate_zero_shot`.
    templates : str, sequence of str or None
        For labelled pictures, as for `ZeroShotClassifier`.
    wanted : str, optional
        The metric that stands for the others, where a data set has one of its own.
    language : str
        Of the names and prompts, or of the captions; carried into the result.
    """

    dataset: ImageDataset | MultiLabelDataset | CaptionDataset
    names: Names | None = None
    templates: str | Sequence[str] | None = "plain"
    wanted: str | None = None
    language: str = "en"

    def translated(self, language: Language) -> Measure:
        """The same with class names and prompts in another language.

        Raises
        ------
        DataError
            A class without a name in that language, or pictures with captions, which are not translated.
        """
        if isinstance(self.dataset, CaptionDataset):
            raise DataError(
                f"{self.name} has captions, which --language does not translate: measure captions in "
                f"{language.title} with `evaluate retrieval PATH --language {language.code}`"
            )
        texts = language.class_texts(self.dataset.class_names, self.name)
        return dataclasses.replace(self, names=texts, templates=language.templates, language=language.code)

    @property
    def name(self) -> str:
        """What results call the data set."""
        return self.dataset.name

    @property
    def metric(self) -> str:
        """The one figure that stands for the others: accuracy, or pictures found among the first ten."""
        if self.wanted is not None:
            return self.wanted
        if isinstance(self.dataset, MultiLabelDataset):
            return "mean_average_precision"
        return "acc1" if isinstance(self.dataset, ImageDataset) else "image_retrieval_recall@10"

    @property
    def also(self) -> tuple[str, ...]:
        """What a protocol takes as `also`: the data set's own metric, where not every result has it."""
        return (self.wanted,) if self.wanted in ALSO else ()

    def __call__(self, encoder: Encoder, **settings: Any) -> Result:
        """Measure an encoder; settings as for `evaluate_zero_shot`."""
        return dataclasses.replace(self._result(encoder, **settings), language=self.language)

    def _result(self, encoder: Encoder, **settings: Any) -> Result:
        if isinstance(self.dataset, CaptionDataset):
            return evaluate_retrieval(encoder, self.dataset, **settings)
        if isinstance(self.dataset, MultiLabelDataset):
            return evaluate_multi_label(
                encoder, self.dataset, self.names, templates=self.templates, **settings
            )
        return evaluate_zero_shot(
            encoder, self.dataset, self.names, templates=self.templates, also=self.also, **settings
        )


def measure_known(
    place: Place,
    part: Part = "test",
    *,
    domain: str | None = None,
    names: Names | None = None,
    templates: str | Sequence[str] | None = None,
) -> Measure:
    """The measure of a known data set: its class names, its prompts, the paper's metric.

    Parameters
    ----------
    place : Place
        From `find` or `there`.
    part, domain
        As for `Place.open`.
    names, templates
        Others than the registry's. Without any, prompts that came with the files are taken, then "plain".

    Raises
    ------
    DataError
        As for `Place.open`.
    """
    dataset, known = place.open(part, domain=domain), place.known
    own = dataset.templates if isinstance(dataset, ImageDataset) else ()
    classes = () if isinstance(dataset, CaptionDataset) else dataset.class_names
    texts = {texts[0]: list(texts) for texts in class_texts(known.prompts)} if known.prompts else {}
    # Names that mean several texts: those of ImageNet do not, of which two are called "missile".
    if names is None and set(classes) <= set(texts) and any(len(each) > 1 for each in texts.values()):
        names = {name: texts[name] for name in classes}
    return Measure(dataset, names, templates or known.prompts or own or "plain", known.metric)


def open_measure(path: str | Path) -> Measure:
    """The measure of a folder or archive: retrieval where pictures have captions, else accuracy.

    Parameters
    ----------
    path : path
        KEY.jpg beside KEY.txt or KEY.json with captions; KEY.json with "label"; <class>/<file>.jpg, or any
        layout of `load_labelled` or `load_multi_label`, with the prompts that came with it.

    Raises
    ------
    DataError
        It holds none of these.
    """
    errors = []
    for load in (load_captioned, load_multi_label, load_labelled, load_labelled_shards):
        try:
            dataset = load(path)
        except DataError as error:
            errors.append(error)
        else:
            return Measure(dataset, templates=getattr(dataset, "templates", ()) or "plain")
    raise DataError(f"{path} has neither captions nor classes: {errors[2]}; {errors[0]}")


def distinct(measures: Sequence[Measure]) -> list[Measure]:
    """The measures with names told apart: the second "test" becomes "test (2)"."""
    found: list[Measure] = []
    for measure in measures:
        same = sum(one.name == measure.name for one in measures[: len(found)])
        named = f"{measure.name} ({same + 1})" if same else measure.name
        found.append(dataclasses.replace(measure, dataset=dataclasses.replace(measure.dataset, name=named)))
    return found
