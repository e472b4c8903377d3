"""`diptych classify` on readable pictures: output formats, label files, options, copies into folders."""

from __future__ import annotations

import csv
import http.server
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.cli_tools import paint

Run = Callable[..., Result]


def test_pictures_and_labels_on_one_line(run: Run, tiny: Path, album: Path) -> None:
    done = run("classify", album / "a.jpg", "a dog", "a cat", "a beaver", "-m", tiny)
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    first, *rows = done.stdout.splitlines()
    assert first.endswith("a.jpg")
    assert {row[2:10].strip() for row in rows} == {"a dog", "a cat", "a beaver"}
    scores = [float(row.split()[-1]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(100, abs=0.2)
    assert max(map(len, rows)) <= 80


def test_many_pictures_get_a_line_each(run: Run, tiny: Path, tmp_path: Path) -> None:
    for number in range(13):
        paint(tmp_path / "many" / f"{'long' * 20}{number:02}.png", number)
    done = run("classify", "many", "dog", "cat", "-m", tiny)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 13
    assert {len(line) for line in lines} == {80}
    assert "…" in lines[0]
    assert lines[0].split()[1] in {"dog", "cat"}


def test_json(run: Run, tiny: Path, album: Path) -> None:
    done = run("classify", album, "dog", "cat", "owl", "--top", "2", "--json", "-m", tiny)
    printed = json.loads(done.stdout)
    assert printed["labels"] == ["dog", "cat", "owl"]
    assert printed["model"].startswith("sha256:")
    assert [Path(picture["path"]).name for picture in printed["pictures"]] == ["a.jpg", "b.png", "c.webp"]
    for picture in printed["pictures"]:
        assert len(picture["top"]) == 2
        assert picture["labels"] == [picture["top"][0]["label"]]
    assert printed["failed"] == []


def test_csv(run: Run, tiny: Path, album: Path) -> None:
    done = run("classify", album, "dog", "cat, or not", "--csv", "-m", tiny)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 3
    for row in rows:
        assert float(row["dog"]) + float(row["cat, or not"]) == pytest.approx(100, abs=0.01)
        assert float(row[row["label"]]) == float(row["score"])
        assert row["error"] == ""
        assert 0.5 <= float(row["confidence"]) <= 0.9


def test_json_and_csv_exclude_each_other(run: Run, tiny: Path, album: Path) -> None:
    assert run("classify", album, "dog", "cat", "--csv", "--json", "-m", tiny).exit_code == 2


def test_patterns_lists_and_options_name_the_same(run: Run, tiny: Path, album: Path) -> None:
    def results(*words: object, stdin: str | None = None) -> list[str]:
        done = run("classify", *words, "--json", "-m", tiny, stdin=stdin)
        assert done.exit_code == 0, done.stderr
        return [Path(picture["path"]).name for picture in json.loads(done.stdout)["pictures"]]

    assert results("album/*.jpg", "dog", "cat") == ["a.jpg"]
    assert results("-i", album, "-l", "dog", "-l", "cat") == ["a.jpg", "b.png", "c.webp"]
    assert results("-", "dog", "cat", stdin="album/b.png\nalbum/a.jpg\n") == ["b.png", "a.jpg"]
    assert results("-", "dog", "cat", stdin="album/b.png\0album/inner\0") == ["b.png", "c.webp"]
    assert results(album, "album/a.jpg", "dog", "cat") == ["a.jpg", "b.png", "c.webp"]


def test_labels_from_files(run: Run, tiny: Path, album: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\ufeffdog\n\n# no label\ncat\n", encoding="utf-8")
    (tmp_path / "labels.json").write_text(
        '{"pet": {"dog": ["dog", "puppy"], "cat": null}, "tool": {"saw": null}}'
    )
    for name, more, expected in (
        ("labels.txt", ["owl"], ["dog", "cat", "owl"]),
        ("labels.json", [], ["dog", "cat", "saw"]),
    ):
        done = run("classify", album, *more, "--labels", name, "--json", "-m", tiny)
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["labels"] == expected


CRANES = '{"bird": {"crane": ["a crane bird"], "owl": null}, "machine": {"crane": ["a crane truck"]}}'


def test_labels_called_alike_in_two_groups_are_told_apart(run: Run, tiny: Path, album: Path) -> None:
    Path("cranes.json").write_text(CRANES)
    done = run("classify", album, "--labels", "cranes.json", "--csv", "-m", tiny)
    assert done.exit_code == 0, done.stderr
    assert "more than once" not in done.stderr
    header, *rows = csv.reader(io.StringIO(done.stdout))
    assert header[5:] == ["bird/crane", "owl", "machine/crane"]
    assert {row[1] for row in rows} <= set(header[5:])
    done = run("classify", album, "--labels", "cranes.json", "--copy-to", "sorted", "-q", "-m", tiny)
    assert {path.name for path in Path("sorted").iterdir()} <= {"bird_crane", "owl", "machine_crane"}
    Path("columns.json").write_text('["score", "label", "path"]')
    header = next(
        csv.reader(
            io.StringIO(run("classify", album, "--labels", "columns.json", "--csv", "-m", tiny).stdout)
        )
    )
    assert len(set(header)) == len(header) == 8


def test_groups_are_scored_on_request(run: Run, tiny: Path, album: Path, tmp_path: Path) -> None:
    Path("cranes.json").write_text(CRANES)
    words = ("classify", album, "--labels", "cranes.json", "--groups", "-m", tiny)
    rows = list(csv.DictReader(io.StringIO(run(*words, "--csv").stdout)))
    for row in rows:
        assert float(row["bird (group)"]) == pytest.approx(
            float(row["bird/crane"]) + float(row["owl"]), abs=1e-3
        )
        assert float(row["bird (group)"]) + float(row["machine (group)"]) == pytest.approx(100, abs=1e-3)
    printed = json.loads(run(*words, "--json").stdout)
    assert printed["groups"] == ["bird", "machine"]
    first = {item["group"]: item["score"] for item in printed["pictures"][0]["groups"]}
    assert first["bird"] == pytest.approx(float(rows[0]["bird (group)"]), abs=1e-3)
    block = run(*words).stdout
    assert "in groups:" in block
    assert all(len(line) <= 80 for line in block.splitlines() if line.startswith("  "))
    lines = run(*words, "--top", "1").stdout.splitlines()
    assert len(lines) == 3
    assert all("(bird)" in line or "(machine)" in line or "…" in line for line in lines)
    assert "groups" not in json.loads(run(*words[:-3], "--json", "-m", tiny).stdout)
    refused = run("classify", album, "dog", "cat", "--groups", "-m", tiny)
    assert refused.exit_code == 2
    assert "the labels have no groups" in refused.stderr


def test_a_saved_classifier_answers_the_same(run: Run, tiny: Path, album: Path) -> None:
    first = run("classify", album, "dog", "cat", "--save-classifier", "pets", "--json", "-m", tiny)
    again = run("classify", album, "--classifier", "pets", "--json", "-m", tiny)
    assert first.exit_code == again.exit_code == 0
    assert json.loads(first.stdout) == json.loads(again.stdout)


@pytest.mark.parametrize("templates", ["plain", "bare", "imagenet7", "a drawing of a {}."])
def test_templates(run: Run, tiny: Path, album: Path, templates: str) -> None:
    done = run("classify", album, "dog", "cat", "--templates", templates, "-m", tiny)
    assert done.exit_code == 0, done.stderr


def test_several_labels_may_fit(run: Run, tiny: Path, album: Path) -> None:
    done = run("classify", album, "dog", "--multi-label", "--json", "-m", tiny)
    assert done.exit_code == 0
    for picture in json.loads(done.stdout)["pictures"]:
        assert picture["labels"] == (["dog"] if picture["top"][0]["score"] >= 50 else [])


def test_none_of_these(run: Run, tiny: Path, album: Path) -> None:
    printed = run("classify", album, "dog", "cat", "--none", "0.88", "-m", tiny)
    assert printed.exit_code == 0
    assert printed.stdout.count("none of these") == 3
    assert printed.stdout.count("  confidence 0.5") == 3
    lines = run(
        "classify", album, "dog", "cat", "--none", "0.51", "--top", "1", "-m", tiny
    ).stdout.splitlines()
    assert all(0.5 <= float(line.split()[-1]) < 0.52 and len(line) <= 80 for line in lines)
    for number in ("50", "0.4"):  # no confidence is above it, or below it
        refused = run("classify", album, "dog", "cat", "--none", number, "-m", tiny)
        assert refused.exit_code == 2
        assert "lies between 0.500 and 0.881" in refused.stderr
    calibrated = run("classify", album, "dog", "cat", "--calibrate", album, "--json", "-m", tiny)
    assert json.loads(calibrated.stdout)["none_cutoff"] is not None


def test_a_saved_multi_label_classifier_takes_no_cutoff(run: Run, tiny: Path, album: Path) -> None:
    words = ("classify", album, "dog", "cat", "--multi-label", "--save-classifier", "pets", "-m", tiny)
    assert run(*words).exit_code == 0
    refused = run("classify", album, "--classifier", "pets", "--none", "0.6", "-m", tiny)
    assert refused.exit_code == 2
    assert "needs no cut-off" in refused.stderr


def test_a_long_label_can_be_refused(run: Run, tiny: Path, album: Path) -> None:
    words = ("classify", album, "dog " * 90, "cat", "-m", tiny)
    refused = run(*words, "--on-long", "refuse")
    assert refused.exit_code == 2
    assert "over the limit of" in refused.stderr
    assert run(*words, "--on-long", "drop").exit_code == 2


def test_a_folder_with_the_name_of_a_label_is_told_of(run: Run, tiny: Path, album: Path) -> None:
    paint(Path("dogs/1.png"))
    assert run("classify", "dogs", "cats", "birds", "-m", tiny).stderr == ""
    done = run("classify", album, "dogs", "cats", "birds", "-m", tiny)
    assert done.exit_code == 0
    assert "'dogs' is a folder, so its pictures are used. For a label: --label 'dogs'" in done.stderr


def test_copying_into_folders_never_overwrites(run: Run, tiny: Path, album: Path, tmp_path: Path) -> None:
    paint(album / "inner" / "a.jpg", 9)  # the same name, but another picture
    words = ("classify", album, "dog", "cat", "--copy-to", "sorted", "-m", tiny)
    assert run(*words).exit_code == 0
    copies = sorted(path.name for path in (tmp_path / "sorted").rglob("*.*"))
    assert len(copies) == 4
    contents = {path.read_bytes() for path in (tmp_path / "sorted").rglob("*.*")}
    assert contents == {path.read_bytes() for path in album.rglob("*.*")}
    assert run(*words).exit_code == 0  # a second run copies nothing
    assert sorted(path.name for path in (tmp_path / "sorted").rglob("*.*")) == copies


def test_copies_are_not_classified_again(run: Run, tiny: Path, album: Path) -> None:
    run("classify", album, "dog", "cat", "--copy-to", album / "sorted", "-m", tiny)
    done = run("classify", album, "dog", "cat", "--copy-to", album / "sorted", "--json", "-m", tiny)
    assert len(json.loads(done.stdout)["pictures"]) == 3
    only = run("classify", album / "sorted", "dog", "cat", "--copy-to", album / "sorted", "-m", tiny)
    assert only.exit_code == 2


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address of a server for the test's folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *words: object) -> None:
            super().__init__(*words, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_addresses_only_on_request(run: Run, tiny: Path, album: Path, site: str) -> None:
    words = ("classify", f"{site}/album/a.jpg", f"{site}/none.jpg", "dog", "cat", "-m", tiny)
    refused = run(*words)
    assert refused.exit_code == 2
    assert "--allow-urls" in refused.stderr
    done = run(*words, "--allow-urls", "--json")
    assert done.exit_code == 1
    printed = json.loads(done.stdout)
    assert [picture["path"] for picture in printed["pictures"]] == [f"{site}/album/a.jpg"]
    assert [failure["path"] for failure in printed["failed"]] == [f"{site}/none.jpg"]
    assert run(*words, "--allow-urls", "--copy-to", "sorted").exit_code == 2


def test_a_list_may_not_name_private_addresses(run: Run, tiny: Path, album: Path, site: str) -> None:
    done = run("classify", "-", "dog", "cat", "-m", tiny, "--allow-urls", stdin=f"{site}/album/a.jpg\n")
    assert done.exit_code == 2
    assert "private" in done.stderr


def test_labels_in_another_language_are_told_of(run: Run, tiny: Path, album: Path) -> None:
    done = run("classify", album / "a.jpg", "ein Hund im Schnee", "собака", "-m", tiny)
    assert done.exit_code == 0
    assert done.stderr.startswith("note: 'ein Hund im Schnee' looks German, and this model reads English")
    assert len(done.stderr.splitlines()) == 1
    quiet = run("classify", album / "a.jpg", "ein Hund im Schnee", "собака", "-m", tiny, "--quiet")
    assert quiet.stderr == ""
