"""Trash for duplicates: move and undo; one copy always stays, nothing is overwritten or lost in a kill."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from diptych.catalog import Store, check
from diptych.catalog.duplicates.finding import files_of, find_duplicates
from diptych.catalog.duplicates.keeping import parse_rules
from diptych.catalog.duplicates.trash import FOLDER, TrashReport, move_to_trash, still_copy
from diptych.catalog.duplicates.undo import put_back, take_back
from diptych.errors import InputError, SaveError
from diptych.files import moving
from diptych.files.moving import move_file
from tests.catalog.catalogs import index
from tests.catalog.photos import cut, photo, save
from tests.paths import python_path

HERE = Path(__file__).parent
COPIES = ("bytes", "picture")
Contents = dict[str, bytes]


def contents(folder: Path) -> Contents:
    """The content of every file that is not hidden, by its path."""
    return {
        os.fspath(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Originals, identical files, the same pictures saved again, and a crop of one."""
    folder = tmp_path / "pictures"
    for seed in range(3):
        save(folder / f"{seed}.png", photo(seed))
        save(folder / "again" / f"{seed}.jpg", photo(seed), quality=80)
        (folder / "deep" / "er").mkdir(parents=True, exist_ok=True)
        (folder / "deep" / "er" / f"{seed}.png").write_bytes((folder / f"{seed}.png").read_bytes())
    save(folder / "part.png", cut(photo(0)))
    save(folder / "alone.png", photo(9))
    index(tmp_path / "catalog", folder)
    store = Store.open(tmp_path / "catalog")
    find_duplicates(store)  # the files may have changed after this
    store.close()
    return folder


def move(catalog: Path, trash: Path | None = None, **options: object) -> TrashReport:
    options = {"tiers": COPIES, **options}
    store = Store.open(catalog)
    try:
        result = find_duplicates(store, tiers=("bytes", "picture", "part"), rules=parse_rules())
        return move_to_trash(store, result.groups, trash, **options)  # type: ignore[arg-type]
    finally:
        store.close()


def test_copies_go_and_come_back(tmp_path: Path, pictures: Path) -> None:
    before = contents(pictures)
    moved = move(tmp_path / "catalog")
    assert (len(moved.files), moved.refused) == (6, [])
    assert moved.size == sum(len(before[str(source.relative_to(pictures))]) for source, _ in moved.files)
    assert set(contents(pictures)) == {"0.png", "1.png", "2.png", "part.png", "alone.png"}
    assert moved.undo is not None
    for source, target in moved.files:
        assert target == pictures / FOLDER / moved.undo.stem / source.relative_to(pictures)
        assert target.read_bytes() == before[str(source.relative_to(pictures))]
    store = Store.open(tmp_path / "catalog")
    assert check(store) == []
    assert store.database.all("SELECT COUNT(*) FROM files")[0][0] == 5
    restored = put_back(moved.undo)
    assert sorted(restored.files) == sorted(source for source, _ in moved.files)
    assert restored.problems == []
    assert contents(pictures) == before
    assert not any((pictures / FOLDER).iterdir())
    assert take_back(store, restored) == 3  # files with known bytes; the others have to be embedded
    assert store.database.all("SELECT COUNT(*) FROM files")[0][0] == 8
    assert check(store) == []
    assert store.database.all("SELECT id FROM contents WHERE width IS NULL") == []  # hashes are known again
    store.close()
    assert index(tmp_path / "catalog", pictures).embedded == 3
    again = put_back(moved.undo)
    assert (again.files, again.untouched, again.problems) == ([], 6, [])


def test_indexing_passes_the_trash_over(tmp_path: Path, pictures: Path) -> None:
    move(tmp_path / "catalog")
    outcome = index(tmp_path / "catalog", pictures)
    assert (outcome.embedded, outcome.copies, outcome.removed) == (0, 0, 0)
    assert move(tmp_path / "catalog").undo is None


def test_a_trash_folder_of_ones_own(tmp_path: Path, pictures: Path) -> None:
    before = contents(pictures)
    moved = move(tmp_path / "catalog", tmp_path / "trash")
    assert moved.undo is not None
    for source, target in moved.files:
        assert target == tmp_path / "trash" / moved.undo.stem / source.relative_to("/")
    put_back(moved.undo)
    assert contents(pictures) == before
    with pytest.raises(InputError, match="is indexed: its pictures would come back"):
        move(tmp_path / "catalog", pictures / "trash")
    assert contents(pictures) == before
    index(tmp_path / "catalog", pictures)
    assert len(move(tmp_path / "catalog", pictures / ".hidden").files) == 6


def test_parts_go_only_when_asked_for(tmp_path: Path, pictures: Path) -> None:
    moved = move(tmp_path / "catalog", tiers=("part",))
    assert [source.name for source, _ in moved.files] == ["part.png"]
    assert (pictures / "0.png").exists()


