"""The `diptych` command: its subcommands, and how an error becomes one line and an exit status.

Exit status: 0 done; 1 done, but some items failed and are named in the report; 2 not done, because of the
command line or of what it named; 130 interrupted.
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

from diptych.cli.audit import audit, audit_data
from diptych.cli.audit.audit_association import association
from diptych.cli.audit.audit_bias import bias
from diptych.cli.audit.audit_classes import classes
from diptych.cli.classify import classify, demo
from diptych.cli.collection import catalog, index, tag
from diptych.cli.evaluate import (
    compare,
    compositional,
    evaluate,
    few_shot,
    interpolate,
    known_sets,
    probe,
    robustness,
    suite,
)
from diptych.cli.models import embed, export, mean, models, runtimes
from diptych.cli.search import duplicates, map, search, similar
from diptych.cli.search.query_arguments import QueryCommand
from diptych.cli.shared.console import complain, set_encodings, show_warnings, tell_encodings
from diptych.cli.shared.picture_limit import reads_pictures
from diptych.cli.train import train
from diptych.errors import DiptychError


class Commands(TyperGroup):
    """The group that turns our errors into one line on standard error."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand; see the exit statuses above."""
        try:
            return super().invoke(ctx)
        except DiptychError as error:
            if ctx.params.get("debug"):
                raise
            complain("error", str(error))
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            complain("interrupted", "nothing half-written was left behind")
            raise typer.Exit(130) from None
        finally:
            tell_encodings()


app = typer.Typer(
    name="diptych",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
_PICTURES, _COLLECTION, _MODELS = "Pictures and words", "A collection", "Models, and how good they are"
app.command("classify", rich_help_panel=_PICTURES)(reads_pictures(classify.classify))
app.command("demo", rich_help_panel=_PICTURES)(reads_pictures(demo.demo))
app.command("embed", rich_help_panel=_PICTURES)(reads_pictures(embed.embed))
app.command("index", rich_help_panel=_COLLECTION)(reads_pictures(index.index))
app.command("search", cls=QueryCommand, rich_help_panel=_COLLECTION)(reads_pictures(search.search))
app.command("similar", rich_help_panel=_COLLECTION)(reads_pictures(similar.similar))
app.command("duplicates", rich_help_panel=_COLLECTION)(reads_pictures(duplicates.duplicates))
app.command("tag", rich_help_panel=_COLLECTION)(reads_pictures(tag.tag))
app.command("map", rich_help_panel=_COLLECTION)(reads_pictures(map.map_))
app.add_typer(catalog.app, name="catalog", rich_help_panel=_COLLECTION)
app.add_typer(models.app, name="models", rich_help_panel=_MODELS)
app.command("export", rich_help_panel=_MODELS)(reads_pictures(export.export))
app.command("train", rich_help_panel=_MODELS)(reads_pictures(train.train))
app.add_typer(evaluate.app, name="evaluate", rich_help_panel=_MODELS)
app.command("compare", rich_help_panel=_MODELS)(compare.compare)
app.add_typer(audit.app, name="audit", rich_help_panel=_MODELS)
models.app.command("runtimes")(runtimes.runtimes)
for command in (
    audit_data.digits,
    audit_data.fine,
    audit_data.wording,
    audit_data.domains,
    audit_data.typographic,
    bias,
    classes,
    association,
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
evaluate.app.command("mean")(mean.mean)


def _version(wanted: bool) -> None:
    if wanted:
        from diptych import __version__

        typer.echo(f"diptych {__version__}")
        raise typer.Exit


@app.callback()
def diptych(
    debug: Annotated[
        bool, typer.Option("--debug", metavar="", help="Show the full trace of an error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, metavar="", help="Print the version."),
    ] = False,
) -> None:
    """Pictures and sentences in one space.

    Whatever can be said in words can be looked for in pictures, with no labels and no retraining:

      diptych classify cat.jpg "a dog" "a cat" "a beaver"
    """
    show_warnings(all_of_them=debug)


def main() -> None:
    """Entry point of the `diptych` script."""
    _own_standard_error()
    set_encodings()
    failures = _note_failures(sys.stdout)
    status: str | int | None = None
    try:
        try:
            app()
        except SystemExit as stop:
            status = stop.code
        sys.stdout.flush()  # a full device may be noticed only here
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        status = _unwritten(error, of_output=error in failures)
    sys.exit(status)


def _own_standard_error() -> None:
    """Write to a descriptor of our own, where descriptor 2 leads now.

    Libraries of C print to descriptor 2, and for the time of their work it is led elsewhere
    (`diptych.media.decoding.native`): progress and messages must not go there with them.
    """
    with contextlib.suppress(OSError, AttributeError):  # closed, or none at all
        if sys.stderr.fileno() == 2:
            mode: dict[str, Any] = {"encoding": sys.stderr.encoding, "errors": sys.stderr.errors}
            sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, **mode)


def _unwritten(error: OSError, *, of_output: bool) -> int:
    """The exit status of a command whose output could not leave; a reader who left early is no error.

    Whatever else the system refused is told as it says it, and is not called the output.
    """
    if error.filename is not None:
        complain("error", f"{error.filename}: {error.strerror}")
        return 2
    if not of_output:
        complain("error", f"{error.strerror or error} (--debug shows where)")
        return 2
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter tries again
    if error.errno == errno.EPIPE:
        return 1
    complain("error", f"the output could not be written: {error.strerror or error}")
    return 2


def _note_failures(stream: TextIO) -> list[OSError]:
    """The errors of writing to this stream, from now on: an OSError does not say which file it is of."""
    failures: list[OSError] = []

    def noting(write: Callable[..., object]) -> Callable[..., object]:
        def noted(*arguments: object) -> object:
            try:
                return write(*arguments)
            except OSError as error:
                failures.append(error)
                raise

        return noted

    for name in ("write", "flush"):
        setattr(stream, name, noting(getattr(stream, name)))
    return failures


if __name__ == "__main__":
    main()
