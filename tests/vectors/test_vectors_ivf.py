"""IVF index: recall, reproducible builds, kills and full disks, damaged or foreign files, filters."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import CatalogError, InputError, MissingExtraError, SaveError
from diptych.vectors import ivf_build
from diptych.vectors.exact import rerank
from diptych.vectors.ivf import HEAD, IvfHeader, IvfIndex, RowFilter, collection_hash
from diptych.vectors.ivf_build import build_ivf
from diptych.vectors.segments import Segments
from tests.catalog.spaces_of_rows import by_hand, pictures_and_texts, recall, segments_of
from tests.paths import python_path

ROWS, DIM = 6000, 24


@pytest.fixture(scope="module")
def texts() -> np.ndarray:
    return pictures_and_texts(ROWS, DIM, 400)[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, texts: np.ndarray) -> tuple[Segments, Path]:
    folder = tmp_path_factory.mktemp("space")
    segments = segments_of(folder, pictures_and_texts(ROWS, DIM, 1)[0], segment_rows=2500)
    build_ivf(segments, folder / "ivf", texts[:200])
    return segments, folder / "ivf"


def opened(built: tuple[Segments, Path]) -> IvfIndex:
    ivf = IvfIndex.open(built[1], built[0])
    assert ivf is not None
    return ivf


def copied(built: tuple[Segments, Path], folder: Path) -> Path:
    """A copy of the index that a test may damage."""
    folder.mkdir()
    for path in built[1].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def codes_in(folder: Path) -> Path:
    return next(folder.glob("*.faiss"))


# --------------------------------------------------------------------------------------------------- builds


def test_queries_it_was_not_judged_with_find_their_neighbours(
    built: tuple[Segments, Path], texts: np.ndarray
) -> None:
    segments, _ = built
    ivf = opened(built)
    assert [setting.k for setting in ivf.head.settings] == [10, 200]
    for setting in ivf.head.settings:
        assert setting.recall >= ivf_build.TARGET
        assert setting.probes < ivf.head.lists  # otherwise it is a full scan
        result = [
            rerank(segments, query, ivf.probe(query, setting).candidates, setting.k)[0]
            for query in texts[200:]
        ]
        true, _ = by_hand(segments, texts[200:], setting.k)
        assert recall(np.array(result), true) >= 0.98


def test_texts_take_more_lists_than_pictures(built: tuple[Segments, Path], tmp_path: Path) -> None:
    """Recall is measured with texts because pictures would suggest too few probes."""
    segments, _ = built
    pictures = segments.gather(np.arange(0, ROWS, 30)).astype(np.float32)
    judged = build_ivf(segments, tmp_path, pictures).head.settings[0]
    assert judged.probes * 2 < opened(built).head.settings[0].probes


def test_a_build_can_be_repeated(built: tuple[Segments, Path], texts: np.ndarray, tmp_path: Path) -> None:
    segments, _ = built
    again = build_ivf(segments, tmp_path, texts[:200]).head
    first = opened(built).head
    assert (again.checksum, again.settings) == (first.checksum, first.settings)
    assert build_ivf(segments, tmp_path, texts[:200], seed=1).head.checksum != first.checksum


def test_the_report_says_what_was_found(
    built: tuple[Segments, Path], texts: np.ndarray, tmp_path: Path
) -> None:
    result = build_ivf(built[0], tmp_path, texts[:200]).summary()
    assert "6,000 rows in 310 lists" in result
    assert "recall over 200 text queries: 0.99" in result


def test_progress_is_told(built: tuple[Segments, Path], texts: np.ndarray, tmp_path: Path) -> None:
    seen: dict[str, list[int]] = {}

    @contextlib.contextmanager
    def stage(what: str, total: int | None) -> Any:
        seen[what] = [total or 0, 0]

        def done(count: int) -> None:
            seen[what][1] += count

        yield done

    build_ivf(built[0], tmp_path, texts[:50], stage=stage)
    assert len(seen) == 3
    assert all(total == done > 0 for total, done in seen.values())


def test_damaged_rows_are_no_neighbours(texts: np.ndarray, tmp_path: Path) -> None:
    pictures, _ = pictures_and_texts(1000, DIM, 1)
    pictures[::7] = np.nan
    segments = segments_of(tmp_path, pictures)
    build_ivf(segments, tmp_path / "ivf", texts[:50])
    ivf = opened((segments, tmp_path / "ivf"))
    setting = ivf.head.settings[0]
    result = rerank(segments, texts[60], ivf.probe(texts[60], setting).candidates, 10)[0]
    assert (result % 7 != 0).all()


def test_an_index_that_loses_neighbours_is_not_put_in_place(
    built: tuple[Segments, Path], texts: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments, _ = built
    whole = IvfIndex.search_lists

    def losing(self: IvfIndex, *arguments: Any, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        rows, estimates = whole(self, *arguments, **options)
        return np.where(rows % 20 == 0, -1, rows), estimates  # one in twenty is never found

    monkeypatch.setattr(IvfIndex, "search_lists", losing)
    with pytest.raises(CatalogError, match="less than 98% of the nearest"):
        build_ivf(segments, tmp_path, texts[:200])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("rows", "count"), [(100, 50), (1000, 3)])
def test_too_little_to_build_from(texts: np.ndarray, tmp_path: Path, rows: int, count: int) -> None:
    segments = segments_of(tmp_path, pictures_and_texts(rows, DIM, 1)[0])
    with pytest.raises(InputError, match="at least 256 rows and 16 text queries"):
        build_ivf(segments, tmp_path / "ivf", texts[:count])


# ---------------------------------------------------------------------------------- kills and full devices


def test_a_full_device_leaves_the_old_index(
    built: tuple[Segments, Path], texts: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import faiss

    folder = copied(built, tmp_path / "ivf")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(index: Any, name: str) -> None:
        Path(name).write_bytes(b"IwPf half")
        raise RuntimeError("Error in write_index: write error: No space left on device")

    monkeypatch.setattr(faiss, "write_index", full)
    with pytest.raises(SaveError, match="No space left"):
        build_ivf(built[0], folder, texts[:50])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


KILLED = """
import os, signal, sys
from pathlib import Path
import faiss, numpy as np
from tests.catalog.spaces_of_rows import pictures_and_texts
from diptych.vectors import ivf_build
from diptych.vectors.segments import Segments
folder, where, rows = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
kill = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
whole = faiss.write_index
def half(index, name):
    whole(index, name)
    os.truncate(name, os.path.getsize(name) // 2)
    kill()
if where == "codes":
    faiss.write_index = half
elif where == "head":
    ivf_build.write_bytes = kill
else:
    ivf_build._delete_unused = kill
segments = Segments(folder, 24, rows, segment_rows=2500)
ivf_build.build_ivf(segments, folder / "ivf", pictures_and_texts(rows, 24, 50)[1], seed=1)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
@pytest.mark.parametrize("where", ["codes", "head", "tidy"])
def test_killed_it_leaves_the_old_index_or_the_new(texts: np.ndarray, tmp_path: Path, where: str) -> None:
    segments = segments_of(tmp_path, pictures_and_texts(1000, DIM, 1)[0], segment_rows=2500)
    folder = tmp_path / "ivf"
    build_ivf(segments, folder, texts[:50])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), where, "1000"],
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert opened((segments, folder)).head.seed == (1 if where == "tidy" else 0)
    left = {path for path in folder.iterdir() if opened((segments, folder)).head.file not in path.name}
    assert left - {folder / HEAD}
    for path in left - {folder / HEAD}:
        os.utime(path, (0, 0))  # a day later
    build_ivf(segments, folder, texts[:50])
    assert len(list(folder.iterdir())) == 3


