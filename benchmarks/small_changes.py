"""Small changes in large pictures: which pairs are still called one, at 256 pixels and looked at closer.

    python benchmarks/small_changes.py [--each 60]

Copies are saved again as `planted_copies.py` does it: collages of real pictures, drawn screenshots and pages,
900 to 2,400 pixels wide. Changes are a line, a word or a digit of drawn text, a clock and a dot in a collage;
the changed one is saved as PNG or JPEG, or at half the size. Counted are pairs that are called the same
picture: of copies all should be, of changes none.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from common import arguments, machine
from PIL import Image, ImageDraw, ImageFont
from planted_copies import SAME, Random, pictures_of, saved

from diptych.matching.detail_view import DetailView, confirm_same_image
from diptych.matching.parts import GreyThumbnail, small_grey
from diptych.matching.pixels import Thumbnail
from diptych.matching.verdicts import judge_pair, screen_pair
from diptych.media import load_image

PACKS = ("flickr8k-train-000001.tar", "flickr8k-train-000002.tar", "imagenet-sample-1000.tar")
SIZES = ((900, 600), (1200, 900), (1600, 1200), (1920, 1080), (2400, 1600))
WORDS = (
    *("yes", "no", "agree", "refuse", "please", "send", "report", "today", "tomorrow", "never", "always"),
    *("invoice", "paid", "unpaid", "total", "amount", "due", "meeting", "noon", "cancel", "confirm", "hello"),
    *("thanks", "later", "left", "right", "open", "closed", "window", "account", "balance", "transfer"),
)
TILE = (240, 180)


def main() -> None:
    """Make, change, save, count."""
    parser = arguments(__doc__)
    parser.add_argument("--each", type=int, default=60, help="pairs of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    tiles = pictures_of([options.shared / "data" / pack for pack in PACKS])
    walls = [collage(tiles, random) for _ in range(max(options.each // 3, 1))]
    print(machine())
    print(f"\n{'':<28} {'pairs':>6} {'at 256 px':>10} {'closer':>8}")
    for kind in SAME:
        sources = [drawn(walls, random)[0] for _ in range(options.each)]
        report(f"copies: {kind}", [(one, SAME[kind](one, random)[0]) for one in sources])
    for kind in ("line", "word", "digit", "clock", "dot"):
        pairs = [changed(kind, walls, random) for _ in range(options.each)]
        report(f"changed: {kind}", [(a, stored(b, random)) for a, b in pairs])
        report("  at half the size", [(a, stored(b, random, half=True)) for a, b in pairs])


def report(what: str, pairs: list[tuple[Image.Image, bytes]]) -> None:
    """How many of these pairs are called the same picture, the second loaded as a catalogue would."""
    told = [same(one, load_image(data)) for one, data in pairs]
    print(
        f"{what:<28} {len(pairs):>6} {sum(first for first, _ in told):>10} {sum(last for _, last in told):>8}"
    )


def same(a: Image.Image, b: Image.Image) -> tuple[bool, bool]:
    """Whether two are called the same picture, by the first look, and by the closer one."""
    looks = [Thumbnail.of(one) for one in (a, b)]
    glances = [GreyThumbnail(small_grey(look)) for look in looks]
    verdict = judge_pair(looks[0], looks[1], screen_pair(glances[0], glances[1], parts=False))
    if verdict is None or verdict.tier != "picture":
        return False, False
    return True, confirm_same_image(verdict, DetailView.of(a), DetailView.of(b)).tier == "picture"


def stored(image: Image.Image, random: Random, *, half: bool = False) -> bytes:
    """PNG, or JPEG of quality 40 to 95."""
    if half:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    return (
        saved(image, quality=int(random.integers(40, 96)))[0]
        if random.integers(2)
        else saved(image, "PNG")[0]
    )


# --------------------------------------------------------------------------------------------- pictures


def drawn(walls: list[Image.Image], random: Random) -> tuple[Image.Image, list[tuple[int, int, str]], int]:
    """A collage, a screenshot or a page; its lines as (x, y, text), and the size of its letters."""
    which = int(random.integers(3))
    if which == 0:
        return walls[int(random.integers(len(walls)))], [], 0
    return screenshot(random) if which == 1 else page(random)


def collage(tiles: Iterator[tuple[str, bytes]], random: Random) -> Image.Image:
    """Pictures beside each other at their own size, as rich in detail as any photograph."""
    size = SIZES[int(random.integers(len(SIZES)))]
    parts = [Image.open(io.BytesIO(next(tiles)[1])).convert("RGB").resize(TILE) for _ in range(12)]
    wall, columns = Image.new("RGB", size), -(-size[0] // TILE[0])
    for number in range(columns * -(-size[1] // TILE[1])):
        wall.paste(parts[number * 5 % 12], (number % columns * TILE[0], number // columns * TILE[1]))
    return wall


def words(random: Random, count: int) -> str:
    """So many."""
    return " ".join(WORDS[int(number)] for number in random.integers(0, len(WORDS), count))


def screenshot(random: Random) -> tuple[Image.Image, list[tuple[int, int, str]], int]:
    """A window of 1920 x 1080 with a bar, a list and lines of 12 to 21 pixels, light or dark."""
    dark, letters = bool(random.integers(2)), int(random.integers(12, 22))
    image = Image.new("RGB", (1920, 1080), (30, 30, 34) if dark else "white")
    pen, ink = ImageDraw.Draw(image), (220, 220, 220) if dark else (20, 20, 20)
    pen.rectangle((0, 0, 1920, 40), fill=(60, 90, 160))
    pen.rectangle((0, 41, 260, 1080), fill=(44, 46, 52) if dark else (236, 238, 242))
    lines = [
        (300, y, words(random, int(random.integers(4, 14)))) for y in range(70, 1040, int(letters * 1.9))
    ]
    for x, y, text in lines:
        pen.text((16, y), words(random, 2), fill=ink, font_size=letters)
        pen.text((x, y), text, fill=ink, font_size=letters)
    return image, lines, letters


def page(random: Random) -> tuple[Image.Image, list[tuple[int, int, str]], int]:
    """A page of 1240 x 1754, A4 at 150 dots an inch, with a sum below; letters of 16 to 25 pixels."""
    letters = int(random.integers(16, 26))
    image = Image.new("RGB", (1240, 1754), (250, 249, 246))
    pen = ImageDraw.Draw(image)
    lines = [(100, y, words(random, 9)) for y in range(200, 1600, int(letters * 1.6))]
    lines.append((900, 1660, f"Total: {random.integers(1000, 9999):,}.50"))
    for x, y, text in lines:
        pen.text((x, y), text, fill=(25, 25, 25), font_size=letters)
    return image, lines, letters


def changed(kind: str, walls: list[Image.Image], random: Random) -> tuple[Image.Image, Image.Image]:
    """A picture, and the same with something small in it changed."""
    if kind in ("clock", "dot"):
        return _in_collage(kind, walls[int(random.integers(len(walls)))], random)
    image, lines, letters = page(random) if kind == "digit" else screenshot(random)
    x, y, text = lines[-1 if kind == "digit" else int(random.integers(len(lines)))]
    new = list(text) if kind == "digit" else text.split(" ")
    if kind == "digit":
        new[7] = str((int(new[7]) + int(random.integers(1, 9))) % 10)
    elif kind == "word":
        at = int(random.integers(len(new)))
        new[at] = WORDS[(WORDS.index(new[at]) + int(random.integers(1, len(WORDS)))) % len(WORDS)]
    else:
        new = words(random, 6).split(" ")
    other = image.copy()
    pen, ground = ImageDraw.Draw(other), image.getpixel((x - 6, y))
    pen.rectangle((x - 2, y - 2, other.width, y + letters * 1.4), fill=ground)
    ink = (
        (220, 220, 220) if isinstance(ground, tuple) and ground[0] < 99 else (25 - 5 * (kind != "digit"),) * 3
    )
    pen.text((x, y), ("" if kind == "digit" else " ").join(new), fill=ink, font_size=letters)
    return image, other


def _in_collage(kind: str, wall: Image.Image, random: Random) -> tuple[Image.Image, Image.Image]:
    one, other = wall.copy(), wall.copy()
    if kind == "dot":
        side = int(random.integers(16, 41))
        x, y = int(random.integers(wall.width - side)), int(random.integers(wall.height - side))
        fill = tuple(int(value) for value in random.integers(0, 256, 3))
        ImageDraw.Draw(other).ellipse((x, y, x + side, y + side), fill=fill)
        return one, other
    letters, second = int(random.integers(14, 25)), int(random.integers(10))
    for image, shown in ((one, second), (other, (second + 1 + int(random.integers(8))) % 10)):
        ImageDraw.Draw(image).text(
            (20, 20),
            f"12:04:3{shown}",
            fill="white",
            font=ImageFont.load_default(letters),
            stroke_width=1,
            stroke_fill="black",
        )
    return one, other


if __name__ == "__main__":
    main()
