"""The catalogue that a command works on, and the encoder that belongs to it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from diptych.cli.shared.encoders import ModelReference, StoredModelOptions, load_encoder
from diptych.cli.shared.filters import check_filter
from diptych.cli.shared.options import option

if TYPE_CHECKING:
    from diptych.catalog import Filter, Searcher, Store
    from diptych.encoder import Encoder

VARIABLE = "DIPTYCH_CATALOG"

Catalog = Annotated[
    str | None,
    option(
        "DIR",
        f"The catalogue: a folder, or postgresql://HOST/NAME. Default: ${VARIABLE}, or else a folder in "
        "your home.",
        "--catalog",
        "-c",
        show_default=False,
    ),
]


def default_catalog() -> str | Path:
    """Location of the catalogue when the command line names none."""
    return os.environ.get(VARIABLE) or data_home() / "catalog"


def data_home() -> Path:
    """Folder in which this package keeps data of the user."""
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "diptych"


def undo_folder(store: Store) -> Path:
    """Folder of the lists by which `diptych duplicates --undo` moves files back."""
    return (store.folder or data_home()) / "undo"


@contextlib.contextmanager
def open_catalog(location: str | None, *, create: bool = False) -> Iterator[Store]:
    """Open a catalogue, by default the one of `default_catalog`; it is closed at the end of the block."""
    from diptych.catalog import Store, is_address

    target = location or default_catalog()
    target = target if is_address(target) else Path(target).expanduser()
    store = Store.create(target) if create else Store.open(target)
    try:
        yield store
    finally:
        store.close()


def encoder_for(
    store: Store, encoding: StoredModelOptions, *, autotune: Callable[[str], None] | None = None
) -> tuple[Encoder, ModelReference]:
    """Load the model that the options name, by default the catalogue's own."""
    own = store.active.info.model if store.active is not None else "default"
    return load_encoder(encoding.model or own, encoding, autotune=autotune)


@contextlib.contextmanager
def open_searcher(
    location: str | None, encoding: StoredModelOptions, picture_filter: Filter
) -> Iterator[Searcher]:
    """Open a catalogue with its encoder; the filter is checked before the model is loaded, which is slow."""
    from diptych.catalog import Searcher

    with open_catalog(location) as store:
        check_filter(picture_filter, store.database)
        encoder, _ = encoder_for(store, encoding)
        yield Searcher(store, encoder)
