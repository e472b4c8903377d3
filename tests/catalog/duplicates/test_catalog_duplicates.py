"""Duplicates: candidate pairs from hashes, verification by pixels, stored pairs, groups, kept files."""

from __future__ import annotations

import contextlib
import io
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from diptych.catalog import Store
from diptych.catalog.duplicates import proposals
from diptych.catalog.duplicates.finding import DuplicateGroups, find_duplicates
from diptych.catalog.duplicates.keeping import parse_rules
from diptych.catalog.duplicates.proposals import hash_matches, mirror_difference_hash, mirror_perceptual_hash
from diptych.catalog.duplicates.similar import SimilarImageSearch
from diptych.errors import CatalogError, InputError
from diptych.matching.hashes import difference_hash, hamming, perceptual_hash
from diptych.matching.parts import GreyThumbnail, small_grey
from diptych.matching.pixels import Thumbnail
from diptych.matching.verdicts import Verdict, judge_pair, screen_pair
from diptych.matching.visual_words import VisualWordIndex, extract_visual_words
from tests.catalog.catalogs import index
from tests.catalog.photos import collage, cut, framed, photo, save, with_ball, written_over
from tests.toys import ToyEncoder

ORIENTATION = 0x0112


# ----------------------------------------------------------------------------------------- candidate pairs


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_hashes_of_mirrored_pictures_follow_from_the_hashes(seed: int) -> None:
    image = photo(seed)
    for hash_of, turn in (
        (difference_hash, mirror_difference_hash),
        (perceptual_hash, mirror_perceptual_hash),
    ):
        turned = turn(np.array([hash_of(image)], np.uint64))
        # Bits that compare nearly equal greys may flip: a few bits differ, never a whole hash.
        assert hamming(turned, hash_of(ImageOps.mirror(image)))[0] <= 14
        assert hamming(turned, hash_of(image))[0] > hamming(turned, hash_of(ImageOps.mirror(image)))[0]
    assert mirror_perceptual_hash(mirror_perceptual_hash(turned))[0] == turned[0]


hashes = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 63).map(lambda bit: 1 << bit), max_size=12)


@given(hashes, hashes, st.integers(0, 12))
def test_near_hashes_are_found_either_way(queries: list[int], others: list[int], bits: int) -> None:
    left, right = np.array(queries, np.uint64), np.array(others, np.uint64)
    wanted = {
        (i, j)
        for i, item in enumerate(queries)
        for j, two in enumerate(others)
        if (item ^ two).bit_count() <= bits
    }
    assert {tuple(pair) for pair in hash_matches(left, right, bits).tolist()} == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proposals, "_BRUTE_FORCE", 0)
        assert {tuple(pair) for pair in hash_matches(left, right, bits).tolist()} == wanted


@pytest.mark.parametrize("always", [0, 1e9])
def test_of_thousands_of_equal_hashes_only_some_are_proposed(
    monkeypatch: pytest.MonkeyPatch, always: float
) -> None:
    monkeypatch.setattr(proposals, "_BRUTE_FORCE", always)
    many = np.repeat(np.array([0b1, 0b111, 2**63], np.uint64), 4000)
    tracemalloc.start()
    pairs = hash_matches(many, many, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pairs) == len(many) * proposals.MOST
    assert (many[pairs[:, 0]] == many[pairs[:, 1]]).all()  # the nearest of each picture
    assert peak < 60 * 2**20  # all pairs would need a gigabyte
    few = hash_matches(np.array([0b1], np.uint64), np.array([0b11, 0b1, 0b11, 0b1], np.uint64), 1)
    assert few.tolist() == [[0, 1], [0, 3], [0, 0], [0, 2]]


@pytest.mark.parametrize("change", [cut, framed, written_over])
def test_words_find_what_was_made_of_a_picture(change: Callable[[Image.Image], Image.Image]) -> None:
    words = {number: extract_visual_words(photo(number)) for number in range(40)}
    known = VisualWordIndex(range(40), words)
    for number in range(0, 40, 8):
        smaller = change(photo(number)).resize((93, 70), Image.Resampling.LANCZOS)
        assert known.nearest(extract_visual_words(smaller), 1) == [number]


def test_a_picture_of_one_colour_has_no_words() -> None:
    assert len(extract_visual_words(Image.new("RGB", (50, 40), "red"))) == 0


