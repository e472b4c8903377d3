"""Tags: assigned by a classifier, replaced, cleared, used in filters, and written to sidecars."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from diptych.catalog import Filter, Searcher, SearchOptions, Store
from diptych.catalog.annotations.tags import TagCount, assigned_tags, clear_tags, count_tags, set_tags
from diptych.catalog.tags import tagging as tagging_module
from diptych.catalog.tags.sidecars import sidecar_of, write_sidecars
from diptych.catalog.tags.tagging import TagRule, group_members, tag_pictures
from diptych.errors import CatalogError, InputError
from diptych.media.metadata.xmp import keywords_in, merge_keywords
from diptych.zeroshot import ZeroShotClassifier
from tests.catalog.catalogs import colours, index, paint
from tests.toys import ToyEncoder


def labels(*names: str, **settings: object) -> ZeroShotClassifier:
    return ZeroShotClassifier(ToyEncoder(), templates=None, multi_label=True, **settings).fit(list(names))  # type: ignore[arg-type]


@pytest.fixture
def searcher(tmp_path: Path) -> Iterator[Searcher]:
    colours(tmp_path / "pictures")
    index(tmp_path / "catalog", tmp_path / "pictures")
    store = Store.open(tmp_path / "catalog")
    yield Searcher(store, ToyEncoder())
    store.close()


def tags(searcher: Searcher) -> dict[str, tuple[str, ...]]:
    """File -> its tags."""
    answer = searcher.search("red", SearchOptions(cutoff=None, collapse=False))
    return {hit.entry.path.stem: hit.entry.tags for hit in answer.hits}


def test_a_tag_is_given_where_it_fits_and_only_there(searcher: Searcher) -> None:
    outcome = tag_pictures(searcher, labels("red", "blue"), "two")
    given = tags(searcher)
    assert (given["red"], given["blue"]) == (("red",), ("blue",))
    assert given["green"] == given["black"] == ()
    assert (outcome.judged, outcome.tagged, outcome.changed, outcome.counts) == (
        6,
        2,
        6 - 4,
        {"red": 1, "blue": 1},
    )
    best = outcome.examples["red"][0]
    assert best[0] > 0.9
    assert searcher.store.database.all("SELECT content FROM tags WHERE tag = 'red'") == [(best[1],)]


def test_again_changes_nothing_and_new_pictures_are_tagged(searcher: Searcher, tmp_path: Path) -> None:
    tag_pictures(searcher, labels("red"), "one")
    assert tag_pictures(searcher, labels("red"), "one").changed == 0
    paint(tmp_path / "pictures" / "more.png", "red", shade=9)
    index(tmp_path / "catalog", tmp_path / "pictures")
    store = Store.open(tmp_path / "catalog")
    later = tag_pictures(Searcher(store, ToyEncoder()), labels("red"), "one")
    store.close()
    assert (later.changed, later.counts) == (1, {"red": 2})


def test_a_list_is_replaced_and_others_stay(searcher: Searcher) -> None:
    tag_pictures(searcher, labels("red", "blue"), "first")
    tag_pictures(searcher, labels("red", "green"), "second")
    tag_pictures(searcher, labels("blue"), "first")
    result = count_tags(searcher.store.database)
    assert result == [
        TagCount("first", "blue", 1),
        TagCount("second", "green", 1),
        TagCount("second", "red", 1),
    ]
    assert clear_tags(searcher.store.database, "second") == 2
    assert count_tags(searcher.store.database) == result[:1]


def test_a_dry_run_writes_nothing(searcher: Searcher) -> None:
    outcome = tag_pictures(searcher, labels("red"), "one", write=False)
    assert outcome.counts == {"red": 1}
    assert count_tags(searcher.store.database) == []


def test_rules(searcher: Searcher) -> None:
    warm = labels("red", "red yellow")

    def given(name: str, rule: TagRule) -> dict[str, tuple[str, ...]]:
        tag_pictures(searcher, warm, "rules", rule)
        result = assigned_tags(searcher.store.database, range(1, 7))
        paths = dict(searcher.store.database.all("SELECT content, path FROM files"))
        return {Path(bytes(paths[content]).decode()).stem: tags for content, tags in result.items()}

    every = given("all", TagRule(least=0.5))
    assert every["red"] == every["yellow"] == ("red", "red yellow")
    best = given("top", TagRule(least=0.5, top=1))
    assert (best["red"], best["yellow"], set(best)) == (("red",), ("red yellow",), set(every))
    assert given("one", TagRule(least=0.5, exclusive=True)) == best
    assert given("sure", TagRule(least=1.0)) == {}
    never = tag_pictures(
        searcher, labels("green"), "one", TagRule(least=0.5, exclusive=True), filters=Filter(name="red")
    )
    assert never.tagged == 0, "the only label is the nearest one, and does not fit"
    assert tag_pictures(searcher, labels("red"), "none", TagRule(least=1.0), write=False).tagged == 0
    for wrong in ({"least": 1.5}, {"top": 0}):
        with pytest.raises(InputError):
            TagRule(**wrong)  # type: ignore[arg-type]


def test_groups_are_tags_too(searcher: Searcher) -> None:
    names = {"warm": {"red": None, "yellow": None}, "blue": None}
    assert group_members(names) == {"warm": ["red", "yellow"]}
    tag_pictures(searcher, labels("red", "yellow", "blue"), "groups", groups=group_members(names))
    given = tags(searcher)
    assert set(given["red"]) == {"red", "warm"}
    assert given["blue"] == ("blue",)


def test_only_some_pictures(searcher: Searcher) -> None:
    outcome = tag_pictures(searcher, labels("red", "blue"), "some", filters=Filter(name="blue"))
    assert (outcome.judged, outcome.counts) == (1, {"red": 0, "blue": 1})


def test_blocks_join(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagging_module, "BLOCK_ROWS", 2)
    done: list[int] = []
    outcome = tag_pictures(searcher, labels("red", "blue"), "two", progress=done.append)
    assert done == [2, 2, 2]
    assert outcome.counts == {"red": 1, "blue": 1}


def test_what_is_refused(searcher: Searcher) -> None:
    for origin in ("file", " "):
        with pytest.raises(InputError, match="cannot be the name"):
            tag_pictures(searcher, labels("red"), origin)
    competing = ZeroShotClassifier(ToyEncoder(), templates=None).fit(["red", "blue"])
    with pytest.raises(InputError, match="multi_label=True"):
        tag_pictures(searcher, competing, "x")

    class Drifted(ToyEncoder):
        def _rows(self, colours):  # type: ignore[no-untyped-def]
            return super()._rows(colours)[:, ::-1]

    with pytest.raises(CatalogError, match="no longer makes"):
        tag_pictures(Searcher(searcher.store, Drifted()), labels("red"), "x")


def test_a_picture_that_left_meanwhile_is_passed_over(searcher: Searcher) -> None:
    assert set_tags(searcher.store.database, "x", {999: {"red": 1.0}}) == 0
    assert count_tags(searcher.store.database) == []


def test_search_finds_by_tag(searcher: Searcher) -> None:
    tag_pictures(searcher, labels("red", "blue"), "two")
    result = searcher.search("green", SearchOptions(filters=Filter(tags=("BLUE",)), cutoff=None))
    assert [hit.entry.path.stem for hit in result.hits] == ["blue"]


def keyworded(path: Path, *keywords: str) -> Path:
    """A JPEG with its own keywords in embedded XMP."""
    block = merge_keywords(None, keywords)
    assert block is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12), (255, 0, 0)).save(path, xmp=block)
    return path


def test_keywords_in_files_are_tags(tmp_path: Path) -> None:
    keyworded(tmp_path / "pictures" / "a.jpg", "Oma", "holiday")
    index(tmp_path / "catalog", tmp_path / "pictures")
    store = Store.open(tmp_path / "catalog")
    assert count_tags(store.database) == [TagCount("file", "Oma", 1), TagCount("file", "holiday", 1)]
    tag_pictures(Searcher(store, ToyEncoder()), labels("red"), "colours")
    write_sidecars(store)
    # A program that reads only the sidecar still finds the keywords of the picture.
    assert set(keywords_in((tmp_path / "pictures" / "a.jpg.xmp").read_bytes())[0]) == {
        "Oma",
        "holiday",
        "red",
    }
    store.close()


@pytest.mark.parametrize("style", ["darktable", "adobe"])
def test_sidecars_say_what_the_catalogue_says(searcher: Searcher, tmp_path: Path, style: str) -> None:
    store = searcher.store
    red = tmp_path / "pictures" / "red.png"
    before = red.read_bytes(), red.stat().st_mtime_ns
    tag_pictures(searcher, labels("red", "blue"), "two")
    done = write_sidecars(store, style)  # type: ignore[arg-type]
    assert (done.written, done.unchanged, done.failures) == (2, 0, [])
    sidecar = sidecar_of(red, style)  # type: ignore[arg-type]
    assert keywords_in(sidecar.read_bytes()) == (("red",), ("red",))
    assert (red.read_bytes(), red.stat().st_mtime_ns) == before
    assert write_sidecars(store, style).unchanged == 2  # type: ignore[arg-type]
    clear_tags(store.database, "two")
    done = write_sidecars(store, style)  # type: ignore[arg-type]
    assert done.removed == 2
    assert not list((tmp_path / "pictures").glob("*.xmp"))


def test_undo_leaves_what_others_wrote(searcher: Searcher, tmp_path: Path) -> None:
    sidecar = tmp_path / "pictures" / "red.png.xmp"
    made = merge_keywords(None, ["mine"])
    assert made is not None
    own = made.replace(b'xmptk="diptych"', b'xmptk="other"').replace(b"diptych:keywords", b"diptych:else")
    sidecar.write_bytes(own)
    tag_pictures(searcher, labels("red"), "one")
    assert write_sidecars(searcher.store).written == 1
    assert keywords_in(sidecar.read_bytes())[0] == ("mine", "red")
    assert write_sidecars(searcher.store, undo=True).written == 1
    assert sidecar.read_bytes() == own


def test_sidecars_that_cannot_be_written_are_named_and_the_rest_goes_on(
    searcher: Searcher, tmp_path: Path
) -> None:
    (tmp_path / "pictures" / "red.png.xmp").write_bytes(b"not XMP at all")
    (tmp_path / "pictures" / "blue.png").unlink()
    tag_pictures(searcher, labels("red", "blue", "green"), "three")
    done = write_sidecars(searcher.store)
    assert [path.name for path, _ in done.failures] == ["red.png.xmp"]
    assert (done.written, done.missing) == (1, 1)
    assert (tmp_path / "pictures" / "red.png.xmp").read_bytes() == b"not XMP at all"


def test_a_raw_file_and_its_jpeg_share_adobes_sidecar(tmp_path: Path) -> None:
    paint(tmp_path / "pictures" / "a.png", "red")
    Image.new("RGB", (16, 12), (0, 0, 255)).save(tmp_path / "pictures" / "a.bmp")
    index(tmp_path / "catalog", tmp_path / "pictures")
    store = Store.open(tmp_path / "catalog")
    tag_pictures(Searcher(store, ToyEncoder()), labels("red", "blue"), "two")
    assert write_sidecars(store, "adobe").written == 1
    assert set(keywords_in((tmp_path / "pictures" / "a.xmp").read_bytes())[0]) == {"red", "blue"}
    store.close()


def test_what_was_not_asked_for_keeps_its_sidecar_and_its_keywords(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    paint(folder / "p.png", "red")
    Image.new("RGB", (16, 12), (0, 0, 255)).save(folder / "p.bmp")
    (folder / "sub").mkdir()
    (folder / "sub" / "copy.png").write_bytes((folder / "p.png").read_bytes())
    index(tmp_path / "catalog", folder)
    store = Store.open(tmp_path / "catalog")
    tag_pictures(Searcher(store, ToyEncoder()), labels("red", "blue"), "two")
    for name in ("p.png", "p.bmp"):  # both share a sidecar: it has the tags of both, whichever is requested
        assert write_sidecars(store, "adobe", filters=Filter(name=f"/{name}")).written == (name == "p.png")
        assert set(keywords_in((folder / "p.xmp").read_bytes())[0]) == {"red", "blue"}
    assert list(folder.rglob("*.xmp")) == [folder / "p.xmp"]
    (folder / "p.xmp").unlink()
    done = write_sidecars(store, filters=Filter(folders=(folder / "sub",)))
    assert (done.written, list(folder.rglob("*.xmp"))) == (1, [folder / "sub" / "copy.png.xmp"])
    done = write_sidecars(store, filters=Filter(name="p.png"), undo=True)
    assert (done.removed, list(folder.rglob("*.xmp"))) == (0, [folder / "sub" / "copy.png.xmp"])
    store.close()


def test_a_sidecar_that_is_written_anew_stays_as_private_as_it_was(
    searcher: Searcher, tmp_path: Path
) -> None:
    sidecar = tmp_path / "pictures" / "red.png.xmp"
    made = merge_keywords(None, ["mine"])
    assert made is not None
    sidecar.write_bytes(made)
    sidecar.chmod(0o600)
    tag_pictures(searcher, labels("red", "blue"), "two")
    assert write_sidecars(searcher.store).written == 2
    assert stat.S_IMODE(sidecar.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "pictures" / "blue.png.xmp").stat().st_mode) != 0o600
