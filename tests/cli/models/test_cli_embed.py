"""`diptych embed` and `diptych catalog`: vectors to files, import into a catalogue, export from it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import Result

from tests.cli.cli_tools import paint
from tests.paths import ROOT
from tests.toys import tar_bytes

Run = Callable[..., Result]


def test_pictures_to_files_and_on(run: Run, tiny: Path, album: Path) -> None:
    done = run("embed", album, "--to", "vectors", "--model", tiny)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("3 vectors in 1 part in vectors: 3 embedded in")
    rows = np.load("vectors/img_emb/img_emb_0.npy")
    assert rows.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float32), axis=1), 1, atol=2e-3)
    again = run("embed", album, "--to", "vectors")  # the manifest names the model
    assert (again.exit_code, again.stdout) == (0, "3 vectors in 1 part in vectors: nothing new\n")
    other = run("embed", album, "--to", "vectors", "--model", tiny, "--dtype", "float32")
    assert other.exit_code == 2
    assert "--dtype" in other.stderr


def test_failures_are_listed_and_said_in_the_status(run: Run, tiny: Path, album: Path) -> None:
    (album / "broken.jpg").write_bytes(b"?")
    done = run("embed", album, "--to", "vectors", "--model", tiny, "--json")
    assert done.exit_code == 1
    printed = json.loads(done.stdout)
    assert (printed["rows"], printed["embedded"], printed["parts"]) == (3, 3, 1)
    assert [Path(item["key"]).name for item in printed["failed"]] == ["broken.jpg"]
    assert "broken.jpg" in Path("vectors/failures.csv").read_text()
    alone = run("embed", album / "broken.jpg", "--to", "other", "--model", tiny)
    assert alone.exit_code == 2
    assert "nothing was embedded" in alone.stderr


def test_texts_and_tables(run: Run, tiny: Path, album: Path) -> None:
    Path("words.txt").write_text("a cat\na dog\n")
    assert run("embed", "words.txt", "--to", "words", "--model", tiny).exit_code == 0
    assert pq.read_table("words/metadata/metadata_0.parquet")["caption"].to_pylist() == ["a cat", "a dog"]
    Path("table.csv").write_text(f"what,where,say\n1,{album / 'a.jpg'},a cat\n2,{album / 'b.png'},\n")
    done = run("embed", "table.csv", "--to", "t", "--model", tiny)
    assert done.exit_code == 2
    assert "--image-column" in done.stderr
    columns = ["--image-column", "where", "--caption-column", "say", "--captions"]
    done = run("embed", "table.csv", "--to", "t", "--model", tiny, *columns)
    assert done.exit_code == 1
    assert "no caption" in done.stderr
    assert np.load("t/text_emb/text_emb_0.npy").shape == np.load("t/img_emb/img_emb_0.npy").shape


@pytest.mark.parametrize("words", [["--share", "2/2"], ["--dtype", "int8"], ["--workers", "2"]])
def test_what_cannot_be_meant_is_refused(run: Run, album: Path, words: list[str]) -> None:
    done = run("embed", album, "--to", "vectors", *words)
    assert done.exit_code == 2
    assert not Path("vectors").exists()


def test_in_and_out_of_a_catalogue(run: Run, tiny: Path, album: Path) -> None:
    assert run("embed", album, "--to", "vectors", "--model", tiny).exit_code == 0
    done = run("catalog", "import", "vectors", "-c", "cat")
    assert done.exit_code == 0, done.stderr
    assert "3 pictures in cat: 3 rows, 3 added, 0 known" in done.stdout
    again = run("index", album, "-c", "cat", "--json")
    assert json.loads(again.stdout)["embedded"] == 0
    assert run("catalog", "check", "-c", "cat", "--golden", "--threads", 1, "-q").exit_code == 0
    printed = json.loads(run("catalog", "info", "-c", "cat", "--json").stdout)
    assert (printed["pictures"], printed["files"], printed["failed"], len(printed["spaces"])) == (3, 3, 0, 1)
    assert "3 in 3 files" in run("catalog", "info", "-c", "cat").stdout
    assert run("catalog", "export", "all.parquet", "-c", "cat").stdout == "3 pictures in all.parquet\n"
    assert run("catalog", "export", "out", "-c", "cat", "--json").exit_code == 0
    for source in ("all.parquet", "out"):
        taken = json.loads(run("catalog", "import", source, "-c", f"from-{source}", "--json").stdout)
        assert (taken["added"], taken["unreachable"]) == (3, 0)
    paint(album / "a.jpg", 77)
    changed = run("catalog", "import", "out", "-c", "late")
    assert changed.exit_code == 1
    assert "1 row left out" in changed.stderr


def test_a_catalogue_that_does_not_hold_together(run: Run, tiny: Path, album: Path) -> None:
    assert run("index", album, "-c", "cat", "--model", tiny).exit_code == 0
    assert run("catalog", "check", "-c", "cat").stdout == "3 pictures in cat: no faults found\n"
    file = next(Path("cat").rglob("*.f16"))
    file.write_bytes(bytes(file.stat().st_size))
    done = run("catalog", "check", "-c", "cat")
    assert done.exit_code == 1
    assert "rows that are not unit vectors: 3" in done.stderr
    file.unlink()
    assert run("catalog", "check", "-c", "cat").exit_code == 2
    assert run("catalog", "info", "-c", "nowhere").exit_code == 2


def test_the_commands_of_the_page_run(run: Run) -> None:
    page = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- run -->\n```console\n(.*?)```", page, re.DOTALL)
    commands = [line.removeprefix("$ diptych ") for line in "".join(blocks).splitlines()]
    assert len(commands) == 10
    for number in range(3):
        paint(Path("Pictures") / f"{number}.png", number)
    Path("shards").mkdir()
    for number in range(2):
        files = {"0.png": Path("Pictures/0.png").read_bytes(), "0.txt": b"a cat"}
        Path(f"shards/{number:05d}.tar").write_bytes(tar_bytes(files))
    Path("words.txt").write_text("a cat\na dog\n")
    Path("table.csv").write_text("number,say\n1,a cat\n")
    for command in commands:
        done = run(*shlex.split(command))
        assert done.exit_code == 0, f"{command}\n{done.stdout}{done.stderr}"
