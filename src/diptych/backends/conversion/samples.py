"""Synthetic images and texts for comparing runtimes, generated from a seed.

Photographs of the user are better (`diptych export --calibrate`). The default is the "dead leaves" model:
discs and blocks that occlude one another, with sizes by a power law, plus noise whose spectrum falls with
frequency. Statistics of edges, shading and colours are similar to those of photographs (Lee, Mumford and
Huang 2001, "Occlusion models for natural images"). No torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

# Typical search queries, short and long, and prompts of classifiers.
TEXTS = (
    "a dog", "a cat", "a photo of a dog.", "a photo of a cat.", "a photo of the number seven.",
    "two children playing in the snow", "a dog running on the beach with a ball in its mouth",
    "a man in a red jacket climbing a rock", "a crowd of people at a concert at night",
    "a woman reading a newspaper on a bench", "sunset over the sea", "mountains",
    "birthday cake with candles", "a plate of food on a wooden table", "an empty street in the rain",
    "a blue car parked in front of a house", "a bicycle leaning against a brick wall",
    "a close-up of a flower", "a black and white portrait of an old man",
    "a group photo of a football team on the grass", "a whiteboard full of notes", "receipt",
    "screenshot of a chat", "a map of the city", "a child's drawing of a house and a tree",
    "an airplane taking off", "a train crossing a bridge over a river in autumn",
    "a bird sitting on a branch", "cows on a green field", "a surfer riding a large wave",
    "a girl in a white dress blowing bubbles while her brother watches from the stairs of the old house",
    "something blurry", "a sign that says stop", "the inside of a church",
    "a satellite picture of farmland", "a chest X-ray", "a laptop and a cup of coffee", "fireworks",
    "a baby asleep in a blanket", "nothing in particular",
)  # fmt: skip


def synthetic_images(count: int, *, side: int = 256, seed: int = 0) -> list[Image.Image]:
    """Generate varied RGB images from a seed.

    Examples
    --------
    >>> first, second = synthetic_images(2, side=32)
    >>> again = synthetic_images(1, side=32)[0]
    >>> first.size, first.tobytes() == second.tobytes(), first.tobytes() == again.tobytes()
    ((32, 32), False, True)
    """
    return [_dead_leaves(np.random.default_rng((seed, number)), side) for number in range(count)]


def _dead_leaves(random: np.random.Generator, side: int) -> Image.Image:
    """Overlapping shapes with texture, a lighting gradient and sensor noise."""
    picture = Image.new("RGB", (side, side), _colour(random))
    pen = ImageDraw.Draw(picture)
    smallest = side / 64
    for _ in range(int(random.integers(4, 300))):
        # Radii with density r^-3 (inverse transform sampling) are scale-invariant: most are small, a few
        # large.
        radius = min(smallest * (1 - random.random() * (1 - (2 * smallest / side) ** 2)) ** -0.5, side / 2)
        x, y = random.random(2) * side
        wide, high = radius * random.uniform(0.4, 1, 2)
        box = (x - wide, y - high, x + wide, y + high)
        (pen.ellipse if random.random() < 0.7 else pen.rectangle)(box, fill=_colour(random))
    pixels = np.asarray(picture, np.float32)  # (S, S, 3)
    texture = _cloud(random, side, random.uniform(0.8, 1.6))[..., None] * random.uniform(5, 40)
    light = 1 + random.uniform(0, 0.6) * (np.linspace(-0.5, 0.5, side, dtype=np.float32)[:, None, None])
    noise = random.normal(0, random.uniform(0, 6), pixels.shape).astype(np.float32)
    return Image.fromarray(np.clip(pixels * light + texture + noise, 0, 255).astype(np.uint8))


def _colour(random: np.random.Generator) -> tuple[int, int, int]:
    """Random colour of low saturation, as in most photographs."""
    grey, tint = random.uniform(20, 235), random.normal(0, 30, 3)
    red, green, blue = np.clip(grey + tint, 0, 255).astype(int).tolist()
    return red, green, blue


def _cloud(random: np.random.Generator, side: int, fall: float) -> NDArray[np.float32]:
    """Noise with amplitude 1 / frequency^`fall`, mean 0 and standard deviation 1, (S, S)."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) * side
    spectrum = np.fft.rfft2(random.normal(size=(side, side))) / np.maximum(frequency, 1) ** fall
    spectrum[0, 0] = 0  # the mean
    cloud = np.fft.irfft2(spectrum, (side, side))
    return np.asarray(cloud / cloud.std(), np.float32)
