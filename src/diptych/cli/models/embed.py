"""`diptych embed`: embed pictures or texts into files that other programs read."""

from __future__ import annotations

import functools
import json as jsonlib
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.shared.console import clean, print_message
from diptych.cli.shared.encoders import EmbeddingOptions, ModelReference, load_encoder
from diptych.cli.shared.option_groups import with_groups
from diptych.cli.shared.options import OutputOptions, argument, flag, option
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.embedding import EmbeddingSummary
    from diptych.embedding.run import Runner
    from diptych.progress import Progress

SHOWN_FAILURES = 5

_cluster_option = functools.partial(option, rich_help_panel="Many machines")


@dataclass(frozen=True)
class SourceOptions:
    """What is read from the sources, and how it is stored."""

    texts: Annotated[
        bool, flag("--texts", "Embed the texts of tables that hold both pictures and texts.")
    ] = False
    captions: Annotated[
        bool, flag("--captions", "Embed pictures and their captions; skip pictures without a caption.")
    ] = False
    image_column: Annotated[str, option("NAME", "The table's column of pictures. Default: by its name.")] = ""
    caption_column: Annotated[str, option("NAME", "The table's column of texts. Default: by its name.")] = ""
    dtype: Annotated[str, option("float16|float32", "Data type of the embeddings on disk.")] = "float16"
    unit_rows: Annotated[
        int, option("N", "Number of files or rows in one part; an archive is always one part.", min=1)
    ] = 10_000
    retry: Annotated[bool, flag("--retry", "Read again the parts in which something failed.")] = False


@dataclass(frozen=True)
class ClusterOptions:
    """How the work is divided between processes and machines."""

    part: Annotated[
        str,
        _cluster_option(
            "I/N",
            "Embed only part I of N, counted from 0, as one of N processes such as a Slurm array.",
            "--share",
        ),
    ] = "0/1"
    ray: Annotated[
        str | None,
        _cluster_option(
            "ADDRESS",
            "Run on a Ray cluster: local, auto or an address. Every machine needs access to the files.",
            show_default=False,
        ),
    ] = None
    workers: Annotated[
        int | None,
        _cluster_option(
            "N",
            "Number of Ray workers. Default: one per GPU, or one per processor without GPUs.",
            min=1,
            show_default=False,
        ),
    ] = None

    def shard(self) -> tuple[int, int]:
        """The value of --share, "I/N", as (I, N)."""
        index, _, count = self.part.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise typer.BadParameter(
                f"--share takes I/N with I from 0 to N - 1, such as 0/4, not {self.part!r}"
            )
        return int(index), int(count)

    def runner(self, encoding: EmbeddingOptions, reference: ModelReference) -> Runner | None:
        """With --ray, a runner whose workers each load the model once."""
        if self.ray is None:
            return None
        from diptych.embedding.cluster import ray_runner

        load = functools.partial(encoding.open, reference.name, reference.tag)
        return ray_runner(load, address=self.ray, workers=self.workers)


@with_groups
def embed(
    sources: Annotated[
        list[str],
        argument(
            "SOURCE",
            "Pictures, folders, archives ('s/{000..099}.tar'), tables (.csv, .tsv, .parquet), or files "
            "of texts, one per line (.txt).",
        ),
    ],
    to: Annotated[Path, option("DIR", "The folder for the embeddings.", "--to", "-o", show_default=False)],
    *,
    reading: SourceOptions,
    cluster: ClusterOptions,
    output: OutputOptions,
    encoding: EmbeddingOptions,
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

    if reading.dtype not in DTYPES:
        raise typer.BadParameter(f"--dtype takes {' or '.join(DTYPES)}, not {reading.dtype!r}")
    if cluster.workers is not None and cluster.ray is None:
        raise typer.BadParameter("--workers needs --ray; use --threads to set the threads of this process")
    start = time.monotonic()
    manifest = read_manifest(to)
    name = encoding.model or ("default" if manifest is None else manifest.model)
    encoder, reference = load_encoder(name, encoding, autotune=output.note)
    threads, batch_size = encoding.counts(32)
    outcome = embed_to_folder(
        encoder,
        sources,
        to,
        model=reference.stored,
        modality="texts" if reading.texts else None,
        columns=Columns(reading.image_column, reading.caption_column),
        unit_rows=reading.unit_rows,
        settings=EmbeddingSettings(encoding.exact, reading.captions, reading.dtype, batch_size, threads),
        shard=cluster.shard(),
        retry=reading.retry,
        runner=cluster.runner(encoding, reference),
        stage=functools.partial(_stage, output=output),
    )
    _print_outcome(outcome, to, time.monotonic() - start, json=output.json)


def _stage(unit: str, total: int | None, *, output: OutputOptions) -> AbstractContextManager[Progress]:
    description = "listing sources" if unit == "sources" else f"embedding {unit}"
    return output.progress(description, total, unit=unit)


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
        typer.echo(
            clean(f"{counted(outcome.rows, 'vector')} in {counted(outcome.parts, 'part')} in {folder}: {new}")
        )
    if outcome.failures:
        first = "; ".join(f"{key}: {reason}" for key, reason in outcome.failures[:SHOWN_FAILURES])
        more = ", ..." if len(outcome.failures) > SHOWN_FAILURES else ""
        print_message(
            "failed",
            f"{counted(len(outcome.failures), 'item')}, listed in {folder / 'failures.csv'}: {first}{more}",
        )
    if outcome.failures or outcome.units_left:
        raise typer.Exit(1)
