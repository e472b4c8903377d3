"""`diptych catalog`: what there is in a catalogue, whether it holds together, and the ways in and out."""

from __future__ import annotations

import dataclasses
import json as jsonlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.collection import catalog_keeping, catalogs
from diptych.cli.collection.filtering import NO_FILTER, FilterOptions, ready_for
from diptych.cli.shared import options
from diptych.cli.shared.console import clean, complain, progress
from diptych.cli.shared.option_groups import with_group
from diptych.cli.shared.picture_limit import reads_pictures
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.catalog import CatalogSummary, ImportReport

app = typer.Typer(
    help="What there is in a catalogue, whether it holds together, and the ways in and out.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Golden = Annotated[
    bool,
    typer.Option(
        "--golden", metavar="", help="Also see whether the model still makes the vectors it made at first."
    ),
]
Source = Annotated[
    Path,
    typer.Argument(
        metavar="VECTORS",
        help="A folder of diptych embed or clip-retrieval, or a .parquet.",
        show_default=False,
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="What relative paths begin at; by default here.", show_default=False),
]
Column = Annotated[str, typer.Option(metavar="NAME", help="Of the vectors in a .parquet; else by its name.")]
Trust = Annotated[
    bool,
    typer.Option("--trust", metavar="", help="Take vectors though nothing shows which model made them."),
]
Target = Annotated[
    Path,
    typer.Argument(metavar="TO", help="A new folder, or a file that ends in .parquet.", show_default=False),
]
Dtype = Annotated[str, typer.Option(metavar="float16|float32", help="Of the folder's vectors.")]


@app.command()
def info(catalog: catalogs.Catalog = None, json: options.Json = False) -> None:
    """Pictures, files, models, disk, and when each folder was last indexed.

    [bold]Examples[/bold]

      diptych catalog info

    Exit status: 0 done, 2 there is no catalogue.
    """
    from diptych.catalog import summarise

    with catalogs.opened(catalog) as store:
        found = summarise(store)
    if json:
        typer.echo(jsonlib.dumps(_plain(found)))
        return
    for line in _lines(found):
        typer.echo(clean(line))


def _plain(found: CatalogSummary) -> dict[str, object]:
    return dataclasses.asdict(found) | {
        "roots": [{"path": str(path), "finished": finished} for path, finished in found.roots],
    }


def _lines(found: CatalogSummary) -> list[str]:
    failed = f", {found.failed:,} cannot be read" if found.failed else ""
    lines = [
        found.name,
        f"  pictures  {found.pictures:,} in {counted(found.files, 'file')}{failed}",
    ]
    if found.bytes is not None:
        lines.append(f"  on disk   {found.bytes / 1e6:,.1f} MB")
    for space in found.spaces:
        gone = space.rows - space.vectors
        dead = f", and {counted(gone, 'row')} that belong to nobody any more" if gone else ""
        what = "model   " if space.state == "active" else "becoming"
        name = space.model.replace("\t", " ")
        lines.append(
            f"  {what}  {name} ({space.identity[:19]}...): {space.vectors:,} vectors of {space.dim}{dead}"
        )
    for path, finished in found.roots:
        when = f"last finished {finished.replace('T', ' ')}" if finished else "never finished"
        lines.append(f"  indexed   {path}: {when}")
    if found.set_aside:
        lines.append(
            f"  kept      tags and ratings of {counted(found.set_aside, 'picture')} that left, for when they "
            "come back"
        )
    if found.running:
        lines.append(f"  running   {found.running} at work now")
    return lines


@app.command()
def check(
    catalog: catalogs.Catalog = None,
    golden: Golden = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    model: catalogs.Model = None,
    pretrained: options.Pretrained = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = "auto",
) -> None:
    """Read everything and see whether it holds together: every picture with its vector and the reverse.

    [bold]Examples[/bold]

      diptych catalog check --golden

    Exit status: 0 it does, 1 it does not, 2 there is no catalogue.
    """
    from diptych.catalog import check as check_catalog
    from diptych.catalog.store.golden import check_image_embeddings
    from diptych.errors import CatalogError

    with catalogs.opened(catalog) as store:
        faults = check_catalog(store, lambda what, total: progress(what, total, unit="rows", quiet=quiet))
        if golden and store.active is not None:
            machine = {"device": device, "precision": precision, "threads": threads}
            encoder, _ = catalogs.encoder_for(store, model, pretrained, **machine)
            try:
                check_image_embeddings(encoder, store.active.info.golden)
            except CatalogError as error:
                faults.append(str(error))
        pictures, where = len(store), store.name
    if json:
        typer.echo(jsonlib.dumps({"catalog": where, "pictures": pictures, "faults": faults}))
    elif not faults:
        typer.echo(clean(f"{counted(pictures, 'picture')} in {where}: everything holds together"))
    for fault in faults:
        complain("fault", fault)
    if faults:
        raise typer.Exit(1)


