"""MNIST, CIFAR and STL-10 in their published formats, valid and damaged."""

from __future__ import annotations

import contextlib
import gzip
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diptych.datasets import ImageDataset, load_labelled
from diptych.errors import DataError
from diptych.evaluation import evaluate_zero_shot
from diptych.evaluation.protocols.features import content_hash
from tests.layout_files import Pixels, idx_bytes, noise, write_cifar10, write_idx
from tests.toys import COLOURS, ToyEncoder


def pixels(dataset: ImageDataset) -> list[np.ndarray]:
    return [np.asarray(content) for _, content in dataset if isinstance(content, Image.Image)]


# ------------------------------------------------------------------------------------------------ idx


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("where", ["", "raw", "MNIST/raw"])
def test_idx_pictures_and_labels(tmp_path: Path, gz: bool, where: str) -> None:
    test, train = noise(4, 5, 7), noise(3, 5, 7, seed=1)
    write_idx(tmp_path / where, "t10k", test, [3, 0, 1, 3], gz=gz)
    write_idx(tmp_path / where, "train", train, [2, 2, 0], gz=gz)
    data = load_labelled(tmp_path, name="mnist")
    assert data.class_names == ("0", "1", "2", "3")
    assert data.labels.tolist() == [3, 0, 1, 3]
    assert np.array_equal(pixels(data), test)
    assert len(set(data.keys)) == 4
    assert list(map(str, (key for key, _ in data))) == list(data.keys)
    named = load_labelled(tmp_path, class_names="mnist", part="train")
    assert np.array_equal(pixels(named), train)
    assert len(named.class_names) == 10  # a class without pictures remains a possible answer


def test_idx_by_the_name_of_the_file(tmp_path: Path) -> None:
    write_idx(tmp_path, "test", noise(2, 4, 4), [0, 1], prefix="emnist-letters-")
    path = write_idx(tmp_path, "test", noise(2, 4, 6), [1, 2], prefix="emnist-byclass-")
    with pytest.raises(DataError, match="several data sets"):
        load_labelled(tmp_path)
    (tmp_path / "emnist-byclass-mapping.txt").write_text("1 65 97\n2 66 98\n")
    data = load_labelled(path)
    assert data.class_names == ("A", "B")
    assert data.labels.tolist() == [0, 1]
    assert np.array_equal(pixels(data)[1], noise(2, 4, 6)[1].T)  # EMNIST stores pictures column by column


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"images": idx_bytes(noise(2, 4, 4))}, "no labels"),
        ({"images": idx_bytes(noise(2, 4, 4)), "labels": idx_bytes(noise(3))}, "3 labels for 2 pictures"),
        ({"images": idx_bytes(noise(2, 4, 4))[:-1], "labels": idx_bytes(noise(2))}, "47 bytes"),
        (
            {"images": idx_bytes(noise(2, 4, 4)) + b"x", "labels": idx_bytes(noise(2))},
            "48 by its header",
        ),
        ({"images": idx_bytes(noise(2, 4, 4)), "labels": idx_bytes(noise(2, 1))}, "begins with 00000802"),
        ({"images": idx_bytes(noise(2, 4)), "labels": idx_bytes(noise(2))}, "images-idx3-ubyte"),
        ({"images": b"", "labels": idx_bytes(noise(2))}, "images-idx3-ubyte"),
        ({"images": idx_bytes(noise(0, 4, 4)), "labels": idx_bytes(noise(0))}, "holds no picture"),
        (
            {"images": bytes([0, 0, 8, 3]) + b"\0\0\0\1" + b"\xff" * 8, "labels": idx_bytes(noise(1))},
            "t10k-images-idx3-ubyte",
        ),
    ],
)
@pytest.mark.parametrize("gz", [False, True])
def test_broken_idx_is_told(tmp_path: Path, files: dict[str, bytes], told: str, gz: bool) -> None:
    for name, data in files.items():
        path = tmp_path / f"t10k-{name}-idx{'3' if name == 'images' else '1'}-ubyte{'.gz' if gz else ''}"
        path.write_bytes(gzip.compress(data) if gz else data)
    if gz and ("bytes" in told or "header" in told):  # the end of a gzip file reveals its length
        told = "ends at picture 1 of 2|has data after the 2 pictures"
    with pytest.raises(DataError, match=told):
        list(load_labelled(tmp_path))


def test_a_cut_gzip_is_told(tmp_path: Path) -> None:
    path = write_idx(tmp_path, "t10k", noise(20, 8, 8), [0] * 20, gz=True)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match="cannot be read to its end"):
        load_labelled(tmp_path)


@settings(max_examples=30)
@given(
    st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.booleans(), st.integers(0, 2**32 - 1),
    st.data(),
)  # fmt: skip
def test_any_idx_comes_back(
    tmp_path_factory: pytest.TempPathFactory, n: int, h: int, w: int, gz: bool, seed: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("idx")
    labels = data.draw(st.lists(st.integers(0, 255), min_size=n, max_size=n))
    pictures = noise(n, h, w, seed=seed)
    write_idx(folder, "t10k", pictures, labels, gz=gz)
    result = load_labelled(folder)
    assert np.array_equal(pixels(result), pictures)
    assert [result.class_names[label] for label in result.labels] == list(map(str, labels))


@settings(max_examples=60)
@given(st.binary(max_size=40), st.integers(0, 60), st.booleans())
def test_a_damaged_idx_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes, place: int, gz: bool
) -> None:
    folder = tmp_path_factory.mktemp("idx")
    path = write_idx(folder, "t10k", noise(3, 4, 4), [0, 1, 2], gz=gz)
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + damage + whole[place + len(damage) :])
    with contextlib.suppress(DataError):
        list(load_labelled(folder))


