"""Numbers as words, and generated images with a known number of objects, for the counting audit.

In half of the images all objects have one size, so that more objects cover more area. In the other half the
total area is constant, so that the area does not reveal the number.
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
SIZE_RULES = ("things of one size", "one area in all")
GROUNDS = ("plain background", "textured background")


def parse_number(name: str, source: str = "the data") -> int:
    """Parse the number in a class name, in digits or in words.

    Raises
    ------
    DataError
        There is no number, or one over twenty.

    Examples
    --------
    >>> parse_number("3"), parse_number("three"), parse_number("count 7")
    (3, 3, 7)
    """
    word = name.lower().split()[-1] if name.split() else ""
    if word in WORDS:
        return WORDS.index(word)
    if word.isascii() and word.isdecimal() and len(word) < 5 and int(word) < len(WORDS):
        return int(word)
    raise DataError(
        f"{source} has a class {name!r}, which is not a number: expected folders named 0 to "
        f"{len(WORDS) - 1}, in digits or in English words"
    )


def prompt(template: str, number: int, things: str) -> str:
    """Fill in a template, in the singular for 1.

    Parameters
    ----------
    template : str
        With {n} (the number in words) or {d} (in digits), and {things}.
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


def draw_counts(most: int, each: int, seed: int) -> GeneratedDataset:
    """`each` images of every count from 1 to `most`, balanced over the drawing conditions.

    Raises
    ------
    InputError
        A count has no word in `WORDS`, or there are no images.

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
    """Size rule, background and shape of image `index`.

    Mixed radix: the count changes fastest, then sizes, background and shape. E.g. most = 10: images 0..9
    have counts 1..10 in one size, 10..19 the same counts with one total area, 20..29 start the textured
    background.
    """
    round_ = index // most
    return (
        SIZE_RULES[round_ % 2],
        GROUNDS[round_ // 2 % 2],
        list(scenes.SHAPES)[round_ // 4 % len(scenes.SHAPES)],
    )


def scene(index: int, most: int, seed: int) -> scenes.Scene:
    """Scene of image `index`."""
    rng = np.random.default_rng([seed, index, 1])
    count = index % most + 1
    sizes, background, shape = conditions(index, most)
    colour = list(scenes.COLOURS)[int(rng.integers(len(scenes.COLOURS)))]
    largest = 0.55 / math.sqrt(most)  # so that `most` objects still fit
    size = largest * (rng.uniform(0.6, 1.0) if sizes == SIZE_RULES[0] else math.sqrt(most / count))
    positions = scenes.random_positions(rng, [size] * count)
    background_index = 0 if background == GROUNDS[0] else 1 + int(rng.integers(len(scenes.BACKGROUNDS) - 1))
    return scenes.Scene(
        tuple(scenes.SceneObject(shape, colour, x, y, size) for x, y in positions),
        scenes.BACKGROUNDS[background_index],
        int(rng.integers(2**31)),
    )


def _singular(things: str) -> str:
    return things.removesuffix("es") if things.endswith("sses") else things.removesuffix("s")
