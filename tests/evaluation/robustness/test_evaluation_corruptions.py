"""Image corruptions: pure functions of seed, kind, severity and key for any size; corrupted data sets."""

from __future__ import annotations

import io
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diptych.datasets import load_labelled
from diptych.datasets.formats.archives import Unread
from diptych.errors import DataError, ImageError, InputError, MissingExtraError
from diptych.evaluation import FeatureStore, corrupt, corrupted, corruptions_of, squares
from diptych.evaluation.protocols.features import content_hash, embed_dataset
from diptych.evaluation.robustness import corrupted_sets as view
from diptych.evaluation.robustness.corruption_fields import convolved, disc, plasma, streak
from diptych.evaluation.robustness.corruptions import CORRUPTIONS, STANDARD
from tests.toys import ToyEncoder, picture_bytes, tar_bytes

SIDE = 96


def scene(number: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """Coarse colours with an edge and a gradient, which every corruption can change."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(20, 220, (6, 6, 3), dtype=np.uint8))
    fine = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).copy()
    fine[size[1] // 3 : size[1] // 2, :: max(1, size[0] // 8)] = 240
    return Image.fromarray(fine)


def distance(one: Image.Image, other: Image.Image) -> float:
    return float(np.sqrt(np.mean((np.asarray(one, float) - np.asarray(other, float)) ** 2)))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_arguments_give_the_same_picture(name: str) -> None:
    picture = scene(0)
    before = picture.tobytes()
    single = corrupt(picture, name, 3, seed=1, key="a")
    assert single.tobytes() == corrupt(picture, name, 3, seed=1, key="a").tobytes()
    assert (single.mode, single.size) == ("RGB", picture.size)
    assert picture.tobytes() == before  # the input picture is unchanged
    assert single.tobytes() != before
    certain = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg"}
    chance = name not in certain | {"gaussian_blur", "saturate"}
    for other in ({"seed": 2, "key": "a"}, {"seed": 1, "key": "b"}):
        assert (corrupt(picture, name, 3, **other).tobytes() != single.tobytes()) == chance  # type: ignore[arg-type]


def test_threads_and_order_change_nothing() -> None:
    work = [(scene(n), name, str(n)) for n in range(3) for name in STANDARD]
    alone = [corrupt(p, name, 4, key=key).tobytes() for p, name, key in work]
    with ThreadPoolExecutor(4) as pool:
        result = list(pool.map(lambda one: corrupt(one[0], one[1], 4, key=one[2]).tobytes(), work[::-1]))
    assert result[::-1] == alone


@pytest.mark.parametrize("name", STANDARD)
def test_severity_grows(name: str) -> None:
    side = 224 if name == "glass_blur" else SIDE  # on small pictures strong glass is smoother than mild
    pictures = [scene(n, (side, side)) for n in range(6)]
    far = [
        np.mean([distance(p, corrupt(p, name, s, key=str(n))) for n, p in enumerate(pictures)])
        for s in range(1, 6)
    ]
    # As published: two severities of elastic deform the whole picture, three deform small regions.
    parts = [far[:2], far[2:]] if name == "elastic" else [far]
    for part in parts:
        # Strong blurs and frost saturate: a single step may be flat, but the whole series must increase.
        assert all(later > 0.95 * earlier for earlier, later in pairwise(part)), far
        assert part[-1] > 1.08 * part[0], far
    assert far[0] > 1.5


@given(
    name=st.sampled_from(sorted(CORRUPTIONS)),
    severity=st.integers(1, 5),
    width=st.sampled_from([1, 2, 3, 7, 33, 224]),
    height=st.sampled_from([1, 2, 5, 40]),
    mode=st.sampled_from(["RGB", "L"]),
    colour=st.sampled_from([0, 128, 255]),
)
@settings(max_examples=150)
def test_any_picture_keeps_its_size_and_mode(
    name: str, severity: int, width: int, height: int, mode: str, colour: int
) -> None:
    picture = Image.new(mode, (width, height), colour if mode == "L" else (colour, 10, 200))
    result = corrupt(picture, name, severity)
    assert (result.mode, result.size) == (mode, picture.size)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_very_long_strip_costs_no_memory(name: str) -> None:
    assert corrupt(Image.new("RGB", (1, 20_000), "orange"), name, 5).size == (1, 20_000)


def test_lengths_go_with_the_side() -> None:
    """Blur lengths scale with the side: blurring commutes with resizing; noise does not depend on size."""
    large = scene(1, (448, 448))
    small = large.resize((112, 112), Image.Resampling.BOX)
    for name in ("defocus_blur", "zoom_blur", "gaussian_blur"):
        there = corrupt(large, name, 3).resize((112, 112), Image.Resampling.BOX)
        here = corrupt(small, name, 3)
        assert distance(here, there) < 0.15 * distance(small, here)
    noises = [distance(p, corrupt(p, "gaussian_noise", 1)) for p in (large, small)]
    assert noises[0] == pytest.approx(noises[1], rel=0.03)
    assert noises[0] == pytest.approx(0.08 * 255, rel=0.05)  # reduced by clipping at black and white


def test_what_can_be_worked_out_by_hand() -> None:
    grey = Image.new("RGB", (4, 4), (100, 100, 100))
    assert corrupt(grey, "brightness", 1).getpixel((0, 0)) == (126, 126, 126)  # 100 + 0.1 * 255, rounded
    half = Image.new("RGB", (2, 1), "black")
    half.putpixel((0, 0), (200, 200, 200))
    assert [corrupt(half, "contrast", 4).getpixel((x, 0))[0] for x in (0, 1)] == [110, 90]  # type: ignore[index]
    board = Image.fromarray(np.indices((8, 8)).sum(0).astype(np.uint8) % 2 * 255).convert("RGB")
    assert np.unique(np.asarray(corrupt(board, "pixelate", 5))).tolist() == [128]  # cells of 4 x 4
    white = Image.new("RGB", (100, 100), "white")
    salted = np.asarray(corrupt(white, "impulse_noise", 5))
    assert (salted == 0).mean() == pytest.approx(0.27 / 2, abs=0.01)
    red = corrupt(Image.new("RGB", (2, 2), (200, 100, 100)), "brightness", 2)
    assert red.getpixel((0, 0)) == (251, 126, 126)  # hue and saturation are unchanged


def test_fields_are_what_they_say() -> None:
    rng = np.random.default_rng(0)
    for kernel in (disc(4.2, 0.5), streak(7.0, 3.0, 0.5), streak(0.01, 0.01, 0.0)):
        assert kernel.sum() == pytest.approx(1, abs=1e-6)
    picture = rng.random((9, 5, 3)).astype(np.float32)
    kernel = rng.random((5, 5)).astype(np.float32)
    padded = np.pad(picture, ((2, 2), (2, 2), (0, 0)), "symmetric")
    slow = sum(kernel[4 - y, 4 - x] * padded[y : y + 9, x : x + 5] for y in range(5) for x in range(5))
    assert convolved(picture, kernel) == pytest.approx(slow, abs=1e-4)
    cloud = plasma((100, 60), 2.0, rng)
    assert cloud.shape == (100, 60)
    assert 0 <= cloud.min() < cloud.max() <= 1
    rough = plasma((128, 128), 1.2, np.random.default_rng(0))
    smooth = plasma((128, 128), 2.0, np.random.default_rng(0))
    assert abs(np.diff(rough)).mean() > 2 * abs(np.diff(smooth)).mean()


def test_what_is_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = scene(0)
    with pytest.raises(InputError, match="gaussian_noise, shot_noise"):
        corrupt(picture, "rain", 1)
    for severity in (0, 6, 1.5):
        with pytest.raises(InputError, match="from 1"):
            corrupt(picture, "fog", severity)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="mode RGBA"):
        corrupt(picture.convert("RGBA"), "fog", 1)
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    with pytest.raises(MissingExtraError, match=r"diptych\[evaluation\]"):
        corrupt(picture, "glass_blur", 1)


# ---- the data set ----


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Two classes of wide and tall pictures, one of which is broken."""
    files = {}
    for number in range(6):
        buffer = io.BytesIO()
        scene(number, (60, 40) if number % 2 else (30, 50)).save(buffer, "PNG")
        files[f"pack/{'red' if number < 3 else 'blue'}/{number}.png"] = buffer.getvalue()
    files["pack/red/broken.png"] = b"broken"
    path = tmp_path / "pack.tar"
    path.write_bytes(tar_bytes(files))
    return path


def pixels(dataset: object) -> dict[str, object]:
    return {
        key: item.reason if isinstance(item, Unread) else (item.size, item.tobytes())
        for key, item in dataset  # type: ignore[attr-defined]
    }


def test_a_view_yields_squares_that_are_corrupted(pack: Path) -> None:
    base = load_labelled(pack)
    worse = corrupted(base, "gaussian_noise", 2, seed=3, side=32)
    result = pixels(worse)
    assert list(result) == list(base.keys)
    assert "not a picture" in str(result.pop("pack/red/broken.png"))
    sizes = {key: item[0] for key, item in result.items()}  # type: ignore[index]
    assert set(sizes.values()) == {(32, 32), (30, 30)}  # smaller pictures are not enlarged
    key = "pack/red/1.png"
    by_hand = scene(1, (60, 40)).resize((32, 32), Image.Resampling.BICUBIC, box=(10, 0, 50, 40))
    assert result[key] == ((32, 32), corrupt(by_hand, "gaussian_noise", 2, seed=3, key=key).tobytes())


def test_order_threads_and_company_change_nothing(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = load_labelled(pack)
    whole = pixels(corrupted(base, "glass_blur", 4, side=24, threads=1))
    assert pixels(corrupted(base, "glass_blur", 4, side=24, threads=5)) == whole
    some = corrupted(base, "glass_blur", 4, side=24).sample(3, seed=1)
    assert len(some) == 3
    assert pixels(some).items() <= whole.items()
    seen, views = corruptions_of(base, names=["fog", "glass_blur"], severities=[4], side=24)
    assert pixels(views[1]) == whole
    assert seen._kept.known
    assert pixels(views[1]) == whole  # from the cache now
    monkeypatch.setattr(view, "KEPT_BYTES", 24 * 24 * 3 * 2)
    seen, views = corruptions_of(base, names=["glass_blur"], severities=[4], side=24)
    assert pixels(views[0]) == whole
    assert not seen._kept.known
    assert pixels(views[0]) == whole


def test_a_walk_that_ends_early_leaves_no_thread_and_no_half_memory(pack: Path) -> None:
    import threading

    seen, (worse,) = corruptions_of(load_labelled(pack), names=["fog"], severities=[1])
    walk = iter(worse)
    next(walk)
    walk.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("corrupt")]
    assert not seen._kept.known
    assert len(pixels(worse)) == 7


def test_a_few_pictures_wait_and_no_more() -> None:
    begun: list[int] = []

    def source():  # type: ignore[no-untyped-def]
        for number in range(1000):
            begun.append(number)
            yield number

    walk = view.prefetch(source(), lambda number: -number, threads=2)
    assert [next(walk), next(walk), next(walk)] == [0, -1, -2]
    assert len(begun) <= 3 + 2 * view.AHEAD
    walk.close()  # type: ignore[attr-defined]


def test_the_fingerprint_names_what_was_done(pack: Path) -> None:
    base = load_labelled(pack)
    single = corrupted(base, "fog", 2, seed=5, side=32)
    assert base.fingerprint in single.fingerprint
    assert "fog severity 2 seed 5" in single.fingerprint
    others = [
        corrupted(base, "snow", 2, seed=5, side=32),
        corrupted(base, "fog", 3, seed=5, side=32),
        corrupted(base, "fog", 2, seed=6, side=32),
        corrupted(base, "fog", 2, seed=5, side=16),
        corrupted(base.sample(3), "fog", 2, seed=5, side=32),
        squares(base, side=32),
    ]
    assert len({single.fingerprint, *(other.fingerprint for other in others)}) == 7
    assert single.name == "pack, fog 2"


def test_some_classes_of_a_view_are_still_corrupted(pack: Path) -> None:
    single = corrupted(load_labelled(pack), "contrast", 5, side=32)
    part = single.subset(["blue"])
    assert part.class_names == ("blue",)
    assert pixels(part).items() <= pixels(single).items()
    assert (part.name, len(part)) == (single.name, 3)
    with pytest.raises(DataError, match="no class 'dog'"):
        single.subset(["dog"])


def test_rows_of_a_view_are_kept_under_its_own_name(pack: Path, tmp_path: Path) -> None:
    base, store = load_labelled(pack), FeatureStore(tmp_path / "rows")
    views = [squares(base, side=16), *(corrupted(base, "brightness", s, side=16) for s in (1, 5))]
    assert len({content_hash(base), *map(content_hash, views)}) == 4
    encoder = ToyEncoder()
    first = [embed_dataset(encoder, item, store=store).embeddings for item in views]
    calls = len(encoder.calls)
    again = [embed_dataset(encoder, item, store=store).embeddings for item in views]
    assert len(encoder.calls) == calls
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not np.allclose(first[0], first[2])


def test_a_side_must_be_one(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes({"a/0.png": picture_bytes("red"), "b/1.png": picture_bytes("blue")}))
    with pytest.raises(InputError, match="side is 0"):
        squares(load_labelled(path), side=0)
