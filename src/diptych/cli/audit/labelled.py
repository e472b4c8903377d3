"""`diptych audit` of labels: digits, similar classes, wording, domains, text on pictures, lists of labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.audit.auditing import Seed, run_audit
from diptych.cli.shared import options
from diptych.cli.shared.console import note
from diptych.cli.shared.labels import class_texts
from diptych.cli.shared.measuring import MeasureOptions, measuring
from diptych.cli.shared.options import argument, flag, option

if TYPE_CHECKING:
    from diptych.datasets import ImageDataset

Data = Annotated[Path, argument("DATA", "Labelled pictures: a folder or archive with a folder per class.")]


@measuring
def digits(
    data: Annotated[Path | None, argument("DATA", "Handwritten digits, such as MNIST.")] = None,
    font: Annotated[list[Path] | None, option("FILE", "A further font; repeat it for several.")] = None,
    words: Annotated[bool, flag("--spelled-out", "Write 'three' instead of '3' in the prompts.")] = False,
    templates: options.Templates = "mnist",
    seed: Seed = 0,
    *,
    common: MeasureOptions,
) -> None:
    """Audit handwritten digits against rendered ones, with the same prompts.

    [bold]Examples[/bold]

      diptych audit digits mnist-test.tar.gz

      diptych audit digits --font Handwriting.ttf --report digits
    """
    from diptych.audits.limits.digits import audit_digits

    dataset = None if data is None else _labelled(data, None, common, seed)
    run_audit(common, "digits", audit_digits, dataset, templates=templates, words=words, fonts=font or ())


@measuring
def fine(
    data: Data,
    groups: Annotated[
        Path | None, option("FILE", "A JSON file, group -> classes. Default: groups by the texts.")
    ] = None,
    count: Annotated[int | None, option("N", "Number of groups, when made by the texts.", min=2)] = None,
    save_groups: Annotated[
        Path | None, option("FILE", "Save the groups, to audit another model with the same ones.")
    ] = None,
    names: options.Names = None,
    templates: options.Templates = "plain",
    seed: Seed = 0,
    *,
    common: MeasureOptions,
) -> None:
    """Audit similar classes against distant ones: accuracy within and between groups, confusions.

    [bold]Examples[/bold]

      diptych audit fine caltech101-test.tar --names caltech101

      diptych audit fine flowers.tar --groups groups.json --model runs/mine
    """
    from diptych.audits.labels.class_groups import load_groups, write_groups
    from diptych.audits.limits.fine_grained import FineGrainedAudit, audit_fine_grained

    dataset = _labelled(data, names, common, seed)
    loaded = None if groups is None else load_groups(groups)

    def measure(*encoder_and_data: Any, **settings: Any) -> FineGrainedAudit:
        audit = audit_fine_grained(
            *encoder_and_data, groups=loaded, count=count, templates=templates, seed=seed, **settings
        )
        if save_groups is not None:
            write_groups(save_groups, audit.groups)
            note(f"written: {save_groups}", quiet=common.quiet)
        return audit

    run_audit(common, "near classes", measure, dataset)


@measuring
def wording(
    data: Data,
    synonyms: Annotated[Path | None, option("FILE", "A JSON file, class -> synonyms.")] = None,
    misspellings: Annotated[
        int, option("N", "Number of random misspellings for each number of edits.", min=0)
    ] = 5,
    names: options.Names = None,
    templates: Annotated[
        str | None, option("NAME|TEXT", "The prompt templates to compare, e.g. imagenet80.")
    ] = None,
    seed: Seed = 0,
    *,
    common: MeasureOptions,
) -> None:
    """Audit the wording of prompts: sentences, word forms, synonyms and misspellings of the classes.

    [bold]Examples[/bold]

      diptych audit wording cifar10-test.tar.gz --report wording

      diptych audit wording pets --synonyms synonyms.json --templates imagenet80
    """
    from diptych.audits.labels.phrasings import SENTENCES, load_synonyms
    from diptych.audits.labels.wording import audit_wording
    from diptych.zeroshot.templates import resolve

    run_audit(
        common,
        "wording",
        audit_wording,
        _labelled(data, names, common, seed),
        sentences=SENTENCES if templates is None else resolve(templates),
        synonyms=None if synonyms is None else load_synonyms(synonyms),
        misspellings=misspellings,
        seed=seed,
    )


@measuring
def domains(
    data: Data,
    names: options.Names = None,
    templates: options.Templates = "plain",
    seed: Seed = 0,
    *,
    common: MeasureOptions,
) -> None:
    """Audit domains such as photographs, paintings and sketches: accuracy in each, gap to the best.

    DATA has a folder per domain, which holds a folder per class; --limit applies
    to each domain.

    [bold]Example[/bold]

      diptych audit domains pacs.tar --report domains
    """
    from diptych.audits.limits.domains import audit_domains
    from diptych.datasets import domains as domains_of
    from diptych.datasets.dataset import load_labelled

    words, _ = class_texts(names)
    datasets = {
        domain: common.limited(load_labelled(data, class_names=words, domain=domain), seed)
        for domain in domains_of(data)
    }
    run_audit(common, "domains", audit_domains, datasets, name=data.name.split(".")[0], templates=templates)


@dataclass(frozen=True)
class _TypographicOptions(MeasureOptions):
    """Each picture is classified many times, so the default limit is low."""

    limit: options.Limit = 200


@measuring
def typographic(
    data: Data,
    size: Annotated[
        list[float] | None,
        option("SHARE", "Height of the text as a fraction of the picture; repeat it for several."),
    ] = None,
    names: options.Names = None,
    templates: options.Templates = "plain",
    seed: Seed = 0,
    *,
    common: _TypographicOptions,
) -> None:
    """Audit the typographic attack: does text on a picture change the answer?

    [bold]Example[/bold]

      diptych audit typographic caltech101-test.tar --names caltech101 --report typographic
    """
    from diptych.audits.limits.typographic import SIZES, audit_typographic

    run_audit(
        common,
        "typographic attack",
        audit_typographic,
        _labelled(data, names, common, seed),
        templates=templates,
        sizes=tuple(size) if size else SIZES,
        limit=None,
        seed=seed,
    )


@measuring
def classes(
    labels: Annotated[
        Path, argument("LABELS", "A file of labels: one per line, or JSON, a list or name -> texts.")
    ],
    sample: Annotated[Path | None, option("DATA", "Sample pictures of the kind to be classified.")] = None,
    background: Annotated[
        Path | None, option("DATA", "Pictures that show none of the labels. Default: generated ones.")
    ] = None,
    add: Annotated[
        list[str] | None, option("NAME", "Show what adding this label would change; repeat it for several.")
    ] = None,
    remove: Annotated[
        list[str] | None, option("NAME", "Show what removing this label would change; repeat it for several.")
    ] = None,
    templates: options.Templates = "plain",
    seed: Seed = 0,
    *,
    common: MeasureOptions,
) -> None:
    """Check a list of labels: too general, too similar or harmful ones, and missing ones.

    Exit status 1 with a serious warning: a label that harms or degrades people,
    appears twice, or attracts pictures that fit no other; or no label for
    "other" while many answers are unsure. With notices only, the status is 0.

    [bold]Examples[/bold]

      diptych audit classes labels.txt

      diptych audit classes labels.txt --sample photos --add "other"
    """
    from diptych.audits.bias.people import load_pictures
    from diptych.audits.labels.class_design import audit_classes
    from diptych.audits.labels.class_design_result import ClassDesignAudit
    from diptych.zeroshot.label_files import read_labels_file

    names = read_labels_file(labels)
    audit = run_audit(
        common,
        "classes",
        audit_classes,
        names,
        None if sample is None else common.limited(load_pictures(sample), seed),
        background=None if background is None else common.limited(load_pictures(background), seed),
        add=tuple(add or ()),
        remove=tuple(remove or ()),
        templates=templates,
        seed=seed,
    )
    if isinstance(audit, ClassDesignAudit) and audit.serious:
        raise typer.Exit(1)


def _labelled(data: Path, names: str | None, common: MeasureOptions, seed: int) -> ImageDataset:
    """Load labelled data with the class names of --names, sampled by --limit."""
    from diptych.datasets import load_labelled

    words, _ = class_texts(names)
    return common.limited(load_labelled(data, class_names=words), seed)
