"""Annotations survive file operations: every operation is tested with every kind of annotation.

Each cell sets up two folders of annotated pictures, does one operation, and checks that the annotation is
still attached to its picture. A table of the cells is printed after the tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from diptych.catalog import Store, check, read_entries
from diptych.catalog.annotations.annotations import HAND
from diptych.catalog.annotations.tags import add_tags, rate, set_tags
from diptych.catalog.duplicates.finding import find_duplicates
from diptych.catalog.duplicates.keeping import parse_rules
from diptych.catalog.duplicates.trash import move_to_trash
from diptych.catalog.duplicates.undo import put_back, take_back
from diptych.catalog.exchange.backup import back_up, restore
from diptych.catalog.exchange.exporting import export_vectors
from diptych.catalog.exchange.importing import import_vectors
from diptych.catalog.exchange.relocation import relocate
from diptych.catalog.files.forgetting import forget_paths
from tests.catalog.catalogs import index, paint, set_time
from tests.toys import ToyEncoder
from tests.waiting import HANG

KINDS = ("hand-made tag", "tag of a list", "rating", "caption beside", "sidecar", "link", "hidden copy")
SIDECAR = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"> <rdf:Description rdf:about=""
xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag>
<rdf:li>riverside</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"""


@dataclass
class World:
    """Two folders, a catalogue of both, and the picture under test."""

    home: Path

    @property
    def first(self) -> Path:
        return self.home / "first"

    @property
    def second(self) -> Path:
        return self.home / "second"

    @property
    def catalog(self) -> Path:
        return self.home / "catalog"

    @property
    def picture(self) -> Path:
        return self.first / "red.png"

    @property
    def files(self) -> list[Path]:
        """The picture and its sidecar files."""
        return [self.picture.with_suffix(suffix) for suffix in (".png", ".txt", ".xmp")]

    def store(self) -> Store:
        return Store.open(self.catalog)


def make(home: Path) -> World:
    """Create pictures and all kinds of annotations of one of them."""
    world = World(home)
    paint(world.picture, "red", shade=9)
    paint(world.first / "blue.png", "blue")
    paint(world.second / "green.png", "green")
    world.picture.with_suffix(".txt").write_text("grandma in red\n")
    world.picture.with_suffix(".xmp").write_text(SIDECAR)
    (world.second / "link.png").symlink_to(world.picture)
    hidden = world.first / ".diptych-trash" / "20240101-000000" / "copy.png"
    hidden.parent.mkdir(parents=True)
    shutil.copy(world.picture, hidden)
    index(world.catalog, world.first, world.second)
    store = world.store()
    number = content_of(store, world.picture)
    assert number is not None
    set_tags(store.database, "colours", {number: {"reddish": 0.97}})
    add_tags(store.database, [number], ["grandma"])
    rate(store.database, [number], 4)
    store.close()
    return world


def content_of(store: Store, path: Path) -> int | None:
    rows = store.database.all(
        "SELECT content FROM files WHERE path = ? AND member = ''", (os.fsencode(path),)
    )
    return rows[0][0] if rows else None


# ------------------------------------------------------------------------------------------- operations
# Each function returns the path of the picture after the operation.


def index_again(world: World) -> Path:
    index(world.catalog, world.first, world.second)
    return world.picture


def rename(world: World) -> Path:
    target = world.first / "deep" / "renamed.png"
    target.parent.mkdir()
    for path in world.files:
        path.rename(target.with_suffix(path.suffix))
    index(world.catalog)
    return relinked(world, target)


def copy_and_delete(world: World) -> Path:
    """Copy and delete, as a file manager does to another drive: new inode, new change time."""
    target = world.second / "moved.png"
    for path in world.files:
        shutil.copy(path, target.with_suffix(path.suffix))
        path.unlink()
    index(world.catalog)
    return relinked(world, target)


def move_between_roots(world: World) -> Path:
    """Move to another root; the old root is indexed first, alone."""
    target = world.second / "red.png"
    for path in world.files:
        path.rename(target.with_suffix(path.suffix))
    (world.second / "link.png").unlink()  # else the content would never be removed
    index(world.catalog, world.first)
    (world.second / "link.png").symlink_to(target)
    index(world.catalog, world.second)
    return target


def edit_metadata(world: World) -> Path:
    """Let another program write a keyword into the picture."""
    with Image.open(world.picture) as image:
        image.load()
        info = PngImagePlugin.PngInfo()
        info.add_text("Software", "another program")
        image.save(world.picture, pnginfo=info)
    index(world.catalog)
    return world.picture


