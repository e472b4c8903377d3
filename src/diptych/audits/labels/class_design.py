"""Class design audit: check a list of labels before deployment (paper, section 7.1).

From text alone: warnings from the words, labels with nearly the same meaning, labels that attract
everything. On a sample of the user's images: the share of each label, the confidence of the answers, and the
answers that change when labels are added or removed. Word lists come from `label_words.py`;
`class_design_result.py` makes the report.
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
from diptych.datasets.dataset import ImageCollection
from diptych.embedding.batches import Failed, embed_texts
from diptych.encoder import Encoder
from diptych.errors import InputError, TextError, listed
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.reports import Estimate
from diptych.stats.intervals import proportion, wilson
from diptych.stats.significance import MINIMUM
from diptych.zeroshot import ZeroShotClassifier, class_names
from diptych.zeroshot.labels import Names, full_names, read_labels

if TYPE_CHECKING:
    from PIL.Image import Image

UNSURE = 0.5  # an answer is unsure if the best label has less than half of the probability
MANY = 0.2  # share of unsure images that gives a warning
_TIMES_EVEN_SHARE, _MAX_SHARE = (
    3.0,
    0.9,
)  # a label takes much of a sample: the lesser of 3 times an even share and 0.9
_EMPTY_IMAGES = 60  # generated if the user gives no background
_MIN_LABELS = 10  # labels: with fewer, the pairs of everyday nouns serve as the reference distribution
_MAD_SCALE = 1.4826  # median absolute deviation -> standard deviation of a normal distribution


def audit_classes(
    encoder: Encoder,
    names: Names,
    sample: ImageCollection | None = None,
    *,
    background: ImageCollection | None = None,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    templates: str | Sequence[str] | None = "plain",
    level: float = 0.05,
    seed: int = 0,
    **settings: Unpack[Settings],
) -> ClassDesignAudit:
    """Check a list of labels, with an optional sample of images.

    Parameters
    ----------
    names : names
        As for `ZeroShotClassifier.fit`.
    sample : ImageCollection, optional
        Images like those that the labels will be used on.
    background : ImageCollection, optional
        Images that show none of the labels; by default generated flat colours, ramps and noise.
    add, remove : sequence of str
        Labels to add or remove on trial: which images of the sample would get another label?
    templates : str, sequence of str or None
        As for `ZeroShotClassifier`.
    level : float
        Family-wise error rate: probability that any of many ordinary labels is called an attractor.
    seed : int
        Seed of the generated background.

    Raises
    ------
    TextError
        There are no labels, a label to remove is unknown, or none would be left.
    InputError
        `add` or `remove` without a sample.
    """
    labels = read_labels(names)
    titles = full_names(labels)
    texts = {title: list(label.texts) for title, label in zip(titles, labels, strict=True)}
    all_texts = list(dict.fromkeys([*titles, *(text for each in texts.values() for text in each)]))
    changed = _changed(texts, add, remove)
    if changed != texts and sample is None:
        raise InputError("labels to add or remove are tested on pictures: give a sample of pictures")
    setup, fitted = Setup.of(**settings), _fit(encoder, texts, templates)
    background_data = background or _empty_images(seed)
    empty = setup.embed(encoder, background_data)
    nouns = _EverydayNouns(encoder, templates, empty.embeddings)
    scores = _score_sample(encoder, fitted, sample, setup)
    figures = [
        LabelFigures(name, *nouns.pull(row), None if scores is None else proportion(scores.shares[:, index]))
        for index, (name, row) in enumerate(zip(texts, fitted.weights_, strict=True))
    ]
    pairs = list(_near_pairs(fitted.weights_, list(texts), nouns.nouns, scores, level))
    warnings = [
        *_repeated(titles),
        *text_warnings(all_texts),
        *_attractors(figures, level),
        *_synonyms(pairs),
        *_catch_all(all_texts, scores),
        *_unused(figures, scores),
    ]
    return ClassDesignAudit(
        facts=setup.facts(encoder, *filter(None, [sample]), background_data),
        failures=(*empty.failures, *(() if scores is None else scores.failures)),
        labels=tuple(titles),
        sample="" if sample is None else sample.name,
        n=0 if scores is None else len(scores.embeddings),
        figures=tuple(figures),
        pull_bound=_pull_bound(len(figures), level),
        pairs=tuple(pairs),
        unsure=None if scores is None else scores.unsure,
        warned=tuple(sorted(warnings, key=lambda warning: warning.severity != "serious")),
        added=tuple(add),
        removed=tuple(remove),
        moves=()
        if scores is None or changed == texts
        else tuple(_moves(scores, list(texts), _fit(encoder, changed, templates))),
    )


def _changed(
    texts: Mapping[str, list[str]], add: Sequence[str], remove: Sequence[str]
) -> dict[str, list[str]]:
    """The labels with some added and some removed."""
    unknown = sorted(set(remove) - set(texts))
    changed = {name: label_texts for name, label_texts in texts.items() if name not in set(remove)}
    changed |= {name: [name] for name in add}
    if unknown or not changed:
        names = ", ".join(map(repr, unknown)) or "every label"
        raise TextError(f"{names} cannot be removed: the labels are {', '.join(map(repr, list(texts)[:40]))}")
    return changed


def _fit(
    encoder: Encoder, texts: Mapping[str, Sequence[str]], templates: str | Sequence[str] | None
) -> ZeroShotClassifier:
    # The classifier itself warns about a list of one label, whose softmax is always 1.
    return ZeroShotClassifier(encoder, templates=templates).fit(texts)


def _empty_images(seed: int) -> GeneratedDataset:
    """Images without content: flat colours, ramps and noise in turn."""
    from PIL import Image

    def draw(position: int) -> Image.Image:
        rng = np.random.default_rng([seed, position])
        first, second = rng.integers(0, 256, (2, 3))
        ramp = np.linspace(first, second if position % 3 else first, 64)[:, None, :].repeat(64, axis=1)
        noise = rng.integers(-60, 61, (64, 64, 3)) if position % 3 == 2 else 0
        return Image.fromarray(np.clip(ramp + noise, 0, 255).astype(np.uint8))

    return generated_dataset(
        "drawn background", draw, [0] * _EMPTY_IMAGES, ["nothing"], made=f"background v1 seed {seed}"
    )


@dataclass(frozen=True, eq=False)
class _SampleScores:
    """Scores of the labels on the sample."""

    embeddings: NDArray[np.float32]
    shares: Floats  # (N, C)
    probabilities: NDArray[np.float32]  # (N, C)
    keys: Sequence[str]
    failures: Sequence[Failed]

    @property
    def unsure(self) -> Estimate:
        """Share of pictures whose best label has less than half of the probability."""
        return proportion(self.probabilities.max(axis=1) < UNSURE)


def _score_sample(
    encoder: Encoder, fitted: ZeroShotClassifier, sample: ImageCollection | None, setup: Setup
) -> _SampleScores | None:
    if sample is None:
        return None
    embedded, keys = setup.embed(encoder, sample), sample.keys
    return _SampleScores(
        embedded.embeddings,
        answer_probabilities(fitted.cosines(embedded.embeddings)),
        fitted.predict_proba(embedded.embeddings),
        [keys[index] for index in embedded.positions],
        embedded.failures,
    )


class _EverydayNouns:
    """Reference for the pull of a label: similarity of everyday nouns to neutral texts and empty images.

    Some label is always the most similar to a grey wall; it is an attractor only if it exceeds usual nouns.
    """

    def __init__(
        self, encoder: Encoder, templates: str | Sequence[str] | None, empty: NDArray[np.float32]
    ) -> None:
        self.nouns = _fit(encoder, {x: [x] for x in class_names("cifar100")}, templates or "plain").weights_
        self._neutral_banks = (embed_texts(encoder, word_lists()["neutral"]), empty)

    def pull(self, embedding: NDArray[np.float32]) -> tuple[float, float]:
        """Robust z-scores of a label's similarity to neutral texts and to empty images, relative to nouns."""
        text_pull, image_pull = (
            robust_deviation(float((neutral @ embedding).mean()), (self.nouns @ neutral.T).mean(axis=1))
            for neutral in self._neutral_banks
        )
        return text_pull, image_pull


