"""The evaluation suite: plans, results reused for equal inputs only, reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diptych.errors import DataError, InputError
from diptych.evaluation.suite import Step, SuiteOptions, plan, run_step, suite_report
from tests.probe_toys import FeatureToy
from tests.toys import COLOURS, ToyEncoder, picture_bytes, tar_bytes

FLOWERS = ("daisy", "dandelion", "roses")


def pack(path: Path, each: int, start: int = 0) -> None:
    """Flowers, one colour per class, of slightly different brightness, so that all files differ."""
    files = {}
    for kind, colour in zip(FLOWERS, ("red", "green", "blue"), strict=True):
        for number in range(start, start + each):
            shade = tuple(max(part, 4 * number) for part in COLOURS[colour])
            files[f"p/{kind}/{number}.png"] = picture_bytes(shade)
    path.write_bytes(tar_bytes(files))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    pack(folder / "tfflowers-test.tar", 3)
    pack(folder / "tfflowers-train.tar", 6, start=10)
    domains = {
        f"pacs/{domain}/{kind}/{n}.png": picture_bytes(colour) + f"{domain} {n}".encode()  # all different
        for domain in ("photo", "sketch")
        for kind, colour in (("dog", "red"), ("horse", "blue"))
        for n in range(2)
    }
    (folder / "pacs.tar").write_bytes(tar_bytes(domains))
    result = {
        "0.png": picture_bytes("red"),
        "0.txt": b"red",
        "1.png": picture_bytes("blue"),
        "1.txt": b"blue",
    }
    (folder / "flickr8k-test.tar").write_bytes(tar_bytes(result))
    (folder / "notes.tar").write_bytes(tar_bytes({"x/y/0.png": picture_bytes("red")}))
    return folder


OPTIONS = SuiteOptions(shots=(1, 2), seeds=1, severities=(1,), corrupt_limit=4)


def test_the_plan_is_what_the_folder_allows(root: Path) -> None:
    assert [step.title for step in plan(root, OPTIONS)] == [
        "tfflowers, zero-shot",
        "pacs/photo, zero-shot",
        "pacs/sketch, zero-shot",
        "flickr8k, retrieval",
        "tfflowers, probes",
        "pacs, robustness",
        "tfflowers, corruptions",
    ]
    only = plan(root, SuiteOptions(only=("tfflowers",), parts=("zero-shot",)))
    assert [step.title for step in only] == ["tfflowers, zero-shot"]
    assert only[0].pictures == 9


def test_what_is_not_there_is_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no mnist: it has flickr8k, pacs, tfflowers"):
        plan(root, SuiteOptions(only=("mnist",)))
    with pytest.raises(DataError, match="evaluate datasets"):
        plan(root, SuiteOptions(only=("flickr8k",), parts=("probes",)))
    with pytest.raises(InputError, match="'mnist' to corrupt"):
        plan(root, SuiteOptions(corrupt="mnist"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no known data set"):
        plan(tmp_path / "empty")


def test_all_of_it_is_measured_and_shown(root: Path) -> None:
    encoder = FeatureToy()
    done = [(step, run_step(step, encoder)[0]) for step in plan(root, OPTIONS)]
    report = suite_report(done, title="Toy")
    named = [tuple(row[:3]) for row in report.tables["results"].rows]
    assert {
        ("tfflowers", "zero-shot", "acc1"),
        ("tfflowers", "probe", "acc1"),
        ("tfflowers", "kNN", "acc1"),
        ("flickr8k", "retrieval", "text R@1"),
    } <= set(named)
    assert named.count(("tfflowers", "zero-shot", "acc1")) == 1  # although the probe step computed it too
    titles = [section.title for section in report.sections]
    assert titles[0] == "All figures"
    assert any("corruption" in title.lower() for title in titles)
    results = json.loads(report.to_json())["results"]
    probe = next(item for item in results if item["task"] == "linear_probe")
    assert probe["metrics"]["acc1"] == 1.0  # colours are easy to classify
    assert {item["task"] for item in results} >= {
        "zeroshot_classification",
        "few_shot",
        "knn",
        "zeroshot_retrieval",
    }


def test_probes_have_the_papers_metric_of_a_data_set(tmp_path: Path) -> None:
    """Hateful Memes counts by its area under the ROC curve, for probes too."""
    pack(tmp_path / "tfflowers-test.tar", 3)
    for part, start in (("test", 0), ("train", 20)):
        files = {
            f"p/{number}/{i}.png": picture_bytes((start + i, 200 * number, 0))
            for number in range(2)
            for i in range(5)
        }
        (tmp_path / f"hateful_memes-{part}.tar").write_bytes(tar_bytes(files))
    (step,) = plan(tmp_path, SuiteOptions(shots=(1,), seeds=1, parts=("probes",)))
    results, _ = run_step(step, FeatureToy())
    assert {item.task: "roc_auc" in item.metrics for item in results} == {
        "few_shot": False,
        "zeroshot_classification": True,
        "linear_probe": True,
        "knn": True,
    }


def test_what_was_measured_is_taken_up_again(root: Path, tmp_path: Path) -> None:
    step = plan(root, SuiteOptions(only=("tfflowers",), parts=("zero-shot",)))[0]
    first, taken = run_step(step, FeatureToy(), tmp_path / "results")
    assert not taken
    encoder = FeatureToy()
    again, taken = run_step(step, encoder, tmp_path / "results")
    assert (taken, encoder.calls) == (True, [])
    assert [item.metrics for item in again] == [item.metrics for item in first]
    assert not run_step(step, FeatureToy(identity="toy:another"), tmp_path / "results")[1]
    assert run_step(step, FeatureToy(identity="toy:another"), tmp_path / "results")[1]
    assert not run_step(step, FeatureToy(identity="toy:another"), tmp_path / "results", exact=False)[1]


def test_other_pictures_or_options_are_measured_again(root: Path, tmp_path: Path) -> None:
    def probes(shots: tuple[int, ...]) -> bool:
        wanted = SuiteOptions(only=("tfflowers",), parts=("probes",), shots=shots, seeds=1)
        return run_step(plan(root, wanted)[0], FeatureToy(), tmp_path / "results")[1]

    assert [probes((1,)), probes((1,)), probes((1, 2))] == [False, True, False]
    pack(root / "tfflowers-test.tar", 4)
    assert not probes((1, 2))


def test_a_broken_file_of_results_is_written_again(root: Path, tmp_path: Path) -> None:
    step = plan(root, SuiteOptions(only=("flickr8k",), parts=("retrieval",)))[0]
    run_step(step, FeatureToy(), tmp_path)
    (file,) = tmp_path.glob("*.json")
    file.write_text(file.read_text()[:50])
    assert not run_step(step, FeatureToy(), tmp_path)[1]
    assert run_step(step, FeatureToy(), tmp_path)[1]


def test_a_sample_of_a_training_part_is_never_called_all(root: Path) -> None:
    encoder = FeatureToy()
    wanted = SuiteOptions(
        only=("tfflowers",), shots=(1, 2), seeds=1, severities=(1,), corrupt_limit=4, train_limit=9
    )
    report = suite_report([(step, run_step(step, encoder)[0]) for step in plan(root, wanted)], title="Toy")
    rows = {row[0]: row for row in report.tables["few-shot"].rows}
    assert "all" not in rows
    assert rows["drawn"][-1] == 9
    text = " ".join(line for section in report.sections for line in section.text)
    assert "The training part is a random sample: 9 of 18 pictures." in text
    assert "Random samples, not whole data sets: tfflowers (4 of 9)." in text
    assert "all 9 pictures" not in text + str(report.sections)
    probe = next(item for item in report.values["results"] if item["task"] == "linear_probe")
    assert (probe["details"]["train_sampled_from"], probe["sampled_from"]) == (18, None)
    whole = suite_report([(step, run_step(step, encoder)[0]) for step in plan(root, OPTIONS)], title="Toy")
    assert "all" in {row[0] for row in whole.tables["few-shot"].rows}


def test_pictures_replaced_by_others_of_their_size_are_measured_again(root: Path, tmp_path: Path) -> None:
    def step() -> Step:
        return plan(root, SuiteOptions(only=("flickr8k",), parts=("retrieval",)))[0]

    encoder, kept = ToyEncoder(), tmp_path / "results"
    assert not run_step(step(), encoder, kept)[1]
    assert run_step(step(), encoder, kept)[1]
    path = root / "flickr8k-test.tar"
    before, old, new = path.stat().st_size, picture_bytes((1, 2, 3)), picture_bytes((3, 2, 1))
    files = {"0.png": old, "0.txt": b"red", "1.png": picture_bytes("blue"), "1.txt": b"blue"}
    path.write_bytes(tar_bytes(files))
    assert not run_step(step(), encoder, kept)[1]
    path.write_bytes(tar_bytes({**files, "0.png": new}))
    assert (len(old), path.stat().st_size) == (len(new), before)
    assert not run_step(step(), encoder, kept)[1]


def test_results_on_shared_pictures_are_not_taken_up_without_leave(root: Path, tmp_path: Path) -> None:
    pack(root / "tfflowers-train.tar", 6)  # contains all pictures of the test part
    step, kept = (
        plan(root, SuiteOptions(only=("tfflowers",), parts=("probes",), shots=(1,), seeds=1))[0],
        tmp_path / "r",
    )
    with pytest.warns(UserWarning, match="the figures count them"):
        assert not run_step(step, FeatureToy(), kept, allow_overlap=True)[1]
    assert run_step(step, FeatureToy(), kept, allow_overlap=True)[1]
    with pytest.raises(DataError, match="measures anyway"):
        run_step(step, FeatureToy(), kept)
