"""Assignment of the readable images of an audit to groups, by role.

A role is the meaning of a column to the audit: race, gender or age. The columns come from `people.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.audits.bias.people import PeopleDataset, group_codes
from diptych.audits.bias.vocabulary import crossed_name
from diptych.errors import DataError, InputError, listed

ROLES = ("race", "gender", "age")
CROSSED = "race and gender"


def resolve_roles(people: PeopleDataset, columns: Mapping[str, str]) -> dict[str, str]:
    """Map each available role to its column: the given ones, and columns that have the name of a role.

    Raises
    ------
    InputError
        Unknown role.
    DataError
        A column does not exist, or no role is available.
    """
    unknown = sorted(set(columns) - set(ROLES))
    if unknown:
        raise InputError(f"{listed(unknown)}: the roles are {listed(ROLES)}")
    used = {}
    for role in ROLES:
        if role in columns:
            people.values(columns[role])  # raises DataError with the list of columns
            used[role] = columns[role]
        elif role in people.columns:
            used[role] = role
    if not used:
        raise DataError(
            f"{people.table} has no column {listed(ROLES)}; its attributes are {listed(people.columns)}: say "
            "which of them is which (columns={'gender': ...}, --gender)"
        )
    return used


@dataclass(frozen=True, eq=False)
class GroupAssignment:
    """N pictures and their groups.

    Attributes
    ----------
    names : mapping of str to tuple of str
        Role -> its values, sorted.
    codes : mapping of str to (N,) integers
        Role -> value of each picture, -1 for none.
    positions : (N,) integers
        Where the pictures stand in the data set.
    """

    names: Mapping[str, tuple[str, ...]]
    codes: Mapping[str, NDArray[np.int64]]
    positions: NDArray[np.intp]

    @classmethod
    def of(
        cls, people: PeopleDataset, used: Mapping[str, str], positions: NDArray[np.intp]
    ) -> GroupAssignment:
        """Group the images at these positions by the columns of these roles."""
        groups = {
            role: group_codes(
                [people.values(column)[position] for position in positions], f"{people.table}: {column!r}"
            )
            for role, column in used.items()
        }
        return cls(
            {role: names for role, (names, _) in groups.items()},
            {role: codes for role, (_, codes) in groups.items()},
            positions,
        )

    def sizes(self, role: str) -> dict[str, int]:
        """Number of images of each group."""
        return {name: int((self.codes[role] == index).sum()) for index, name in enumerate(self.names[role])}

    def attributes(self) -> dict[str, tuple[tuple[str, ...], NDArray[np.int64]]]:
        """Groups by each role, and by race and gender combined."""
        groups = {role: (self.names[role], self.codes[role]) for role in self.names}
        if "race" in groups and "gender" in groups:
            (races, race), (genders, gender) = groups["race"], groups["gender"]
            names = tuple(crossed_name(a, b) for a in races for b in genders)
            codes = np.where((race < 0) | (gender < 0), -1, race * len(genders) + gender)
            groups[CROSSED] = (names, codes)
        return groups

    def strata(self, attribute: str) -> tuple[NDArray[np.int64], str] | None:
        """Strata of images that are equal in all roles other than the attribute's own, (N,), and their names.

        The code is mixed radix: with genders (2) and ages (9), stratum = gender * 9 + age. It is -1 where one
        of them is blank. None if there is no other role.
        """
        own = ("race", "gender") if attribute == CROSSED else (attribute,)
        others = [role for role in self.names if role not in own]
        if not others:
            return None
        codes = np.zeros(len(self.positions), dtype=np.int64)
        for role in others:
            codes = codes * len(self.names[role]) + self.codes[role]
        blank = np.any([self.codes[role] < 0 for role in others], axis=0)
        return np.where(blank, -1, codes), " and ".join(others)

    def one_hot(self, role: str, values: Sequence[str | None]) -> NDArray[np.float64]:
        """One-hot answers (N, C) of a classifier, from its value for each image of the data set."""
        given = [values[position] for position in self.positions]
        return np.array([[float(value == name) for name in self.names[role]] for value in given])

    def correct(self, role: str, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability that the answer is correct, (N,), from answer probabilities (N, C); NaN where blank."""
        codes = self.codes[role]
        hits = shares[np.arange(len(codes)), codes]
        return np.where(codes < 0, np.nan, hits)
