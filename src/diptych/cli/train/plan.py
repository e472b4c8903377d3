"""`diptych train --dry-run`: print the plan of a run as a table or as JSON."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

from diptych.cli.shared.console import note, progress

if TYPE_CHECKING:
    from diptych.training import Run, RunPlan


def show_plan(run: Run, *, json: bool, quiet: bool) -> None:
    """Estimate the memory and time of a run, and print the plan."""
    from diptych.training.loop.plan import plan as make_plan

    note("measuring on a few pairs ...", quiet=quiet)
    with ExitStack() as bars:
        run_plan = make_plan(
            run,
            lambda total: bars.enter_context(
                progress("counting pairs", total, unit="shards", quiet=quiet or json)
            ),
        )
    if json:
        print(json_module.dumps(asdict(run_plan), indent=2))
        return
    for name, value in plan_rows(run_plan):
        print(f"{name:28} {value}" if value else f"\n{name}")


def plan_rows(plan: RunPlan) -> Iterator[tuple[str, str]]:
    """Names and values of the plan; a heading has an empty value."""
    yield "Model", ""
    for name, count in plan.parameters.items():
        yield f"  {name}", f"{count / 1e6:,.1f} M parameters"
    yield (
        "  a pair",
        f"{plan.operations / 1e9:,.2f} GFLOP forward and backward, texts of {plan.tokens:.0f} tokens",
    )
    yield "Run", ""
    yield "  pairs an epoch", f"{plan.pairs_an_epoch:,}"
    yield "  steps", f"{plan.steps:,}"
    yield "  pairs", f"{plan.pairs:,}"
    yield "Memory, at most", ""
    for name, size in plan.memory.items():
        yield f"  {name}", _size(size)
    yield "  total", f"{_size(sum(plan.memory.values()))} of {_size(plan.free)} available"
    if not plan.fits:
        yield "  too much", "use smaller chunks: --chunk auto"
    yield f"Speed here ({plan.device}, {plan.precision})", ""
    yield "  model", f"{plan.pairs_per_second:,.1f} pairs/s forward and backward"
    yield "  data", f"{plan.decoded_per_second:,.0f} pairs/s read, decoded and cropped"
    yield "Time", ""
    for name, hours in plan.hours.items():
        yield (
            f"  {name}",
            _duration(hours) + ("" if name == "this machine" else ", one device at 40 % of its peak speed"),
        )


def _size(size: float) -> str:
    """A number of bytes in MiB or GiB.

    Examples
    --------
    >>> _size(3.2e9), _size(5e6)
    ('2.98 GiB', '4.8 MiB')
    """
    return f"{size / 2**30:,.2f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"


def _duration(hours: float) -> str:
    """A duration in a readable unit.

    Examples
    --------
    >>> _duration(0.0001), _duration(0.004), _duration(0.5), _duration(30), _duration(400)
    ('under 1 s', '14 s', '30 min', '30.0 h', '16.7 days')
    """
    if hours * 3600 < 1:
        return "under 1 s"
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:,.1f} days"
