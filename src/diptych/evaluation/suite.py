"""The whole evaluation of a model on a folder of known data sets: which steps it allows, measured, shown.

A step is a data set with a protocol; it gives results, and sections of the report. What was measured before,
of the same model, pictures and options, is taken from the folder of results, so that a suite that was stopped
goes on. The protocols are their own files' business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias, Unpack

from diptych.datasets.dataset import ImageDataset, Pictures
from diptych.datasets.discovery import Place, there
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
from diptych.evaluation.robustness.shifts import ShiftGroup, Standing, measure
from diptych.files.disk import file_stem, write_bytes
from diptych.reports import Cell, Report, Section, Table

Part: TypeAlias = Literal["zero-shot", "retrieval", "probes", "robustness"]
FORMAT = 6  # of a kept step: which results in which order, by which solver
SHIFTS = "Under shift"  # heading of what is left on other pictures
PARTS: tuple[Part, ...] = ("zero-shot", "retrieval", "probes", "robustness")

_REFERENCE = ("photo", "real", "original")  # what the domain of ordinary photographs is called


@dataclass(frozen=True)
class Options:
    """What a suite is to cover.

    Attributes
    ----------
    parts : sequence of Part
    only : sequence of str
        Names of data sets; empty: all that are there.
    limit : int or None
        Pictures of each test part at most, drawn by class.
    train_limit : int
        Of each training part at most, drawn by class: what a linear probe's sweep costs goes with it.
    shots, seeds
        As for `evaluate_few_shot`.
    corrupt : str
        The data set whose pictures are corrupted; "": CIFAR-10, or the first one.
    corrupt_limit : int
        Of it, drawn by class.
    severities : sequence of int
    """

    parts: Sequence[Part] = PARTS
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
    title : str
    part : Part
    datasets : sequence of Pictures
        All that are read.
    measure : callable
        From an encoder and settings to results, the one that stands for the others first.
    options : mapping
        What else decides the figures.
    compared : callable, optional
        Of a step about robustness, from the results to the comparison that they make.
    """

    title: str
    part: Part
    datasets: Sequence[Pictures]
    measure: Callable[[Encoder, Settings], Sequence[Result]]
    options: Mapping[str, Any] = field(default_factory=dict)
    compared: Callable[[Sequence[Result]], RobustnessComparison] | None = None

    @property
    def pictures(self) -> int:
        """How many are read."""
        return sum(map(len, self.datasets))


def plan(root: str | Path, options: Options = Options()) -> list[Step]:
    """The steps that a folder of data sets allows.

    Raises
    ------
    DataError
        The folder holds no known data set, or none of the wanted ones.
    """
    places = there(root)
    wanted = [name.lower() for name in options.only]
    named = {name for place in places for name in (place.known.name, place.known.name.split("/")[-1])}
    if unknown := [name for name in wanted if name not in named]:
        raise DataError(
            f"{root} holds no {', '.join(unknown)}: it has {', '.join(sorted(named)) or 'nothing'}"
        )
    if wanted:
        places = [p for p in places if p.known.name in wanted or p.known.name.split("/")[-1] in wanted]
    shelf = _Shelf(places, options.limit)
    makers = {"zero-shot": _naming, "retrieval": _finding, "probes": _learning, "robustness": _shifting}
    steps = [step for part in options.parts for step in makers[part](shelf, options)]
    if not steps:
        raise DataError(
            f"{root} holds no known data set for {', '.join(options.parts)}: `diptych evaluate datasets` "
            "lists the names it is looked for by"
        )
    return steps


def run_step(
    step: Step, encoder: Encoder, folder: Path | None = None, **settings: Unpack[Settings]
) -> tuple[Sequence[Result], bool]:
    """Measure a step, or take it from the folder of results; and whether it was taken.

    Parameters
    ----------
    step : Step
    encoder : Encoder
    folder : Path, optional
        Where results are kept.
    **settings
        See `Settings`.
    """
    setup = Setup.of(**settings)
    key = {
        "format": FORMAT,
        "title": step.title,
        "identity": encoder.identity,
        "precision": getattr(encoder, "precision", "float32"),
        "exact": setup.exact,
        "allow_overlap": setup.allow_overlap,  # without it, results on shared pictures are not taken up
        "data": [one.fingerprint for one in step.datasets],
        "options": dict(step.options),
        "diptych": version("diptych"),
    }
    path = None if folder is None else folder / _file_of(step)
    if path is not None and _key(path) == json.loads(json.dumps(key)):
        return read_results(path), True
    results = step.measure(encoder, settings)
    if path is not None:
        told = {"key": key, "results": [one.to_dict() for one in results]}
        write_bytes(
            path, (json.dumps(told, ensure_ascii=False) + "\n").encode("utf-8", errors="backslashreplace")
        )
    return results, False