# -------------------------------------------------------------------------------- damaged and foreign files


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def change(folder: Path, **fields: object) -> None:
    result = json.loads((folder / HEAD).read_bytes())
    (folder / HEAD).write_text(json.dumps({**result, **fields}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: cut(codes_in(folder)), "truncated, or copied in part"),
        (lambda folder: flip(codes_in(folder)), "another checksum than"),
        (lambda folder: cut(next(folder.glob("*.lists"))), "truncated, or copied in part"),
        (lambda folder: codes_in(folder).unlink(), "is missing"),
        (lambda folder: (folder / HEAD).write_bytes(b"\x00" * 300), "cannot be parsed"),
        (lambda folder: change(folder, format=99), "cannot be parsed"),
        (lambda folder: change(folder, surprise=1), "cannot be parsed"),
        (
            lambda folder: change(folder, dim=12),
            "6,000 rows of 12 numbers, and the catalogue has 6,000 of 24",
        ),
        (lambda folder: change(folder, rows=7000), "7,000 rows of 24 numbers"),
        (lambda folder: change(folder, rows=5000), "other pictures"),
        (lambda folder: change(folder, lists=99), "does not match ivf.json"),
    ],
)
def test_a_damaged_index_is_refused(
    built: tuple[Segments, Path], tmp_path: Path, damage: Any, message: str
) -> None:
    folder = copied(built, tmp_path / "ivf")
    damage(folder)
    with pytest.raises(CatalogError, match=message):
        IvfIndex.open(folder, built[0])