def edit_pixels(world: World) -> Path:
    """Let another program brighten the picture."""
    with Image.open(world.picture) as image:
        image.point(lambda value: min(255, value + 9)).save(world.picture)
    index(world.catalog)
    return world.picture


def save_by_deleting(world: World) -> Path:
    """Save as an editor that deletes and writes the file again, with an indexing run in between."""
    (world.second / "link.png").unlink()
    data = world.picture.read_bytes()
    world.picture.unlink()
    index(world.catalog, remove_gone=True)
    world.picture.write_bytes(data + b"\0")  # trailing bytes: other content, same pixels
    (world.second / "link.png").symlink_to(world.picture)
    index(world.catalog)
    return world.picture


def trash_and_undo(world: World) -> Path:
    """Move the picture to the trash because a copy is better, then undo."""
    better = paint(world.second / "better.png", "red", shade=9)
    with Image.open(better) as image:
        image.save(better, compress_level=1)
    (world.second / "link.png").unlink()  # targets of links are never moved
    index(world.catalog)
    store = world.store()
    groups = find_duplicates(store, tiers=("bytes", "picture"), rules=parse_rules(f"folder:{world.second}"))
    moved = move_to_trash(store, groups.groups, tiers=("bytes", "picture"))
    assert [path for path, _ in moved.files] == [world.picture]
    assert not world.picture.with_suffix(".txt").exists()
    store.close()
    index(world.catalog)
    assert moved.undo is not None
    restored = put_back(moved.undo)
    assert not restored.problems
    store = world.store()
    take_back(store, restored)
    store.close()
    (world.second / "link.png").symlink_to(world.picture)
    better.unlink()
    index(world.catalog)
    return world.picture


def forget_and_index(world: World) -> Path:
    store = world.store()
    forget_paths(store, [world.first, world.second])
    store.close()
    index(world.catalog, world.first, world.second)
    return world.picture


def reembed(world: World) -> Path:
    index(world.catalog, encoder=ToyEncoder(identity="another"), reembed=True)
    return world.picture


def export_and_import(world: World) -> Path:
    """Export, then import into a new catalogue that replaces the old one."""
    store = world.store()
    export_vectors(store, world.home / "vectors")
    store.close()
    shutil.rmtree(world.catalog)
    store = Store.create(world.catalog)
    import_vectors(store, ToyEncoder(), world.home / "vectors")
    store.close()
    index(world.catalog, world.first, world.second)
    return world.picture


def export_to_parquet(world: World) -> Path:
    store = world.store()
    export_vectors(store, world.home / "pictures.parquet")
    store.close()
    shutil.rmtree(world.catalog)
    store = Store.create(world.catalog)
    import_vectors(store, ToyEncoder(), world.home / "pictures.parquet")
    store.close()
    return world.picture


def move_the_folder(world: World) -> Path:
    """`catalog move`: the folder gets another name, and no file is read again."""
    target = world.home / "third"
    world.first.rename(target)
    store = world.store()
    relocate(store, world.first, target)
    store.close()
    assert index(world.catalog).embedded == 0
    return relinked(world, target / "red.png")


def back_up_and_restore(world: World) -> Path:
    store = world.store()
    back_up(store, world.home / "backup")
    store.close()
    shutil.rmtree(world.catalog)
    restore(world.home / "backup", world.catalog)
    assert index(world.catalog).embedded == 0
    return world.picture


def another_process(world: World) -> Path:
    """Let another process index and write its own tags at the same time."""
    from diptych.catalog.database.database import Sqlite

    command = [sys.executable, "-c", _WRITER, str(world.catalog / "catalog.sqlite")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()  # the other process has started
        for shade in range(5):
            paint(world.first / f"new{shade}.png", "red", shade=100 + shade)
            set_time(world.picture, 1_600_000_000 + shade)
            index(world.catalog)
        assert writer.wait(timeout=HANG) == 0
    database = Sqlite(world.catalog / "catalog.sqlite")
    assert database.all("SELECT COUNT(*) FROM tags WHERE origin = 'other'") == [(50,)]
    database.close()
    return world.picture


_WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=100, isolation_level=None)
print("begun", flush=True)
for number in range(50):
    connection.execute("INSERT INTO tags VALUES (1, ?, 0.5, 'other')", (f"tag{number}",))
