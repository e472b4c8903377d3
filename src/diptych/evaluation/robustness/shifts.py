"""Accuracy of a model on a reference data set and its distribution shifts.

(CLIP paper, section 3.3; Taori et al. 2020, arXiv 2007.00644.) The data sets of a group have the same
classes: ImageNet with V2, A, R, Sketch and ObjectNet; photographs with paintings and sketches; clean images
with their corruptions. Models are compared in `shift_gaps.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.dataset import ImageDataset
from diptych.datasets.overlap import check_overlaps
from diptych.errors import DataError, InputError, listed
from diptych.evaluation.protocols.classification import at_positions
from diptych.evaluation.protocols.scorers import Scorer, score
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.evaluation.results.result import Result
from diptych.evaluation.robustness.corrupted_sets import CorruptedDataset
from diptych.evaluation.robustness.corruptions import CORRUPTIONS
from diptych.evaluation.robustness.effective import RESAMPLES
from diptych.stats import metrics
from diptych.stats.intervals import ends, proportion

Floats = NDArray[np.float64]
MEAN = "mean over all"


@dataclass(frozen=True)
class ShiftGroup:
    """A reference data set and its shifts.

    Attributes
    ----------
    reference : ImageDataset
        Its classes, in their order, are the columns of scores.
    shifts : sequence of ImageDataset
        With the same classes.
    shared_classes : bool
        Allow shifts with other classes: such a shift and the reference are measured on their common classes,
        as is usual for ImageNet-A and ImageNet-R, which have 200 of the 1,000.

    Raises
    ------
    DataError
        No shift, two with the same name, or classes that differ.
    """

    reference: ImageDataset
    shifts: Sequence[ImageDataset]
    shared_classes: bool = False

    def __post_init__(self) -> None:
        name = self.reference.name
        if not self.shifts:
            raise DataError(
                f"{name} has no shifts: give other data sets of its classes, domains, or corruptions"
            )
        names = [name, *(shift.name for shift in self.shifts)]
        if repeated := sorted({each for each in names if names.count(each) > 1}):
            raise DataError(f"two data sets are called {repeated[0]!r}: give one of them another name")
        for shift in self.shifts:
            if shift.class_names == self.reference.class_names:
                continue
            expected, actual = set(self.reference.class_names), set(shift.class_names)
            common = len(expected & actual)
            only, only_there = (listed(sorted(names), 3) for names in (expected - actual, actual - expected))
            if (expected != actual and not self.shared_classes) or common < 2:
                raise DataError(
                    f"{name} and {shift.name} have different classes (of {len(expected)} and {len(actual)}, "
                    f"{common} in both; only in {name}: {only}; only in {shift.name}: {only_there}): "
                    "rename the folders, or measure among the classes that both have (shared_classes)"
                )

    @property
    def paired(self) -> bool:
        """Whether all shifts are corrupted copies of the reference's images."""
        return all(isinstance(shift, CorruptedDataset) for shift in self.shifts)

    @property
    def series(self) -> dict[str, list[int]]:
        """Series for which lines are fitted: name -> indices of the averaged shifts; the last is the mean."""
        series: dict[str, list[int]] = {}
        for number, shift in enumerate(self.shifts):
            known = isinstance(shift, CorruptedDataset) and self.paired
            name = CORRUPTIONS[shift.corruption].kind if known else shift.name  # type: ignore[attr-defined]
            series.setdefault(name, []).append(number)
        return series if len(series) == 1 else {**series, MEAN: list(range(len(self.shifts)))}


