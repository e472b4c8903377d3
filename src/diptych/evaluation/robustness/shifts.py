"""A reference data set and its shifts, and what one model makes of them.

(CLIP paper, section 3.3; Taori et al. 2020, arXiv 2007.00644.) A group holds pictures of one set of classes:
ImageNet with V2, A, R, Sketch and ObjectNet; photographs with paintings and sketches; clean pictures with
their corruptions. Models are compared in `robustness.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.dataset import ImageDataset
from diptych.datasets.overlap import check_overlaps
from diptych.errors import DataError, InputError
from diptych.evaluation.protocols.classification import spread
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
        Of the same classes.
    shared_classes : bool
        A shift may have other classes: it and the reference are then measured among those that both have, as
        is done for ImageNet-A and ImageNet-R, which have 200 of the 1,000.

    Raises
    ------
    DataError
        No shift, two of one name, or classes that differ.
    """

    reference: ImageDataset
    shifts: Sequence[ImageDataset]
    shared_classes: bool = False

    def __post_init__(self) -> None:
        name = self.reference.name
        if not self.shifts:
            raise DataError(
                f"{name} has no shift beside it: name other data sets of its classes, domains, or corruptions"
            )
        taken = [name, *(shift.name for shift in self.shifts)]
        if twice := sorted({one for one in taken if taken.count(one) > 1}):
            raise DataError(f"two data sets are called {twice[0]!r}: give one another name")
        for shift in self.shifts:
            if shift.class_names == self.reference.class_names:
                continue
            mine, theirs = set(self.reference.class_names), set(shift.class_names)
            if (mine != theirs and not self.shared_classes) or len(mine & theirs) < 2:
                only = [_few(mine - theirs), _few(theirs - mine)]
                raise DataError(
                    f"{name} and {shift.name} have other classes (of {len(mine)} and {len(theirs)}, "
                    f"{len(mine & theirs)} in both; only in {name}: {only[0]}; only in {shift.name}: "
                    f"{only[1]}): rename the folders, or measure among the classes that both have "
                    "(shared_classes)"
                )

    @property
    def paired(self) -> bool:
        """Whether the shifts are the reference's own pictures, changed."""
        return all(isinstance(shift, CorruptedDataset) for shift in self.shifts)

    @property
    def series(self) -> dict[str, list[int]]:
        """What a line is fitted for: name -> which shifts are averaged; the mean over all comes last."""
        found: dict[str, list[int]] = {}
        for number, shift in enumerate(self.shifts):
            known = isinstance(shift, CorruptedDataset) and self.paired
            name = CORRUPTIONS[shift.corruption].kind if known else shift.name  # type: ignore[attr-defined]
            found.setdefault(name, []).append(number)
        return found if len(found) == 1 else {**found, MEAN: list(range(len(self.shifts)))}


