"""Parts of the command line that need no model: name fitting, progress bars, folder names, help texts."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from typer.testing import Result

from diptych.cli.classify.pictures import folder_names, listed, sort_words
from diptych.cli.shared import console
from diptych.cli.shared.console import bar, clean, fit_width, progress
from diptych.cli.shared.labels import prompt
from diptych.files.disk import LONGEST_STEM

Run = Callable[..., Result]


@given(st.text(max_size=60), st.integers(4, 40), st.booleans())
def test_fitted_is_exactly_as_wide_as_asked(text: str, width: int, tail: bool) -> None:
    assert cell_len(fit_width(text, width, tail=tail)) == width


@given(st.text())
def test_clean_leaves_nothing_that_steers(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) == len(text)
    assert not any(letter in cleaned for letter in "\x1b\x07\x08\n\r\x9b\u202e\u2028")


@given(st.floats(allow_nan=False), st.integers(1, 60))
def test_bar_is_exactly_as_wide_as_asked(share: float, width: int) -> None:
    assert len(bar(share, width)) == len(bar(share, width, plain=True)) == width


@given(st.lists(st.text(), unique=True, max_size=8))
def test_each_label_has_a_folder_of_its_own(labels: list[str]) -> None:
    folders = folder_names(labels)
    assert list(folders) == labels
    assert len({name.casefold() for name in folders.values()}) == len(labels)
    for name in folders.values():
        assert Path("a", name).parent == Path("a")
        assert name.strip(" .") == name
        assert 0 < len(name.encode()) <= LONGEST_STEM


@given(st.text())
def test_prompt_keeps_the_label(label: str) -> None:
    assert label.strip() in prompt(label)


@given(
    st.lists(st.text(st.characters(exclude_categories=["C"], exclude_characters="\u2028\u2029"), min_size=1))
)
def test_lists_by_line_and_by_nul_agree(names: list[str]) -> None:
    whole = [name for name in names if name.strip()]
    assert listed("\0".join(names) + "\0") == whole
    assert listed("\n".join(names)) == whole


def test_a_word_of_500_words_is_a_label() -> None:
    sentence = " ".join(["dog"] * 500)  # longer than any file system allows for a name
    assert sort_words([sentence]) == ([], [sentence])


class Terminal:
    """Standard error that is a terminal and records its output."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.written = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize(("seconds", "shown"), [(1e9, False), (0.0, True)])
def test_progress_shows_from_two_seconds_on(
    monkeypatch: pytest.MonkeyPatch, seconds: float, shown: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(console, "QUIET_SECONDS", seconds)
    with progress("reading", 3, unit="pictures", quiet=False) as advance:
        for _ in range(3):
            advance(1)
    assert ("pictures/s" in terminal.written) is shown


class Timer:
    """A timer that a test triggers."""

    made: ClassVar[list[Timer]] = []

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds, self.call, self.daemon, self.cancelled = seconds, call, False, False
        self.made.append(self)

    def start(self) -> None:
        pass

    def cancel(self) -> None:
        self.cancelled = True


def patient_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal with timers that never run; not a fixture, because pytest replaces stderr after fixtures."""
    results = Terminal()
    monkeypatch.setattr("sys.stderr", results)
    monkeypatch.setattr(console.threading, "Timer", Timer)
    monkeypatch.setattr(Timer, "made", [])
    return results


def test_a_step_that_does_not_move_shows_after_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = patient_terminal(monkeypatch)
    with progress("encoding prompts", 80_000, unit="prompts", quiet=False):
        (timer,) = Timer.made
        assert (timer.seconds, timer.daemon) == (2.0, True)
        assert "encoding prompts" not in terminal.written
        timer.call()
        console._displays[0].bars.refresh()
        assert "encoding prompts" in terminal.written
    assert timer.cancelled
    assert console._displays == []
    timer.call()  # too late: the timer fires while the command ends
    with progress("the next", None, unit="steps", quiet=False):
        pass


def test_bars_inside_each_other_share_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = patient_terminal(monkeypatch)
    with progress("the whole", None, unit="steps", quiet=False):
        with progress("a part", 3, unit="pictures", quiet=False) as advance:
            assert len(Timer.made) == 1
            Timer.made[0].call()
            advance(2)
            console._displays[0].bars.refresh()
        assert [task.description for task in console._displays[0].bars.tasks] == ["the whole"]
        console.clear_progress()
        written = len(terminal.written)
        console._displays[0].show()  # never shown again before the results
        assert len(terminal.written) == written
    for word in ("the whole", "a part", "2/3"):
        assert word in terminal.written


def test_progress_leaves_results_in_their_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, pipe = Terminal(), io.StringIO()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("sys.stdout", pipe)
    monkeypatch.setattr(console, "QUIET_SECONDS", 0.0)
    with progress("reading", 2, unit="pictures", quiet=False) as advance:
        advance(1)
        print("a result")
        advance(1)
    assert pipe.getvalue() == "a result\n"
    assert "a result" not in terminal.written


COMMANDS = [
    (),
    ("classify",),
    ("demo",),
    ("models",),
    ("models", "list"),
    ("models", "show"),
    ("models", "convert"),
    ("models", "verify"),
    ("evaluate",),
    ("evaluate", "zero-shot"),
    ("evaluate", "retrieval"),
    ("train",),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_fits_80_columns_and_has_an_example(run: Run, words: tuple[str, ...]) -> None:
    done = run(*words, "--help")
    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    if words not in {("models",), ("evaluate",)}:
        assert f"diptych {' '.join(words)}".strip() in done.stdout


def test_version(run: Run) -> None:
    import diptych

    assert run("--version").stdout == f"diptych {diptych.__version__}\n"
