"""`diptych evaluate probe`, `few-shot` and `knn`: printed tables, written files, refused input."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.cli_tools import paint

Run = Callable[..., Result]
COMMANDS = ("probe", "few-shot", "knn")


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Training and test pictures of two classes, of noise."""
    for part, count, first in (("train", 6, 0), ("test", 3, 50)):
        for number, kind in enumerate(("dog", "guitar")):
            for i in range(count):
                paint(tmp_path / "pack" / part / kind / f"{i}.png", first + 10 * number + i)
    return tmp_path / "pack"


def words_of(command: str, pack: Path, *more: object) -> tuple[object, ...]:
    few = ("--shots", "1,2", "--seeds", "2") if command == "few-shot" else ()
    return ("evaluate", command, pack / "train", pack / "test", *few, *more)


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_printed_and_written(run: Run, tiny: Path, pack: Path, command: str) -> None:
    done = run(*words_of(command, pack, "-m", tiny, "--report", "out", "--cache", "rows"))
    assert done.exit_code == 0, done.stderr
    assert "zero-shot" in done.stdout
    assert "?" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    printed = json.loads(Path("out/report.json").read_text())
    task = {"probe": "linear_probe", "few-shot": "few_shot", "knn": "knn"}[command]
    assert printed["results"][0]["task"] == task
    assert printed["results"][0]["n"] == 6
    assert printed["facts"]["Command"].startswith("diptych")
    assert Path("out/index.html").exists()
    assert "report: out/index.html" in done.stderr
    retained = len(list(Path("rows").glob("*.npz")))
    assert (
        retained == {"probe": 3, "few-shot": 3, "knn": 2}[command]
    )  # features of both parts, and embeddings for zero-shot
    again = run(*words_of(command, pack, "-m", tiny, "--json", "--cache", "rows"))
    assert len(list(Path("rows").glob("*.npz"))) == retained
    assert json.loads(again.stdout)["results"][0]["metrics"] == printed["results"][0]["metrics"]


@pytest.mark.parametrize("command", ["probe", "knn"])
def test_a_known_data_set_is_measured_by_its_own_metric(
    run: Run, tiny: Path, pack: Path, command: str
) -> None:
    memes = pack.rename(pack.with_name("hateful_memes"))
    done = run(*words_of(command, memes, "-m", tiny, "--report", "out"))
    assert done.exit_code == 0, done.stderr
    assert "area under the ROC curve" in done.stdout
    first, zero_shot = json.loads(Path("out/report.json").read_text())["results"]
    assert "roc_auc" in first["metrics"]
    assert "roc_auc" in zero_shot["metrics"]
    few = run(*words_of(command, memes, "-m", tiny, "--names", "imagenet", "--json"))  # other classes
    assert few.exit_code == 2


