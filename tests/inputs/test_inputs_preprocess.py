"""The evaluation transform: equal to recorded outputs, and correct for unusual sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diptych.errors import ImageError
from diptych.inputs import PreprocessConfig, preprocess, preprocess_batch
from diptych.media import load_image

HALF = (0.5, 0.5, 0.5)
SQUASH = PreprocessConfig(size=32, mean=HALF, std=HALF, resize="squash")


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.shared
def test_recorded_pictures_agree(shared: Any) -> None:
    recorded = np.load(shared / "parity/preprocess.npz")
    judged = 0
    for key in recorded:
        name, _, form = key.partition("@")
        # The reference resizes these two before colour conversion; "on-white" is the correct one.
        if name in ("palette.png", "alpha.png") and not form.endswith("on-white"):
            continue
        config = SQUASH if "squash" in form else PreprocessConfig(size=int(form.split("-")[0]))
        ours = preprocess(load_image(shared / "parity/pictures" / name), config)
        assert ours.dtype == np.float32
        difference = np.abs(ours - recorded[key].astype(np.float32)) * np.array(config.std)[:, None, None]
        # Larger pictures are recorded in half precision: 0.001 at the ends of the scale.
        assert difference.max() < (1e-6 if config.size == 32 else 5e-4), key
        judged += 1
    assert judged == 22


def test_values_by_hand() -> None:
    picture = Image.new("RGB", (8, 8), (255, 0, 51))
    values = preprocess(picture, PreprocessConfig(size=4, mean=(0.5, 0.25, 0.2), std=(0.5, 0.25, 0.1)))
    assert values.shape == (3, 4, 4)
    np.testing.assert_allclose(values[:, 0, 0], [1, -1, 0], atol=1e-6)


def test_longest_keeps_all_within_a_border() -> None:
    plain = {"size": 16, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    config = PreprocessConfig(**plain, resize="longest", fill_color=51)  # type: ignore[arg-type]
    seen = preprocess(Image.new("RGB", (40, 20), "white"), config)
    assert (seen[:, 4:12] == 1).all()
    np.testing.assert_allclose(seen[:, :4], 0.2)
    np.testing.assert_allclose(seen[:, 12:], 0.2)
    assert preprocess(Image.new("RGB", (1, 1000)), config).shape == (3, 16, 16)
    assert PreprocessConfig.from_dict(config.to_dict()) == config
    assert "fill_color" not in PreprocessConfig().to_dict()


def test_the_middle_is_kept_and_squash_keeps_all() -> None:
    picture = Image.new("RGB", (90, 30), "black")
    picture.paste("white", (30, 0, 60, 30))  # the middle third
    plain = {"size": 30, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    assert preprocess(picture, PreprocessConfig(**plain)).min() == 1  # type: ignore[arg-type]
    squashed = preprocess(picture, PreprocessConfig(**plain, resize="squash"))  # type: ignore[arg-type]
    assert squashed[0, 0, 2] == squashed[0, 0, -2] == 0
    assert squashed[0, 0, 15] == 1


@settings(max_examples=60)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 48), st.sampled_from(["bicubic", "bilinear"]))
def test_any_shape_gives_the_square(width: int, height: int, size: int, interpolation: Any) -> None:
    for resize in ("shortest", "squash", "longest"):
        config = PreprocessConfig(size=size, interpolation=interpolation, resize=resize)  # type: ignore[arg-type]
        values = preprocess(noise(width, height), config)
        assert values.shape == (3, size, size)
        assert np.isfinite(values).all()


def test_the_strip_and_the_whole_way_agree() -> None:
    strip = noise(2100, 30)  # 70 to 1, resized to 2,240 x 32: only the crop is computed
    whole = strip.resize((2240, 32), Image.Resampling.BICUBIC).crop((1104, 0, 1136, 32))
    config = PreprocessConfig(size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    expected = np.asarray(whole, dtype=np.float32).transpose(2, 0, 1) / 255
    assert np.abs(preprocess(strip, config) - expected).max() <= 1.001 / 255


def test_a_very_long_strip_costs_nothing() -> None:
    assert preprocess(Image.new("RGB", (200_000, 1))).shape == (3, 224, 224)
    assert preprocess(Image.new("RGB", (1, 200_000))).shape == (3, 224, 224)


@pytest.mark.parametrize("threads", [None, 1, 4])
def test_a_batch_is_its_pictures_in_order(threads: int | None) -> None:
    pictures = [noise(40 + i, 60 - i, seed=i) for i in range(9)]
    config = PreprocessConfig(size=32)
    batch = preprocess_batch(pictures, config, threads=threads)
    assert batch.shape == (9, 3, 32, 32)
    np.testing.assert_array_equal(batch, np.stack([preprocess(p, config) for p in pictures]))


def test_no_pictures_make_an_empty_batch() -> None:
    assert preprocess_batch([], PreprocessConfig(size=8)).shape == (0, 3, 8, 8)


def test_other_modes_and_empty_pictures_are_refused() -> None:
    with pytest.raises(ImageError, match=r"expected an RGB picture, got mode L: .*load_image"):
        preprocess(Image.new("L", (8, 8)))
    with pytest.raises(ImageError, match="0 x 5"):
        preprocess_batch([noise(5, 5), Image.new("RGB", (0, 5))], threads=2)
