"""A list of labels looked through before anyone deploys it (paper, section 7.1: class design).

On text alone: what the words say, labels that mean nearly the same, labels that lie near everything. On a
sample of the user's pictures: how many each label takes, how sure the answers are, and what moves when a
label is added or taken away. The word lists are `label_words.py`'s; what is told of the findings is
`class_report.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeGuard, Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.audits.generated_images import GeneratedDataset, generated_dataset
from diptych.audits.labels.class_design_result import ClassDesignAudit, LabelChange, LabelFigures, NearLabels
from diptych.audits.labels.label_words import LabelWarning, has_catch_all, text_warnings, word_lists
from diptych.audits.prompt_scores import Floats, answer_probabilities
from diptych.datasets.dataset import Pictures
from diptych.embedding.batches import Failed, embed_texts
from diptych.encoder import Encoder
from diptych.errors import InputError, TextError
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.reports import Estimate
from diptych.stats.intervals import proportion, wilson
from diptych.stats.significance import MINIMUM
from diptych.zeroshot import ZeroShotClassifier, class_names
from diptych.zeroshot.labels import Names, full_names, read_labels

if TYPE_CHECKING:
    from PIL.Image import Image

UNSURE = 0.5  # the best label has less than half of the probability
MANY = 0.2  # of the pictures
_TIMES, _MOST = 3.0, 0.9  # takes much of a sample: thrice an even share, or this of it, whichever is less
_DRAWN = 60  # pictures that show nothing, where the user gives none
_FEW = 10  # labels: the pairs of fewer are no distribution, and those of everyday nouns stand in
_NORMAL = 1.4826  # the median distance from the median, as a standard deviation


def audit_classes(
    encoder: Encoder,
    names: Names,
    sample: Pictures | None = None,
    *,
    background: Pictures | None = None,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    templates: str | Sequence[str] | None = "plain",
    level: float = 0.05,
    seed: int = 0,
    **settings: Unpack[Settings],
) -> ClassDesignAudit:
    """Look through a list of labels.

    Parameters
    ----------
    encoder : Encoder
    names : names
        As for `ZeroShotClassifier.fit`.
    sample : Pictures, optional
        Pictures like those the labels are for.
    background : Pictures, optional
        Pictures that show none of the labels; by default flat colours, ramps and noise, drawn here.
    add, remove : sequence of str
        Labels to try: which pictures of the sample would get another label.
    templates : str, sequence of str or None
        As for `ZeroShotClassifier`.
    level : float
        Probability that even one of many ordinary labels is called an attractor.
    seed : int
        Of the drawn background.
    **settings
        See `Settings`.

    Raises
    ------
    TextError
        No labels, a label to remove that is not there, or none left.
    InputError
        Labels to try without a sample to try them on.
    """
    labels = read_labels(names)
    titles = full_names(labels)
    texts = {title: list(label.texts) for title, label in zip(titles, labels, strict=True)}
    spoken = list(dict.fromkeys([*titles, *(text for each in texts.values() for text in each)]))
    changed = _changed(texts, add, remove)
    if changed != texts and sample is None:
        raise InputError("labels to add or remove are tried on pictures: give a sample of them")
    setup, fitted = Setup.of(**settings), _fit(encoder, texts, templates)
    ground = background or _nothing(seed)
    empty = setup.embed(encoder, ground)
    plain = _Ordinary(encoder, templates, empty.rows)
    looked = _look(encoder, fitted, sample, setup)
    figures = [
        LabelFigures(name, *plain.pull(row), None if looked is None else proportion(looked.shares[:, place]))
        for place, (name, row) in enumerate(zip(texts, fitted.weights_, strict=True))
    ]
    pairs = list(_near(fitted.weights_, list(texts), plain.nouns, looked, level))
    warned = [
        *_repeated(titles),
        *text_warnings(spoken),
        *_attractors(figures, level),
        *_synonyms(pairs),
        *_catch_all(spoken, looked),
        *_unused(figures, looked),
    ]
    return ClassDesignAudit(
        facts=setup.facts(encoder, *filter(None, [sample]), ground),
        failures=(*empty.failures, *(() if looked is None else looked.failures)),
        labels=tuple(titles),
        sample="" if sample is None else sample.name,
        n=0 if looked is None else len(looked.rows),
        figures=tuple(figures),
        pull_bound=_pull_bound(len(figures), level),
        pairs=tuple(pairs),
        unsure=None if looked is None else looked.unsure,
        warned=tuple(sorted(warned, key=lambda one: one.severity != "serious")),
        added=tuple(add),
        removed=tuple(remove),
        moves=()
        if looked is None or changed == texts
        else tuple(_moves(looked, list(texts), _fit(encoder, changed, templates))),
    )


def _changed(
    texts: Mapping[str, list[str]], add: Sequence[str], remove: Sequence[str]
) -> dict[str, list[str]]:
    """The labels with some added and some taken away."""
    unknown = sorted(set(remove) - set(texts))
    left = {name: each for name, each in texts.items() if name not in set(remove)}
    left |= {name: [name] for name in add}
    if unknown or not left:
        what = ", ".join(map(repr, unknown)) or "every label"
        raise TextError(f"{what} cannot be removed: the labels are {', '.join(map(repr, list(texts)[:40]))}")
    return left


def _fit(
    encoder: Encoder, texts: Mapping[str, Sequence[str]], templates: str | Sequence[str] | None
) -> ZeroShotClassifier:
    # A list of one label, whose softmax is always 1, is worth a warning of the classifier's own.
    return ZeroShotClassifier(encoder, templates=templates).fit(texts)


def _nothing(seed: int) -> GeneratedDataset:
    """Pictures that show nothing: flat colours, ramps and noise in turn."""
    from PIL import Image

    def draw(position: int) -> Image.Image:
        rng = np.random.default_rng([seed, position])
        first, second = rng.integers(0, 256, (2, 3))
        ramp = np.linspace(first, second if position % 3 else first, 64)[:, None, :].repeat(64, axis=1)
        noise = rng.integers(-60, 61, (64, 64, 3)) if position % 3 == 2 else 0
        return Image.fromarray(np.clip(ramp + noise, 0, 255).astype(np.uint8))

    return generated_dataset(
        "drawn background", draw, [0] * _DRAWN, ["nothing"], made=f"background v1 seed {seed}"
    )


@dataclass(frozen=True, eq=False)
class _Looked:
    """What the labels make of the sample."""

    rows: NDArray[np.float32]
    shares: Floats  # (N, C)
    probabilities: NDArray[np.float32]  # (N, C)
    keys: Sequence[str]
    failures: Sequence[Failed]

    @property
    def unsure(self) -> Estimate:
        """Share of pictures whose best label has less than half of the probability."""
        return proportion(self.probabilities.max(axis=1) < UNSURE)


def _look(
    encoder: Encoder, fitted: ZeroShotClassifier, sample: Pictures | None, setup: Setup
) -> _Looked | None:
    if sample is None:
        return None
    found, keys = setup.embed(encoder, sample), sample.keys
    return _Looked(
        found.rows,
        answer_probabilities(fitted.cosines(found.rows)),
        fitted.predict_proba(found.rows),
        [keys[place] for place in found.positions],
        found.failures,
    )


class _Ordinary:
    """How near everyday nouns lie to texts and pictures about nothing: what a label is measured by.

    Some label is always the nearest to a grey wall; it attracts only if it lies nearer than words usually do.
    """

    def __init__(
        self, encoder: Encoder, templates: str | Sequence[str] | None, empty: NDArray[np.float32]
    ) -> None:
        self.nouns = _fit(encoder, {x: [x] for x in class_names("cifar100")}, templates or "plain").weights_
        self._banks = (embed_texts(encoder, word_lists()["neutral"]), empty)

    def pull(self, row: NDArray[np.float32]) -> tuple[float, float]:
        """Deviations by which a label lies nearer to neutral texts, and to empty pictures, than nouns do."""
        first, second = (
            robust_deviation(float((bank @ row).mean()), (self.nouns @ bank.T).mean(axis=1))
            for bank in self._banks
        )
        return first, second


def robust_deviation(value: float, usual: NDArray[np.floating]) -> float:
    """Distance of a value from the median of usual ones, in robust standard deviations.

    Examples
    --------
    >>> round(robust_deviation(5.0, np.array([0.0, 1.0, 2.0, 3.0, 4.0])), 2)
    2.02
    """
    middle = float(np.median(usual))
    spread = _NORMAL * float(np.median(abs(usual - middle)))
    return (value - middle) / max(spread, 1e-6)


def _repeated(titles: Sequence[str]) -> Iterator[LabelWarning]:
    plain = [title.casefold().strip() for title in titles]
    repeated = tuple(title for title, one in zip(titles, plain, strict=True) if plain.count(one) > 1)
    if repeated:
        told = f"{', '.join(map(repr, repeated))} come more than once: equal labels split their probability."
        yield LabelWarning("repeated", "serious", repeated, told)


def _pull_bound(labels: int, level: float) -> float:
    """The pull above which a label is said to attract: two are looked at for each label."""
    return NormalDist().inv_cdf(1 - level / (2 * labels))


def _unused(figures: Sequence[LabelFigures], looked: _Looked | None) -> Iterator[LabelWarning]:
    """Labels that no picture of the sample gets, but for those that stand for what fits none."""
    if looked is None or len(looked.rows) < MINIMUM:
        return
    unused = tuple(
        one.label
        for one in figures
        if one.taken is not None and one.taken.value == 0 and not has_catch_all([one.label])
    )
    if unused:
        shown = ", ".join(map(repr, unused[:10])) + (f" and {len(unused) - 10} more" if unused[10:] else "")
        told = (
            f"No picture of the {len(looked.rows):,} of the sample gets {shown}: does the sample show "
            "none, or do other labels take them?"
        )
        yield LabelWarning("unused", "notice", unused, told)


def _attractors(figures: Sequence[LabelFigures], level: float) -> Iterator[LabelWarning]:
    """Labels that lie near everything, and those that take much of the sample besides."""
    z = _pull_bound(len(figures), level)
    bound = min(_TIMES / len(figures), _MOST)
    for one in figures:
        near = max(one.text_pull, one.picture_pull) > z
        taken = one.taken
        much = _enough(taken) and wilson(taken.value, taken.n or 1, z)[0] > bound
        where = "texts" if one.text_pull > one.picture_pull else "pictures"
        if near and much and taken is not None:
            told = (
                f"{one.label!r} lies nearer than words usually do to {where} about nothing, and takes "
                f"{taken.value:.0%} of the sample: it attracts what fits no other label."
            )
            yield LabelWarning("attractor", "serious", (one.label,), told)
        elif near:
            told = (
                f"{one.label!r} lies nearer than words usually do to {where} about nothing; it may attract."
            )
            yield LabelWarning("attractor", "notice", (one.label,), told)
        elif much and taken is not None:
            told = f"{one.label!r} takes {taken.value:.0%} of the sample: is that what the pictures show?"
            yield LabelWarning("attractor", "notice", (one.label,), told)


def _enough(one: Estimate | None) -> TypeGuard[Estimate]:
    """Whether a sample is large enough for a warning: what three pictures get says nothing of a label."""
    return one is not None and (one.n or 0) >= MINIMUM


def _near(
    weights: NDArray[np.float32],
    names: Sequence[str],
    nouns: NDArray[np.float32],
    looked: _Looked | None,
    level: float,
) -> Iterator[NearLabels]:
    """Pairs of labels far nearer to each other than pairs usually are, the nearest first."""
    first, second = np.triu_indices(len(names), 1)
    if not len(first):
        return
    cosines = (weights @ weights.T)[first, second]
    usual = cosines if len(names) >= _FEW else (nouns @ nouns.T)[np.triu_indices(len(nouns), 1)]
    z = max(3.0, NormalDist().inv_cdf(1 - level / len(first)))
    for place in np.argsort(-cosines, kind="stable"):
        far = robust_deviation(float(cosines[place]), usual)
        if far <= z:
            return
        one, other = int(first[place]), int(second[place])
        yield NearLabels(names[one], names[other], float(cosines[place]), far, _torn(looked, one, other))


def _torn(looked: _Looked | None, one: int, other: int) -> float | None:
    """Of the sample's pictures given to either label: the share whose second label is the other."""
    if looked is None or looked.probabilities.shape[1] < 2:
        return None
    best = np.argsort(-looked.probabilities, axis=1)[:, :2]
    mine = np.isin(best[:, 0], (one, other))
    return float(np.isin(best[mine, 1], (one, other)).mean()) if mine.any() else None


