"""`diptych evaluate datasets` and `zero-shot --dataset`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.cli_tools import paint

Run = Callable[..., Result]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """CIFAR-10 with both parts, PACS with two domains, and Flickr8k as a folder instead of an archive."""
    for number, name in enumerate(("dog", "cat", "truck", "ship", "horse", "frog")):
        paint(tmp_path / "data" / "cifar10" / "test" / name / "0.png", number)
        paint(tmp_path / "data" / "cifar10" / "train" / name / "0.png", number + 9)
        paint(tmp_path / "data" / "cifar10" / "train" / name / "1.png", number + 20)
        paint(tmp_path / "data" / "pacs" / ("photo", "sketch")[number % 2] / name / "0.png", number)
    paint(tmp_path / "data" / "flickr8k-test" / "0.png", 500).with_suffix(".txt").write_text("a dog\n")
    return tmp_path / "data"


def test_the_list_of_names(run: Run) -> None:
    done = run("evaluate", "datasets")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["data", "set", "classes", "prompts", "metric"]
    assert any(
        line.split() == ["fgvc_aircraft", "100", "fgvc_aircraft", "mean", "per", "class"] for line in lines
    )
    assert any(line.split() == ["hateful_memes", "2", "hateful_memes", "ROC", "AUC"] for line in lines)
    assert max(map(len, lines)) <= 80
    printed = json.loads(run("evaluate", "datasets", "--json").stdout)
    assert len(printed) == len(lines) - 2
    assert {item["name"]: item["classes"] for item in printed}["imagenet1k"] == 1000


def test_what_a_folder_holds(run: Run, root: Path) -> None:
    done = run("evaluate", "datasets", root)
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert rows == [
        ["cifar10", "10", "accuracy", "test", "cifar10/test"],
        ["cifar10", "10", "accuracy", "train", "cifar10/train"],
        ["flickr8k", "recall@1", "test", "flickr8k-test"],
        ["pacs", "accuracy", "test", "pacs"],
    ]
    Path("empty").mkdir()
    assert "no known data set" in run("evaluate", "datasets", "empty").stdout
    refused = run("evaluate", "datasets", "nowhere")
    assert refused.exit_code == 2
    assert "nowhere is not a folder" in refused.stderr


def test_zero_shot_by_name(run: Run, tiny: Path, root: Path) -> None:
    words = ("evaluate", "zero-shot", root, "-m", tiny, "--json")
    done = run(*words, "--dataset", "vtab/cifar10")
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)
    assert (printed["dataset"], printed["n"], printed["classes"], len(printed["templates"])) == (
        "cifar10",
        6,
        10,
        18,
    )
    assert set(printed["metrics"]) == {"acc1", "acc5", "mean_per_class_recall"}
    train = json.loads(run(*words, "--dataset", "cifar10", "--part", "train", "--templates", "{}").stdout)
    assert train["templates"] == ["{}"]
    assert train["n"] == 12
    several = run(*words, "--dataset", "pacs", "--dataset", "flickr8k")
    assert [item["dataset"] for item in json.loads(several.stdout)] == ["pacs", "flickr8k"]
    domains = json.loads(run(*words, "--dataset", "pacs", "--domain", "each").stdout)
    assert [item["dataset"] for item in domains] == ["pacs/photo", "pacs/sketch"]


@pytest.mark.parametrize(
    ("more", "printed"),
    [
        (["--dataset", "mnist"], "holds no mnist"),
        (["--dataset", "cifar"], "no data set is known as 'cifar'"),
        (["--dataset", "cifar10", "--names", "cifar10"], "--dataset sets the class names"),
        (["--dataset", "cifar10", "--domain", "each"], "cifar10 has no domains"),
        (["--dataset", "pacs", "--part", "train"], "has no part 'train'"),
        (["--dataset", "cifar10", "--part", "dev"], "--part takes test, train, val"),
    ],
)
def test_what_cannot_be_measured_is_told(
    run: Run, tiny: Path, root: Path, more: list[str], printed: str
) -> None:
    done = run("evaluate", "zero-shot", root, *more, "-m", tiny)
    assert done.exit_code == 2
    assert printed in done.stderr


def test_a_folder_of_shards_brings_names_and_prompts(run: Run, tiny: Path) -> None:
    from tests.layout_files import labelled_shard, write_shards

    shard = labelled_shard(["red", "blue"], [0, 1])
    write_shards(Path("mine"), [shard], names=["a red thing", "a blue thing"], templates=["see {c}"])
    printed = json.loads(run("evaluate", "zero-shot", "mine", "-m", tiny, "--json").stdout)
    assert printed["templates"] == ["see {}"]
    assert set(printed["per_class"]) == {"a red thing", "a blue thing"}
    printed = json.loads(
        run("evaluate", "zero-shot", "mine", "-m", tiny, "--json", "--templates", "bare").stdout
    )
    assert printed["templates"] == ["{}"]


def test_a_folder_of_voc_is_measured_as_one_of_several_classes(run: Run, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "VOCdevkit" / "VOC2007"
    (folder / "ImageSets/Main").mkdir(parents=True)
    for number in (1, 2):
        paint(folder / f"JPEGImages/{number}.jpg", number)
    for name, line in (("dog", "1 1\n2 -1\n"), ("sofa", "1 -1\n2 1\n")):
        (folder / f"ImageSets/Main/{name}_test.txt").write_text(line)
    done = run("evaluate", "zero-shot", tmp_path / "VOCdevkit", "-m", tiny, "--json")
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)
    assert "mean_average_precision" in printed["metrics"]
    assert (printed["n"], printed["classes"]) == (2, 2)
    done = run("evaluate", "zero-shot", tmp_path / "VOCdevkit", "-m", tiny, "--domain", "x")
    assert "leave out --names, --only, --domain" in done.stderr


def test_a_known_data_set_is_hinted_at(run: Run, tiny: Path, root: Path) -> None:
    words = ("evaluate", "zero-shot", root / "cifar10", "-m", tiny, "--json")
    done = run(*words)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["n"] == 6
    hint = "cifar10 has the name of a known data set: --dataset cifar10 uses the class names and"
    assert hint in done.stderr
    assert "known data set" not in run(*words, "--names", "cifar10").stderr
    # The paper has neither class names nor prompts for PACS: --dataset would change nothing.
    assert "known data set" not in run("evaluate", "zero-shot", root / "pacs", "-m", tiny).stderr


def test_data_sets_named_together_that_share_pictures_are_told(run: Run, tiny: Path, root: Path) -> None:
    words = ("evaluate", "zero-shot", root / "cifar10" / "test", root / "pacs" / "photo", "-m", tiny, "-q")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        done = run(*words)
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("warning: 3 pictures of photo are in test too: the figures count them") == 1
