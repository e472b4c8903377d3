"""Data that must not be lost: foreign folders, the space of another process, pictures on a missing drive."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from diptych.catalog import Store, check, failures
from diptych.catalog.annotations.records import ImageRecord
from diptych.catalog.database.database import Sqlite
from diptych.catalog.indexing import intake
from diptych.catalog.indexing.replacing import drop_space, replace_active
from diptych.catalog.indexing.run import space_for
from diptych.errors import CatalogError, ImageError
from tests.catalog.catalogs import colours, content, index, paint, search
from tests.toys import ToyEncoder


class Other(ToyEncoder):
    """An encoder with different vectors."""

    def encode_images(self, images: object) -> object:
        return -super().encode_images(images)  # type: ignore[arg-type, operator]

    def encode_texts(self, texts: object) -> object:
        return -super().encode_texts(texts)  # type: ignore[arg-type, operator]


OTHER, THIRD = Other(identity="sha256:other"), Other(identity="sha256:third")


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Six pictures, one per colour, in a catalogue."""
    colours(tmp_path / "album")
    index(tmp_path / "catalog", tmp_path / "album")
    return tmp_path / "album"


# ------------------------------------------------------------------------------------------- foreign files


def test_only_what_a_space_writes_is_swept(tmp_path: Path, album: Path) -> None:
    ours, theirs = tmp_path / "catalog" / "space-99", tmp_path / "catalog" / "space-shuttle"
    for folder in (ours, theirs, ours / "ivf"):
        folder.mkdir()
    paint(theirs / "x.png", "red")
    (ours / "000000.f16").write_bytes(b"left by a killed run")
    (mixed := tmp_path / "catalog" / "space-7").mkdir()
    (mixed / "holiday.jpg").write_bytes(b"not ours")
    index(tmp_path / "catalog", album)
    assert (theirs / "x.png").exists()
    assert (mixed / "holiday.jpg").exists()
    assert not ours.exists()


def test_a_catalogue_is_not_made_among_other_things(tmp_path: Path) -> None:
    colours(tmp_path / "photos")
    with pytest.raises(CatalogError, match=r"holds other files .* such as .*photos/.diptych"):
        Store.create(tmp_path / "photos")
    assert not (tmp_path / "photos" / "catalog.sqlite").exists()
    Store.create(tmp_path / "photos" / ".diptych").close()


# -------------------------------------------------------------------------------------- several processes


def test_the_number_of_a_space_is_never_given_out_again(tmp_path: Path, album: Path) -> None:
    """A run fills a space; another drops it and starts its own. The first must not write into the new one."""
    first, second = Store.open(tmp_path / "catalog"), Store.open(tmp_path / "catalog")
    filling = space_for(first, OTHER, "other", reembed=True)
    third = space_for(second, THIRD, "third", reembed=True)
    assert third.info.id != filling.info.id
    row = OTHER.encode_images([intake_picture()])[0]  # type: ignore[index]
    with pytest.raises(CatalogError, match="run the command again"):
        first.save_images([ImageRecord([], b"h" * 32, size=1, vector=row)], filling)
    assert len(third) == 0
    first.close()
    second.close()


def intake_picture() -> object:
    from PIL import Image

    return Image.new("RGB", (8, 8), "red")


def test_a_space_that_another_process_put_into_use_is_not_given_up(tmp_path: Path, album: Path) -> None:
    late = Store.open(tmp_path / "catalog")
    stale = space_for(late, OTHER, "other", reembed=True)
    index(tmp_path / "catalog", album, encoder=OTHER, reembed=True)
    drop_space(late, stale)  # as it was when it was opened: filling
    assert late.active is not None
    assert (late.active.info.identity, len(late)) == ("sha256:other", 6)
    late.close()


def test_two_that_replace_at_once(tmp_path: Path, album: Path) -> None:
    late = Store.open(tmp_path / "catalog")
    space_for(late, OTHER, "other", reembed=True)
    index(tmp_path / "catalog", album, encoder=OTHER, reembed=True)
    with pytest.raises(CatalogError, match="another process has replaced the vectors"):
        replace_active(late)
    late.close()


def test_two_that_begin_with_two_models(tmp_path: Path) -> None:
    single, two = Store.create(tmp_path / "catalog"), Store.open(tmp_path / "catalog")
    space_for(single, ToyEncoder(), "toy")
    two.active = None  # opened before the first process began
    golden = np.eye(4, 6, dtype=np.float32)
    with pytest.raises(CatalogError, match="another process is filling"):
        two.begin_space("sha256:other", "other", golden)
    single.close()
    two.close()


# ---------------------------------------------------------------------------------------------- archives


def packed(path: Path, *names: str, colour: str = "red") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(names):
            picture = paint(path.parent / "tmp.png", colour, shade=number)
            archive.write(picture, name)
            picture.unlink()


