"""Means over collections of data sets: the paper's 27, VTAB+, and each kind of SugarCrepe's files.

Means over different parts of a collection are not comparable, so each lists its data sets and the missing
ones.
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
# It measures VOC 2007 as multi-label, by 11-point mAP.
PAPER_27 = (
    *("food101", "cifar10", "cifar100", "birdsnap", "sun397", "cars", "fgvc_aircraft", "voc2007_multilabel"),
    *("dtd", "pets", "caltech101", "flowers", "mnist", "fer2013", "stl10", "eurosat", "resisc45", "gtsrb"),
    *("kitti_closest_vehicle_distance", "country211", "pcam", "ucf101", "kinetics700", "clevr_count_all"),
    *("hateful_memes", "renderedsst2", "imagenet1k"),
)

# LAION's 35 tasks (Schuhmann et al. 2022, arXiv 2210.08402): VTAB's 19 and 16 more, all by accuracy.
# CLIP_benchmark's list also has VOC 2007 as multi-label, which has no accuracy.
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
    f"SugarCrepe's {change}": tuple(f"sugar_crepe/{change}_{kind}" for kind in changed)
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
    value : Estimate
        Data sets have equal weights; the interval is over images, with the data sets fixed.
    figures : mapping of data set to (metric, figure)
        The averaged figures.
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
        """Number of covered data sets, such as "3 of 27"."""
        return f"{len(self.figures)} of {len(self.figures) + len(self.missing)}"

    @property
    def text(self) -> str:
        """Covered and missing data sets, in words."""
        part = f"{len(self.figures)} of {self.collection}, not of all"
        of = part if self.missing else f"all of {self.collection}"
        sentence = f"{self.model}, {self.protocol}: mean of {of}: {', '.join(self.figures)}."
        if self.missing:
            sentence += f" Missing: {', '.join(self.missing)}."
        if self.sampled:
            sentence += f" Samples: {', '.join(self.sampled)}."
        return sentence


def collection_means(results: Iterable[Result]) -> list[CollectionMean]:
    """Compute the means over `COLLECTIONS`, for each model, protocol and language with results.

    Parameters
    ----------
    results : iterable of Result
        For the paper's 27 its metric of each data set is averaged, for the others accuracy. Of several
        results of one model, protocol, language and data set the last is used.

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
        metrics = {
            short(entry.name): entry.metric for entry in KNOWN.values() if short(entry.name) in members
        }
    present = {
        name: named[name] for name in members if name in named and metrics[name] in named[name].metrics
    }
    if len(present) < 2:  # nothing to average
        return None
    figures = {name: (metrics[name], result.metrics[metrics[name]]) for name, result in present.items()}
    first = next(iter(present.values()))
    return CollectionMean(
        collection=collection,
        protocol=protocol,
        model=" ".join(filter(None, (first.model, first.pretrained))) or first.identity[:19],
        value=_estimate([(result, metrics[name]) for name, result in present.items()]),
        figures=figures,
        missing=tuple(name for name in members if name not in present),
        sampled=tuple(name for name, result in present.items() if result.sampled_from),
    )


def _estimate(figures: Sequence[tuple[Result, str]]) -> Estimate:
    """Mean of metrics of results, with an interval if all have one.

    Data sets are independent, so the variances of their figures add up: the distance from the mean to an end
    of its interval is the root of the sum of squares of the figures' distances, divided by their number. For
    example 0.8 +- 0.03 and 0.6 +- 0.04 give 0.7 +- sqrt(0.03^2 + 0.04^2) / 2 = 0.7 +- 0.025.
    """
    count, pictures = len(figures), sum(result.n for result, _ in figures)
    middle = math.fsum(result.metrics[metric] for result, metric in figures) / count
    if any(metric not in result.intervals for result, metric in figures):
        return Estimate(middle, n=pictures)
    below, above = (
        math.hypot(*(result.intervals[metric][end] - result.metrics[metric] for result, metric in figures))
        / count
        for end in (0, 1)
    )
    return Estimate(middle, middle - below, middle + above, pictures)


def means_section(means: Sequence[CollectionMean]) -> Section:
    """Section with a table of the means, and a sentence on the data sets of each."""
    rows: list[list[Cell]] = [
        [mean.model, mean.protocol, mean.collection, mean.value, mean.coverage] for mean in means
    ]
    caption = (
        "Data sets have equal weights: for the paper's 27 by the metric of the paper, else by accuracy. "
        "Means over different parts of a collection must not be compared."
    )
    table = Table(["model", "protocol", "collection", "mean", "data sets"], rows, caption)
    return Section(MEANS, [mean.text for mean in means], {"means": table})
