"""The zero-shot and retrieval protocols on generated pictures, and the result files that they write."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from diptych.datasets import load_captioned, load_labelled
from diptych.embedding.batches import Failed
from diptych.errors import DataError, SaveError
from diptych.evaluation import Result, evaluate_retrieval, evaluate_zero_shot
from diptych.evaluation.protocols import retrieval
from diptych.media import Limits
from tests.toys import ToyEncoder, picture_bytes, tar_bytes

NAMES = ("red", "green", "blue")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Three classes; one of four red pictures is green, and one of two blue pictures is broken."""
    files = {f"pack/red/{i}.png": picture_bytes("green" if i == 3 else "red") for i in range(4)}
    files |= {"pack/green/0.png": picture_bytes("green")}
    files |= {"pack/blue/0.png": picture_bytes("blue"), "pack/blue/1.png": b"broken"}
    path = tmp_path / "colours.tar"
    path.write_bytes(tar_bytes(files))
    return path


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    """Three pictures with 2, 1 and 1 captions; the last caption says red."""
    captions = {
        "0": ("red", ["red thing", "something red"]),
        "1": ("green", ["green"]),
        "2": ("blue", ["red one"]),
    }
    files: dict[str, bytes] = {}
    for key, (colour, texts) in captions.items():
        files |= {
            f"{key}.png": picture_bytes(colour),
            f"{key}.json": json.dumps({"captions": texts}).encode(),
        }
    files["3.png"] = picture_bytes("white")
    path = tmp_path / "pairs.tar"
    path.write_bytes(tar_bytes(files))
    return path


def test_zero_shot_by_hand(labelled: Path) -> None:
    steps: list[int] = []
    result = evaluate_zero_shot(
        ToyEncoder(), load_labelled(labelled), progress=steps.append, model="toy", command="x"
    )
    # Correct: 3 of 4 red, 1 of 1 green, 1 of 1 blue.
    assert result.metrics == {
        "acc1": pytest.approx(5 / 6),
        "mean_per_class_recall": pytest.approx((3 / 4 + 1 + 1) / 3),
    }
    assert result.chance == {"acc1": pytest.approx(1 / 3), "mean_per_class_recall": pytest.approx(1 / 3)}
    assert result.per_class == {"blue": 1.0, "green": 1.0, "red": 0.75}
    assert (result.n, result.classes, sum(steps)) == (6, 3, 7)
    assert [item.key for item in result.failures] == ["pack/blue/1.png"]
    low, high = result.intervals["acc1"]
    assert 0.4 < low < 5 / 6 < high <= 1
    assert (result.identity, result.model, result.command) == ("toy:colours", "toy", "x")
    assert result.templates == ("a photo of a {}.",)
    assert "torch" not in result.versions or result.versions["torch"]


def test_other_words_for_the_classes(labelled: Path) -> None:
    data = load_labelled(labelled)
    swapped = evaluate_zero_shot(ToyEncoder(), data, ["red", "green", "blue"])  # folders are blue, green, red
    assert swapped.per_class == {"blue": 0.0, "green": 1.0, "red": 0.0}
    texts = {"b": ["blue", "deep blue"], "g": None, "r": "red"}
    assert evaluate_zero_shot(ToyEncoder(), data, texts, templates=None).per_class["red"] == 0.75
    with pytest.raises(DataError, match="2 class names for the 3 classes of colours"):
        evaluate_zero_shot(ToyEncoder(), data, ["a", "b"])


def test_a_model_that_cannot_see_gets_chance(labelled: Path) -> None:
    class Blind(ToyEncoder):
        def encode_images(self, images):
            return np.tile(np.float32([0, 0, 0, 1]), (len(images), 1))

        def encode_texts(self, texts):
            return np.tile(np.float32([0, 0, 0, 1]), (len(texts), 1))

    result = evaluate_zero_shot(Blind(), load_labelled(labelled))
    assert result.metrics == pytest.approx(dict(result.chance))


def test_acc5_with_more_than_five_classes(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes({f"class {i}/0.png": picture_bytes("red") for i in range(10)}))
    result = evaluate_zero_shot(ToyEncoder(), load_labelled(path))
    assert result.metrics["acc5"] == pytest.approx(0.5)
    assert result.chance["acc5"] == 0.5


def test_retrieval_by_hand(captioned: Path) -> None:
    result = evaluate_retrieval(ToyEncoder(), load_captioned(captioned), ks=(1, 2))
    # Captions -> pictures: red, red and green are correct; "red one" ranks the red picture first, and its
    # own blue picture ties with green for the second place.
    assert result.metrics["image_retrieval_recall@1"] == pytest.approx(3 / 4)
    assert result.metrics["image_retrieval_recall@2"] == pytest.approx((3 + 0.5) / 4)
    # Pictures -> captions: red ties its two captions with "red one": 2 of the 3 tied are right.
    # Blue: its own caption ties with all others.
    assert result.metrics["text_retrieval_recall@1"] == pytest.approx((2 / 3 + 1 + 1 / 4) / 3)
    assert result.metrics["text_retrieval_recall@2"] == pytest.approx((1 + 1 + 2 / 4) / 3)
    assert result.chance["image_retrieval_recall@2"] == pytest.approx(2 / 3)
    assert result.chance["text_retrieval_recall@1"] == pytest.approx((2 / 4 + 1 / 4 + 1 / 4) / 3)
    assert (result.n, [item.key for item in result.failures]) == (3, ["3.png"])
    assert result.task == "zeroshot_retrieval"


