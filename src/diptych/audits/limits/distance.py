"""How far away is the nearest thing? Steps of distance, and words for them (paper, section 3.1.5).

The scenes drawn here have things of one true size on a ground: the farther, the smaller and the nearer to the
horizon. CLEVR and KITTI come through `annotated.py` with the paper's own classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np

from diptych.audits.base import Audit, estimate_bars
from diptych.audits.generated_images import GeneratedDataset, generated_dataset
from diptych.audits.limits import scenes
from diptych.audits.limits.scenes import Scene, SceneObject
from diptych.audits.prompt_scores import answer_embeddings, answer_probabilities, confusion, top1_hits
from diptych.datasets import ImageDataset
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.evaluation import Settings
from diptych.evaluation.protocols.settings import Setup
from diptych.reports import Bars, Estimate, Heatmap, Section
from diptych.stats.intervals import bounded_mean, correlation, proportion
from diptych.stats.significance import NOT_ENOUGH, against_chance, beside_chance, decide
from diptych.zeroshot import expand

WORDS = ("very near", "near", "at medium distance", "far away", "very far away")
TEMPLATES = ("a photo of a thing that is {}.", "the nearest object is {}.", "objects {}.")
CLEVR_TEMPLATES = ("{} shapes.",)  # as CLIP_benchmark has it
KITTI_TEMPLATES = ("{}",)  # its classes are whole sentences
_EDGES = (1.5, 2.4, 3.8, 6.0, 9.5, 15.0)  # metres, each 1.6 times the one before
_HORIZON = 0.35
_HEIGHT = 0.9  # of the camera, metres
_SIZE = 0.6  # of every thing, metres


@dataclass(frozen=True, kw_only=True, eq=False)
class DistanceAudit(Audit):
    """How well distances are told.

    Attributes
    ----------
    dataset : str
    steps : sequence of str
        The answers, from near to far.
    accuracy, chance : Estimate and float
    error, error_chance : Estimate and float
        Mean distance between answer and truth in steps; that of answers by lot.
    correlation : Estimate or None
        Of truth and answer, as numbers of steps; None where all answers are the same.
    by_step : mapping of str to Estimate
    confusion : sequence of sequences of float
        Share of each answer (column) among pictures of each step (row).
    """

    dataset: str
    steps: Sequence[str]
    accuracy: Estimate
    chance: float
    error: Estimate
    error_chance: float
    correlation: Estimate | None
    by_step: Mapping[str, Estimate]
    confusion: Sequence[Sequence[float]]

    @property
    def title(self) -> str:
        """What the report is called."""
        return f"Distance of the nearest thing: {self.dataset}"

    def sections(self) -> list[Section]:
        """Statements, tables and plots."""
        verdict = self.verdicts["accuracy"]
        plain = {
            "at": "At chance: this model does not tell how far away things are.",
            "below": "Below chance: it does not tell how far away things are; something else decides.",
            "above": "Above chance: how far away things are changes the answer.",
            NOT_ENOUGH: "Not enough to say whether this model tells how far away things are.",
        }[verdict]
        along = "none, all answers are the same" if self.correlation is None else str(self.correlation)
        told = [
            f"{plain} Accuracy {beside_chance(self.accuracy, self.chance, verdict)}, on "
            f"{self.accuracy.n:,} pictures.",
            f"Answers are off by {self.error} steps on average; by lot it would be {self.error_chance:.2f}. "
            f"Correlation of answer and step: {along}.",
        ]
        each = Bars(values=estimate_bars(self.by_step), x="accuracy", levels={"chance": self.chance})
        heat = Heatmap(
            rows=self.steps, columns=self.steps, values=self.confusion, x="answer", y="nearest thing"
        )
        return [Section("Does it see how far?", told, {}, {"by_step": each, "confusion": heat})]


def audit_distance(
    encoder: Encoder,
    dataset: ImageDataset | None = None,
    *,
    templates: str | Sequence[str] = TEMPLATES,
    each: int = 60,
    seed: int = 0,
    **settings: Unpack[Settings],
) -> DistanceAudit:
    """Ask how far away the nearest thing is.

    Parameters
    ----------
    encoder : Encoder
    dataset : ImageDataset, optional
        Pictures whose classes are steps of distance from near to far, such as `annotated.kitti_distances`
        gives; by default they are drawn.
    templates : str or sequence of str
        Prompts with {}, or a set by name; the mean of their rows stands for a step.
    each : int
        Drawn pictures of each step.
    seed : int
    **settings
        See `Settings`.

    Raises
    ------
    InputError
        Fewer than two steps, or no pictures.
    """
    setup = Setup.of(**settings)
    pictures = draw_distances(each, seed) if dataset is None else dataset
    steps = pictures.class_names
    if len(steps) < 2:
        raise InputError(f"{pictures.name} has {len(steps)} step of distance: expected at least two")
    found = setup.embed(encoder, pictures)
    labels = pictures.labels[found.positions]
    scores = found.rows @ answer_embeddings(encoder, [expand([step], templates) for step in steps]).T
    shares = answer_probabilities(scores)
    places = np.arange(len(steps))
    off = abs(np.subtract.outer(places, places))
    samples = [
        (steps[int(pictures.labels[index])], scenes.draw(scene(index, seed)))
        for index in range(min(len(pictures), 4 * len(steps)))
    ]
    accuracy = proportion(top1_hits(scores, labels))
    return DistanceAudit(
        facts=setup.facts(encoder, pictures),
        failures=found.failures,
        samples=samples if dataset is None else (),
        dataset=pictures.name,
        steps=steps,
        verdicts=decide({"accuracy": against_chance(accuracy, 1 / len(steps))}),
        accuracy=accuracy,
        chance=1 / len(steps),
        error=bounded_mean((shares * off[labels]).sum(axis=1), float(off.max())),
        error_chance=float(off[labels].mean()),
        correlation=correlation(shares @ places, labels),
        by_step={
            step: proportion(shares[labels == index, index])
            for index, step in enumerate(steps)
            if index in labels
        },
        confusion=confusion(shares, labels),
    )


def draw_distances(each: int, seed: int) -> GeneratedDataset:
    """`each` pictures of every step, the steps in turn.

    Examples
    --------
    >>> draw_distances(1, seed=0).labels.tolist()
    [0, 1, 2, 3, 4]
    """
    if each < 1:
        raise InputError(f"{each} pictures of each step: expected 1 or more")
    return generated_dataset(
        "drawn distances",
        lambda index: scenes.draw(scene(index, seed)),
        [index % len(WORDS) for index in range(each * len(WORDS))],
        WORDS,
        made=f"distances v{scenes.VERSION} seed {seed}",
    )


def scene(index: int, seed: int) -> Scene:
    """Picture `index`: one to three things, the nearest in the step that is asked for."""
    rng = np.random.default_rng([seed, index, 300])
    step = index % len(WORDS)
    nearest = float(np.exp(rng.uniform(*np.log(_EDGES[step : step + 2]))))
    others = np.exp(rng.uniform(np.log(nearest), np.log(2 * _EDGES[-1]), int(rng.integers(0, 3)))).tolist()
    things = [_placed(rng, far) for far in sorted([nearest, *others], reverse=True)]  # near ones on top
    return Scene(tuple(things), horizon=_HORIZON)


def _placed(rng: np.random.Generator, far: float) -> SceneObject:
    """A thing that stands on the ground `far` metres away, through a lens as wide as it is long."""
    size, foot = _SIZE / far, _HORIZON + _HEIGHT / far
    shape = str(rng.choice(["circle", "square", "triangle", "star", "heart"]))
    colour = str(rng.choice(list(scenes.COLOURS)))
    return SceneObject(shape, colour, float(rng.uniform(0.2, 0.8)), min(foot, 0.97) - size / 2, size)
