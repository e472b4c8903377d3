"""Seeded splits of labelled data: training and validation, and few-shot samples of each class.

The sample of a class depends only on the seed, the class and its number of images, so that adding a class
does not change the others. Pure functions of labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError

Integers = NDArray[np.int64]
Positions = NDArray[np.intp]

VALIDATION_SHOTS = 4  # at most, per class: Zhou et al. 2022 (CoOp), arXiv 2109.01134


@dataclass(frozen=True, eq=False)
class FewShotDraw:
    """A random sample of `wanted` images per class for training, and a few others for validation.

    Attributes
    ----------
    shots : (S,) integers
        Positions of the training images, sorted.
    validation : (V,) integers
        Positions of the validation images, sorted; none is a training image.
    wanted : int
        Requested shots per class.
    short : (K,) integers
        Classes with fewer images than that; all of their images are used for training.
    unchecked : (U,) integers
        Classes with fewer validation images than requested.
    """

    shots: Positions
    validation: Positions
    wanted: int
    short: Integers
    unchecked: Integers


def split_validation(labels: Integers, fraction: float, seed: int) -> tuple[Positions, Positions]:
    """Split positions into training and validation, stratified by class.

    Parameters
    ----------
    labels : (N,) integers
    fraction : float
        Fraction of each class for validation, rounded, at least one image; a class of one image is used for
        training only.

    Returns
    -------
    train, validation : arrays of positions, sorted

    Raises
    ------
    InputError
        A fraction that is not between 0 and 1.

    Examples
    --------
    >>> train, validation = split_validation(np.array([0, 0, 0, 0, 0, 1, 1, 2]), 0.2, seed=0)
    >>> len(train), np.array([0, 0, 0, 0, 0, 1, 1, 2])[validation].tolist()
    (6, [0, 1])
    """
    if not 0 < fraction < 1:
        raise InputError(f"a share of {fraction:g} for validation: expected more than 0 and less than 1")
    train, validation = [], []
    for order in _orders(labels, seed).values():
        count = min(max(round(fraction * len(order)), 1), len(order) - 1)
        validation.append(order[:count])
        train.append(order[count:])
    return _sorted(train), _sorted(validation)


def draw_shots(labels: Integers, shots: int, seed: int, others: Integers | None = None) -> FewShotDraw:
    """Sample `shots` training images of each class, and min(shots, 4) others for validation.

    Training images are taken from the front of a random order of each class and validation images from its
    back. So with one seed the sample of 4 shots contains that of 2. Training has precedence if there are too
    few: of the order [7, 2, 5] and 2 shots, 7 and 2 are for training and only 5 is for validation.

    Parameters
    ----------
    labels : (N,) integers
    others : (M,) integers, optional
        Labels of a separate validation set; the positions of `validation` are then positions there.

    Raises
    ------
    InputError
        Fewer than one shot.

    Examples
    --------
    >>> draw = draw_shots(np.array([0, 0, 0, 1, 1, 1, 2]), 2, seed=0)
    >>> len(draw.shots), len(draw.validation), draw.short.tolist(), draw.unchecked.tolist()
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
    return FewShotDraw(_sorted(front), _sorted(back), shots, np.array(short, int), np.array(unchecked, int))


def _orders(labels: Integers, seed: int) -> dict[int, Positions]:
    """Class -> its positions in a random order, for classes with images."""
    classes = np.unique(labels).tolist()
    return {
        label: np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))
        for label in classes
    }


def _sorted(parts: list[Positions]) -> Positions:
    """Concatenate positions and sort them."""
    return np.sort(np.concatenate([*parts, np.zeros(0, np.intp)]).astype(np.intp))
