"""`diptych catalog`: information, consistency check, import, export, move, backup and restore."""

from __future__ import annotations

import dataclasses
import json as jsonlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.collection import catalog_backup
from diptych.cli.shared import catalogs
from diptych.cli.shared.console import clean, print_message
from diptych.cli.shared.encoders import CatalogModelOptions, ModelReference, load_encoder
from diptych.cli.shared.filters import FilterOptions, check_filter
from diptych.cli.shared.option_groups import with_groups
from diptych.cli.shared.options import Json, OutputOptions, argument, flag, option
from diptych.cli.shared.picture_limit import with_pixel_limit
from diptych.errors import InputError, counted

if TYPE_CHECKING:
    from diptych.catalog import CatalogSummary, ImportReport

app = typer.Typer(
    help="Inspect, check, import, export, move, back up and restore a catalogue.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.command()
def info(catalog: catalogs.Catalog = None, json: Json = False) -> None:
    """Show the number of pictures and files, models, disk space, and when folders were indexed.

    [bold]Examples[/bold]

      diptych catalog info

    Exit status: 0 done, 2 there is no catalogue.
    """
    from diptych.catalog import summarise

    with catalogs.open_catalog(catalog) as store:
        summary = summarise(store)
    if json:
        typer.echo(jsonlib.dumps(_to_json(summary)))
        return
    for line in _lines(summary):
        typer.echo(clean(line))


def _to_json(summary: CatalogSummary) -> dict[str, object]:
    return dataclasses.asdict(summary) | {
        "roots": [{"path": str(path), "finished": finished} for path, finished in summary.roots]
    }


def _lines(summary: CatalogSummary) -> list[str]:
    failed = f", {summary.failed:,} cannot be read" if summary.failed else ""
    lines = [summary.name, f"  pictures  {summary.pictures:,} in {counted(summary.files, 'file')}{failed}"]
    if summary.bytes is not None:
        lines.append(f"  on disk   {summary.bytes / 1e6:,.1f} MB")
    for space in summary.spaces:
        unused_rows = space.rows - space.vectors
        unused = f", and {counted(unused_rows, 'row')} no longer used" if unused_rows else ""
        label = "model   " if space.state == "active" else "becoming"
        reference = ModelReference.parse(space.model)
        name = " ".join(filter(None, (reference.name, reference.tag)))
        lines.append(
            f"  {label}  {name} ({space.identity[:19]}...): {counted(space.vectors, 'vector')} of "
            f"{space.dim}{unused}"
        )
    for path, finished in summary.roots:
        when = f"last finished {finished.replace('T', ' ')}" if finished else "never finished"
        lines.append(f"  indexed   {path}: {when}")
    if summary.set_aside:
        lines.append(
            f"  kept      tags and ratings of {counted(summary.set_aside, 'picture')} that left, until they "
            "come back"
        )
    if summary.running:
        lines.append(f"  running   {summary.running} at work now")
    return lines


@app.command()
@with_groups
def check(
    catalog: catalogs.Catalog = None,
    golden: Annotated[
        bool, flag("--golden", "Also check that the model still gives the embeddings it gave at first.")
    ] = False,
    *,
    output: OutputOptions,
    encoding: CatalogModelOptions,
) -> None:
    """Check a catalogue: every picture has its embedding, and every embedding its picture.

    [bold]Examples[/bold]

      diptych catalog check --golden

    Exit status: 0 no fault, 1 faults found, 2 there is no catalogue.
    """
    from diptych.catalog import check as check_catalog
    from diptych.embedding.golden import check_image_embeddings
    from diptych.errors import CatalogError

    with catalogs.open_catalog(catalog) as store:
        faults = check_catalog(store, output.stage("rows"))
        if golden and store.active is not None:
            encoder, _ = catalogs.encoder_for(store, encoding)
            try:
                check_image_embeddings(encoder, store.active.info.golden)
            except CatalogError as error:
                faults.append(str(error))
        pictures, name = len(store), store.name
    if output.json:
        typer.echo(jsonlib.dumps({"catalog": name, "pictures": pictures, "faults": faults}))
    elif not faults:
        typer.echo(clean(f"{counted(pictures, 'picture')} in {name}: no faults found"))
    for fault in faults:
        print_message("fault", fault)
    if faults:
        raise typer.Exit(1)


@app.command("import")
@with_pixel_limit
@with_groups
def import_(
    source: Annotated[
        Path, argument("VECTORS", "A folder written by diptych embed or clip-retrieval, or a .parquet file.")
    ],
    catalog: catalogs.Catalog = None,
    root: Annotated[
        Path | None,
        option(
            "DIR", "The folder that relative paths start from. Default: the current one.", show_default=False
        ),
    ] = None,
    column: Annotated[
        str, option("NAME", "The column of embeddings in a .parquet file. Default: recognised by its name.")
    ] = "",
    trust: Annotated[bool, flag("--trust", "Import embeddings even if their model is unknown.")] = False,
    *,
    output: OutputOptions,
    encoding: CatalogModelOptions,
) -> None:
    """Import existing embeddings into a catalogue: from diptych embed, clip-retrieval, or Parquet.

    If their model is not recorded, some pictures are embedded again and
    compared. Pictures whose files are missing are kept by name and can be
    searched.

    [bold]Examples[/bold]

      diptych catalog import vectors

      diptych catalog import laion-part --model ViT-B-32 --pretrained openai

    Exit status: 0 done, 1 some rows were left out, 2 nothing done.
    """
    from diptych.catalog import import_vectors

    start = time.monotonic()
    if not source.exists():
        raise InputError(f"there is no file or folder {source}")
    with catalogs.open_catalog(catalog, create=True) as store:
        recorded = None if store.active is not None else _model_of(source)
        if encoding.model is None and recorded is not None:
            encoder, reference = load_encoder(recorded, encoding)
        else:
            encoder, reference = catalogs.encoder_for(store, encoding)
        done = import_vectors(
            store,
            encoder,
            source,
            model=reference.stored,
            root=root,
            column=column,
            trust=trust,
            stage=output.stage("rows"),
        )
        _print_import(done, store.name, len(store), time.monotonic() - start, json=output.json)
    if done.changed:
        raise typer.Exit(1)


def _model_of(source: Path) -> str | None:
    """The model that embeddings written by diptych were made with, as stored there."""
    from diptych.embedding import read_manifest
    from diptych.embedding.one_file import facts_of

    if source.is_dir():
        manifest = read_manifest(source)
        return None if manifest is None else manifest.model
    return facts_of(source).get("model") if source.suffix.lower() == ".parquet" and source.is_file() else None


def _print_import(done: ImportReport, name: str, pictures: int, seconds: float, *, json: bool) -> None:
    if json:
        counts = dataclasses.asdict(done)
        counts["known"] = counts.pop("existing")
        summary = {"catalog": name, "pictures": pictures, **counts, "seconds": round(seconds, 3)}
        typer.echo(jsonlib.dumps(summary))
        return
    parts = [f"{done.added:,} added", f"{done.existing:,} known"]
    if done.unreachable:
        parts.append(f"{done.unreachable:,} without a file, by name only")
    if done.compared:
        parts.append(f"the model agrees with {done.compared} of them")
    typer.echo(
        clean(
            f"{counted(pictures, 'picture')} in {name}: {counted(done.rows, 'row')}, {', '.join(parts)} in "
            f"{seconds:.1f} s"
        )
    )
    if done.changed:
        print_message(
            "failed",
            f"{counted(done.changed, 'row')} left out: the files have changed since, or cannot be read",
        )


@app.command()
@with_groups
def export(
    to: Annotated[Path, argument("TO", "A new folder, or a file name that ends in .parquet.")],
    catalog: catalogs.Catalog = None,
    dtype: Annotated[str, option("float16|float32", "Data type of the embeddings in a folder.")] = "float16",
    *,
    filters: FilterOptions,
    output: OutputOptions,
) -> None:
    """Export pictures with their embeddings: in clip-retrieval's layout, or as one Parquet file.

    [bold]Examples[/bold]

      diptych catalog export vectors

      diptych catalog export pictures.parquet

      diptych catalog export best.parquet --min-rating 4 --after 2020

    Exit status: 0 done, 2 not done.
    """
    from diptych.catalog import export_vectors
    from diptych.embedding.folder import DTYPES

    if dtype not in DTYPES:
        raise typer.BadParameter(f"--dtype takes {' or '.join(DTYPES)}, not {dtype!r}")
    if to.suffix.lower() in (".csv", ".tsv", ".json", ".jsonl", ".npy", ".npz"):
        raise typer.BadParameter(f"TO takes a folder, or a file name that ends in .parquet, not {to.name!r}")
    picture_filter = filters.filter()
    with catalogs.open_catalog(catalog) as store:
        check_filter(picture_filter, store.database)
        rows = export_vectors(store, to, dtype=dtype, filters=picture_filter, stage=output.stage("pictures"))
    summary = clean(f"{counted(rows, 'picture')} in {to}")
    typer.echo(jsonlib.dumps({"to": str(to), "rows": rows}) if output.json else summary)


for command in (catalog_backup.move, catalog_backup.backup, catalog_backup.restore):
    app.command()(command)