@dataclass(frozen=True)
class Standing:
    """What one model has on a group.

    Attributes
    ----------
    model : str
    reference : Result
    shifts : sequence of Result
        One a shift.
    narrowed : mapping of shift's name to Result
        The reference among the shift's classes, where these are fewer.
    paired : bool
        As for `ShiftGroup`.
    """

    model: str
    reference: Result
    shifts: Sequence[Result]
    narrowed: Mapping[str, Result] = field(default_factory=dict)
    paired: bool = False

    def reference_of(self, shift: Result) -> Result:
        """What a shift's accuracy is compared with."""
        return self.narrowed.get(shift.dataset, self.reference)

    def accuracies(self) -> Floats:
        """Of the reference and of the shift, for each shift, (2, K)."""
        pairs = [(self.reference_of(one).metrics["acc1"], one.metrics["acc1"]) for one in self.shifts]
        return np.array(pairs, dtype=np.float64).T

    def draws(self, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
        """The same on draws of the pictures with replacement, (resamples, 2, K).

        Corruptions are of the reference's own pictures, so a draw takes a picture everywhere or nowhere. Two
        models get the same draws of the same pictures: differences between them are differences on these.
        """
        if self.paired:
            columns = [_outcomes(self.reference), *map(_outcomes, self.shifts)]
            drawn = _resampled(np.stack(columns, axis=1), resamples, seed)
            first = np.repeat(drawn[:, :1], len(self.shifts), axis=1)
            return np.stack([first, drawn[:, 1:]], axis=1)
        known: dict[int, Floats] = {}
        for number, shift in enumerate(self.shifts):
            for salt, one in ((0, self.reference_of(shift)), (number + 1, shift)):
                if id(one) not in known:
                    known[id(one)] = _resampled(_outcomes(one)[:, None], resamples, seed + salt)[:, 0]
        pairs = [[known[id(self.reference_of(one))], known[id(one)]] for one in self.shifts]
        return np.array(pairs).transpose(2, 1, 0)


def measure(scorer: Scorer, group: ShiftGroup, **settings: Unpack[Settings]) -> Standing:
    """Ask one model about the reference and every shift.

    Parameters
    ----------
    scorer : Scorer
        Its columns are `group.reference.class_names`.
    group : ShiftGroup
    **settings
        See `Settings`; `model` is what tables call it.

    Raises
    ------
    InputError
        Another number of scores than classes.
    DataError
        No picture of a data set can be read, or two data sets share many.
    """
    setup = Setup.of(**settings)
    separate = [one for one in (group.reference, *group.shifts) if not isinstance(one, CorruptedDataset)]
    check_overlaps(separate if not group.paired else (), allow=setup.allow_overlap)
    reference, scores = _result(scorer, group.reference, group.reference, setup)
    shifts = [_result(scorer, shift, group.reference, setup)[0] for shift in group.shifts]
    narrowed: dict[str, Result] = {}
    for shift in group.shifts:
        columns = _columns(shift, group.reference)
        if len(columns) < len(group.reference.class_names):
            narrowed[shift.name] = _judged(scorer, group.reference, columns, scores, setup)
    return Standing(setup.model or scorer.identity, reference, shifts, narrowed, group.paired)


def _result(
    scorer: Scorer, dataset: ImageDataset, reference: ImageDataset, setup: Setup
) -> tuple[Result, tuple[NDArray[np.float32], NDArray[np.intp]]]:
    """Accuracy among the classes that are the reference's too; and the scores with their positions."""
    found = score(scorer, dataset, setup)
    if found.rows.shape[1] != len(reference.class_names):
        raise InputError(
            f"{setup.model or scorer.identity} gives {found.rows.shape[1]} scores for the "
            f"{len(reference.class_names)} classes of {reference.name}: expected one for each, in their order"
        )
    scores = (found.rows, found.positions)
    columns = _columns(dataset, reference)
    return _judged(scorer, dataset, columns, scores, setup, found.failures, reference), scores


def _columns(shift: ImageDataset, reference: ImageDataset) -> list[int]:
    """Columns of the reference's classes that a shift has too."""
    if shift.class_names == reference.class_names:
        return list(range(len(reference.class_names)))
    theirs = set(shift.class_names)
    return [column for column, name in enumerate(reference.class_names) if name in theirs]


def _judged(
    scorer: Scorer,
    dataset: ImageDataset,
    columns: Sequence[int],
    scores: tuple[NDArray[np.float32], NDArray[np.intp]],
    setup: Setup,
    failures: tuple[object, ...] = (),
    reference: ImageDataset | None = None,
) -> Result:
    """A result from scores, among some of the reference's classes; pictures of other classes do not count."""
    answers = (reference or dataset).class_names
    rows, positions = scores
    if len(columns) == len(answers) and dataset.class_names == answers:
        place = np.arange(len(answers))
    else:
        # By name: classes of one name, such as ImageNet's two "sunglasses", are one class, of the best score.
        among: dict[str, list[int]] = {}
        for column in columns:
            among.setdefault(answers[column], []).append(column)
        number = {name: position for position, name in enumerate(among)}
        place = np.array([number.get(name, -1) for name in dataset.class_names])
        rows = np.stack([rows[:, each].max(axis=1) for each in among.values()], axis=1)
    right = place[dataset.labels[positions]]
    kept = right >= 0
    if not kept.any():
        raise DataError(f"no picture of {dataset.name} that can be read is of a class that is compared")
    hits = metrics.hits(rows[kept], right[kept], tolerance=metrics.ROUNDING)
    count = rows.shape[1]
    return setup.result(
        scorer,  # type: ignore[arg-type]  # an identity is all that is asked of it
        dataset,
        task="classification_under_shift",
        metrics={"acc1": float(hits.mean())},
        chance={"acc1": 1 / count},
        intervals={"acc1": ends(proportion(hits))},
        n=len(hits),
        classes=count,
        failures=failures,  # type: ignore[arg-type]
        outcomes={"acc1": spread(hits, positions[kept], len(dataset))},
    )


def _outcomes(result: Result) -> Floats:
    """What each picture that was read contributed."""
    return np.array([value for value in result.outcomes["acc1"] if value is not None], dtype=np.float64)


def _resampled(table: Floats, resamples: int, seed: int) -> Floats:
    """Means of the columns on draws of the rows with replacement, (resamples, columns)."""
    rng, rows = np.random.default_rng(seed), len(table)
    step = max(1, 4_000_000 // rows)
    even = np.full(rows, 1 / rows)
    counts = (
        rng.multinomial(rows, even, size=min(step, resamples - start)) for start in range(0, resamples, step)
    )
    return np.concatenate([part @ table for part in counts]) / rows


def _few(names: Iterable[str]) -> str:
    found = sorted(names)
    return (", ".join(map(repr, found[:3])) or "none") + (f" and {len(found) - 3} more" if found[3:] else "")
