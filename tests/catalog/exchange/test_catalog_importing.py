"""Import of embeddings made elsewhere into a catalogue, and export from it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diptych.catalog import (
    ImportReport,
    Searcher,
    SearchOptions,
    Store,
    check,
    export_vectors,
    import_vectors,
    index_pictures,
    read_entries,
)
from diptych.catalog.exchange import import_rows
from diptych.embedding import embed_to_folder, read_parts
from diptych.encoder import Encoder
from diptych.errors import CatalogError, DataError
from diptych.media.folders import archives
from diptych.progress import Progress, Stage
from tests.catalog.catalogs import colours, content, index, paint, search
from tests.toys import COLOURS, ToyEncoder, picture, picture_bytes, tar_bytes


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Six colours, one of them twice."""
    colours(tmp_path / "album")
    (tmp_path / "album" / "red again.png").write_bytes((tmp_path / "album" / "red.png").read_bytes())
    return tmp_path / "album"


@pytest.fixture
def foreign(album: Path, tmp_path: Path) -> Path:
    """A folder as clip-retrieval writes it: two parts, half precision, captions, no manifest."""
    folder = tmp_path / "foreign"
    paths = sorted(album.glob("*.png"))
    for number, part in enumerate((paths[:4], paths[4:])):
        rows = ToyEncoder().encode_images([picture(path.stem.split()[0]) for path in part]) * 1.01
        for name in ("img_emb", "text_emb", "metadata"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", rows.astype(np.float16))
        captions = [f"a {path.stem} wall" for path in part]
        np.save(folder / "text_emb" / f"text_emb_{number}.npy", ToyEncoder().encode_texts(captions))
        table = pa.table({"image_path": [str(path) for path in part], "caption": captions})
        pq.write_table(table, folder / "metadata" / f"metadata_{number}.parquet")
    return folder


def take(
    catalog: str | Path, source: Path, encoder: Encoder | None = None, **options: object
) -> ImportReport:
    store = Store.create(catalog)
    try:
        done = import_vectors(store, encoder or ToyEncoder(), source, **options)  # type: ignore[arg-type]
        assert check(store) == []
        return done
    finally:
        store.close()


def test_what_embed_made_is_what_index_would_have_made(album: Path, tmp_path: Path) -> None:
    embed_to_folder(ToyEncoder(), [album], tmp_path / "vectors", unit_rows=3)
    done = take(tmp_path / "imported", tmp_path / "vectors")
    assert (done.rows, done.added, done.existing, done.unreachable) == (7, 6, 1, 0)
    index(tmp_path / "indexed", album)
    assert content(tmp_path / "imported") == content(tmp_path / "indexed")
    assert index(tmp_path / "imported", album).embedded == 0
    assert take(tmp_path / "imported", tmp_path / "vectors") == ImportReport(rows=7, existing=7)


@pytest.mark.parametrize("mixed", [False, True])
def test_an_archive_is_read_as_often_however_many_pictures_are_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mixed: bool
) -> None:
    monkeypatch.setattr(import_rows, "ROWS", 5)
    opened: list[Path] = []
    entries = archives._entries
    monkeypatch.setattr(archives, "_entries", lambda path: opened.append(path) or entries(path))
    members = archives._members
    monkeypatch.setattr(archives, "_members", lambda path, *more: opened.append(path) or members(path, *more))
    counts = []
    for count in (20, 40):
        home = tmp_path / f"{count}"
        home.mkdir()
        for shard in ("a.tgz", "b.tgz"):
            files = {
                f"{n}.png": picture_bytes("red", (9, n + 9 + 50 * (shard == "a.tgz"))) for n in range(count)
            }
            (home / shard).write_bytes(tar_bytes(files, "w:gz"))
        embed_to_folder(ToyEncoder(), [home / "a.tgz", home / "b.tgz"], home / "vectors")
        if mixed:
            path = next((home / "vectors").glob("metadata/*.parquet"))
            table = pq.read_table(path)
            pq.write_table(table.take(sorted(range(len(table)), key=lambda place: place % count)), path)
        opened.clear()
        store = Store.create(home / "catalog")
        result = import_vectors(store, ToyEncoder(), home / "vectors", root=home, trust=mixed)
        store.close()
        counts.append(len(opened))
        assert result.rows == 2 * count
    assert counts[1] == counts[0]


def test_members_of_shards_are_found_in_them(tmp_path: Path) -> None:
    shard = tmp_path / "0.tar"
    shard.write_bytes(tar_bytes({f"{name}.png": picture_bytes(name) for name in COLOURS}))
    embed_to_folder(ToyEncoder(), [shard], tmp_path / "vectors")
    assert take(tmp_path / "imported", tmp_path / "vectors").added == 6
    index(tmp_path / "indexed", shard)
    assert content(tmp_path / "imported") == content(tmp_path / "indexed")


