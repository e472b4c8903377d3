"""What the terminal shows: lines on standard error, bars, fitted names, progress. Knows no command.

Results go to standard output, everything else to standard error, so that a pipe holds results only.
"""

from __future__ import annotations

import contextlib
import sys
import time
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from diptych.embedding import Failed

QUIET_SECONDS = 2.0  # a job shorter than this shows no progress
_HOME = str(Path(__file__).parents[1])  # a warning from elsewhere is not for the person at the terminal
_STEERING = {"Cc", "Cf", "Zl", "Zp"}  # Unicode categories
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def complain(kind: str, message: str) -> None:
    """One line on standard error: `error: ...`."""
    typer.echo(f"{kind}: {clean(' '.join(message.split()))}", err=True)


def note(message: str, *, quiet: bool = False) -> None:
    """Something worth knowing that is no result, on standard error."""
    if not quiet:
        typer.echo("\n".join(clean(line) for line in message.split("\n")), err=True)


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
    """Print this package's own warnings as one line each, and others' only when debugging."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if all_of_them:
            complain("warning", f"{filename}:{lineno}: {message}")
        elif issubclass(category, UserWarning) and _HOME in filename:
            complain("warning", str(message))

    warnings.showwarning = show


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
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    if not tail:
        return set_cell_size(set_cell_size(text, width - 1).rstrip() + "…", width)
    while cell_len(text) > width - 1:
        text = text[1:]
    return set_cell_size("…" + text, width)


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


@contextlib.contextmanager
def progress(what: str, total: int | None, *, unit: str, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left on standard error, from two seconds on; yields `advance(count)`."""
    if quiet or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # else results in a pipe would be drawn above the bar
    )
    task = shown.add_task(what, total=total, rate="")
    start = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        elapsed = time.monotonic() - start
        if elapsed > QUIET_SECONDS and not shown.live.is_started:
            shown.start()
        shown.update(task, advance=count, rate=f"{done / max(elapsed, 1e-9):,.0f} {unit}/s")

    try:
        yield advance
    finally:
        if shown.live.is_started:
            shown.stop()