@given(
    data=st.binary()
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda any_: st.dictionaries(
            st.sampled_from(["format", "rows", "dim", "lists", "settings", "file", "size", "checksum"]), any_
        ),
    ).map(lambda told: json.dumps(told).encode())
)
@settings(max_examples=100)
def test_whatever_stands_in_the_head_is_read_or_refused(
    built: tuple[Segments, Path], tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("ivf")
    (folder / HEAD).write_bytes(data)
    with pytest.raises(CatalogError, match="cannot be parsed"):
        IvfIndex.open(folder, built[0])


@pytest.mark.parametrize(
    "field", ["rows", "dim", "lists", "settings", "file", "size", "checksum", "collection"]
)
@pytest.mark.parametrize("value", [None, -1, "x", [3], {"a": 1}, 1e400])
def test_a_head_with_one_field_wrong_is_refused(
    built: tuple[Segments, Path], tmp_path: Path, field: str, value: object
) -> None:
    folder = copied(built, tmp_path / "ivf")
    change(folder, **{field: value})
    with pytest.raises(CatalogError):
        IvfIndex.open(folder, built[0])


def test_an_index_of_another_collection_is_refused(built: tuple[Segments, Path], tmp_path: Path) -> None:
    other = segments_of(tmp_path, pictures_and_texts(ROWS, DIM, 1, seed=5)[0])
    with pytest.raises(CatalogError, match="built from other pictures"):
        IvfIndex.open(built[1], other)
    assert collection_hash(other, 50) != collection_hash(built[0], 50)


def test_an_index_that_names_rows_it_cannot_hold_is_no_answer(
    built: tuple[Segments, Path], texts: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    ivf = opened(built)
    wrong = (np.zeros((1, 5), np.float32), np.full((1, 5), ROWS))
    monkeypatch.setattr(ivf._index, "search", lambda *a, **o: wrong, raising=False)
    with pytest.raises(CatalogError, match=r"names row 6000 of 6,000"):
        ivf.search_lists(texts[:1], 3, 5)


def test_lists_that_are_known_need_not_be_looked_for(built: tuple[Segments, Path], texts: np.ndarray) -> None:
    ivf = opened(built)
    setting = ivf.head.settings[0]
    for query in texts[:20]:
        result, estimates = ivf.search_lists(query[None], setting.probes, setting.candidates)
        visit = ivf.probe(query, setting)
        np.testing.assert_array_equal(visit.candidates, np.sort(result[0][result[0] >= 0]))
        assert visit.last_estimate == pytest.approx(float(estimates[0, -1]), abs=1e-5)


def test_no_index_is_none(built: tuple[Segments, Path], tmp_path: Path) -> None:
    assert IvfIndex.open(tmp_path, built[0]) is None


def test_without_faiss_it_says_what_to_install(
    built: tuple[Segments, Path], texts: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"diptych\[search\]"):
        build_ivf(built[0], tmp_path, texts)
    with pytest.raises(MissingExtraError, match=r"diptych\[search\]"):
        IvfIndex.open(*reversed(built))


# ------------------------------------------------------------------------------------------------ queries


def test_rows_that_may_not_answer_are_no_candidates(built: tuple[Segments, Path], texts: np.ndarray) -> None:
    ivf = opened(built)
    setting = ivf.head.settings[0]
    dead = np.arange(ROWS) % 3 == 0
    seen = ivf.probe(texts[0], setting, ivf.row_filter(None, dead)).candidates
    assert len(seen)
    assert not dead[seen].any()
    allowed = np.arange(5, ROWS, 4)
    seen = ivf.probe(texts[0], setting, ivf.row_filter(allowed, None)).candidates
    assert len(seen)
    assert np.isin(seen, allowed).all()


def test_a_query_meets_as_many_rows_with_a_filter_as_without(
    built: tuple[Segments, Path], texts: np.ndarray
) -> None:
    ivf = opened(built)
    setting = ivf.head.settings[0]
    query = texts[0]
    free = ivf.probe(query, setting)
    near = np.argsort(-(ivf.centres @ query))[: setting.probes]
    allowed = np.flatnonzero(~np.isin(ivf._list_of, near))  # the lists that it would visit are empty
    kept = ivf.row_filter(allowed, None)
    assert isinstance(kept, RowFilter)
    assert kept.sizes.sum() == len(allowed)
    bound = ivf.probe(query, setting, kept)
    met = len(allowed) - bound.unprobed_sizes.sum()
    assert met >= min(ROWS - free.unprobed_sizes.sum(), len(allowed))


def test_when_it_is_worth_building_again(built: tuple[Segments, Path]) -> None:
    ivf = opened(built)
    assert ivf.needs_rebuild(ROWS) is None
    assert ivf.needs_rebuild(int(1.2 * ROWS)) is None
    assert "1,201 pictures were added to the 6,000 in the index" in str(
        ivf.needs_rebuild(int(1.2 * ROWS) + 1)
    )
    dead = np.arange(ROWS) < 1200
    assert ivf.needs_rebuild(ROWS, dead) is None
    dead[1200] = True
    assert "1,201 of the 6,000 pictures in the index were removed" in str(ivf.needs_rebuild(ROWS, dead))


def test_a_head_is_read_as_it_was_written(built: tuple[Segments, Path]) -> None:
    head = opened(built).head
    assert IvfHeader.from_json(head.to_json()) == head
