"""Parts (train, validation, test) in every layout: only pictures of the requested part are loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from diptych.datasets import domains, load_captioned, load_labelled, load_labelled_shards
from diptych.datasets.parts import OUTSIDE
from diptych.errors import DataError
from tests.layout_files import labelled_shard, write_shards
from tests.toys import picture_bytes, tar_bytes

PARTS = {"train": 10, "val": 20, "test": 30}  # the grey level of a part's pictures
Files = Callable[[str, int], dict[str, bytes]]


def grey(shade: int) -> bytes:
    return picture_bytes((shade, shade, shade))


def two(pattern: str, part: str, shade: int) -> dict[str, bytes]:
    """Write one picture for each of two classes."""
    return {
        pattern.format(part=part, name=name, n=n): grey(shade + n) for n, name in enumerate(("cat", "dog"))
    }


FOLDERS: dict[str, str] = {
    "part/class": "{part}/{name}/1.png",
    "pack/part/class": "pack/{part}/{name}/1.png",
    "class/part": "{name}/{part}/1.png",
    "part/domain/class": "{part}/photo/{name}/1.png",
    "domain/part/class": "photo/{part}/{name}/1.png",
}
WORDS = {
    "plain": {"train": "train", "val": "val", "test": "test"},
    "long": {"train": "training", "val": "validation", "test": "testing"},
    "capitals": {"train": "Train", "val": "Valid", "test": "TEST"},
}


def shades(dataset: object) -> set[int]:
    from io import BytesIO

    from PIL import Image

    result = set()
    for _, content in dataset:  # type: ignore[attr-defined]
        image = Image.open(BytesIO(content)) if isinstance(content, bytes) else content
        result.add(image.convert("RGB").getpixel((0, 0))[0] // 10 * 10)
    return result


def write(root: Path, files: dict[str, bytes], archive: bool) -> Path:
    if archive:
        path = root / "x.tar"
        path.write_bytes(tar_bytes(files))
        return path
    for name, data in files.items():
        path = root / "x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root / "x"


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("layout", FOLDERS)
def test_class_folders(tmp_path: Path, layout: str, words: str, archive: bool) -> None:
    files: dict[str, bytes] = {}
    for part, shade in PARTS.items():
        files |= two(FOLDERS[layout], WORDS[words][part], shade)
    path = write(tmp_path, files, archive)
    for part, shade in PARTS.items():
        data = load_labelled(path, part=part)
        assert (len(data), shades(data)) == (2, {shade}), part
    without_test = {
        name: data for name, data in files.items() if f"/{WORDS[words]['test']}/" not in f"/{name}"
    }
    path = write(tmp_path / "less" if archive else tmp_path / "y", without_test, False)
    assert shades(load_labelled(path)) == {20}  # validation replaces a missing test part; training never does


def _labels_beside(suffix: str, value: str) -> Files:
    def files(part: str, shade: int) -> dict[str, bytes]:
        return {
            key: data
            for n, name in enumerate(("cat", "dog"))
            for key, data in (
                (f"{part}/{n}.png", grey(shade + n)),
                (f"{part}/{n}{suffix}", value.format(n=n, name=name).encode()),
            )
        }

    return files


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize(
    ("load", "suffix", "value"),
    [
        (load_labelled, ".cls", "{n}"),
        (load_labelled_shards, ".json", '{{"label": "{name}"}}'),
        (load_captioned, ".txt", "a {name}"),
    ],
)
def test_answers_beside_the_pictures(
    tmp_path: Path, load: Callable[..., object], suffix: str, value: str, archive: bool
) -> None:
    files: dict[str, bytes] = {}
    for part, shade in PARTS.items():
        files |= _labels_beside(suffix, value)(part, shade)
    path = write(tmp_path, files, archive)
    for part, shade in PARTS.items():
        assert shades(load(path, part=part)) == {shade}
    assert shades(load(path)) == {30}


def test_shards(tmp_path: Path) -> None:
    for part, colour in (("train", "red"), ("valid", "green"), ("test", "blue")):
        write_shards(tmp_path, [labelled_shard([colour], [0])], names=["a", "b"], part=part)
    data = {part: [content for _, content in load_labelled(tmp_path, part=part)] for part in PARTS}
    assert data == {
        "train": [picture_bytes("red")],
        "val": [picture_bytes("green")],
        "test": [picture_bytes("blue")],
    }


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    for part, shade in (("train", 10), ("validation", 20), ("test", 30)):
        table = pa.table({"image": [{"bytes": grey(shade)}], "label": ["cat"], "caption": ["a cat"]})
        pq.write_table(table, tmp_path / f"{part}-00000-of-00001.parquet")
    for part, shade in PARTS.items():
        assert shades(load_labelled(tmp_path, part=part)) == {shade}
        assert shades(load_captioned(tmp_path, part=part)) == {shade}


def test_an_archive_of_one_part_is_taken_whole_and_a_folder_is_not(tmp_path: Path) -> None:
    files = two("train/{name}/1.png", "", 10)
    assert len(load_labelled(write(tmp_path, files, archive=True), part="test")) == 2
    folder = write(tmp_path, files, archive=False)
    with pytest.raises(DataError, match="has no part 'test': it has 'train'"):
        load_labelled(folder)
    assert len(load_labelled(folder / "train")) == 2


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    files = {
        f"{part}/{name}/1.png": grey(shade) for part, shade in PARTS.items() for name in ("train", "dog")
    }
    data = load_labelled(write(tmp_path, files, archive=False), part="val")
    assert (data.class_names, shades(data)) == (("dog", "train"), {20})


def test_domains_are_no_parts(tmp_path: Path) -> None:
    files = two("{part}/photo/{name}/1.png", "train", 10) | two("sketch/{part}/{name}/1.png", "test", 30)
    path = write(tmp_path, files, archive=True)
    assert domains(path) == ("photo", "sketch")
    assert shades(load_labelled(path, domain="sketch", part="test")) == {30}


def test_folders_of_other_tasks_are_no_classes(tmp_path: Path) -> None:
    voc = {"VOC2007/JPEGImages/1.jpg": grey(1), "VOC2007/SegmentationClass/1.png": grey(2)}
    with pytest.raises(DataError, match="a folder of VOC, whose pictures have several classes"):
        load_labelled(write(tmp_path / "a", voc, archive=False))
    coco = {"train2017/1.jpg": grey(1), "val2017/2.jpg": grey(2)}
    with pytest.raises(DataError, match="'train2017', 'val2017', which are parts and not classes"):
        load_labelled(write(tmp_path / "b", coco, archive=False))


def test_nothing_is_left_out_untold(tmp_path: Path) -> None:
    files = {"cat/1.png": grey(1), "loose.png": grey(2)}
    assert load_labelled(write(tmp_path, files, archive=True)).skipped == (
        ("loose.png", "lies in no class folder"),
    )
    files = {"1.png": grey(1), "1.json": b'{"label": "cat"}', "2.png": grey(2)}
    data = load_labelled_shards(write(tmp_path, files, archive=True))
    assert data.skipped == (("2.png", "no KEY.json or KEY.txt beside it"),)


@pytest.mark.parametrize("root", ["/", "//", "./"])
def test_names_from_the_root_of_a_file_system(tmp_path: Path, root: str) -> None:
    files = {f"{root}cat/1.png": grey(1), "/dog/2.png": grey(2)}
    data = load_labelled(write(tmp_path, files, archive=True))
    assert (data.keys, data.class_names) == (("cat/1.png", "dog/2.png"), ("cat", "dog"))
    assert len(list(data)) == 2


@pytest.mark.parametrize("archive", [False, True])
def test_pictures_outside_of_the_folders_of_parts_are_counted(tmp_path: Path, archive: bool) -> None:
    """A regression: these pictures were dropped without a message."""
    files = {**two("{part}/{name}/{n}.png", "train", 10), **two("{part}/{name}/{n}.png", "test", 30)}
    outside = {"extra/cat/7.png": grey(70), "extra/cat/8.png": grey(80)}
    labelled = load_labelled(write(tmp_path, files | outside, archive))
    assert shades(labelled) == {30}
    assert [key for key, _ in labelled.skipped] == sorted(outside)
    assert {reason for _, reason in labelled.skipped} == {OUTSIDE}
    assert load_labelled(write(tmp_path, files | outside, archive), part="train").skipped == labelled.skipped
    texts = {str(Path(name).with_suffix(".txt")): b"a cat" for name in files | outside}
    captioned = load_captioned(write(tmp_path, files | outside | texts, archive))
    assert shades(captioned) == {30}
    assert captioned.skipped == labelled.skipped
    classes = {str(Path(name).with_suffix(".cls")): b"0" for name in files | outside}
    numbered = load_labelled(write(tmp_path, files | outside | classes, archive))
    assert shades(numbered) == {30}
    assert numbered.skipped == labelled.skipped


def test_classes_above_parts_are_no_domains(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for part, shade in PARTS.items():
        files |= two("photo/{name}/{part}/{n}.png", part, shade)
    path = write(tmp_path, files, archive=True)
    assert domains(path) == ("photo",)
    assert shades(load_labelled(path, domain="photo")) == {30}
    with pytest.raises(DataError, match="folders above the classes: 'photo'"):
        load_labelled(path, domain="cat")
    plain = {name.removeprefix("photo/"): data for name, data in files.items()}
    path = write(tmp_path, plain, archive=True)
    assert domains(path) == ()
