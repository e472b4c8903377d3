"""Indexing: after every kind of change on the disk, the catalogue holds what is on the disk."""

from __future__ import annotations

import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diptych.catalog import IntakeSettings, Store, check, failures, forget_paths
from diptych.catalog.database.file_space import FileSpace
from diptych.errors import CatalogError, InputError
from tests.catalog.catalogs import colours, content, index, paint, search, set_time
from tests.toys import ToyEncoder, picture_bytes, tar_bytes


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    colours(tmp_path / "pictures")
    return tmp_path / "pictures"


def test_pictures_are_found_by_words(tmp_path: Path, pictures: Path) -> None:
    outcome = index(tmp_path / "catalog", pictures)
    assert (outcome.embedded, outcome.failed) == (6, 0)
    for name in ("red", "green", "blue"):
        assert search(tmp_path / "catalog", f"something {name}")[0] == f"{name}.png"


def test_a_second_run_reads_nothing(tmp_path: Path, pictures: Path) -> None:
    index(tmp_path / "catalog", pictures)
    encoder = ToyEncoder()
    outcome = index(tmp_path / "catalog", pictures, encoder=encoder)
    assert (outcome.embedded, outcome.copies, outcome.same) == (0, 0, 6)
    assert encoder.calls == [("images", 2)]  # only the golden pictures


def test_without_paths_it_indexes_what_it_indexed_before(tmp_path: Path, pictures: Path) -> None:
    index(tmp_path / "catalog", pictures)
    paint(pictures / "new.png", "red", shade=9)
    assert index(tmp_path / "catalog").embedded == 1


def test_a_changed_file_is_read_again(tmp_path: Path, pictures: Path) -> None:
    index(tmp_path / "catalog", pictures)
    paint(pictures / "red.png", "blue", shade=3)
    set_time(pictures / "red.png", 10**9)
    assert index(tmp_path / "catalog", pictures).embedded == 1
    assert set(search(tmp_path / "catalog", "blue")[:2]) == {"red.png", "blue.png"}
    store = Store.open(tmp_path / "catalog")
    assert len(store) == 6  # no file contains the red picture any more
    assert store.active is not None
    assert int(store.active.dead.sum()) == 1
    store.close()


def test_copies_are_embedded_once(tmp_path: Path, pictures: Path) -> None:
    for n in range(3):
        shutil.copy(pictures / "red.png", pictures / f"copy-{n}.png")
    encoder = ToyEncoder()
    outcome = index(tmp_path / "catalog", pictures, encoder=encoder)
    assert (outcome.embedded, outcome.copies) == (6, 3)
    assert sum(count for kind, count in encoder.calls if kind == "images") == 6 + 2


def test_a_copy_that_comes_later_is_a_row_and_nothing_more(tmp_path: Path, pictures: Path) -> None:
    index(tmp_path / "catalog", pictures)
    shutil.copy(pictures / "red.png", pictures / "later.png")
    outcome = index(tmp_path / "catalog", pictures)
    assert (outcome.embedded, outcome.copies) == (0, 1)


def test_a_picture_goes_with_its_last_file(tmp_path: Path, pictures: Path) -> None:
    shutil.copy(pictures / "red.png", pictures / "copy.png")
    index(tmp_path / "catalog", pictures)
    (pictures / "red.png").unlink()
    assert index(tmp_path / "catalog", pictures).removed == 1
    assert search(tmp_path / "catalog", "red")[0] == "copy.png"
    (pictures / "copy.png").unlink()
    assert index(tmp_path / "catalog", pictures).removed == 1
    assert "copy.png" not in search(tmp_path / "catalog", "red")