@app.command("import")
@reads_pictures
def import_(
    source: Source,
    catalog: catalogs.Catalog = None,
    root: Root = None,
    column: Column = "",
    trust: Trust = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    model: catalogs.Model = None,
    pretrained: options.Pretrained = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = "auto",
) -> None:
    """Take vectors that are made already into a catalogue: of diptych embed, clip-retrieval, or in Parquet.

    Where nothing says which model made them, some pictures are embedded again
    and compared. Pictures that are not there are kept by name and can be
    searched.

    [bold]Examples[/bold]

      diptych catalog import vectors

      diptych catalog import laion-part --model ViT-B-32 --pretrained openai

    Exit status: 0 done, 1 some rows were left out, 2 nothing done.
    """
    from diptych.catalog import import_vectors

    start = time.monotonic()
    if not source.exists():
        from diptych.errors import InputError

        raise InputError(f"{source}: there is no such file or folder")
    with catalogs.opened(catalog, create=True) as store:
        machine = {"device": device, "precision": precision, "threads": threads}
        kept = None if store.active is not None else _model_of(source)
        if model is None and kept is not None:
            encoder, name = catalogs.named_encoder(kept, pretrained, **machine)
        else:
            encoder, name = catalogs.encoder_for(store, model, pretrained, **machine)
        done = import_vectors(
            store,
            encoder,
            source,
            model=name,
            root=root,
            column=column,
            trust=trust,
            stage=lambda what, total: progress(what, total, unit="rows", quiet=quiet),
        )
        _tell_import(done, store.name, len(store), time.monotonic() - start, json=json)
    if done.changed:
        raise typer.Exit(1)


def _model_of(source: Path) -> str | None:
    """The model that vectors of ours were made with."""
    from diptych.embedding import read_manifest
    from diptych.embedding.one_file import facts_of

    if source.is_dir():
        manifest = read_manifest(source)
        return None if manifest is None else manifest.model
    return facts_of(source).get("model") if source.suffix.lower() == ".parquet" and source.is_file() else None


def _tell_import(done: ImportReport, name: str, pictures: int, seconds: float, *, json: bool) -> None:
    if json:
        told = {"catalog": name, "pictures": pictures, **dataclasses.asdict(done)}
        typer.echo(jsonlib.dumps(told | {"seconds": round(seconds, 3)}))
        return
    parts = [f"{done.added:,} added", f"{done.known:,} known"]
    if done.unreachable:
        parts.append(f"{done.unreachable:,} by name alone")
    if done.compared:
        parts.append(f"the model agrees with {done.compared} of them")
    typer.echo(
        clean(f"{pictures:,} pictures in {name}: {done.rows:,} rows, {', '.join(parts)} in {seconds:.1f} s")
    )
    if done.changed:
        complain(
            "failed", f"{done.changed:,} rows left out: their files have changed since, or cannot be read"
        )


@app.command()
@with_group("filters")
def export(
    to: Target,
    catalog: catalogs.Catalog = None,
    dtype: Dtype = "float16",
    filters: FilterOptions = NO_FILTER,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write pictures with their vectors, all or some: clip-retrieval's layout, or one Parquet file.

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
        raise typer.BadParameter(f"TO is a folder, or a file that ends in .parquet, not {to.name!r}")
    where = filters.filter()
    with catalogs.opened(catalog) as store:
        ready_for(where)(store.database)
        rows = export_vectors(
            store,
            to,
            dtype=dtype,
            where=where,
            stage=lambda what, total: progress(what, total, unit="pictures", quiet=quiet),
        )
    typer.echo(jsonlib.dumps({"to": str(to), "rows": rows}) if json else clean(f"{rows:,} pictures in {to}"))


for command in (catalog_keeping.move, catalog_keeping.backup, catalog_keeping.restore):
    app.command()(command)
