"""Means over collections of data sets: the paper's 27, VTAB+, and each kind of SugarCrepe's files.

A mean over a part of a collection is not comparable with one over another part, or over all of it, so each
lists the data sets it covers and those that are missing. Reads results; measures nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from diptych.datasets.registry import KNOWN, short
from diptych.evaluation.results.result import Result
from diptych.reports import Cell, Estimate, Section, Table

# The paper's evaluation suite (Radford et al. 2021, section 3.2 and table 9), by CLIP_benchmark's names.
# VOC 2007 is measured with several classes a picture there, by 11-point mAP.
PAPER_27 = (
    *("food101", "cifar10", "cifar100", "birdsnap", "sun397", "cars", "fgvc_aircraft", "voc2007_multilabel"),
    *("dtd", "pets", "caltech101", "flowers", "mnist", "fer2013", "stl10", "eurosat", "resisc45", "gtsrb"),
    *("kitti_closest_vehicle_distance", "country211", "pcam", "ucf101", "kinetics700", "clevr_count_all"),
    *("hateful_memes", "renderedsst2", "imagenet1k"),
)

# LAION's 35 tasks (Schuhmann et al. 2022, arXiv 2210.08402): VTAB's 19 and 16 more, all by accuracy.
# CLIP_benchmark's list has VOC 2007 a second time, with several classes a picture, which has no accuracy.
VTAB_PLUS = (
    *("caltech101", "cifar100", "clevr_count_all", "clevr_closest_object_distance", "diabetic_retinopathy"),
    *("dmlab", "dsprites_label_orientation", "dsprites_label_x_position", "dtd", "eurosat"),
    *("kitti_closest_vehicle_distance", "flowers", "pets", "pcam", "resisc45", "smallnorb_label_azimuth"),
    *("smallnorb_label_elevation", "svhn", "sun397", "imagenet1k", "imagenetv2", "imagenet_sketch"),
    *("imagenet-a", "imagenet-r", "objectnet", "fer2013", "voc2007", "cars", "fgvc_aircraft", "mnist"),
    *("stl10", "gtsrb", "country211", "renderedsst2", "cifar10"),
)

# The columns "Avg." of SugarCrepe's table of results (Hsieh et al. 2023, arXiv 2306.14610).
_SUGAR_CREPE = {
    f"SugarCrepe's {change}": tuple(f"sugar_crepe/{change}_{what}" for what in changed)
    for change, changed in {
        "replace": ("obj", "att", "rel"),
        "swap": ("obj", "att"),
        "add": ("obj", "att"),
    }.items()
}

COLLECTIONS: Mapping[str, Sequence[str]] = MappingProxyType(
    {"the paper's 27": PAPER_27, "VTAB+'s 35": VTAB_PLUS, **_SUGAR_CREPE}
)
MEANS = "Means over data sets"  # heading of the section
_TASKS = {
    "zeroshot_classification": "zero-shot",
    "linear_probe": "probe",
    "image_caption_selection": "selection",
}


@dataclass(frozen=True)
class CollectionMean:
    """The mean of one protocol over the data sets of a collection that were measured.

    Attributes
    ----------
    collection, protocol, model : str
    value : Estimate
        Each data set counts the same; the interval takes the data sets as fixed and their pictures as drawn.
    figures : mapping of data set to (metric, figure)
        The figures that are averaged.
    missing : tuple of str
        Data sets of the collection without a result by the collection's metric.
    sampled : tuple of str
        Data sets of which a sample was measured.
    """

    collection: str
    protocol: str
    model: str
    value: Estimate
    figures: Mapping[str, tuple[str, float]]
    missing: tuple[str, ...]
    sampled: tuple[str, ...]

    @property
    def coverage(self) -> str:
        """How many of the collection's data sets are covered, such as "3 of 27"."""
        return f"{len(self.figures)} of {len(self.figures) + len(self.missing)}"

    @property
    def text(self) -> str:
        """The data sets that are covered and those that are not, in words."""
        part = f"{len(self.figures)} of {self.collection}, not of all"
        of = part if self.missing else f"all of {self.collection}"
        sentence = f"{self.model}, {self.protocol}: mean of {of}: {', '.join(self.figures)}."
        if self.missing:
            sentence += f" Missing: {', '.join(self.missing)}."
        if self.sampled:
            sentence += f" Samples: {', '.join(self.sampled)}."
        return sentence