def test_a_folder_of_clip_retrieval_is_compared_and_taken(album: Path, foreign: Path, tmp_path: Path) -> None:
    done = take(tmp_path / "catalog", foreign)
    assert (done.rows, done.added, done.compared) == (7, 6, 4)
    assert search(tmp_path / "catalog", "green")[0] == "green.png"


def test_a_picture_whose_library_is_missing_is_not_compared(
    album: Path, foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (album / "black.png").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    for library in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, library, None)
    done = take(tmp_path / "catalog", foreign)
    assert (done.added, done.compared) == (6, 3)


def test_vectors_of_another_model_are_refused(foreign: Path, tmp_path: Path) -> None:
    class Other(ToyEncoder):
        def _rows(self, given: object) -> object:
            return np.roll(super()._rows(given), 1, axis=1)  # type: ignore[arg-type]

    with pytest.raises(CatalogError, match=r"another model: of 4 .* 0% agree"):
        take(tmp_path / "catalog", foreign, Other())
    with pytest.raises(CatalogError, match="4 numbers, the model makes 5"):
        take(tmp_path / "catalog", foreign, ToyEncoder(dim=5), trust=True)
    assert take(tmp_path / "catalog", foreign, Other(), trust=True).added == 6


def test_vectors_of_texts_and_empty_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("red\n")
    embed_to_folder(ToyEncoder(), [tmp_path / "words.txt"], tmp_path / "words")
    with pytest.raises(CatalogError, match="vectors of texts"):
        take(tmp_path / "catalog", tmp_path / "words")
    (tmp_path / "words" / "parts" / "part_0.json").unlink()
    with pytest.raises(DataError, match="holds no vectors"):
        take(tmp_path / "catalog", tmp_path / "words")


def test_ours_say_whose_they_are(album: Path, tmp_path: Path) -> None:
    embed_to_folder(ToyEncoder(), [album], tmp_path / "vectors")
    with pytest.raises(CatalogError, match="of the model toy:colours"):
        take(tmp_path / "catalog", tmp_path / "vectors", ToyEncoder(identity="toy:other"))


def test_pictures_that_are_gone_are_searched_by_their_names(
    album: Path, foreign: Path, tmp_path: Path
) -> None:
    album.rename(tmp_path / "elsewhere")
    done = take(tmp_path / "catalog", foreign)  # checked by the embeddings of its texts
    assert (done.added, done.unreachable, done.compared) == (7, 7, 4)
    assert search(tmp_path / "catalog", "blue")[0] == "blue.png"
    store = Store.open(tmp_path / "catalog")
    (entry,) = read_entries(store.database, [1])
    assert (entry.name, entry.caption) == (str(album / "black.png"), "a black wall")
    store.close()
    assert take(tmp_path / "catalog", foreign).added == 0


def test_nothing_to_compare_with_needs_trust(album: Path, foreign: Path, tmp_path: Path) -> None:
    album.rename(tmp_path / "elsewhere")
    for path in (foreign / "text_emb").iterdir():
        path.unlink()
    with pytest.raises(CatalogError, match="--trust"):
        take(tmp_path / "catalog", foreign)
    assert take(tmp_path / "catalog", foreign, trust=True).added == 7


def test_relative_paths_begin_at_the_root(album: Path, tmp_path: Path) -> None:
    rows = ToyEncoder().encode_images([picture(name) for name in COLOURS])
    table = pa.table(
        {"path": [f"{name}.png" for name in COLOURS], "vector": rows.astype(np.float64).tolist()}
    )
    pq.write_table(table, tmp_path / "vectors.parquet")
    done = take(tmp_path / "catalog", tmp_path / "vectors.parquet", root=album)
    assert (done.added, done.unreachable, done.compared) == (6, 0, 6)
    with pytest.raises(DataError, match="no column 'path' of vectors"):
        take(tmp_path / "catalog", tmp_path / "vectors.parquet", column="path")


