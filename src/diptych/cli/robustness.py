"""`diptych evaluate robustness`: accuracy where pictures are unlike those of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli import options
from diptych.cli.console import progress, tell_failures
from diptych.cli.labels import class_texts
from diptych.cli.reporting import ReportDir, tell
from diptych.errors import DataError, InputError

if TYPE_CHECKING:
    from diptych.datasets import ImageDataset
    from diptych.evaluation import ShiftGroup, Standing
    from diptych.evaluation.scorers import Scorer

Data = Annotated[Path, typer.Argument(metavar="REFERENCE", help="Labelled pictures.", show_default=False)]
Shift = Annotated[
    list[Path] | None,
    typer.Option("--shift", metavar="DATA", help="Other pictures of its classes; more than one is fine."),
]
Reference = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="DOMAIN",
        help="This folder above the classes is the reference, the others shifts.",
    ),
]
Corrupt = Annotated[
    bool, typer.Option("--corruptions", metavar="", help="The shifts are 15 corruptions of its pictures.")
]
Severities = Annotated[str, typer.Option(metavar="LIST", help="Of corruptions, 1 (mild) to 5.")]
Side = Annotated[
    int | None,
    typer.Option(metavar="PIXELS", help="Corrupt at this size at most.", show_default="as the models see"),
]
Shared = Annotated[
    bool, typer.Option("--shared-classes", metavar="", help="Compare among the classes that both have.")
]
Sample = Annotated[int | None, typer.Option(metavar="N", help="Pictures of each data set, drawn at random.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Of the sample and of the corruptions.")]
Model = Annotated[
    list[str] | None,
    typer.Option(
        "--model", "-m", metavar="NAME", help="As elsewhere, or a run that learned labels; several are fine."
    ),
]
Ordinary = Annotated[
    list[str] | None,
    typer.Option(
        "--ordinary", metavar="NAME", help="A model trained in the ordinary way, for the line; two or more."
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="For relative robustness.", show_default="the first --ordinary"),
]


def robustness(
    data: Data,
    shift: Shift = None,
    reference: Reference = None,
    corruptions: Corrupt = False,
    severities: Severities = "1,2,3,4,5",
    side: Side = None,
    shared_classes: Shared = False,
    sample: Sample = None,
    seed: Seed = 0,
    model: Model = None,
    ordinary: Ordinary = None,
    baseline: Baseline = None,
    names: options.Names = None,
    templates: options.Templates = "plain",
    report: ReportDir = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = "auto",
    batch_size: options.BatchSize = "auto",
) -> None:
    """Measure a model on a reference and where its pictures shift; with --ordinary, against their line.

    The shifts are other data sets (--shift), the other domains of the reference
    (--reference), or its own pictures corrupted (--corruptions). Models that
    learned labels are told by their run; all others answer zero-shot. Effective
    robustness is what a model has beyond the line of the ordinary ones.

    [bold]Examples[/bold]

      diptych evaluate robustness pacs.tar --reference photo

      diptych evaluate robustness imagenet --shift imagenet-r --shift imagenet-a --shared-classes

      diptych evaluate robustness cifar10-test.tar.gz --corruptions --sample 500 --report corrupted

      diptych evaluate robustness test.tar --corruptions --ordinary runs/small --ordinary runs/large
    """
    from diptych.evaluation import compare_robustness, measure, robustness_report

    words, texts = class_texts(names)
    base, shifts = _data(data, shift or [], reference, corruptions, words, sample, seed)
    machine = {"device": device, "threads": threads, "batch_size": batch_size}
    models = dict.fromkeys([*(model or ["default"]), *(ordinary or [])])
    classes = {name: texts[name] for name in base.class_names} if texts else list(base.class_names)
    scorers = {
        name: _scorer(name, base.class_names, classes, templates, {**machine, "precision": precision})
        for name in models
    }
    group = _group(base, shifts, corruptions, severities, side, seed, shared_classes, scorers)
    command = options.command()
    settings: dict[str, Any] = {
        "threads": options.count(threads, "--threads"),
        "batch_size": options.count(batch_size, "--batch-size") or 64,
        "command": command,
    }
    standings: dict[str, Standing] = {}
    for name, scorer in scorers.items():
        total = sum(map(len, (group.reference, *group.shifts)))
        with progress(name, total, unit="pictures", quiet=quiet) as advance:
            standings[name] = measure(scorer, group, model=name, progress=advance, **settings)
    usual = [standings[name] for name in dict.fromkeys(ordinary or [])]
    asked = [one for name, one in standings.items() if name not in (ordinary or [])]
    found = compare_robustness(group, asked, usual, baseline=baseline or "", seed=seed)
    tell(
        robustness_report(found, facts=_facts(command, group, found.standings)),
        report,
        json=json,
        quiet=quiet,
    )
    tell_failures(result for each in standings.values() for result in (each.reference, *each.shifts))


def _data(
    path: Path,
    shift: Sequence[Path],
    reference: str | None,
    corruptions: bool,
    words: Any,
    sample: int | None,
    seed: int,
) -> tuple[ImageDataset, list[ImageDataset]]:
    """The reference and its shifts; no shifts for corruptions, which need to know the models first."""
    from diptych.datasets import domains, load_labelled

    if [bool(shift), reference is not None, corruptions].count(True) != 1:
        raise InputError(
            "what is the shift? Give one of --shift DATA (other data sets), --reference DOMAIN (its other "
            "domains) and --corruptions"
        )
    if sample is not None and sample < 1:
        raise InputError(f"--sample {sample}: expected 1 or more")
    found = [load_labelled(path, class_names=words, domain=reference)]
    found += [load_labelled(one, class_names=words) for one in shift]
    if reference is not None:
        others = [domain for domain in domains(path) if domain != reference]
        if not others:
            raise DataError(f"{path} has no domain but {reference!r}: expected <domain>/<class>/<file>")
        found += [load_labelled(path, class_names=words, domain=domain) for domain in others]
    if sample is not None:
        found = [one.sample(sample, seed) for one in found]
    return found[0], found[1:]


def _group(
    base: ImageDataset,
    shifts: Sequence[ImageDataset],
    corruptions: bool,
    severities: str,
    side: int | None,
    seed: int,
    shared: bool,
    scorers: dict[str, Scorer],
) -> ShiftGroup:
    from diptych.evaluation import ShiftGroup, corruptions_of

    if not corruptions:
        return ShiftGroup(base, shifts, shared)
    most = max(scorer.input_size for scorer in scorers.values()) if side is None else side
    return ShiftGroup(*corruptions_of(base, severities=_severities(severities), seed=seed, side=most))


def _severities(text: str) -> list[int]:
    """Severities from a list.

    Examples
    --------
    >>> _severities("1, 5")
    [1, 5]
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part in ("1", "2", "3", "4", "5") for part in parts):
        raise InputError(f"--severities {text!r}: expected numbers from 1 to 5, such as 1,3,5")
    return list(dict.fromkeys(map(int, parts)))


def _scorer(
    name: str, columns: Sequence[str], classes: Any, templates: str, machine: dict[str, str]
) -> Scorer:
    """A model by its name: a run that learned labels answers by its head, any other by the class names."""
    from diptych.encoders import load_supervised, supervised_classes
    from diptych.evaluation import ZeroShotScorer

    if supervised_classes(name):
        batch, threads = (options.count(machine[key], f"--{key}") for key in ("batch_size", "threads"))
        return load_supervised(
            name, columns, device=machine["device"], batch_size=batch or 64, threads=threads
        )
    encoder = options.open_model(name, None, exact=machine["precision"] == "auto", **machine)
    return ZeroShotScorer(encoder, classes, templates=templates)


def _facts(command: str, group: ShiftGroup, standings: Sequence[Standing]) -> dict[str, str]:
    from diptych.evaluation.report import versions

    shifts = group.shifts[:1] if group.paired else group.shifts
    return {
        "Command": command,
        **{f"Model {one.model}": one.reference.identity for one in standings},
        **{f"Data, {one.name}": f"{one.fingerprint}, {one.extent}" for one in (group.reference, *shifts)},
        "Versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
