"""`diptych embed`: pictures or texts to files of vectors and metadata that other programs read."""

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
from diptych.cli.shared.console import clean, complain, note, progress

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
        help="Pictures, folders, archives ('s/{000..099}.tar'), tables (.csv, .tsv, .parquet), or texts, "
        "one a line (.txt).",
        show_default=False,
    ),
]
To = Annotated[
    Path,
    typer.Option("--to", "-o", metavar="DIR", help="Where the vectors go.", show_default=False),
]
Texts = Annotated[
    bool, typer.Option("--texts", metavar="", help="Of tables that hold pictures and texts, take the texts.")
]
Captions = Annotated[
    bool,
    typer.Option(
        "--captions", metavar="", help="Embed pictures and their captions; those without are left out."
    ),
]
ImageColumn = Annotated[
    str, typer.Option(metavar="NAME", help="A table's column of pictures; else by its name.")
]
CaptionColumn = Annotated[
    str, typer.Option(metavar="NAME", help="A table's column of texts; else by its name.")
]
Dtype = Annotated[str, typer.Option(metavar="float16|float32", help="Of the vectors on disk.")]
UnitRows = Annotated[
    int,
    typer.Option(metavar="N", min=1, help="Files or rows of one part; an archive is always one part."),
]
Retry = Annotated[
    bool, typer.Option("--retry", metavar="", help="Read again the parts where something failed.")
]
Share = Annotated[
    str,
    typer.Option(
        metavar="I/N",
        help="Do the I-th of N shares only, counted from 0: one of N processes, as of a Slurm array.",
        rich_help_panel=_CLUSTER,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Let a Ray cluster do it: local, auto or an address. Every machine has to see the files.",
        show_default=False,
        rich_help_panel=_CLUSTER,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Of the Ray cluster; by default one for each GPU, else each processor.",
        show_default=False,
        rich_help_panel=_CLUSTER,
    ),
]


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
    share: Share = "0/1",
    ray: Ray = None,
    workers: Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    model: catalogs.Model = None,
    pretrained: options.Pretrained = None,
    exact: options.Exact = False,
    runtime: options.Runtime = "auto",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = "auto",
    batch_size: options.BatchSize = "auto",
) -> None:
    """Embed pictures or texts into files of vectors (.npy) and metadata (Parquet).

    The layout is clip-retrieval's. It may be stopped at any instant: the same
    command goes on.

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
        raise typer.BadParameter("--workers belongs to --ray; for this process there is --threads")
    start = time.monotonic()
    begun = read_manifest(to)
    machine = {
        "runtime": runtime,
        "device": device,
        "precision": precision,
        "threads": threads,
        "batch_size": batch_size,
        "exact": exact,
    }
    kept = "default" if begun is None else begun.model
    tell = functools.partial(note, quiet=quiet)
    encoder, name = catalogs.named_encoder(model or kept, pretrained, settle=tell, **machine)
    counts = options.count(threads, "--threads"), options.count(batch_size, "--batch-size")
    outcome = embed_to_folder(
        encoder,
        sources,
        to,
        model=name,
        modality="texts" if texts else None,
        columns=Columns(image_column, caption_column),
        unit_rows=unit_rows,
        settings=EmbeddingSettings(exact, captions, dtype, counts[1] or 32, counts[0]),
        shard=_share(share),
        retry=retry,
        runner=None if ray is None else _cluster(ray, workers, name, machine),
        stage=functools.partial(_stage, quiet=quiet),
    )
    _tell(outcome, to, time.monotonic() - start, json=json)


def _share(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise typer.BadParameter(f"--share takes I/N with I from 0 to N - 1, as in 0/4, not {text!r}")
    return int(number), int(of)


def _cluster(address: str, workers: int | None, name: str, machine: dict[str, Any]) -> Runner:
    from diptych.embedding.cluster import ray_runner

    model, _, pretrained = name.partition("\t")
    opening = functools.partial(options.open_model, model, pretrained or None, **machine)
    return ray_runner(opening, address=address, workers=workers)


def _stage(what: str, total: int | None, *, quiet: bool) -> AbstractContextManager[Progress]:
    looking = what == "sources"
    return progress("looking" if looking else f"embedding {what}", total, unit=what, quiet=quiet)


def _tell(outcome: EmbeddingSummary, folder: Path, seconds: float, *, json: bool) -> None:
    if json:
        told = {
            "folder": str(folder),
            "rows": outcome.rows,
            "parts": outcome.parts,
            "embedded": outcome.embedded,
            "parts_before": outcome.parts_before,
            "units_left": outcome.units_left,
            "failed": [{"key": key, "reason": reason} for key, reason in outcome.failures],
            "seconds": round(seconds, 3),
        }
        typer.echo(jsonlib.dumps(told))
    else:
        rate = f" ({outcome.embedded / seconds:,.0f}/s)" if outcome.embedded and seconds > 1 else ""
        new = f"{outcome.embedded:,} embedded in {seconds:.1f} s{rate}" if outcome.embedded else "nothing new"
        typer.echo(clean(f"{outcome.rows:,} vectors in {outcome.parts:,} parts in {folder}: {new}"))
    if outcome.failures:
        first = "; ".join(f"{key}: {reason}" for key, reason in outcome.failures[:SHOWN_FAILURES])
        more = ", ..." if len(outcome.failures) > SHOWN_FAILURES else ""
        complain(
            "failed", f"{len(outcome.failures):,} items, listed in {folder / 'failures.csv'}: {first}{more}"
        )
    if outcome.failures or outcome.units_left:
        raise typer.Exit(1)