def test_a_run_killed_after_an_archive_was_listed_reads_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    album = tmp_path / "album"
    album.mkdir()
    packed(album / "a.zip", "a.png", "b.png")
    index(tmp_path / "catalog", album)
    packed(album / "a.zip", "a.png", "c.png", colour="blue")
    with monkeypatch.context() as broken:
        broken.setattr(
            "diptych.catalog.indexing.run.take_in", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            index(tmp_path / "catalog", album)
    outcome = index(tmp_path / "catalog", album)
    assert (outcome.embedded, outcome.removed) == (2, 1)
    assert sorted(member for _, member in content(tmp_path / "catalog")) == ["a.png", "c.png"]


def test_an_archive_that_could_not_be_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    album = tmp_path / "album"
    album.mkdir()
    packed(album / "a.zip", "a.png", "b.png")

    def down(path: object) -> None:
        raise ImageError("cannot be read: Host is down")

    for module in ("files.listing", "indexing.reading"):
        monkeypatch.setattr(f"diptych.catalog.{module}.list_archive", down)
    assert index(tmp_path / "catalog", album).failed == 1
    monkeypatch.undo()
    assert index(tmp_path / "catalog", album, settings=intake.IntakeSettings(retry=True)).embedded == 2
    assert sorted(member for _, member in content(tmp_path / "catalog")) == ["a.png", "b.png"]
    assert not index(tmp_path / "catalog", album).changed


def test_an_archive_that_cannot_be_read_any_more_keeps_its_pictures(tmp_path: Path) -> None:
    album = tmp_path / "album"
    album.mkdir()
    packed(album / "a.zip", "a.png", "b.png")
    paint(album / "c.png", "blue")
    index(tmp_path / "catalog", album)
    whole = (album / "a.zip").read_bytes()
    (album / "a.zip").write_bytes(whole[:40])
    outcome = index(tmp_path / "catalog", album)
    assert (outcome.failed, outcome.removed, outcome.retained) == (1, 0, 2)
    (album / "a.zip").write_bytes(whole)
    outcome = index(tmp_path / "catalog", album)
    assert (outcome.embedded, outcome.failed) == (0, 0)
    assert len(search(tmp_path / "catalog", "red")) == 3


# ---------------------------------------------------------------------------------------- missing drives


def test_a_drive_missing_inside_a_path_is_no_deletion(tmp_path: Path, album: Path) -> None:
    colours(album / "mount")
    index(tmp_path / "catalog", album)
    shutil.rmtree(album / "mount")
    (album / "mount").mkdir()  # the mount point of a drive that is away
    (album / "red.png").unlink()
    outcome = index(tmp_path / "catalog", album)
    assert (outcome.removed, outcome.retained) == (1, 6)
    assert index(tmp_path / "catalog", album, remove_gone=True).removed == 6


def test_a_deleted_folder_is_a_deletion(tmp_path: Path, album: Path) -> None:
    colours(album / "inner" / "deep")
    index(tmp_path / "catalog", album)
    shutil.rmtree(album / "inner")
    outcome = index(tmp_path / "catalog", album)
    assert (outcome.removed, outcome.retained) == (6, 0)


def test_a_link_to_a_drive_that_is_away_keeps_what_is_known(tmp_path: Path) -> None:
    there = paint(tmp_path / "drive" / "x.png", "red")
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "link.png").symlink_to(there)
    index(tmp_path / "catalog", tmp_path / "album")
    before = content(tmp_path / "catalog")
    (tmp_path / "drive").rename(tmp_path / "away")
    outcome = index(tmp_path / "catalog", tmp_path / "album")
    assert outcome.failed == 1
    assert search(tmp_path / "catalog", "red") == ["link.png"]
    (tmp_path / "away").rename(tmp_path / "drive")
    assert index(tmp_path / "catalog", tmp_path / "album").failed == 0
    assert content(tmp_path / "catalog") == before
    assert not index(tmp_path / "catalog", tmp_path / "album").changed


