"""Small changes in large pictures: pairs called the same at 256 pixels and at high resolution.

    python benchmarks/small_changes.py [--each 60]

The images are collages of real pictures, generated screenshots and pages, 900 to 2,400 pixels wide. Copies
are saved again as `planted_copies.py` does it. Changes are a line, a word or a digit of rendered text, a
clock, and a dot in a collage; the changed image is saved as PNG or JPEG, or at half the size. The output
counts pairs that are classified as the same image: it should be all copies and no changes.
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
    """Generate pictures, change and save them, count verdicts."""
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
        report(f"copies: {kind}", [(image, SAME[kind](image, random)[0]) for image in sources])
    for kind in ("line", "word", "digit", "clock", "dot"):
        pairs = [changed(kind, walls, random) for _ in range(options.each)]
        report(f"changed: {kind}", [(a, stored(b, random)) for a, b in pairs])
        report("  at half the size", [(a, stored(b, random, half=True)) for a, b in pairs])


def report(name: str, pairs: list[tuple[Image.Image, bytes]]) -> None:
    """Print how many pairs are called the same picture; the second is loaded as by a catalogue."""
    verdicts = [same(image, load_image(data)) for image, data in pairs]
    low, high = (sum(each) for each in zip(*verdicts, strict=True))
    print(f"{name:<28} {len(pairs):>6} {low:>10} {high:>8}")


def same(a: Image.Image, b: Image.Image) -> tuple[bool, bool]:
    """Whether two images are called the same, at 256 pixels and at high resolution."""
    thumbnails = [Thumbnail.of(image) for image in (a, b)]
    grey_thumbnails = [GreyThumbnail(small_grey(thumbnail)) for thumbnail in thumbnails]
    verdict = judge_pair(
        thumbnails[0], thumbnails[1], screen_pair(grey_thumbnails[0], grey_thumbnails[1], parts=False)
    )
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
    """Random words."""
    return " ".join(WORDS[int(number)] for number in random.integers(0, len(WORDS), count))


def screenshot(random: Random) -> tuple[Image.Image, list[tuple[int, int, str]], int]:
    """A window of 1920 x 1080 with a bar, a list and lines of 12 to 21 pixels, light or dark."""
    dark, letters = bool(random.integers(2)), int(random.integers(12, 22))
    image = Image.new("RGB", (1920, 1080), (30, 30, 34) if dark else "white")
    canvas, colour = ImageDraw.Draw(image), (220, 220, 220) if dark else (20, 20, 20)
    canvas.rectangle((0, 0, 1920, 40), fill=(60, 90, 160))
    canvas.rectangle((0, 41, 260, 1080), fill=(44, 46, 52) if dark else (236, 238, 242))
    lines = [
        (300, y, words(random, int(random.integers(4, 14)))) for y in range(70, 1040, int(letters * 1.9))
    ]
    for x, y, text in lines:
        canvas.text((16, y), words(random, 2), fill=colour, font_size=letters)
        canvas.text((x, y), text, fill=colour, font_size=letters)
    return image, lines, letters


def page(random: Random) -> tuple[Image.Image, list[tuple[int, int, str]], int]:
    """A page of 1240 x 1754, A4 at 150 dots an inch, with a sum below; letters of 16 to 25 pixels."""
    letters = int(random.integers(16, 26))
    image = Image.new("RGB", (1240, 1754), (250, 249, 246))
    canvas = ImageDraw.Draw(image)
    lines = [(100, y, words(random, 9)) for y in range(200, 1600, int(letters * 1.6))]
    lines.append((900, 1660, f"Total: {random.integers(1000, 9999):,}.50"))
    for x, y, text in lines:
        canvas.text((x, y), text, fill=(25, 25, 25), font_size=letters)
    return image, lines, letters


def changed(kind: str, walls: list[Image.Image], random: Random) -> tuple[Image.Image, Image.Image]:
    """A picture, and a copy with a small change."""
    if kind in ("clock", "dot"):
        return _in_collage(kind, walls[int(random.integers(len(walls)))], random)
    image, lines, letters = page(random) if kind == "digit" else screenshot(random)
    x, y, text = lines[-1 if kind == "digit" else int(random.integers(len(lines)))]
    new = list(text) if kind == "digit" else text.split(" ")
    if kind == "digit":
        new[7] = str((int(new[7]) + int(random.integers(1, 9))) % 10)
    elif kind == "word":
        index = int(random.integers(len(new)))
        new[index] = WORDS[(WORDS.index(new[index]) + int(random.integers(1, len(WORDS)))) % len(WORDS)]
    else:
        new = words(random, 6).split(" ")
    other = image.copy()
    canvas, background = ImageDraw.Draw(other), image.getpixel((x - 6, y))
    canvas.rectangle((x - 2, y - 2, other.width, y + letters * 1.4), fill=background)
    colour = (
        (220, 220, 220)
        if isinstance(background, tuple) and background[0] < 99
        else (25 - 5 * (kind != "digit"),) * 3
    )
    canvas.text((x, y), ("" if kind == "digit" else " ").join(new), fill=colour, font_size=letters)
    return image, other


def _in_collage(kind: str, wall: Image.Image, random: Random) -> tuple[Image.Image, Image.Image]:
    original, other = wall.copy(), wall.copy()
    if kind == "dot":
        side = int(random.integers(16, 41))
        x, y = int(random.integers(wall.width - side)), int(random.integers(wall.height - side))
        fill = tuple(int(value) for value in random.integers(0, 256, 3))
        ImageDraw.Draw(other).ellipse((x, y, x + side, y + side), fill=fill)
        return original, other
    letters, second = int(random.integers(14, 25)), int(random.integers(10))
    for image, shown in ((original, second), (other, (second + 1 + int(random.integers(8))) % 10)):
        ImageDraw.Draw(image).text(
            (20, 20),
            f"12:04:3{shown}",
            fill="white",
            font=ImageFont.load_default(letters),
            stroke_width=1,
            stroke_fill="black",
        )
    return original, other


if __name__ == "__main__":
    main()