def test_blocks_change_nothing(captioned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate_retrieval(ToyEncoder(), load_captioned(captioned), ks=(1, 2))
    monkeypatch.setattr(retrieval, "_SCORES", 1)
    assert evaluate_retrieval(ToyEncoder(), load_captioned(captioned), ks=(1, 2)).metrics == pytest.approx(
        whole.metrics
    )


def test_a_broken_picture_takes_its_captions_along(tmp_path: Path) -> None:
    files = {}
    for i, colour in enumerate(NAMES):
        files |= {f"{i}.png": b"" if i == 0 else picture_bytes(colour), f"{i}.txt": colour.encode()}
    path, copy = tmp_path / "x.tar", tmp_path / "y.tar"
    path.write_bytes(tar_bytes(files))
    copy.write_bytes(tar_bytes(files))
    result = evaluate_retrieval(ToyEncoder(), load_captioned([path, copy, path]), ks=(1,))
    assert result.n == 4
    assert [item.key for item in result.failures] == ["0.png", "0.png"]
    assert result.metrics["image_retrieval_recall@1"] == 0.5  # every picture occurs twice, and the two tie


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes({"a/0.png": b"", "a/0.txt": b"words", "b/0.png": b"x"}))
    with pytest.raises(DataError, match=r"none of the 2 pictures of x could be read; the first: a/0.png"):
        evaluate_zero_shot(ToyEncoder(), load_labelled(path))
    with pytest.raises(DataError, match="none of the 1 pictures"):
        evaluate_retrieval(ToyEncoder(), load_captioned(path))


def result(**changes) -> Result:
    values = {
        "dataset": "x",
        "task": "zeroshot_classification",
        "metrics": {"acc1": 0.5},
        "chance": {"acc1": 0.1},
        "intervals": {"acc1": (0.4, 0.6)},
        "n": 4,
        "identity": "i",
        "data_fingerprint": "f",
    }
    return Result(**{**values, **changes})


def test_a_result_is_clip_benchmarks_json_and_comes_back(tmp_path: Path) -> None:
    single = result(failures=(Failed("a\udc80.png", "broken"),), model="ViT-B-32", pretrained="openai")
    single.save(tmp_path / "r.json")
    plain = json.loads((tmp_path / "r.json").read_text())
    assert list(plain)[:6] == ["dataset", "model", "pretrained", "task", "metrics", "language"]
    assert plain["metrics"] == {"acc1": 0.5}
    assert (plain["language"], plain["chance"], plain["n"]) == ("en", {"acc1": 0.1}, 4)
    assert Result.read(tmp_path / "r.json") == single
    assert single.rows() == [
        {
            "dataset": "x",
            "metric": "acc1",
            "value": 0.5,
            "low": 0.4,
            "high": 0.6,
            "chance": 0.1,
            "n": 4,
            "failures": 1,
        }
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"dataset": "x", "failures": 3}', "\xff"])
def test_what_is_no_result(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match="not a result file"):
        Result.read(tmp_path / "r.json")


def test_no_space_for_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SaveError, match="No space left"):
        result().save(tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.shared
def test_the_packs_are_read_as_their_readme_says(shared) -> None:
    counts = {
        "cifar10-test-a.tar.gz": (5000, 10),
        "caltech101-test-a.tar": (896, 101),
        "mnist-test-a.tar.gz": (2000, 10),
    }
    for name, (pictures, classes) in counts.items():
        data = load_labelled(shared / "data" / name)
        assert (len(data), len(data.class_names)) == (pictures, classes)
    sketch = load_labelled(shared / "data/pacs-a.tar", domain="sketch")
    assert (len(sketch), sketch.class_names[0]) == (350, "dog")
    imagenet = load_labelled(shared / "data/imagenet-sample-1000.tar")
    assert (len(imagenet), imagenet.class_names[:2]) == (1000, ("tench", "goldfish"))
    assert imagenet.labels.tolist() == list(range(1000))
    flickr = load_captioned(shared / "data/flickr8k-test.tar")
    assert (len(flickr), {len(texts) for texts in flickr.captions}, flickr.skipped) == (1000, {5}, ())
    caltech = load_labelled(shared / "data/caltech101-test-a.tar", class_names="caltech101")
    assert "off-center face" in caltech.class_names
    assert evaluate_retrieval(ToyEncoder(), flickr.sample(50)).n == 50


@pytest.mark.parametrize("packed", [False, True])
def test_a_pipe_and_a_huge_file_are_failures_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    monkeypatch.setattr("diptych.datasets.formats.archives.Limits", lambda: Limits(max_bytes=5_000))
    huge = b"x" * 6_000
    (tmp_path / "data").mkdir()
    files = {"red/0.png": picture_bytes("red"), "blue/0.png": picture_bytes("blue"), "blue/1.png": huge}
    if packed:
        (tmp_path / "data.tar").write_bytes(tar_bytes(files))
        data = load_labelled(tmp_path / "data.tar")
    else:
        for name, content in files.items():
            (tmp_path / "data" / name).parent.mkdir(exist_ok=True)
            (tmp_path / "data" / name).write_bytes(content)
        os.mkfifo(tmp_path / "data" / "red" / "1.png")
        data = load_labelled(tmp_path / "data")
    read = [len(content) for _, content in data]
    assert max(read) < 5_000
    failures = {item.key: item.reason for item in evaluate_zero_shot(ToyEncoder(), data).failures}
    assert "over the limit of 5,000" in failures.pop("blue/1.png")
    assert packed or "not a regular file" in failures.pop("red/1.png")
    assert failures == {}


def test_classes_of_one_name_keep_a_figure_each(labelled: Path) -> None:
    data = dataclasses.replace(load_labelled(labelled), class_names=("red", "green", "red"))
    with pytest.warns(UserWarning, match="red"):
        result = evaluate_zero_shot(ToyEncoder(), data)
    assert list(result.per_class) == ["red", "green", "red (class 2)"]