"""


def relinked(world: World, target: Path) -> Path:
    """Check that the user's link points to the picture again after the picture got another name."""
    link = world.second / "link.png"
    if not link.exists():
        link.unlink()
        link.symlink_to(target)
        index(world.catalog)
    return target


OPERATIONS: dict[str, Callable[[World], Path]] = {
    function.__name__.replace("_", " "): function
    for function in (
        index_again,
        rename,
        copy_and_delete,
        move_between_roots,
        edit_metadata,
        edit_pixels,
        save_by_deleting,
        trash_and_undo,
        forget_and_index,
        reembed,
        export_and_import,
        export_to_parquet,
        move_the_folder,
        back_up_and_restore,
        another_process,
    )
}


# ----------------------------------------------------------------------------------------------- cells


def is_kept(world: World, picture: Path, kind: str) -> bool:
    """Whether an annotation is still attached to the picture."""
    store = world.store()
    try:
        number = content_of(store, picture)
        assert number is not None, f"{picture} is not in the catalogue"
        tags = {
            tag: (score, origin)
            for tag, score, origin in store.database.all(
                "SELECT tag, score, origin FROM tags WHERE content = ?", (number,)
            )
        }
        rows = store.database.all("SELECT rating FROM ratings WHERE content = ?", (number,))
        entry = read_entries(store.database, [number])[0]
    finally:
        store.close()
    if kind == "hand-made tag":
        return tags.get("grandma") == (1.0, HAND) and "grandma" in entry.tags
    if kind == "tag of a list":
        return tags.get("reddish") == (0.97, "colours") and "reddish" in entry.tags
    if kind == "rating":
        return rows == [(4,)] and entry.rating == 4
    if kind == "caption beside":
        return entry.caption == "grandma in red" and picture.with_suffix(".txt").exists()
    if kind == "sidecar":
        return tags.get("riverside") == (1.0, "sidecar") and picture.with_suffix(".xmp").exists()
    if kind == "link":
        return (world.second / "link.png").exists()
    trash = [*world.home.glob("*/.diptych-trash/20240101-000000/copy.png")]
    return len(trash) == 1


@pytest.mark.parametrize("operation", OPERATIONS)
def test_matrix(operation: str, tmp_path: Path, matrix: Callable[[str, str, bool], None]) -> None:
    world = make(tmp_path)
    picture = OPERATIONS[operation](world)
    lost = []
    for kind in KINDS:
        kept = is_kept(world, picture, kind)
        matrix(operation, kind, kept)
        lost += [] if kept else [kind]
    assert not lost
    store = world.store()
    assert check(store) == []
    store.close()


def test_another_picture_under_the_same_name_gets_no_annotations(tmp_path: Path) -> None:
    world = make(tmp_path)
    (world.second / "link.png").unlink()
    old = world.picture.read_bytes()
    paint(world.picture, "blue", shade=77)
    outcome = index(world.catalog)
    assert (outcome.annotations.carried, len(outcome.annotations.set_aside)) == (0, 1)
    assert not is_kept(world, world.picture, "hand-made tag")
    elsewhere = world.second / "found again.png"
    elsewhere.write_bytes(old)
    outcome = index(world.catalog)
    assert outcome.annotations.brought_back == 1
    assert all(is_kept(world, elsewhere, kind) for kind in KINDS[:3])


def test_removed_annotations_do_not_come_back(tmp_path: Path) -> None:
    from diptych.catalog.annotations.tags import clear_tags, remove_tags

    world = make(tmp_path)
    store = world.store()
    number = content_of(store, world.picture)
    assert number is not None
    assert remove_tags(store.database, [number], ["grandma", "reddish"]) == 2
    assert rate(store.database, [number], None) == 1
    store.close()
    move_between_roots(world)
    store = world.store()
    assert store.database.all("SELECT * FROM tags WHERE origin <> 'sidecar'") == []
    assert store.database.all("SELECT * FROM ratings") == []
    store.close()
    world = make(tmp_path / "other")
    (world.second / "link.png").unlink()
    shutil.move(world.picture, tmp_path / "away.png")
    index(world.catalog)
    store = world.store()
    clear_tags(store.database, "colours")  # while the picture is away
    store.close()
    shutil.move(tmp_path / "away.png", world.picture)
    index(world.catalog)
    assert is_kept(world, world.picture, "hand-made tag")
    assert not is_kept(world, world.picture, "tag of a list")
