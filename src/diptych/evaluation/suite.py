"""Evaluation of a model on all known data sets of a folder: planning, measuring and the report.

A step is a data set with a protocol; it gives results, and sections of the report. Results of the same model,
images and options are read from the folder of results, so that an interrupted suite continues.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias, Unpack

from diptych.datasets.dataset import ImageCollection, ImageDataset
from diptych.datasets.discovery import DatasetLocation, available_datasets
from diptych.datasets.formats.class_folders import domains
from diptych.encoder import Encoder
from diptych.errors import DataError, InputError
from diptych.evaluation.probes.few_shot import SEEDS, SHOTS, evaluate_few_shot
from diptych.evaluation.probes.few_shot_report import FewShotRun, few_shot_report, own_metric
from diptych.evaluation.probes.knn import evaluate_knn
from diptych.evaluation.probes.probe import evaluate_linear_probe
from diptych.evaluation.protocols.measures import Measure, measure_known
from diptych.evaluation.protocols.scorers import ZeroShotScorer
from diptych.evaluation.protocols.settings import Settings, Setup
from diptych.evaluation.results.averages import collection_means, means_section
from diptych.evaluation.results.result import Result, read_results
from diptych.evaluation.results.results_report import described, overview
from diptych.evaluation.robustness.corrupted_sets import corruptions_of
from diptych.evaluation.robustness.corruptions import STANDARD
from diptych.evaluation.robustness.robustness_report import robustness_report
from diptych.evaluation.robustness.shift_gaps import RobustnessComparison, compare_robustness
from diptych.evaluation.robustness.shifts import ShiftGroup, ShiftResults, measure_shifts
from diptych.files.disk import file_stem, write_bytes
from diptych.reports import Cell, Report, Section, Table

StepGroup: TypeAlias = Literal["zero-shot", "retrieval", "probes", "robustness"]
FORMAT = 6  # of a stored step: its results, their order, and the solver of probes
SHIFTS = "Under shift"  # heading of the section
PARTS: tuple[StepGroup, ...] = ("zero-shot", "retrieval", "probes", "robustness")

_REFERENCE = ("photo", "real", "original")  # names of the domain of ordinary photographs


@dataclass(frozen=True)
class SuiteOptions:
    """Options of a suite.

    Attributes
    ----------
    only : sequence of str
        Names of data sets; empty: all.
    limit : int or None
        Maximum number of images of each test set, sampled by class.
    train_limit : int
        Maximum number of images of each training set, sampled by class; the cost of linear probes is
        proportional to it.
    shots, seeds
        As for `evaluate_few_shot`.
    corrupt : str
        The data set whose images are corrupted; "": CIFAR-10, or the first one.
    corrupt_limit : int
        Maximum number of its images, sampled by class.
    """

    parts: Sequence[StepGroup] = PARTS
    only: Sequence[str] = ()
    limit: int | None = None
    train_limit: int = 5000
    shots: Sequence[int] = SHOTS
    seeds: int = SEEDS
    corrupt: str = ""
    corrupt_limit: int = 500
    severities: Sequence[int] = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Step:
    """A data set with a protocol.

    Attributes
    ----------
    datasets : sequence of ImageCollection
        All data sets that the step reads.
    measure : callable
        From an encoder and settings to results, the main one first.
    options : mapping
        Other settings that the figures depend on.
    compared : callable, optional
        For robustness steps, from the results to the comparison.
    """

    title: str
    part: StepGroup
    datasets: Sequence[ImageCollection]
    measure: Callable[[Encoder, Settings], Sequence[Result]]
    options: Mapping[str, Any] = field(default_factory=dict)
    compared: Callable[[Sequence[Result]], RobustnessComparison] | None = None

    @property
    def pictures(self) -> int:
        """Number of images to read."""
        return sum(map(len, self.datasets))


def plan(root: str | Path, options: SuiteOptions = SuiteOptions()) -> list[Step]:
    """Plan the steps for a folder of data sets.

    Raises
    ------
    DataError
        The folder has no known data set, or none of the requested ones.
    """
    locations = available_datasets(root)
    wanted = [name.lower() for name in options.only]
    names = [{location.known.name, location.known.name.split("/")[-1]} for location in locations]
    named = set().union(*names)  # a data set is known with and without its prefix, such as vtab/
    if unknown := [name for name in wanted if name not in named]:
        raise DataError(
            f"{root} holds no {', '.join(unknown)}: it has {', '.join(sorted(named)) or 'nothing'}"
        )
    if wanted:
        locations = [location for location, own in zip(locations, names, strict=True) if own & set(wanted)]
    data = _OpenDatasets(locations, options.limit)
    makers = {
        "zero-shot": _zero_shot_steps,
        "retrieval": _retrieval_steps,
        "probes": _probe_steps,
        "robustness": _robustness_steps,
    }
    steps = [step for part in options.parts for step in makers[part](data, options)]
    if not steps:
        raise DataError(
            f"{root} holds no known data set for {', '.join(options.parts)}: `diptych evaluate datasets` "
            "lists the known names"
        )
    return steps


def run_step(
    step: Step, encoder: Encoder, folder: Path | None = None, **settings: Unpack[Settings]
) -> tuple[Sequence[Result], bool]:
    """Measure a step, or read its results from a folder.

    Parameters
    ----------
    folder : Path, optional
        Where results are stored.
    **settings
        See `Settings`.

    Returns
    -------
    results, reused : sequence of Result, bool
        `reused`: whether the results were read.
    """
    setup = Setup.of(**settings)
    key = {
        "format": FORMAT,
        "title": step.title,
        "identity": encoder.identity,
        "precision": getattr(encoder, "precision", "float32"),
        "exact": setup.exact,
        "allow_overlap": setup.allow_overlap,  # without it, results on shared images are not reused
        "data": [dataset.fingerprint for dataset in step.datasets],
        "options": dict(step.options),
        "diptych": version("diptych"),
    }
    path = None if folder is None else folder / _result_file(step)
    if path is not None and _stored_key(path) == json.loads(json.dumps(key)):
        return read_results(path), True
    results = step.measure(encoder, settings)
    if path is not None:
        content = {"key": key, "results": [result.to_dict() for result in results]}
        write_bytes(
            path, (json.dumps(content, ensure_ascii=False) + "\n").encode("utf-8", errors="backslashreplace")
        )
    return results, False


def _result_file(step: Step) -> str:
    """File name of a step's results: unique for titles in any script, by a hash."""
    digest = hashlib.blake2b(step.title.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{file_stem(step.title.lower())}-{digest}.json"


def _stored_key(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))["key"]
    except (OSError, ValueError, LookupError, TypeError):
        return None  # missing, or another kind of file: it is measured and written again


