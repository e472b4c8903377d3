"""Move the duplicates of a catalogue to a trash folder and die at a chosen instant of one move.

    python mover.py CATALOG TRASH|auto DEVICES INSTANT MOVE

The process dies at the MOVE-th file (from 1) as soon as INSTANT is past: "written down", "linked",
"half copied", "copied" or "taken away". With two devices no hard link is possible, so files are copied.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diptych.catalog import Store
from diptych.catalog.duplicates import trash
from diptych.catalog.duplicates.finding import find_duplicates
from diptych.files import moving
from diptych.matching.verdicts import Tier

COPIES: tuple[Tier, ...] = ("bytes", "picture")


def die() -> None:
    """Die as in a power cut: nothing is flushed, no handler runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    catalog, place, devices, instant, number = sys.argv[1:]
    moves = 0

    def then(done: Callable[..., Any], what: str) -> Callable[..., Any]:
        """Run the action, then die if this was the chosen instant."""

        def doing(*values: Any, **named: Any) -> Any:
            result = done(*values, **named)
            of_a_part = bool(values) and str(values[0]).endswith(".part") and what == "taken away"
            if what == instant and moves == int(number) and not of_a_part:
                die()
            return result

        return doing

    def move(source: Path, target: Path, real: Callable[[Path, Path], None] = moving.move_file) -> None:
        nonlocal moves
        moves += 1
        if instant == "written down" and moves == int(number):
            die()
        real(source, target)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    def copy(old: Any, new: Any, _: int) -> None:
        data = old.read()
        new.write(data[: len(data) // 2])
        new.flush()
        then(lambda: None, "half copied")()
        new.write(data[len(data) // 2 :])

    trash.move_file = move  # type: ignore[attr-defined]
    os.link = refuse if devices == "2" else then(os.link, "linked")
    shutil.copyfileobj = copy  # type: ignore[assignment]
    Path.rename = then(Path.rename, "copied")  # type: ignore[method-assign]
    Path.unlink = then(Path.unlink, "taken away")  # type: ignore[method-assign]
    store = Store.open(Path(catalog))
    actual = find_duplicates(store, tiers=COPIES)
    trash.move_to_trash(store, actual.groups, None if place == "auto" else Path(place), tiers=COPIES)
    store.close()


if __name__ == "__main__":
    main()
