"""Call paths through the code: the functions from a command to the place that computes its result.

    python -m tests.trips        prints the tables of docs/architecture.md

A real command runs under a profiler; its path is the stack of package functions when the last function is
called. Closures and generators count; comprehensions do not, since Python 3.12 inlines them.
"""

from __future__ import annotations

import ast
import contextlib
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
from PIL import Image
from typer.testing import CliRunner

import diptych
from diptych.cli.main import app

SOURCE = Path(diptych.__file__).parent
COMPREHENSIONS = {"<listcomp>", "<setcomp>", "<dictcomp>"}


@dataclass(frozen=True)
class Trip:
    """A command, and the functions where its path begins and ends, as `module:qualified name`."""

    title: str
    command: str
    begin: str
    end: str


TRIPS = (
    Trip(
        "A picture to its embedding",
        "classify pictures/red-0.png red blue",
        "cli.classify.classify:classify",
        "model.clip:CLIP.encode_image",
    ),
    Trip(
        "Its embedding to a score",
        "classify pictures/red-0.png red blue",
        "cli.classify.classify:classify",
        "zeroshot.scoring:softmax",
    ),
    Trip(
        "A query to its hits",
        "search red --all --catalog catalog",
        "cli.search.search:search",
        "vectors.exact:nearest_exact",
    ),
    Trip(
        "A file to its row in the catalogue",
        "index pairs --catalog new",
        "cli.collection.index:index",
        "vectors.segments:Segments.append",
    ),
    Trip(
        "Two pictures to a verdict",
        "duplicates --catalog catalog",
        "cli.search.duplicates:duplicates",
        "matching.verdicts:judge_pair",
    ),
    Trip(
        "A batch to the loss",
        "train --pairs pairs --from default --epochs 1 --batch-size 8 --out run",
        "training.loop.trainer:Trainer._step",
        "training.losses.contrastive:info_nce",
    ),
    Trip(
        "The pictures of an audit to its figures",
        "audit counting --each 2 --most 3 --report report",
        "cli.audit.audit:counting",
        "audits.prompt_scores:top1_hits",
    ),
    Trip(
        "The figures to a table",
        "audit counting --each 2 --most 3 --report report",
        "cli.audit.audit:counting",
        "reports.report:Table.to_csv",
    ),
)


def furnish(folder: Path) -> None:
    """Write the files that the commands use: coloured pictures, a copy, pairs, and a catalogue."""
    generator = np.random.default_rng(0)
    for number, colour in enumerate(("red", "green", "blue") * 8):
        noise = np.asarray(Image.new("RGB", (48, 48), colour)) ^ generator.integers(
            0, 32, (48, 48, 3), np.uint8
        )
        for home in (folder / "pictures", folder / "pairs"):
            home.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise).save(home / f"{colour}-{number}.png")
        (folder / "pairs" / f"{colour}-{number}.txt").write_text(f"something {colour}, {number}")
    waves = np.sin(np.arange(128)[:, None] / 9) * np.cos(np.arange(128) / 7)
    copied = Image.fromarray((127 * (1 + waves)).astype(np.uint8))
    for suffix in ("png", "jpg"):
        copied.save(folder / "pictures" / f"waves.{suffix}")
    CliRunner().invoke(app, ["index", "pictures", "--catalog", "catalog"], catch_exceptions=False)


def walk(trip: Trip) -> list[str]:
    """Run the command in the current folder; return the functions on its path, both ends included."""
    trails: list[list[str]] = []

    def watch(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and not trails and _name(frame) == trip.end:
            trail = [name for name in map(_name, _stack(frame)) if name][::-1]
            if trip.begin in trail:
                trails.append(trail[trail.index(trip.begin) :])

    with _profiled(watch):
        result = CliRunner().invoke(app, trip.command.split(), catch_exceptions=False)
    if not trails:
        raise AssertionError(f"{trip.command} never came to {trip.end}: {result.output}")
    return trails[0]


@contextmanager
def _profiled(watch: Callable[[FrameType, str, object], None]) -> Iterator[None]:
    before = sys.getprofile()
    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _name(frame: FrameType) -> str:
    """`module:qualified name` of a function of the package, "" for other functions."""
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(SOURCE) or frame.f_code.co_name in COMPREHENSIONS:
        return ""
    module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    return f"{module}:{frame.f_code.co_qualname.replace('<locals>.', '')}"


def summaries() -> dict[str, str]:
    """`module:qualified name` -> first line of the docstring, for all functions of the package."""
    lines: dict[str, str] = {}
    for path in SOURCE.rglob("*.py"):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        _collect(ast.parse(path.read_text(encoding="utf-8")), f"{module}:", lines)
    return lines


def _collect(node: ast.AST, prefix: str, lines: dict[str, str]) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            lines[prefix + child.name] = (ast.get_docstring(child) or "").split("\n")[0]
            _collect(child, f"{prefix}{child.name}.", lines)
        else:
            _collect(child, prefix, lines)


def main() -> None:
    """Print every path as a table."""
    with tempfile.TemporaryDirectory() as home, contextlib.chdir(home):
        furnish(Path(home))
        texts = summaries()
        for trip in TRIPS:
            print(f"### {trip.title}\n\n| function | what it does |\n| --- | --- |")
            for name in walk(trip):
                print(f"| `{name}` | {texts.get(name, '')} |")
            print()


if __name__ == "__main__":
    main()
