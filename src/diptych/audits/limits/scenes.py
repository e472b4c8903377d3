"""Synthetic scenes: coloured shapes on a background, generated from a seed.

A scene is data; `draw` renders it, identically on every machine with the same version of Pillow. Scenes are
drawn at three times the size and averaged down, which smooths the edges. Lengths are fractions of the side
of the image; x points right, y points down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from diptych.errors import InputError

VERSION = 1  # part of every fingerprint: increase it when the drawing changes
SIDE = 224  # input size of the published models; the same for all models, to compare them
_SUPERSAMPLING = 3

# Colours with distinct common names that are far apart on a screen.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "green": (30, 150, 50),
    "blue": (30, 70, 220),
    "yellow": (245, 215, 30),
    "purple": (130, 40, 160),
    "orange": (245, 130, 20),
}
_GREYS = {"white": (255, 255, 255), "grey": (200, 200, 200)}


def _polygon(corners: int, turn: float, inner: float = 1.0) -> tuple[tuple[float, float], ...]:
    """Corners on the unit circle; every second one at radius `inner`."""
    angles = [math.radians(turn) + 2 * math.pi * i / corners for i in range(corners)]
    radii = [inner if i % 2 else 1.0 for i in range(corners)]
    return tuple((r * math.cos(a), r * math.sin(a)) for a, r in zip(angles, radii, strict=True))


def _heart() -> tuple[tuple[float, float], ...]:
    turns = [2 * math.pi * i / 60 for i in range(60)]
    return tuple(
        (
            math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 17 - 0.15,
        )
        for t in turns
    )


_ARM = 0.34
# Outlines inside the unit circle.
SHAPES: dict[str, tuple[tuple[float, float], ...]] = {
    "circle": _polygon(72, 0),
    "square": _polygon(4, 45),
    "triangle": _polygon(3, -90),
    "star": _polygon(10, -90, 0.42),
    "cross": tuple(
        (x, y)
        for x, y in (
            *((-_ARM, -0.94), (_ARM, -0.94), (_ARM, -_ARM), (0.94, -_ARM), (0.94, _ARM), (_ARM, _ARM)),
            *((_ARM, 0.94), (-_ARM, 0.94), (-_ARM, _ARM), (-0.94, _ARM), (-0.94, -_ARM), (-_ARM, -_ARM)),
        )
    ),
    "heart": _heart(),
}
BACKGROUNDS = ("plain", "stripes", "checks", "clouds")


@dataclass(frozen=True)
class SceneObject:
    """One shape in a scene.

    Attributes
    ----------
    shape, colour : str
        Names of `SHAPES` and `COLOURS`.
    x, y : float
        Centre.
    size : float
        Diameter of the enclosing circle.
    turn : float
        Rotation, clockwise in degrees.
    """

    shape: str
    colour: str
    x: float
    y: float
    size: float
    turn: float = 0.0

    @property
    def name(self) -> str:
        """Colour and shape.

        Examples
        --------
        >>> SceneObject("circle", "red", 0.5, 0.5, 0.2).name
        'red circle'
        """
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Objects on a background; later ones are drawn on top.

    Attributes
    ----------
    background : str
        One of `BACKGROUNDS`.
    seed : int
        Seed of the background pattern.
    horizon : float or None
        Ground below this height, for scenes with depth.
    """

    objects: tuple[SceneObject, ...]
    background: str = "plain"
    seed: int = 0
    horizon: float | None = None


def draw(scene: Scene, side: int = SIDE) -> Image.Image:
    """Render the scene as an image of `side` x `side` pixels.

    Raises
    ------
    InputError
        Unknown shape, colour or background.

    Examples
    --------
    >>> draw(Scene((SceneObject("circle", "red", 0.5, 0.5, 0.5),))).getpixel((112, 112))
    (220, 30, 30)
    """
    width = side * _SUPERSAMPLING
    picture = _background(scene, width)
    canvas = ImageDraw.Draw(picture)
    for item in scene.objects:
        if item.shape not in SHAPES or item.colour not in COLOURS:
            raise InputError(
                f"a {item.name} cannot be drawn: shapes are {', '.join(SHAPES)}; colours are "
                f"{', '.join(COLOURS)}"
            )
        canvas.polygon(_outline(item, width), fill=COLOURS[item.colour])
    return picture.reduce(_SUPERSAMPLING)