def robust_deviation(value: float, reference: NDArray[np.floating]) -> float:
    """Robust z-score: distance from the median of the reference, in MAD-based standard deviations.

    Examples
    --------
    >>> round(robust_deviation(5.0, np.array([0.0, 1.0, 2.0, 3.0, 4.0])), 2)
    2.02
    """
    median = float(np.median(reference))
    spread = _MAD_SCALE * float(np.median(abs(reference - median)))
    return (value - median) / max(spread, 1e-6)


def _repeated(titles: Sequence[str]) -> Iterator[LabelWarning]:
    plain = [title.casefold().strip() for title in titles]
    repeated = tuple(title for title, text in zip(titles, plain, strict=True) if plain.count(text) > 1)
    if repeated:
        message = (
            f"{', '.join(map(repr, repeated))} appear more than once: equal labels share their probability."
        )
        yield LabelWarning("repeated", "serious", repeated, message)


def _pull_bound(labels: int, level: float) -> float:
    """Pull above which a label is an attractor: Bonferroni for two pulls per label, e.g. 3.23 for 40."""
    return NormalDist().inv_cdf(1 - level / (2 * labels))


def _unused(figures: Sequence[LabelFigures], scores: _SampleScores | None) -> Iterator[LabelWarning]:
    """Labels that no image of the sample gets, except catch-all labels."""
    if scores is None or len(scores.embeddings) < MINIMUM:
        return
    unused = tuple(
        item.label
        for item in figures
        if item.taken is not None and item.taken.value == 0 and not has_catch_all([item.label])
    )
    if unused:
        message = (
            f"No picture of the {len(scores.embeddings):,} of the sample gets {listed(unused)}: are there "
            "none in the sample, or do other labels take them?"
        )
        yield LabelWarning("unused", "notice", unused, message)


