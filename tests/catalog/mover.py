"""Moves the duplicates of a catalogue to a trash folder; to be killed, so it says when it begins."""

from __future__ import annotations

import sys
from pathlib import Path

from diptych.catalog import Store
from diptych.catalog.duplicates import find_duplicates
from diptych.catalog.trash import move_to_trash


def main() -> None:
    store = Store.open(Path(sys.argv[1]))
    found = find_duplicates(store, tiers=("bytes", "picture"))
    print("begun", flush=True)
    move_to_trash(store, found.groups, Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    store.close()


if __name__ == "__main__":
    main()
