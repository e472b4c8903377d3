"""What `diptych evaluate zero-shot` measures on: own pictures in any layout, or data sets known by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from diptych.cli.shared.console import note
from diptych.cli.shared.labels import class_texts
from diptych.errors import DataError, InputError

if TYPE_CHECKING:
    from diptych.datasets import ImageDataset
    from diptych.datasets.parts import Part
    from diptych.evaluation import Measure


@dataclass(frozen=True)
class Choice:
    """What the command line says of the pictures and their names."""

    names: str | None
    templates: str | None
    only: Path | None
    domain: str | None
    part: str


def open_own(paths: Sequence[Path], choice: Choice) -> list[Measure]:
    """A measure for each path, or for each of its domains; prompts of the files, unless others are given."""
    from diptych.datasets import load_labelled
    from diptych.datasets.multilabel import multi_label_parts
    from diptych.evaluation import Measure

    words, texts = class_texts(choice.names)
    found: list[Measure] = []
    for path in paths:
        if path.is_dir() and multi_label_parts(path):
            found.append(_multi_label(path, choice))
            continue
        _hint(path, choice)
        for one in _domains(path) if choice.domain == "each" else [choice.domain]:
            dataset = load_labelled(path, class_names=words, domain=one, part=part_of(choice.part))
            dataset = _only(dataset, choice.only)
            named = {name: texts[name] for name in dataset.class_names} if texts else None
            found.append(Measure(dataset, named, choice.templates or dataset.templates or "plain"))
    return found


def _multi_label(path: Path, choice: Choice) -> Measure:
    """The measure of pictures with several classes each: VOC's folder, or shards."""
    from diptych.datasets import load_multi_label
    from diptych.evaluation import Measure

    if choice.only is not None or choice.domain is not None or choice.names is not None:
        raise InputError(
            f"{path} has several classes a picture, named by its lists: leave --names, --only, --domain out"
        )
    dataset = load_multi_label(path, part=part_of(choice.part))
    return Measure(dataset, templates=choice.templates or "plain")


def _hint(path: Path, choice: Choice) -> None:
    """Say that a data set is known where its own class names and prompts would give another figure."""
    from diptych.datasets.discovery import recognise

    known = recognise(path.name)
    if known is None or not (known.prompts or known.words):
        return  # --dataset would take the names of the folders, too
    if choice.names is None and choice.templates is None and choice.only is None:
        words = "the class names and prompts of the paper" if known.prompts else "class names of its own"
        note(
            f"{path.name} has the name of a known data set, {known.name}: --dataset {known.name} takes "
            f"{words}, and gives other figures than the names of its folders"
        )


def open_known(roots: Sequence[Path], wanted: Sequence[str], choice: Choice) -> list[Measure]:
    """A measure for each known data set, or for each of its domains."""
    from diptych.datasets import domains, find_dataset
    from diptych.evaluation import measure_known

    if len(roots) != 1:
        raise InputError(f"--dataset looks in one folder, and {len(roots)} were given: run it for each")
    if choice.names is not None or choice.only is not None:
        raise InputError(
            "--dataset brings its own class names: leave --names and --only out, or give the path of the "
            "pictures without --dataset"
        )
    found, part = [], part_of(choice.part)
    for place in [find_dataset(roots[0], name) for name in wanted]:  # all of them, before any is opened
        each = [choice.domain]
        if choice.domain is not None and not place.known.domains:
            raise DataError(f"{place.known.name} has no domains: leave --domain out")
        if choice.domain == "each":
            each = [one for path in place.parts.get(part, ()) for one in domains(path)]
        found += [measure_known(place, part, domain=one, templates=choice.templates) for one in each]
    return found


def part_of(part: str) -> Part:
    """The value of --part, checked."""
    from diptych.datasets.parts import PARTS

    if part not in PARTS:
        raise typer.BadParameter(f"--part takes {', '.join(PARTS)}, not {part!r}")
    return part


def _domains(path: Path) -> tuple[str, ...]:
    """The folders above the classes, of which there must be some."""
    from diptych.datasets import domains

    found = domains(path)
    if not found:
        raise DataError(
            f"{path} has no folders above its classes, so --domain each has nothing to go through: expected "
            "<domain>/<class>/<file>; leave --domain out to measure all pictures together"
        )
    return found


def _only(dataset: ImageDataset, path: Path | None) -> ImageDataset:
    from diptych.zeroshot.label_files import read_labels_file

    labels: Any = None if path is None else list(read_labels_file(path))
    return dataset if labels is None else dataset.subset(labels)