# ------------------------------------------------------------------------------------------------- verdicts


def verdict(a: Image.Image, b: Image.Image, *, parts: bool = True) -> Verdict | None:
    looks = [Thumbnail.of(item) for item in (a, b)]
    glances = [GreyThumbnail(small_grey(look)) for look in looks]
    return judge_pair(looks[0], looks[1], screen_pair(glances[0], glances[1], parts=parts))


def saved(image: Image.Image, kind: str, **how: object) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return Image.open(buffer).convert("RGB")


@pytest.mark.parametrize("seed", range(5))
def test_the_same_picture_saved_again(seed: int) -> None:
    image = photo(seed)
    copies = [
        *(saved(image, "JPEG", quality=quality) for quality in (30, 60, 90)),
        *(saved(image, "WEBP", quality=60), saved(image, "PNG")),
        *(image.resize(size, Image.Resampling.LANCZOS) for size in ((40, 30), (80, 60), (320, 240))),
    ]
    for copy in copies:
        result = verdict(copy, image)
        assert result is not None
        assert (result.tier, result.change) == ("picture", "saved again")
        flipped = verdict(ImageOps.mirror(copy), image)
        assert flipped is not None
        assert (flipped.tier, flipped.change) == ("picture", "mirrored")


@pytest.mark.parametrize(
    ("change", "name", "whole"),
    [(cut, "cut", 1), (framed, "framed", 0), (written_over, "written over", None)],
)
@pytest.mark.parametrize("seed", range(4))
def test_parts(change: Callable[[Image.Image], Image.Image], name: str, whole: int | None, seed: int) -> None:
    result = verdict(saved(change(photo(seed)), "JPEG", quality=80), photo(seed))
    assert result is not None
    assert (result.tier, result.change, result.whole) == ("part", name, whole)
    back = verdict(photo(seed), change(photo(seed)))
    assert back is not None
    assert back.whole == (None if whole is None else 1 - whole)
    assert verdict(change(photo(seed)), photo(seed), parts=False) in (
        None,
        result if whole is None else None,
    ) or (whole is None)


def test_where_a_part_lies() -> None:
    result = verdict(cut(photo(3)), photo(3))
    assert result is not None
    assert result.box == pytest.approx((0.125, 0.2, 0.875, 0.95), abs=0.02)


def test_where_the_writing_is() -> None:
    over = verdict(written_over(photo(3)), photo(3))
    assert over is not None
    assert over.box is not None
    assert over.box[1] > 0.3