# --------------------------------------------------------------------------------------- CIFAR, STL-10


def planes(pictures: Pixels) -> Pixels:
    """(N, H, W, 3) as rows of red, green and blue planes."""
    return pictures.transpose(0, 3, 1, 2).reshape(len(pictures), -1)


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_cifar_batches(tmp_path: Path, protocol: int) -> None:
    pictures, labels = noise(4, 32, 32, 3), [0, 9, 3, 3]
    folder = write_cifar10(tmp_path / "cifar-10-batches-py", planes(pictures), labels, protocol)
    data = load_labelled(folder)
    assert data.class_names[:2] == ("airplane", "automobile")
    assert data.labels.tolist() == labels
    assert np.array_equal(pixels(data), pictures)
    train = load_labelled(folder, part="train", class_names="cifar10")
    assert np.array_equal(pixels(train), pictures)
    assert train.labels.tolist() == labels
    assert len(set(train.keys)) == 4  # the pictures of every batch are numbered from 0


def test_cifar_100_and_the_binary_files(tmp_path: Path) -> None:
    pictures = noise(3, 32, 32, 3)
    rows = planes(pictures)
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "fine_label_names.txt").write_text("apple\naquarium_fish\nbaby\n\n")
    (folder / "test.bin").write_bytes(
        b"".join(bytes([7, n]) + row.tobytes() for n, row in zip((2, 0, 1), rows, strict=True))
    )
    data = load_labelled(folder, class_names=["apple", "fish", "baby"])
    assert data.labels.tolist() == [2, 0, 1]
    assert data.class_names[1] == "fish"
    assert np.array_equal(pixels(data), pictures)
    (folder / "test.bin").write_bytes(b"x" * 3075)
    with pytest.raises(DataError, match="3,075 bytes: expected a multiple of 3,074"):
        load_labelled(folder)
    with pytest.raises(DataError, match="no part 'train'"):
        load_labelled(folder, part="train")


def test_stl10_goes_column_by_column(tmp_path: Path) -> None:
    pictures = noise(2, 96, 96, 3)
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    (folder / "test_X.bin").write_bytes(pictures.transpose(0, 3, 2, 1).tobytes())
    (folder / "test_y.bin").write_bytes(bytes([1, 3]))  # labels begin at 1
    (folder / "class_names.txt").write_text("airplane\nbird\ncar\n")
    data = load_labelled(tmp_path)
    assert np.array_equal(pixels(data), pictures)
    assert [data.class_names[label] for label in data.labels] == ["airplane", "car"]
    (folder / "test_y.bin").write_bytes(bytes([1, 4]))
    with pytest.raises(DataError, match="label 3, but names for 3 classes"):
        load_labelled(tmp_path)


def test_labels_that_do_not_match_are_told(tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path, planes(noise(4, 32, 32, 3)), [0, 1, 2], protocol=2)
    with pytest.raises(DataError, match="3 labels for 4 pictures"):
        load_labelled(folder)
    # Two batches whose errors cancel out in total: every later label would be wrong.
    for name, labels in (("data_batch_1", [0, 1, 2]), ("data_batch_2", [3])):
        (folder / name).write_bytes(pickle.dumps({"data": noise(2, 3072), "labels": labels}, 2))
    with pytest.raises(DataError, match="data_batch_1 has 3 labels for 2 pictures"):
        load_labelled(folder, part="train")


# --------------------------------------------------------------------- pixels from reading to results


def test_pixels_are_measured_like_files(tmp_path: Path) -> None:
    colours = ("red", "green", "blue")
    pictures = np.array([np.full((32, 32, 3), COLOURS[colour]) for colour in colours], dtype=np.uint8)
    folder = write_cifar10(tmp_path / "pixels", planes(pictures), [0, 1, 2], protocol=2)
    data = load_labelled(folder)
    result = evaluate_zero_shot(ToyEncoder(), data, [*colours, *"abcdefg"])
    assert result.metrics["acc1"] == 1.0
    assert result.n == 3
    files = tmp_path / "files"
    for colour, picture in zip(colours, pictures, strict=True):
        (files / colour).mkdir(parents=True)
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        (files / colour / "0.png").write_bytes(buffer.getvalue())
    assert evaluate_zero_shot(ToyEncoder(), load_labelled(files)).metrics["acc1"] == 1.0


def test_the_content_hash_knows_shapes_and_pixels(tmp_path: Path) -> None:
    def hashed(name: str, pictures: Pixels) -> str:
        write_idx(tmp_path / name, "t10k", pictures, [0] * len(pictures))
        return content_hash(load_labelled(tmp_path / name))

    single = noise(2, 4, 6)
    changed = single.copy()
    changed[1, 3, 5] ^= 1
    turned = single.reshape(2, 6, 4)  # equal bytes, but another shape
    hashes = [hashed("a", single), hashed("b", single), hashed("c", changed), hashed("d", turned)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