def suite_report(
    done: Sequence[tuple[Step, Sequence[Result]]], *, title: str, facts: Mapping[str, str] | None = None
) -> Report:
    """Build the report of a suite: all figures first, then the details of each protocol."""
    plain = [result for step, results in done if step.compared is None for result in results]
    listed = {(result.data_fingerprint, result.dataset, result.task): result for result in plain}.values()
    curves = [
        FewShotRun(results[0], results[1], results[2], own_metric(results[0].dataset))
        for step, results in done
        if step.part == "probes"
    ]
    shifted = {step.title: step.compared(results) for step, results in done if step.compared is not None}
    means = collection_means(listed)
    sections = [
        *([overview(list(listed))] if listed else []),
        *([means_section(means)] if means else []),
        *([_shifts(shifted.values())] if shifted else []),
        *described([result for result in listed if result.task.startswith("zeroshot")]),
        *(few_shot_report(curves).sections if curves else []),
        *(
            part.within(title)
            for title, comparison in shifted.items()
            for part in robustness_report(comparison).sections
        ),
    ]
    values = {
        "results": [r.to_dict() for _, results in done for r in results],
        "means": [asdict(mean) for mean in means],
    }
    return Report(title, sections, values, facts or {})


def _shifts(compared: Iterable[RobustnessComparison]) -> Section:
    """Table of accuracies under shift, one row per step."""
    rows: list[list[Cell]] = []
    for comparison in compared:
        model = comparison.models[comparison.main][0]
        rows.append([comparison.group.reference.name, model.reference, model.shifted, model.drop])
    caption = "acc1 on these pictures, its mean over their shifts, and how much is lost; 95 % intervals."
    table = Table(["data set", "acc1", "under shift", "lost"], rows, caption)
    return Section(SHIFTS, [], {"under-shift": table})


# ---- planning of steps ----


class _OpenDatasets:
    """Data sets of a folder; each is opened once, even if several steps read it."""

    def __init__(self, locations: Sequence[DatasetLocation], limit: int | None = None) -> None:
        self.locations, self.limit = locations, limit
        self._open: dict[tuple[str, str | None], Measure] = {}

    def measure(self, location: DatasetLocation, domain: str | None = None) -> Measure:
        """The measure of a data set, or of one of its domains."""
        key = (location.known.name, domain)
        if key not in self._open:
            whole = measure_known(location, domain=domain)
            part = whole.dataset if self.limit is None else whole.dataset.sample(self.limit)
            self._open[key] = replace(whole, dataset=part)
        return self._open[key]

    def whole(self, *, retrieval: bool) -> Iterator[tuple[DatasetLocation, Measure]]:
        """Yield the data sets of one task that are not divided into domains."""
        for location in self.locations:
            if (location.known.task == "retrieval") == retrieval and not location.known.domains:
                yield location, self.measure(location)

    def domains(self) -> Iterator[tuple[DatasetLocation, tuple[str, ...]]]:
        """Yield the data sets that are divided into domains, with the names of these."""
        for location in self.locations:
            if location.known.domains:
                yield location, domains(location.parts["test"][0])


def _zero_shot_steps(data: _OpenDatasets, options: SuiteOptions) -> Iterator[Step]:
    """Zero-shot classification of each data set and each domain."""
    measures = [measure for _, measure in data.whole(retrieval=False)]
    for location, names in data.domains():
        measures += [data.measure(location, name) for name in names]
    for measure in measures:
        yield _measure_step(measure, "zero-shot")