def _file_of(step: Step) -> str:
    """Name of the file that a step's results are kept in: titles in any script, each its own."""
    digest = hashlib.blake2b(step.title.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{file_stem(step.title.lower())}-{digest}.json"


def _key(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))["key"]
    except (OSError, ValueError, LookupError, TypeError):
        return None  # not there, or no file of ours: measured and written again


def suite_report(
    done: Sequence[tuple[Step, Sequence[Result]]], *, title: str, facts: Mapping[str, str] | None = None
) -> Report:
    """The report of a suite: all figures first, then the details of each protocol."""
    plain = [one for step, results in done if step.compared is None for one in results]
    listed = {(one.data_fingerprint, one.dataset, one.task): one for one in plain}.values()
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
        *described([one for one in listed if one.task.startswith("zeroshot")]),
        *(few_shot_report(curves).sections if curves else []),
        *(part.within(title) for title, one in shifted.items() for part in robustness_report(one).sections),
    ]
    values = {
        "results": [r.to_dict() for _, results in done for r in results],
        "means": [asdict(one) for one in means],
    }
    return Report(title, sections, values, facts or {})


def _shifts(compared: Iterable[RobustnessComparison]) -> Section:
    """What is left under shift, one line a step."""
    rows: list[list[Cell]] = []
    for found in compared:
        one = found.models[found.main][0]
        rows.append([found.group.reference.name, one.reference, one.shifted, one.drop])
    caption = "acc1 on these pictures, its mean over their shifts, and how much is lost; 95 % intervals."
    return Section(
        SHIFTS, [], {"under-shift": Table(["data set", "acc1", "under shift", "lost"], rows, caption)}
    )


# ---- which steps there are ----


class _Shelf:
    """Data sets that are there; each is opened once, however many steps read it."""

    def __init__(self, places: Sequence[Place], limit: int | None = None) -> None:
        self.places, self.limit = places, limit
        self._open: dict[tuple[str, str | None], Measure] = {}

    def measure(self, place: Place, domain: str | None = None) -> Measure:
        """A data set, or one of its domains, with its protocol."""
        key = (place.known.name, domain)
        if key not in self._open:
            whole = measure_known(place, domain=domain)
            part = whole.dataset if self.limit is None else whole.dataset.sample(self.limit)
            self._open[key] = replace(whole, dataset=part)
        return self._open[key]

    def whole(self, *, retrieval: bool) -> Iterator[tuple[Place, Measure]]:
        """Those of one kind that are not measured domain by domain."""
        for place in self.places:
            if (place.known.task == "retrieval") == retrieval and not place.known.domains:
                yield place, self.measure(place)

    def domains(self) -> Iterator[tuple[Place, tuple[str, ...]]]:
        """Those that are, with the names of their domains."""
        for place in self.places:
            if place.known.domains:
                yield place, domains(place.parts["test"][0])


def _naming(shelf: _Shelf, options: Options) -> Iterator[Step]:
    """Zero-shot classification, domains apart."""
    measures = [one for _, one in shelf.whole(retrieval=False)]
    for place, names in shelf.domains():
        measures += [shelf.measure(place, name) for name in names]
    for one in measures:
        yield _measured(one, "zero-shot")


def _finding(shelf: _Shelf, options: Options) -> Iterator[Step]:
    """Retrieval both ways."""
    for _, one in shelf.whole(retrieval=True):
        yield _measured(one, "retrieval")


def _measured(one: Measure, part: Part) -> Step:
    def run(encoder: Encoder, settings: Settings) -> Sequence[Result]:
        return [one(encoder, **settings)]

    prompts = one.templates if isinstance(one.templates, str | None) else list(one.templates)
    return Step(f"{one.name}, {part}", part, [one.dataset], run, {"templates": prompts})