def test_a_read_that_fails_once_keeps_content_vector_and_tags(
    tmp_path: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych.catalog.indexing import reading

    os.utime(album / "red.png", ns=(1, 1))  # changed, and then the file server is down
    read = reading.read_source

    def down(source: Path, limits: object) -> bytes:
        if Path(source).name == "red.png":
            raise ImageError(f"{source}: cannot be read: Host is down") from OSError(112, "Host is down")
        return read(source, limits)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(reading, "read_source", down)
        assert index(tmp_path / "catalog", album).failed == 1
    store = Store.open(tmp_path / "catalog")
    assert [(path.name, reason) for path, _, reason in failures(store.database)] == [
        ("red.png", "cannot be read: Host is down")
    ]
    store.close()
    assert search(tmp_path / "catalog", "red")[0] == "red.png"
    outcome = index(tmp_path / "catalog", album)
    assert (outcome.embedded, outcome.copies, outcome.failed) == (0, 1, 0)
    store = Store.open(tmp_path / "catalog")
    assert not failures(store.database)
    store.close()


def test_a_file_whose_picture_was_replaced_by_rubbish_is_not_kept(tmp_path: Path, album: Path) -> None:
    (album / "red.png").write_bytes(b"no picture at all")
    assert index(tmp_path / "catalog", album).failed == 1
    assert "red.png" not in search(tmp_path / "catalog", "red")


def test_a_reader_who_may_not_write_sees_what_a_writer_is_adding(
    tmp_path: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Store.open(tmp_path / "catalog")
    with writer.database.writing():
        writer.database.run("INSERT INTO meta (key, value) VALUES ('new', 'seen')")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    reader = Sqlite(tmp_path / "catalog" / "catalog.sqlite")
    assert reader.readonly
    assert reader.all("SELECT value FROM meta WHERE key = 'new'") == [("seen",)]
    reader.close()
    writer.close()


# ---------------------------------------------------------------------------------------- embedding again


def test_what_keeps_a_new_model_from_its_place_is_told(tmp_path: Path, album: Path) -> None:
    paint(album / "gone" / "x.png", "red", shade=3)
    index(tmp_path / "catalog", album)
    (album / "gone" / "x.png").unlink()
    for _ in range(2):
        outcome = index(tmp_path / "catalog", album, encoder=OTHER, reembed=True)
        assert outcome.lacking == [(album / "gone" / "x.png", "")]
    assert len(search(tmp_path / "catalog", "red")) == 7  # the old space is still in use
    outcome = index(tmp_path / "catalog", album, encoder=OTHER, reembed=True, remove_gone=True)
    assert not outcome.lacking
    assert len(search(tmp_path / "catalog", "red", encoder=OTHER)) == 6


def test_a_picture_that_the_new_model_is_not_shown_stays_known(
    tmp_path: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych.embedding import batches as embedding

    load = embedding.load_image

    def fails(source: object, **options: object) -> object:
        if "red.png" in str(source) or getattr(source, "name", "").endswith("red.png"):
            raise ImageError("damaged")
        return load(source, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(embedding, "load_image", fails)
    outcome = index(tmp_path / "catalog", album, encoder=OTHER, reembed=True)
    assert outcome.lacking == [(album / "red.png", "")]
    store = Store.open(tmp_path / "catalog")
    hashes = store.database.all("SELECT difference_hash, width FROM contents WHERE error IS NOT NULL")
    assert len(hashes) == 1
    assert None not in hashes[0]
    store.close()
    assert search(tmp_path / "catalog", "red")[0] == "red.png"
    outcome = index(tmp_path / "catalog", album, encoder=OTHER, reembed=True, remove_gone=True)
    assert not outcome.lacking
    assert len(search(tmp_path / "catalog", "red", encoder=OTHER)) == 5


def test_golden_vectors_that_differ_are_mended_by_embedding_anew(tmp_path: Path, album: Path) -> None:
    changed = Other()  # with the identity of the catalogue's encoder
    with pytest.raises(CatalogError, match="embed again with --reembed"):
        index(tmp_path / "catalog", album, encoder=changed)
    assert index(tmp_path / "catalog", album, encoder=changed, reembed=True).embedded == 6
    assert len(search(tmp_path / "catalog", "red", encoder=changed)) == 6
    store = Store.open(tmp_path / "catalog")
    assert not check(store)
    store.close()


# ------------------------------------------------------------------------------------------- excluded paths


def test_what_was_left_out_stays_out(tmp_path: Path) -> None:
    album = tmp_path / "album"
    colours(album / "thumbs")
    paint(album / "inner" / "thumbs" / "x.png", "red", shade=5)
    paint(album / "inner" / "y.png", "red", shade=6)
    assert index(tmp_path / "catalog", album, exclude=["thumbs"]).embedded == 1
    assert not index(tmp_path / "catalog").changed
    assert not index(tmp_path / "catalog", album).changed
    assert not index(tmp_path / "catalog", album / "inner").changed
    assert index(tmp_path / "catalog", album, exclude=[""]).embedded == 7


def test_what_is_left_out_later_leaves(tmp_path: Path) -> None:
    album = tmp_path / "album"
    colours(album / "thumbs")
    paint(album / "y.png", "red", shade=6)
    index(tmp_path / "catalog", album)
    outcome = index(tmp_path / "catalog", album, exclude=["thumbs"])
    assert (outcome.removed, outcome.retained) == (6, 0)
    assert search(tmp_path / "catalog", "red") == ["y.png"]


def test_a_path_that_is_a_file_keeps_its_caption(tmp_path: Path) -> None:
    picture = paint(tmp_path / "album" / "x.png", "red")
    picture.with_suffix(".txt").write_text("a caption")
    index(tmp_path / "catalog", picture.parent)
    assert not index(tmp_path / "catalog", picture).changed
    store = Store.open(tmp_path / "catalog")
    assert store.database.all("SELECT caption FROM files") == [("a caption",)]
    store.close()


def test_times_no_database_holds(tmp_path: Path) -> None:
    picture = paint(tmp_path / "album" / "x.png", "red")
    os.utime(picture, (1.1e10, 1.1e10))
    assert index(tmp_path / "catalog", picture.parent).embedded == 1
    assert not index(tmp_path / "catalog", picture.parent).changed