def test_times_have_no_zone_and_none_is_made_up(tmp_path: Path) -> None:
    when = ("2020-05-01T12:00:00+02:00", "2021-05-01T12:00:00Z", "2022-05-01 12:00:00", "", "once")
    rows = [
        {"url": f"https://example.org/{n}.jpg", "taken": taken, "vector": [1.0, n, 0.0, 0.0]}
        for n, taken in enumerate(when)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "vectors.parquet")
    assert take(tmp_path / "catalog", tmp_path / "vectors.parquet", trust=True).added == 5
    store = Store.open(tmp_path / "catalog")
    by_date = SearchOptions(cutoff=None, collapse=False, sort="date")
    result = [hit.entry.taken for hit in Searcher(store, ToyEncoder()).search("red", by_date).hits]
    assert result == [*(datetime(year, 5, 1, 12) for year in (2022, 2021, 2020)), None, None]
    store.database.run(
        "UPDATE contents SET taken = '2020-05-01 12:00:00+02:00' WHERE id = 1"
    )  # as an earlier version stored it
    assert read_entries(store.database, [1])[0].taken == datetime(2020, 5, 1, 12)
    store.close()


def test_numbers_that_are_none_or_too_large_are_left_out(
    tmp_path: Path, new_database: Callable[[], str]
) -> None:
    odd = [float("nan"), float("inf"), -1.0, 1e30, 3.0, None]
    names = ("width", "height", "bytes", "modified", "latitude", "longitude")
    rows = [
        {"url": f"https://example.org/{n}.jpg", "vector": [1.0, n, 0.0, 0.0], **dict.fromkeys(names, value)}
        for n, value in enumerate(odd)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "vectors.parquet")
    for catalog in (tmp_path / "catalog", new_database()):
        assert take(catalog, tmp_path / "vectors.parquet", trust=True).added == 6
        store = Store.open(catalog)
        entries = read_entries(store.database, range(1, 7))
        store.close()
        sizes = [(entry.width, entry.height, entry.size) for entry in entries]
        assert sizes == [(0, 0, 0)] * 4 + [(3, 3, 3), (0, 0, 0)]
        places = [(entry.latitude, entry.longitude) for entry in entries]
        assert places == [(None, None)] * 2 + [(-1.0, -1.0), (None, None), (3.0, 3.0), (None, None)]


def test_texts_that_no_database_keeps_come_without_what_it_refuses(
    tmp_path: Path, new_database: Callable[[], str]
) -> None:
    row = {"path": "a\0b.jpg", "caption": "a wall\0", "camera": "x\0y", "format": "P\0NG"}
    table = pa.Table.from_pylist([row | {"vector": [1.0, 0.0, 0.0, 0.0]}])
    pq.write_table(table, tmp_path / "vectors.parquet")
    for catalog in (tmp_path / "catalog", new_database()):
        assert take(catalog, tmp_path / "vectors.parquet", trust=True).added == 1
        store = Store.open(catalog)
        (entry,) = read_entries(store.database, [1])
        assert (entry.caption, entry.camera, entry.format) == ("a wall", "xy", "PNG")
        store.close()


def test_a_file_that_has_changed_since_is_left_out(album: Path, tmp_path: Path) -> None:
    embed_to_folder(ToyEncoder(), [album], tmp_path / "vectors")
    paint(album / "blue.png", "red", shade=9)
    done = take(tmp_path / "catalog", tmp_path / "vectors")
    assert (done.added, done.changed) == (5, 1)
    assert "blue.png" not in search(tmp_path / "catalog", "red")


def test_parts_that_do_not_belong_together_are_refused(foreign: Path, tmp_path: Path) -> None:
    names = [foreign / "metadata" / f"metadata_{number}.parquet" for number in (0, 1)]
    names[0].rename(foreign / "kept")
    names[1].rename(names[0])
    (foreign / "kept").rename(names[1])
    with pytest.raises(DataError, match="do not belong together"):
        take(tmp_path / "catalog", foreign)


@pytest.mark.parametrize("broken", [np.zeros(4), np.full(4, np.nan)])
def test_vectors_that_are_none_are_refused(foreign: Path, tmp_path: Path, broken: np.ndarray) -> None:
    path = foreign / "img_emb" / "img_emb_1.npy"
    rows = np.load(path)
    rows[1] = broken
    np.save(path, rows)
    with pytest.raises(DataError, match="zero or not finite"):
        take(tmp_path / "catalog", foreign)