def _attractors(figures: Sequence[LabelFigures], level: float) -> Iterator[LabelWarning]:
    """Labels that are similar to everything, and labels that take much of the sample."""
    z = _pull_bound(len(figures), level)
    bound = min(_TIMES_EVEN_SHARE / len(figures), _MAX_SHARE)
    for item in figures:
        is_near = max(item.text_pull, item.picture_pull) > z
        taken = item.taken
        takes_much = _is_enough(taken) and wilson(taken.value, taken.n or 1, z)[0] > bound
        where = "texts" if item.text_pull > item.picture_pull else "pictures"
        if is_near and takes_much and taken is not None:
            message = (
                f"{item.label!r} is more similar than usual words to {where} about nothing, and takes "
                f"{taken.value:.0%} of the sample: it attracts what fits no other label."
            )
            yield LabelWarning("attractor", "serious", (item.label,), message)
        elif is_near:
            message = (
                f"{item.label!r} is more similar than usual words to {where} about nothing; it may attract."
            )
            yield LabelWarning("attractor", "notice", (item.label,), message)
        elif takes_much and taken is not None:
            message = f"{item.label!r} takes {taken.value:.0%} of the sample: is that what the pictures show?"
            yield LabelWarning("attractor", "notice", (item.label,), message)


def _is_enough(estimate: Estimate | None) -> TypeGuard[Estimate]:
    """Whether a sample is large enough for a warning: three images say nothing about a label."""
    return estimate is not None and (estimate.n or 0) >= MINIMUM


def _near_pairs(
    weights: NDArray[np.float32],
    names: Sequence[str],
    nouns: NDArray[np.float32],
    scores: _SampleScores | None,
    level: float,
) -> Iterator[NearLabels]:
    """Yield pairs of labels that are far more similar than other pairs, the most similar first."""
    first, second = np.triu_indices(len(names), 1)
    if not len(first):
        return
    cosines = (weights @ weights.T)[first, second]
    usual = cosines if len(names) >= _MIN_LABELS else (nouns @ nouns.T)[np.triu_indices(len(nouns), 1)]
    bound = max(3.0, NormalDist().inv_cdf(1 - level / len(first)))
    for index in np.argsort(-cosines, kind="stable"):
        z_score = robust_deviation(float(cosines[index]), usual)
        if z_score <= bound:
            return
        i, j = int(first[index]), int(second[index])
        yield NearLabels(names[i], names[j], float(cosines[index]), z_score, _torn(scores, i, j))


def _torn(scores: _SampleScores | None, first: int, second: int) -> float | None:
    """Share of the images given to either label whose second label is the other."""
    if scores is None or scores.probabilities.shape[1] < 2:
        return None
    best = np.argsort(-scores.probabilities, axis=1)[:, :2]
    of_either = np.isin(best[:, 0], (first, second))
    return float(np.isin(best[of_either, 1], (first, second)).mean()) if of_either.any() else None


def _synonyms(pairs: Sequence[NearLabels]) -> Iterator[LabelWarning]:
    for pair in pairs:
        message = (
            f"{pair.first!r} and {pair.second!r} mean nearly the same to the model (cosine {pair.cosine:.3f})"
        )
        torn = "" if pair.torn is None else f"; {pair.torn:.0%} of their pictures have the other second"
        yield LabelWarning(
            "synonyms", "notice", (pair.first, pair.second), f"{message}{torn}: keep one, or merge them."
        )


def _catch_all(titles: Sequence[str], scores: _SampleScores | None) -> Iterator[LabelWarning]:
    many_unsure = scores is not None and _is_enough(scores.unsure) and (scores.unsure.low or 0) > MANY
    if not has_catch_all(titles):
        message = (
            "There is no catch-all label such as 'something else': every picture gets one of the labels."
        )
        if many_unsure and scores is not None:
            message += f" {scores.unsure.value:.0%} of the sample have a best label under {UNSURE:.0%}."
        yield LabelWarning("no catch-all", "serious" if many_unsure else "notice", (), message)
    elif many_unsure and scores is not None:
        message = (
            f"{scores.unsure.value:.0%} of the sample have a best label under {UNSURE:.0%} of probability."
        )
        yield LabelWarning("unsure", "notice", (), message)


def _moves(scores: _SampleScores, names: Sequence[str], after: ZeroShotClassifier) -> Iterator[LabelChange]:
    """Yield the images whose label changes, in their order."""
    before = scores.probabilities.argmax(axis=1)
    probabilities = after.predict_proba(scores.embeddings)
    new = [str(name) for name in after.classes_]
    for index, (old, best) in enumerate(
        zip(before.tolist(), probabilities.argmax(axis=1).tolist(), strict=True)
    ):
        if names[old] != new[best]:
            sure = float(scores.probabilities[index, old])
            yield LabelChange(
                scores.keys[index], names[old], new[best], sure, float(probabilities[index, best])
            )
