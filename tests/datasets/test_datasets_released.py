"""Data sets in their released formats: MATLAB lists, HDF5, the CSV of FER2013, ObjectNet's mappings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diptych.datasets import ImageDataset, find_dataset, load_labelled
from diptych.datasets.overlap import find_overlap
from diptych.errors import DataError
from diptych.evaluation import measure_known
from diptych.media import load_image
from tests.layout_files import noise
from tests.toys import ToyEncoder, picture_bytes

scipy_io = pytest.importorskip("scipy.io")


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture_bytes((shade, shade, shade)))


def words(data: object) -> list[str]:
    assert isinstance(data, ImageDataset)
    return [data.class_names[label] for label in data.labels]


def flowers(folder: Path) -> Path:
    """Six pictures in the files of 102flowers.tgz, imagelabels.mat and setid.mat: (1, N) uint8 and uint16."""
    for number in range(1, 7):
        picture(folder / f"jpg/image_{number:05d}.jpg", number)
    scipy_io.savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 2, 3, 1, 2, 102]], np.uint8)})
    parts = {"trnid": [[1, 2]], "valid": [[3]], "tstid": [[6, 4, 5]]}
    scipy_io.savemat(folder / "setid.mat", {name: np.array(ids, np.uint16) for name, ids in parts.items()})
    return folder


def test_flowers(tmp_path: Path) -> None:
    flowers(tmp_path / "flowers-102")
    place = find_dataset(tmp_path, "flowers")
    assert words(place.open("test")) == ["pink primrose", "hard-leaved pocket orchid", "blackberry lily"]
    assert len(words(place.open("train"))) == 3  # train and validation, as in the paper's table 9
    path = tmp_path / "flowers-102"
    assert words(load_labelled(path, part="train_only")) == ["pink primrose", "hard-leaved pocket orchid"]
    assert words(load_labelled(path, part="val")) == ["canterbury bells"]
    train, test = (load_labelled(path, part=part) for part in ("train", "test"))
    assert find_overlap(train, test).shared == 0
    (path / "jpg/image_00004.jpg").unlink()
    assert load_labelled(path).skipped == (("image_00004.jpg", "listed in setid.mat and not there"),)


@pytest.mark.parametrize("name", ["imagelabels.mat", "setid.mat"])
def test_broken_lists_are_told(tmp_path: Path, name: str) -> None:
    path = flowers(tmp_path / "flowers-102")
    (path / name).write_bytes(b"MATLAB 5.0 or not")
    with pytest.raises(DataError, match=f"{name} cannot be read as a list of MATLAB's"):
        load_labelled(path)
    scipy_io.savemat(path / name, {"other": np.zeros(3)})
    with pytest.raises(DataError, match=f"{name} has no variable"):
        load_labelled(path)


def test_labels_out_of_range_are_told(tmp_path: Path) -> None:
    path = flowers(tmp_path / "flowers-102")
    scipy_io.savemat(path / "imagelabels.mat", {"labels": np.array([[1, 2, 3, 1, 2, 103]], np.uint8)})
    with pytest.raises(DataError, match="the label 103: expected 1 to 102"):
        load_labelled(path)
    scipy_io.savemat(path / "imagelabels.mat", {"labels": np.array([[1, 2]], np.uint8)})
    with pytest.raises(DataError, match="tstid has numbers without one of the 2 labels"):
        load_labelled(path)


def _annotations(rows: list[tuple[str, int]]) -> np.ndarray:
    kinds = [(name, "O") for name in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")]
    return np.array([[(1, 2, 3, 4, label, name) for name, label in rows]], dtype=kinds)


@pytest.mark.parametrize("where", ["", "devkit/"])
def test_cars(tmp_path: Path, where: str) -> None:
    folder = tmp_path / "stanford_cars"
    for part in ("train", "test"):
        for number in (1, 2):
            picture(folder / f"cars_{part}/{number:05d}.jpg", number + 10 * (part == "test"))
    (folder / "devkit").mkdir()
    lists = {"devkit/cars_train_annos.mat": [("00001.jpg", 1), ("00002.jpg", 196)]}
    lists[f"{where}cars_test_annos_withlabels.mat"] = [("00002.jpg", 2)]
    for name, rows in lists.items():
        scipy_io.savemat(folder / name, {"annotations": _annotations(rows)})
    place = find_dataset(tmp_path, "cars")
    assert words(place.open("train")) == ["AM General Hummer SUV 2000", "smart fortwo Convertible 2012"]
    assert words(place.open("test")) == ["Acura RL Sedan 2012"]


def test_cars_in_one_list(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        picture(tmp_path / f"cars/car_ims/00000{number}.jpg", number)
    kinds = [(name, "O") for name in ("relative_im_path", "class", "test")]
    rows = [(f"car_ims/00000{number}.jpg", number, number % 2) for number in (1, 2, 3)]
    scipy_io.savemat(tmp_path / "cars/cars_annos.mat", {"annotations": np.array([rows], dtype=kinds)})
    place = find_dataset(tmp_path, "cars")
    assert (len(words(place.open("test"))), words(place.open("train"))) == (2, ["Acura RL Sedan 2012"])


def pcam(folder: Path, **counts: int) -> Path:
    h5py = pytest.importorskip("h5py")
    folder.mkdir()
    for seed, (part, count) in enumerate(counts.items()):
        for kind, values in (("x", noise(count, 96, 96, 3, seed=seed)), ("y", np.arange(count) % 2)):
            with h5py.File(folder / f"camelyonpatch_level_2_split_{part}_{kind}.h5", "w") as file:
                file[kind] = values if kind == "x" else values.reshape(-1, 1, 1, 1).astype(np.uint8)
    return folder


def test_patch_camelyon(tmp_path: Path) -> None:
    pcam(tmp_path / "pcam", train=3, valid=2, test=2)
    place = find_dataset(tmp_path, "pcam")
    test = place.open()
    assert words(test) == ["lymph node", "lymph node containing metastatic tumor tissue"]
    assert [content.size for _, content in test] == [(96, 96)] * 2  # type: ignore[union-attr]
    assert (np.asarray([*test][1][1]) == noise(2, 96, 96, 3, seed=2)[1]).all()
    assert len(words(place.open("train"))) == 5
    assert len(load_labelled(tmp_path / "pcam", part="train_only")) == 3
    assert len(load_labelled(tmp_path / "pcam", part="val")) == 2
    assert [key for key, _ in test.sample(1)] == [test.sample(1).keys[0]]


def test_packed_and_broken_hdf5_is_told(tmp_path: Path) -> None:
    path = pcam(tmp_path / "pcam", test=2)
    images = path / "camelyonpatch_level_2_split_test_x.h5"
    images.rename(path / (images.name + ".gz"))
    with pytest.raises(DataError, match="unpack it and the files beside it first"):
        load_labelled(path)
    images.write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        load_labelled(path)
    (path / "camelyonpatch_level_2_split_test_y.h5").rename(images)
    (path / "camelyonpatch_level_2_split_test_y.h5").write_bytes(images.read_bytes())
    with pytest.raises(DataError, match="has no data set 'x': it has y"):
        load_labelled(path)


@pytest.mark.parametrize("header", ["emotion,pixels,Usage", "emotion, Usage, pixels"])
def test_fer2013(tmp_path: Path, header: str) -> None:
    usages = ["Training", "Training", "PublicTest", "PrivateTest", "PrivateTest", "PrivateTest"]
    lines = [header]
    for number, usage in enumerate(usages):
        pixels = " ".join(map(str, noise(1, 48 * 48, seed=number)[0])) if number < 5 else "1 2 3"
        lines.append(f"{number},{pixels},{usage}" if header.endswith("e") else f"{number}, {usage}, {pixels}")
    folder = tmp_path / "fer2013"
    folder.mkdir()
    (folder / "fer2013.csv").write_text("\n".join(lines) + "\n")
    place = find_dataset(tmp_path, "fer2013")
    assert words(place.open("train")) == ["angry", "disgusted", "fearful"]
    test = place.open()
    assert words(test) == ["happy", "sad", "surprised"]
    contents = [content for _, content in test]
    assert (np.asarray(contents[0]).ravel() == noise(1, 48 * 48, seed=3)[0]).all()
    assert contents[2].reason == "it has 3 pixels: expected 48 x 48"  # type: ignore[union-attr]
    assert load_labelled(folder / "fer2013.csv", part="val").class_names[2] == "fearful"


def test_objectnet(tmp_path: Path) -> None:
    root = tmp_path / "objectnet-1.0"
    for number, folder in enumerate(("air_freshener", "alarm_clock", "t_shirt", "backpack")):
        picture(root / "images" / folder / "1.png", number)
    folders = {"air_freshener": "Air freshener", "alarm_clock": "Alarm clock", "t_shirt": "T-shirt"}
    folders |= {"backpack": "Backpack", "tv": "TV"}
    shared = {"Alarm clock": "analog clock", "Backpack": "backpack, back pack", "T-shirt": "jersey, T-shirt"}
    shared["TV"] = "television, television system; screen, CRT screen"
    (root / "mappings").mkdir()
    (root / "mappings/folder_to_objectnet_label.json").write_text(json.dumps(folders))
    (root / "mappings/objectnet_to_imagenet_1k.json").write_text(json.dumps(shared))
    data = find_dataset(tmp_path, "objectnet").open()
    assert isinstance(data, ImageDataset)
    assert data.class_names == ("alarm clock", "backpack", "T-shirt", "TV")  # classes that ImageNet also has
    assert words(data) == ["alarm clock", "backpack", "T-shirt"]
    result = measure_known(find_dataset(tmp_path, "objectnet"))(ToyEncoder())
    assert (result.classes, result.n, len(result.templates or ())) == (4, 3, 80)
    sizes = [load_image(content).size for _, content in data]  # without the border of one pixel
    assert sizes == [(14, 10)] * 3
    assert data.fingerprint.endswith(" without a border of 1")
    assert data.sample(2).border == 1
    folder = load_labelled(root / "images")  # class folders by any author
    assert folder.border == 0
    assert [load_image(content).size for _, content in folder] == [(16, 12)] * 4
    lines = ["jersey, T-shirt", "analog clock", "backpack, back pack", "television, television system"]
    (root / "mappings/imagenet_to_label_2012_v2").write_text("\n".join(lines))
    places = {"610": 0, "409": 1, "414": 2, "851": 3}
    (root / "mappings/pytorch_to_imagenet_2012_id.json").write_text(json.dumps(places))
    shared_names = load_labelled(root, class_names="imagenet")
    assert shared_names.class_names == ("analog clock", "backpack", "T-shirt", "television")
    assert words(shared_names) == ["analog clock", "backpack", "T-shirt"]
    (root / "mappings/pytorch_to_imagenet_2012_id.json").write_text('{"610": 0}')
    with pytest.raises(DataError, match="lists of ImageNet's classes do not match"):
        load_labelled(root)
    (root / "mappings/folder_to_objectnet_label.json").write_text("[]")
    with pytest.raises(DataError, match="is not a mapping from names to names"):
        load_labelled(root)