@dataclass(frozen=True)
class ShiftResults:
    """Results of one model on a group.

    Attributes
    ----------
    shifts : sequence of Result
        One per shift.
    narrowed : mapping of shift's name to Result
        Result on the reference restricted to the shift's classes, if these are fewer.
    paired : bool
        As for `ShiftGroup`.
    """

    model: str
    reference: Result
    shifts: Sequence[Result]
    narrowed: Mapping[str, Result] = field(default_factory=dict)
    paired: bool = False

    def reference_of(self, shift: Result) -> Result:
        """The result that a shift is compared with."""
        return self.narrowed.get(shift.dataset, self.reference)

    def accuracies(self) -> Floats:
        """Accuracies on the reference and on the shift, for each of K shifts, (2, K)."""
        pairs = [(self.reference_of(shift).metrics["acc1"], shift.metrics["acc1"]) for shift in self.shifts]
        return np.array(pairs, dtype=np.float64).T

    def bootstrap_accuracies(self, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
        """`accuracies` of bootstrap samples of the images, (resamples, 2, K).

        Corruptions are of the reference's own images, so a sample contains the same images everywhere. With
        one seed two models get the same samples: a difference between them is paired.
        """
        if self.paired:
            columns = [_outcomes(self.reference), *map(_outcomes, self.shifts)]
            drawn = _resampled(np.stack(columns, axis=1), resamples, seed)
            first = np.repeat(drawn[:, :1], len(self.shifts), axis=1)
            return np.stack([first, drawn[:, 1:]], axis=1)
        means: dict[int, Floats] = {}
        for number, shift in enumerate(self.shifts):
            for salt, result in ((0, self.reference_of(shift)), (number + 1, shift)):
                if id(result) not in means:
                    means[id(result)] = _resampled(_outcomes(result)[:, None], resamples, seed + salt)[:, 0]
        pairs = [[means[id(self.reference_of(result))], means[id(result)]] for result in self.shifts]
        return np.array(pairs).transpose(2, 1, 0)


def measure_shifts(scorer: Scorer, group: ShiftGroup, **settings: Unpack[Settings]) -> ShiftResults:
    """Measure a model on the reference and every shift.

    Parameters
    ----------
    scorer : Scorer
        Its columns are `group.reference.class_names`.
    **settings
        See `Settings`; `model` is its name in tables.

    Raises
    ------
    InputError
        A number of scores that differs from that of classes.
    DataError
        No readable image in a data set, or two data sets that share many images.
    """
    setup = Setup.of(**settings)
    separate = [
        dataset for dataset in (group.reference, *group.shifts) if not isinstance(dataset, CorruptedDataset)
    ]
    check_overlaps(separate if not group.paired else (), allow=setup.allow_overlap)
    reference, scores = _result(scorer, group.reference, group.reference, setup)
    shifts = [_result(scorer, shift, group.reference, setup)[0] for shift in group.shifts]
    narrowed: dict[str, Result] = {}
    for shift in group.shifts:
        columns = _columns(shift, group.reference)
        if len(columns) < len(group.reference.class_names):
            narrowed[shift.name] = _accuracy_result(scorer, group.reference, columns, scores, setup)
    return ShiftResults(setup.model or scorer.identity, reference, shifts, narrowed, group.paired)


def _result(
    scorer: Scorer, dataset: ImageDataset, reference: ImageDataset, setup: Setup
) -> tuple[Result, tuple[NDArray[np.float32], NDArray[np.intp]]]:
    """Accuracy among the classes that the reference has too; and the scores with their positions."""
    scored = score(scorer, dataset, setup)
    if scored.embeddings.shape[1] != len(reference.class_names):
        raise InputError(
            f"{setup.model or scorer.identity} gives {scored.embeddings.shape[1]} scores for the "
            f"{len(reference.class_names)} classes of {reference.name}: expected one for each, in their order"
        )
    scores = (scored.embeddings, scored.positions)
    columns = _columns(dataset, reference)
    return _accuracy_result(scorer, dataset, columns, scores, setup, scored.failures, reference), scores


def _columns(shift: ImageDataset, reference: ImageDataset) -> list[int]:
    """Columns of the classes that the reference and a shift have in common."""
    if shift.class_names == reference.class_names:
        return list(range(len(reference.class_names)))
    theirs = set(shift.class_names)
    return [column for column, name in enumerate(reference.class_names) if name in theirs]


def _accuracy_result(
    scorer: Scorer,
    dataset: ImageDataset,
    columns: Sequence[int],
    scores: tuple[NDArray[np.float32], NDArray[np.intp]],
    setup: Setup,
    failures: tuple[object, ...] = (),
    reference: ImageDataset | None = None,
) -> Result:
    """Accuracy from scores, among some of the reference's classes; images of other classes are left out."""
    answers = (reference or dataset).class_names
    rows, positions = scores
    if len(columns) == len(answers) and dataset.class_names == answers:
        label_map = np.arange(len(answers))
    else:
        # By name: classes with the same name, such as ImageNet's two "sunglasses", become one class with the
        # larger score.
        among: dict[str, list[int]] = {}
        for column in columns:
            among.setdefault(answers[column], []).append(column)
        number = {name: position for position, name in enumerate(among)}
        label_map = np.array([number.get(name, -1) for name in dataset.class_names])
        rows = np.stack([rows[:, each].max(axis=1) for each in among.values()], axis=1)
    right = label_map[dataset.labels[positions]]
    kept = right >= 0
    if not kept.any():
        raise DataError(f"no readable picture of {dataset.name} has one of the compared classes")
    hits = metrics.hits(rows[kept], right[kept], tolerance=metrics.ROUNDING)
    count = rows.shape[1]
    return setup.result(
        scorer,  # type: ignore[arg-type]  # only its identity is used
        dataset,
        task="classification_under_shift",
        metrics={"acc1": float(hits.mean())},
        chance={"acc1": 1 / count},
        intervals={"acc1": ends(proportion(hits))},
        n=len(hits),
        classes=count,
        failures=failures,  # type: ignore[arg-type]
        outcomes={"acc1": at_positions(hits, positions[kept], len(dataset))},
    )


def _outcomes(result: Result) -> Floats:
    """Outcomes of the readable images."""
    return np.array([value for value in result.outcomes["acc1"] if value is not None], dtype=np.float64)


def _resampled(table: Floats, resamples: int, seed: int) -> Floats:
    """Means of the columns of a table over bootstrap samples of its rows, (resamples, columns).

    A sample is a vector of counts: with 4 rows, [2, 1, 0, 1] takes the first row twice and the third never,
    so the means of many samples are one matrix product.
    """
    rng, rows = np.random.default_rng(seed), len(table)
    step = max(1, 4_000_000 // rows)
    even = np.full(rows, 1 / rows)
    counts = (
        rng.multinomial(rows, even, size=min(step, resamples - start)) for start in range(0, resamples, step)
    )
    return np.concatenate([part @ table for part in counts]) / rows