def _retrieval_steps(data: _OpenDatasets, options: SuiteOptions) -> Iterator[Step]:
    """Retrieval in both directions."""
    for _, measure in data.whole(retrieval=True):
        yield _measure_step(measure, "retrieval")


def _measure_step(measure: Measure, part: StepGroup) -> Step:
    def run(encoder: Encoder, settings: Settings) -> Sequence[Result]:
        return [measure(encoder, **settings)]

    prompts = measure.templates if isinstance(measure.templates, str | None) else list(measure.templates)
    return Step(f"{measure.name}, {part}", part, [measure.dataset], run, {"templates": prompts})


def _probe_steps(data: _OpenDatasets, options: SuiteOptions) -> Iterator[Step]:
    """Few-shot curves, linear probe, zero-shot and nearest neighbours for data sets with a training set."""
    for location, measure in data.whole(retrieval=False):
        if "train" not in location.parts or not isinstance(measure.dataset, ImageDataset):
            continue
        train = location.open("train")
        if isinstance(train, ImageDataset):
            yield _probe_step(measure, measure.dataset, train.sample(options.train_limit), options)


def _probe_step(measure: Measure, test: ImageDataset, train: ImageDataset, options: SuiteOptions) -> Step:
    def run(encoder: Encoder, settings: Settings) -> Sequence[Result]:
        silent: Settings = {**settings, "progress": None}  # these read the same pictures again
        zero_shot = measure(encoder, **settings)
        probe = evaluate_linear_probe(encoder, train, test, also=measure.also, **silent)
        curve = evaluate_few_shot(encoder, train, test, shots=options.shots, seeds=options.seeds, **silent)
        neighbours = evaluate_knn(encoder, train, test, also=measure.also, **silent)
        return [curve, zero_shot, probe, neighbours]

    options_used = {"shots": list(options.shots), "seeds": options.seeds}
    return Step(f"{measure.name}, probes", "probes", [test, train], run, options_used)


def _robustness_steps(data: _OpenDatasets, options: SuiteOptions) -> Iterator[Step]:
    """Domains compared with photographs, and corruptions of one data set."""
    for location, names in data.domains():
        reference = next((name for name in _REFERENCE if name in names), None)
        if reference is not None:
            first, *rest = (reference, *(name for name in names if name != reference))
            opened = [data.measure(location, name) for name in (first, *rest)]
            yield _domain_step(
                f"{location.known.name}, robustness", opened[0], [measure.dataset for measure in opened[1:]]
            )
    labelled = [
        measure for _, measure in data.whole(retrieval=False) if isinstance(measure.dataset, ImageDataset)
    ]
    wanted = options.corrupt.split("/")[-1] or "cifar10"
    named = [measure for measure in labelled if measure.name.split("/")[-1] == wanted]
    chosen = named or labelled[: not options.corrupt]  # without a choice and CIFAR-10, the first one
    if options.corrupt and not chosen:
        raise InputError(f"no labelled data set {options.corrupt!r} to corrupt; there are {_names(labelled)}")
    for measure in chosen:
        yield _corruption_step(measure, options)


def _domain_step(title: str, reference: Measure, shifts: Sequence[ImageCollection]) -> Step:
    datasets = [dataset for dataset in (reference.dataset, *shifts) if isinstance(dataset, ImageDataset)]
    return _robustness_step(
        title, reference, lambda side: ShiftGroup(datasets[0], datasets[1:]), datasets, {}
    )


def _corruption_step(measure: Measure, options: SuiteOptions) -> Step:
    assert isinstance(measure.dataset, ImageDataset)
    sample = measure.dataset.sample(options.corrupt_limit)
    severities = tuple(options.severities)

    def group(side: int) -> ShiftGroup:
        return ShiftGroup(*corruptions_of(sample, severities=severities, seed=0, side=side))

    copies = [sample] * (1 + len(STANDARD) * len(severities))
    return _robustness_step(
        f"{measure.name}, corruptions", measure, group, copies, {"severities": list(severities)}
    )


def _robustness_step(
    title: str,
    measure: Measure,
    group: Callable[[int], ShiftGroup],
    datasets: Sequence[ImageCollection],
    options_used: Mapping[str, Any],
) -> Step:
    made: dict[str, ShiftGroup] = {}

    def grouped(side: int) -> ShiftGroup:
        return made.setdefault(title, group(side))

    def run(encoder: Encoder, settings: Settings) -> Sequence[Result]:
        shifted = grouped(encoder.input_size)
        names = list(shifted.reference.class_names) if measure.names is None else measure.names
        scorer = ZeroShotScorer(encoder, names, templates=measure.templates)
        measured = measure_shifts(scorer, shifted, **settings)
        return [measured.reference, *measured.shifts]

    def compared(results: Sequence[Result]) -> RobustnessComparison:
        first, *rest = results
        shifted = made.get(title) or group(224)  # for reused results: the report does not depend on the side
        model_result = ShiftResults(first.model, first, rest, {}, shifted.paired)
        return compare_robustness(shifted, [model_result])

    return Step(title, "robustness", datasets, run, options_used, compared)


def _names(measures: Sequence[Measure]) -> str:
    return ", ".join(measure.name for measure in measures)
