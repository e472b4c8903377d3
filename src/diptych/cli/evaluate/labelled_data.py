"""The data of `diptych evaluate zero-shot`: own pictures in any layout, or data sets known by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared import options
from diptych.cli.shared.console import note
from diptych.cli.shared.labels import class_texts
from diptych.cli.shared.options import option
from diptych.errors import DataError, InputError

if TYPE_CHECKING:
    from diptych.datasets import ImageDataset
    from diptych.datasets.parts import Part
    from diptych.evaluation import Measure


PartName = Annotated[str, option("test|train|val", "The split to measure on, if there are several.")]


@dataclass(frozen=True)
class DataOptions:
    """Options that choose pictures, class names and prompts."""

    names: options.Names = None
    only: Annotated[
        Path | None,
        option("FILE", "Measure only the classes in this file, one per line."),
    ] = None
    domain: Annotated[
        str | None, option("NAME|each", "Measure one folder above the classes; 'each': every one separately.")
    ] = None
    dataset: Annotated[
        list[str] | None,
        option("NAME", "A known data set in PATH, by CLIP_benchmark's name; repeat it for several."),
    ] = None
    part: PartName = "test"
    templates: Annotated[
        str | None,
        option(
            "NAME|TEXT",
            "Prompt templates, e.g. imagenet80. Default: those of the data set, or plain.",
            show_default=False,
        ),
    ] = None


def open_measures(paths: Sequence[Path], choice: DataOptions) -> list[Measure]:
    """The measures of data sets known by name with --dataset, else of own pictures."""
    return _open_known(paths, choice.dataset, choice) if choice.dataset else _open_own(paths, choice)


def _open_own(paths: Sequence[Path], choice: DataOptions) -> list[Measure]:
    """A measure for each path, or for each of its domains; by default with the prompts of the files."""
    from diptych.datasets import load_labelled
    from diptych.datasets.multilabel import multi_label_parts
    from diptych.evaluation import Measure

    words, texts = class_texts(choice.names)
    measures: list[Measure] = []
    for path in paths:
        if path.is_dir() and multi_label_parts(path):
            measures.append(_multi_label(path, choice))
            continue
        _note_known_name(path, choice)
        for domain in _domains(path) if choice.domain == "each" else [choice.domain]:
            dataset = load_labelled(path, class_names=words, domain=domain, part=part_of(choice.part))
            dataset = _only(dataset, choice.only)
            named = {name: texts[name] for name in dataset.class_names} if texts else None
            measures.append(Measure(dataset, named, choice.templates or dataset.templates or "plain"))
    return measures


def _multi_label(path: Path, choice: DataOptions) -> Measure:
    """The measure of a multi-label data set: VOC's folder, or shards."""
    from diptych.datasets import load_multi_label
    from diptych.evaluation import Measure

    if choice.only is not None or choice.domain is not None or choice.names is not None:
        raise InputError(
            f"{path} has several classes per picture and names them itself: leave out --names, --only, "
            "--domain"
        )
    dataset = load_multi_label(path, part=part_of(choice.part))
    return Measure(dataset, templates=choice.templates or "plain")


def _note_known_name(path: Path, choice: DataOptions) -> None:
    """Print a note if a path has the name of a known data set, whose prompts would give other results."""
    from diptych.datasets.discovery import recognise

    dataset = recognise(path.name)
    if dataset is None or not (dataset.prompts or dataset.words):
        return  # --dataset would use the names of the folders, too
    if choice.names is None and choice.templates is None and choice.only is None:
        words = "the class names and prompts of the paper" if dataset.prompts else "class names of its own"
        note(
            f"{path.name} has the name of a known data set: --dataset {dataset.name} uses {words}, and gives "
            "other results than the names of the folders"
        )


def _open_known(roots: Sequence[Path], names: Sequence[str], choice: DataOptions) -> list[Measure]:
    """A measure for each known data set, or for each of its domains."""
    from diptych.datasets import domains, find_dataset
    from diptych.evaluation import measure_known

    if len(roots) != 1:
        raise InputError(f"--dataset takes one folder, but {len(roots)} were given: run the command for each")
    if choice.names is not None or choice.only is not None:
        raise InputError(
            "--dataset sets the class names: leave out --names and --only, or give the path of the pictures "
            "without --dataset"
        )
    measures, part = [], part_of(choice.part)
    locations = [find_dataset(roots[0], name) for name in names]  # a missing one raises before any is opened
    for location in locations:
        chosen = [choice.domain]
        if choice.domain is not None and not location.known.domains:
            raise DataError(f"{location.known.name} has no domains: leave out --domain")
        if choice.domain == "each":
            chosen = [domain for path in location.parts.get(part, ()) for domain in domains(path)]
        measures += [
            measure_known(location, part, domain=domain, templates=choice.templates) for domain in chosen
        ]
    return measures


def part_of(part: str) -> Part:
    """Check the value of --part."""
    from diptych.datasets.parts import PARTS

    if part not in PARTS:
        raise typer.BadParameter(f"--part takes {', '.join(PARTS)}, not {part!r}")
    return part


def _domains(path: Path) -> tuple[str, ...]:
    """The folders above the class folders; at least one."""
    from diptych.datasets import domains

    names = domains(path)
    if not names:
        raise DataError(
            f"{path} has no domains for --domain each: expected <domain>/<class>/<file>; leave out --domain "
            "to measure all pictures together"
        )
    return names


def _only(dataset: ImageDataset, path: Path | None) -> ImageDataset:
    from diptych.zeroshot.label_files import read_labels_file

    labels: Any = None if path is None else list(read_labels_file(path))
    return dataset if labels is None else dataset.subset(labels)
