"""`diptych demo`: the contact sheet, as PNG and as HTML."""

from __future__ import annotations

import html.parser
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

from diptych.cli.classify.contact_sheet import GUTTER, MARGIN, SIDE, Card, Sheet, draw, render
from diptych.cli.classify.demo import SAMPLES

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


def test_demo_on_the_samples(run: Run, tiny: Path) -> None:
    done = run("demo", "-m", tiny, "--out", "sheet")
    assert done.exit_code == 0, done.stderr
    with Image.open("sheet/contact-sheet.png") as drawn:
        assert drawn.width > 1000
    assert Path("sheet/contact-sheet.html").read_text(encoding="utf-8").count("<figure>") == 8
    assert "8 pictures, classified by labels in words" in Path("sheet/contact-sheet.html").read_text(
        encoding="utf-8"
    )
    assert done.stderr.count("  diptych ") == 3  # suggestions of next commands
    stated = re.search(
        r"([0-8]) of 8 right with these sentences, worded for the default model; ([0-8]) of 8 with single "
        r"words \(cat, coffee, woman, \.\.\.\); chance is 0\.7\.",
        " ".join(done.stdout.split()),
    )
    assert stated
    right = sum(
        line.split()[0] in SAMPLES and f"  {SAMPLES[line.split()[0]][0]}  " in line
        for line in done.stdout.splitlines()
        if line.strip()
    )
    assert int(stated[1]) == right
    assert stated[0].split(" with these")[0] in Path("sheet/contact-sheet.html").read_text(encoding="utf-8")
    assert " right with" not in run("demo", "-m", tiny, "--label", "a cat", "--label", "a dog").stdout


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
