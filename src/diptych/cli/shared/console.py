"""Terminal output: messages on standard error, bars, names cut to a width, progress.

Results go to standard output, everything else to standard error, so that a pipe holds results only.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import threading
import time
import unicodedata
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO

import typer

from diptych.errors import counted

if TYPE_CHECKING:
    from rich.console import Console

    from diptych.embedding.batches import Failed

QUIET_SECONDS = 2.0  # a job shorter than this shows no progress bar
_HOME = str(Path(__file__).parents[2])  # warnings from outside this package are not shown to users
# Unicode categories of characters that a terminal may act on: control, format, line and paragraph separators.
_UNSAFE_CATEGORIES = {"Cc", "Cf", "Zl", "Zp"}
_NAMED = 3  # files in a guessed encoding that are named one by one; the others are only counted
_EIGHTHS = " ▏▎▍▌▋▊▉█"

_guessed: list[str] = []  # names of the files that this command read in a guessed encoding


def print_message(kind: str, message: str) -> None:
    """Print one line on standard error, such as `error: ...`."""
    typer.echo(f"{kind}: {clean(' '.join(message.split()))}", err=True)


def print_messages(kind: str, messages: Sequence[str], *, most: int) -> None:
    """Print at most `most` messages of one kind, and how many more there are."""
    for message in messages[:most]:
        print_message(kind, message)
    if len(messages) > most:
        print_message(kind, f"and {len(messages) - most:,} more (--json lists all)")


def print_failures(
    summary: str, failures: Sequence[str], *, most: int, complete: str = "--json lists"
) -> None:
    """Print a summary of failures on standard error, below it at most `most` of them, and how many more."""
    print_message("failed", summary)
    for failure in failures[:most]:
        typer.echo(f"  {clean(failure)}", err=True)
    if len(failures) > most:
        typer.echo(f"  and {len(failures) - most:,} more ({complete} all)", err=True)


def note(message: str, *, quiet: bool = False) -> None:
    """Print information that is not a result, on standard error."""
    if not quiet:
        typer.echo("\n".join(clean(line) for line in message.split("\n")), err=True)


def set_encodings() -> None:
    r"""Write UTF-8 into files and pipes, and escape what a terminal cannot show.

    A file or a pipe gets UTF-8 whatever the locale is: a CSV in the console's code page cannot be read on
    another machine. A file name that is not valid text keeps its bytes there, so that it can be opened; in
    JSON it is written as `\udcNN`, as `os.fsdecode` returns it. A terminal gets its own encoding, with `\xNN`
    for the characters that this encoding lacks.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="backslashreplace")
            else:
                stream.reconfigure(encoding="utf-8", errors="surrogateescape")


