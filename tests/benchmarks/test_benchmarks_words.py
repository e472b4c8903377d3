"""Single-word benchmark: which pictures are right by their captions, precision, and search on a toy model."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import words
from PIL import Image

BICYCLE = words.Word("bicycle", "n1", ("bicycle", "bike", "wheel"), "bicicleta")
MOTORCYCLE = words.Word("motorcycle", "n2", ("motorcycle", "bike"), "moto")
CHILD = words.Word("child", "n3", ("child", "kid"), "")
BEACH = words.Word("beach", "n4", ("beach",), "playa")


def right(word: words.Word, *captions: Sequence[str], shared: Sequence[str] = ()) -> set[int]:
    return words.right_pictures(word, captions, set(shared))


def test_two_captions_must_have_a_name() -> None:
    assert right(BEACH, ["A beach.", "Sand."], ["A beach.", "Two beaches"], ["beach beach", "sea"]) == {1}


def test_plurals_and_synonyms_count_and_parts_of_words_do_not() -> None:
    assert right(CHILD, ["Children play.", "Two kids."], ["A childish kid.", "kidding"]) == {0}
    assert right(BEACH, ["Beachwear", "a beach-ball"], ["The BEACH's end", "beach, sea"]) == {1}


def test_a_shared_name_needs_another_name_of_the_word() -> None:
    shared = words.shared_names([BICYCLE, MOTORCYCLE, CHILD])
    assert shared == {"bike"}
    captions = (["a bike", "a bike", "a bicycle"], ["bike", "bike", "a motorcycle"], ["a bike", "a bike"])
    assert right(BICYCLE, *captions, shared=["bike"]) == {0}
    assert right(MOTORCYCLE, *captions, shared=["bike"]) == {1}


def test_precision_is_at_ten_or_at_the_number_of_right_pictures() -> None:
    assert words.precision(list(range(20)), set(range(5, 30))) == 0.5
    assert words.precision([0, 1, 2], {2, 0}) == 0.5
    assert words.precision([], {2}) == 0.0
    assert words.precision([1, 2], set()) is None


def table(folder: Path, *rows: str) -> Path:
    path = folder / "nouns.tsv.gz"
    path.write_bytes(gzip.compress("\n".join(["wnid\tnames\tspanish\thypernyms\tgloss", *rows]).encode()))
    return path


def test_words_get_the_names_of_their_synset(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# a comment\nfrisbee\tn7\n")
    nouns = table(tmp_path, "n1\tdisc\t\t\ta", "n7\tFrisbee|disc\tfrisbee|disco\tn1\tb")
    assert words.read_words(tmp_path / "words.txt", nouns) == [
        words.Word("frisbee", "n7", ("frisbee", "disc"), "frisbee")
    ]


def test_a_synset_of_another_word_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("frisbee\tn1\n")
    with pytest.raises(SystemExit, match="n1 has no name 'frisbee'"):
        words.read_words(tmp_path / "words.txt", table(tmp_path, "n1\tdisc\t\t\ta"))


def test_the_list_that_ships_has_sixty_words() -> None:
    lines = [line for line in words.WORDS.read_text("utf-8").splitlines() if not line.startswith("#")]
    entries = [line.split("\t") for line in lines]
    assert len({text for text, _ in entries}) == len({wnid for _, wnid in entries}) == len(entries) == 60


@pytest.mark.shared
def test_each_word_is_a_name_of_its_synset(shared: Any) -> None:
    entries = words.read_words(words.WORDS, shared / "data" / "wordnet-nouns.tsv.gz")
    assert words.shared_names(entries) == {"bike"}
    assert next(entry for entry in entries if entry.text == "dog").spanish == "perro"


class Colours:
    """Embeds a picture by its mean colour, and a text by its colour words."""

    identity, dim, input_size, logit_scale, logit_bias = "colours", 3, 8, 1.0, 0.0

    def encode_images(self, images: Sequence[Image.Image]) -> Any:
        return self.unit([np.asarray(image).reshape(-1, 3).mean(0) + 1 for image in images])

    def encode_texts(self, texts: Sequence[str]) -> Any:
        return self.unit(
            [[1 + 9 * ("red" in t), 1 + 9 * ("green" in t), 1 + 9 * ("blue" in t)] for t in texts]
        )

    def unit(self, rows: Any) -> Any:
        values = np.asarray(rows, dtype=np.float32)
        return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_pictures_are_indexed_and_searched(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number, colour in enumerate(("red", "green", "blue", "navy")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / "pictures" / f"{number}.png")
    queries = [("blue", {2, 3}), ("red", {2}), ("green", set[int]())]
    answers = words.search_all(Colours(), tmp_path / "pictures", tmp_path / "catalog", queries)
    assert [answer.precision for answer in answers] == [1.0, 0.0, None]


def answers(*values: float) -> dict[str, words.Answer]:
    return {name: words.Answer(value, value > 0) for name, value in zip("abcd", values, strict=False)}


def test_the_table_fits_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    entries = [words.Word(name, f"n{name}", (name,), "hockey sobre hielo" * (name == "a")) for name in "abcd"]
    models = [
        words.ModelAnswers(
            f"runs/{number}", "toy", "sha256:" + "0" * 64, answers(*values), answers(values[0])
        )
        for number, values in enumerate(((0.5, 0.0, 0.25, 0.25), (1.0, 0.5, 0.5, 1.0), (0.0, 0.0, 0.0, 0.0)))
    ]
    words.print_table(entries, {name: {1, 2} for name in "abcd"}, models)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    figures = words.summary(models)
    assert figures["mean precision, 4 words"] == [0.25, 0.75, 0.0]
    assert figures["find nothing, of 4 words"] == [1, 0, 4]
    assert figures["Spanish / English"][:2] == [1.0, 1.0]
    gap = words.differences(models)["B - A, english"]
    assert gap.value == 0.5
    assert gap.low is not None
    assert gap.high is not None
    assert 0.25 <= gap.low <= gap.value <= gap.high <= 0.75
