"""`diptych demo`: its labels, the accuracy, and the contact sheet as PNG and as HTML."""

from __future__ import annotations

import html.parser
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import Result

from diptych.audits.labels.label_words import labels_containing, text_warnings, words_of
from diptych.cli.classify.contact_sheet import GUTTER, MARGIN, SIDE, Card, Sheet, draw, render
from diptych.cli.classify.demo import SampleAccuracy, demo_labels, sample_accuracy
from diptych.cli.shared.labels import prompt, prompts_for
from diptych.zeroshot import ZeroShotClassifier

Run = Callable[..., Result]


def sheet(count: int = 5, label: str = "a cat") -> Sheet:
    picture = Image.new("RGB", (60, 40), "orange")
    cards = [
        Card(f"{n}.jpg", picture, ((label, 90.0), ("a dog", 9.0), ("a boat", 0.4))) for n in range(count)
    ]
    return Sheet("Pictures", "named", "by words", cards)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_the_drawing_has_room_for_every_card(count: int) -> None:
    drawn = draw(sheet(count))
    columns = min(4, count)
    assert drawn.width >= 2 * MARGIN + columns * SIDE + (columns - 1) * GUTTER
    # A pixel in the middle of each picture has its colour.
    for n in range(count):
        row, column = divmod(n, columns)
        height = (drawn.height - 346) // -(-count // columns)
        spot = (MARGIN + column * (SIDE + GUTTER) + SIDE // 2, 236 + row * height + SIDE // 2)
        assert drawn.getpixel(spot) == (255, 165, 0)


def test_long_and_strange_labels_fit() -> None:
    wide = draw(sheet(label="a very long label " * 20))
    assert wide.size == draw(sheet()).size
    draw(sheet(label="猫 \x1b[31m"))


class Page(html.parser.HTMLParser):
    """Count the elements that a browser would show."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_the_page_is_one_file_and_escapes_labels() -> None:
    page = Page()
    text = render(sheet(label="<script>alert(1)</script> $title"))
    page.feed(text)
    assert page.tags.count("figure") == 5
    assert "script" not in page.tags
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert "http" not in text
    assert "$title" in text  # from the label; the texts of the page itself are filled in
    assert "$cards" not in text


def test_the_labels_are_40_plain_words_that_offend_nobody() -> None:
    labels = demo_labels()
    words = [label.word for label in labels]
    assert len(labels) == len(set(words)) == len({label.sentence for label in labels}) == 40
    assert all(word.isalpha() and word.islower() for word in words)
    assert all(label.word in words_of(label.sentence) for label in labels)
    assert sum(bool(label.picture) for label in labels) == 8
    # No people, crimes, animals that are insults, words of two meanings, or labels that overlap.
    assert text_warnings(words) == []
    kinds = ("origin", "crime", "non_human", "derogatory")
    assert labels_containing([label.sentence for label in labels], kinds) == ()


@dataclass
class ToyReader:
    """Sees in a picture of colour (n, 0, 0) label n; of words it takes the first for the second."""

    identity: str = "toy:reader"
    dim: int = 40
    input_size: int = 8
    logit_scale: float = 20.0
    logit_bias: float = 0.0

    def encode_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        return np.eye(40, dtype=np.float32)[[image.getpixel((0, 0))[0] for image in images]]  # type: ignore[index]

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        sentences = [label.sentence for label in demo_labels()]
        prompts = [prompt(label.word) for label in demo_labels()]
        prompts[:2] = prompts[1::-1]
        return np.eye(40, dtype=np.float32)[
            [(sentences if text in sentences else prompts).index(text) for text in texts]
        ]


def test_accuracy_counts_words_and_sentences() -> None:
    encoder, words = ToyReader(), [label.word for label in demo_labels()]
    classifier = ZeroShotClassifier(encoder, templates=None).fit(prompts_for(words))
    pictures = [Image.new("RGB", (8, 8), (number, 0, 0)) for number in range(8)]
    pictures[7] = Image.new("RGB", (8, 8), (39, 0, 0))  # the horse looks like the last label
    cards = [
        Card(f"/somewhere/{label.picture}", picture, tuple(classifier.top(picture, 3)[0]))
        for label, picture in zip(demo_labels(), pictures, strict=False)
    ]
    assert [card.scores[0][0] for card in cards] == [words[1], words[0], *words[2:7], words[39]]
    accuracy = sample_accuracy(encoder, cards)
    assert accuracy == SampleAccuracy(pictures=8, labels=40, words=5, sentences=7)
    assert accuracy.text == "5 of 8 right with single words, 7 of 8 with sentences; chance is 0.2."


def test_demo_on_the_samples(run: Run) -> None:
    """The form only: how many are right depends on the default model."""
    done = run("demo", "--out", "sheet")
    assert done.exit_code == 0, done.stderr
    with Image.open("sheet/contact-sheet.png") as drawn:
        assert drawn.width > 1000
    page = Path("sheet/contact-sheet.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 8
    assert "8 pictures, classified by labels in words" in page
    assert "Each picture was compared with 40 labels; the best 3 are shown." in page
    assert done.stderr.count("  diptych ") == 3  # suggestions of next commands
    stated = re.search(
        r"([0-8]) of 8 right with single words, [0-8] of 8 with sentences; chance is 0\.2\.",
        " ".join(done.stdout.split()),
    )
    assert stated
    word_of = {label.picture: label.word for label in demo_labels() if label.picture}
    lines = [
        line.split() for line in done.stdout.splitlines() if line.split()[:1] and line.split()[0] in word_of
    ]
    assert len(lines) == 8
    assert int(stated[1]) == sum(line[1] == word_of[line[0]] for line in lines)
    assert stated[0] in page


def test_demo_as_json(run: Run) -> None:
    done = run("demo", "--json", "--limit", 3)
    assert done.exit_code == 0, done.stderr
    assert "diptych classify" not in done.stderr
    result = json.loads(done.stdout)
    words = [label.word for label in demo_labels()]
    assert result["labels"] == words
    assert [picture["truth"] for picture in result["pictures"]] == words[:3]
    assert all(len(picture["top"]) == 3 for picture in result["pictures"])
    right = sum(picture["top"][0]["label"] == picture["truth"] for picture in result["pictures"])
    accuracy = result["accuracy"]
    assert (accuracy["pictures"], accuracy["labels"], accuracy["words"]) == (3, 40, right)
    assert 0 <= accuracy["sentences"] <= 3
    assert accuracy["chance"] == pytest.approx(0.075)
    assert result["failed"] == []
    assert [Path(path).is_file() for path in result["sheet"]] == [True, True]


def test_no_accuracy_without_known_labels(run: Run, tiny: Path, album: Path) -> None:
    assert " right with" not in run("demo", "-m", tiny, "--label", "a cat", "--label", "a dog").stdout
    (album / "broken.jpg").write_bytes(b"")
    done = run("demo", album, "-m", tiny, "--json")
    assert done.exit_code == 1
    result = json.loads(done.stdout)
    assert result["accuracy"] is None
    assert len(result["pictures"]) == 3
    assert {picture["truth"] for picture in result["pictures"]} == {None}
    assert [Path(failure["path"]).name for failure in result["failed"]] == ["broken.jpg"]
    # A person on a picture of the user must not be left with labels of things and animals only.
    assert result["labels"] == [*(label.word for label in demo_labels()), "person"]


def test_json_without_a_readable_picture(run: Run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"")
    done = run("demo", "broken.jpg", "-m", tiny, "--json")
    assert done.exit_code == 2
    result = json.loads(done.stdout)
    assert (result["pictures"], result["sheet"], len(result["failed"])) == ([], [], 1)
    assert not Path("out").exists()


def test_demo_on_one_s_own(run: Run, tiny: Path, album: Path) -> None:
    (album / "broken.jpg").write_bytes(b"")
    done = run("demo", album, "-l", "a beach", "-l", "a birthday", "-m", tiny)
    assert done.exit_code == 1
    assert "broken.jpg" in done.stderr
    assert Path("out/contact-sheet.html").read_text(encoding="utf-8").count("<figure>") == 3


def test_a_missing_extra_stops_no_demo(
    run: Run, tiny: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych import media
    from diptych.errors import MissingExtraError

    load = media.load_image

    def without_heif(source: object, **options: object) -> Image.Image:
        if str(source).endswith("b.png"):
            raise MissingExtraError("install diptych[heif]")
        return load(source, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(media, "load_image", without_heif)
    done = run("demo", album, "-l", "a beach", "-l", "a birthday", "-m", tiny)
    assert done.exit_code == 1
    assert "diptych[heif]" in done.stderr
    assert Path("out/contact-sheet.html").read_text(encoding="utf-8").count("<figure>") == 2
    assert sorted(path.name for path in Path("out").iterdir()) == ["contact-sheet.html", "contact-sheet.png"]