@pytest.fixture
def stored(album: Path, tmp_path: Path) -> Iterator[Store]:
    (album / "red.txt").write_text("a red wall")
    (album / "broken.png").write_bytes(b"?")
    (tmp_path / "album" / "0.tar").write_bytes(tar_bytes({"in/grey.png": picture_bytes((90, 90, 91))}))
    index(tmp_path / "catalog", album)
    store = Store.open(tmp_path / "catalog")
    yield store
    store.close()


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_out_and_in_again(stored: Store, tmp_path: Path, name: str) -> None:
    assert export_vectors(stored, tmp_path / name, part_rows=4) == 7
    done = take(tmp_path / "again", tmp_path / name)
    assert (done.added, done.unreachable, done.changed, done.compared) == (7, 0, 0, 0)
    before, after = content(tmp_path / "catalog"), content(tmp_path / "again")
    assert {key for key in before if before[key][2] is None} - set(after) <= {
        (bytes(tmp_path / "album" / "red.png"), ""),
        (bytes(tmp_path / "album" / "red again.png"), ""),
    }  # only one of several copies is exported
    for key, (digest, row, _) in after.items():
        assert before[key][0] == digest
        kept, made = (np.frombuffer(item or b"", np.float16) for item in (before[key][1], row))
        np.testing.assert_allclose(kept, made, atol=1e-3)


def test_what_is_exported_can_be_read_by_others(stored: Store, tmp_path: Path) -> None:
    export_vectors(stored, tmp_path / "out")
    rows = np.load(tmp_path / "out" / "img_emb" / "img_emb_0.npy")
    table = pq.read_table(tmp_path / "out" / "metadata" / "metadata_0.parquet").to_pylist()
    assert (rows.shape, rows.dtype) == ((7, 4), np.float16)
    assert next(row["caption"] for row in table if row["key"] in ("red", "red again")) in ("a red wall", "")
    assert f"{tmp_path / 'album' / '0.tar'}/in/grey.png" in [row["image_path"] for row in table]
    assert len(list(read_parts(tmp_path / "out"))) == 1
    with pytest.raises(CatalogError, match="there already"):
        export_vectors(stored, tmp_path / "out")
    export_vectors(stored, tmp_path / "out.parquet")
    whole = pq.read_table(tmp_path / "out.parquet")
    assert whole.schema.field("embedding").type == pa.list_(pa.float32(), 4)
    assert np.array(whole["embedding"].to_pylist()).shape == (7, 4)


def while_written(catalog: Path, write: Callable[[Store], object]) -> Stage:
    """Let another process write to the catalogue after the first part."""

    @contextmanager
    def stage(what: str, total: int | None) -> Iterator[Progress]:
        waiting = [catalog]

        def advance(count: int) -> None:
            while waiting:
                store = Store.open(waiting.pop())
                write(store)
                store.close()

        yield advance

    return stage


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_pictures_that_come_while_it_runs_are_left_out(
    stored: Store, album: Path, tmp_path: Path, name: str
) -> None:
    paint(album / "before.png", "white", shade=8)
    index(tmp_path / "catalog")  # indexed after `stored` was opened

    def add(store: Store) -> None:
        paint(album / "later.png", "white", shade=9)
        index_pictures(store, ToyEncoder())

    stage = while_written(tmp_path / "catalog", add)
    assert export_vectors(stored, tmp_path / name, part_rows=4, stage=stage) == 8
    assert export_vectors(stored, tmp_path / f"again-{name}", part_rows=4) == 9


def test_vectors_that_are_replaced_while_it_runs_end_it(stored: Store, tmp_path: Path) -> None:
    other = ToyEncoder(identity="toy:other")
    stage = while_written(tmp_path / "catalog", lambda store: index_pictures(store, other, reembed=True))
    with pytest.raises(CatalogError, match="replaced by another process: run the command again"):
        export_vectors(stored, tmp_path / "out", part_rows=2, stage=stage)
    assert not (tmp_path / "out" / "manifest.json").exists()
    stored.reopen()
    assert export_vectors(stored, tmp_path / "out", part_rows=4) == 7
    assert sum(len(part) for part in read_parts(tmp_path / "out")) == 7
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("img_emb", "manifest.json", "metadata", "parts")
    ]
    with pytest.raises(CatalogError, match="there already"):
        export_vectors(stored, tmp_path / "out")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CatalogError, match="there already"):
        export_vectors(stored, tmp_path / "file")


def test_addresses_stay_as_they_were(tmp_path: Path) -> None:
    rows = ToyEncoder().encode_images([picture("red")])
    table = pa.table({"url": ["https://example.org/a.jpg"], "embedding": rows.tolist()})
    pq.write_table(table, tmp_path / "vectors.parquet")
    take(tmp_path / "catalog", tmp_path / "vectors.parquet", trust=True)
    store = Store.open(tmp_path / "catalog")
    assert read_entries(store.database, [1])[0].name == "https://example.org/a.jpg"
    export_vectors(store, tmp_path / "out.parquet")
    store.close()
    assert pq.read_table(tmp_path / "out.parquet")["image_path"].to_pylist() == ["https://example.org/a.jpg"]
