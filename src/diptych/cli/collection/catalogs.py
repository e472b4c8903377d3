"""The catalogue that a command works on, and the encoder that belongs to it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
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
        help=f"The catalogue: a folder, or postgresql://HOST/NAME. Default: ${VARIABLE}, or else a folder in "
        "your home.",
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="The model, as for [bold]diptych classify[/bold]. Default: the one that the catalogue was made "
        "with.",
        show_default=False,
        rich_help_panel="Model",
    ),
]


@dataclass(frozen=True)
class ModelReference:
    r"""The name of a model and the tag of its weights, by which it can be loaded again.

    Examples
    --------
    >>> ModelReference.parse("ViT-B-32\topenai")
    ModelReference(name='ViT-B-32', tag='openai')
    >>> ModelReference("ViT-B-32", "openai").stored, ModelReference("runs/mine").stored
    ('ViT-B-32\topenai', 'runs/mine')
    """

    name: str
    tag: str | None = None

    @classmethod
    def parse(cls, text: str) -> ModelReference:
        """Read the form that catalogues and manifests hold: "NAME<tab>TAG", or NAME alone."""
        name, _, tag = text.partition("\t")
        return cls(name, tag or None)

    @property
    def stored(self) -> str:
        """The form that catalogues and manifests hold; a tab cannot occur in a model's name."""
        return self.name if self.tag is None else f"{self.name}\t{self.tag}"


@dataclass(frozen=True)
class _EncoderOptions:
    """Options that choose the model; subclasses add how it computes."""

    model: Model = None
    pretrained: options.Pretrained = None

    @property
    def machine(self) -> dict[str, Any]:
        """The options that say how to compute, as arguments of `options.open_model`."""
        names = [field.name for field in fields(self)]
        return {name: getattr(self, name) for name in names if name not in ("model", "pretrained")}


@dataclass(frozen=True)
class ModelOptions(_EncoderOptions):
    """Options of commands that encode a few queries."""

    device: options.Device = "auto"
    precision: options.Precision = "auto"
    threads: options.Threads = "auto"


@dataclass(frozen=True)
class SearchModelOptions(_EncoderOptions):
    """Options of a search, which may use any runtime."""

    runtime: options.Runtime = "auto"
    device: options.Device = "auto"
    precision: options.Precision = "auto"
    threads: options.Threads = "auto"


@dataclass(frozen=True)
class EmbeddingOptions(_EncoderOptions):
    """Options of commands that encode many pictures or texts."""

    exact: options.Exact = False
    runtime: options.Runtime = "auto"
    device: options.Device = "auto"
    precision: options.Precision = "auto"
    threads: options.Threads = "auto"
    batch_size: options.BatchSize = "auto"

    def counts(self) -> tuple[int | None, int]:
        """Number of threads, None for "auto", and of items in a batch."""
        threads = options.count(self.threads, "--threads")
        return threads, options.count(self.batch_size, "--batch-size") or 32


def default_catalog() -> str | Path:
    """Location of the catalogue when the command line names none."""
    return os.environ.get(VARIABLE) or data_home() / "catalog"


def data_home() -> Path:
    """Folder in which this package keeps data of the user."""
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "diptych"


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
    store: Store, encoding: _EncoderOptions, *, autotune: Callable[[str], None] | None = None
) -> tuple[Encoder, ModelReference]:
    """Load the model that the options name, by default the catalogue's own."""
    own = store.active.info.model if store.active is not None else "default"
    return load_encoder(encoding.model or own, encoding, autotune=autotune)


def load_encoder(
    name: str, encoding: _EncoderOptions, *, autotune: Callable[[str], None] | None = None
) -> tuple[Encoder, ModelReference]:
    """Load a model.

    Parameters
    ----------
    name : str
        As the user typed it, or as a catalogue or manifest holds it (`ModelReference.stored`).
    encoding : ModelOptions, SearchModelOptions or EmbeddingOptions
        The tag of the weights and how to compute; its `model` is ignored.
    autotune : callable, optional
        See `options.open_model`.

    Returns
    -------
    (Encoder, ModelReference)
        The encoder, and the reference to store with its embeddings.
    """
    reference = (
        ModelReference.parse(name)
        if encoding.pretrained is None
        else ModelReference(name, encoding.pretrained)
    )
    encoder = options.open_model(reference.name, reference.tag, **encoding.machine, autotune=autotune)
    path = Path(reference.name)
    if path.exists() and reference.name != "default":
        # An absolute path, since the next command may run in another folder.
        reference = ModelReference(str(path.absolute()), reference.tag)
    return encoder, reference


@contextlib.contextmanager
def open_searcher(
    location: str | None,
    encoding: _EncoderOptions,
    *,
    check: Callable[[Database], None] = lambda database: None,
) -> Iterator[Searcher]:
    """Open a catalogue with its encoder; `check` is called before the model is loaded, which is slow."""
    from diptych.catalog import Searcher

    with open_catalog(location) as store:
        check(store.database)
        encoder, _ = encoder_for(store, encoding)
        yield Searcher(store, encoder)