def random_positions(
    rng: np.random.Generator, sizes: Sequence[float], *, gap: float = 0.03
) -> list[tuple[float, float]]:
    """Random positions for objects of these sizes, without overlap.

    Parameters
    ----------
    sizes : sequence of float
        Diameters, as fractions of the side.
    gap : float
        Minimum distance between objects, and to the edge.

    Raises
    ------
    InputError
        The objects do not fit.

    Examples
    --------
    >>> (x, y), = random_positions(np.random.default_rng(0), [0.9])
    >>> 0.47 <= x <= 0.53
    True
    """
    order = np.argsort(-np.asarray(sizes), kind="stable")  # large objects first: small ones fit in between
    for _ in range(60):
        placed: dict[int, tuple[float, float]] = {}
        for index in order.tolist():
            position = _free(rng, sizes, placed, index, gap)
            if position is None:
                break
            placed[index] = position
        else:
            return [placed[index] for index in range(len(sizes))]
    raise InputError(
        f"{len(sizes)} objects of {min(sizes):.2f} to {max(sizes):.2f} of the side do not fit beside each "
        "other: draw fewer or smaller ones"
    )


def _free(
    rng: np.random.Generator,
    sizes: Sequence[float],
    placed: dict[int, tuple[float, float]],
    index: int,
    gap: float,
) -> tuple[float, float] | None:
    """Free position for one object beside those placed, or None after a hundred tries."""
    edge = sizes[index] / 2 + gap
    if edge > 0.5:
        return None
    for x, y in rng.uniform(edge, 1 - edge, (100, 2)).tolist():
        if all(
            math.hypot(x - a, y - b) >= (sizes[index] + sizes[other]) / 2 + gap
            for other, (a, b) in placed.items()
        ):
            return x, y
    return None


def _outline(item: SceneObject, width: int) -> list[tuple[float, float]]:
    turn, half = math.radians(item.turn), item.size / 2
    cosine, sine = math.cos(turn), math.sin(turn)
    return [
        ((item.x + half * (x * cosine - y * sine)) * width, (item.y + half * (x * sine + y * cosine)) * width)
        for x, y in SHAPES[item.shape]
    ]


def _background(scene: Scene, width: int) -> Image.Image:
    """Background in pale greys only: no colour that a sentence names."""
    rng = np.random.default_rng([scene.seed, 7])
    if scene.horizon is not None:
        picture = Image.new("RGB", (width, width), _GREYS["white"])
        canvas = ImageDraw.Draw(picture)
        canvas.rectangle((0, scene.horizon * width, width, width), fill=_GREYS["grey"])
        return picture
    if scene.background == "plain":
        return Image.new("RGB", (width, width), _GREYS["white"])
    if scene.background not in BACKGROUNDS:
        raise InputError(f"no background is called {scene.background!r}: there are {', '.join(BACKGROUNDS)}")
    return Image.fromarray(_pattern(scene.background, rng, width)).convert("RGB")


def _pattern(kind: str, rng: np.random.Generator, width: int) -> np.ndarray:
    """Stripes, checks or clouds between two pale greys, (wide, wide) uint8."""
    across = np.arange(width)[None, :] / width
    down = np.arange(width)[:, None] / width
    count = int(rng.integers(5, 12))
    if kind == "clouds":
        coarse = rng.uniform(175, 255, (12, 12)).astype(np.uint8)
        return np.asarray(Image.fromarray(coarse).resize((width, width), Image.Resampling.BICUBIC))
    turn = rng.uniform(0, math.pi)
    slanted = across * math.cos(turn) + down * math.sin(turn) + 2
    crossing = across * math.sin(turn) - down * math.cos(turn) + 2
    odd = np.floor(slanted * count).astype(int)
    if kind == "checks":
        odd = odd + np.floor(crossing * count).astype(int)
    return np.where(odd % 2, 190, 240).astype(np.uint8)
