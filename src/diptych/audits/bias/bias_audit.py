"""How a model treats groups of people: the paper's section 7.1 on faces with a table of attributes.

Accuracy of race, gender and age by group (tables 3 to 5), classes that no person should be put in (tables 6
and 7), and labels that go to one group rather than another (figure 18). The pictures and their groups are
`people.py`'s and `crowd.py`'s, the words `words.py`'s, the tests `disparity.py`'s and `attached.py`'s; what
is made of the figures, as statements, tables and plots, is `bias_result.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.audits.bias.attribute_table import listed
from diptych.audits.bias.bias_result import AddedClassEffect, BiasAudit, GenderAccuracy, GroupAccuracy
from diptych.audits.bias.group_assignment import CROSSED, GroupAssignment, roles
from diptych.audits.bias.label_use import THRESHOLDS, LabelUseComparison, compare_label_use
from diptych.audits.bias.people import PeopleDataset
from diptych.audits.bias.vocabulary import BiasVocabulary, default_vocabulary
from diptych.audits.prompt_scores import Floats, answer_probabilities
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.stats.disparity import MINIMUM, SHUFFLES, Disparity, disparities
from diptych.stats.intervals import proportion
from diptych.stats.significance import against_chance, decide
from diptych.zeroshot import ZeroShotClassifier

ZERO_SHOT = "zero-shot"
# Method -> role -> the value it names for each picture of the data set; None where it names none.
Named: TypeAlias = "Mapping[str, Mapping[str, Sequence[str | None]]]"
# Method -> role -> how probably each value is its answer, (N, C).
Answers: TypeAlias = "dict[str, dict[str, Floats]]"
# The gaps in accuracy that are tested: what is told, and by which groups. Not race by race and not age by
# age: what a model takes one race or age for depends on how many others lie near it.
_ACCURACY_GAPS = {
    "race": ("gender", "age"),
    "gender": ("race", "gender", "age", CROSSED),
    "age": ("race", "gender", CROSSED),
}


def audit_bias(
    encoder: Encoder,
    people: PeopleDataset,
    *,
    columns: Mapping[str, str] | None = None,
    reference: str = "White",
    words: BiasVocabulary | None = None,
    named: Named | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    labels_by: str | None = None,
    minimum: int = MINIMUM,
    level: float = 0.05,
    shuffles: int = SHUFFLES,
    seed: int = 0,
    **settings: Unpack[Settings],
) -> BiasAudit:
    """Audit a model on pictures of faces whose groups are known.

    Parameters
    ----------
    encoder : Encoder
    people : People
    columns : mapping of str to str, optional
        Role ("race", "gender", "age") -> column of the table. A role left out is the column of its own name,
        where there is one; what needs a role that is not there is not measured.
    reference : str
        The value of race that tables 3 and 4 set against all others.
    words : Words, optional
        How values are said and which classes are added; by default FairFace's and the paper's.
    named : mapping, optional
        What other classifiers name on the same pictures, such as a linear probe: method -> role -> value of
        each picture. They stand beside the zero-shot answers in tables 3 to 5.
    thresholds : sequence of float
        Probabilities at which a label counts as attached.
    labels_by : str, optional
        Role whose groups are compared in the use of labels; by default gender, else the first there is.
    minimum : int
        Least size of a group that is ranked and tested.
    level : float
        Probability that the page of a model without bias holds any finding at all.
    shuffles, seed : int
        Of the tests.
    **settings
        See `Settings`.

    Raises
    ------
    DataError
        A column that is not there or is blank throughout; no role at all; no picture that can be read.
    InputError
        A level, threshold or role that is none.

    Notes
    -----
    Every test is corrected for the groups it compares, and all tests of the page for each other: see
    `disparity`. Ties between classes are settled by expectation, as everywhere.
    """
    used, setup = roles(people, columns or {}), Setup.of(**settings)
    by = _checked(level, labels_by, used)
    found = setup.embed(encoder, people)
    crowd = GroupAssignment.of(people, used, found.positions)
    asked = _Asked(encoder, found.rows, words or default_vocabulary(), crowd)
    answers = {ZERO_SHOT: {role: asked.values(role) for role in used}} | _others(crowd, named or {})
    harm = asked.harm({})
    tests: dict[str, Any] = {"minimum": minimum, "shuffles": shuffles, "seed": seed}
    gaps = _gaps(crowd, answers[ZERO_SHOT], harm, tests)
    use = asked.labels(by, thresholds, tests)
    count = sum(one.p is not None for one in gaps) + (use is not None)
    accuracy = tuple(_accuracy(crowd, answers, reference))
    claims = {one.name: against_chance(one.right, one.chance) for one in accuracy}
    return BiasAudit(
        verdicts=decide(claims, level),
        facts=setup.facts(encoder, people),
        failures=found.failures,
        dataset=people.name,
        n=len(found.rows),
        columns=used,
        groups={role: crowd.sizes(role) for role in used},
        accuracy=accuracy,
        genders=tuple(_genders(crowd, answers)),
        overall={kind: proportion(hits) for kind, hits in harm.items()},
        disparities=tuple(one.among(count, level) for one in gaps),
        changes=tuple(_changes(crowd, harm, asked.harm(asked.words.added))) if asked.words.added else (),
        labels=None if use is None else use.among(count),
        classes=list(asked.people()),
        kinds={kind: list(classes) for kind, classes in asked.words.harmful.items()},
        added=list(asked.words.added),
        templates=asked.words.templates,
        reference=reference,
        tests=count,
        level=level,
        trouble=tuple(people.trouble()),
        **tests,
    )


def _checked(level: float, labels_by: str | None, used: Mapping[str, str]) -> str:
    """The role whose use of labels is compared."""
    if not 0 < level < 1:
        raise InputError(f"level {level}: expected a probability between 0 and 1, such as 0.05")
    by = labels_by or ("gender" if "gender" in used else next(iter(used)))
    if by not in used:
        raise InputError(f"labels_by {by!r}: expected one of {listed(used)}")
    return by


def _others(crowd: GroupAssignment, named: Named) -> Answers:
    """What other classifiers named, in the form of the zero-shot answers."""
    return {
        method: {role: crowd.named(role, one) for role, one in values.items() if role in crowd.names}
        for method, values in named.items()
    }


class _Asked:
    """What the model answers about the pictures."""

    def __init__(
        self, encoder: Encoder, rows: NDArray[np.float32], words: BiasVocabulary, crowd: GroupAssignment
    ) -> None:
        self.encoder, self.rows, self.words, self.crowd = encoder, rows, words, crowd

    def shares(self, classes: Mapping[str, Sequence[str]]) -> Floats:
        """How probably each class is the answer, (N, C): 1 for the best, parts where several tie."""
        return answer_probabilities(self._fitted(classes).cosines(self.rows))

    def values(self, role: str) -> Floats:
        """How probably each value of a role is the answer, (N, C)."""
        say = {"race": self.words.races, "gender": self.words.genders, "age": self.words.ages}[role]
        return self.shares(say(self.crowd.names[role]))

    def people(self) -> dict[str, list[str]]:
        """The classes that people may be put in: every race with every gender, or what there is of it."""
        names = self.crowd.names
        if "race" in names and "gender" in names:
            return self.words.crossed(names["race"], names["gender"])
        if "race" in names:
            return self.words.races(names["race"])
        if "gender" in names:
            return self.words.genders(names["gender"])
        return self.words.ages(names["age"])

    def harm(self, added: Mapping[str, str]) -> dict[str, Floats]:
        """Kind -> how probably each picture is put in a class of that kind, (N,), among all classes."""
        kinds = {kind: self.words.phrases(classes) for kind, classes in self.words.harmful.items()}
        parts = [self.people(), self.words.phrases(added), *kinds.values()]
        every = {name: prompts for part in parts for name, prompts in part.items()}
        if len(every) < sum(map(len, parts)):
            raise InputError("a class comes twice among the values, the added classes and the harmful ones")
        shares = self.shares(every)
        place = {name: column for column, name in enumerate(every)}
        return {kind: shares[:, [place[name] for name in classes]].sum(1) for kind, classes in kinds.items()}

    def labels(
        self, by: str, thresholds: Sequence[float], tests: Mapping[str, Any]
    ) -> LabelUseComparison | None:
        """The use of labels by the groups of a role."""
        labels = self.words.labels
        if len(labels) < 2:
            return None
        probabilities = self._fitted(self.words.phrases(labels)).predict_proba(self.rows)
        names, codes = self.crowd.names[by], self.crowd.codes[by]
        return compare_label_use(
            probabilities, list(labels), names, codes, by, thresholds=thresholds, **tests
        )

    def _fitted(self, classes: Mapping[str, Sequence[str]]) -> ZeroShotClassifier:
        return ZeroShotClassifier(self.encoder, templates=None).fit(classes)


def _accuracy(crowd: GroupAssignment, answers: Answers, reference: str) -> Iterator[GroupAccuracy]:
    """Tables 3 and 4: everyone of the reference, and everyone else; without such a group, everyone."""
    races = crowd.names.get("race", ())
    place = races.index(reference) if reference in races and len(races) > 1 else None
    whole = np.ones(len(crowd.positions), dtype=bool)
    parts = {"all": whole}
    if place is not None:
        race = crowd.codes["race"]
        parts = {reference: race == place, f"Non-{reference}": (race >= 0) & (race != place)}
    for group, mine in parts.items():
        for method, of_role in answers.items():
            for role, shares in of_role.items():
                hits, chance = crowd.right(role, shares), 1 / shares.shape[1]
                if role == "race" and place is not None:  # reference or not, as the paper counts it
                    hits = shares[:, place] if group == reference else 1 - shares[:, place]
                    chance = chance if group == reference else 1 - chance
                known = mine & ~np.isnan(hits)
                if known.any():
                    yield GroupAccuracy(method, group, role, proportion(hits[known]), chance)


def _genders(crowd: GroupAssignment, answers: Answers) -> Iterator[GenderAccuracy]:
    """Table 5: accuracy of gender by race and gender."""
    if "race" not in crowd.names or "gender" not in crowd.names:
        return
    race, gender = crowd.codes["race"], crowd.codes["gender"]
    for method, of_role in answers.items():
        if "gender" not in of_role:
            continue
        hits = crowd.right("gender", of_role["gender"])
        groups = {name: race == place for place, name in enumerate(crowd.names["race"])}
        for group, mine in (groups | {"all": race >= 0}).items():
            cells = {
                name: proportion(hits[mine & (gender == place)])
                for place, name in enumerate(crowd.names["gender"])
                if (mine & (gender == place)).any()
            }
            if cells:
                yield GenderAccuracy(method, group, cells, proportion(hits[mine & (gender >= 0)]))


def _gaps(
    crowd: GroupAssignment,
    answers: Mapping[str, Floats],
    harm: Mapping[str, Floats],
    tests: Mapping[str, Any],
) -> list[Disparity]:
    """Every measure by every attribute it is compared in."""
    attributes = crowd.attributes()
    found: list[Disparity] = []
    for attribute, (names, codes) in attributes.items():
        found += disparities(harm, names, codes, attribute, **_alike(crowd, attribute), **tests)
    for role, shares in answers.items():
        hits = crowd.right(role, shares)
        for attribute in _ACCURACY_GAPS[role]:
            if attribute in attributes:
                names, codes = attributes[attribute]
                known = np.where(np.isnan(hits), -1, codes)
                filled = {f"{role} right": np.nan_to_num(hits)}
                found += disparities(filled, names, known, attribute, **_alike(crowd, attribute), **tests)
    return found


def _alike(crowd: GroupAssignment, attribute: str) -> dict[str, Any]:
    """The strata that a gap by an attribute is adjusted for, as keywords of `disparities`."""
    strata = crowd.strata(attribute)
    return {} if strata is None else {"strata": strata[0], "adjusted_for": strata[1]}


def _changes(
    crowd: GroupAssignment, before: Mapping[str, Floats], after: Mapping[str, Floats]
) -> Iterator[AddedClassEffect]:
    """Table 7: the same shares with classes added, by age where it is known."""
    names, codes = crowd.attributes()["age" if "age" in crowd.names else next(iter(crowd.names))]
    for kind in before:
        for place, name in [*enumerate(names), (None, "all")]:
            mine = np.ones(len(codes), dtype=bool) if place is None else codes == place
            if mine.any():
                one, other = before[kind][mine], after[kind][mine]
                out, into = int((one > other).sum()), int((one < other).sum())
                yield AddedClassEffect(kind, name, proportion(one), proportion(other), out, into)
