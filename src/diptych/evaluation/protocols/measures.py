"""A data set together with its protocol, for measuring several encoders on it.

Labelled images are classified, captioned ones retrieved: `open_measure` decides by the files, `measure_known`
by the registry.
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
from diptych.datasets.discovery import DatasetLocation
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
    """A measurement; called with an encoder, it returns the `Result`.

    Attributes
    ----------
    names : names, optional
        For labelled images: other class names, as for `evaluate_zero_shot`.
    templates : str, sequence of str or None
        For labelled images, as for `ZeroShotClassifier`.
    wanted : str, optional
        The main metric of the data set, if it is not the default of the protocol.
    language : str
        Of the names and prompts, or of the captions; stored in the result.
    """

    dataset: ImageDataset | MultiLabelDataset | CaptionDataset
    names: Names | None = None
    templates: str | Sequence[str] | None = "plain"
    wanted: str | None = None
    language: str = "en"

    def translated(self, language: Language) -> Measure:
        """Return the measure with class names and prompts in another language.

        Raises
        ------
        DataError
            A class without a name in that language, or captions, which are not translated.
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
        """Name of the data set in results."""
        return self.dataset.name

    @property
    def metric(self) -> str:
        """The main metric: by default accuracy, mean average precision or recall@10."""
        if self.wanted is not None:
            return self.wanted
        if isinstance(self.dataset, MultiLabelDataset):
            return "mean_average_precision"
        return "acc1" if isinstance(self.dataset, ImageDataset) else "image_retrieval_recall@10"

    @property
    def also(self) -> tuple[str, ...]:
        """Value of a protocol's `also`: the data set's main metric, if it is measured only on request."""
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
    location: DatasetLocation,
    part: Part = "test",
    *,
    domain: str | None = None,
    names: Names | None = None,
    templates: str | Sequence[str] | None = None,
) -> Measure:
    """Create the measure of a known data set: its class names, its prompts, the paper's metric.

    Parameters
    ----------
    location : DatasetLocation
        From `find_dataset` or `available_datasets`.
    part, domain
        As for `DatasetLocation.open`.
    names, templates
        Instead of the registry's. If it has none, prompts from the files are used, else "plain".

    Raises
    ------
    DataError
        As for `DatasetLocation.open`.
    """
    dataset, known = location.open(part, domain=domain), location.known
    own = dataset.templates if isinstance(dataset, ImageDataset) else ()
    classes = () if isinstance(dataset, CaptionDataset) else dataset.class_names
    texts = {texts[0]: list(texts) for texts in class_texts(known.prompts)} if known.prompts else {}
    # Class names with synonyms. ImageNet has none, and two of its classes are called "missile".
    if names is None and set(classes) <= set(texts) and any(len(each) > 1 for each in texts.values()):
        names = {name: texts[name] for name in classes}
    return Measure(dataset, names, templates or known.prompts or own or "plain", known.metric)


def open_measure(path: str | Path) -> Measure:
    """Create the measure of a folder or archive: retrieval if images have captions, else classification.

    Parameters
    ----------
    path : path
        KEY.jpg with KEY.txt or KEY.json with captions; KEY.json with "label"; <class>/<file>.jpg, or any
        layout of `load_labelled` or `load_multi_label`, with its prompts if it has any.

    Raises
    ------
    DataError
        Another layout.
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
    """Make the names of measures unique: the second "test" becomes "test (2)"."""
    renamed: list[Measure] = []
    for measure in measures:
        same = sum(earlier.name == measure.name for earlier in measures[: len(renamed)])
        named = f"{measure.name} ({same + 1})" if same else measure.name
        renamed.append(dataclasses.replace(measure, dataset=dataclasses.replace(measure.dataset, name=named)))
    return renamed
