"""Detailed comparison of near-identical pictures: a changed word, or additional pages."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageOps

from diptych.catalog import Store
from diptych.catalog.duplicates.finding import files_of, find_duplicates
from diptych.catalog.duplicates.groups import DuplicateGroup
from diptych.catalog.duplicates.similar import SimilarImageSearch
from diptych.catalog.duplicates.trash import move_to_trash, still_copy
from diptych.cli.search.similar import describe_similarity
from diptych.matching.detail_view import DetailView, confirm_same_image, differing_box
from diptych.matching.verdicts import Verdict
from tests.catalog.catalogs import index
from tests.catalog.photos import photo, save
from tests.toys import ToyEncoder

SAME = Verdict("picture", "saved again", 1.0)


def screenshot(said: str, size: tuple[int, int] = (1920, 1080)) -> Image.Image:
    """A chat screenshot; the caller gives its last line."""
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, 300, size[1]), fill=(230, 233, 240))
    for number in range(size[1] // 30 - 2):
        pen.text((20, 20 + 30 * number), f"somebody no. {number * 7 % 31}", fill=(40, 40, 40), font_size=16)
        if number < 20:
            words = f"what was said at {number * 37 % 60} minutes past {number % 12}, and by whom"
            pen.text((330, 20 + 30 * number), words, fill=(10, 10, 10), font_size=16)
    pen.text((330, 20 + 30 * 21), said, fill=(10, 10, 10), font_size=16)
    return image


def saved(image: Image.Image, kind: str, **how: object) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return Image.open(buffer).convert("RGB")


def pages(path: Path, images: list[Image.Image]) -> Path:
    images[0].save(path, save_all=True, append_images=images[1:])
    return path


def groups(catalog: Path) -> tuple[DuplicateGroup, ...]:
    store = Store.open(catalog)
    try:
        return find_duplicates(store).groups
    finally:
        store.close()


def test_a_word_in_a_screenshot_is_a_difference() -> None:
    yes, no = DetailView.of(screenshot("yes, I agree")), DetailView.of(screenshot("no, I refuse"))
    box = differing_box(yes, no)
    assert box is not None
    assert 0.16 < box[0] < box[2] < 0.3
    assert 0.58 < box[1] < box[3] < 0.65
    assert differing_box(yes, yes) is None
    assert confirm_same_image(SAME, yes, no) == Verdict("part", "written over", 1.0, box)
    for how in ({"quality": 30}, {"quality": 90}):
        assert differing_box(yes, DetailView.of(saved(screenshot("no, I refuse"), "JPEG", **how))) is not None
    flipped = DetailView.of(ImageOps.mirror(screenshot("no, I refuse")))
    assert confirm_same_image(Verdict("picture", "mirrored", 1.0), yes, flipped).tier == "part"
    back = DetailView.of(ImageOps.mirror(screenshot("yes, I agree")))
    assert confirm_same_image(Verdict("picture", "mirrored", 1.0), yes, back).tier == "picture"


@pytest.mark.parametrize("image", [screenshot("yes"), photo(1, (1500, 1000)), photo(2, (700, 2600))])
def test_saved_again_is_no_difference(image: Image.Image) -> None:
    closer = DetailView.of(image)
    copies = [
        *(saved(image, "JPEG", quality=quality) for quality in (20, 40, 60, 90)),
        *(saved(image, "WEBP", quality=quality) for quality in (30, 80)),
        saved(image, "GIF"),
        image.point(lambda value: min(round(value * 1.05 + 3), 255)),
    ]
    for factor in (0.3, 0.5, 0.77, 0.9, 1.5, 2):
        size = round(image.width * factor), round(image.height * factor)
        copies += [
            saved(image.resize(size, how), "JPEG", quality=70)
            for how in (Image.Resampling.LANCZOS, Image.Resampling.BILINEAR, Image.Resampling.BOX)
        ]
    for copy in copies:
        assert differing_box(closer, DetailView.of(copy)) is None
        assert differing_box(DetailView.of(copy), closer) is None


def test_other_screenshots_are_no_copies(tmp_path: Path) -> None:
    folder, catalog = tmp_path / "pictures", tmp_path / "catalog"
    yes, no = (save(folder / f"{said}.png", screenshot(f"{said}, I do")) for said in ("yes", "no"))
    save(folder / "again.jpg", screenshot("yes, I do"), quality=80)
    index(catalog, folder)
    result = groups(catalog)
    assert [(group.tier, group.kept.file.path, len(group.others)) for group in result] == [
        ("picture", yes, 1),
        ("part", yes, 1),
    ]
    store = Store.open(catalog)
    files = {file.path: file for each in files_of(store).values() for file in each}
    assert "no longer shows" in (still_copy(files[no], files[yes], "picture") or "")
    assert [source.name for source, _ in move_to_trash(store, result, tiers=("bytes", "picture")).files] == [
        "again.jpg"
    ]
    inquiry = SimilarImageSearch(store, ToyEncoder())
    message = {
        item.entry.path.name: describe_similarity(item)
        for item in inquiry.search(save(tmp_path / "a.webp", screenshot("no, I do")))
    }
    inquiry.close()
    store.close()
    assert message == {"no.png": "the same: saved again", "yes.png": "the same but written over"}


def test_scans_with_one_page_in_common_are_no_copies(tmp_path: Path) -> None:
    folder, catalog = tmp_path / "pictures", tmp_path / "catalog"
    save(folder / "page.png", photo(1))
    single, two = (pages(folder / f"scan{number}.tif", [photo(1), photo(number)]) for number in (2, 3))
    index(catalog, folder)
    result = groups(catalog)
    assert {group.tier for group in result} == {"part"}
    assert {member.pair.verdict.change for group in result for member in group.others if member.pair} == {
        "first frame"
    }
    assert {(group.kept.file.path, member.file.path.name) for group in result for member in group.others} >= {
        (single, "page.png"),
        (two, "page.png"),
    }
    store = Store.open(catalog)
    files = {file.path: file for each in files_of(store).values() for file in each}
    assert "no longer shows" in (still_copy(files[single], files[two], "picture") or "")
    assert move_to_trash(store, result, tiers=("bytes", "picture")).files == []
    inquiry = SimilarImageSearch(store, ToyEncoder())
    outside = pages(tmp_path / "outside.tif", [photo(1), photo(9)])
    message = {single.entry.path.name: describe_similarity(single) for single in inquiry.search(outside)}
    inquiry.close()
    store.close()
    assert message["page.png"] == "it is part of yours: first frame"
    assert message["scan2.tif"] == message["scan3.tif"] == "the same first frame"
