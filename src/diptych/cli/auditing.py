"""What the commands of `diptych audit` share: opening the model, measuring, and telling what came out.

The audits themselves are `diptych.audits`' business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.cli import options
from diptych.cli.console import progress, tell_failures
from diptych.cli.reporting import tell

if TYPE_CHECKING:
    from diptych.audits import Audit


@dataclass(frozen=True)
class Asked:
    """What every audit command takes, in one place.

    Attributes
    ----------
    report : Path or None
        Where the page goes.
    json, quiet, fast : bool
    model : str
    pretrained : str or None
    device, precision, threads, batch_size : str
        As the options say them.
    cache : Path or None
        Where rows of pictures are kept.
    """

    report: Path | None
    json: bool
    quiet: bool
    model: str
    pretrained: str | None
    fast: bool
    device: str
    precision: str
    threads: str
    batch_size: str
    cache: Path | None

    def run(self, what: str, measure: Callable[..., Audit], *given: Any, **more: Any) -> Audit:
        """Open the model, measure, print the report, write its files; status 1 where pictures failed.

        Parameters
        ----------
        what : str
            Written beside the bar.
        measure : callable
            An audit, called with the encoder, with `given`, and with `more` beside the settings.

        Returns
        -------
        Audit
            For a command whose exit status says more.
        """
        from diptych.evaluation import FeatureStore

        encoder = options.open_model(
            self.model,
            self.pretrained,
            device=self.device,
            precision=self.precision,
            threads=self.threads,
            batch_size=self.batch_size,
            exact=not self.fast,
        )
        settings = options.settings(
            self.model,
            self.pretrained,
            fast=self.fast,
            threads=self.threads,
            batch_size=self.batch_size,
            store=None if self.cache is None else FeatureStore(self.cache),
        )
        with progress(what, None, unit="pictures", quiet=self.quiet) as advance:
            audit = measure(
                encoder,
                *given,
                **{**settings, "progress": advance, **more},
            )
        tell(audit.report(), self.report, json=self.json, quiet=self.quiet)
        tell_failures([audit])
        return audit
