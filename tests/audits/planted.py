"""A toy encoder with planted answers, and generated pictures of people for the bias audit.

Every phrase of the audit has its own direction. The pixels of a picture encode the number of a person, and
the phrases of that person are looked up, so that all shares are known exactly.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.audits.bias.people import PeopleDataset, load_people
from diptych.audits.bias.vocabulary import BiasVocabulary, default_vocabulary
from diptych.inputs.nouns import with_article
from tests.toys import tar_bytes

Person = Mapping[str, str]  # column -> value
Called = Mapping[str, float]  # phrase -> weight


def phrases(words: BiasVocabulary, races: Sequence[str], genders: Sequence[str]) -> list[str]:
    """All phrases that the audit may use."""
    people = [with_article(f"{words.race[race]} person") for race in races]
    crossed = [with_article(f"{words.race[r]} {words.gender[g]}") for r in races for g in genders]
    kinds = [phrase for classes in words.harmful.values() for phrase in classes.values()]
    more = [*words.age.values(), *kinds, *words.added.values(), *words.labels.values()]
    return [*people, *crossed, *(with_article(words.gender[g]) for g in genders), *more]


@dataclass
class Planted:
    """`called[number]` defines the answers for person `number`: phrase -> weight."""

    called: Sequence[Called]
    known: Sequence[str]
    identity: str = "toy:planted"
    input_size: int = 8
    logit_scale: float = 50.0
    logit_bias: float = 0.0
    asked: list[str] = field(default_factory=list)

    @property
    def dim(self) -> int:
        return len(self.known) + 1  # the last direction belongs to texts that are not in `phrases`

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        numbers = [image.getpixel((0, 0)) for image in images]
        rows = np.zeros((len(images), self.dim), np.float32)
        for row, pixel in enumerate(numbers):
            assert isinstance(pixel, tuple)
            for phrase, weight in self.called[pixel[0] * 256 + pixel[1]].items():
                rows[row, self.known.index(phrase)] = weight
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += texts
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            held = [phrase for phrase in self.known if f" {phrase}." in text or text == phrase]
            rows[row, self.known.index(max(held, key=len)) if held else -1] = 1
        return rows


def crowd(
    folder: Path, people: Sequence[Person], called: Sequence[Called], header: Sequence[str] = ()
) -> tuple[Planted, PeopleDataset]:
    """The encoder and a tar archive of its people with their table."""
    words = default_vocabulary()
    columns = list(header or people[0])
    rows = [",".join(["file", *columns])]
    files: dict[str, bytes] = {}
    for number, item in enumerate(people):
        name = f"{number:05}.png"
        files[f"faces/{name}"] = numbered(number)
        rows.append(",".join([name, *(item.get(column, "") for column in columns)]))
    path = folder / "faces.tar"
    path.write_bytes(tar_bytes(files | {"faces/labels.csv": "\n".join(rows).encode()}))
    return Planted(called, phrases(words, list(words.race), list(words.gender))), load_people(path)


def numbered(number: int) -> bytes:
    """A picture whose pixels encode a number."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number // 256, number % 256, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def truly(person: Person) -> dict[str, float]:
    """The phrases that a model without errors gives to a person."""
    words = default_vocabulary()
    race, gender = words.race[person["race"]], words.gender[person["gender"]]
    seen = {with_article(f"{race} person"): 1.0, with_article(gender): 1.0}
    seen[with_article(f"{race} {gender}")] = 1.0
    if person.get("age"):
        seen[words.age[person["age"]]] = 1.0
    return seen
