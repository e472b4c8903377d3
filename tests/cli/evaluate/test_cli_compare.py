"""`diptych compare`, and the report that `diptych evaluate` writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.cli_tools import paint

Run = Callable[..., Result]


@pytest.fixture
def measured(run: Run, tiny: Path, tmp_path: Path) -> Path:
    """Eight pictures, measured twice with different prompts."""
    for number in range(8):
        paint(tmp_path / "pack" / ("dog", "guitar")[number % 2] / f"{number}.png", number)
    (tmp_path / "pack" / "dog" / "broken.png").write_bytes(b"no picture")
    for name, prompt in (("one", "a photo of a {}."), ("two", "{}")):
        words = ("evaluate", "zero-shot", "pack", "-m", tiny, "--templates", prompt, "--cache", "kept")
        assert run(*words, "--out", f"{name}.json", "--report", name).exit_code == 1  # one picture is broken
    return tmp_path


def test_two_files_are_compared(run: Run, measured: Path) -> None:
    done = run("compare", "one.json", "two.json")
    assert done.exit_code == 0, done.stderr
    assert "Not enough to say, fewer than 30 cases in common" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    printed = json.loads(run("compare", "one/report.json", "two/report.json", "--json").stdout)
    assert (printed["first"], printed["second"]) == ("one/report", "two/report")
    assert printed["rows"][0]["change"]["n"] == 8
    assert run("compare", "one.json", "two.json", "--report", "page", "-q").exit_code == 0
    assert (measured / "page" / "index.html").is_file()


def test_a_row_is_one_line_at_80_columns(run: Run, tmp_path: Path) -> None:
    names = [f"{way}_retrieval_recall@{k}" for way in ("image", "text") for k in (1, 5, 10)]
    for file, value in (("one", 0.0), ("two", 1.0)):
        result = {
            "dataset": "flickr8k-test",
            "task": "zeroshot_retrieval",
            "metrics": dict.fromkeys(names, value),
            "chance": dict.fromkeys(names, 0.1),
            "n": 40,
            "identity": file,
            "data_fingerprint": "sha256:1",
            "outcomes": dict.fromkeys(names, [value] * 40),
        }
        Path(f"{file}.json").write_text(json.dumps(result))
    lines = run("compare", "one.json", "two.json").stdout.splitlines()
    rows = [line for line in lines if line.startswith("flickr8k-test ")]
    expected = [f"{way} R@{k}" for way in ("image", "text") for k in (1, 5, 10)]
    assert [" ".join(row.split()[1:3]) for row in rows] == expected
    assert all(row.rstrip().endswith("better") for row in rows)
    assert max(map(len, lines)) <= 80


def test_what_is_no_result_or_of_other_pictures_is_refused(run: Run, measured: Path, tiny: Path) -> None:
    Path("other.json").write_text('{"some": "thing"}')
    refused = run("compare", "one.json", "other.json")
    assert refused.exit_code == 2
    assert "other.json is not a result file: it has no dataset, task, metrics" in refused.stderr
    assert "nowhere.json cannot be read: No such file" in run("compare", "one.json", "nowhere.json").stderr
    paint(measured / "pack" / "dog" / "new.png", 9)
    run("evaluate", "zero-shot", "pack", "-m", tiny, "--out", "later.json")
    refused = run("compare", "one.json", "later.json")
    assert refused.exit_code == 2
    assert "different pictures" in refused.stderr
    assert run("compare", "one.json", "one.json", "--level", "2").exit_code == 2


def test_a_second_run_takes_the_rows_that_were_kept(measured: Path) -> None:
    assert len(list((measured / "kept").glob("*.npz"))) == 1  # two runs of one data set and one model


def test_the_report_has_page_json_csv_and_plots(measured: Path) -> None:
    names = {path.name for path in (measured / "one").iterdir()}
    stem = "pack-zeroshot_classification"
    expected = {"index.html", "report.json", "results.csv", f"{stem}-classes.csv", f"{stem}-calibration.svg"}
    assert expected <= names
    printed = json.loads((measured / "one" / "report.json").read_text())
    assert len(printed["results"][0]["outcomes"]["acc1"]) == 9
    assert printed["results"][0]["outcomes"]["acc1"].count(None) == 1
    assert "Model identity" in (measured / "one" / "index.html").read_text("utf-8")


def test_a_card_is_written_from_results_and_never_over_another(run: Run, measured: Path, tiny: Path) -> None:
    assert run("models", "card", tiny, "one.json", "--out", "CARD.md").exit_code == 0
    assert "| pack | acc1 |" in (measured / "CARD.md").read_text("utf-8")
    refused = run("models", "card", tiny, "one.json", "--out", "CARD.md")
    assert refused.exit_code == 2
    assert "CARD.md exists already" in refused.stderr