def test_a_renamed_file_is_not_read_as_a_new_one(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(tmp_path / "catalog", pictures)
    (pictures / "sub").mkdir()
    (pictures / "red.png").rename(pictures / "sub" / "rot.png")

    def refuse(*_: object) -> None:
        raise AssertionError("a renamed file was opened")

    monkeypatch.setattr("diptych.catalog.indexing.reading.read_source", refuse)
    outcome = index(tmp_path / "catalog", pictures)
    assert (outcome.moved, outcome.removed, outcome.embedded) == (1, 0, 0)
    assert search(tmp_path / "catalog", "red")[0] == "rot.png"


def test_two_files_that_swap_their_names(tmp_path: Path, pictures: Path) -> None:
    index(tmp_path / "catalog", pictures)
    (pictures / "red.png").rename(pictures / "x")
    (pictures / "blue.png").rename(pictures / "red.png")
    (pictures / "x").rename(pictures / "blue.png")
    index(tmp_path / "catalog", pictures)
    assert search(tmp_path / "catalog", "red")[0] == "blue.png"
    assert content(tmp_path / "catalog") == content_of_fresh(tmp_path, pictures)


def content_of_fresh(tmp_path: Path, pictures: Path) -> dict[object, object]:
    index(tmp_path / "fresh", pictures)
    return content(tmp_path / "fresh")  # type: ignore[return-value]


def test_broken_files_are_listed_and_read_again_when_they_change(tmp_path: Path, pictures: Path) -> None:
    broken = pictures / "broken.png"
    broken.write_bytes(b"no picture at all")
    assert index(tmp_path / "catalog", pictures).failed == 1
    store = Store.open(tmp_path / "catalog")
    assert [(path, member) for path, member, _ in failures(store.database)] == [(broken, "")]
    assert "not a picture" in failures(store.database)[0][2]
    store.close()
    assert index(tmp_path / "catalog", pictures).failed == 0  # not read again
    assert index(tmp_path / "catalog", pictures, settings=IntakeSettings(retry=True)).failed == 1
    paint(broken, "red", shade=5)
    outcome = index(tmp_path / "catalog", pictures)
    assert (outcome.embedded, outcome.failed) == (1, 0)


def test_an_empty_folder_that_held_pictures_looks_like_a_missing_drive(
    tmp_path: Path, pictures: Path
) -> None:
    index(tmp_path / "catalog", pictures)
    shutil.rmtree(pictures)
    pictures.mkdir()
    outcome = index(tmp_path / "catalog", pictures)
    assert (outcome.removed, outcome.retained) == (0, 6)
    assert len(search(tmp_path / "catalog", "red")) == 6
    assert index(tmp_path / "catalog", pictures, remove_gone=True).removed == 6


def test_a_missing_path_is_told_and_loses_nothing(tmp_path: Path, pictures: Path) -> None:
    index(tmp_path / "catalog", pictures, colours(tmp_path / "other")[0].parent)
    shutil.rmtree(pictures)
    with pytest.raises(InputError, match="there is no such file or folder"):
        index(tmp_path / "catalog", pictures)
    paint(tmp_path / "other" / "new.png", "red", shade=9)
    outcome = index(tmp_path / "catalog")  # a remembered path: the others are still indexed
    assert outcome.unlisted == [(pictures, "it is not there")]
    assert (outcome.embedded, outcome.removed) == (1, 0)
    assert len(search(tmp_path / "catalog", "red")) == 7


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_keeps_what_is_known(tmp_path: Path, pictures: Path) -> None:
    colours(pictures / "closed")
    index(tmp_path / "catalog", pictures)
    (pictures / "closed").chmod(0)
    outcome = index(tmp_path / "catalog", pictures)
    (pictures / "closed").chmod(0o755)
    assert (outcome.removed, len(outcome.unlisted)) == (0, 1)


def test_an_unlisted_folder_keeps_what_is_known(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours(pictures / "closed")
    index(tmp_path / "catalog", pictures)
    scandir = os.scandir

    def fails(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", fails)
    outcome = index(tmp_path / "catalog", pictures)
    assert (outcome.removed, outcome.unlisted) == (0, [(pictures / "closed", "Permission denied")])


def test_files_are_taken_out_on_request(tmp_path: Path, pictures: Path) -> None:
    index(tmp_path / "catalog", pictures)
    store = Store.open(tmp_path / "catalog")
    assert forget_paths(store, [pictures / "red.png", pictures / "blue.png"]) == 2
    assert len(store) == 4
    assert forget_paths(store, [pictures]) == 4
    store.close()


def test_captions_beside_pictures(tmp_path: Path, pictures: Path) -> None:
    (pictures / "red.txt").write_text("a red wall\n")
    index(tmp_path / "catalog", pictures)
    store = Store.open(tmp_path / "catalog")
    assert ("a red wall",) in store.database.all("SELECT caption FROM files")
    store.close()
    (pictures / "red.txt").write_text("another text")
    set_time(pictures / "red.txt", 10**9)
    assert index(tmp_path / "catalog", pictures).copies == 1  # read again, not embedded again
    store = Store.open(tmp_path / "catalog")
    assert ("another text",) in store.database.all("SELECT caption FROM files")
    store.close()


def test_the_catalogue_inside_the_pictures_is_left_out(tmp_path: Path, pictures: Path) -> None:
    index(pictures / "catalog", pictures)
    paint(pictures / "catalog" / "inside.png", "red", shade=77)
    assert index(pictures / "catalog", pictures).embedded == 0


def test_patterns_leave_out_files_and_folders(tmp_path: Path, pictures: Path) -> None:
    colours(pictures / "thumbs")
    outcome = index(tmp_path / "catalog", pictures, exclude=["thumb*", "re*.png"])
    assert outcome.embedded == 5


def test_another_encoder_is_refused(tmp_path: Path, pictures: Path) -> None:
    index(tmp_path / "catalog", pictures)
    with pytest.raises(CatalogError, match="--reembed"):
        index(tmp_path / "catalog", pictures, encoder=ToyEncoder(identity="toy:other"))


class Rotated(ToyEncoder):
    """An encoder with the same colours on other axes."""

    def _rows(self, rows: object) -> np.ndarray:
        return np.roll(super()._rows(rows), 1, axis=1)  # type: ignore[arg-type]


def test_embedding_again_beside_the_vectors_in_use(tmp_path: Path, pictures: Path) -> None:
    index(tmp_path / "catalog", pictures)
    other = Rotated(identity="toy:rotated")
    index(tmp_path / "catalog", pictures, encoder=other, reembed=True)
    assert search(tmp_path / "catalog", "red", encoder=other)[0] == "red.png"
    with pytest.raises(CatalogError, match="search with that model"):
        search(tmp_path / "catalog", "red")
    assert len(list((tmp_path / "catalog").glob("space-*"))) == 1


def test_embedding_again_waits_for_pictures_that_cannot_be_reached(tmp_path: Path, pictures: Path) -> None:
    far = tmp_path / "far"
    paint(far / "far.png", "red", shade=4)
    index(tmp_path / "catalog", pictures, far)
    index(tmp_path / "catalog", pictures, encoder=Rotated(identity="toy:rotated"), reembed=True)
    assert "far.png" in search(tmp_path / "catalog", "red")  # the old space is still in use
    index(tmp_path / "catalog", pictures, far, encoder=Rotated(identity="toy:rotated"), reembed=True)
    assert "far.png" in search(tmp_path / "catalog", "red", encoder=Rotated(identity="toy:rotated"))


class Constant(ToyEncoder):
    """An encoder that gives every picture the same vector, as a broken driver once did."""

    def encode_images(self, images: object) -> np.ndarray:
        rows = super().encode_images(images)  # type: ignore[arg-type]
        rows[:] = rows[:1]
        return rows


def test_an_encoder_that_has_changed_under_its_name_is_refused(tmp_path: Path, pictures: Path) -> None:
    index(tmp_path / "catalog", pictures)
    with pytest.raises(CatalogError, match="no longer makes the vectors of pictures"):
        index(tmp_path / "catalog", pictures, encoder=Constant())


def test_two_catalogues_of_one_folder_are_equal(tmp_path: Path, pictures: Path) -> None:
    index(tmp_path / "one", pictures)
    index(tmp_path / "two", pictures / "red.png")
    index(tmp_path / "two", pictures)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_segments_are_crossed(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.catalog.store.store.SEGMENT_ROWS", 3)
    for n in range(20):
        paint(pictures / f"{n}.png", "red", shade=n + 1)
    index(tmp_path / "catalog", pictures)
    for n in range(0, 20, 2):
        (pictures / f"{n}.png").unlink()
    index(tmp_path / "catalog", pictures)
    assert content(tmp_path / "catalog") == content_of_fresh(tmp_path, pictures)
    store = Store.open(tmp_path / "catalog")
    assert store.active is not None
    assert int(store.active.dead.sum()) == 10
    store.close()


def test_settings_of_limits_reach_the_decoder(tmp_path: Path, pictures: Path) -> None:
    from diptych.media import Limits

    small = replace(IntakeSettings(), limits=Limits(max_pixels=10))
    assert index(tmp_path / "catalog", pictures, settings=small).failed == 6


def archive(path: Path, files: dict[str, bytes]) -> Path:
    """A zip or tar file, by its suffix."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for name, data in files.items():
                zipped.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data)
    else:
        path.write_bytes(tar_bytes(files, "w:gz" if path.suffix == ".tgz" else "w"))
    return path


@pytest.mark.parametrize("name", ["some.zip", "some.tar", "some.tgz"])
def test_pictures_in_archives_are_read_in_place(tmp_path: Path, pictures: Path, name: str) -> None:
    inside = {
        "a/rot.png": picture_bytes("red", (9, 9)),
        "a/rot.txt": b"a red square",
        "b.png": picture_bytes("blue", (9, 9)),
        "b.json": b'{"captions": ["blue", "very blue"]}',
        "readme.md": b"words",
        "copy.png": (pictures / "green.png").read_bytes(),
    }
    path = archive(pictures / name, inside)
    outcome = index(tmp_path / "catalog", pictures)
    assert (outcome.embedded, outcome.copies, outcome.failed) == (8, 1, 0)
    held = {key: value for key, value in content(tmp_path / "catalog").items() if key[1]}
    assert {member for _, member in held} == {"a/rot.png", "b.png", "copy.png"}
    store = Store.open(tmp_path / "catalog")
    captions = store.database.all("SELECT member, caption FROM files WHERE caption <> '' ORDER BY member")
    store.close()
    assert captions == [("a/rot.png", "a red square"), ("b.png", "blue very blue")]
    assert index(tmp_path / "catalog", pictures).same == 9
    del inside["b.png"]
    set_time(archive(path, inside), 10**9)
    outcome = index(tmp_path / "catalog", pictures)
    assert (outcome.removed, outcome.embedded, outcome.copies) == (1, 0, 2)
    path.unlink()
    assert index(tmp_path / "catalog", pictures).removed == 2


@pytest.mark.parametrize("name", ["some.zip", "some.tar", "some.tgz"])
def test_a_damaged_archive_is_one_failure(tmp_path: Path, pictures: Path, name: str) -> None:
    path = archive(pictures / name, {f"{n}.png": os.urandom(3000) for n in range(3)})
    path.write_bytes(path.read_bytes()[:-2000] if name == "some.zip" else b"not an archive at all")
    outcome = index(tmp_path / "catalog", pictures)
    assert (outcome.embedded, outcome.failed) == (6, 1)
    store = Store.open(tmp_path / "catalog")
    assert [(item, member) for item, member, _ in failures(store.database)] == [(path, "")]
    store.close()


def test_an_archive_that_was_half_read_is_listed_again(tmp_path: Path, pictures: Path) -> None:
    archive(pictures / "some.tar", {f"{n}.png": picture_bytes((n, 2, 3)) for n in range(5)})
    index(tmp_path / "catalog", pictures)
    store = Store.open(tmp_path / "catalog")
    store.forget([(os.fsencode(pictures / "some.tar"), "3.png")])  # as if a run had been killed before it
    store.close()
    assert index(tmp_path / "catalog", pictures).embedded == 1


def test_dead_rows_are_left_out_when_there_are_too_many(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(20):
        paint(pictures / f"{n}.png", "red", shade=n + 1)
    index(tmp_path / "catalog", pictures)
    for n in range(0, 20, 2):
        (pictures / f"{n}.png").unlink()
    monkeypatch.setattr("diptych.catalog.indexing.replacing.MIN_DEAD_ROWS", 5)
    monkeypatch.setattr("diptych.catalog.indexing.replacing._CHUNK", 3)
    assert index(tmp_path / "catalog", pictures).compacted == 10
    store = Store.open(tmp_path / "catalog")
    assert isinstance(store.active, FileSpace)
    assert (store.active.segments.rows, len(store.active)) == (16, 16)
    assert store.active.background() is not None
    assert check(store) == []
    store.close()
    assert len(list((tmp_path / "catalog").glob("space-*"))) == 1
    assert content(tmp_path / "catalog") == content_of_fresh(tmp_path, pictures)
    assert index(tmp_path / "catalog", pictures).compacted == 0


def test_what_others_write_while_rows_are_copied_is_copied_too(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych.catalog.indexing import replacing

    index(tmp_path / "catalog", pictures)
    (pictures / "red.png").unlink()
    index(tmp_path / "catalog", pictures)
    monkeypatch.setattr(replacing, "MIN_DEAD_ROWS", 1)
    monkeypatch.setattr(replacing, "MAX_DEAD_SHARE", 0.0)
    replace, begun = replacing.replace_active, False

    def other_writer(store: Store) -> bool:
        nonlocal begun
        if not begun:
            begun = True
            with monkeypatch.context() as quiet:
                quiet.setattr("diptych.catalog.indexing.run.compact", lambda *_: 0)
                paint(pictures / "late.png", "blue", shade=50)
                index(tmp_path / "catalog", pictures)
        return replace(store)

    monkeypatch.setattr(replacing, "replace_active", other_writer)
    assert index(tmp_path / "catalog", pictures).compacted == 1
    assert "late.png" in search(tmp_path / "catalog", "blue")
    assert len(search(tmp_path / "catalog", "blue")) == 6


def test_a_half_written_space_of_a_killed_run_is_dropped(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych.catalog.indexing import replacing

    index(tmp_path / "catalog", pictures)
    (pictures / "red.png").unlink()
    monkeypatch.setattr(replacing, "MIN_DEAD_ROWS", 1)
    monkeypatch.setattr(replacing, "MAX_DEAD_SHARE", 0.0)

    def dies(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(replacing, "_copy", dies)
        with pytest.raises(KeyboardInterrupt):
            index(tmp_path / "catalog", pictures)
    assert len(list((tmp_path / "catalog").glob("space-*"))) == 1
    assert len(search(tmp_path / "catalog", "blue")) == 5
    index(tmp_path / "catalog", pictures)
    store = Store.open(tmp_path / "catalog")
    assert store.filling is None
    assert check(store) == []
    store.close()


def test_a_space_that_is_replaced_while_pictures_are_read(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych.catalog.indexing import replacing
    from diptych.catalog.indexing import run as indexing

    index(tmp_path / "catalog", pictures)
    (pictures / "red.png").unlink()
    index(tmp_path / "catalog", pictures)
    paint(pictures / "late.png", "blue", shade=50)
    take_in = indexing.take_in

    def replaced_first(*arguments: object, **more: object) -> None:
        store = Store.open(tmp_path / "catalog")
        with monkeypatch.context() as worn:
            worn.setattr(replacing, "MIN_DEAD_ROWS", 1)
            worn.setattr(replacing, "MAX_DEAD_SHARE", 0.0)
            assert replacing.compact(store, indexing.silent) == 1
        store.close()
        take_in(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(indexing, "take_in", replaced_first)
    assert index(tmp_path / "catalog", pictures).embedded == 1
    assert "late.png" in search(tmp_path / "catalog", "blue")
