"""What the commands of `diptych audit` share: opening the model, measuring, and telling what came out.

The audits themselves are `diptych.audits`' business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diptych.cli.evaluate.measuring import Drawing
from diptych.cli.evaluate.reporting import tell
from diptych.cli.shared.console import progress, tell_failures

if TYPE_CHECKING:
    from diptych.audits import Audit


def run(asked: Drawing, what: str, measure: Callable[..., Audit], *given: Any, **more: Any) -> Audit:
    """Open the model, measure, print the report, write its files; status 1 where pictures failed.

    Parameters
    ----------
    asked : Drawing
    what : str
        Written beside the bar.
    measure : callable
        An audit, called with the encoder, with `given`, and with `more` beside the settings.

    Returns
    -------
    Audit
        For a command whose exit status says more.
    """
    encoder, settings = asked.encoder(), asked.settings()
    with progress(what, None, unit="pictures", quiet=asked.quiet) as advance:
        audit = measure(encoder, *given, **{**settings, "progress": advance, **more})
    tell(audit.report(), asked.report, json=asked.json, quiet=asked.quiet)
    tell_failures([audit])
    return audit
