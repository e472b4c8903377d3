"""Which pictures teach and which choose: a validation part, and a few pictures of each class; all by seed.

A class's draw depends on the seed, the class and its number of pictures alone, so that adding a class changes
no other's. Pure functions of labels; they know no pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError

Integers = NDArray[np.int64]
Places = NDArray[np.intp]

VALIDATION_SHOTS = 4  # at most, per class: Zhou et al. 2022 (CoOp), arXiv 2109.01134


@dataclass(frozen=True, eq=False)
class Draw:
    """A draw of `wanted` pictures a class.

    Attributes
    ----------
    shots : (S,) integers
        Places of the pictures that teach, in order.
    validation : (V,) integers
        Places of those that choose, none of them among the others.
    wanted : int
        Shots asked for.
    short : (K,) integers
        Classes with fewer pictures than that; all of theirs teach.
    unchecked : (U,) integers
        Classes of which fewer pictures than wanted were left to choose on.
    """

    shots: Places
    validation: Places
    wanted: int
    short: Integers
    unchecked: Integers


def split(labels: Integers, share: float, seed: int) -> tuple[Places, Places]:
    """Places that teach and places that choose, the same share of each class.

    Parameters
    ----------
    labels : (N,) integers
    share : float
        Of each class that chooses, rounded, at least one picture; a class of one picture teaches only.
    seed : int

    Returns
    -------
    teach, choose : arrays of places, in order

    Raises
    ------
    InputError
        A share that is not between 0 and 1.

    Examples
    --------
    >>> teach, choose = split(np.array([0, 0, 0, 0, 0, 1, 1, 2]), 0.2, seed=0)
    >>> len(teach), np.array([0, 0, 0, 0, 0, 1, 1, 2])[choose].tolist()
    (6, [0, 1])
    """
    if not 0 < share < 1:
        raise InputError(f"a share of {share:g} for validation: expected more than 0 and less than 1")
    teach, choose = [], []
    for order in _orders(labels, seed).values():
        count = min(max(round(share * len(order)), 1), len(order) - 1)
        choose.append(order[:count])
        teach.append(order[count:])
    return _joined(teach), _joined(choose)


def draw_shots(labels: Integers, shots: int, seed: int, others: Integers | None = None) -> Draw:
    """So many pictures of each class, and min(shots, 4) others to choose the strength of L2 on.

    Shots come from the front of a class's random order and validation from its back: of one seed, the draw
    of 4 holds the draw of 2, and no picture does both as long as the class has enough. Shots come first.

    Parameters
    ----------
    labels : (N,) integers
    shots, seed : int
    others : (M,) integers, optional
        Labels of a validation part of its own; places of `validation` are then places there.

    Raises
    ------
    InputError
        Fewer than one shot.

    Examples
    --------
    >>> found = draw_shots(np.array([0, 0, 0, 1, 1, 1, 2]), 2, seed=0)
    >>> len(found.shots), len(found.validation), found.short.tolist(), found.unchecked.tolist()
    (5, 2, [2], [0, 1, 2])
    """
    if shots < 1:
        raise InputError(f"{shots} shots: expected at least one picture of each class")
    wanted = min(shots, VALIDATION_SHOTS)
    orders = _orders(labels, seed)
    backs = orders if others is None else _orders(others, seed)
    front, back, short, unchecked = [], [], [], []
    for label, order in orders.items():
        front.append(order[:shots])
        left = order[shots:] if others is None else backs.get(label, order[:0])
        back.append(left[max(len(left) - wanted, 0) :])
        short += [label] * (len(order) < shots)
        unchecked += [label] * (len(back[-1]) < wanted)
    return Draw(_joined(front), _joined(back), shots, np.array(short, int), np.array(unchecked, int))


def _orders(labels: Integers, seed: int) -> dict[int, Places]:
    """Each class that has pictures, and its places in a random order."""
    classes = np.unique(labels).tolist()
    return {
        label: np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))
        for label in classes
    }


def _joined(parts: list[Places]) -> Places:
    """All places, in order."""
    return np.sort(np.concatenate([*parts, np.zeros(0, np.intp)]).astype(np.intp))
