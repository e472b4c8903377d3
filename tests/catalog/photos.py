"""Synthetic pictures with the statistics of photographs: structure at every scale, drawn from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

Size = tuple[int, int]


def photo(seed: int, size: Size = (160, 120)) -> Image.Image:
    """A picture with light and shade, shapes and grain; different seeds share no detail."""
    random = np.random.default_rng(seed)
    pixels = np.full((size[1], size[0], 3), 128.0)
    for cells, strength in ((2, 70), (5, 45), (11, 30), (23, 20), (47, 12)):
        noise = random.normal(0, strength / 2, (cells, cells, 3)) + random.normal(
            0, strength, (cells, cells, 1)
        )
        noise = np.clip(noise + 128, 0, 255).astype(np.uint8)
        pixels += np.asarray(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC), np.float64) - 128
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, wide, high = random.integers(0, [size[0], size[1], size[0] // 3, size[1] // 3])
        pen.ellipse((x, y, x + wide, y + high), fill=tuple(int(item) for item in random.integers(40, 216, 3)))
    return image.filter(ImageFilter.GaussianBlur(0.8))  # no lens draws sharper edges


def cut(image: Image.Image) -> Image.Image:
    """A crop of a little more than half of the area."""
    width, height = image.size
    return image.crop((width // 8, height // 5, width // 8 + width * 3 // 4, height // 5 + height * 3 // 4))


def framed(image: Image.Image) -> Image.Image:
    """The picture with a border of one colour."""
    return ImageOps.expand(image, image.width // 10, (200, 30, 40))


def written_over(image: Image.Image) -> Image.Image:
    """The picture with a line of large letters on it."""
    over = image.copy()
    pen = ImageDraw.Draw(over)
    pen.text(
        (12, image.height // 2), "Greetings", fill="white", font_size=24, stroke_width=2, stroke_fill="black"
    )
    return over


def collage(images: list[Image.Image]) -> Image.Image:
    """Four pictures in one."""
    width, height = images[0].size
    wall = Image.new("RGB", (2 * width, 2 * height))
    for number, image in enumerate(images):
        wall.paste(image, (number % 2 * width, number // 2 * height))
    return wall


def with_ball(image: Image.Image, x: int) -> Image.Image:
    """The picture with a ball at x."""
    moment, ball = image.copy(), photo(77, (30, 30))
    moment.paste(ball, (x, image.height // 2))
    return moment


def save(path: Path, image: Image.Image, **how: object) -> Path:
    """Save a picture in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **how)  # type: ignore[arg-type]
    return path
