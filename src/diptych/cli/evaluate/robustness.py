"""`diptych evaluate robustness`: accuracy under distribution shift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from diptych.cli.evaluate.transfer import ClassOptions, compare_contents
from diptych.cli.shared import options
from diptych.cli.shared.console import exit_on_failures
from diptych.cli.shared.encoders import model_and_tag
from diptych.cli.shared.labels import class_texts
from diptych.cli.shared.measuring import RunOptions, limited, measuring
from diptych.cli.shared.options import argument, flag, option
from diptych.errors import DataError, InputError

if TYPE_CHECKING:
    from diptych.datasets import ImageDataset
    from diptych.evaluation import Settings, ShiftGroup, ShiftResults
    from diptych.evaluation.protocols.scorers import Scorer


@dataclass(frozen=True)
class ShiftOptions:
    """The shifted pictures that the reference is compared with."""

    shift: Annotated[
        list[Path] | None, option("DATA", "Shifted pictures of the same classes; repeat it for several.")
    ] = None
    reference: Annotated[
        str | None,
        option("DOMAIN", "Use this folder above the classes as the reference, the others as shifts."),
    ] = None
    corruptions: Annotated[
        bool,
        flag("--corruptions", "Use 15 corruptions of the pictures as shifts."),
    ] = False
    severities: Annotated[str, option("LIST", "Severities of the corruptions, 1 (mild) to 5.")] = "1,2,3,4,5"
    side: Annotated[
        int | None,
        option(
            "PIXELS",
            "Reduce pictures to this size before corrupting them.",
            show_default="the models' input size",
        ),
    ] = None
    shared_classes: Annotated[
        bool, flag("--shared-classes", "Compare only classes that both data sets have.")
    ] = False
    seed: Annotated[int, option("N", "Random seed of the sample and of the corruptions.")] = 0

    def load(self, path: Path, words: Any, limit: int | None) -> tuple[ImageDataset, list[ImageDataset]]:
        """The reference and its shifts; corruptions are made later, at the models' input size."""
        from diptych.datasets import domains, load_labelled

        shift, reference = self.shift or [], self.reference
        if [bool(shift), reference is not None, self.corruptions].count(True) != 1:
            raise InputError(
                "give exactly one of --shift DATA (other data sets), --reference DOMAIN (its other domains) "
                "and --corruptions"
            )
        loaded = [load_labelled(path, class_names=words, domain=reference)]
        loaded += [load_labelled(data, class_names=words or _words_for(data, loaded[0])) for data in shift]
        if reference is not None:
            others = [domain for domain in domains(path) if domain != reference]
            if not others:
                raise DataError(
                    f"{path} has no other domain than {reference!r}: expected <domain>/<class>/<file>"
                )
            loaded += [load_labelled(path, class_names=words, domain=domain) for domain in others]
        base, *shifts = (limited(dataset, limit, self.seed) for dataset in loaded)
        return base, shifts

    def group(
        self, base: ImageDataset, shifts: Sequence[ImageDataset], scorers: dict[str, Scorer]
    ) -> ShiftGroup:
        """The reference with its shifts or corruptions, for these models."""
        from diptych.evaluation import ShiftGroup, corruptions_of

        if not self.corruptions:
            return ShiftGroup(base, shifts, self.shared_classes)
        side = self.side
        if side is None:
            side = max(scorer.input_size for scorer in scorers.values())
        severities = _severities(self.severities)
        return ShiftGroup(*corruptions_of(base, severities=severities, seed=self.seed, side=side))


@dataclass(frozen=True)
class _RobustnessOptions(RunOptions):
    """Options of a measurement of several models."""

    model: Annotated[
        list[str] | None,
        option(
            "NAME",
            "The model, or a run trained on labels; NAME,TAG for a tag; repeat it for several.",
            "--model",
            "-m",
            rich_help_panel="Model",
        ),
    ] = None
    pretrained: options.Pretrained = None
    limit: options.Limit = None

    def models(self, ordinary: Sequence[str]) -> dict[str, tuple[str, str | None]]:
        """Name as typed -> (name, tag) of each model; --pretrained needs a single --model."""
        names = self.model or ["default"]
        if self.pretrained is not None and len(names) > 1:
            raise InputError(
                f"--pretrained {self.pretrained} with {len(names)} models: name the model it belongs to, as "
                f"--model {names[0]},{self.pretrained}"
            )
        chosen = {name: model_and_tag(name, self.pretrained) for name in names}
        return {**{name: model_and_tag(name) for name in ordinary}, **chosen}