def test_more_neighbours_than_pictures_are_said(run: Run, tiny: Path, pack: Path) -> None:
    done = run(*words_of("knn", pack, "-m", tiny, "-k", 20, "--temperature", 0.07))
    assert done.exit_code == 0, done.stderr
    printed = " ".join(done.stdout.split())
    assert (
        "20 neighbours were requested, but there are only 12 training pictures: all of them vote" in printed
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_of_one_folder_the_training_part_teaches(run: Run, tiny: Path, pack: Path, command: str) -> None:
    few = ("--shots", "1,2", "--seeds", "2") if command == "few-shot" else ()
    first = json.loads(run("evaluate", command, pack, pack, *few, "-m", tiny, "--json").stdout)["results"][0]
    second = json.loads(run(*words_of(command, pack, "-m", tiny, "--json")).stdout)["results"][0]
    assert (first["metrics"], first["n"], first["data_fingerprint"]) == (
        second["metrics"],
        6,
        second["data_fingerprint"],
    )
    assert first["details"]["train_fingerprint"] == second["details"]["train_fingerprint"]
    assert first["details"]["overlaps"] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_what_was_learnt_is_not_tested(
    run: Run, tiny: Path, pack: Path, tmp_path: Path, command: str
) -> None:
    copies = tmp_path / "copies"
    for path in sorted(pack.glob("test/*/*.png")):
        copy = copies / path.parent.name / f"a{path.name}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    few = ("--shots", "1,2", "--seeds", "1") if command == "few-shot" else ()
    words = ("evaluate", command, copies, pack / "test", *few)
    done = run(*words, "-m", "not-even-looked-for")
    assert done.exit_code == 2
    assert "6 pictures of TEST (test) are in TRAIN (copies) too (100% of one of them)" in done.stderr
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        done = run(*words, "-m", tiny, "--allow-overlap", "--json")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("warning: 6 pictures of TEST (test) are in TRAIN (copies) too") == 1
    assert json.loads(done.stdout)["results"][0]["details"]["overlaps"][0]["shared"] == 6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = " ".join(run(*words, "-m", tiny, "--allow-overlap").stdout.split())
    warned = shown.index(
        "6 pictures of TEST (test) are in TRAIN (copies) too, and the figures count them: no figure below"
    )
    assert warned < shown.index("chance")


def test_zero_shot_answers_among_the_same_classes(run: Run, tiny: Path, pack: Path) -> None:
    paint(pack / "train" / "horse" / "0.png", 99)
    done = run(*words_of("knn", pack, "-m", tiny, "--json"))
    results = json.loads(done.stdout)["results"]
    assert [item["classes"] for item in results] == [3, 3]
    assert [item["chance"]["acc1"] for item in results] == pytest.approx([1 / 3] * 2)


def test_without_a_cache_nothing_stays(
    run: Run, tiny: Path, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert run(*words_of("knn", pack, "-m", tiny, "-q")).exit_code == 0
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_classes_that_do_not_match_are_told_before_a_model_is_loaded(
    run: Run, pack: Path, command: str
) -> None:
    paint(pack / "test" / "horse" / "0.png", 99)
    done = run(*words_of(command, pack, "-m", "not-even-looked-for"))
    assert done.exit_code == 2
    assert "test has 1 class that train lacks ('horse')" in done.stderr


def test_the_strength_and_the_validation_part(run: Run, tiny: Path, pack: Path) -> None:
    for number, kind in enumerate(("dog", "guitar")):
        paint(pack / "val" / kind / "0.png", 200 + number)
    done = run(*words_of("probe", pack, "-m", tiny, "--json", "--val", pack / "val"))
    details = json.loads(done.stdout)["results"][0]["details"]
    assert (details["validation"]["data"], details["pictures"]) == ("val", 14)
    done = run(*words_of("probe", pack, "-m", tiny, "--json", "--strength", 0.5))
    details = json.loads(done.stdout)["results"][0]["details"]
    assert (details["c"], details["search"]) == (0.5, [])
    refused = run(*words_of("probe", pack, "-m", tiny, "--strength", 0))
    assert refused.exit_code == 2
    assert "C is 0" in refused.stderr


def test_other_words_for_the_classes(run: Run, tiny: Path, pack: Path) -> None:
    Path("names.json").write_text('{"dog": ["a hound", "a puppy"], "guitar": null}')
    done = run(*words_of("knn", pack, "-m", tiny, "--json", "--names", "names.json", "--neighbours", 3))
    results = json.loads(done.stdout)["results"]
    assert [set(item["per_class"]) for item in results] == [{"a hound", "guitar"}] * 2
    assert results[0]["details"]["k"] == 3


def test_several_pairs_have_a_mean_and_names_of_their_own(run: Run, tiny: Path, pack: Path) -> None:
    words = words_of("few-shot", pack, pack / "train", pack / "test", "-m", tiny, "--no-full")
    done = run(*words, "--json")
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)
    assert [item["dataset"] for item in printed["data_efficiency"]] == ["test", "test (2)"]
    assert {"Data, test", "Data, train", "Data, test (2)", "Data, train (2)"} <= set(printed["facts"])
    assert "2 data sets" in run(*words).stdout
    assert run(*words, "--val", pack / "test").exit_code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shots", "1,x"), "--shots '1,x'"),
        (("--shots", "0"), "--shots '0'"),
        (("--seeds", "0"), "0 seeds"),
        (("more",), "3 data sets"),
        (("--features", "pixels"), "'tower' or 'embeddings'"),
    ],
)
def test_what_is_no_curve(run: Run, tiny: Path, pack: Path, words: tuple[str, ...], message: str) -> None:
    done = run("evaluate", "few-shot", pack / "train", pack / "test", *words, "-m", tiny)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_picture_that_cannot_be_read_is_told(run: Run, tiny: Path, pack: Path) -> None:
    (pack / "train" / "dog" / "9.png").write_bytes(b"broken")
    done = run(*words_of("knn", pack, "-m", tiny))
    assert done.exit_code == 1
    assert "train/dog/9.png" in done.stderr
    assert "1 picture was left out" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(run: Run, command: str) -> None:
    done = run("evaluate", command, "--help")
    assert done.exit_code == 0
    assert f"diptych evaluate {command} " in done.stdout
    assert "--cache" in done.stdout
