"""`diptych embed`: embed pictures or texts into files that other programs read."""

from __future__ import annotations

import functools
import json as jsonlib
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.collection import catalogs
from diptych.cli.shared import options
from diptych.cli.shared.console import clean, note, print_message, progress
from diptych.cli.shared.option_groups import with_group
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.embedding import EmbeddingSummary
    from diptych.embedding.run import Runner
    from diptych.progress import Progress

SHOWN_FAILURES = 5
_CLUSTER = "Many machines"

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Pictures, folders, archives ('s/{000..099}.tar'), tables (.csv, .tsv, .parquet), or files of "
        "texts, one per line (.txt).",
        show_default=False,
    ),
]
To = Annotated[
    Path,
    typer.Option("--to", "-o", metavar="DIR", help="The folder for the embeddings.", show_default=False),
]
Texts = Annotated[
    bool,
    typer.Option("--texts", metavar="", help="Embed the texts of tables that hold both pictures and texts."),
]
Captions = Annotated[
    bool,
    typer.Option(
        "--captions", metavar="", help="Embed pictures and their captions; skip pictures without a caption."
    ),
]
ImageColumn = Annotated[
    str, typer.Option(metavar="NAME", help="The table's column of pictures. Default: by its name.")
]
CaptionColumn = Annotated[
    str, typer.Option(metavar="NAME", help="The table's column of texts. Default: by its name.")
]
Dtype = Annotated[str, typer.Option(metavar="float16|float32", help="Data type of the embeddings on disk.")]
UnitRows = Annotated[
    int,
    typer.Option(
        metavar="N", min=1, help="Number of files or rows in one part; an archive is always one part."
    ),
]
Retry = Annotated[
    bool, typer.Option("--retry", metavar="", help="Read again the parts in which something failed.")
]
ShareOption = Annotated[
    str,
    typer.Option(
        metavar="I/N",
        help="Embed only part I of N, counted from 0, as one of N processes such as a Slurm array.",
        rich_help_panel=_CLUSTER,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Run on a Ray cluster: local, auto or an address. Every machine needs access to the files.",
        show_default=False,
        rich_help_panel=_CLUSTER,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Number of Ray workers. Default: one per GPU, or one per processor without GPUs.",
        show_default=False,
        rich_help_panel=_CLUSTER,
    ),
]


@with_group("encoding")
def embed(
    sources: Sources,
    to: To,
    texts: Texts = False,
    captions: Captions = False,
    image_column: ImageColumn = "",
    caption_column: CaptionColumn = "",
    dtype: Dtype = "float16",
    unit_rows: UnitRows = 10_000,
    retry: Retry = False,
    share: ShareOption = "0/1",
    ray: Ray = None,
    workers: Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    encoding: catalogs.EmbeddingOptions,
) -> None:
    """Embed pictures or texts into files of embeddings (.npy) and metadata (Parquet).

    The layout is clip-retrieval's. The command may be stopped at any time: run
    it again to continue.

    [bold]Examples[/bold]

      diptych embed ~/Pictures --to vectors

      diptych embed 'shards/{00000..00099}.tar' --captions --to vectors

      diptych embed names.txt --to words

      diptych embed 's3://bucket/{000..999}.tar' --to /mnt/vectors --ray auto

    Exit status: 0 done, 1 some items could not be embedded, 2 nothing done.
    """
    from diptych.embedding import Columns, EmbeddingSettings, embed_to_folder, read_manifest
    from diptych.embedding.folder import DTYPES

    if dtype not in DTYPES:
        raise typer.BadParameter(f"--dtype takes {' or '.join(DTYPES)}, not {dtype!r}")
    if workers is not None and ray is None:
        raise typer.BadParameter("--workers needs --ray; use --threads to set the threads of this process")
    start = time.monotonic()
    manifest = read_manifest(to)
    name = encoding.model or ("default" if manifest is None else manifest.model)
    encoder, reference = catalogs.load_encoder(name, encoding, autotune=functools.partial(note, quiet=quiet))
    threads, batch_size = encoding.counts()
    outcome = embed_to_folder(
        encoder,
        sources,
        to,
        model=reference.stored,
        modality="texts" if texts else None,
        columns=Columns(image_column, caption_column),
        unit_rows=unit_rows,
        settings=EmbeddingSettings(encoding.exact, captions, dtype, batch_size, threads),
        shard=_read_share(share),
        retry=retry,
        runner=None if ray is None else _ray_runner(ray, workers, reference, encoding.machine),
        stage=functools.partial(_stage, quiet=quiet),
    )
    _print_outcome(outcome, to, time.monotonic() - start, json=json)


def _read_share(text: str) -> tuple[int, int]:
    """Read "I/N" as (I, N)."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise typer.BadParameter(f"--share takes I/N with I from 0 to N - 1, such as 0/4, not {text!r}")
    return int(index), int(count)


def _ray_runner(
    address: str, workers: int | None, reference: catalogs.ModelReference, machine: dict[str, Any]
) -> Runner:
    """A runner whose workers each load the model once."""
    from diptych.embedding.cluster import ray_runner

    load = functools.partial(options.open_model, reference.name, reference.tag, **machine)
    return ray_runner(load, address=address, workers=workers)


def _stage(unit: str, total: int | None, *, quiet: bool) -> AbstractContextManager[Progress]:
    description = "listing sources" if unit == "sources" else f"embedding {unit}"
    return progress(description, total, unit=unit, quiet=quiet)


def _print_outcome(outcome: EmbeddingSummary, folder: Path, seconds: float, *, json: bool) -> None:
    if json:
        summary = {
            "folder": str(folder),
            "rows": outcome.rows,
            "parts": outcome.parts,
            "embedded": outcome.embedded,
            "parts_before": outcome.parts_before,
            "units_left": outcome.units_left,
            "failed": [{"key": key, "reason": reason} for key, reason in outcome.failures],
            "seconds": round(seconds, 3),
        }
        typer.echo(jsonlib.dumps(summary))
    else:
        rate = f" ({outcome.embedded / seconds:,.0f}/s)" if outcome.embedded and seconds > 1 else ""
        new = f"{outcome.embedded:,} embedded in {seconds:.1f} s{rate}" if outcome.embedded else "nothing new"
        typer.echo(clean(f"{outcome.rows:,} vectors in {outcome.parts:,} parts in {folder}: {new}"))
    if outcome.failures:
        first = "; ".join(f"{key}: {reason}" for key, reason in outcome.failures[:SHOWN_FAILURES])
        more = ", ..." if len(outcome.failures) > SHOWN_FAILURES else ""
        print_message(
            "failed",
            f"{counted(len(outcome.failures), 'item')}, listed in {folder / 'failures.csv'}: {first}{more}",
        )
    if outcome.failures or outcome.units_left:
        raise typer.Exit(1)
