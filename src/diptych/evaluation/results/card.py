"""Model card from results: facts of the model, figures with chance, and figures not better than chance.

Sections that only people can write (intended use, training data, harms) are headings to fill in, after
Mitchell et al. 2019 (arXiv 1810.03993). The format is Markdown with the header that model hubs read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diptych.encoder import EncoderCost
from diptych.errors import DataError
from diptych.evaluation.results.result import Result, not_above_chance

_QUESTIONS = {
    "Intended use": "What is it for, and for whom? What is it not for?",
    "Training data": "Which pictures and texts, under which licences, and who is in them?",
    "Harms": "Whom may a wrong answer hurt? Which audits were run, on which groups?",
}


def model_card(
    facts: Mapping[str, Any], results: Sequence[Result], *, notes: Mapping[str, str] | None = None
) -> str:
    """Write the card as Markdown.

    Parameters
    ----------
    facts : mapping
        "name", "identity" and, if known, "licence", "source", "parameters" (of parts) and "training", as
        `diptych models show --json` prints them.
    results : sequence of Result
        Each must have the identity of this model.
    notes : mapping of heading to text, optional
        Texts for "Intended use", "Training data", "Harms" and headings of your own.

    Raises
    ------
    DataError
        A result of another model, or no result.

    Examples
    --------
    >>> result = Result(dataset="toy", task="zeroshot_classification", metrics={"acc1": 0.5},
    ...                 chance={"acc1": 0.1}, n=40, identity="sha256:1", data_fingerprint="sha256:2")
    >>> card = model_card({"name": "mine", "identity": "sha256:1"}, [result])
    >>> [line for line in card.splitlines() if line.startswith("| toy")]
    ['| toy | acc1 | 0.500 | | 0.100 | 40 |']
    """
    if not results:
        raise DataError("no results: expected at least one for a model card")
    for result in results:
        if result.identity != facts["identity"]:
            raise DataError(
                f"the result on {result.dataset} is of the model {result.identity}, but the card is of "
                f"{facts['identity']}: measure this model"
            )
    given = {**dict.fromkeys(_QUESTIONS, ""), **(notes or {})}
    parts = [_header(facts), f"# Model card: {facts['name']}", _about(facts), _figures(results)]
    for heading, text in given.items():
        parts.append(f"## {heading}\n\n{text.strip() or f'*Not written yet. {_QUESTIONS[heading]}*'}")
    return "\n\n".join(parts) + "\n"


def _header(facts: Mapping[str, Any]) -> str:
    tags = ["clip", "zero-shot-image-classification", "diptych"]
    licence = str(facts.get("licence") or "unknown").replace('"', "'")
    return "\n".join(["---", f'license: "{licence}"', "tags:", *(f"- {tag}" for tag in tags), "---"])


def _about(facts: Mapping[str, Any]) -> str:
    rows = [("Identity", f"`{facts['identity']}`")]
    parameters = facts.get("parameters")
    if parameters:
        rows.append(("Parameters", ", ".join(f"{name} {count:,}" for name, count in parameters.items())))
    for name in ("licence", "source"):
        if facts.get(name):
            rows.append((name.capitalize(), _cell(str(facts[name]))))
    training = facts.get("training") or {}
    counts = [
        f"{name.replace('_', ' ')} {value:,}" for name, value in training.items() if isinstance(value, int)
    ]
    if counts:
        rows.append(("Training", ", ".join(counts)))
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _figures(results: Sequence[Result]) -> str:
    lines = [
        "## Figures",
        "",
        "| data | metric | figure | 95 % | chance | pictures |",
        "|---|---|---:|---|---:|---:|",
    ]
    known = [
        (result, name)
        for result in results
        for name in result.metrics
        if name in result.chance and name in result.intervals
    ]
    weak = [f"{result.dataset} ({name})" for result, name in not_above_chance(known)]
    for result in results:
        for row in result.rows():
            interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
            chance = "" if row["chance"] is None else f"{row['chance']:.3f}"
            cells = (
                _cell(row["dataset"]),
                row["metric"],
                f"{row['value']:.3f}",
                interval,
                chance,
                result.measured if result.sampled_from else f"{row['n']:,}",
            )
            lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    first = results[0]
    lines += [
        "",
        f"Computed in {first.precision}, pictures decoded {'in full' if first.exact else 'scaled'}.",
    ]
    commands = list(dict.fromkeys(f"`{result.command}`" for result in results if result.command))
    if commands:
        lines.append(f"Commands: {', '.join(commands)}.")
    if first.cost:
        lines.append(f"Cost: {EncoderCost(**first.cost)}.")  # type: ignore[arg-type]
    if weak:
        lines += ["", f"Not shown to be better than chance: {', '.join(weak)}."]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Escape a text for a table cell."""
    return " ".join(text.replace("|", "\\|").split())
