"""What texts and pictures of groups lie near: association tests, and how far groups lie apart.

The test is WEAT (Caliskan et al. 2017, arXiv 1608.07187) for texts and iEAT (Steed and Caliskan 2021, arXiv
2010.15052) for pictures: whether X lies nearer to A than to B, compared with Y. In a space of pictures and
texts the pictures of two groups are set against words. The sets are `association_sets.py`'s, the pictures and
their groups `people.py`'s, the arithmetic `association_tests.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from diptych.audits.association.association_result import AssociationAudit, AssociationEffect, GroupDistance
from diptych.audits.association.association_sets import (
    AssociationTest,
    AssociationTests,
    TextSet,
    default_tests,
)
from diptych.audits.association.association_tests import (
    association_scores,
    effect_size,
    group_distances,
    shuffle_p_values,
    weat_effect,
)
from diptych.audits.bias.attribute_table import listed
from diptych.audits.bias.people import PeopleDataset, group_codes
from diptych.encoder import Encoder
from diptych.errors import DataError, InputError
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.stats.disparity import MINIMUM
from diptych.stats.significance import holm
from diptych.zeroshot.labels import Label
from diptych.zeroshot.templates import resolve
from diptych.zeroshot.weights import learn

SHUFFLES = 9999
_MOST_GROUPS = 20  # of a column that is compared unasked: a column of file names is no attribute

Rows = NDArray[np.float32]


def audit_association(
    encoder: Encoder,
    people: PeopleDataset | None = None,
    *,
    attributes: Sequence[str] | None = None,
    tests: AssociationTests | None = None,
    templates: str | Sequence[str] = "plain",
    minimum: int = MINIMUM,
    level: float = 0.05,
    shuffles: int = SHUFFLES,
    seed: int = 0,
    **settings: Unpack[Settings],
) -> AssociationAudit:
    """Test what groups of words, and of people in pictures, are associated with.

    Parameters
    ----------
    encoder : Encoder
    people : People, optional
        Pictures with groups; without them texts alone are tested.
    attributes : sequence of str, optional
        Columns whose groups are compared: of two groups with each other, of more each with all others. By
        default every column with 2 to 20 groups.
    tests : WordTests, optional
        By default the sets that come with the package.
    templates : str or sequence of str
        Prompts for the words, as for `ZeroShotClassifier`; averaged.
    minimum : int
        Least pictures of a group that is tested.
    level : float
        Probability that a model without any association gives a finding (p is corrected by Holm's rule).
    shuffles, seed : int
    **settings
        See `Settings`.

    Raises
    ------
    DataError
        A column that is not there; no groups to compare in any column.
    InputError
        A level that is none.

    Notes
    -----
    The sources test one side, chosen beforehand. Here p is for both, since a set of one's own may point
    either way.
    """
    if not 0 < level < 1:
        raise InputError(f"level {level}: expected a probability between 0 and 1, such as 0.05")
    sets, setup = tests or default_tests(), Setup.of(**settings)
    said = _Said(encoder, resolve(templates))
    effects = [one for test in sets.texts for one in _worded(test, said, shuffles, seed)]
    found = None if people is None else setup.embed(encoder, people)
    seen = _Seen([], [], {})
    if people is not None and found is not None:
        compared = _compared(people, attributes)
        for attribute in compared:
            values = [people.values(attribute)[place] for place in found.positions]
            names, codes = group_codes(values, f"{people.table}: {attribute!r}")
            seen.look(attribute, names, codes, found.rows, sets.pictures, said, minimum, shuffles, seed)
        seen.distances[:] = [replace(one, p=min(1.0, one.p * len(compared))) for one in seen.distances]
    return AssociationAudit(
        facts=setup.facts(encoder, *filter(None, [people])),
        failures=() if found is None else found.failures,
        dataset="" if people is None else people.name,
        effects=tuple(_corrected([*effects, *seen.effects])),
        distances=tuple(seen.distances),
        small=seen.small,
        level=level,
        minimum=minimum,
        shuffles=shuffles,
        seed=seed,
        templates=resolve(templates),
        trouble=() if people is None else tuple(people.trouble()),
    )


def _worded(test: AssociationTest, said: _Said, shuffles: int, seed: int) -> Iterator[AssociationEffect]:
    """A test of texts; none where the test is one for pictures."""
    if test.x is not None and test.y is not None:
        sides = (test.x.name, test.y.name, test.a.name, test.b.name)
        rows = (said(test.x), said(test.y), said(test.a), said(test.b))
        yield replace(weat_effect(test.name, sides, *rows, shuffles, seed), control=test.control)


def _compared(people: PeopleDataset, attributes: Sequence[str] | None) -> list[str]:
    """The columns whose groups are compared."""
    if attributes is not None:
        for attribute in attributes:
            people.values(attribute)  # its error lists the columns there are
        return list(dict.fromkeys(attributes))
    found = [
        name
        for name, values in people.columns.items()
        if 2 <= len({value for value in values if value is not None}) <= _MOST_GROUPS
    ]
    if not found:
        raise DataError(
            f"{people.table} has no column with 2 to {_MOST_GROUPS} groups; its attributes are "
            f"{listed(people.columns)}: say which to compare (attributes=[...], --by)"
        )
    return found


@dataclass
class _Seen:
    """What the pictures of groups gave."""

    effects: list[AssociationEffect]
    distances: list[GroupDistance]
    small: dict[str, tuple[str, ...]]

    def look(
        self,
        attribute: str,
        names: Sequence[str],
        codes: NDArray[np.int64],
        rows: Rows,
        tests: Sequence[AssociationTest],
        said: _Said,
        minimum: int,
        shuffles: int,
        seed: int,
    ) -> None:
        """The groups of one attribute, those that are large enough."""
        sizes = np.bincount(codes[codes >= 0], minlength=len(names))
        large = np.flatnonzero(sizes >= max(2, minimum))
        if left := tuple(name for place, name in enumerate(names) if place not in large):
            self.small[attribute] = left
        if len(large) < 2:
            return
        mine = np.isin(codes, large)
        groups, ranked = np.searchsorted(large, codes[mine]), [names[int(place)] for place in large]
        self.effects += _pictured(attribute, ranked, groups, rows[mine], tests, said, shuffles, seed)
        self.distances += group_distances(attribute, ranked, groups, rows[mine], shuffles, seed)


def _pictured(
    attribute: str,
    names: Sequence[str],
    groups: NDArray[np.intp],
    rows: Rows,
    tests: Sequence[AssociationTest],
    said: _Said,
    shuffles: int,
    seed: int,
) -> Iterator[AssociationEffect]:
    """Every test for two groups, or for each of several against all others; one set of shuffles for all."""
    if not tests:
        return
    values = np.stack([association_scores(rows, said(one.a), said(one.b)) for one in tests], axis=1)  # (n, T)
    p = shuffle_p_values(values, groups, len(names), shuffles, seed)  # (G, T)
    for place, name in enumerate(names[:1] if len(names) == 2 else names):
        other = names[1] if len(names) == 2 else "all others"
        mine = groups == place
        for column, test in enumerate(tests):
            size = effect_size(values[mine, column], values[~mine, column], seed)
            sides = (name, other, test.a.name, test.b.name)
            sizes, chance = (int(mine.sum()), int((~mine).sum())), float(p[place, column])
            yield AssociationEffect(
                f"{attribute}, {test.name}", "pictures", *sides, size, *sizes, chance, chance
            )


def _corrected(effects: Sequence[AssociationEffect]) -> list[AssociationEffect]:
    """The same with p corrected for the number of those that are no controls (Holm 1979)."""
    tested = [place for place, one in enumerate(effects) if not one.control]
    found = list(effects)
    for place, p in zip(tested, holm([effects[place].p for place in tested]).tolist(), strict=True):
        found[place] = replace(effects[place], corrected=p)
    return found


class _Said:
    """Sets of words as unit rows, each set encoded once."""

    def __init__(self, encoder: Encoder, templates: Sequence[str]) -> None:
        self._encoder, self._templates = encoder, templates
        self._known: dict[tuple[str, ...], Rows] = {}

    def __call__(self, texts: TextSet) -> Rows:
        if texts.texts not in self._known:
            labels = tuple(Label(text, (text,)) for text in texts.texts)
            found = learn(self._encoder, labels, templates=self._templates, best_text=False, against=None)
            self._known[texts.texts] = found.means
        return self._known[texts.texts]
