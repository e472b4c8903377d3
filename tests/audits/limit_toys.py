"""Toy encoders with one known ability each, for the tests of the audits of limits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.audits.limits.count_scenes import WORDS

Row = NDArray[np.float32]


class Planted:
    """An encoder of two functions, which map a picture and a text to a row."""

    identity = "toy:planted"
    input_size = 32
    logit_scale = 10.0
    logit_bias = 0.0

    def __init__(self, dim: int, see: Callable[[Image.Image], Row], read: Callable[[str], Row]) -> None:
        self.dim, self.see, self.read = dim, see, read
        self.pictures = 0

    def encode_images(self, images: Sequence[Image.Image]) -> Row:
        self.pictures += len(images)
        return self._unit([self.see(image) for image in images])

    def encode_texts(self, texts: Sequence[str]) -> Row:
        return self._unit([self.read(text) for text in texts])

    def _unit(self, rows: Sequence[Row]) -> Row:
        table = np.asarray(rows, dtype=np.float32).reshape(-1, self.dim)
        return table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)


def noise(what: bytes, dim: int = 16) -> Row:
    """A fixed pseudo-random row that is independent of the meaning of the text."""
    seed = int.from_bytes(hashlib.blake2b(what, digest_size=8).digest(), "big")
    return np.random.default_rng(seed).normal(size=dim).astype(np.float32)


def guesser(salt: str = "") -> Planted:
    """An encoder that answers at random: rows are derived from hashes."""
    return Planted(
        16,
        lambda image: noise(salt.encode() + image.tobytes()),
        lambda text: noise(salt.encode() + text.encode()),
    )


def blind() -> Planted:
    """An encoder that returns the same row for everything: all answers tie."""
    single = np.ones(4, np.float32)
    return Planted(4, lambda image: single, lambda text: single)


def one_hot(index: int, dim: int) -> Row:
    row = np.zeros(dim, np.float32)
    row[index] = 1.0
    return row


def number_in(text: str) -> int:
    """The number in a prompt, or 0."""
    for word in re.findall("[a-z]+|[0-9]+", text.lower()):
        if word in WORDS[1:] or (word.isdecimal() and 0 < int(word) < 21):
            return WORDS.index(word) if word in WORDS else int(word)
    return 0


def patches(image: Image.Image) -> int:
    """The number of coloured patches on a grey background."""
    pixels = np.asarray(image.convert("RGB")).astype(int)
    coloured = pixels.max(axis=2) - pixels.min(axis=2) > 60
    count, open_ = 0, coloured.copy()
    while open_.any():
        stack = [tuple(np.argwhere(open_)[0])]
        size = 0
        while stack:
            y, x = stack.pop()
            if 0 <= y < open_.shape[0] and 0 <= x < open_.shape[1] and open_[y, x]:
                open_[y, x] = False
                size += 1
                stack += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        count += size > 20
    return count


def counter() -> Planted:
    """An encoder that counts patches and reads numbers."""
    return Planted(
        21, lambda image: one_hot(min(patches(image), 20), 21), lambda text: one_hot(number_in(text), 21)
    )
