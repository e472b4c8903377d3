"""Content digests and fingerprints of data sets, and pictures that two data sets share."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diptych.audits.generated_images
import diptych.audits.limits.text_overlay
import diptych.evaluation.robustness.corrupted_sets  # noqa: F401  # for their subclasses of ImageCollection
from diptych.datasets import ImageDataset, contents, load_labelled
from diptych.datasets.dataset import ImageCollection
from diptych.datasets.overlap import HEAVY, check_overlaps, find_overlap, without_copies
from diptych.errors import DataError
from tests.layout_files import idx_bytes, noise, write_idx
from tests.toys import picture_bytes, tar_bytes


def grey(shade: int) -> bytes:
    return picture_bytes((shade, shade, shade))


def packed(path: Path, shades: dict[str, int]) -> ImageDataset:
    path.write_bytes(tar_bytes({name: grey(shade) for name, shade in shades.items()}))
    return load_labelled(path)


def test_a_fingerprint_follows_the_content_and_not_the_size(tmp_path: Path) -> None:
    pixels = noise(3, 4, 4)
    write_idx(tmp_path, "t10k", pixels, [0, 1, 2])
    before = load_labelled(tmp_path).fingerprint
    assert load_labelled(tmp_path).fingerprint == before
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(255 - pixels))  # the negative, of equal size
    assert load_labelled(tmp_path).fingerprint != before


def test_a_fingerprint_follows_order_and_answers_and_not_names(tmp_path: Path) -> None:
    first = packed(tmp_path / "a.tar", {"x/cat/1.png": 1, "x/dog/2.png": 2})
    renamed = packed(tmp_path / "b.tar", {"cat/0009.png": 1, "dog/0001.png": 2})
    turned = packed(tmp_path / "c.tar", {"dog/2.png": 2, "cat/1.png": 1})
    swapped = packed(tmp_path / "d.tar", {"x/cat/1.png": 2, "x/dog/2.png": 1})
    assert first.fingerprint == renamed.fingerprint
    assert (
        len({item.fingerprint for item in (first, turned, swapped)}) == 3
    )  # outcomes are paired by position


def test_a_file_that_was_replaced_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    single, two = picture_bytes((1, 2, 3)), picture_bytes((3, 2, 1))
    monkeypatch.setattr(contents, "_SETTLED", -1)  # as if the file had just changed
    for kind in ("folder", "a.tar"):
        path = tmp_path / kind
        if kind == "folder":
            (path / "cat").mkdir(parents=True)
            file = path / "cat/1.png"
            file.write_bytes(single)
        else:
            file = path
            file.write_bytes(tar_bytes({"cat/1.png": single}))
        data, state = load_labelled(path), file.stat()
        before = data.digests()
        monkeypatch.setattr(contents, "content_digest", lambda content: pytest.fail("hashed again"))
        assert data.digests() == before
        monkeypatch.undo()
        monkeypatch.setattr(contents, "_SETTLED", -1)
        other = file.with_name("other")
        other.write_bytes(two if kind == "folder" else tar_bytes({"cat/1.png": two}))
        other.replace(file)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))  # as cp -p and rsync -t preserve it
        assert file.stat().st_size == state.st_size
        assert data.digests() != before


def test_what_is_made_of_other_pictures_says_so() -> None:
    def subclasses(kind: type) -> Iterator[type]:
        for item in kind.__subclasses__():
            yield from (item, *subclasses(item))

    on_disk = (ImageCollection, ImageDataset)
    made = [
        item
        for item in subclasses(ImageCollection)
        if "__iter__" in vars(item) and item.__module__.startswith("diptych") and item not in on_disk
    ]
    assert len(made) >= 4
    for item in made:  # cached rows are identified by digests and `made_of`
        assert any(
            getattr(item, name) not in [getattr(kind, name) for kind in on_disk]
            for name in ("digests", "made_of")
        ), item


def test_pixels_of_another_form_differ() -> None:
    assert contents.content_digest(Image.new("L", (2, 8))) != contents.content_digest(Image.new("L", (4, 4)))


def test_shared_pictures_are_counted_under_any_name(tmp_path: Path) -> None:
    train = packed(tmp_path / "a.tar", {f"cat/{i}.png": i for i in range(4)})
    test = packed(tmp_path / "b.tar", {f"dog/x{i}.png": i for i in range(3, 103)})
    overlap = find_overlap(train, test)
    assert (overlap.shared, overlap.fraction) == (1, 0.25)  # a share of the smaller set
    assert str(overlap) == "1 picture of b is in a too"
    with pytest.raises(
        DataError, match=r"1 picture of b is in a too \(25% of one of them\).*--allow-overlap"
    ):
        check_overlaps([train, test])
    with pytest.warns(UserWarning, match="1 picture of b is in a too"):
        assert check_overlaps([train, test], allow=True) == [overlap]


def test_a_few_shared_pictures_are_told_and_unreadable_ones_are_not_shared(tmp_path: Path) -> None:
    train = packed(tmp_path / "a.tar", {f"cat/{i}.png": i for i in range(100)})
    few = packed(tmp_path / "b.tar", {f"cat/{i}.png": i for i in range(98, 198)})
    assert find_overlap(train, few).fraction < HEAVY
    with pytest.warns(UserWarning, match="2 pictures of b are in a too: the figures count them"):
        check_overlaps([train, few])
    apart = packed(tmp_path / "c.tar", {f"cat/{i}.png": i for i in range(200, 255)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_overlaps([train, apart]) == []
    for name in ("x", "y"):
        (tmp_path / name / "cat").mkdir(parents=True)
        (tmp_path / name / "cat/1.png").symlink_to("nowhere")
    assert find_overlap(load_labelled(tmp_path / "x"), load_labelled(tmp_path / "y")).shared == 0


@pytest.mark.parametrize("count", [60, 120])
def test_few_images_are_read_to_see_that_no_file_is_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    read: list[int] = []
    digest = contents.content_digest
    monkeypatch.setattr(contents, "content_digest", lambda image: read.append(1) or digest(image))
    for shard in range(3):
        files = {f"dog/{shard}-{n}.png": bytes(1000 * shard + n + 1) for n in range(count)}
        files["dog/0.png"] = bytes([shard]) * 7000  # all three have the same size
        (tmp_path / f"{shard}.tar").write_bytes(tar_bytes(files))
    result = [load_labelled(tmp_path / f"{shard}.tar") for shard in range(3)]
    whole = replace(
        result[0],
        entries=tuple(entry for item in result for entry in item.entries),
        labels=np.zeros(3 * (count + 1), np.int64),
    )
    assert without_copies(whole) is whole
    assert len(read) <= 3
