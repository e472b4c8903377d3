"""Data sets by name: detection in a folder, layouts, class names, and the protocols of the paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.datasets import ImageDataset, MultiLabelDataset, available_datasets, find_dataset, load_labelled
from diptych.datasets.discovery import recognise
from diptych.datasets.registry import KNOWN, known_dataset, short
from diptych.errors import DataError, InputError
from diptych.evaluation import measure_known, open_measure
from diptych.stats.rankings import FIGURES
from diptych.zeroshot import TEMPLATES, class_names, folder_names
from tests.layout_files import labelled_shard, noise, write_cifar10, write_idx, write_shards
from tests.toys import ToyEncoder, picture_bytes, tar_bytes

RED = picture_bytes("red")


def write(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(RED)
    return root


def packed(root: Path, name: str, *files: str) -> None:
    (root / name).write_bytes(tar_bytes(dict.fromkeys(files, RED), "w:gz" if name.endswith("gz") else "w"))


# --------------------------------------------------------------------------------------------- registry


def test_every_entry_holds_together() -> None:
    spelled = [short(name) for name in KNOWN]
    assert len(set(spelled)) == len(spelled)
    for item in KNOWN.values():
        assert item.prompts is None or item.prompts in TEMPLATES
        assert item.metric in FIGURES or item.task == "retrieval"
        if item.prompts and item.words:
            assert set(item.words.values()) <= set(class_names(item.prompts))
        assert recognise(short(item.name)) == item
        assert recognise(f"wds_vtab-{short(item.name)}_test") == item
        for alias in item.folders:
            assert recognise(alias) == item


def test_the_papers_data_sets_are_all_there() -> None:
    papers = {name for name in TEMPLATES if name not in ("plain", "bare", "imagenet7", "imagenet80")}
    assert papers == {item.prompts for item in KNOWN.values()} - {None}
    wanted = {"vtab/caltech101", "pets", "flowers", "fgvc_aircraft"}
    assert {item.name for item in KNOWN.values() if item.metric == "mean_per_class_recall"} == wanted
    assert known_dataset("voc2007_multilabel").metric == "mean_average_precision_11_point"
    assert known_dataset("hateful_memes").metric == "roc_auc"


@pytest.mark.parametrize("name", ["cifar10", "vtab/cifar10", "wds/vtab/cifar10", "CIFAR10"])
def test_names_with_and_without_prefixes(name: str) -> None:
    assert known_dataset(name).name == "cifar10"


def test_an_unknown_name_is_told_with_near_ones() -> None:
    with pytest.raises(InputError, match=r"did you mean cifar10"):
        known_dataset("cifar-10")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar-10-batches-py", "cifar10"),
        ("cifar-100-python", "cifar100"),
        ("cifar100-test.tar", "cifar100"),
        ("imagenet", "imagenet1k"),
        ("imagenetv2-matched-frequency-format-val", "imagenetv2"),
        ("imagenet-r.tar", "imagenet-r"),
        ("wds_imagenet_sketch", "imagenet_sketch"),
        ("food-101", "food101"),
        ("flickr8k-train-000002.tar", "flickr8k"),
        ("flower_photos.tgz", "tfflowers"),
        ("flowers-102", "flowers"),
        ("imagenet-100", "imagenet-100"),
        ("imagenet-100-val.tar", "imagenet-100"),
        ("imagenet-21k", None),
        ("cifar10.1-test.tar", "cifar10.1"),
        ("cifar10.2-test.tar", None),
        ("cifar10-000001.tar", "cifar10"),
        ("cifar10-test-2.tar", "cifar10"),
        ("kinetics700-2020", None),
        ("mnist-c", None),
        ("imagenet_classes_templates.json", None),
        ("cifar10-labels-corrected.tar", None),
        ("petshop", None),
        ("sketch", None),
    ],
)
def test_what_a_name_says(name: str, expected: str | None) -> None:
    result = recognise(name)
    assert (None if result is None else result.name) == expected


@settings(max_examples=200)
@given(st.text(max_size=30))
def test_any_file_name_is_recognised_or_not(name: str) -> None:
    result = recognise(name)
    assert result is None or result in KNOWN.values()


# ---------------------------------------------------------------------------------------------- folders


def test_archives_beside_each_other(tmp_path: Path) -> None:
    packed(tmp_path, "cifar10-test-a.tar.gz", "t/dog/0.png", "t/cat/0.png")
    packed(tmp_path, "cifar10-test-b.tar", "t/truck/0.png")
    packed(tmp_path, "cifar10-train.tar.gz", *(f"t/{name}/1.png" for name in class_names("cifar10")))
    packed(tmp_path, "cifar10-val.tar", "t/bird/0.png")
    place = find_dataset(tmp_path, "vtab/cifar10")
    assert {part: [path.name for path in paths] for part, paths in place.parts.items()} == {
        "test": ["cifar10-test-a.tar.gz", "cifar10-test-b.tar"],
        "train": ["cifar10-train.tar.gz"],
        "val": ["cifar10-val.tar"],
    }
    data = place.open()
    assert isinstance(data, ImageDataset)
    assert (data.name, data.class_names) == ("cifar10", class_names("cifar10"))
    assert [data.class_names[label] for label in data.labels] == ["dog", "cat", "truck"]
    assert len(place.open("train")) == 10
    assert len(list(data)) == 3


def test_clip_benchmarks_and_torchvisions_folders(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar10" / "cifar-10-batches-py", noise(2, 3072), [0, 1])
    write_idx(tmp_path / "MNIST" / "raw", "t10k", noise(2, 4, 4), [0, 7])
    write(tmp_path / "caltech101" / "101_ObjectCategories", "Faces/1.jpg", "BACKGROUND_Google/1.jpg")
    write(tmp_path / "imagenet1k", "val/n01440764/1.JPEG", "train/n01443537/1.JPEG")
    write(tmp_path / "imagenet-a", "n01498041/1.jpg", "n01440764/2.jpg")
    write(tmp_path / "eurosat" / "2750", "AnnualCrop/1.jpg", "SeaLake/2.jpg")
    write(tmp_path / "fer2013", "test/happy/1.png", "test/disgust/1.png", "train/sad/1.png")
    write_shards(tmp_path / "wds" / "vtab" / "svhn", [labelled_shard(["red"], [1])], names=["zero", "one"])
    write_shards(
        tmp_path / "wds_vtab-pets_test",
        [labelled_shard(["red"], [1])],
        names=["a cat", "a dog"],
        templates=["{c}?"],
    )
    (tmp_path / "food101").mkdir()  # empty: no data set
    result = {place.known.name: place for place in available_datasets(tmp_path)}
    assert {name: sorted(place.parts) for name, place in result.items()} == {
        "imagenet1k": ["test", "train", "val"],
        "imagenet-a": ["test"],
        "cifar10": ["test", "train"],
        "pets": ["test"],
        "vtab/caltech101": ["test"],
        "mnist": ["test"],
        "fer2013": ["test", "train"],
        "eurosat": ["test"],
        "vtab/svhn": ["test"],
    }
    opened = {name: place.open() for name, place in result.items()}
    words = {
        name: [data.class_names[label] for label in data.labels]
        for name, data in opened.items()
        if isinstance(data, ImageDataset)
    }
    assert words == {
        "imagenet1k": ["tench"],
        "imagenet-a": ["tench", "stingray"],
        "cifar10": ["airplane", "automobile"],
        "pets": ["a dog"],
        "vtab/caltech101": ["background", "off-center face"],
        "mnist": ["0", "7"],
        "fer2013": ["disgusted", "happy"],
        "eurosat": ["annual crop land", "lake or sea"],
        "vtab/svhn": ["one"],
    }
    sizes = {name: len(data.class_names) for name, data in opened.items() if isinstance(data, ImageDataset)}
    assert sizes == {
        "imagenet1k": 1000, "imagenet-a": 2, "cifar10": 10, "pets": 2, "vtab/caltech101": 102, "mnist": 10,
        "fer2013": 7, "eurosat": 10, "vtab/svhn": 2,
    }  # fmt: skip


def test_folders_of_parts_beside_each_other(tmp_path: Path) -> None:
    write(tmp_path, "cifar10-test/dog/1.png", "cifar10-train/cat/1.png", "cifar10-train/dog/1.png")
    packed(tmp_path, "cifar10-test.tar", "dog/1.png")  # the same data set again: not counted twice
    write(tmp_path, "flickr8k_test/1.png").joinpath("flickr8k_test/1.txt").write_text("a dog")
    write_shards(tmp_path / "wds_mnist_test", [labelled_shard(["red"], [1])], names=["zero", "one"])
    write_shards(
        tmp_path / "wds_mnist_train", [labelled_shard(["red"], [0])], names=["zero", "one"], part="train"
    )
    result = {place.known.name: place for place in available_datasets(tmp_path)}
    message = {
        (name, part): ([path.name for path in paths], len(place.open(part)))
        for name, place in result.items()
        for part, paths in place.parts.items()
    }
    assert message == {
        ("cifar10", "test"): (["cifar10-test"], 1),
        ("cifar10", "train"): (["cifar10-train"], 2),
        ("flickr8k", "test"): (["flickr8k_test"], 1),
        ("mnist", "test"): (["wds_mnist_test"], 1),
        ("mnist", "train"): (["wds_mnist_train"], 1),
    }


def test_the_data_set_itself_may_be_named(tmp_path: Path) -> None:
    packed(tmp_path, "mine.tar", "dog/1.png", "cat/1.png")
    assert find_dataset(tmp_path / "mine.tar", "cifar10").open().name == "cifar10"
    folder = write_cifar10(tmp_path / "x", noise(2, 3072), [0, 1])
    assert len(find_dataset(folder, "cifar10").open()) == 2


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    packed(tmp_path, "cifar10-test.tar", "dog/1.png")
    with pytest.raises(DataError, match="holds no mnist: it has 'cifar10'; expected a folder called mnist"):
        find_dataset(tmp_path, "mnist")
    with pytest.raises(DataError, match="no part 'train' here: it has 'test'"):
        find_dataset(tmp_path, "cifar10").open("train")
    with pytest.raises(DataError, match="is not there"):
        find_dataset(tmp_path / "nowhere", "mnist")


def test_folders_that_do_not_match_the_names_are_told(tmp_path: Path) -> None:
    packed(tmp_path, "cifar10-test.tar", "dog/1.png", "giraffe/1.png")
    with pytest.raises(DataError, match="no class name is given for 'giraffe'"):
        find_dataset(tmp_path, "cifar10").open()


def test_numbers_and_codes_for_folders(tmp_path: Path) -> None:
    write(tmp_path / "imagenetv2", "0/1.jpg", "10/1.jpg", "2/1.jpg")
    v2 = find_dataset(tmp_path, "imagenetv2").open()
    assert isinstance(v2, ImageDataset)
    assert v2.labels.tolist() == [0, 10, 2]
    codes = [f"{a}{b}" for a in "ABCDEFGHIJKLMNOPQRS" for b in "ABCDEFGHIJKL"][:211]
    write(tmp_path / "country211" / "test", *(f"{code}/1.jpg" for code in codes))
    countries = find_dataset(tmp_path, "country211").open()
    assert isinstance(countries, ImageDataset)
    assert countries.class_names[:2] == ("Andorra", "United Arab Emirates")
    assert countries.labels.tolist() == list(range(211))


def test_domains_of_pacs(tmp_path: Path) -> None:
    packed(tmp_path, "pacs-a.tar", "p/photo/dog/1.png", "p/sketch/dog/1.png", "p/sketch/horse/1.png")
    data = find_dataset(tmp_path, "pacs").open(domain="sketch")
    assert (data.name, len(data)) == ("pacs/sketch", 2)


LISTED = {
    "food-101": (
        ["images/apple_pie/10.jpg", "images/waffles/20.jpg", "images/waffles/30.jpg"],
        {"meta/test.txt": "waffles/20\napple_pie/10\n", "meta/train.txt": "waffles/30\n"},
        ["apple pie", "waffles"],
    ),
    "oxford-iiit-pet": (
        ["images/Abyssinian_1.jpg", "images/yorkshire_terrier_12.jpg", "images/Bengal_3.jpg"],
        {
            "annotations/test.txt": "Abyssinian_1 1 1 1\nyorkshire_terrier_12 37 2 25\n",
            "annotations/trainval.txt": "Bengal_3 6 1 2",
        },
        ["Abyssinian", "yorkshire terrier"],
    ),
    "dtd/dtd": (
        [
            "images/banded/banded_0002.jpg",
            "images/zigzagged/zigzagged_0001.jpg",
            "images/dotted/dotted_1.jpg",
        ],
        {
            "labels/test1.txt": "banded/banded_0002.jpg\nzigzagged/zigzagged_0001.jpg\n",
            "labels/train1.txt": "dotted/dotted_1.jpg",
        },
        ["banded", "zigzagged"],
    ),
    "fgvc-aircraft-2013b": (
        ["data/images/0000001.jpg", "data/images/0000002.jpg", "data/images/0000003.jpg"],
        {
            "data/images_variant_test.txt": "0000002 F/A-18\n0000001 707-320\n",
            "data/images_variant_trainval.txt": "0000003 Yak-42",
        },
        ["707-320", "F/A-18"],
    ),
    "gtsrb": (
        ["GTSRB/Final_Test/Images/00000.ppm", "GTSRB/Final_Test/Images/00001.ppm"],
        {
            "GT-final_test.csv": "Filename;W;H;X;Y;X;Y;ClassId\n"
            "00001.ppm;5;5;0;0;5;5;2\n00000.ppm;5;5;0;0;5;5;0\n"
        },
        ["red and white circle 20 kph speed limit", "red and white circle 50 kph speed limit"],
    ),
}


@pytest.mark.parametrize("name", LISTED)
def test_lists_of_parts_as_torchvision_unpacks_them(tmp_path: Path, name: str) -> None:
    pictures, lists, expected = LISTED[name]
    write(tmp_path / name, *pictures)
    for file, text in lists.items():
        path = tmp_path / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (place,) = available_datasets(tmp_path)
    data = place.open()
    assert isinstance(data, ImageDataset)
    assert [data.class_names[label] for label in data.labels] == expected
    assert [content for _, content in data] == [RED, RED]
    assert len(lists) == 1 or len(place.open("train")) == 1


def test_a_listed_picture_that_is_gone_is_named(tmp_path: Path) -> None:
    pictures, lists, _ = LISTED["food-101"]
    write(tmp_path, *pictures[1:])
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/test.txt").write_text(lists["meta/test.txt"])
    data = load_labelled(tmp_path)
    assert data.skipped == (("apple_pie/10.jpg", "listed in test.txt and not there"),)
    (tmp_path / "meta/test.txt").write_text("pizza/1\n")
    with pytest.raises(DataError, match="names no picture that is in"):
        load_labelled(tmp_path)


# --------------------------------------------------------------------------------------------- measures


def test_a_known_data_set_is_measured_as_the_paper_does(tmp_path: Path) -> None:
    write(tmp_path / "fer2013" / "test", *(f"{name}/1.png" for name in ("happy", "fear", "neutral")))
    measure = measure_known(find_dataset(tmp_path, "fer2013"))
    assert (measure.templates, measure.metric) == ("fer2013", "acc1")
    assert isinstance(measure.names, dict)
    assert measure.names["happy"] == ["happy", "smiling"]
    result = measure(ToyEncoder())
    assert (result.dataset, result.classes, result.n) == ("fer2013", 7, 3)
    assert result.templates == TEMPLATES["fer2013"]
    assert measure_known(find_dataset(tmp_path, "fer2013"), templates="bare")(ToyEncoder()).templates == (
        "{}",
    )


def test_hateful_memes_by_the_area_under_the_curve(tmp_path: Path) -> None:
    files = {f"hateful_memes/{kind}/{i}.png": picture_bytes(colour)
             for kind, colours in ((0, "green red green"), (1, "red red blue"))
             for i, colour in enumerate(colours.split())}  # fmt: skip
    (tmp_path / "hateful_memes-test.tar").write_bytes(tar_bytes(files))

    class Red(ToyEncoder):
        def encode_texts(self, texts):
            colours = ["red" if "hate" in text else "green" for text in texts]
            return super().encode_texts(colours)

    result = measure_known(find_dataset(tmp_path, "hateful_memes"))(Red())
    # "hatespeech meme" minus "meme" decreases from red over blue to green. Each red picture of class 1 beats
    # two green ones and ties with a red one; the blue one beats two and loses to one.
    assert result.metrics["roc_auc"] == pytest.approx((2 * (1 + 1 + 0.5) + (1 + 1 + 0)) / 9)
    placed, labels = np.array(result.outcomes["roc_auc"]), np.array(result.labels)
    for label in (0, 1):  # the contribution of each picture, for `compare`
        assert placed[labels == label].mean() == pytest.approx(result.metrics["roc_auc"])
    assert result.chance["roc_auc"] == 0.5
    low, high = result.intervals["roc_auc"]
    assert low < result.metrics["roc_auc"] <= high
    (tmp_path / "hateful_memes-test.tar").write_bytes(tar_bytes({"0/1.png": RED}))
    with pytest.raises(DataError, match="area under the ROC curve needs exactly two classes"):
        measure_known(find_dataset(tmp_path, "hateful_memes"))(Red())


@pytest.mark.shared
def test_the_real_packs_are_recognised(shared) -> None:
    places = {
        place.known.name: place
        for place in available_datasets((shared / "data/cifar10-test-a.tar.gz").parent)
    }
    assert {name: sorted(place.parts) for name, place in places.items()} == {
        "imagenet1k": ["test"],
        "cifar10": ["test", "train"],
        "vtab/caltech101": ["test", "train"],
        "mnist": ["test", "train"],
        "flickr8k": ["test", "train", "val"],
        "pacs": ["test"],
        "tfflowers": ["test", "train"],
    }
    assert len(places["flickr8k"].parts["train"]) == 3
    flowers = places["tfflowers"].open()
    assert isinstance(flowers, ImageDataset)
    assert flowers.class_names == ("daisy", "dandelion", "rose", "sunflower", "tulip")
    caltech = places["vtab/caltech101"].open()
    assert isinstance(caltech, ImageDataset)
    assert set(caltech.class_names) == set(folder_names("caltech101").values())
    assert len(places["pacs"].open(domain="sketch")) == 350


# ---------------------------------------------------------------------------------------------- VOC 2007


def voc(root: Path, lists: dict[str, str], pictures: dict[str, bytes]) -> Path:
    for name, data in pictures.items():
        path = root / "VOC2007" / "JPEGImages" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for name, text in lists.items():
        path = root / "VOC2007" / "ImageSets" / "Main" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


PICTURES = {f"00000{i}": picture_bytes(colour) for i, colour in enumerate(("red", "green", "blue", "red"))}
LISTS = {
    "red_test": "000000  1\n000001 -1\n000002 -1\n000003  0\n",
    "green_test": "000000  1\n000001  1\n000002 -1\n000003 -1\n",
    "red_trainval": "000003  1\n",
    "green_trainval": "000003 -1\n",
    "test": "000000\n000001\n",
}


def test_voc_with_several_classes_and_difficult_objects(tmp_path: Path) -> None:
    root = voc(tmp_path / "VOCdevkit", LISTS, PICTURES)
    place = find_dataset(tmp_path, "voc2007_multilabel")
    assert set(place.parts) == {"test", "train"}
    data = place.open()
    assert isinstance(data, MultiLabelDataset)
    assert data.class_names == ("green", "red")
    assert data.targets.tolist() == [[1, 1], [1, 0], [0, 0], [0, -1]]
    train = place.open("train")
    assert isinstance(train, MultiLabelDataset)
    assert train.targets.tolist() == [[0, 1]]
    measure = measure_known(place)
    result = measure(ToyEncoder())
    # Green: its picture is first; the two red ones and the blue one have equal cosines. Relevant are the
    # green one, precision 1, then all four at once, precision 2/4. Red: its only relevant picture is first.
    green, red = (1 + 2 / 4) / 2, 1.0
    assert result.per_class == {"green": pytest.approx(green), "red": pytest.approx(red)}
    assert result.metrics["mean_average_precision"] == pytest.approx((green + red) / 2)
    # Recall 0 to 0.5 at precision 1, the rest at 2/4.
    assert result.metrics[measure.metric] == pytest.approx(((6 * 1 + 5 * 2 / 4) / 11 + 1) / 2)
    assert result.chance[measure.metric] == pytest.approx((2 / 4 + 1 / 3) / 2)
    assert result.n == 4
    before = data.fingerprint
    voc(root, {"red_test": LISTS["red_test"].replace("000001 -1", "000001  1")}, {})
    assert find_dataset(tmp_path, "voc2007_multilabel").open().fingerprint != before


@pytest.mark.parametrize(
    ("lists", "told"),
    [
        ({"red_test": "000000 2\n"}, "expected a picture and 1, -1 or 0"),
        ({"red_test": "000000 1\n"}, "lists other pictures than"),
        ({"red_test": "9 1\n", "green_test": "9 1\n"}, "none of the 1 pictures"),
    ],
)
def test_broken_lists_of_voc_are_told(tmp_path: Path, lists: dict[str, str], told: str) -> None:
    voc(tmp_path / "VOCdevkit", {**LISTS, **lists}, PICTURES)
    with pytest.raises(DataError, match=told):
        find_dataset(tmp_path, "voc2007_multilabel").open()


def npy(values) -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def test_shards_with_several_classes(tmp_path: Path) -> None:
    files = {
        "0.png": picture_bytes("red"), "0.npy": npy(np.array([1, 0])),
        "1.png": picture_bytes("green"), "1.npy": npy(np.array([1.0, 1.0])),
        "2.png": RED, "2.npy": npy(np.array([1, 0, 1])),
        "3.png": RED, "3.npy": npy(np.array([{}, 1], dtype=object)),
        "4.png": RED, "4.npy": b"\x93NUMPY",
        "5.png": RED, "5.npy": npy(np.array([1, 7])),
    }  # fmt: skip
    write_shards(tmp_path / "wds_voc2007_multilabel", [files], names=["red", "green"], kind="multilabel")
    data = find_dataset(tmp_path, "wds/voc2007_multilabel").open()
    assert isinstance(data, MultiLabelDataset)
    assert data.targets.tolist() == [[1, 0], [1, 1]]
    assert [key for key, _ in data.skipped] == ["2.png", "3.png", "4.png", "5.png"]
    assert "allow_pickle" in data.skipped[1][1]


def test_a_measure_is_opened_by_the_files_alone(tmp_path: Path) -> None:
    voc(tmp_path / "VOCdevkit", LISTS, PICTURES)
    measure = open_measure(tmp_path / "VOCdevkit")
    assert isinstance(measure.dataset, MultiLabelDataset)
    assert measure.metric == "mean_average_precision"
    assert measure(ToyEncoder()).metrics[measure.metric] > 0
    write_shards(tmp_path / "s", [labelled_shard(["red"], [0])], names=["red", "blue"], templates=["{c}!"])
    assert open_measure(tmp_path / "s").templates == ("{}!",)
    write_cifar10(tmp_path / "c", noise(2, 3072), [0, 1])
    assert open_measure(tmp_path / "c").metric == "acc1"
    with pytest.raises(DataError, match="neither captions nor classes"):
        open_measure(write(tmp_path / "flat", "1.png"))


# ---------------------------------------------------------------------------------------------- copies


def test_two_copies_of_a_test_set_count_once(tmp_path: Path) -> None:
    files = {
        f"t/{name}/0.png": picture_bytes(shade) for name, shade in (("dog", (9, 0, 0)), ("cat", (0, 9, 0)))
    }
    (tmp_path / "cifar10-test.tar").write_bytes(tar_bytes(files))
    renamed = {
        f"copy/{name.split('/')[1]}/a{number}.png": data for number, (name, data) in enumerate(files.items())
    }
    more = {**dict(reversed(renamed.items())), "copy/ship/0.png": RED}
    (tmp_path / "cifar10-test-b.tar.gz").write_bytes(tar_bytes(more, "w:gz"))
    with pytest.warns(UserWarning, match=r"cifar10: 2 of the 2 pictures of \S+cifar10-test.tar are in other"):
        data = find_dataset(tmp_path, "cifar10").open()
    assert isinstance(data, ImageDataset)
    assert sorted(data.class_names[label] for label in data.labels) == ["cat", "dog", "ship"]


def test_copied_captions_count_once(tmp_path: Path) -> None:
    files = {"0.png": RED, "0.txt": b"red", "1.png": picture_bytes("blue"), "1.txt": b"blue"}
    for name in ("flickr8k-test.tar", "flickr8k-test-a.tar"):
        (tmp_path / name).write_bytes(tar_bytes(files))
    with pytest.warns(UserWarning, match="flickr8k: 2 of the 2 pictures"):
        assert len(find_dataset(tmp_path, "flickr8k").open()) == 2


def test_what_is_not_read_is_listed(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-py", noise(2, 3072), [0, 1])
    packed(tmp_path, "cifar10-test.tar", "t/dog/0.png")
    place = find_dataset(tmp_path, "cifar10")
    assert [path.name for path in place.unused] == ["cifar10-test.tar"]
    assert len(place.open()) == 2


# ------------------------------------------------------------------------------- protocols of the paper


def test_textures_are_learnt_from_train_and_validation(tmp_path: Path) -> None:
    write(tmp_path / "dtd", *(f"images/banded/{n}.jpg" for n in range(4)))
    (tmp_path / "dtd/labels").mkdir()
    for number, part in enumerate(("train1", "val1", "test1")):
        lines = [f"banded/{number}.jpg", *([] if part != "test1" else ["no line of a list"])]
        (tmp_path / f"dtd/labels/{part}.txt").write_text("\n".join(lines))
    path = tmp_path / "dtd"
    parts = {part: load_labelled(path, part=part) for part in ("train", "train_only", "val", "test")}
    assert {part: len(data) for part, data in parts.items()} == {
        "train": 2,
        "train_only": 1,
        "val": 1,
        "test": 1,
    }
    assert parts["test"].skipped[0][0] == "test1.txt, line 2"


def test_some_folders_are_learnt_from_train_and_validation(tmp_path: Path) -> None:
    for name in ("rendered-sst2", "fer2013"):
        for number, part in enumerate(("train", "valid", "test")):
            for kind in ("negative", "positive") if name == "rendered-sst2" else ("happy", "sad"):
                path = tmp_path / name / part / kind / "1.png"
                path.parent.mkdir(parents=True)
                path.write_bytes(picture_bytes((number, len(kind), 0)))
    assert (
        len(find_dataset(tmp_path, "renderedsst2").open("train")) == 4
    )  # 7,792 in the paper's table 9: train and validation
    assert len(find_dataset(tmp_path, "fer2013").open("train")) == 2


def test_kinetics_is_the_mean_of_top_1_and_top_5(tmp_path: Path) -> None:
    names = class_names("kinetics700")
    packed(tmp_path, "kinetics700-test.tar", *(f"{name.replace(' ', '_')}/1.png" for name in names[:3]))
    result = measure_known(find_dataset(tmp_path, "kinetics700"))(ToyEncoder())
    assert result.metrics["mean_acc1_acc5"] == (result.metrics["acc1"] + result.metrics["acc5"]) / 2
    assert result.chance["mean_acc1_acc5"] == 6 / 1400
    low, high = result.intervals["mean_acc1_acc5"]
    assert low <= result.metrics["mean_acc1_acc5"] < high


def test_imagenets_variants_have_the_classes_they_are_defined_on(tmp_path: Path) -> None:
    """Also where a folder lacks some of the classes, or has numbers instead of class folders."""
    packed(
        tmp_path, "imagenet-r-test.tar", "n01443537/1.jpg", "n01484850/2.jpg"
    )  # goldfish, great white shark
    data = find_dataset(tmp_path, "imagenet-r").open()
    assert isinstance(data, ImageDataset)
    assert (len(data.class_names), [data.class_names[label] for label in data.labels]) == (
        200,
        ["goldfish", "great white shark"],
    )
    write_shards(tmp_path / "imagenet-a", [labelled_shard(["red", "blue"], [1, 199])])
    data = find_dataset(tmp_path, "imagenet-a").open()
    assert isinstance(data, ImageDataset)
    assert len(data.class_names) == known_dataset("imagenet-a").classes == 200
    every = list(folder_names("imagenet").values())
    assert [data.class_names[label] for label in data.labels] == [
        every[known_dataset("imagenet-a").among[place]] for place in (1, 199)
    ]
    write(tmp_path / "imagenet-100", "n01440764/1.jpg", "n02085620/1.jpg")
    assert len(find_dataset(tmp_path, "imagenet-100").open().class_names) == 2  # type: ignore[union-attr]


def test_one_class_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    write(tmp_path, "images/1.jpg", "images/2.jpg")
    with pytest.raises(DataError, match="has one class, 'images': every answer would be right"):
        open_measure(tmp_path)(ToyEncoder())
