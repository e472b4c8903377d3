"""`diptych audit` on labelled data: digits, near classes, wording, domains, writing on pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.audit.audit import Seed
from diptych.cli.audit.auditing import run
from diptych.cli.evaluate.measuring import Measuring, measuring
from diptych.cli.shared import options
from diptych.cli.shared.console import note
from diptych.cli.shared.labels import class_texts

if TYPE_CHECKING:
    from diptych.datasets import ImageDataset

Data = Annotated[
    Path,
    typer.Argument(metavar="DATA", show_default=False, help="A folder or archive with a folder per class."),
]


@measuring
def digits(
    data: Annotated[
        Path | None,
        typer.Argument(metavar="DATA", show_default=False, help="Handwritten digits, such as MNIST."),
    ] = None,
    font: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="One more font; may be given several times.")
    ] = None,
    words: Annotated[
        bool, typer.Option("--spelled-out", metavar="", help="Say 'three' in the prompts rather than '3'.")
    ] = False,
    templates: options.Templates = "mnist",
    seed: Seed = 0,
    *,
    asked: Measuring,
) -> None:
    """Digits written by hand against rendered ones, with the same prompts.

    [bold]Examples[/bold]

      diptych audit digits mnist-test.tar.gz

      diptych audit digits --font Handwriting.ttf --report digits
    """
    from diptych.audits.limits.digits import audit_digits

    found = None if data is None else _labelled(data, None, asked, seed)
    run(asked, "digits", audit_digits, found, templates=templates, words=words, fonts=font or ())


@measuring
def fine(
    data: Data,
    groups: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON, group -> classes; else the texts decide.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(metavar="N", min=2, help="How many groups the texts make.")
    ] = None,
    save_groups: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the groups, to ask another model the same.")
    ] = None,
    names: options.Names = None,
    templates: options.Templates = "plain",
    seed: Seed = 0,
    *,
    asked: Measuring,
) -> None:
    """Near classes against distant ones: within groups, between them, and what is confused.

    [bold]Examples[/bold]

      diptych audit fine caltech101-test.tar --names caltech101

      diptych audit fine flowers.tar --groups groups.json --model runs/mine
    """
    from diptych.audits.labels.class_groups import load_groups, write_groups
    from diptych.audits.limits.fine_grained import FineGrainedAudit, audit_fine_grained

    dataset = _labelled(data, names, asked, seed)
    given = None if groups is None else load_groups(groups)

    def measure(*encoder_and_data: Any, **settings: Any) -> FineGrainedAudit:
        found = audit_fine_grained(
            *encoder_and_data, groups=given, count=count, templates=templates, seed=seed, **settings
        )
        if save_groups is not None:
            write_groups(save_groups, found.groups)
            note(f"written: {save_groups}", quiet=asked.quiet)
        return found

    run(asked, "near classes", measure, dataset)


@measuring
def wording(
    data: Data,
    synonyms: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON, class -> other words for it.")
    ] = None,
    misspellings: Annotated[int, typer.Option(metavar="N", min=0, help="Draws of each number of edits.")] = 5,
    names: options.Names = None,
    templates: Annotated[
        str | None, typer.Option(metavar="NAME|TEXT", help="Sentences to try, e.g. imagenet80.")
    ] = None,
    seed: Seed = 0,
    *,
    asked: Measuring,
) -> None:
    """What a prompt's words change: sentences, forms, synonyms, misspellings of the same classes.

    [bold]Examples[/bold]

      diptych audit wording cifar10-test.tar.gz --report wording

      diptych audit wording pets --synonyms synonyms.json --templates imagenet80
    """
    from diptych.audits.labels.phrasings import SENTENCES, load_synonyms
    from diptych.audits.labels.wording import audit_wording
    from diptych.zeroshot.templates import resolve

    run(
        asked,
        "wording",
        audit_wording,
        _labelled(data, names, asked, seed),
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
    asked: Measuring,
) -> None:
    """Photographs, paintings, cartoons, sketches: accuracy in each, and the gap to the best.

    DATA has a folder per domain above the folders of classes; --limit counts within each.

    [bold]Example[/bold]

      diptych audit domains pacs.tar --report domains
    """
    from diptych.audits.limits.domains import audit_domains
    from diptych.datasets import domains as domains_of
    from diptych.datasets.dataset import load_labelled

    words, _ = class_texts(names)
    sets = {one: load_labelled(data, class_names=words, domain=one) for one in domains_of(data)}
    sets = {name: asked.limited(one, seed) for name, one in sets.items()}
    run(asked, "domains", audit_domains, sets, name=data.name.split(".")[0], templates=templates)


@dataclass(frozen=True)
class _TypographicOptions(Measuring):
    """Each picture is asked about many times, so fewer are by default."""

    limit: options.Limit = 200


@measuring
def typographic(
    data: Data,
    size: Annotated[
        list[float] | None,
        typer.Option(metavar="SHARE", help="Height of the line against the picture; several times."),
    ] = None,
    names: options.Names = None,
    templates: options.Templates = "plain",
    seed: Seed = 0,
    *,
    asked: _TypographicOptions,
) -> None:
    """Words written on pictures: does the answer follow what is written?

    [bold]Example[/bold]

      diptych audit typographic caltech101-test.tar --names caltech101 --report typographic
    """
    from diptych.audits.limits.typographic import SIZES, audit_typographic

    run(
        asked,
        "typographic attack",
        audit_typographic,
        _labelled(data, names, asked, seed),
        templates=templates,
        sizes=tuple(size) if size else SIZES,
        limit=None,
        seed=seed,
    )


def _labelled(data: Path, names: str | None, asked: Measuring, seed: int) -> ImageDataset:
    """The data under the words that --names gives its classes."""
    from diptych.datasets import load_labelled

    words, _ = class_texts(names)
    return asked.limited(load_labelled(data, class_names=words), seed)
