"""Perceptual hashes: stable under re-encoding, different for other pictures; pairs equal brute force."""

from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from diptych.matching import hashes as hashing
from diptych.matching.hashes import difference_hash, hamming, near_pairs, perceptual_hash
from diptych.media import load_image

HASHES = [difference_hash, perceptual_hash]


def scene(seed: int, size: tuple[int, int] = (360, 240)) -> Image.Image:
    """Blurred colours with edges, as in photographs."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    picture = small.resize(size, Image.Resampling.BICUBIC)
    for _ in range(4):
        x, y, w, h = (int(v) for v in rng.integers(20, 160, 4))
        picture.paste(tuple(int(v) for v in rng.integers(0, 256, 3)), (x, y, x + w, y + h))
    return picture


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return load_image(file.getvalue())


@pytest.mark.parametrize("hash_of", HASHES)
def test_the_same_picture_stays_near_and_others_far(hash_of) -> None:
    pictures = [scene(seed) for seed in range(20)]
    known = [hash_of(picture) for picture in pictures]
    for picture, value in zip(pictures, known, strict=True):
        for changed in (
            jpeg(picture, 60),
            picture.resize((150, 100)),
            picture.resize((1080, 720), Image.Resampling.BICUBIC),
            ImageEnhance.Brightness(picture).enhance(0.9),
            picture.convert("L").convert("RGB"),
        ):
            assert hamming(hash_of(changed), value) <= 6
    assert min(int(hamming(a, b)) for a, b in combinations(known, 2)) > 8


@pytest.mark.parametrize("hash_of", HASHES)
def test_flat_pictures_have_no_bits(hash_of) -> None:
    for size, colour in (((1, 1), "white"), ((300, 1), "teal"), ((64, 64), "black"), ((50, 90), (7, 7, 7))):
        assert hash_of(Image.new("RGB", size, colour)) == 0


def test_the_first_bits_are_those_of_the_top_left() -> None:
    picture = Image.new("L", (9, 8), 0)
    picture.putpixel((1, 0), 255)  # brighter than its left neighbour
    assert difference_hash(picture) == 2**63
    bars = Image.fromarray((128 + 100 * np.outer(*2 * [hashing._COSINES[0]])).astype(np.uint8))
    assert perceptual_hash(bars) >= 2**63


def test_perceptual_hash_against_the_definition() -> None:
    """The transform from its definition, with scipy, on the same small grey picture."""
    from scipy.fft import dctn

    for seed in range(5):
        picture = scene(seed)
        grey = np.asarray(
            picture.resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=3.0).convert("L"), np.float64
        )
        low = dctn(grey, type=2)[1:9, 1:9]
        bits = "".join("1" if value > np.median(low) else "0" for value in low.ravel())
        assert perceptual_hash(picture) == int(bits, 2)
        assert bits.count("1") == 32


def test_distances_broadcast() -> None:
    full = 2**64 - 1
    assert hamming(full, 0) == 64
    assert hamming(np.uint64([0, full]), np.uint64(1)).tolist() == [1, 63]
    assert hamming([[0], [1]], [0, 3]).tolist() == [[0, 2], [1, 1]]


def brute(values: list[int], distance: int) -> list[list[int]]:
    return [
        [i, j]
        for i, j in combinations(range(len(values)), 2)
        if (values[i] ^ values[j]).bit_count() <= distance
    ]


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=4),
    st.lists(st.lists(st.integers(0, 63), max_size=10), max_size=12),
    st.integers(0, 9),
)
def test_pairs_are_those_of_brute_force(seeds: list[int], flips: list[list[int]], distance: int) -> None:
    values = list(seeds)
    for number, bits in enumerate(flips if seeds else []):
        value = seeds[number % len(seeds)]
        for bit in bits:
            value ^= 1 << bit
        values.append(value)
    assert near_pairs(np.array(values, np.uint64), distance).tolist() == brute(values, distance)


@pytest.mark.parametrize("distance", [0, 1, 3, 4, 5, 7, 8, 10])
def test_pairs_of_many_in_small_pieces(distance: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_CANDIDATES", 100)
    rng = np.random.default_rng(distance)
    values = rng.integers(0, 2**64, 40, dtype=np.uint64)
    values = np.concatenate(
        [values ^ (np.uint64(1) << rng.integers(0, 64, 40, dtype=np.uint64)) for _ in range(8)]
    )
    assert near_pairs(values, distance).tolist() == brute(values.tolist(), distance)


def test_far_apart_and_empty() -> None:
    assert near_pairs([], 3).shape == (0, 2)
    assert near_pairs([5], 64).shape == (0, 2)
    with pytest.raises(ValueError, match="distance from 0 to 64"):
        near_pairs([1, 2], 65)
    with pytest.raises(ValueError, match=r"shape \(N,\)"):
        near_pairs([[1, 2]], 3)
