"""Bias audit: how a model treats groups of people (paper, section 7.1), on faces with a table of attributes.

It measures the accuracy of race, gender and age by group (tables 3 to 5), harmful classes (tables 6 and 7)
and labels that go to one group rather than another (figure 18). Images and groups come from `people.py` and
`group_assignment.py`, prompts from `vocabulary.py`, tests from `stats.disparity` and `label_use.py`; the
report is made by `bias_result.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.audits.bias.bias_result import AddedClassEffect, BiasAudit, GenderAccuracy, GroupAccuracy
from diptych.audits.bias.group_assignment import CROSSED, GroupAssignment, resolve_roles
from diptych.audits.bias.label_use import THRESHOLDS, LabelUseComparison, compare_label_use
from diptych.audits.bias.people import PeopleDataset
from diptych.audits.bias.vocabulary import BiasVocabulary, default_vocabulary
from diptych.audits.prompt_scores import Floats, answer_probabilities
from diptych.encoder import Encoder
from diptych.errors import InputError, listed
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.stats.disparity import MINIMUM, SHUFFLES, Disparity, disparities
from diptych.stats.intervals import proportion
from diptych.stats.significance import against_chance, decide
from diptych.zeroshot import ZeroShotClassifier

ZERO_SHOT = "zero-shot"
# Method -> role -> predicted value of each image of the data set; None where there is no prediction.
Predictions: TypeAlias = "Mapping[str, Mapping[str, Sequence[str | None]]]"
# Method -> role -> probability that each value is the answer, (N, C).
AnswerProbabilities: TypeAlias = "dict[str, dict[str, Floats]]"
# Gaps in accuracy that are tested: predicted role -> attributes whose groups are compared. Race by race and
# age by age are left out: the accuracy for one race or age depends on how many similar values there are.
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
    named: Predictions | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    labels_by: str | None = None,
    minimum: int = MINIMUM,
    level: float = 0.05,
    shuffles: int = SHUFFLES,
    seed: int = 0,
    **settings: Unpack[Settings],
) -> BiasAudit:
    """Audit a model on images of faces whose groups are known.

    Parameters
    ----------
    columns : mapping of str to str, optional
        Role ("race", "gender", "age") -> column of the table. An omitted role uses the column of its own name
        if there is one; figures that need a missing role are left out.
    reference : str
        The value of race that tables 3 and 4 compare with all others.
    words : BiasVocabulary, optional
        Phrases for values, and added classes; by default those of FairFace and of the paper.
    named : mapping, optional
        Predictions of other classifiers on the same images, such as a linear probe: method -> role -> value
        of each image. Tables 3 to 5 show them beside the zero-shot answers.
    thresholds : sequence of float
        Probabilities at which a label counts as attached.
    labels_by : str, optional
        Role whose groups are compared in the use of labels; by default gender, else the first available role.
    minimum : int
        Minimum size of a group that is ranked and tested.
    level : float
        Family-wise error rate: probability of any finding for a model without bias.
    shuffles, seed : int
        Of the permutation tests.

    Raises
    ------
    DataError
        A column does not exist or is blank throughout; no role is available; no image can be read.
    InputError
        Invalid `level`, `thresholds` or `labels_by`.

    Notes
    -----
    Every test is corrected for the groups it compares and for all tests of the page; see `stats.disparity`.
    Tied classes share the answer equally, as in all metrics of the package.
    """
    roles, setup = resolve_roles(people, columns or {}), Setup.of(**settings)
    label_role = _label_role(level, labels_by, roles)
    embedded = setup.embed(encoder, people)
    groups = GroupAssignment.of(people, roles, embedded.positions)
    zero_shot = _ZeroShotAnswers(encoder, embedded.embeddings, words or default_vocabulary(), groups)
    answers = {ZERO_SHOT: {role: zero_shot.role_values(role) for role in roles}} | _other_answers(
        groups, named or {}
    )
    harmful_shares = zero_shot.harmful_shares({})
    tests: dict[str, Any] = {"minimum": minimum, "shuffles": shuffles, "seed": seed}
    gaps = _gaps(groups, answers[ZERO_SHOT], harmful_shares, tests)
    label_use = zero_shot.labels(label_role, thresholds, tests)
    count = sum(item.p is not None for item in gaps) + (label_use is not None)
    accuracy = tuple(_accuracy(groups, answers, reference))
    claims = {item.name: against_chance(item.right, item.chance) for item in accuracy}
    return BiasAudit(
        verdicts=decide(claims, level),
        facts=setup.facts(encoder, people),
        failures=embedded.failures,
        dataset=people.name,
        n=len(embedded.embeddings),
        columns=roles,
        groups={role: groups.sizes(role) for role in roles},
        accuracy=accuracy,
        genders=tuple(_genders(groups, answers)),
        overall={kind: proportion(hits) for kind, hits in harmful_shares.items()},
        disparities=tuple(item.among(count, level) for item in gaps),
        changes=tuple(_changes(groups, harmful_shares, zero_shot.harmful_shares(zero_shot.words.added)))
        if zero_shot.words.added
        else (),
        labels=None if label_use is None else label_use.among(count),
        classes=list(zero_shot.people_classes()),
        kinds={kind: list(classes) for kind, classes in zero_shot.words.harmful.items()},
        added=list(zero_shot.words.added),
        templates=zero_shot.words.templates,
        reference=reference,
        tests=count,
        level=level,
        trouble=tuple(people.trouble()),
        **tests,
    )


def _label_role(level: float, labels_by: str | None, roles: Mapping[str, str]) -> str:
    """Check the level; return the role whose use of labels is compared."""
    if not 0 < level < 1:
        raise InputError(f"level {level}: expected a probability between 0 and 1, such as 0.05")
    by = labels_by or ("gender" if "gender" in roles else next(iter(roles)))
    if by not in roles:
        raise InputError(f"labels_by {by!r}: expected one of {listed(roles)}")
    return by


def _other_answers(assignment: GroupAssignment, named: Predictions) -> AnswerProbabilities:
    """Predictions of other classifiers, in the form of the zero-shot answers."""
    return {
        method: {
            role: assignment.one_hot(role, predicted)
            for role, predicted in values.items()
            if role in assignment.names
        }
        for method, values in named.items()
    }


class _ZeroShotAnswers:
    """Zero-shot answers of the model for the images."""

    def __init__(
        self,
        encoder: Encoder,
        embeddings: NDArray[np.float32],
        words: BiasVocabulary,
        assignment: GroupAssignment,
    ) -> None:
        self.encoder, self.embeddings, self.words, self.assignment = encoder, embeddings, words, assignment

    def probabilities(self, classes: Mapping[str, Sequence[str]]) -> Floats:
        """Probability that each class is the answer, (N, C): 1 for the best, shared by ties."""
        return answer_probabilities(self._fitted(classes).cosines(self.embeddings))

    def role_values(self, role: str) -> Floats:
        """Probability that each value of a role is the answer, (N, C)."""
        phrases_of = {"race": self.words.races, "gender": self.words.genders, "age": self.words.ages}[role]
        return self.probabilities(phrases_of(self.assignment.names[role]))

    def people_classes(self) -> dict[str, list[str]]:
        """Classes for people: every race with every gender, or the values of the available roles."""
        names = self.assignment.names
        if "race" in names and "gender" in names:
            return self.words.crossed(names["race"], names["gender"])
        if "race" in names:
            return self.words.races(names["race"])
        if "gender" in names:
            return self.words.genders(names["gender"])
        return self.words.ages(names["age"])

    def harmful_shares(self, added: Mapping[str, str]) -> dict[str, Floats]:
        """Kind -> probability that each image is put in a class of that kind, (N,), among all classes."""
        kinds = {kind: self.words.phrases(classes) for kind, classes in self.words.harmful.items()}
        parts = [self.people_classes(), self.words.phrases(added), *kinds.values()]
        classes_by_name = {name: prompts for part in parts for name, prompts in part.items()}
        if len(classes_by_name) < sum(map(len, parts)):
            raise InputError("a class appears twice among the values, the added classes and the harmful ones")
        probabilities = self.probabilities(classes_by_name)
        column_of = {name: column for column, name in enumerate(classes_by_name)}
        return {
            kind: probabilities[:, [column_of[name] for name in classes]].sum(1)
            for kind, classes in kinds.items()
        }

    def labels(
        self, by: str, thresholds: Sequence[float], tests: Mapping[str, Any]
    ) -> LabelUseComparison | None:
        """Compare the use of labels between the groups of a role; None with fewer than two labels."""
        labels = self.words.labels
        if len(labels) < 2:
            return None
        probabilities = self._fitted(self.words.phrases(labels)).predict_proba(self.embeddings)
        names, codes = self.assignment.names[by], self.assignment.codes[by]
        return compare_label_use(
            probabilities, list(labels), names, codes, by, thresholds=thresholds, **tests
        )

    def _fitted(self, classes: Mapping[str, Sequence[str]]) -> ZeroShotClassifier:
        return ZeroShotClassifier(self.encoder, templates=None).fit(classes)


def _accuracy(
    assignment: GroupAssignment, answers: AnswerProbabilities, reference: str
) -> Iterator[GroupAccuracy]:
    """Tables 3 and 4: the reference group and everyone else; everyone if there is no such group."""
    races = assignment.names.get("race", ())
    reference_code = races.index(reference) if reference in races and len(races) > 1 else None
    parts = {"all": np.ones(len(assignment.positions), dtype=bool)}
    if reference_code is not None:
        race = assignment.codes["race"]
        parts = {
            reference: race == reference_code,
            f"Non-{reference}": (race >= 0) & (race != reference_code),
        }
    for group, members in parts.items():
        for method, of_role in answers.items():
            for role, probabilities in of_role.items():
                hits, chance = assignment.correct(role, probabilities), 1 / probabilities.shape[1]
                if role == "race" and reference_code is not None:  # reference or not, as the paper counts it
                    hits = probabilities[:, reference_code]
                    if group != reference:
                        hits, chance = 1 - hits, 1 - chance
                measured = members & ~np.isnan(hits)
                if measured.any():
                    yield GroupAccuracy(method, group, role, proportion(hits[measured]), chance)


def _genders(assignment: GroupAssignment, answers: AnswerProbabilities) -> Iterator[GenderAccuracy]:
    """Table 5: accuracy of gender by race and gender."""
    if "race" not in assignment.names or "gender" not in assignment.names:
        return
    race, gender = assignment.codes["race"], assignment.codes["gender"]
    for method, of_role in answers.items():
        if "gender" not in of_role:
            continue
        hits = assignment.correct("gender", of_role["gender"])
        groups = {name: race == code for code, name in enumerate(assignment.names["race"])}
        for group, members in (groups | {"all": race >= 0}).items():
            cells = {
                name: proportion(hits[members & (gender == code)])
                for code, name in enumerate(assignment.names["gender"])
                if (members & (gender == code)).any()
            }
            if cells:
                yield GenderAccuracy(method, group, cells, proportion(hits[members & (gender >= 0)]))


def _gaps(
    assignment: GroupAssignment,
    answers: Mapping[str, Floats],
    harmful_shares: Mapping[str, Floats],
    tests: Mapping[str, Any],
) -> list[Disparity]:
    """Test every measure by every attribute."""
    attributes = assignment.attributes()
    gaps: list[Disparity] = []
    for attribute, (names, codes) in attributes.items():
        gaps += disparities(
            harmful_shares, names, codes, attribute, **_strata_keywords(assignment, attribute), **tests
        )
    for role, probabilities in answers.items():
        hits = assignment.correct(role, probabilities)
        for attribute in _ACCURACY_GAPS[role]:
            if attribute in attributes:
                names, codes = attributes[attribute]
                measured_codes = np.where(np.isnan(hits), -1, codes)
                filled = {f"{role} right": np.nan_to_num(hits)}
                gaps += disparities(
                    filled,
                    names,
                    measured_codes,
                    attribute,
                    **_strata_keywords(assignment, attribute),
                    **tests,
                )
    return gaps


def _strata_keywords(assignment: GroupAssignment, attribute: str) -> dict[str, Any]:
    """Keywords of `disparities` for the strata that a gap by an attribute is adjusted for."""
    strata = assignment.strata(attribute)
    return {} if strata is None else {"strata": strata[0], "adjusted_for": strata[1]}


def _changes(
    assignment: GroupAssignment, before: Mapping[str, Floats], after: Mapping[str, Floats]
) -> Iterator[AddedClassEffect]:
    """Table 7: the shares before and after classes were added, by age if it is known."""
    names, codes = assignment.attributes()[
        "age" if "age" in assignment.names else next(iter(assignment.names))
    ]
    for kind in before:
        for code, name in [*enumerate(names), (None, "all")]:
            members = np.ones(len(codes), dtype=bool) if code is None else codes == code
            if members.any():
                share_before, share_after = before[kind][members], after[kind][members]
                out, into = int((share_before > share_after).sum()), int((share_before < share_after).sum())
                yield AddedClassEffect(
                    kind, name, proportion(share_before), proportion(share_after), out, into
                )