def collection_means(results: Iterable[Result]) -> list[CollectionMean]:
    """Means over the collections in `COLLECTIONS`, of each model, protocol and language with results.

    Parameters
    ----------
    results : iterable of Result
        The paper's metric of each data set counts for its 27, accuracy for the others. Of several results of
        one model, protocol, language and data set the last counts.

    Examples
    --------
    >>> one = dict(task="zeroshot_classification", chance={}, n=9, identity="a", data_fingerprint="")
    >>> results = [Result(dataset="cifar10", metrics={"acc1": 0.9}, **one),
    ...            Result(dataset="mnist", metrics={"acc1": 0.5}, **one)]
    >>> [(mean.coverage, mean.value.value) for mean in collection_means(results)]
    [('2 of 27', 0.7), ('2 of 35', 0.7)]
    """
    groups: dict[tuple[str, str, str], dict[str, Result]] = {}
    for result in results:
        if result.task in _TASKS:
            key = (result.identity, result.task, result.language)
            groups.setdefault(key, {})[short(result.dataset.lower())] = result
    means = []
    for (_, task, language), named in groups.items():
        protocol = _TASKS[task] if language == "en" else f"{_TASKS[task]}, {language}"
        for collection, members in COLLECTIONS.items():
            mean = _mean(collection, members, protocol, named)
            if mean is not None:
                means.append(mean)
    return means


def _mean(
    collection: str, members: Sequence[str], protocol: str, named: Mapping[str, Result]
) -> CollectionMean | None:
    metrics = dict.fromkeys(members, "acc" if collection in _SUGAR_CREPE else "acc1")
    if members is PAPER_27:
        metrics = {short(one.name): one.metric for one in KNOWN.values() if short(one.name) in members}
    there = {name: named[name] for name in members if name in named and metrics[name] in named[name].metrics}
    if len(there) < 2:  # a mean of one is no mean
        return None
    figures = {name: (metrics[name], result.metrics[metrics[name]]) for name, result in there.items()}
    first = next(iter(there.values()))
    return CollectionMean(
        collection=collection,
        protocol=protocol,
        model=" ".join(filter(None, (first.model, first.pretrained))) or first.identity[:19],
        value=_estimate([(result, metrics[name]) for name, result in there.items()]),
        figures=figures,
        missing=tuple(name for name in members if name not in there),
        sampled=tuple(name for name, one in there.items() if one.sampled_from),
    )


def _estimate(figures: Sequence[tuple[Result, str]]) -> Estimate:
    """Mean of metrics of results, with an interval where all have one.

    Data sets are independent, so the variances of their figures add: the distance of the mean to an end of
    its interval is the root of the sum of squares of the figures' distances, over their number.
    """
    count, pictures = len(figures), sum(result.n for result, _ in figures)
    middle = math.fsum(result.metrics[metric] for result, metric in figures) / count
    if any(metric not in result.intervals for result, metric in figures):
        return Estimate(middle, n=pictures)
    below = math.hypot(*(one.metrics[metric] - one.intervals[metric][0] for one, metric in figures)) / count
    above = math.hypot(*(one.intervals[metric][1] - one.metrics[metric] for one, metric in figures)) / count
    return Estimate(middle, middle - below, middle + above, pictures)


def means_section(means: Sequence[CollectionMean]) -> Section:
    """The means as a table, and below each name what it is of."""
    rows: list[list[Cell]] = [
        [one.model, one.protocol, one.collection, one.value, one.coverage] for one in means
    ]
    caption = (
        "Each data set counts the same: for the paper's 27 by the metric the paper gives for it, else by "
        "accuracy. Means over different parts of a collection must not be compared."
    )
    table = Table(["model", "protocol", "collection", "mean", "data sets"], rows, caption)
    return Section(MEANS, [one.text for one in means], {"means": table})