@measuring
def robustness(
    data: Annotated[Path, argument("REFERENCE", "Labelled pictures of the reference.")],
    *,
    shifted: ShiftOptions,
    ordinary: Annotated[
        list[str] | None,
        option(
            "NAME", "A standard model that defines the baseline line; give two or more. NAME,TAG for a tag."
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        option("NAME", "The model that relative robustness refers to.", show_default="the first --ordinary"),
    ] = None,
    class_options: ClassOptions,
    common: _RobustnessOptions,
) -> None:
    """Measure robustness: accuracy on a reference and on shifted pictures.

    The shifts are other data sets (--shift), the other domains of the reference
    (--reference), or its own pictures corrupted (--corruptions). Runs trained
    on labels answer by their head, all other models zero-shot. Effective
    robustness is accuracy above the line through the --ordinary models; its
    tests are corrected for the number of models (Holm).

    [bold]Examples[/bold]

      diptych evaluate robustness pacs.tar --reference photo

      diptych evaluate robustness imagenet --shift imagenet-r --shift imagenet-a --shared-classes

      diptych evaluate robustness cifar10-test.tar.gz --corruptions --limit 500 --report corrupted

      diptych evaluate robustness test.tar --corruptions --ordinary runs/small --ordinary runs/large
    """
    from diptych.evaluation import compare_robustness, measure_shifts, robustness_report

    words, texts = class_texts(class_options.names)
    models = common.models(ordinary or [])
    base, shifts = shifted.load(data, words, common.limit)
    compare_contents([base, *shifts], common, allow=class_options.allow_overlap)
    classes = {name: texts[name] for name in base.class_names} if texts else list(base.class_names)
    scorers = {
        name: _scorer(*model, base.class_names, classes, class_options.templates, common)
        for name, model in models.items()
    }
    group = shifted.group(base, shifts, scorers)
    settings: Settings = {**common.settings(), "allow_overlap": class_options.allow_overlap}
    model_results: dict[str, ShiftResults] = {}
    for name, scorer in scorers.items():
        total = sum(map(len, (group.reference, *group.shifts)))
        with common.measuring_bar({**settings, "model": name}, name, total) as with_bar:
            model_results[name] = measure_shifts(scorer, group, **with_bar)
    baselines = [model_results[name] for name in dict.fromkeys(ordinary or [])]
    others = [results for name, results in model_results.items() if name not in (ordinary or [])]
    comparison = compare_robustness(group, others, baselines, baseline=baseline or "", seed=shifted.seed)
    report = robustness_report(comparison, facts=_facts(settings["command"], group, comparison.model_results))
    common.print_report(report)
    exit_on_failures(
        result for standing in model_results.values() for result in (standing.reference, *standing.shifts)
    )


def _words_for(path: Path, reference: ImageDataset) -> str | None:
    """ImageNet's class names for ObjectNet, if the reference has them; None for the data's own names."""
    from diptych.datasets.formats.released import is_objectnet
    from diptych.zeroshot import class_names

    is_imagenet = set(reference.class_names) <= set(class_names("imagenet"))
    return "imagenet" if is_imagenet and is_objectnet(path) else None


def _severities(text: str) -> list[int]:
    """Read the severities.

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
    common: RunOptions,
) -> Scorer:
    """The scorer of a model: the head of a run trained on labels, else zero-shot by class names."""
    from diptych.backends import load_supervised, supervised_classes
    from diptych.evaluation import ZeroShotScorer

    if pretrained is None and supervised_classes(name):
        _refuse_unsupervised_options(name, common)
        threads, batch_size = common.counts(64)
        return load_supervised(name, columns, device=common.device, batch_size=batch_size, threads=threads)
    encoder = common.open(name, pretrained)
    with common.progress(f"{name}: prompts", None, unit="prompts") as advance:
        return ZeroShotScorer(encoder, classes, templates=templates, progress=advance)


def _refuse_unsupervised_options(name: str, common: RunOptions) -> None:
    """Refuse options that a run trained on labels cannot use; print what --fast means for it."""
    for refused, value, possible in (
        ("--runtime", common.runtime, ("auto", "torch", None)),
        ("--precision", common.precision, ("auto", "float32")),
    ):
        if value not in possible:
            raise InputError(
                f"{refused} {value}: {name} was trained on labels and runs only with torch in float32; leave "
                f"out {refused}, or measure it in a separate command"
            )
    if common.fast:
        common.note(
            f"note: {name} was trained on labels and runs in float32; --fast only reduces its pictures"
        )


def _facts(command: str, group: ShiftGroup, model_results: Sequence[ShiftResults]) -> dict[str, str]:
    from diptych.evaluation.results.result import versions

    shifts = group.shifts[:1] if group.paired else group.shifts
    return {
        "Command": command,
        **{f"Model {standing.model}": standing.reference.identity for standing in model_results},
        **{f"Data, {data.name}": f"{data.fingerprint}, {data.extent}" for data in (group.reference, *shifts)},
        "Versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
