"""Which catalogue a command means, and the encoder that belongs to it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared import options

if TYPE_CHECKING:
    from diptych.catalog import Searcher, Store
    from diptych.catalog.database.database import Database
    from diptych.encoder import Encoder

VARIABLE = "DIPTYCH_CATALOG"

Catalog = Annotated[
    str | None,
    typer.Option(
        "--catalog",
        "-c",
        metavar="DIR",
        help=f"The catalogue: a folder, or postgresql://HOST/NAME; by default ${VARIABLE}, else one in your "
        "home.",
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="As for [bold]diptych classify[/bold]; by default the catalogue's own.",
        show_default=False,
        rich_help_panel="Model",
    ),
]


def default_catalog() -> str | Path:
    """Where the catalogue lies when nobody says."""
    return os.environ.get(VARIABLE) or data_home() / "catalog"


def data_home() -> Path:
    """Where this package keeps what belongs to a person."""
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "diptych"


@contextlib.contextmanager
def opened(place: str | None, *, create: bool = False) -> Iterator[Store]:
    """A catalogue, closed at the end."""
    from diptych.catalog import Store, is_address

    where = place or default_catalog()
    where = where if is_address(where) else Path(where).expanduser()
    store = Store.create(where) if create else Store.open(where)
    try:
        yield store
    finally:
        store.close()


def encoder_for(
    store: Store, model: str | None, pretrained: str | None, **machine: Any
) -> tuple[Encoder, str]:
    """The encoder of a catalogue, or the one asked for; and the name that opens it again."""
    kept = store.active.info.model if store.active is not None else "default"
    return named_encoder(model or kept, pretrained, **machine)


def named_encoder(name: str, pretrained: str | None, **machine: Any) -> tuple[Encoder, str]:
    """The encoder of a name that was typed or kept, and the name to keep."""
    if pretrained is None and "\t" in name:
        name, pretrained = name.split("\t")
    encoder = options.open_model(name, pretrained, **machine)
    if Path(name).exists() and name != "default":
        name = str(Path(name).absolute())  # it has to be found from another folder too
    return encoder, name if pretrained is None else f"{name}\t{pretrained}"


@contextlib.contextmanager
def searcher(
    place: str | None,
    model: str | None,
    pretrained: str | None,
    *,
    ready: Callable[[Database], None] = lambda database: None,
    **machine: Any,
) -> Iterator[Searcher]:
    """A catalogue with its encoder, ready to be asked; `ready` sees it before the encoder is loaded."""
    from diptych.catalog import Searcher

    with opened(place) as store:
        ready(store.database)
        encoder, _ = encoder_for(store, model, pretrained, **machine)
        yield Searcher(store, encoder)
