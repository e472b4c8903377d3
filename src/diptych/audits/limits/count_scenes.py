"""Numbers as words, and pictures with a known number of things. What is asked of them is `counting.py`'s.

Half of the pictures have things of one size, so that more things are more colour; in the other half all
things of a picture together have one area, so that colour does not give their number away.
"""

from __future__ import annotations

import math

import numpy as np

from diptych.audits.generated_images import GeneratedDataset, generated_dataset
from diptych.audits.limits import scenes
from diptych.errors import DataError, InputError

WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
SIZES = ("things of one size", "one area in all")
GROUNDS = ("plain background", "textured background")


def parse_number(name: str, where: str = "the data") -> int:
    """The number that a class name says, in digits or in words.

    Raises
    ------
    DataError
        It says none, or one over twenty.

    Examples
    --------
    >>> parse_number("3"), parse_number("three"), parse_number("count 7")
    (3, 3, 7)
    """
    said = name.lower().split()[-1] if name.split() else ""
    if said in WORDS:
        return WORDS.index(said)
    if said.isascii() and said.isdecimal() and len(said) < 5 and int(said) < len(WORDS):
        return int(said)
    raise DataError(
        f"{where} has a class {name!r}, which is no number: expected folders named 0 to {len(WORDS) - 1}, in "
        "digits or in English words"
    )


def prompt(template: str, number: int, things: str) -> str:
    """A template filled in, in the singular where there is one.

    Parameters
    ----------
    template : str
        With {n} (the number in words) or {d} (in digits), and {things}.
    number : int
    things : str
        In the plural.

    Examples
    --------
    >>> prompt("there are {n} {things} in the picture.", 1, "stars")
    'there is one star in the picture.'
    >>> prompt("{d} {things}", 4, "crosses")
    '4 crosses'
    """
    if number == 1:
        template = template.replace("there are", "there is").replace("are there", "is there")
        things = _singular(things)
    return template.replace("{n}", WORDS[number]).replace("{d}", str(number)).replace("{things}", things)


def plural(shape: str) -> str:
    """Several of a shape.

    Examples
    --------
    >>> plural("star"), plural("cross")
    ('stars', 'crosses')
    """
    return shape + ("es" if shape.endswith("s") else "s")


def draw_counts(most: int, each: int, seed: int) -> GeneratedDataset:
    """`each` pictures of every count from 1 to `most`; all ways of drawing come equally often.

    Raises
    ------
    InputError
        Counts that have no word here, or no pictures.

    Examples
    --------
    >>> pictures = draw_counts(3, 2, seed=0)
    >>> pictures.labels.tolist(), pictures.class_names
    ([0, 1, 2, 0, 1, 2], ('1', '2', '3'))
    """
    if not 2 <= most < len(WORDS) or each < 1:
        raise InputError(
            f"counts up to {most}, {each} pictures each: expected 2 to {len(WORDS) - 1}, and 1 or more"
        )
    return generated_dataset(
        "drawn counts",
        lambda index: scenes.draw(scene(index, most, seed)),
        [index % most for index in range(most * each)],
        [str(number) for number in range(1, most + 1)],
        made=f"counts v{scenes.VERSION} seed {seed} most {most}",
    )


def conditions(index: int, most: int) -> tuple[str, str, str]:
    """How picture `index` is drawn: sizes, background, shape; the count changes fastest, the shape last."""
    turn = index // most
    return SIZES[turn % 2], GROUNDS[turn // 2 % 2], list(scenes.SHAPES)[turn // 4 % len(scenes.SHAPES)]


def scene(index: int, most: int, seed: int) -> scenes.Scene:
    """Picture `index` as a scene."""
    rng = np.random.default_rng([seed, index, 1])
    count = index % most + 1
    sizes, ground, shape = conditions(index, most)
    colour = list(scenes.COLOURS)[int(rng.integers(len(scenes.COLOURS)))]
    largest = 0.55 / math.sqrt(most)  # so that as many as there may be find their places
    size = largest * (rng.uniform(0.6, 1.0) if sizes == SIZES[0] else math.sqrt(most / count))
    places = scenes.random_positions(rng, [size] * count)
    textured = 0 if ground == GROUNDS[0] else 1 + int(rng.integers(len(scenes.BACKGROUNDS) - 1))
    return scenes.Scene(
        tuple(scenes.SceneObject(shape, colour, x, y, size) for x, y in places),
        scenes.BACKGROUNDS[textured],
        int(rng.integers(2**31)),
    )


def _singular(things: str) -> str:
    return things.removesuffix("es") if things.endswith("sses") else things.removesuffix("s")
