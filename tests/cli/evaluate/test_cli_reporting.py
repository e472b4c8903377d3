"""Tables in the terminal: columns stay aligned at 80 characters, also with long names of data sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.cli.shared.reporting import _folded, print_table
from diptych.datasets.registry import KNOWN
from diptych.reports import Cell, Estimate, Table

ONE = Estimate(0.5123, 0.4, 0.6, 90)


def printed(table: Table, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(table)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("figures", [1, 2, 3])
def test_long_names_fold_between_their_words(
    figures: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[list[Cell]] = [[name, "zero-shot", *[ONE] * figures, 10_000] for name in KNOWN]
    columns = ["data set", "protocol", *(f"figure {n}" for n in range(figures)), "n"]
    lines = printed(Table(columns, rows), capsys, monkeypatch)
    assert max(map(len, lines)) <= 80
    assert {"data set", "protocol"} <= {" ".join(part.split()) for part in lines[0].split("  ")}
    numbers = [line for line in lines[1:] if "10,000" in line]
    assert len(numbers) == len(KNOWN)
    assert {line.rstrip().rindex("10,000") for line in numbers} == {lines[0].rindex("n") - 5}
    assert sum(line.count("[0.400, 0.600]") for line in lines) == figures * len(KNOWN)
    start = lines[0].index("protocol")
    shown = "".join(line[:start].strip() for line in lines[1:])
    assert shown == "".join(KNOWN)
    pieces = {piece for name in KNOWN for piece in (name, *name.replace("/", "_").split("_"))}
    long = [line[:start].strip() for line in lines[1:] if line[:start].strip()]
    assert all(
        line.endswith(("/", "_", "-")) or line.split("_")[-1].split("/")[-1] in pieces for line in long
    )


def test_short_names_leave_a_table_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(Table(["data set", "accuracy"], [["mnist", ONE]]), capsys, monkeypatch)
    assert lines[1] == "mnist     0.512 [0.400, 0.600]"
    assert printed(Table(["data set", "accuracy"], []), capsys, monkeypatch)


@given(st.text("ab-_/ é", max_size=40), st.integers(1, 20))
def test_folding_keeps_every_letter(text: str, width: int) -> None:
    lines = _folded(text, width).split("\n")
    assert all(len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
