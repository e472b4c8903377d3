"""Plant copies among real pictures, as ground truth for `duplicates.py`.

The kinds are common edits: saved again at another quality or size, rotated by an EXIF tag, mirrored, cropped,
framed, with text, in a collage. Pictures that are merely similar come from videos.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

Random = np.random.Generator
Saved = tuple[bytes, str]  # a file's bytes and its suffix
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class PlantedCopy:
    """A planted file, its kind and tier, and the files it was made of."""

    name: str
    kind: str
    tier: str
    sources: tuple[str, ...]


def pictures_of(packs: list[Path]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every JPEG in these archives, in their order."""
    for pack in packs:
        with tarfile.open(pack) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.name.endswith(".jpg") else None
                if file is not None:
                    yield f"{pack.name.split('.')[0]}/{member.name.replace('/', '_')}", file.read()


def saved(image: Image.Image, kind: str = "JPEG", **how: object) -> Saved:
    """Encode a picture in this format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue(), {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}[kind]


# ------------------------------------------------------------------------------------------ same picture


def recompressed(image: Image.Image, random: Random) -> Saved:
    """JPEG of quality 30 to 95."""
    return saved(image, quality=int(random.integers(30, 96)))


def resized(image: Image.Image, random: Random) -> Saved:
    """A quarter to twice as wide and high."""
    factor = float(np.exp(random.uniform(np.log(0.25), np.log(2))))
    size = max(round(image.width * factor), 8), max(round(image.height * factor), 8)
    return saved(image.resize(size, Image.Resampling.LANCZOS), quality=85)


def png(image: Image.Image, random: Random) -> Saved:
    """The same pixels."""
    return saved(image, "PNG")


def webp(image: Image.Image, random: Random) -> Saved:
    """WebP of quality 50 to 90."""
    return saved(image, "WEBP", quality=int(random.integers(50, 91)))


def turned_by_exif(image: Image.Image, random: Random) -> Saved:
    """Rotated pixels with the EXIF orientation that rights them."""
    tag, turn = [(6, 90), (3, 180), (8, 270)][int(random.integers(3))]
    exif = Image.Exif()
    exif[_ORIENTATION] = tag
    return saved(image.rotate(turn, expand=True), quality=90, exif=exif)


def mirrored(image: Image.Image, random: Random) -> Saved:
    """Left for right."""
    return saved(ImageOps.mirror(image), quality=int(random.integers(70, 96)))


# ------------------------------------------------------------------------------------------- part of it


def cropped(image: Image.Image, random: Random) -> Saved:
    """Half to nine tenths of the area, anywhere in it."""
    area, stretch = random.uniform(0.5, 0.9), np.exp(random.uniform(-0.15, 0.15))
    width = min(round(image.width * np.sqrt(area) * stretch), image.width)
    height = min(round(area * image.width * image.height / width), image.height)
    left, top = random.integers(0, image.width - width + 1), random.integers(0, image.height - height + 1)
    return saved(image.crop((left, top, left + width, top + height)), quality=int(random.integers(70, 96)))


def framed(image: Image.Image, random: Random) -> Saved:
    """A border of one colour, 4 to 15 per cent of the longer side."""
    border = round(max(image.size) * random.uniform(0.04, 0.15))
    colour = tuple(int(value) for value in random.integers(0, 256, 3))
    return saved(ImageOps.expand(image, border, colour), quality=85)


def written_over(image: Image.Image, random: Random) -> Saved:
    """Two lines of text as on a postcard, across an eighth to a quarter of the height."""
    result = image.copy()
    canvas = ImageDraw.Draw(result)
    font = ImageFont.load_default(round(image.height * random.uniform(0.08, 0.12)))
    position = (image.width * 0.05, image.height * random.uniform(0.05, 0.7))
    text = "Greetings from\nthe seaside 2019"
    canvas.multiline_text(position, text, fill="white", font=font, stroke_width=1, stroke_fill="black")
    return saved(result, quality=85)


def marked(image: Image.Image, random: Random) -> Saved:
    """A half transparent mark in a corner, a tenth of the area."""
    side = round((0.1 * image.width * image.height) ** 0.5)
    mark = Image.new("RGBA", image.size)
    left, top = [int(random.integers(2)) * (length - side) for length in image.size]
    canvas = ImageDraw.Draw(mark)
    canvas.ellipse(
        (left, top, left + side, top + side), fill=(255, 255, 255, 150), outline=(0, 0, 0, 200), width=2
    )
    return saved(Image.alpha_composite(image.convert("RGBA"), mark).convert("RGB"), quality=85)


SAME: dict[str, Callable[[Image.Image, Random], Saved]] = {
    "JPEG 30-95": recompressed,
    "0.25-2 x": resized,
    "PNG": png,
    "WebP": webp,
    "EXIF": turned_by_exif,
    "mirrored": mirrored,
}
PART: dict[str, Callable[[Image.Image, Random], Saved]] = {
    "crop": cropped,
    "frame": framed,
    "text": written_over,
    "mark": marked,
}


def mosaic(images: list[Image.Image], random: Random) -> Saved:
    """Four pictures as one of two by two."""
    side = max(max(image.size) for image in images)
    wall = Image.new("RGB", (2 * side, 2 * side))
    for number, image in enumerate(images):
        fitted = (
            ImageOps.fit(image, (side, side))
            if image.width == image.height
            else ImageOps.pad(image, (side, side))
        )
        wall.paste(fitted, (number % 2 * side, number // 2 * side))
    return saved(wall, quality=int(random.integers(75, 96)))


def plant_copies(folder: Path, pictures: dict[str, bytes], *, each: int, seed: int) -> list[PlantedCopy]:
    """Write the pictures and `each` copies of every kind into a folder; return the copies."""
    for name, data in pictures.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    random = np.random.default_rng(seed)
    names = [str(name) for name in random.permutation(sorted(pictures))]
    done: list[PlantedCopy] = []

    def put(data: bytes, suffix: str, kind: str, tier: str, sources: list[str]) -> None:
        path = folder / "planted" / f"{len(done):05d}{suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        done.append(PlantedCopy(str(path.relative_to(folder)), kind, tier, tuple(sources)))

    def opened(name: str) -> Image.Image:
        return Image.open(io.BytesIO(pictures[name])).convert("RGB")

    for _ in range(each):
        source = names.pop()
        put(pictures[source], Path(source).suffix, "same bytes", "bytes", [source])
        for tier, kinds in (("picture", SAME), ("part", PART)):
            for kind, make in kinds.items():
                source = names.pop()
                put(*make(opened(source), random), kind, tier, [source])
        sources = [names.pop() for _ in range(4)]
        put(*mosaic([opened(name) for name in sources], random), "mosaic", "part", sources)
    return done
