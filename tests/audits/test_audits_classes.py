"""Audit of a label list: catch-all labels, near synonyms, harmful labels, effects of changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diptych.audits.bias.people import load_pictures
from diptych.audits.labels.class_design import audit_classes, robust_deviation
from diptych.audits.labels.class_design_result import ClassDesignAudit
from diptych.audits.labels.label_words import has_catch_all, labels_containing, text_warnings, word_lists
from diptych.datasets.dataset import ImageCollection
from diptych.errors import InputError, TextError
from tests.toys import COLOURS, picture_bytes

DIM = 64


@dataclass
class Scattered:
    """An encoder that gives each text its own direction; some lie near the direction of "nothing".

    Pictures are ToyEncoder's colours, each near the text that names it.
    """

    pull: dict[str, float]
    twins: dict[str, str]
    identity: str = "toy:scattered"
    dim: int = DIM
    input_size: int = 8
    logit_scale: float = 20.0
    logit_bias: float = 0.0

    def _word(self, word: str) -> NDArray[np.float64]:
        seed = [ord(letter) for letter in word]
        return np.random.default_rng(seed).normal(size=DIM) / 8

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = []
        for text in texts:
            word = text.removeprefix("a photo of a ").removesuffix(".")
            nothing = 2.0 if text in word_lists()["neutral"] else self.pull.get(word, 0.0)
            row = self._word(self.twins.get(word, word)) + 0.05 * self._word(word)
            rows.append(row + nothing * self._word("nothing at all"))
        table = np.array(rows, dtype=np.float32)
        return table / np.linalg.norm(table, axis=1, keepdims=True)

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        names = {colour: name for name, colour in COLOURS.items()}
        rows = []
        for image in images:
            name = names.get(image.convert("RGB").getpixel((0, 0)), "")  # type: ignore[call-overload]
            rows.append(self._word(name) if name else self._word("nothing at all"))
        table = np.array(rows, dtype=np.float32)
        return table / np.linalg.norm(table, axis=1, keepdims=True)


def sample(folder: Path, **counts: int) -> ImageCollection:
    home = folder / "sample"
    home.mkdir()
    for colour, count in counts.items():
        for number in range(count):
            (home / f"{colour}-{number}.png").write_bytes(picture_bytes(colour))
    return load_pictures(home)


def kinds(found: ClassDesignAudit, severity: str | None = None) -> set[str]:
    return {item.kind for item in found.warned if severity in (None, item.severity)}


GOOD = ["red", "green", "blue", "yellow", "white", "black", "something else"]


def test_an_ordinary_list_has_nothing_to_warn_of(tmp_path: Path) -> None:
    shown = dict.fromkeys(("red", "green", "blue", "yellow", "white", "black"), 5)
    result = audit_classes(Scattered({}, {}), GOOD, sample(tmp_path, **shown))
    assert result.warned == ()
    assert {item.label: item.taken.value for item in result.figures if item.taken}["red"] == pytest.approx(
        1 / 6
    )
    assert "No warnings for" in result.report().sections[0].text[0]


def test_a_label_that_attracts_everything(tmp_path: Path) -> None:
    class Attracted(Scattered):
        def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
            rows = super().encode_images(images) + 3 * self._word("nothing at all").astype(np.float32)
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)  # type: ignore[no-any-return]

    names = [*GOOD[:5], "picture", "something else"]
    result = audit_classes(Attracted({"picture": 2.0}, {}), names, sample(tmp_path, red=20, green=20))
    (warned,) = (item for item in result.warned if item.kind == "attractor")
    assert (warned.severity, warned.labels) == ("serious", ("picture",))
    alone = audit_classes(Scattered({"picture": 2.0}, {}), names)  # possible only, without a sample
    assert [(item.kind, item.severity) for item in alone.warned] == [("attractor", "notice")]


def test_what_the_sample_is_full_of_is_only_a_notice(tmp_path: Path) -> None:
    result = audit_classes(Scattered({}, {}), GOOD, sample(tmp_path, red=40, green=2))
    warned, unused = result.warned
    assert (unused.kind, unused.labels) == ("unused", ("blue", "yellow", "white", "black"))
    assert (warned.kind, warned.severity, warned.labels) == ("attractor", "notice", ("red",))


def test_near_synonyms(tmp_path: Path) -> None:
    names = [*GOOD, "crimson", "x", "y", "z"]
    result = audit_classes(Scattered({}, {"crimson": "red"}), names, sample(tmp_path, red=20, green=20))
    (pair,) = result.pairs
    assert {pair.first, pair.second} == {"red", "crimson"}
    assert pair.cosine > 0.9
    assert pair.torn == 1.0
    assert kinds(result) == {"synonyms", "unused", "attractor"}  # two labels take the whole sample
    few = audit_classes(Scattered({}, {"crimson": "red"}), ["red", "crimson", "green", "other"])
    assert [{item.first, item.second} for item in few.pairs] == [{"red", "crimson"}]


def test_no_catch_all(tmp_path: Path) -> None:
    result = audit_classes(Scattered({}, {}), GOOD[:-1])
    assert [(item.kind, item.severity) for item in result.warned] == [("no catch-all", "notice")]
    strange = audit_classes(Scattered({}, {}, logit_scale=1.0), GOOD[:-1], sample(tmp_path, red=30, green=30))
    assert kinds(strange, "serious") == {"no catch-all"}
    assert strange.unsure is not None
    assert strange.unsure.value == 1.0


def test_labels_that_come_twice() -> None:
    result = audit_classes(Scattered({}, {}), ["red", "Red ", "green", "other"])
    assert "repeated" in kinds(result, "serious")


@pytest.mark.parametrize(
    ("labels", "kind", "severity", "which"),
    [
        (["thief", "tree"], "harm", "serious", ("thief",)),
        (["a suspicious person", "tree"], "harm", "serious", ("a suspicious person",)),
        (["gorilla", "woman"], "harm", "serious", ("gorilla",)),
        (["an ugly thing", "tree"], "derogatory", "serious", ("an ugly thing",)),
        (["two women", "tree"], "people", "notice", ("two women",)),
        (["crane", "a crane, a bird"], "ambiguous", "notice", ("crane",)),
        (["thieves", "tree"], "harm", "serious", ("thieves",)),
        (["policewoman", "tree"], "people", "notice", ("policewoman",)),
        (["ape, doctor", "tree"], "harm", "serious", ("ape, doctor",)),
        (["ape", "doctor"], "harm", "serious", ("ape",)),
        (["apes", "salespeople"], "harm", "serious", ("apes",)),
        (["bycicle", "car"], "misspelt", "notice", ("bycicle",)),
        (["dog", "puppy"], "overlap", "notice", ("dog", "puppy")),
        (["landscape", "nature"], "overlap", "notice", ("landscape", "nature")),
        (["person", "man"], "overlap", "notice", ("person", "man")),
        (["person", "women"], "overlap", "notice", ("person", "women")),
        (["a dog on grass", "car", "red cars"], "overlap", "notice", ("car", "red cars")),
    ],
)
def test_what_the_words_say(labels: list[str], kind: str, severity: str, which: tuple[str, ...]) -> None:
    result = [item for item in text_warnings(labels) if item.kind == kind]
    assert [(item.severity, item.labels) for item in result] == [(severity, which)]


@pytest.mark.parametrize(
    "labels",
    [
        ["gorilla", "zebra"],
        ["grape", "therapist", "mandarin"],
        ["white", "black"],
        ["ramen", "talisman", "car park", "car"],
        ["tulips", "roses", "quokka"],
    ],
)
def test_words_that_only_look_alike_are_let_pass(labels: list[str]) -> None:
    assert text_warnings(labels) == []


def test_many_overlaps_are_told_together() -> None:
    names = [
        "car",
        *(
            f"{colour} car"
            for colour in ["red", "green", "blue", "white", "black", "grey", "brown", "pink", "gold"]
        ),
    ]
    message = [item.message for item in text_warnings(names) if item.kind == "overlap"]
    assert len(message) == 9
    assert message[-1] == "More pairs that overlap, 1: 'car' and 'gold car'."


def test_pull_is_explained(tmp_path: Path) -> None:
    result = audit_classes(Scattered({"picture": 9.0}, {}), [*GOOD, "picture"])
    caption = result.report().tables["labels"].caption
    assert f"Pull above {result.pull_bound:.1f}: this label grabs unrelated pictures." in caption
    pulls = {item.label: max(item.text_pull, item.picture_pull) for item in result.figures}
    assert {label for label, pull in pulls.items() if pull > result.pull_bound} == {"picture"}
    assert {item.labels for item in result.warned if item.kind == "attractor"} == {("picture",)}


def test_the_texts_of_a_label_are_read_too() -> None:
    result = audit_classes(Scattered({}, {}), {"wanted": ["a thief", "red"], "rest": ["something else"]})
    assert [(item.kind, item.labels) for item in result.warned] == [("harm", ("a thief",))]


def test_catch_alls() -> None:
    assert has_catch_all(["dog", "None of these"])
    assert has_catch_all(["a photo of something else", "dog"])
    assert has_catch_all(["a plain background", "dog"])
    assert has_catch_all(["other animals", "dog"])
    for label in ("brother", "another dog", "a dog on a plain background", "something red", "no entry sign"):
        assert not has_catch_all(["dog", label]), label
    assert labels_containing(["Persons", "personal"], ["person"]) == ("Persons",)


def test_what_moves_when_a_label_goes_and_one_comes(tmp_path: Path) -> None:
    pictures = sample(tmp_path, red=3, green=4, blue=5)
    names = ["red", "green", "something else"]
    result = audit_classes(Scattered({}, {}), names, pictures, add=["blue"], remove=["green"])
    ways = {(item.before, item.after) for item in result.moves if item.picture.startswith("green")}
    assert len([item for item in result.moves if item.picture.startswith("green")]) == 4
    assert all(before == "green" and after != "green" for before, after in ways)
    assert {item.after for item in result.moves if item.picture.startswith("blue")} == {"blue"}
    assert not [item for item in result.moves if item.picture.startswith("red")]
    assert "9 of 12 pictures" in result.report().sections[-1].text[0]
    still = audit_classes(Scattered({}, {}), [*GOOD], pictures, remove=["black"])
    assert still.moves == ()
    assert "0 of 12" in still.report().sections[-1].text[0]


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"remove": ["violet"]}, TextError, "'violet' cannot be removed: the labels are 'red', 'green'"),
        ({"remove": ["red", "green"]}, TextError, "every label cannot be removed"),
        ({"add": ["blue"]}, InputError, "give a sample"),
    ],
)
def test_what_cannot_be_tried(more: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        audit_classes(Scattered({}, {}), ["red", "green"], **more)


def test_a_broken_picture_of_the_sample_is_named(tmp_path: Path) -> None:
    sample(tmp_path, red=3)
    (tmp_path / "sample" / "broken.png").write_bytes(b"broken")
    result = audit_classes(Scattered({}, {}), GOOD, load_pictures(tmp_path / "sample"))
    assert [item.key for item in result.failures] == ["broken.png"]
    assert result.n == 3


def test_one_label() -> None:
    with pytest.warns(UserWarning, match="there is one label"):
        result = audit_classes(Scattered({}, {}), ["red"])
    assert not result.pairs
    result.report()


def test_robust_distance() -> None:
    assert robust_deviation(3.0, np.array([1.0, 2.0, 3.0])) == pytest.approx(1 / 1.4826)
    assert robust_deviation(1.0, np.ones(5)) == 0.0
