"""`diptych demo`: sample pictures named from words, as a contact sheet, and what to try next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.evaluate.reporting import print_lines
from diptych.cli.shared import options
from diptych.cli.shared.console import complain, note
from diptych.cli.shared.own_files import SOFTWARE, Force, check_own
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.backends import ExportedEncoder, TorchEncoder
    from diptych.cli.classify.contact_sheet import Card
    from diptych.zeroshot import ZeroShotClassifier

# Of scikit-image's bundled pictures the ones that show a thing, and what they show: in a sentence worded for
# the default model, such as its captions were, and in a word, as people type it. The demo measures both.
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
OTHERS = (  # of which no sample shows any
    ("a dog runs across the grass", "dog"),
    ("children play in water", "children"),
    ("a red car", "car"),
    ("a flower in a garden", "flower"),
)
LABELS, WORDS = zip(*SAMPLES.values(), *OTHERS, strict=True)
SHOWN = 3  # labels under each picture


def demo(
    pictures: Annotated[
        list[str] | None,
        typer.Argument(metavar="PICTURE", help="Your own files or folder instead.", show_default=False),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", metavar="TEXT", help="Your own labels instead.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the sheet goes.")] = Path(
        "out"
    ),
    force: Force = False,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="The first so many pictures of a folder.")
    ] = 24,
    quiet: options.Quiet = False,
    model: options.Model = "default",
    pretrained: options.Pretrained = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = "auto",
) -> None:
    """Name sample pictures from words alone and draw a contact sheet, as PNG and as HTML.

    The labels of the samples are sentences that were worded for the default
    model; how it does with single words in their place is said beside.

    [bold]Examples[/bold]

      diptych demo

      diptych demo ~/Pictures --label "a beach" --label "a birthday" --label "a dog"
    """
    from diptych.cli.classify.pictures import gather
    from diptych.cli.shared.labels import distinct, prompts_for
    from diptych.zeroshot import ZeroShotClassifier

    check_own(*_files(out), force=force)
    labels = distinct(label or LABELS)
    names = (
        gather(pictures, allow_urls=False, stdin=typer.get_text_stream("stdin")) if pictures else samples()
    )
    encoder = options.open_model(model, pretrained, device=device, precision=precision, threads=threads)
    prompts = prompts_for(labels) if label else labels  # ours are sentences already
    classifier = ZeroShotClassifier(encoder, templates=None).fit(prompts)
    cards, failures = _cards(classifier, names[:limit])
    for name, reason in failures.items():
        complain("failed", f"{name}: {reason}")
    if cards:
        told = "" if pictures or label else _right(encoder, cards)
        _write(cards, labels, encoder, out, told, quiet)
    if failures:
        raise typer.Exit(1 if cards else 2)


def samples() -> list[str]:
    """Paths of scikit-image's bundled photographs.

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
    """Every picture with its best labels, and what could not be read."""
    from diptych.cli.classify.contact_sheet import SIDE, Card
    from diptych.errors import ImageError, MissingExtraError
    from diptych.media import load_image

    cards: list[Card] = []
    failures: dict[str, str] = {}
    for name in names:
        try:
            picture = load_image(name, target=SIDE)
        except (ImageError, MissingExtraError, OSError) as error:
            failures[name] = str(error) or type(error).__name__
        else:
            cards.append(Card(name, picture, tuple(classifier.top(picture, SHOWN)[0])))
    return cards, failures


def _right(encoder: TorchEncoder | ExportedEncoder, cards: Sequence[Card]) -> str:
    """How many samples got their own label first: of the worded sentences, of single words, by guessing."""
    from diptych.cli.shared.labels import prompts_for
    from diptych.zeroshot import ZeroShotClassifier

    shown = [SAMPLES[Path(card.name).name] for card in cards]
    worded = sum(card.scores[0][0] == sentence for card, (sentence, _) in zip(cards, shown, strict=True))
    by_words = ZeroShotClassifier(encoder, templates=None).fit(prompts_for(WORDS))
    named = by_words.predict([card.picture for card in cards])
    plain = sum(name == word for name, (_, word) in zip(named, shown, strict=True))
    return (
        f"{worded} of {len(cards)} right with these sentences, worded for the default model; "
        f"{plain} of {len(cards)} with single words ({', '.join(WORDS[:3])}, ...); "
        f"guessing gets {len(cards) / len(LABELS):.1f}."
    )


def _write(
    cards: Sequence[Card],
    labels: Sequence[str],
    encoder: TorchEncoder | ExportedEncoder,
    out: Path,
    told: str,
    quiet: bool,
) -> None:
    """The two files, a line for each picture, and what to try next."""
    from PIL.PngImagePlugin import PngInfo

    from diptych import __version__
    from diptych.cli.classify.contact_sheet import Sheet, draw, render
    from diptych.files.disk import write_atomically, write_bytes

    parameters = sum(weight.numel() for weight in encoder.model.parameters())
    shown = "all are shown" if len(labels) <= SHOWN else f"the best {SHOWN} are shown"
    sheet = Sheet(
        title=f"{counted(len(cards), 'picture')}, named from words alone",
        subtitle=f"Each picture was offered {len(labels)} labels; {shown}. All scores add up to 100. {told}",
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
    if told:
        print_lines("", f"{told} So few pictures measure nothing: diptych evaluate does.")
    typer.echo(f"\nThe contact sheet: {png}\n                   {page}")
    note(next_steps(cards[0].name), quiet=quiet)


def _files(out: Path) -> tuple[Path, Path]:
    """Where the sheet is written, as a picture and as a page."""
    return out / "contact-sheet.png", out / "contact-sheet.html"


def _print(cards: Sequence[Card]) -> None:
    from diptych.cli.classify.answers import Answer, TableWriter

    table = TableWriter(len(cards), top=1, room=34)
    for card in cards:
        scores = tuple(score for _, score in card.scores)
        table.answer(Answer(Path(card.name).name, (card.scores[0][0],), card.scores, 0.0, scores))


def next_steps(picture: str) -> str:
    """Three commands to try next, ready to be pasted."""
    import shlex

    return "\n".join(
        (
            "\nTry next:",
            f'  diptych classify {shlex.quote(picture)} "a cat" "a tiger" "a teapot"',
            '  diptych demo ~/Pictures --label "a person" --label "a landscape" --label "food"',
            "  diptych models list",
        )
    )
