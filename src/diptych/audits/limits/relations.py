"""Audit of relations: which of two objects is left, above, inside, in front or larger, or has which colour.

A sentence competes with the same sentence with its two objects swapped, on pairs of images
(`scene_pairs.py`). Two controls need no relation, only a colour or a shape: if a model is at chance there,
its failure elsewhere says nothing about relations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np

from diptych.audits.limits import scenes
from diptych.audits.limits.scene_pairs import (
    PairAudit,
    ScenePair,
    measure_pairs,
    sentence_bars,
    verdict_table,
)
from diptych.audits.limits.scenes import Scene, SceneObject
from diptych.encoder import Encoder
from diptych.evaluation import Settings
from diptych.reports import Section
from diptych.stats.significance import NOT_ENOUGH, Verdict

CONTROLS = ("colour", "shape")
# {a} is related to {b}; the other sentence has the two swapped.
SENTENCES: dict[str, tuple[str, ...]] = {
    "colour": ("a {a}.", "a photo of a {a}."),
    "shape": ("a {a}.", "a photo of a {a}."),
    "binding": ("a {a} and a {b}.", "a photo of a {a} and a {b}."),
    "left": ("a {a} to the left of a {b}.", "the {a} is left of the {b}.", "a {b} to the right of a {a}."),
    "above": ("a {a} above a {b}.", "the {a} is above the {b}.", "a {b} below a {a}."),
    "inside": ("a {a} inside a {b}.", "the {a} is in the {b}.", "a {b} with a {a} in it."),
    "in front": ("a {a} in front of a {b}.", "the {a} is nearer than the {b}.", "a {b} behind a {a}."),
    "larger": (
        "a large {a} and a small {b}.",
        "the {a} is larger than the {b}.",
        "a small {b}, a large {a}.",
    ),
}
QUESTIONS = {
    "colour": "which colour an object has",
    "shape": "which shape an object has",
    "binding": "which of two objects has which colour",
    "left": "left and right",
    "above": "above and below",
    "inside": "inside and around",
    "in front": "in front and behind",
    "larger": "larger and smaller",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class RelationAudit(PairAudit):
    """Result of the audit of relations; kinds as in `SENTENCES`."""

    @property
    def _title(self) -> str:
        return "Relations between objects"

    def _sections(self) -> list[Section]:
        plot = sentence_bars({QUESTIONS[kind]: accuracy for kind, accuracy in self.judged.items()})
        return [
            Section(
                "Does it recognise relations?",
                self._statements(),
                {"relations": verdict_table(self.judged, self.verdicts)},
                {"relations": plot},
            )
        ]

    @property
    def failed_controls(self) -> list[str]:
        """Controls that are not shown to be above chance."""
        controls = {kind: self.verdicts[kind] for kind in CONTROLS if kind in self.verdicts}
        failed = [QUESTIONS[kind] for kind, verdict in controls.items() if verdict in ("at", "below")]
        unclear = [QUESTIONS[kind] for kind, verdict in controls.items() if verdict == NOT_ENOUGH]
        statements = []
        if failed:
            statements.append(
                f"A control fails: {'; '.join(failed)}. It needs no relation, so this model does not "
                "recognise these drawings, and its failures may have other causes than relations."
            )
        if unclear:
            statements.append(
                f"A control is undecided, not enough to say: {'; '.join(unclear)}. Whether the model "
                "recognises these drawings at all is unknown."
            )
        return statements

    def _statements(self) -> list[str]:
        def named(*verdicts: Verdict) -> str:
            kinds = (kind for kind in self.verdicts if kind not in CONTROLS)
            return "; ".join(QUESTIONS[kind] for kind in kinds if self.verdicts[kind] in verdicts)

        statements = []
        if kinds := named("at", "below"):
            statements.append(f"Not above chance, so this model does not recognise: {kinds}.")
        if kinds := named("above"):
            statements.append(f"Above chance: {kinds}.")
        if kinds := named(NOT_ENOUGH):
            statements.append(f"Not enough to say: {kinds}.")
        if any(kind in self.verdicts for kind in CONTROLS) and not self.failed_controls:
            statements.append(
                "The controls are above chance: it recognises the colours and shapes of these drawings."
            )
        return statements


def audit_relations(
    encoder: Encoder,
    *,
    kinds: Sequence[str] = tuple(SENTENCES),
    each: int = 100,
    seed: int = 0,
    **settings: Unpack[Settings],
) -> RelationAudit:
    """Test which of two sentences is true of an image, for pairs that differ in the relation of two objects.

    Parameters
    ----------
    kinds : sequence of str
        Keys of `SENTENCES`.
    each : int
        Pairs of each kind, of two images each.

    Raises
    ------
    InputError
        A kind is unknown, or there are no pairs.
    """
    fields = measure_pairs(
        encoder,
        relation_pair,
        kinds,
        SENTENCES,
        each=each,
        seed=seed,
        name="drawn relations",
        settings=settings,
        controls=CONTROLS,
    )
    return RelationAudit(**fields)


def relation_pair(kind: str, index: int, seed: int) -> ScenePair:
    """Pair `index` of a kind: the second image has the two objects swapped.

    Examples
    --------
    >>> pair = relation_pair("left", 0, seed=0)
    >>> (a, b), (c, d) = pair.first.objects, pair.second.objects
    >>> a.x < b.x and c.x > d.x and (a.name, b.name) == (c.name, d.name)
    True
    """
    rng = np.random.default_rng([seed, index, 100 + list(SENTENCES).index(kind)])
    shapes = rng.permutation(list(scenes.SHAPES))[:2].tolist()
    colours = rng.permutation(list(scenes.COLOURS))[:2].tolist()
    names = [f"{colour} {shape}" for colour, shape in zip(colours, shapes, strict=True)]
    if kind == "colour":
        shapes, names = [shapes[0]] * 2, [f"{colour} {shapes[0]}" for colour in colours]
    elif kind == "shape":
        colours, names = [colours[0]] * 2, [f"{colours[0]} {shape}" for shape in shapes]
    objects = [
        SceneObject(shape, colour, 0.5, 0.5, 0.3) for colour, shape in zip(colours, shapes, strict=True)
    ]
    first, second = _LAYOUTS[kind](rng, objects)
    if kind == "binding":
        names = [*names, f"{colours[1]} {shapes[0]}", f"{colours[0]} {shapes[1]}"]
    templates = SENTENCES[kind]
    swapped = names[2:] or names[::-1]
    return ScenePair(kind, first, second, _fill(templates, names), _fill(templates, swapped))


def _fill(templates: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    texts = (template.replace("{a}", names[0]).replace("{b}", names[1]) for template in templates)
    return tuple(text.replace("a orange", "an orange") for text in texts)


Layout = Callable[[np.random.Generator, Sequence[SceneObject]], tuple[Scene, Scene]]


def _alone(rng: np.random.Generator, objects: Sequence[SceneObject]) -> tuple[Scene, Scene]:
    """Each object alone, at the same position."""
    size = float(rng.uniform(0.3, 0.6))
    x, y = scenes.random_positions(rng, [size])[0]
    first, second = (Scene((replace(item, x=x, y=y, size=size),)) for item in objects)
    return first, second


def _bound(rng: np.random.Generator, objects: Sequence[SceneObject]) -> tuple[Scene, Scene]:
    """Two objects anywhere, and the same with their colours swapped."""
    a, b = objects
    sizes = rng.uniform(0.25, 0.35, 2).tolist()
    (x, y), (u, v) = scenes.random_positions(rng, sizes)
    a, b = replace(a, x=x, y=y, size=sizes[0]), replace(b, x=u, y=v, size=sizes[1])
    return Scene((a, b)), Scene((replace(a, colour=b.colour), replace(b, colour=a.colour)))


def _beside(rng: np.random.Generator, objects: Sequence[SceneObject]) -> tuple[Scene, Scene]:
    size, near, far = rng.uniform(0.25, 0.35), rng.uniform(0.2, 0.3), rng.uniform(0.7, 0.8)
    y, v = rng.uniform(0.4, 0.6, 2)
    return _with_swapped(objects, {"x": near, "y": y, "size": size}, {"x": far, "y": v, "size": size})


def _stacked(rng: np.random.Generator, objects: Sequence[SceneObject]) -> tuple[Scene, Scene]:
    size, near, far = rng.uniform(0.25, 0.35), rng.uniform(0.2, 0.3), rng.uniform(0.7, 0.8)
    x, u = rng.uniform(0.4, 0.6, 2)
    return _with_swapped(objects, {"x": x, "y": near, "size": size}, {"x": u, "y": far, "size": size})


def _nested(rng: np.random.Generator, objects: Sequence[SceneObject]) -> tuple[Scene, Scene]:
    """One object inside the other; the inner one is drawn last and fits between the arms of a cross."""
    x, y = rng.uniform(0.42, 0.58, 2)
    inner = {"x": x, "y": y, "size": rng.uniform(0.14, 0.2)}
    outer = {"x": x, "y": y, "size": rng.uniform(0.6, 0.78)}
    return _with_swapped(objects, inner, outer, last_on_top=False)


def _deep(rng: np.random.Generator, objects: Sequence[SceneObject]) -> tuple[Scene, Scene]:
    """On a ground: the nearer object is lower, larger, and covers a part of the other."""
    x, away = rng.uniform(0.35, 0.65), rng.choice([-1.0, 1.0])
    near = {"x": x, "y": 0.66, "size": 0.42}
    far = {"x": x + away * 0.22, "y": 0.44, "size": 0.24}
    return _with_swapped(objects, near, far, last_on_top=False, horizon=0.45)


def _sized(rng: np.random.Generator, objects: Sequence[SceneObject]) -> tuple[Scene, Scene]:
    sizes = [float(rng.uniform(0.42, 0.5)), float(rng.uniform(0.14, 0.2))]
    (x, y), (u, v) = scenes.random_positions(rng, sizes)
    return _with_swapped(objects, {"x": x, "y": y, "size": sizes[0]}, {"x": u, "y": v, "size": sizes[1]})


def _with_swapped(
    objects: Sequence[SceneObject],
    first_place: Mapping[str, float],
    second_place: Mapping[str, float],
    *,
    last_on_top: bool = True,
    horizon: float | None = None,
) -> tuple[Scene, Scene]:
    """Scene with the objects at the first and second place, and the scene with them swapped."""

    def put(item: SceneObject, layout: Mapping[str, float]) -> SceneObject:
        return replace(item, x=float(layout["x"]), y=float(layout["y"]), size=float(layout["size"]))

    a, b = objects
    first, second = (put(a, first_place), put(b, second_place)), (put(a, second_place), put(b, first_place))
    if not last_on_top:  # the object at the first place is on top
        first = (first[1], first[0])
    return Scene(first, horizon=horizon), Scene(second, horizon=horizon)


_LAYOUTS: dict[str, Layout] = {
    "colour": _alone,
    "shape": _alone,
    "binding": _bound,
    "left": _beside,
    "above": _stacked,
    "inside": _nested,
    "in front": _deep,
    "larger": _sized,
}