def _learning(shelf: _Shelf, options: Options) -> Iterator[Step]:
    """Few-shot curves with the probe and zero-shot, and neighbours, where there is a training part."""
    for place, one in shelf.whole(retrieval=False):
        if "train" not in place.parts or not isinstance(one.dataset, ImageDataset):
            continue
        train = place.open("train")
        if isinstance(train, ImageDataset):
            yield _taught(one, one.dataset, train.sample(options.train_limit), options)


def _taught(one: Measure, test: ImageDataset, train: ImageDataset, options: Options) -> Step:
    def run(encoder: Encoder, settings: Settings) -> Sequence[Result]:
        silent: Settings = {**settings, "progress": None}  # these read the same pictures again
        zero_shot = one(encoder, **settings)
        probe = evaluate_linear_probe(encoder, train, test, also=one.also, **silent)
        curve = evaluate_few_shot(encoder, train, test, shots=options.shots, seeds=options.seeds, **silent)
        neighbours = evaluate_knn(encoder, train, test, also=one.also, **silent)
        return [curve, zero_shot, probe, neighbours]

    told = {"shots": list(options.shots), "seeds": options.seeds}
    return Step(f"{one.name}, probes", "probes", [test, train], run, told)


def _shifting(shelf: _Shelf, options: Options) -> Iterator[Step]:
    """Domains against the photographs, and corruptions of one data set."""
    for place, names in shelf.domains():
        reference = next((name for name in _REFERENCE if name in names), None)
        if reference is not None:
            first, *rest = (reference, *(name for name in names if name != reference))
            opened = [shelf.measure(place, name) for name in (first, *rest)]
            yield _shifted(f"{place.known.name}, robustness", opened[0], [one.dataset for one in opened[1:]])
    labelled = [one for _, one in shelf.whole(retrieval=False) if isinstance(one.dataset, ImageDataset)]
    wanted = options.corrupt.split("/")[-1] or "cifar10"
    chosen = [one for one in labelled if one.name.split("/")[-1] == wanted] or labelled[: not options.corrupt]
    if options.corrupt and not chosen:
        raise InputError(f"no labelled data set {options.corrupt!r} to corrupt; there are {_names(labelled)}")
    for one in chosen:
        yield _corrupted(one, options)


def _shifted(title: str, reference: Measure, shifts: Sequence[Pictures]) -> Step:
    datasets = [one for one in (reference.dataset, *shifts) if isinstance(one, ImageDataset)]
    return _robust(title, reference, lambda side: ShiftGroup(datasets[0], datasets[1:]), datasets, {})


def _corrupted(one: Measure, options: Options) -> Step:
    assert isinstance(one.dataset, ImageDataset)
    sample = one.dataset.sample(options.corrupt_limit)
    severities = tuple(options.severities)

    def group(side: int) -> ShiftGroup:
        return ShiftGroup(*corruptions_of(sample, severities=severities, seed=0, side=side))

    copies = [sample] * (1 + len(STANDARD) * len(severities))
    return _robust(f"{one.name}, corruptions", one, group, copies, {"severities": list(severities)})


def _robust(
    title: str,
    one: Measure,
    group: Callable[[int], ShiftGroup],
    datasets: Sequence[Pictures],
    told: Mapping[str, Any],
) -> Step:
    made: dict[str, ShiftGroup] = {}

    def grouped(side: int) -> ShiftGroup:
        return made.setdefault(title, group(side))

    def run(encoder: Encoder, settings: Settings) -> Sequence[Result]:
        shifted = grouped(encoder.input_size)
        names = list(shifted.reference.class_names) if one.names is None else one.names
        scorer = ZeroShotScorer(encoder, names, templates=one.templates)
        found = measure(scorer, shifted, **settings)
        return [found.reference, *found.shifts]

    def compared(results: Sequence[Result]) -> RobustnessComparison:
        first, *rest = results
        shifted = made.get(title) or group(224)  # taken from before: the side plays no part in what is shown
        standing = Standing(first.model, first, rest, {}, shifted.paired)
        return compare_robustness(shifted, [standing])

    return Step(title, "robustness", datasets, run, told, compared)


def _names(measures: Sequence[Measure]) -> str:
    return ", ".join(one.name for one in measures)
