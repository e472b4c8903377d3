"""Run an audit for a command of `diptych audit`: load the model, measure, print the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from diptych.cli.shared.console import exit_on_failures
from diptych.cli.shared.measuring import EncoderOptions
from diptych.cli.shared.options import option

if TYPE_CHECKING:
    from diptych.audits import Audit


Seed = Annotated[int, option("N", "Random seed.")]


def run_audit(
    common: EncoderOptions, description: str, measure: Callable[..., Audit], *data: Any, **more: Any
) -> Audit:
    """Load the model, measure, print the report, write its files; exit with status 1 if pictures failed.

    `measure` is an audit: it is called with the encoder and `data`, and with the settings and `more` as
    keywords. Its result is returned for commands whose exit status depends on it.
    """
    encoder, settings = common.encoder(), common.settings()
    with common.progress(description, None, unit="pictures") as advance:
        audit = measure(encoder, *data, **{**settings, "progress": advance, **more})
    common.print_report(audit.report())
    exit_on_failures([audit])
    return audit