# ------------------------------------------------------------------------------------- one copy has to stay


def test_what_is_kept_has_to_be_there_and_what_it_was(tmp_path: Path, pictures: Path) -> None:
    (pictures / "0.png").unlink()
    save(pictures / "1.png", photo(1, (40, 30)))  # the same picture, but no longer the larger copy
    moved = move(tmp_path / "catalog")
    reasons = {str(file.path.relative_to(pictures)): reason for file, reason in moved.refused}
    assert set(reasons) == {"again/0.jpg", "deep/er/0.png", "again/1.jpg", "deep/er/1.png"}
    assert "no longer exists" in reasons["again/0.jpg"]
    for name in ("again/1.jpg", "deep/er/1.png"):
        assert f"{pictures / '1.png'} has changed since it was indexed: run diptych index" in reasons[name]
    assert {source.name for source, _ in moved.files} == {"2.jpg", "2.png"}


def test_what_is_kept_in_an_archive_has_to_be_what_it_was(tmp_path: Path, pictures: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.write(pictures / "0.png", "inside.png")
    store = Store.open(tmp_path / "catalog")
    index(tmp_path / "catalog", tmp_path / "some.zip")
    by_name = {file.path.name: file for files in files_of(store).values() for file in files}
    copy, kept = by_name["0.jpg"], by_name["some.zip"]
    store.close()
    assert still_copy(copy, kept, "picture") is None
    os.utime(kept.path, (1, 1))
    assert "has changed since it was indexed" in (still_copy(copy, kept, "picture") or "")


def test_the_pictures_are_looked_at_once_more(tmp_path: Path, pictures: Path) -> None:
    """Pixels are compared again before a move, even where sizes and times agree."""
    store = Store.open(tmp_path / "catalog")
    by_name = {file.name: file for files in files_of(store).values() for file in files}
    store.close()
    kept, same, again = (by_name[str(pictures / name)] for name in ("0.png", "deep/er/0.png", "again/0.jpg"))
    assert still_copy(same, kept, "bytes") is still_copy(again, kept, "picture") is None
    save(kept.path, photo(50))
    status = kept.path.stat()
    kept = dataclasses.replace(kept, size=status.st_size, modified=status.st_mtime_ns)
    assert "no longer identical" in (still_copy(same, kept, "bytes") or "")
    assert "no longer shows" in (still_copy(again, kept, "picture") or "")


@pytest.mark.parametrize("kind", ["the copy is a link", "the kept one is a link", "two names of one file"])
@pytest.mark.parametrize("when", ["before it is indexed", "after"])
def test_names_of_one_file_are_no_copies(tmp_path: Path, kind: str, when: str) -> None:
    folder = tmp_path / "pictures"
    save(folder / "a.png", photo(0))
    other = folder / "other-name.png"
    if when == "after":  # with its old times, so that the change is invisible
        shutil.copy2(folder / "a.png", other)
        index(tmp_path / "catalog", folder)
        other.unlink()
    if kind == "two names of one file":
        os.link(folder / "a.png", other)
    elif kind == "the copy is a link":
        other.symlink_to("a.png")
    else:
        (folder / "a.png").rename(other)
        (folder / "a.png").symlink_to("other-name.png")
    if when == "after":
        moved = move(tmp_path / "catalog")
        assert "the same file on disk" in moved.refused[0][1]
    else:
        index(tmp_path / "catalog", folder)
        moved = move(tmp_path / "catalog")
        assert moved.undo is None
    assert moved.files == []
    assert (folder / "a.png").read_bytes() == other.read_bytes()


def test_members_of_archives_stay(tmp_path: Path, pictures: Path) -> None:
    import zipfile

    with zipfile.ZipFile(pictures / "some.zip", "w") as archive:
        archive.write(pictures / "alone.png", "inside.png")
    index(tmp_path / "catalog", pictures)
    moved = move(tmp_path / "catalog")
    assert (len(moved.files), moved.refused) == (6, [])
    assert zipfile.ZipFile(pictures / "some.zip").namelist() == ["inside.png"]
    assert (pictures / "alone.png").exists()


# ---------------------------------------------------------------------------------------------- undo lists


def test_the_line_is_there_before_the_file_moves(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def watched(source: Path, target: Path) -> None:
        lists = list((tmp_path / "catalog" / "undo").iterdir())
        result = [json.loads(line) for line in lists[0].read_text().splitlines()]
        assert result[0] == {"diptych": "undo", "version": 1, "catalog": str(tmp_path / "catalog")}
        assert (result[-1]["from"], result[-1]["to"]) == (str(source), str(target))
        assert source.exists()
        seen.append(source.name)

    monkeypatch.setattr("diptych.catalog.duplicates.trash.move_file", watched)
    move(tmp_path / "catalog")
    assert len(seen) == 6


def test_nothing_is_written_over(tmp_path: Path, pictures: Path) -> None:
    moved = move(tmp_path / "catalog")
    assert moved.undo is not None
    mine = pictures / "again" / "1.jpg"
    mine.parent.mkdir(exist_ok=True)
    mine.write_bytes(b"made meanwhile")
    restored = put_back(moved.undo)
    assert len(restored.files) == 5
    assert [path for path, _ in restored.problems] == [mine]
    assert mine.read_bytes() == b"made meanwhile"
    assert (pictures / FOLDER / moved.undo.stem / "again" / "1.jpg").exists()


def test_a_link_to_the_moved_file_does_not_lose_it(tmp_path: Path, pictures: Path) -> None:
    moved = move(tmp_path / "catalog")
    assert moved.undo is not None
    source, target = moved.files[0]
    source.parent.mkdir(parents=True, exist_ok=True)
    source.symlink_to(target)
    before = target.read_bytes()
    restored = put_back(moved.undo)
    assert [path for path, _ in restored.problems] == [source]
    assert source.read_bytes() == target.read_bytes() == before


def test_lists_that_are_none(tmp_path: Path, pictures: Path) -> None:
    moved = move(tmp_path / "catalog")
    assert moved.undo is not None
    lines = moved.undo.read_bytes().splitlines(keepends=True)
    for text, message in (
        (b"", "not an undo list"),
        (b"[]\n", "not an undo list"),
        (b'{"a": 1}\n', "not an undo list"),
    ):
        (tmp_path / "other").write_bytes(text)
        with pytest.raises(InputError, match=message):
            put_back(tmp_path / "other")
    with pytest.raises(InputError, match="cannot be read"):
        put_back(tmp_path / "nowhere")
    (tmp_path / "other").write_bytes(b"".join([lines[0], lines[1][:20] + b"\n", *lines[2:]]))
    with pytest.raises(InputError, match="line 2 is damaged"):
        put_back(tmp_path / "other")
    moved.undo.write_bytes(b"".join(lines) + b'{"from": "/x')  # killed while it was written
    assert len(put_back(moved.undo).files) == 6


def test_names_that_are_no_text_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    save(folder / "a.png", photo(0))
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/longer-\xff\xfe name.png"))
    odd.write_bytes((folder / "a.png").read_bytes())
    index(tmp_path / "catalog", folder)
    moved = move(tmp_path / "catalog")
    assert [source for source, _ in moved.files] == [odd]
    assert moved.undo is not None
    assert put_back(moved.undo).files == [odd]
    assert odd.exists()


# ------------------------------------------------------------------------------------------------- moving


def refuses(code: int) -> Callable[..., None]:
    def link(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return link


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM], ids=["another device", "no hard links"])
def test_moving_where_names_cannot_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    source, target = tmp_path / "a", tmp_path / "b" / "c"
    source.write_bytes(b"bytes" * 1000)
    os.utime(source, (10**9, 10**9))
    monkeypatch.setattr(os, "link", refuses(code))
    move_file(source, target)
    assert not source.exists()
    assert (target.read_bytes(), int(target.stat().st_mtime)) == (b"bytes" * 1000, 10**9)
    assert list(target.parent.iterdir()) == [target]
    source.write_bytes(b"new")
    with pytest.raises(FileExistsError):
        move_file(source, target)
    assert source.read_bytes() == b"new"
    assert target.read_bytes() == b"bytes" * 1000


def test_a_copy_that_is_not_the_same_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "a", tmp_path / "b" / "c"
    source.write_bytes(b"bytes")
    monkeypatch.setattr(os, "link", refuses(errno.EXDEV))
    digests = iter((b"one", b"another"))
    monkeypatch.setattr(moving, "digest", lambda path: next(digests))
    with pytest.raises(SaveError, match="is not the same"):
        move_file(source, target)
    assert source.read_bytes() == b"bytes"
    assert list(target.parent.iterdir()) == []


def test_what_cannot_be_taken_away_is_not_given_a_second_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "a", tmp_path / "b" / "c"
    source.write_bytes(b"bytes")
    real = Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if self == source:
            raise PermissionError(errno.EACCES, "the folder may not be written to")
        real(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(PermissionError):
        move_file(source, target)
    assert source.read_bytes() == b"bytes"
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("then", ["it went", "who knows", "another file"])
def test_a_drive_that_fails_while_a_name_is_taken_away_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: int, then: str
) -> None:
    source, target = tmp_path / "a", tmp_path / "b" / "c"
    source.write_bytes(b"the only copy")
    if devices == 2:
        monkeypatch.setattr(os, "link", refuses(errno.EXDEV))
    real, look = Path.unlink, Path.lstat
    lost: list[Path] = []

    def unlink(self: Path, missing_ok: bool = False) -> None:
        real(self, missing_ok)
        if self == source:
            lost.append(self)
            if then == "another file":
                source.write_bytes(b"of somebody else")
            raise OSError(errno.EIO, "the answer was lost")

    def lstat(self: Path) -> os.stat_result:
        if self in lost and then == "who knows":
            raise OSError(errno.EIO, "no answer")
        return look(self)

    monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.setattr(Path, "lstat", lstat)
    if then == "it went":
        move_file(source, target)
    else:
        with pytest.raises(OSError, match="the answer was lost"):
            move_file(source, target)
    assert target.read_bytes() == b"the only copy"


def test_where_nothing_may_be_written(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(pictures)
    monkeypatch.setattr("diptych.catalog.duplicates.trash.move_file", refuses(errno.ENOSPC))
    moved = move(tmp_path / "catalog")
    assert moved.files == []
    assert {reason for _, reason in moved.refused} == {f"[Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}"}
    assert contents(pictures) == before
    store = Store.open(tmp_path / "catalog")
    store.database.readonly = True
    result = find_duplicates(store)
    with pytest.raises(SaveError, match="is read-only"):
        move_to_trash(store, result.groups, tiers=COPIES)
    store.close()


# --------------------------------------------------------------------------------------------------- kills


@pytest.mark.parametrize(
    ("devices", "instant", "place"),
    [
        *((1, "written down", "auto"), (1, "linked", "auto"), (1, "taken away", "trash")),
        *((2, "written down", "trash"), (2, "half copied", "auto"), (2, "half copied", "trash")),
        *((2, "copied", "trash"), (2, "taken away", "trash")),
    ],
)
def test_killed_in_the_middle_it_can_be_undone(
    tmp_path: Path, devices: int, instant: str, place: str
) -> None:
    folder, catalog, killed_at = tmp_path / "pictures", tmp_path / "catalog", 5
    for seed in range(3):
        save(folder / f"{seed}.png", photo(seed, (48, 36)))
        for copy in range(3):
            (folder / f"copy-{copy}-{seed}.png").write_bytes((folder / f"{seed}.png").read_bytes())
    index(catalog, folder)
    before = contents(folder)
    environment = {
        **os.environ,
        "PYTHONPATH": python_path(),
        "OMP_NUM_THREADS": "1",
    }
    trash = place if place == "auto" else str(tmp_path / place)
    words = [str(catalog), trash, str(devices), instant, str(killed_at)]
    killed = subprocess.run(
        [sys.executable, "-m", "tests.catalog.mover", *words],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = contents(folder)
    assert len(left) == len(before) - killed_at + (instant != "taken away")
    assert all(f"{seed}.png" in left for seed in range(3))  # a copy of each exists at every instant
    store = Store.open(catalog)
    assert check(store) == []
    (undo,) = (catalog / "undo").glob("*.jsonl")
    assert len(undo.read_bytes().splitlines()) == 1 + killed_at
    assert bool(list(tmp_path.rglob("*.part"))) is (instant == "half copied")
    restored = put_back(undo)
    assert (len(restored.files), restored.problems) == (len(before) - len(left), [])
    assert restored.untouched == killed_at - len(restored.files)
    assert contents(folder) == before
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".part") or undo.stem == path.name]
    store.close()
    outcome = index(catalog, folder)
    assert outcome.failed == 0
    store = Store.open(catalog)
    assert store.database.all("SELECT COUNT(*) FROM files")[0][0] == len(before)
    store.close()


def test_what_is_in_both_places_and_not_the_same_stays_in_both(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = move(tmp_path / "catalog")
    assert moved.undo is not None
    (source, target), (other, same) = moved.files[:2]
    for path in (source, other):
        path.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(target.read_bytes()[:-1])
    other.write_bytes(same.read_bytes())
    restored = put_back(moved.undo)
    assert [path for path, _ in restored.problems] == [source]
    assert target.exists()
    assert (restored.untouched, same.exists(), other.exists()) == (1, False, True)


@pytest.mark.parametrize("devices", [1, 2])
def test_a_file_that_somebody_takes_away_meanwhile_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: int
) -> None:
    """Another process removes the old name between link and unlink: the new name is the only one then."""
    source, target = tmp_path / "a.png", tmp_path / "trash" / "a.png"
    source.write_bytes(b"the only copy")
    if devices == 2:
        monkeypatch.setattr("os.link", refuses(errno.EXDEV))
    unlink = Path.unlink

    def gone_already(path: Path, missing_ok: bool = False) -> None:
        if path == source:
            unlink(source)  # another process was faster
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", gone_already)
    move_file(source, target)
    assert target.read_bytes() == b"the only copy"
