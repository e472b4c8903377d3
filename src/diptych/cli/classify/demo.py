"""`diptych demo`: classify sample pictures and draw a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.shared import options
from diptych.cli.shared.console import note, print_message
from diptych.cli.shared.encoders import EncoderSettings
from diptych.cli.shared.option_groups import with_groups
from diptych.cli.shared.options import argument, option
from diptych.cli.shared.own_files import SOFTWARE, Force, check_overwrite
from diptych.cli.shared.reporting import print_lines
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.backends import ExportedEncoder, TorchEncoder
    from diptych.cli.classify.contact_sheet import Card
    from diptych.zeroshot import ZeroShotClassifier

# Pictures bundled with scikit-image that show an object, and what they show: a sentence worded for the
# default model, like its training captions, and a single word. The demo measures both.
SAMPLES = {
    "chelsea.png": ("the face of a brown cat", "cat"),
    "coffee.png": ("a cup on a table", "coffee"),
    "astronaut.png": ("a woman smiles for the camera", "woman"),
    "motorcycle_left.png": ("a motorbike in a workshop", "motorcycle"),
    "rocket.jpg": ("a tall tower in the sky", "rocket"),
    "camera.png": ("a man with a tripod in a field", "man"),
    "coins.png": ("coins", "coins"),
    "horse.png": ("a black horse", "horse"),
}
OTHERS = (  # labels that no sample shows
    ("a dog runs across the grass", "dog"),
    ("children play in water", "children"),
    ("a red car", "car"),
    ("a flower in a garden", "flower"),
)
LABELS, WORDS = zip(*SAMPLES.values(), *OTHERS, strict=True)
SHOWN = 3  # labels under each picture


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
        option(
            "TEXT", "Your own label; repeat it for several. Default: labels of the samples.", "--label", "-l"
        ),
    ] = None,
    out: Annotated[Path, option("DIR", "The folder for the contact sheet.", "--out", "-o")] = Path("out"),
    force: Force = False,
    limit: Annotated[int, option("N", "Use the first N pictures.", min=1)] = 24,
    quiet: options.Quiet = False,
    *,
    encoding: DemoModelOptions,
) -> None:
    """Classify sample pictures by labels in words and draw a contact sheet, as PNG and HTML.

    The labels of the samples are sentences worded for the default model; the
    accuracy with single words instead is printed beside it.

    [bold]Examples[/bold]

      diptych demo

      diptych demo ~/Pictures --label "a beach" --label "a birthday" --label "a dog"
    """
    from diptych.cli.classify.pictures import gather
    from diptych.cli.shared.labels import distinct, prompts_for
    from diptych.zeroshot import ZeroShotClassifier

    check_overwrite(*_files(out), force=force)
    labels = distinct(label or LABELS)
    names = (
        gather(pictures, allow_urls=False, stdin=typer.get_text_stream("stdin")) if pictures else samples()
    )
    encoder = encoding.open(encoding.model, encoding.pretrained)
    prompts = prompts_for(labels) if label else labels  # the built-in labels are sentences already
    classifier = ZeroShotClassifier(encoder, templates=None).fit(prompts)
    cards, failures = _cards(classifier, names[:limit])
    for name, reason in failures.items():
        print_message("failed", f"{name}: {reason}")
    if cards:
        accuracy = "" if pictures or label else _accuracy_text(encoder, cards)
        _write(cards, labels, encoder, out, accuracy, quiet)
    if failures:
        raise typer.Exit(1 if cards else 2)


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
    return [str(folder / name) for name in SAMPLES if (folder / name).is_file()]


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


def _accuracy_text(encoder: TorchEncoder | ExportedEncoder, cards: Sequence[Card]) -> str:
    """How many samples are right: with the sentences, with single words, and by chance."""
    from diptych.cli.shared.labels import prompts_for
    from diptych.zeroshot import ZeroShotClassifier

    truth = [SAMPLES[Path(card.name).name] for card in cards]
    worded = sum(card.scores[0][0] == sentence for card, (sentence, _) in zip(cards, truth, strict=True))
    by_words = ZeroShotClassifier(encoder, templates=None).fit(prompts_for(WORDS))
    predicted = by_words.predict([card.picture for card in cards])
    plain = sum(name == word for name, (_, word) in zip(predicted, truth, strict=True))
    return (
        f"{worded} of {len(cards)} right with these sentences, worded for the default model; "
        f"{plain} of {len(cards)} with single words ({', '.join(WORDS[:3])}, ...); "
        f"chance is {len(cards) / len(LABELS):.1f}."
    )


def _write(
    cards: Sequence[Card],
    labels: Sequence[str],
    encoder: TorchEncoder | ExportedEncoder,
    out: Path,
    accuracy: str,
    quiet: bool,
) -> None:
    """Write the two files, print a line for each picture and commands to try next."""
    from PIL.PngImagePlugin import PngInfo

    from diptych import __version__
    from diptych.cli.classify.contact_sheet import Sheet, draw, render
    from diptych.files.disk import write_atomically, write_bytes

    parameters = sum(weight.numel() for weight in encoder.model.parameters())
    shown = "all are shown" if len(labels) <= SHOWN else f"the best {SHOWN} are shown"
    sheet = Sheet(
        title=f"{counted(len(cards), 'picture')}, classified by labels in words",
        subtitle=f"Each picture was compared with {counted(len(labels), 'label')}; {shown}. All scores add "
        f"up to 100. {accuracy}",
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
    _print(cards)
    if accuracy:
        print_lines("", f"{accuracy} This is too few for a measurement: use diptych evaluate.")
    typer.echo(f"\nThe contact sheet: {png}\n                   {page}")
    note(next_steps(cards[0].name), quiet=quiet)


def _files(out: Path) -> tuple[Path, Path]:
    """Paths of the contact sheet as PNG and as HTML."""
    return out / "contact-sheet.png", out / "contact-sheet.html"


def _print(cards: Sequence[Card]) -> None:
    from diptych.cli.classify.answers import PictureResult, TableWriter

    table = TableWriter(len(cards), top=1, room=34)
    for card in cards:
        scores = tuple(score for _, score in card.scores)
        table.write(PictureResult(Path(card.name).name, (card.scores[0][0],), card.scores, 0.0, scores))


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