def test_a_picture_in_a_collage() -> None:
    images = [photo(seed) for seed in range(4)]
    for number, image in enumerate(images):
        result = verdict(collage(images), image)
        assert result is not None
        assert (result.tier, result.change, result.whole) == ("part", "cut", 0)
        assert result.box is not None
        assert result.box[:2] == pytest.approx((number % 2 / 2, number // 2 / 2), abs=0.02)


def test_other_colours_and_another_shape_are_no_copies() -> None:
    image = photo(1)
    for other, change in (
        (image.convert("L").convert("RGB"), "recoloured"),
        (image.point(lambda value: round(value * 0.9 + 25)), "recoloured"),
        (image.resize((120, 120)), "squashed"),
    ):
        result = verdict(other, image)
        assert result is not None
        assert (result.tier, result.change) == ("part", change)


@pytest.mark.parametrize("seed", range(5))
def test_a_moment_later_is_no_copy(seed: int) -> None:
    scene = photo(seed, (240, 180))
    result = verdict(with_ball(scene, 60), with_ball(scene, 78))
    assert result is not None
    assert (result.tier, result.change) == ("scene", "another moment")
    shaken = scene.transform(scene.size, Image.Transform.AFFINE, (0.98, 0.015, 4, -0.015, 0.98, 3))
    result = verdict(shaken, scene)
    assert result is None or result.tier != "picture"


def test_other_pictures_and_empty_ones_have_nothing_in_common() -> None:
    assert [verdict(photo(seed), photo(seed + 1)) for seed in range(8)] == [None] * 8
    black, night = Image.new("RGB", (80, 60)), Image.new("RGB", (80, 60), (2, 1, 3))
    assert verdict(black, night) is None
    assert verdict(black, photo(0)) is None


# --------------------------------------------------------------------------------------------- catalogues


class Steps:
    """Record the opened progress stages as (name, total)."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int | None]] = []

    @contextlib.contextmanager
    def __call__(self, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        self.done.append((what, total))
        yield lambda count: None


def duplicates(catalog: Path, **options: object) -> DuplicateGroups:
    store = Store.open(catalog)
    try:
        return find_duplicates(store, **options)  # type: ignore[arg-type]
    finally:
        store.close()


def told_of(found: DuplicateGroups) -> list[tuple[str, str, list[tuple[str, str, str]]]]:
    """(tier, kept file, its copies as (file, tier, change)) of every group."""
    return [
        (
            group.tier,
            group.kept.file.path.name,
            [
                (one.file.path.name, one.tier, one.pair.verdict.change if one.pair else "")
                for one in sorted(group.others, key=lambda one: one.file.path.name)
            ],
        )
        for group in found.groups
    ]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Original pictures and modified copies of them."""
    folder = tmp_path / "pictures"
    for seed in range(4):
        save(folder / f"{seed}.png", photo(seed))
    save(folder / "other.png", photo(50))
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    save(folder / "exif.jpg", photo(0).rotate(90, expand=True), quality=90, exif=turned)
    save(folder / "small.jpg", photo(0).resize((80, 60), Image.Resampling.LANCZOS), quality=70)
    save(folder / "flipped.jpg", ImageOps.mirror(photo(1)), quality=90)
    save(folder / "cut.jpg", cut(photo(2)), quality=90)
    save(folder / "wall.jpg", collage([photo(seed) for seed in (0, 1, 2, 3)]), quality=90)
    (folder / "deep").mkdir()
    (folder / "deep" / "same-as-3.png").write_bytes((folder / "3.png").read_bytes())
    index(tmp_path / "catalog", folder)
    return tmp_path / "catalog"


def test_every_tier_and_no_chains(album: Path) -> None:
    result = duplicates(album)
    assert told_of(result) == [
        ("bytes", "3.png", [("same-as-3.png", "bytes", "")]),
        (
            "picture",
            "0.png",
            [("exif.jpg", "picture", "saved again"), ("small.jpg", "picture", "saved again")],
        ),
        ("picture", "1.png", [("flipped.jpg", "picture", "mirrored")]),
        (
            "part",
            "wall.jpg",
            [
                ("0.png", "part", "cut"),
                ("1.png", "part", "cut"),
                ("2.png", "part", "cut"),
                ("3.png", "part", "cut"),
                ("cut.jpg", "part", "cut"),
            ],
        ),
        ("part", "2.png", [("cut.jpg", "part", "cut")]),
    ]
    assert {file.path.name for file in result.to_remove(("bytes", "picture"))} == {
        *("same-as-3.png", "exif.jpg", "small.jpg", "flipped.jpg")
    }


def test_only_what_is_new_is_compared(album: Path, tmp_path: Path) -> None:
    first, second, third = Steps(), Steps(), Steps()
    before = told_of(duplicates(album, stage=first))
    assert first.done == [("reading pictures", 10), ("comparing", 10)]
    assert told_of(duplicates(album, stage=second)) == before
    assert second.done == []
    save(tmp_path / "pictures" / "late.jpg", photo(50), quality=60)
    index(tmp_path / "catalog", tmp_path / "pictures")
    after = told_of(duplicates(album, stage=third))
    assert third.done == [("reading pictures", 1), ("comparing", 1)]
    assert [group for group in after if group not in before] == [
        ("picture", "other.png", [("late.jpg", "picture", "saved again")])
    ]


def test_parts_cost_only_who_asks_for_them(album: Path) -> None:
    steps = Steps()
    result = duplicates(album, tiers=("bytes", "picture"), stage=steps)
    assert {group.tier for group in result.groups} == {"bytes", "picture"}
    assert steps.done == [("comparing", 10)]
    assert [group.tier for group in duplicates(album, tiers=("bytes",)).groups] == ["bytes"]
    assert len(duplicates(album).of("part")) == 2  # the deeper comparison runs now


def test_stopped_in_the_middle_it_goes_on(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diptych.catalog.duplicates import comparing

    whole = told_of(duplicates(album))
    store = Store.open(album)
    with store.database.writing():
        for table in ("pairs", "compared"):
            store.database.run(f"DELETE FROM {table}")
    store.close()
    monkeypatch.setattr(comparing, "CHUNK", 3)
    monkeypatch.setattr(comparing.chunks, "__defaults__", (3,))

    @contextlib.contextmanager
    def stops(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        def advance(count: int) -> None:
            if what == "comparing":
                raise KeyboardInterrupt

        yield advance

    with pytest.raises(KeyboardInterrupt):
        duplicates(album, stage=stops)
    steps = Steps()
    assert told_of(duplicates(album, stage=steps)) == whole
    assert steps.done[-1] == ("comparing", 7)


def test_in_a_folder_only(album: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "deep"
    assert duplicates(album, folders=[folder]).groups == ()
    save(folder / "copy.jpg", photo(3), quality=80)
    index(album, tmp_path / "pictures")
    steps = Steps()
    assert told_of(duplicates(album, folders=[folder], stage=steps)) == [
        ("picture", "same-as-3.png", [("copy.jpg", "picture", "saved again")])
    ]
    assert steps.done == [("reading pictures", 1), ("comparing", 1)]


def test_a_picture_that_goes_takes_its_pairs_along(album: Path, tmp_path: Path) -> None:
    duplicates(album)
    for name in ("small.jpg", "wall.jpg", "3.png", "deep/same-as-3.png"):
        (tmp_path / "pictures" / name).unlink()
    index(album, tmp_path / "pictures")
    store = Store.open(album)
    known = {row[0] for row in store.database.all("SELECT id FROM contents")}
    for table, columns in (("pairs", "first, second"), ("glances", "content"), ("compared", "content")):
        assert {item for row in store.database.all(f"SELECT {columns} FROM {table}") for item in row} <= known
    store.close()
    assert [group[:2] for group in told_of(duplicates(album))] == [
        *(("picture", "0.png"), ("picture", "1.png"), ("part", "2.png"))
    ]


def test_another_encoder_begins_anew(album: Path, tmp_path: Path) -> None:
    before = told_of(duplicates(album))
    index(album, tmp_path / "pictures", encoder=ToyEncoder(identity="toy:other"), reembed=True)
    steps = Steps()
    assert told_of(duplicates(album, stage=steps)) == before
    assert steps.done == [("reading pictures", 10), ("comparing", 10)]


def test_a_catalogue_that_may_not_be_written_to(album: Path) -> None:
    store = Store.open(album)
    store.database.readonly = True
    result = find_duplicates(store)
    assert [group.tier for group in result.groups] == ["bytes", "picture", "picture", "part", "part"]
    assert store.database.all("SELECT COUNT(*) FROM pairs")[0][0] == 0
    store.close()


@pytest.mark.parametrize("tiers", [("bytes", "picture"), ("bytes", "picture", "part")])
def test_what_could_not_be_read_is_compared_once_it_is_back(
    album: Path, tmp_path: Path, tiers: tuple[str, ...]
) -> None:
    away = tmp_path / "away"
    (tmp_path / "pictures").rename(away)
    result = duplicates(album, tiers=tiers)
    assert [group.tier for group in result.groups] == ["bytes"]  # by the catalogue's content hashes alone
    assert result.failed
    away.rename(tmp_path / "pictures")
    result = duplicates(album, tiers=tiers)
    assert [group[1] for group in told_of(result)[1:3]] == ["0.png", "1.png"]
    assert result.failed == {}


def test_a_partner_that_could_not_be_read_is_compared_once_it_is_back(album: Path, tmp_path: Path) -> None:
    duplicates(album)
    pictures = tmp_path / "pictures"
    save(pictures / "late.jpg", photo(50), quality=60)
    index(album, pictures)
    (pictures / "other.png").rename(tmp_path / "other.png")
    result = duplicates(album)
    assert len(result.failed) == 1
    assert "late.jpg" not in str(told_of(result))
    (tmp_path / "other.png").rename(pictures / "other.png")
    assert ("picture", "other.png", [("late.jpg", "picture", "saved again")]) in told_of(duplicates(album))


def test_thin_pictures_stop_nothing(album: Path, tmp_path: Path) -> None:
    before = told_of(duplicates(album))
    thin = tmp_path / "thin"
    for width, height in ((600, 1), (6, 600), (1, 1), (3000, 20), (2, 300), (40, 3)):
        save(thin / f"{width}x{height}.png", photo(width, (640, 480)).resize((width, height)))
    index(album, thin)
    result = duplicates(album)
    assert (told_of(result), result.failed, result.pictures) == (before, {}, 16)
    store = Store.open(album)
    inquiry = SimilarImageSearch(store, ToyEncoder())
    for path in thin.iterdir():
        assert inquiry.search(path)[0].entry.path == path
    inquiry.close()
    store.close()


def test_a_broken_file_is_named_and_stops_nothing(album: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures" / "small.jpg").write_bytes(b"broken since")
    result = duplicates(album)
    assert len(result.failed) == 1
    assert "small.jpg" in next(iter(result.failed.values()))
    assert ("picture", "0.png", [("exif.jpg", "picture", "saved again")]) in told_of(result)


def test_one_camera_two_moments_two_pictures(tmp_path: Path) -> None:
    for number in range(3):
        exif = Image.Exif()
        exif[0x010F], exif[0x0110] = "Maker", "Model"
        exif.get_ifd(0x8769)[0x9003] = f"2024:05:01 12:00:{min(number, 1):02}"
        save(tmp_path / "pictures" / f"{number}.jpg", photo(5), quality=70 + 10 * number, exif=exif)
    index(tmp_path / "catalog", tmp_path / "pictures")
    result = duplicates(tmp_path / "catalog")
    assert [group.tier for group in result.groups] == ["picture", "scene"]
    assert {item.file.path.name for item in result.of("picture")[0].members} == {"1.jpg", "2.jpg"}
    assert [file.path.name for file in result.to_remove(("bytes", "picture"))] == ["1.jpg"]


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ("resolution", "0.png"),
        ("smallest", "small.jpg"),
        ("format:JPEG/PNG,largest", "exif.jpg"),
        ("exif,resolution", "0.png"),
        ("format", "0.png"),
    ],
)
def test_rules_choose_what_is_kept(album: Path, rules: str, kept: str) -> None:
    groups = duplicates(album, tiers=("picture",), rules=parse_rules(rules)).groups
    assert kept in {group.kept.file.path.name for group in groups}
    assert groups[0].why


def test_folders_choose_what_is_kept(album: Path, tmp_path: Path) -> None:
    rules = parse_rules(f"folder:{tmp_path / 'pictures' / 'deep'},resolution")
    group = duplicates(album, tiers=("bytes",), rules=rules).groups[0]
    assert group.kept.file.path.name == "same-as-3.png"
    assert "folder" in group.why


def link_of(kind: str, folder: Path) -> Path:
    """Make a second name of `the only one.png` in another folder; shorter, so that it would be kept."""
    second = folder.parent / "z"
    if kind == "folder":
        second.symlink_to(folder)
        return second / "the only one.png"
    second.mkdir()
    if kind == "symbolic":
        (second / "a.png").symlink_to(folder / "the only one.png")
    else:
        os.link(folder / "the only one.png", second / "a.png")
    return second / "a.png"


@pytest.mark.parametrize("kind", ["symbolic", "hard", "folder"])
def test_names_of_one_file_are_one_file(tmp_path: Path, kind: str) -> None:
    original = save(tmp_path / "pictures" / "the only one.png", photo(0))
    link = link_of(kind, original.parent)
    index(tmp_path / "catalog", original.parent, link.parent)
    result = duplicates(tmp_path / "catalog")
    assert (result.groups, result.files) == ((), 1)
    copy = tmp_path / "pictures" / "a copy with a longer name.png"
    copy.write_bytes(original.read_bytes())
    index(tmp_path / "catalog", original.parent, link.parent)
    result = duplicates(tmp_path / "catalog", rules=parse_rules("oldest"))
    assert [file.path for file in result.to_remove(("bytes", "picture"))] == [copy]
    kept = result.groups[0].kept.file
    assert kept.path == (min(original, link) if kind == "hard" else original)
    if kind == "folder":
        assert kept.names == ()  # a folder with two names is indexed by the first
        return
    assert kept.names == (max(original, link) if kind == "hard" else link,)
    result = duplicates(tmp_path / "catalog", rules=parse_rules(f"folder:{link.parent}"))
    assert result.groups[0].kept.file == kept  # one of its names is in that folder


def test_one_file_is_known_again_on_a_device_of_another_number(tmp_path: Path) -> None:
    original = save(tmp_path / "pictures" / "the only one.png", photo(0))
    link = link_of("symbolic", original.parent)
    index(tmp_path / "catalog", original.parent, link.parent)
    store = Store.open(tmp_path / "catalog")
    with store.database.writing():
        store.database.run("UPDATE files SET device = device + 1 WHERE path = ?", (os.fsencode(link),))
    store.close()
    assert duplicates(tmp_path / "catalog").groups == ()
    original.unlink()  # the file itself cannot be compared any more
    assert len(duplicates(tmp_path / "catalog").groups) == 1


def test_what_is_asked_for_has_to_exist(album: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tier 'twins': expected some of bytes, picture, part, scene"):
        duplicates(album, tiers=("twins",))
    (tmp_path / "pictures" / "empty").mkdir()
    for name in ("nowhere", "empty", "pic"):
        folder = tmp_path / "pictures" / name
        with pytest.raises(InputError, match=f"the catalogue has no picture in {folder}"):
            duplicates(album, folders=[tmp_path / "pictures", folder])
        with pytest.raises(InputError, match=f"the catalogue has no picture in {folder}"):
            duplicates(album, rules=parse_rules(f"folder:{folder},resolution"))
    with pytest.raises(InputError, match="there is no format 'PGN': expected some of JPEG, PNG"):
        parse_rules("format:PGN/JPEG")
    assert parse_rules("format:heic/jpg/raw/jxl")
    store = Store.create(tmp_path / "empty")
    with pytest.raises(CatalogError, match="holds no pictures yet"):
        find_duplicates(store)
    store.close()


# ----------------------------------------------------------------- pictures that are not in the catalogue


def test_pictures_from_outside(album: Path, tmp_path: Path) -> None:
    duplicates(album)  # compares the pictures of the catalogue
    outside = tmp_path / "outside"
    save(outside / "resized.jpg", photo(3).resize((100, 75)), quality=80)
    save(outside / "cut.jpg", cut(photo(50)), quality=80)
    save(outside / "framed.jpg", framed(photo(50)), quality=80)
    save(outside / "unknown.jpg", photo(99))
    (outside / "bytes.png").write_bytes((tmp_path / "pictures" / "3.png").read_bytes())
    store = Store.open(album)
    inquiry = SimilarImageSearch(store, ToyEncoder())
    try:

        def found(name: str) -> list[tuple[str, str, int | None]]:
            return [
                (item.entry.path.name, item.tier, item.verdict.whole if item.verdict else None)
                for item in inquiry.search(outside / name, alike=1)
                if item.tier != "alike"
            ]

        assert found("resized.jpg") == [("3.png", "picture", None), ("wall.jpg", "part", 1)]
        assert found("cut.jpg") == [("other.png", "part", 1)]
        assert found("framed.jpg") == [("other.png", "part", 0)]
        assert found("unknown.jpg") == []
        assert found("bytes.png")[0][:2] == ("3.png", "bytes")
        assert [item.tier for item in inquiry.search(outside / "unknown.jpg", alike=2)] == ["alike", "alike"]
    finally:
        inquiry.close()
        store.close()
    store = Store.open(album)
    with pytest.raises(CatalogError, match="search with that model"):
        SimilarImageSearch(store, ToyEncoder(identity="toy:other"))
    store.close()


def test_the_same_bytes_are_told_of_however_pale_the_picture(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for number in range(40):
        image = Image.new("RGB", (64, 48), "white")
        image.putpixel((number, 20), (254, 254, 254))
        save(folder / f"{number}.png", image)
    index(tmp_path / "catalog", folder)
    store = Store.open(tmp_path / "catalog")
    inquiry = SimilarImageSearch(store, ToyEncoder())
    for path in folder.iterdir():
        first = inquiry.search(path)[0]
        assert (first.entry.path, first.tier, first.verdict) == (path, "bytes", None)
        assert first.cosine == pytest.approx(1, abs=0.001)
    inquiry.close()
    store.close()


def test_postgres_keeps_pairs_too(new_database: Callable[[], str], album: Path, tmp_path: Path) -> None:
    address = new_database()
    index(address, tmp_path / "pictures")
    store = Store.open(address)
    steps = Steps()
    try:
        result = [told_of(find_duplicates(store, stage=steps)) for _ in range(2)]
    finally:
        store.close()
    assert result[0] == result[1] == told_of(duplicates(album))
    assert len(steps.done) == 2
