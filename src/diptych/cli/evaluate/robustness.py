"""`diptych evaluate robustness`: accuracy where pictures are unlike those of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.evaluate.measuring import SharedOptions, limited, measuring
from diptych.cli.evaluate.reporting import tell
from diptych.cli.evaluate.transfer import compare_contents
from diptych.cli.shared import options
from diptych.cli.shared.console import note, progress, tell_failures
from diptych.cli.shared.labels import class_texts
from diptych.errors import DataError, InputError

if TYPE_CHECKING:
    from diptych.datasets import ImageDataset
    from diptych.evaluation import Settings, ShiftGroup, ShiftResults
    from diptych.evaluation.protocols.scorers import Scorer

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
Seed = Annotated[int, typer.Option(metavar="N", help="Of the sample and of the corruptions.")]
Model = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="As elsewhere, or a run that learned labels; several are fine, with a tag as NAME,TAG.",
        rich_help_panel="Model",
    ),
]
Ordinary = Annotated[
    list[str] | None,
    typer.Option(
        "--ordinary",
        metavar="NAME",
        help="A model trained in the ordinary way, for the line; two or more. Also as NAME,TAG.",
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="For relative robustness.", show_default="the first --ordinary"),
]


@dataclass(frozen=True)
class _RobustnessOptions(SharedOptions):
    """Options of a measurement of several models."""

    model: Model = None
    pretrained: options.Pretrained = None
    limit: options.Limit = None

    def models(self, ordinary: Sequence[str]) -> dict[str, tuple[str, str | None]]:
        """Name of each model as it was given -> its name and tag; --pretrained is for a single --model."""
        asked = self.model or ["default"]
        if self.pretrained is not None and len(asked) > 1:
            raise InputError(
                f"--pretrained {self.pretrained} with {len(asked)} models: say which one it belongs to, as "
                f"--model {asked[0]},{self.pretrained}"
            )
        found = {name: options.model_and_tag(name, self.pretrained) for name in asked}
        return {**{name: options.model_and_tag(name) for name in ordinary}, **found}


@measuring
def robustness(
    data: Data,
    shift: Shift = None,
    reference: Reference = None,
    corruptions: Corrupt = False,
    severities: Severities = "1,2,3,4,5",
    side: Side = None,
    shared_classes: Shared = False,
    seed: Seed = 0,
    ordinary: Ordinary = None,
    baseline: Baseline = None,
    names: options.Names = None,
    templates: options.Templates = "plain",
    allow_overlap: options.AllowOverlap = False,
    *,
    asked: _RobustnessOptions,
) -> None:
    """Measure a model on a reference and where its pictures shift; with --ordinary, against their line.

    The shifts are other data sets (--shift), the other domains of the reference
    (--reference), or its own pictures corrupted (--corruptions). Models that
    learned labels are told by their run; all others answer zero-shot. Effective
    robustness is what a model has beyond the line of the ordinary ones; what
    is said of it is corrected for the number of models compared (Holm).

    [bold]Examples[/bold]

      diptych evaluate robustness pacs.tar --reference photo

      diptych evaluate robustness imagenet --shift imagenet-r --shift imagenet-a --shared-classes

      diptych evaluate robustness cifar10-test.tar.gz --corruptions --limit 500 --report corrupted

      diptych evaluate robustness test.tar --corruptions --ordinary runs/small --ordinary runs/large
    """
    from diptych.evaluation import compare_robustness, measure_shifts, robustness_report

    words, texts = class_texts(names)
    models = asked.models(ordinary or [])
    base, shifts = _data(data, shift or [], reference, corruptions, words, asked.limit, seed)
    compare_contents([base, *shifts], allow=allow_overlap, quiet=asked.quiet)
    classes = {name: texts[name] for name in base.class_names} if texts else list(base.class_names)
    scorers = {
        name: _scorer(*named, base.class_names, classes, templates, asked) for name, named in models.items()
    }
    group = _group(base, shifts, corruptions, severities, side, seed, shared_classes, scorers)
    settings: Settings = {**asked.settings(), "allow_overlap": allow_overlap}
    model_results: dict[str, ShiftResults] = {}
    for name, scorer in scorers.items():
        total = sum(map(len, (group.reference, *group.shifts)))
        with progress(name, total, unit="pictures", quiet=asked.quiet) as advance:
            shown: Settings = {**settings, "model": name, "progress": advance}
            model_results[name] = measure_shifts(scorer, group, **shown)
    usual = [model_results[name] for name in dict.fromkeys(ordinary or [])]
    others = [one for name, one in model_results.items() if name not in (ordinary or [])]
    found = compare_robustness(group, others, usual, baseline=baseline or "", seed=seed)
    report = robustness_report(found, facts=_facts(settings["command"], group, found.model_results))
    tell(report, asked.report, json=asked.json, quiet=asked.quiet)
    tell_failures(result for each in model_results.values() for result in (each.reference, *each.shifts))


def _data(
    path: Path,
    shift: Sequence[Path],
    reference: str | None,
    corruptions: bool,
    words: Any,
    limit: int | None,
    seed: int,
) -> tuple[ImageDataset, list[ImageDataset]]:
    """The reference and its shifts; no shifts for corruptions, which need to know the models first."""
    from diptych.datasets import domains, load_labelled

    if [bool(shift), reference is not None, corruptions].count(True) != 1:
        raise InputError(
            "what is the shift? Give one of --shift DATA (other data sets), --reference DOMAIN (its other "
            "domains) and --corruptions"
        )
    found = [load_labelled(path, class_names=words, domain=reference)]
    found += [load_labelled(one, class_names=words or _words_for(one, found[0])) for one in shift]
    if reference is not None:
        others = [domain for domain in domains(path) if domain != reference]
        if not others:
            raise DataError(f"{path} has no domain but {reference!r}: expected <domain>/<class>/<file>")
        found += [load_labelled(path, class_names=words, domain=domain) for domain in others]
    base, *shifts = (limited(one, limit, seed) for one in found)
    return base, shifts


def _words_for(path: Path, reference: ImageDataset) -> str | None:
    """ImageNet's words for ObjectNet's classes, where the reference has ImageNet's; else the shift's own."""
    from diptych.datasets.formats.released import is_objectnet
    from diptych.zeroshot import class_names

    has_imagenets = set(reference.class_names) <= set(class_names("imagenet"))
    return "imagenet" if has_imagenets and is_objectnet(path) else None


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
    name: str,
    pretrained: str | None,
    columns: Sequence[str],
    classes: Any,
    templates: str,
    asked: SharedOptions,
) -> Scorer:
    """A model by its name: a run that learned labels answers by its head, any other by the class names."""
    from diptych.backends import load_supervised, supervised_classes
    from diptych.evaluation import ZeroShotScorer

    if pretrained is None and supervised_classes(name):
        _refuse_unsupervised_options(name, asked)
        batch = options.count(asked.batch_size, "--batch-size") or 64
        threads = options.count(asked.threads, "--threads")
        return load_supervised(name, columns, device=asked.device, batch_size=batch, threads=threads)
    encoder = asked.open(name, pretrained)
    with progress(f"{name}: prompts", None, unit="prompts", quiet=asked.quiet) as advance:
        return ZeroShotScorer(encoder, classes, templates=templates, progress=advance)


def _refuse_unsupervised_options(name: str, asked: SharedOptions) -> None:
    """Raise for options that a run with a head for labels cannot follow; say what --fast means for it."""
    for option, value, possible in (
        ("--runtime", asked.runtime, ("auto", "torch", None)),
        ("--precision", asked.precision, ("auto", "float32")),
    ):
        if value not in possible:
            raise InputError(
                f"{option} {value}: {name} learned labels, and such a run is computed with torch in float32 "
                f"only; leave {option} out, or measure it in a command of its own"
            )
    if asked.fast:
        note(
            f"note: {name} learned labels and is computed in float32; --fast scales its pictures only",
            quiet=asked.quiet,
        )


def _facts(command: str, group: ShiftGroup, model_results: Sequence[ShiftResults]) -> dict[str, str]:
    from diptych.evaluation.results.result import versions

    shifts = group.shifts[:1] if group.paired else group.shifts
    return {
        "Command": command,
        **{f"Model {one.model}": one.reference.identity for one in model_results},
        **{f"Data, {one.name}": f"{one.fingerprint}, {one.extent}" for one in (group.reference, *shifts)},
        "Versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
