"""Association audit: WEAT and iEAT tests of the embedding space, and distances between groups of people.

WEAT (Caliskan et al. 2017, arXiv 1608.07187) tests texts, iEAT (Steed and Caliskan 2021, arXiv 2010.15052)
images: is X more similar to A than to B, compared with Y? Here X and Y are texts or the images of two groups
of people; A and B are always words. The word sets come from `association_sets.py`, images and groups from
`people.py`, the statistics from `association_tests.py`.
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
from diptych.audits.bias.people import PeopleDataset, group_codes
from diptych.encoder import Encoder
from diptych.errors import DataError, InputError, listed
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.stats.disparity import MINIMUM
from diptych.stats.significance import holm
from diptych.zeroshot.labels import Label
from diptych.zeroshot.templates import resolve
from diptych.zeroshot.weights import compute_weights

SHUFFLES = 9999
_MAX_GROUPS = 20  # of a column compared by default: a column of file names is not an attribute

Embeddings = NDArray[np.float32]


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
    """Test associations of words, and of people in images.

    Parameters
    ----------
    people : PeopleDataset, optional
        Images with groups; without them only texts are tested.
    attributes : sequence of str, optional
        Columns whose groups are compared: two groups with each other, more groups each with all others. By
        default every column with 2 to 20 groups.
    tests : AssociationTests, optional
        By default the built-in sets.
    templates : str or sequence of str
        Prompts for the words, as for `ZeroShotClassifier`; averaged.
    minimum : int
        Minimum number of images of a tested group.
    level : float
        Family-wise error rate: probability of any finding in a model without associations (Holm's rule).

    Raises
    ------
    DataError
        A column does not exist, or no column has groups to compare.
    InputError
        `level` is not between 0 and 1.

    Notes
    -----
    The sources use a one-sided test chosen beforehand. Here p is two-sided, since the direction of a user's
    own set is not known.
    """
    if not 0 < level < 1:
        raise InputError(f"level {level}: expected a probability between 0 and 1, such as 0.05")
    sets, setup = tests or default_tests(), Setup.of(**settings)
    embed_texts = _TextEmbedder(encoder, resolve(templates))
    effects = [effect for test in sets.texts for effect in _text_effects(test, embed_texts, shuffles, seed)]
    embedded = None if people is None else setup.embed(encoder, people)
    results = _GroupResults([], [], {})
    if people is not None and embedded is not None:
        compared = _compared_columns(people, attributes)
        for attribute in compared:
            values = [people.values(attribute)[position] for position in embedded.positions]
            names, codes = group_codes(values, f"{people.table}: {attribute!r}")
            results.add(
                attribute,
                names,
                codes,
                embedded.embeddings,
                sets.pictures,
                embed_texts,
                minimum,
                shuffles,
                seed,
            )
        results.distances[:] = [
            replace(effect, p=min(1.0, effect.p * len(compared))) for effect in results.distances
        ]
    return AssociationAudit(
        facts=setup.facts(encoder, *filter(None, [people])),
        failures=() if embedded is None else embedded.failures,
        dataset="" if people is None else people.name,
        effects=tuple(_holm_corrected([*effects, *results.effects])),
        distances=tuple(results.distances),
        small=results.small,
        level=level,
        minimum=minimum,
        shuffles=shuffles,
        seed=seed,
        templates=resolve(templates),
        trouble=() if people is None else tuple(people.trouble()),
    )


def _text_effects(
    test: AssociationTest, embed_texts: _TextEmbedder, shuffles: int, seed: int
) -> Iterator[AssociationEffect]:
    """Effect of a test of texts; nothing for a test of images."""
    if test.x is not None and test.y is not None:
        sides = (test.x.name, test.y.name, test.a.name, test.b.name)
        embeddings = (embed_texts(test.x), embed_texts(test.y), embed_texts(test.a), embed_texts(test.b))
        yield replace(weat_effect(test.name, sides, *embeddings, shuffles, seed), control=test.control)


def _compared_columns(people: PeopleDataset, attributes: Sequence[str] | None) -> list[str]:
    """The columns whose groups are compared."""
    if attributes is not None:
        for attribute in attributes:
            people.values(attribute)  # raises DataError with the list of columns
        return list(dict.fromkeys(attributes))
    columns = [
        name
        for name, values in people.columns.items()
        if 2 <= len({value for value in values if value is not None}) <= _MAX_GROUPS
    ]
    if not columns:
        raise DataError(
            f"{people.table} has no column with 2 to {_MAX_GROUPS} groups; its attributes are "
            f"{listed(people.columns)}: name the ones to compare (attributes=[...], --by)"
        )
    return columns


@dataclass
class _GroupResults:
    """Collected results of tests on images of groups."""

    effects: list[AssociationEffect]
    distances: list[GroupDistance]
    small: dict[str, tuple[str, ...]]

    def add(
        self,
        attribute: str,
        names: Sequence[str],
        codes: NDArray[np.int64],
        embeddings: Embeddings,
        tests: Sequence[AssociationTest],
        embed_texts: _TextEmbedder,
        minimum: int,
        shuffles: int,
        seed: int,
    ) -> None:
        """Test the groups of one attribute that are large enough."""
        sizes = np.bincount(codes[codes >= 0], minlength=len(names))
        large = np.flatnonzero(sizes >= max(2, minimum))
        if too_small := tuple(name for index, name in enumerate(names) if index not in large):
            self.small[attribute] = too_small
        if len(large) < 2:
            return
        members = np.isin(codes, large)
        groups, large_names = np.searchsorted(large, codes[members]), [names[int(index)] for index in large]
        self.effects += _image_effects(
            attribute, large_names, groups, embeddings[members], tests, embed_texts, shuffles, seed
        )
        self.distances += group_distances(attribute, large_names, groups, embeddings[members], shuffles, seed)


def _image_effects(
    attribute: str,
    names: Sequence[str],
    groups: NDArray[np.intp],
    embeddings: Embeddings,
    tests: Sequence[AssociationTest],
    embed_texts: _TextEmbedder,
    shuffles: int,
    seed: int,
) -> Iterator[AssociationEffect]:
    """Effects of every test, for two groups or for each of several against all others, on shared shuffles."""
    if not tests:
        return
    values = np.stack(
        [association_scores(embeddings, embed_texts(test.a), embed_texts(test.b)) for test in tests], axis=1
    )  # (n, T)
    p = shuffle_p_values(values, groups, len(names), shuffles, seed)  # (G, T)
    for group, name in enumerate(names[:1] if len(names) == 2 else names):
        compared = names[1] if len(names) == 2 else "all others"
        members = groups == group
        for column, test in enumerate(tests):
            size = effect_size(values[members, column], values[~members, column], seed)
            sides = (name, compared, test.a.name, test.b.name)
            sizes, chance = (int(members.sum()), int((~members).sum())), float(p[group, column])
            yield AssociationEffect(
                f"{attribute}, {test.name}", "pictures", *sides, size, *sizes, chance, chance
            )


def _holm_corrected(effects: Sequence[AssociationEffect]) -> list[AssociationEffect]:
    """The effects with p corrected for the number of tests that are not controls (Holm 1979)."""
    tested = [index for index, effect in enumerate(effects) if not effect.control]
    corrected = list(effects)
    for index, p in zip(tested, holm([effects[index].p for index in tested]).tolist(), strict=True):
        corrected[index] = replace(effects[index], corrected=p)
    return corrected


class _TextEmbedder:
    """Embeds text sets as unit vectors; each set is encoded once."""

    def __init__(self, encoder: Encoder, templates: Sequence[str]) -> None:
        self._encoder, self._templates = encoder, templates
        self._known: dict[tuple[str, ...], Embeddings] = {}

    def __call__(self, texts: TextSet) -> Embeddings:
        if texts.texts not in self._known:
            labels = tuple(Label(text, (text,)) for text in texts.texts)
            learned = compute_weights(
                self._encoder, labels, templates=self._templates, per_text=False, against=None
            )
            self._known[texts.texts] = learned.class_embeddings
        return self._known[texts.texts]
