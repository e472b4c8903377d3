"""Options that choose a model and say how it computes, and the encoder that they load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared import options
from diptych.cli.shared.options import argument, option

if TYPE_CHECKING:
    from diptych.backends import ExportedEncoder, TorchEncoder
    from diptych.encoder import Encoder
    from diptych.weights import Checkpoint

ModelName = Annotated[
    str, argument("MODEL", "The model: a name, a folder, hf-hub:ORG/REPO or local-dir:PATH.")
]
CatalogModel = Annotated[
    str | None,
    option(
        "NAME",
        "The model, as for [bold]diptych classify[/bold]. Default: the one that the catalogue (embed: "
        "the folder) was made with; at first the default model.",
        "--model",
        "-m",
        show_default=False,
        rich_help_panel="Model",
    ),
]


class EncoderSettings:
    """How a model computes.

    A subclass declares as fields the settings that its commands offer; other settings keep these values.
    """

    pretrained: str | None = None
    on_long: str = "cut"
    runtime: str | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: str = "auto"
    batch_size: str = "auto"

    @property
    def exact(self) -> bool:
        """Decode at full size and compute in float32."""
        return False

    def counts(self, batch_size: int) -> tuple[int | None, int]:
        """Number of threads, None for "auto", and of items in a batch, by default `batch_size`."""
        threads = options.count(self.threads, "--threads")
        return threads, options.count(self.batch_size, "--batch-size") or batch_size

    def open(self, model: str | Checkpoint, pretrained: str | None) -> TorchEncoder | ExportedEncoder:
        """Load a model."""
        settings = self._loading()
        from diptych.backends import load

        return load(
            model,
            pretrained,
            runtime=self.runtime,
            device=self.device,
            precision=self.precision,
            exact=self.exact,
            **settings,
        )

    def open_autotuned(self, model: str, pretrained: str | None, note: Callable[[str], None]) -> Encoder:
        """Load a model that measures which runtime is fastest, once it encoded enough for that to pay off.

        `note` is called with each message. Nothing is measured if options choose the runtime or precision.
        """
        encoder = self.open(model, pretrained)
        if self.exact or (self.runtime, self.precision) != ("auto", "auto"):
            return encoder
        from diptych.backends import autotune

        return autotune(encoder, model, pretrained, note=note, **self._loading())

    def _loading(self) -> dict[str, Any]:
        counts = {
            "threads": options.count(self.threads, "--threads"),
            "batch_size": options.count(self.batch_size, "--batch-size"),
        }
        if self.on_long not in ("cut", "refuse"):
            raise typer.BadParameter(f"--on-long takes cut or refuse, not {self.on_long!r}")
        return {name: count for name, count in counts.items() if count is not None} | {
            "on_long": self.on_long
        }


@dataclass(frozen=True)
class CatalogModelOptions(EncoderSettings):
    """Options of commands that encode a few queries for a catalogue."""

    model: CatalogModel = None
    pretrained: options.Pretrained = None
    device: options.Device = "auto"
    precision: options.Precision = "auto"
    threads: options.Threads = "auto"


@dataclass(frozen=True)
class SearchModelOptions(EncoderSettings):
    """Options of a search, which may use any runtime."""

    model: CatalogModel = None
    pretrained: options.Pretrained = None
    runtime: options.Runtime = "auto"
    device: options.Device = "auto"
    precision: options.Precision = "auto"
    threads: options.Threads = "auto"


@dataclass(frozen=True)
class EmbeddingOptions(EncoderSettings):
    """Options of commands that embed many pictures or texts."""

    model: CatalogModel = None
    pretrained: options.Pretrained = None
    exact: options.Exact = False
    runtime: options.Runtime = "auto"
    device: options.Device = "auto"
    precision: options.Precision = "auto"
    threads: options.Threads = "auto"
    batch_size: options.BatchSize = "auto"


StoredModelOptions = CatalogModelOptions | SearchModelOptions | EmbeddingOptions


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


def load_encoder(
    name: str, encoding: StoredModelOptions, *, autotune: Callable[[str], None] | None = None
) -> tuple[Encoder, ModelReference]:
    """Load a model; returns the encoder, and the reference to store with its embeddings.

    `name` is what the user typed, or what a catalogue or manifest holds (`ModelReference.stored`); the
    `model` of `encoding` is ignored. For `autotune` see `EncoderSettings.open_autotuned`.
    """
    tag = encoding.pretrained
    reference = ModelReference.parse(name) if tag is None else ModelReference(name, tag)
    if autotune is None:
        encoder: Encoder = encoding.open(reference.name, reference.tag)
    else:
        encoder = encoding.open_autotuned(reference.name, reference.tag, autotune)
    path = Path(reference.name)
    if path.exists() and reference.name != "default":
        # An absolute path, since the next command may run in another folder.
        reference = ModelReference(str(path.absolute()), reference.tag)
    return encoder, reference


def model_and_tag(name: str, pretrained: str | None = None) -> tuple[str, str | None]:
    """Split a model into name and tag: "NAME,TAG" as CLIP_benchmark writes it, or both given separately.

    Examples
    --------
    >>> model_and_tag("ViT-B-32,openai"), model_and_tag("ViT-B-32", "openai"), model_and_tag("runs/mine")
    (('ViT-B-32', 'openai'), ('ViT-B-32', 'openai'), ('runs/mine', None))
    """
    first, comma, tag = name.rpartition(",")
    if not comma or not first or not tag or Path(name).exists():
        return name, pretrained
    if pretrained is not None and pretrained != tag:
        raise typer.BadParameter(
            f"{name!r} names the weights {tag!r}, but --pretrained names {pretrained!r}: leave one out"
        )
    return first, tag
