"""What the terminal shows: lines on standard error, bars, fitted names, progress. Knows no command.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import typer

from diptych.errors import counted

if TYPE_CHECKING:
    from rich.console import Console

    from diptych.embedding.batches import Failed

QUIET_SECONDS = 2.0  # a job shorter than this shows no progress
_HOME = str(Path(__file__).parents[2])  # a warning from elsewhere is not for the person at the terminal
_STEERING = {"Cc", "Cf", "Zl", "Zp"}  # Unicode categories
_NAMED = 3  # files in a guessed encoding that are named; the others are counted
_EIGHTHS = " ▏▎▍▌▋▊▉█"


_guessed: list[str] = []  # files read in a guessed encoding by this command


def complain(kind: str, message: str) -> None:
    """One line on standard error: `error: ...`."""
    typer.echo(f"{kind}: {clean(' '.join(message.split()))}", err=True)


def note(message: str, *, quiet: bool = False) -> None:
    """Something worth knowing that is no result, on standard error."""
    if not quiet:
        typer.echo("\n".join(clean(line) for line in message.split("\n")), err=True)


def set_encodings() -> None:
    r"""Make standard output UTF-8 for other programs, and safe on a terminal that knows few characters.

    What is redirected to a file or a pipe is UTF-8 whatever the locale: a CSV in the console's code page
    cannot be read on the next machine. A file name that is no valid text keeps its bytes there, so that it
    can be opened; JSON has it as `\udcNN`, as `os.fsdecode` gives it. A terminal gets its own encoding, and
    `\xNN` for what that lacks.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="backslashreplace")
            else:
                stream.reconfigure(encoding="utf-8", errors="surrogateescape")


def print_json(value: Any, *, indent: int | None = 2, default: Callable[[Any], Any] | None = None) -> None:
    """A value on standard output as JSON that is valid UTF-8, whatever is in it."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=default)
    print(json_text(text))


def json_text(text: str) -> str:
    r"""JSON without lone surrogates: in a string of JSON their escape means the same.

    Examples
    --------
    >>> print(json_text('{"path": "caf\udce9.jpg"}'))
    {"path": "caf\udce9.jpg"}
    """
    return text.encode("utf-8", "backslashreplace").decode()


class Measured(Protocol):
    """What was measured on pictures, some of which may have failed."""

    @property
    def failures(self) -> Sequence[Failed]:
        """Those, and why."""
        ...


def tell_failures(results: Iterable[Measured]) -> None:
    """Leave with status 1, and a line that names the first, where pictures could not be measured.

    A picture that several results of the same data left out counts once; corrupted copies of a data set
    have its fingerprint, followed by what was done.
    """
    distinct: dict[tuple[str, str], Failed] = {}
    for result in results:
        data = getattr(result, "data_fingerprint", "").partition(" ")[0]
        for failure in result.failures:
            distinct.setdefault((data, failure.key), failure)
    if distinct:
        first, count = next(iter(distinct.values())), len(distinct)
        complain(
            "failed", f"{count} picture{'s' * (count > 1)} left out; the first: {first.key}: {first.reason}"
        )
        raise typer.Exit(1)


def show_warnings(*, all_of_them: bool) -> None:
    """Print this package's own warnings as one line each and once, and others' only when debugging."""
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
            complain("warning", f"{filename}:{lineno}: {message}")
        elif isinstance(message, TextEncodingWarning):
            _guessed.append(message.name)
            if len(_guessed) <= _NAMED:
                complain("note", str(message))
        elif issubclass(category, UserWarning) and _HOME in filename and str(message) not in printed:
            printed.add(str(message))
            complain("warning", str(message))

    warnings.showwarning = show


def tell_encodings() -> None:
    """Say how many more files were read in a guessed encoding than were named."""
    if len(_guessed) > _NAMED:
        more = len(_guessed) - _NAMED
        complain("note", f"{counted(more, 'more file')} are not UTF-8 and were read as Windows-1252")
    _guessed.clear()


def clean(text: str) -> str:
    r"""Text that cannot steer a terminal: control characters become question marks.

    Examples
    --------
    >>> clean("a\x1b[31mred\nname")
    'a?[31mred?name'
    """
    # The two joiners are format characters too, and scripts and emoji need them.
    return "".join(
        "?" if unicodedata.category(letter) in _STEERING and letter not in "\u200c\u200d" else letter
        for letter in text
    )


def fitted(text: str, width: int, *, tail: bool = False) -> str:
    """Text cut or filled to exactly `width` columns; with `tail` a path keeps its end, which tells it apart.

    Examples
    --------
    >>> fitted("holiday/2019/lighthouse.jpg", 20, tail=True)
    '…2019/lighthouse.jpg'
    >>> fitted("cat", 6), fitted("a cat on a mat", 6)
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


def bar(share: float, width: int, *, plain: bool = False) -> str:
    """A bar of `share` of `width` columns, in eighths of a column; `plain` for terminals without blocks.

    Examples
    --------
    >>> bar(0.5, 4), bar(0.28, 4), bar(0.5, 4, plain=True)
    ('██  ', '█▏  ', '##  ')
    """
    share = min(1.0, max(0.0, share))
    if plain:
        return ("#" * round(share * width)).ljust(width)
    eighths = round(share * width * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(width)


def size_of(count: float) -> str:
    """Bytes, as people say them.

    Examples
    --------
    >>> size_of(512), size_of(24_100_000)
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


def screen() -> Console:
    """Where tables are printed: at most 100 columns, 80 when it is no terminal; no markup, no emoji."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.width = min(console.width, 100)
    return console


class _Display:
    """One live display on standard error for all bars that are open at once.

    It appears `QUIET_SECONDS` after the first bar was opened, whether or not a bar has moved by then: a
    timer starts it, so that a step which cannot count its work still shows that it is alive.
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
            redirect_stdout=sys.stdout.isatty(),  # else results in a pipe would be drawn above the bar
        )
        self.opened = time.monotonic()
        self._lock = threading.Lock()  # the timer's thread starts what the command's thread stops
        self._closed = False
        self._timer = threading.Timer(QUIET_SECONDS, self.show)
        self._timer.daemon = True
        self._timer.start()

    def show(self) -> None:
        """Draw from now on."""
        with self._lock:
            if not self._closed and not self.bars.live.is_started:
                self.bars.start()

    def close(self) -> None:
        """Take the bars off the screen, for good."""
        self._timer.cancel()
        with self._lock:
            self._closed = True
            if self.bars.live.is_started:
                self.bars.stop()


_displays: list[_Display] = []  # at most one: rich draws one live display at a time


def clear_progress() -> None:
    """Take all bars off the screen, before results are printed."""
    for display in _displays:
        display.close()


@contextlib.contextmanager
def progress(what: str, total: int | None, *, unit: str, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left on standard error, from two seconds on; yields `advance(count)`.

    Bars may be opened inside each other; each has a line of its own.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda count: None
        return
    outermost = not _displays
    if outermost:
        _displays.append(_Display())
    display = _displays[0]
    task = display.bars.add_task(clean(what), total=total, rate="", count="")
    start, done = time.monotonic(), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        elapsed = time.monotonic() - start
        if time.monotonic() - display.opened > QUIET_SECONDS:
            display.show()
        told = f"{done:,}" if total is None else f"{done:,}/{total:,}"
        rate = f"{done / max(elapsed, 1e-9):,.0f} {unit}/s"
        display.bars.update(task, advance=count, count=told, rate=rate)

    try:
        yield advance
    finally:
        if outermost:
            _displays.clear()
            display.close()
        else:
            display.bars.remove_task(task)
