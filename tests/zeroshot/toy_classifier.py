"""A classifier of colours with the toy encoder, for the tests of this folder."""

from __future__ import annotations

import numpy as np
from PIL import Image

from diptych.zeroshot import ZeroShotClassifier
from tests.toys import ToyEncoder, picture

NAMES = ["red", "green", "blue"]


def fitted(names=NAMES, **settings) -> ZeroShotClassifier:
    return ZeroShotClassifier(ToyEncoder(), **settings).fit(names)


def shades(base: tuple[int, int, int], n: int = 40) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [picture(tuple(np.clip(rng.normal(base, 40), 0, 255).astype(int).tolist())) for _ in range(n)]
