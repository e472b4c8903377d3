"""The pictures of an audit that could be read, and the groups they are in by each role.

A role is what a column means to the audit: race, gender or age. Where the columns come from is `people.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.audits.bias.attribute_table import listed
from diptych.audits.bias.people import PeopleDataset, group_codes
from diptych.audits.bias.vocabulary import both
from diptych.errors import DataError, InputError

ROLES = ("race", "gender", "age")
CROSSED = "race and gender"


def roles(people: PeopleDataset, columns: Mapping[str, str]) -> dict[str, str]:
    """Role -> column, for the roles there are: those named, and columns that are called like a role.

    Raises
    ------
    InputError
        No such role.
    DataError
        A column that is not there, or no role at all.
    """
    unknown = sorted(set(columns) - set(ROLES))
    if unknown:
        raise InputError(f"{listed(unknown)}: the roles are {listed(ROLES)}")
    used = {}
    for role in ROLES:
        if role in columns:
            people.values(columns[role])  # its error lists the columns there are
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
        """The pictures at these positions, by the columns of these roles."""
        found = {
            role: group_codes(
                [people.values(column)[place] for place in positions], f"{people.table}: {column!r}"
            )
            for role, column in used.items()
        }
        return cls(
            {role: names for role, (names, _) in found.items()},
            {role: codes for role, (_, codes) in found.items()},
            positions,
        )

    def sizes(self, role: str) -> dict[str, int]:
        """Pictures of each group."""
        return {name: int((self.codes[role] == place).sum()) for place, name in enumerate(self.names[role])}

    def attributes(self) -> dict[str, tuple[tuple[str, ...], NDArray[np.int64]]]:
        """Groups by each role, and by race and gender together."""
        found = {role: (self.names[role], self.codes[role]) for role in self.names}
        if "race" in found and "gender" in found:
            (races, race), (genders, gender) = found["race"], found["gender"]
            names = tuple(both(one, other) for one in races for other in genders)
            codes = np.where((race < 0) | (gender < 0), -1, race * len(genders) + gender)
            found[CROSSED] = (names, codes)
        return found

    def strata(self, attribute: str) -> tuple[NDArray[np.int64], str] | None:
        """Pictures that are alike in every role but those of an attribute, (N,), and what these roles are.

        -1 where one of them is blank; None where there is no other role.
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

    def named(self, role: str, values: Sequence[str | None]) -> NDArray[np.float64]:
        """What somebody names for each picture of the data set, as rows over the values of a role, (N, C)."""
        given = [values[place] for place in self.positions]
        return np.array([[float(one == name) for name in self.names[role]] for one in given])

    def right(self, role: str, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """How probably the value of each picture is the answer, (N,), from (N, C); NaN where it has none."""
        codes = self.codes[role]
        hits = shares[np.arange(len(codes)), codes]
        return np.where(codes < 0, np.nan, hits)
