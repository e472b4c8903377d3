"""`diptych demo`: classify sample pictures and draw a contact sheet."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared import options
from diptych.cli.shared.console import print_json, print_message
from diptych.cli.shared.encoders import EncoderSettings
from diptych.cli.shared.option_groups import with_groups
from diptych.cli.shared.options import argument, option
from diptych.cli.shared.own_files import SOFTWARE, Force, check_overwrite
from diptych.cli.shared.reporting import print_lines
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.backends import ExportedEncoder, TorchEncoder
    from diptych.cli.classify.contact_sheet import Card
    from diptych.encoder import Encoder
    from diptych.zeroshot import ZeroShotClassifier

SHOWN = 3  # labels under each picture
# Beside the built-in labels, for pictures of the user: these often show people, and without a label of people
# each person would get the nearest label of a thing or an animal.
PERSON = "person"


@dataclass(frozen=True)
class DemoLabel:
    """A built-in label: a word, a sentence with that word, and the sample picture that shows it."""

    word: str
    sentence: str
    picture: str  # the name of its file in scikit-image; "" for labels that no sample shows


@dataclass(frozen=True)
class SampleAccuracy:
    """How many of the sample pictures get the correct label, from single words and from sentences."""

    pictures: int
    labels: int
    words: int
    sentences: int

    @property
    def chance(self) -> float:
        """The expected number of correct labels of a random choice."""
        return self.pictures / self.labels

    @property
    def text(self) -> str:
        """The accuracy as a sentence.

        Examples
        --------
        >>> SampleAccuracy(pictures=8, labels=40, words=7, sentences=6).text
        '7 of 8 right with single words, 6 of 8 with sentences; chance is 0.2.'
        """
        return (
            f"{self.words} of {self.pictures} right with single words, "
            f"{self.sentences} of {self.pictures} with sentences; chance is {self.chance:.1f}."
        )


@dataclass(frozen=True)
class DemoModelOptions(EncoderSettings):
    """The model, and how it computes."""

    model: options.Model = "default"
    pretrained: options.Pretrained = None
    device: options.Device = "auto"
    precision: options.Precision = "auto"
    threads: options.Threads = "auto"


@with_groups
def demo(
    pictures: Annotated[
        list[str] | None, argument("PICTURE", "Your own pictures or folder. Default: sample pictures.")
    ] = None,
    label: Annotated[
        list[str] | None,
        option("TEXT", "Your own label; repeat it for several. Default: 40 built-in ones.", "--label", "-l"),
    ] = None,
    out: Annotated[Path, option("DIR", "The folder for the contact sheet.", "--out", "-o")] = Path("out"),
    force: Force = False,
    limit: Annotated[int, option("N", "Use the first N pictures.", min=1)] = 24,
    *,
    output: options.OutputOptions,
    encoding: DemoModelOptions,
) -> None:
    """Classify sample pictures by labels in words and draw a contact sheet, as PNG and HTML.

    The sample pictures are classified among a fixed list of 40 words, and a
    second time among a sentence for each word. Words and sentences were
    written before any model was tried on them.

    [bold]Examples[/bold]

      diptych demo

      diptych demo ~/Pictures --label "a beach" --label "a birthday" --label "a dog"
    """
    from diptych.cli.classify.pictures import gather
    from diptych.cli.shared.labels import distinct, prompts_for
    from diptych.zeroshot import ZeroShotClassifier

    check_overwrite(*_files(out), force=force)
    words = [entry.word for entry in demo_labels()]
    labels = distinct(label or ([*words, PERSON] if pictures else words))
    names = (
        gather(pictures, allow_urls=False, stdin=typer.get_text_stream("stdin")) if pictures else samples()
    )
    encoder = encoding.open(encoding.model, encoding.pretrained)
    classifier = ZeroShotClassifier(encoder, templates=None).fit(prompts_for(labels))
    cards, failures = _cards(classifier, names[:limit])
    for name, reason in failures.items():
        print_message("failed", f"{name}: {reason}")
    accuracy = sample_accuracy(encoder, cards) if cards and not pictures and not label else None
    if cards:
        _write(cards, len(labels), encoder, out, accuracy)
    if output.json:
        print_json(_to_json(encoder, labels, cards, failures, accuracy, out))
    elif cards:
        _print(cards, accuracy, out)
        output.note(next_steps(cards[0].name))
    if failures:
        raise typer.Exit(1 if cards else 2)


@cache
def demo_labels() -> tuple[DemoLabel, ...]:
    """The built-in labels, those of the sample pictures first.

    Examples
    --------
    >>> len(demo_labels()), demo_labels()[0].word, demo_labels()[-1].picture
    (40, 'cat', '')
    """
    text = (files("diptych.cli.classify") / "data" / "demo_labels.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(DemoLabel(row["label"], row["sentence"], row["picture"]) for row in rows)


def samples() -> list[str]:
    """Paths of the photographs bundled with scikit-image.

    Raises
    ------
    MissingExtraError
        scikit-image is not installed.
    """
    from diptych.extras import require

    home = require("skimage", extra="demo", purpose="show its sample pictures").__file__
    folder = Path(str(home)).parent / "data"
    names = [entry.picture for entry in demo_labels() if entry.picture]
    return [str(folder / name) for name in names if (folder / name).is_file()]


def sample_accuracy(encoder: Encoder, cards: Sequence[Card]) -> SampleAccuracy:
    """Count the sample pictures that get the correct label.

    Parameters
    ----------
    encoder : Encoder
    cards : sequence of Card
        Sample pictures, classified by the words of `demo_labels`.
    """
    from diptych.zeroshot import ZeroShotClassifier

    labels = demo_labels()
    truth = [_true_label(card) for card in cards]
    by_sentence = ZeroShotClassifier(encoder, templates=None).fit([entry.sentence for entry in labels])
    predicted = by_sentence.predict([card.picture for card in cards])
    return SampleAccuracy(
        pictures=len(cards),
        labels=len(labels),
        words=sum(card.scores[0][0] == entry.word for card, entry in zip(cards, truth, strict=True)),
        sentences=sum(best == entry.sentence for best, entry in zip(predicted, truth, strict=True)),
    )


def _true_label(card: Card) -> DemoLabel:
    """The label of a sample picture."""
    return next(entry for entry in demo_labels() if entry.picture == Path(card.name).name)


def _cards(classifier: ZeroShotClassifier, names: Sequence[str]) -> tuple[list[Card], dict[str, str]]:
    """Classify the pictures; returns cards with the best labels, and the failures by name."""
    from diptych.cli.classify.contact_sheet import SIDE, Card
    from diptych.errors import ImageError, MissingExtraError
    from diptych.media import load_image

    cards: list[Card] = []
    failures: dict[str, str] = {}
    for name in names:
        try:
            image = load_image(name, target=SIDE)
        except (ImageError, MissingExtraError, OSError) as error:
            failures[name] = str(error) or type(error).__name__
        else:
            cards.append(Card(name, image, tuple(classifier.top(image, SHOWN)[0])))
    return cards, failures


def _write(
    cards: Sequence[Card],
    label_count: int,
    encoder: TorchEncoder | ExportedEncoder,
    out: Path,
    accuracy: SampleAccuracy | None,
) -> None:
    """Write the contact sheet as PNG and as HTML."""
    from PIL.PngImagePlugin import PngInfo

    from diptych import __version__
    from diptych.cli.classify.contact_sheet import Sheet, draw, render
    from diptych.files.disk import write_atomically, write_bytes

    parameters = sum(weight.numel() for weight in encoder.model.parameters())
    shown = "all are shown" if label_count <= SHOWN else f"the best {SHOWN} are shown"
    compared = (
        f"Each picture was compared with {counted(label_count, 'label')}; {shown}. All scores add up to 100."
    )
    sheet = Sheet(
        title=f"{counted(len(cards), 'picture')}, classified by labels in words",
        # The accuracy first: the PNG has room for one line.
        subtitle=compared if accuracy is None else f"{accuracy.text} {compared}",
        footer=f"diptych {__version__}  ·  {encoder.spec.name}, {parameters / 1e6:.1f} million parameters  "
        f"·  {encoder.identity[:19]}",
        cards=cards,
    )
    png, page = _files(out)
    drawn, text = draw(sheet), render(sheet).encode("utf-8", "backslashreplace")
    mark = PngInfo()
    mark.add_text("Software", SOFTWARE)
    write_atomically(png, lambda part: drawn.save(part, "PNG", pnginfo=mark))
    write_bytes(page, text)


def _files(out: Path) -> tuple[Path, Path]:
    """Paths of the contact sheet as PNG and as HTML."""
    return out / "contact-sheet.png", out / "contact-sheet.html"


def _print(cards: Sequence[Card], accuracy: SampleAccuracy | None, out: Path) -> None:
    """Print a line for each picture, the accuracy and the paths of the contact sheet."""
    from diptych.cli.classify.answers import PictureResult, TableWriter

    table = TableWriter(len(cards), top=1, room=34)
    for card in cards:
        scores = tuple(score for _, score in card.scores)
        table.write(PictureResult(Path(card.name).name, (card.scores[0][0],), card.scores, 0.0, scores))
    if accuracy is not None:
        print_lines("", f"{accuracy.text} This is too few for a measurement: use diptych evaluate.")
    png, page = _files(out)
    typer.echo(f"\nThe contact sheet: {png}\n                   {page}")


def _to_json(
    encoder: TorchEncoder | ExportedEncoder,
    labels: Sequence[str],
    cards: Sequence[Card],
    failures: Mapping[str, str],
    accuracy: SampleAccuracy | None,
    out: Path,
) -> dict[str, Any]:
    """The values that --json prints; truth and accuracy are null for own pictures or labels."""
    return {
        "model": encoder.spec.name,
        "identity": encoder.identity,
        "labels": list(labels),
        "pictures": [
            {
                "path": card.name,
                "truth": None if accuracy is None else _true_label(card).word,
                "top": [{"label": label, "score": round(score, 4)} for label, score in card.scores],
            }
            for card in cards
        ],
        "accuracy": None if accuracy is None else {**asdict(accuracy), "chance": accuracy.chance},
        "sheet": [str(path) for path in _files(out)] if cards else [],
        "failed": [{"path": name, "reason": reason} for name, reason in failures.items()],
    }


def next_steps(picture: str) -> str:
    """Three commands to try next, quoted for the shell."""
    import shlex

    return "\n".join(
        (
            "\nTry next:",
            f'  diptych classify {shlex.quote(picture)} "a cat" "a tiger" "a teapot"',
            '  diptych demo ~/Pictures --label "a person" --label "a landscape" --label "food"',
            "  diptych models list",
        )
    )
