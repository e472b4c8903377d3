"""Faces and built-in labels: which labels are animals."""

from __future__ import annotations

import default_labels

from diptych.catalog.map.naming import bare, read_words
from diptych.cli.classify.demo import demo_labels


def test_animals_are_the_animals_of_the_words() -> None:
    animals = default_labels.animals()
    assert {"dog", "cat", "horse", "sparrow", "butterfly"} <= animals
    assert not {"zoo", "rose", "face", "person"} & animals
    assert {bare(word) for word in read_words()} >= animals | default_labels.PLACES
    assert [label.word for label in demo_labels() if label.word in animals] == [
        "cat", "horse", "dog", "bird", "butterfly", "fish",
    ]  # fmt: skip