def _synonyms(pairs: Sequence[NearLabels]) -> Iterator[LabelWarning]:
    for pair in pairs:
        told = (
            f"{pair.first!r} and {pair.second!r} mean nearly the same to the model (cosine {pair.cosine:.3f})"
        )
        torn = "" if pair.torn is None else f"; {pair.torn:.0%} of their pictures have the other second"
        yield LabelWarning(
            "synonyms", "notice", (pair.first, pair.second), f"{told}{torn}: keep one, or join them."
        )


def _catch_all(titles: Sequence[str], looked: _Looked | None) -> Iterator[LabelWarning]:
    many = looked is not None and _enough(looked.unsure) and (looked.unsure.low or 0) > MANY
    if not has_catch_all(titles):
        told = "No label stands for what fits none of them, such as 'something else': every picture gets one."
        if many and looked is not None:
            told += f" {looked.unsure.value:.0%} of the sample have a best label under {UNSURE:.0%}."
        yield LabelWarning("no catch-all", "serious" if many else "notice", (), told)
    elif many and looked is not None:
        told = f"{looked.unsure.value:.0%} of the sample have a best label under {UNSURE:.0%} of probability."
        yield LabelWarning("unsure", "notice", (), told)


def _moves(looked: _Looked, names: Sequence[str], after: ZeroShotClassifier) -> Iterator[LabelChange]:
    """Pictures whose label changes, in their order."""
    before = looked.probabilities.argmax(axis=1)
    found = after.predict_proba(looked.rows)
    new = [str(name) for name in after.classes_]
    for place, (old, best) in enumerate(zip(before.tolist(), found.argmax(axis=1).tolist(), strict=True)):
        if names[old] != new[best]:
            sure = float(looked.probabilities[place, old])
            yield LabelChange(looked.keys[place], names[old], new[best], sure, float(found[place, best]))
