"""Pictures whose every detail is known: coloured shapes on a background, drawn by us from a seed.

A scene is data; `draw` makes it a picture, the same on every machine with one version of Pillow. Scenes are
drawn three times as large and averaged down, so that edges are smooth. Lengths are shares of the picture's
side; x goes right, y goes down. What is asked about a scene is the audits' business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from diptych.errors import InputError

VERSION = 1  # part of every fingerprint: raise it when a scene is drawn in another way
SIDE = 224  # what the published models see; the same for all models, so that their figures compare
_FINER = 3

# Told apart by name in every list of colours, and well away from each other on a screen.
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
    """Corners on the unit circle; with `inner`, every second one pulled in."""
    angles = [math.radians(turn) + 2 * math.pi * i / corners for i in range(corners)]
    reach = [inner if i % 2 else 1.0 for i in range(corners)]
    return tuple((r * math.cos(a), r * math.sin(a)) for a, r in zip(angles, reach, strict=True))


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
# Outlines inside the unit circle, the way people draw them.
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
        Where its middle is.
    size : float
        Diameter of the circle it lies in.
    turn : float
        Clockwise, degrees.
    """

    shape: str
    colour: str
    x: float
    y: float
    size: float
    turn: float = 0.0

    @property
    def name(self) -> str:
        """As people call it.

        Examples
        --------
        >>> SceneObject("circle", "red", 0.5, 0.5, 0.2).name
        'red circle'
        """
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Things on a background; later ones lie on top.

    Attributes
    ----------
    things : tuple of Thing
    background : str
        One of `BACKGROUNDS`.
    seed : int
        Of the background's pattern.
    horizon : float or None
        With a ground below this height, for scenes with depth.
    """

    things: tuple[SceneObject, ...]
    background: str = "plain"
    seed: int = 0
    horizon: float | None = None


def draw(scene: Scene, side: int = SIDE) -> Image.Image:
    """The scene as a picture of `side` x `side` pixels.

    Raises
    ------
    InputError
        A shape, colour or background that is not known.

    Examples
    --------
    >>> draw(Scene((SceneObject("circle", "red", 0.5, 0.5, 0.5),))).getpixel((112, 112))
    (220, 30, 30)
    """
    wide = side * _FINER
    picture = _background(scene, wide)
    pen = ImageDraw.Draw(picture)
    for thing in scene.things:
        if thing.shape not in SHAPES or thing.colour not in COLOURS:
            raise InputError(
                f"a {thing.name} cannot be drawn: shapes are {', '.join(SHAPES)}; colours are "
                f"{', '.join(COLOURS)}"
            )
        pen.polygon(_outline(thing, wide), fill=COLOURS[thing.colour])
    return picture.reduce(_FINER)


def random_positions(
    rng: np.random.Generator, sizes: Sequence[float], *, gap: float = 0.03
) -> list[tuple[float, float]]:
    """Places inside the picture for things of these sizes, none over another.

    Parameters
    ----------
    rng : Generator
    sizes : sequence of float
        Diameters, shares of the side.
    gap : float
        Room between things, and to the edge.

    Raises
    ------
    InputError
        They do not fit.

    Examples
    --------
    >>> (x, y), = random_positions(np.random.default_rng(0), [0.9])
    >>> 0.47 <= x <= 0.53
    True
    """
    order = np.argsort(-np.asarray(sizes), kind="stable")  # the large ones first: small ones fit in between
    for _ in range(60):
        placed: dict[int, tuple[float, float]] = {}
        for index in order.tolist():
            spot = _free(rng, sizes, placed, index, gap)
            if spot is None:
                break
            placed[index] = spot
        else:
            return [placed[index] for index in range(len(sizes))]
    raise InputError(
        f"{len(sizes)} things of {min(sizes):.2f} to {max(sizes):.2f} of the side do not fit beside each "
        "other: draw fewer or smaller ones"
    )


def _free(
    rng: np.random.Generator,
    sizes: Sequence[float],
    placed: dict[int, tuple[float, float]],
    index: int,
    gap: float,
) -> tuple[float, float] | None:
    """A place for one thing beside those that stand, or None after a hundred tries."""
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


def _outline(thing: SceneObject, wide: int) -> list[tuple[float, float]]:
    turn, half = math.radians(thing.turn), thing.size / 2
    along, across = math.cos(turn), math.sin(turn)
    return [
        (
            (thing.x + half * (x * along - y * across)) * wide,
            (thing.y + half * (x * across + y * along)) * wide,
        )
        for x, y in SHAPES[thing.shape]
    ]


def _background(scene: Scene, wide: int) -> Image.Image:
    """Pale greys only: no colour that a sentence names."""
    rng = np.random.default_rng([scene.seed, 7])
    if scene.horizon is not None:
        picture = Image.new("RGB", (wide, wide), _GREYS["white"])
        pen = ImageDraw.Draw(picture)
        pen.rectangle((0, scene.horizon * wide, wide, wide), fill=_GREYS["grey"])
        return picture
    if scene.background == "plain":
        return Image.new("RGB", (wide, wide), _GREYS["white"])
    if scene.background not in BACKGROUNDS:
        raise InputError(f"no background is called {scene.background!r}: there are {', '.join(BACKGROUNDS)}")
    return Image.fromarray(_pattern(scene.background, rng, wide)).convert("RGB")


def _pattern(kind: str, rng: np.random.Generator, wide: int) -> np.ndarray:
    """Stripes, checks or clouds between two pale greys, (wide, wide) uint8."""
    across = np.arange(wide)[None, :] / wide
    down = np.arange(wide)[:, None] / wide
    count = int(rng.integers(5, 12))
    if kind == "clouds":
        coarse = rng.uniform(175, 255, (12, 12)).astype(np.uint8)
        return np.asarray(Image.fromarray(coarse).resize((wide, wide), Image.Resampling.BICUBIC))
    turn = rng.uniform(0, math.pi)
    slanted = across * math.cos(turn) + down * math.sin(turn) + 2
    crossing = across * math.sin(turn) - down * math.cos(turn) + 2
    odd = np.floor(slanted * count).astype(int)
    if kind == "checks":
        odd = odd + np.floor(crossing * count).astype(int)
    return np.where(odd % 2, 190, 240).astype(np.uint8)
