"""The `diptych` command: its subcommands, error messages and exit status.

Exit status: 0 done; 1 done, but some items failed and are listed in the report; 2 not done, because of the
command line or a file that it names; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from diptych.cli.audit import audit, labelled, people
from diptych.cli.classify import classify, demo
from diptych.cli.collection import catalog, index, tag
from diptych.cli.evaluate import (
    compositional,
    evaluate,
    few_shot,
    interpolate,
    known_sets,
    probe,
    result_files,
    robustness,
    suite,
)
from diptych.cli.models import embed, export, models
from diptych.cli.search import duplicates, map, search, similar
from diptych.cli.shared.console import note_guessed_encodings, print_message, set_encodings, show_warnings
from diptych.cli.shared.options import flag
from diptych.cli.shared.picture_limit import with_pixel_limit
from diptych.cli.train import train
from diptych.errors import DiptychError


class Commands(TyperGroup):
    """Command group that prints errors of this package as one line on standard error."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand; the exit status is explained above."""
        try:
            return super().invoke(ctx)
        except DiptychError as error:
            if ctx.params.get("debug"):
                raise
            print_message("error", str(error))
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print_message("interrupted", "stopped by Ctrl-C; no incomplete file was left")
            raise typer.Exit(130) from None
        finally:
            note_guessed_encodings()


app = typer.Typer(
    name="diptych",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
_PICTURES, _COLLECTION, _MODELS = "Pictures and words", "A collection", "Models, and how good they are"
app.command("classify", rich_help_panel=_PICTURES)(with_pixel_limit(classify.classify))
app.command("demo", rich_help_panel=_PICTURES)(with_pixel_limit(demo.demo))
app.command("embed", rich_help_panel=_PICTURES)(with_pixel_limit(embed.embed))
app.command("index", rich_help_panel=_COLLECTION)(with_pixel_limit(index.index))
app.command("search", cls=search.QueryCommand, rich_help_panel=_COLLECTION)(with_pixel_limit(search.search))
app.command("similar", rich_help_panel=_COLLECTION)(with_pixel_limit(similar.similar))
app.command("duplicates", rich_help_panel=_COLLECTION)(with_pixel_limit(duplicates.duplicates))
app.command("tag", rich_help_panel=_COLLECTION)(with_pixel_limit(tag.tag))
app.command("map", rich_help_panel=_COLLECTION)(with_pixel_limit(map.map_))
app.add_typer(catalog.app, name="catalog", rich_help_panel=_COLLECTION)
app.add_typer(models.app, name="models", rich_help_panel=_MODELS)
app.command("export", rich_help_panel=_MODELS)(with_pixel_limit(export.export))
app.command("train", rich_help_panel=_MODELS)(with_pixel_limit(train.train))
app.add_typer(evaluate.app, name="evaluate", rich_help_panel=_MODELS)
app.command("compare", rich_help_panel=_MODELS)(result_files.compare)
app.add_typer(audit.app, name="audit", rich_help_panel=_MODELS)
models.app.command("runtimes")(export.runtimes)
for command in (
    *(labelled.digits, labelled.fine, labelled.wording, labelled.domains, labelled.typographic),
    *(people.bias, labelled.classes, people.association),
):
    audit.app.command(command.__name__)(command)
evaluate.app.command("compositional")(compositional.compositional)
evaluate.app.command("interpolate")(interpolate.interpolate)
evaluate.app.command("probe")(probe.probe)
evaluate.app.command("few-shot")(few_shot.few_shot)
evaluate.app.command("knn")(probe.knn)
evaluate.app.command("datasets")(known_sets.datasets)
evaluate.app.command("robustness")(robustness.robustness)
evaluate.app.command("suite")(suite.suite)
evaluate.app.command("mean")(result_files.mean)


def _print_version(chosen: bool) -> None:
    if chosen:
        from diptych import __version__

        typer.echo(f"diptych {__version__}")
        raise typer.Exit


@app.callback()
def diptych(
    debug: Annotated[bool, flag("--debug", "Show the full traceback of an error.")] = False,
    version: Annotated[
        bool, flag("--version", "Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Train and use CLIP models: search, classify, tag and compare pictures by text.

    Any description in words works, without labels and without training:

      diptych classify cat.jpg "a dog" "a cat" "a beaver"
    """
    show_warnings(all_of_them=debug)


def main() -> None:
    """Entry point of the `diptych` script."""
    _separate_standard_error()
    set_encodings()
    failures = _record_write_errors(sys.stdout)
    status: str | int | None = None
    try:
        try:
            app()
        except SystemExit as stop:
            status = stop.code
        sys.stdout.flush()  # a full disk may raise only here
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        status = _os_error_status(error, of_output=error in failures)
    sys.exit(status)


def _separate_standard_error() -> None:
    """Make `sys.stderr` write to a duplicate of file descriptor 2.

    C libraries print to descriptor 2, which `diptych.media.decoding.native` redirects while they work;
    progress and messages must not be redirected with it.
    """
    with contextlib.suppress(OSError, AttributeError):  # standard error is closed or missing
        if sys.stderr.fileno() == 2:
            mode: dict[str, Any] = {"encoding": sys.stderr.encoding, "errors": sys.stderr.errors}
            sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, **mode)


def _os_error_status(error: OSError, *, of_output: bool) -> int:
    """Print an OSError that ended the command, and return the exit status.

    `of_output` tells whether writing to standard output failed. A closed pipe, such as `| head`, is not an
    error and prints nothing.
    """
    if error.filename is not None:
        print_message("error", f"{error.filename}: {error.strerror}")
        return 2
    if not of_output:
        print_message("error", f"{error.strerror or error} (--debug shows where)")
        return 2
    # The interpreter flushes again at exit: into the null device, since another attempt would fail too.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:
        return 1
    print_message("error", f"the output could not be written: {error.strerror or error}")
    return 2


def _record_write_errors(stream: TextIO) -> list[OSError]:
    """Record errors of writing to a stream: an OSError does not tell which stream it came from."""
    failures: list[OSError] = []

    def recording(write: Callable[..., object]) -> Callable[..., object]:
        def recorded(*arguments: object) -> object:
            try:
                return write(*arguments)
            except OSError as error:
                failures.append(error)
                raise

        return recorded

    for name in ("write", "flush"):
        setattr(stream, name, recording(getattr(stream, name)))
    return failures


if __name__ == "__main__":
    main()