def print_json(value: Any, *, indent: int | None = 2, default: Callable[[Any], Any] | None = None) -> None:
    """Print a value as JSON that is valid UTF-8, whatever its strings hold."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=default)
    print(json_text(text))


def json_text(text: str) -> str:
    r"""Replace lone surrogates in JSON by their escapes, which mean the same inside a JSON string.

    Examples
    --------
    >>> print(json_text('{"path": "caf\udce9.jpg"}'))
    {"path": "caf\udce9.jpg"}
    """
    return text.encode("utf-8", "backslashreplace").decode()


class HasFailures(Protocol):
    """A result measured on pictures, some of which may have failed."""

    @property
    def failures(self) -> Sequence[Failed]:
        """The pictures that failed, with reasons."""
        ...


def exit_on_failures(results: Iterable[HasFailures]) -> None:
    """If any picture failed, print how many and the first one, and exit with status 1.

    A picture that failed in several results of the same data counts once. Corrupted copies of a data set
    have its fingerprint, followed by a space and the corruption.
    """
    distinct: dict[tuple[str, str], Failed] = {}
    for result in results:
        data = getattr(result, "data_fingerprint", "").partition(" ")[0]
        for failure in result.failures:
            distinct.setdefault((data, failure.key), failure)
    if distinct:
        first, count = next(iter(distinct.values())), counted(len(distinct), "picture")
        print_message("failed", f"{count} left out; the first: {first.key}: {first.reason}")
        raise typer.Exit(1)


def show_warnings(*, all_of_them: bool) -> None:
    """Print each warning of this package once, in one line; those of other packages only when debugging."""
    printed: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        from diptych.files.text_files import TextEncodingWarning  # not at the start: it loads Pillow

        if all_of_them:
            print_message("warning", f"{filename}:{lineno}: {message}")
        elif isinstance(message, TextEncodingWarning):
            _guessed.append(message.name)
            if len(_guessed) <= _NAMED:
                print_message("note", str(message))
        elif issubclass(category, UserWarning) and _HOME in filename and str(message) not in printed:
            printed.add(str(message))
            print_message("warning", str(message))

    warnings.showwarning = show


def note_guessed_encodings() -> None:
    """Print how many files were read in a guessed encoding beyond those that were named."""
    if len(_guessed) > _NAMED:
        more = len(_guessed) - _NAMED
        verbs = ("is", "was") if more == 1 else ("are", "were")
        message = f"{counted(more, 'more file')} {verbs[0]} not UTF-8 and {verbs[1]} read as Windows-1252"
        print_message("note", message)
    _guessed.clear()


def clean(text: str) -> str:
    r"""Replace control characters by question marks, so that text cannot control the terminal.

    Examples
    --------
    >>> clean("a\x1b[31mred\nname")
    'a?[31mred?name'
    """
    # Zero-width joiner and non-joiner are format characters too; some scripts and emoji need them.
    return "".join(
        "?" if unicodedata.category(letter) in _UNSAFE_CATEGORIES and letter not in "\u200c\u200d" else letter
        for letter in text
    )


def fit_width(text: str, width: int, *, tail: bool = False) -> str:
    """Cut or pad text to exactly `width` terminal columns; with `tail` keep the end, as for paths.

    Examples
    --------
    >>> fit_width("holiday/2019/lighthouse.jpg", 20, tail=True)
    '…2019/lighthouse.jpg'
    >>> fit_width("cat", 6), fit_width("a cat on a mat", 6)
    ('cat   ', 'a cat…')
    """
    from rich.cells import cell_len, set_cell_size

    text = clean(text)
    cut = "~" if plain_output() else "…"
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    if not tail:
        return set_cell_size(set_cell_size(text, width - 1).rstrip() + cut, width)
    while cell_len(text) > width - 1:
        text = text[1:]
    return set_cell_size(cut + text, width)


def bar(fraction: float, width: int, *, plain: bool = False) -> str:
    """A bar that fills `fraction` (0 to 1) of `width` columns, in steps of an eighth of a column.

    With `plain` it is made of "#", for terminals without block characters.

    Examples
    --------
    >>> bar(0.5, 4), bar(0.28, 4), bar(0.5, 4, plain=True)
    ('██  ', '█▏  ', '##  ')
    """
    fraction = min(1.0, max(0.0, fraction))
    if plain:
        return ("#" * round(fraction * width)).ljust(width)
    eighths = round(fraction * width * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(width)


def format_size(count: float) -> str:
    """A number of bytes in a readable unit.

    Examples
    --------
    >>> format_size(512), format_size(24_100_000)
    ('512 bytes', '24.1 MB')
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def plain_output() -> bool:
    """Whether standard output cannot show block characters."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
    return not encoding.startswith("utf")


def stdout_console() -> Console:
    """A console for tables: at most 100 columns wide, 80 outside a terminal; no markup, no emoji."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.width = min(console.width, 100)
    return console


def plain_table(*names: str, right: Container[str] = ()) -> Any:
    """An empty table without lines, whose cells are not cut; the last column may wrap.

    `right` names the columns that are aligned to the right.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        justify: Literal["left", "right"] = "right" if name in right else "left"
        table.add_column(name, overflow="fold", no_wrap=name != names[-1], justify=justify)
    return table


class _Display:
    """One live display on standard error for all progress bars that are open at the same time.

    A timer shows it `QUIET_SECONDS` after the first bar was opened, whether or not a bar has moved by then,
    so that a step without a count still shows that it runs.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.bars = Progress(
            SpinnerColumn("line"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # else rich would print results for a pipe above the bar
        )
        self.opened = time.monotonic()
        self._lock = threading.Lock()  # the timer's thread calls show(), the command's thread close()
        self._closed = False
        self._timer = threading.Timer(QUIET_SECONDS, self.show)
        self._timer.daemon = True
        self._timer.start()

    def show(self) -> None:
        """Start drawing."""
        with self._lock:
            if not self._closed and not self.bars.live.is_started:
                self.bars.start()

    def close(self) -> None:
        """Remove the bars from the screen; they do not come back."""
        self._timer.cancel()
        with self._lock:
            self._closed = True
            if self.bars.live.is_started:
                self.bars.stop()


_displays: list[_Display] = []  # at most one: rich can draw only one live display at a time


def clear_progress() -> None:
    """Remove all bars from the screen, before results are printed."""
    for display in _displays:
        display.close()


@contextlib.contextmanager
def progress(
    description: str, total: int | None, *, unit: str, quiet: bool
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar with rate and time left on standard error; yields `advance(count)`.

    It appears after `QUIET_SECONDS`, and only on a terminal. Bars may be nested; each has a line of its own.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda count: None
        return
    outermost = not _displays
    if outermost:
        _displays.append(_Display())
    display = _displays[0]
    task = display.bars.add_task(clean(description), total=total, rate="", count="")
    start, done = time.monotonic(), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        elapsed = time.monotonic() - start
        if time.monotonic() - display.opened > QUIET_SECONDS:
            display.show()
        count_text = f"{done:,}" if total is None else f"{done:,}/{total:,}"
        rate = f"{done / max(elapsed, 1e-9):,.0f} {unit}/s"
        display.bars.update(task, advance=count, count=count_text, rate=rate)

    try:
        yield advance
    finally:
        if outermost:
            _displays.clear()
            display.close()
        else:
            display.bars.remove_task(task)
