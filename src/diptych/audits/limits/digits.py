"""Digits written by hand against digits rendered by a machine, with the same prompts (paper, section 3.1.5).

The paper's model reads rendered text well and MNIST poorly: its pairs hold next to no handwritten digits. The
rendered ones here come in several sizes, turns and fonts, and once in MNIST's own form: white on black, 28
pixels. Where that is read and MNIST is not, the handwriting is what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
from PIL import Image

from diptych.audits.base import Audit, estimate_bars, verdict_cell
from diptych.audits.generated_images import generated_dataset
from diptych.audits.limits.count_scenes import WORDS, parse_number
from diptych.audits.limits.scenes import SIDE
from diptych.audits.limits.text_overlay import font, symbol
from diptych.audits.prompt_scores import Floats, answer_embeddings, answer_probabilities, confusion, top1_hits
from diptych.datasets import ImageDataset
from diptych.embedding.batches import Failed
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.evaluation import Settings
from diptych.evaluation.protocols.settings import Setup
from diptych.reports import Bars, Cell, Estimate, Heatmap, Section, Table
from diptych.stats.differences import difference
from diptych.stats.intervals import proportion
from diptych.stats.significance import (
    NOT_ENOUGH,
    Claim,
    Verdict,
    against_chance,
    beside_chance,
    decide,
    independent_claim,
)
from diptych.zeroshot import expand

CHANCE = 0.1
_DIGITS = tuple("0123456789")
_VERSION = 1
# Looked for beside matplotlib, which brings them along: no font of the system is assumed.
_FONTS = ("DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "STIXGeneralItalic.ttf")
_SIZES = {"small": 0.25, "medium": 0.5, "large": 0.85}
_CAPTION = f"Chance is {CHANCE:.3f}. Verdicts of the whole audit are corrected together (Holm)."
_TURNS = (-15.0, 15.0, 45.0)


@dataclass(frozen=True)
class RenderStyle:
    """One way to render digits: how it is called, and what `symbol` is told."""

    name: str
    side: int
    size: float
    turn: float = 0.0
    light: bool = False
    file: str | None = None

    def draw(self, digit: str) -> Image.Image:
        """The picture of a digit."""
        return symbol(digit, self.side, size=self.size, turn=self.turn, light=self.light, file=self.file)


@dataclass(frozen=True, kw_only=True, eq=False)
class DigitAudit(Audit):
    """How well digits are read.

    Attributes
    ----------
    dataset : str or None
        The handwritten ones.
    handwritten : Estimate or None
    gap : Estimate or None
        Rendered minus handwritten.
    rendered : Estimate
        All ways of rendering together.
    ways : mapping of str to Estimate
        By font, size and turn; each holds a few dozen pictures.
    by_digit : mapping of str to Estimate
        Of the handwritten ones, or else of the rendered.
    confusion_handwritten, confusion_rendered : sequence of sequences of float
        Share of each answer (column) among pictures of each digit (row).
    words : bool
        The prompts say "three", not "3".
    """

    dataset: str | None
    handwritten: Estimate | None
    gap: Estimate | None
    rendered: Estimate
    ways: Mapping[str, Estimate]
    by_digit: Mapping[str, Estimate]
    confusion_handwritten: Sequence[Sequence[float]]
    confusion_rendered: Sequence[Sequence[float]]
    words: bool

    @property
    def title(self) -> str:
        """What the report is called."""
        return "Digits, handwritten and rendered"

    def sections(self) -> list[Section]:
        """Statements, tables and plots."""
        kinds = {"handwritten": self.handwritten} if self.handwritten else {}
        rows: list[list[Cell]] = [
            [name, one, verdict_cell(self.verdicts[name])]
            for name, one in {**kinds, "rendered, all": self.rendered, **self.ways}.items()
        ]
        table = Table(["digits", "accuracy", "verdict"], rows, _CAPTION)
        plot = Bars(values=estimate_bars({**kinds, **self.ways}), x="accuracy", levels={"chance": CHANCE})
        heats = {"confusion_rendered": _heat(self.confusion_rendered, "rendered")}
        if self.handwritten:
            heats["confusion_handwritten"] = _heat(self.confusion_handwritten, "handwritten")
        return [
            Section("Does it read digits?", self._statements(), {"digits": table}, {"digits": plot}),
            Section("Which answer for which digit", ["Reading lies on the diagonal."], plots=heats),
        ]

    def _statements(self) -> list[str]:
        found = [self._read("Rendered digits", self.rendered, self.verdicts["rendered, all"])]
        if self.handwritten and self.gap:
            called = f"Handwritten digits ({self.dataset})"
            found.insert(0, self._read(called, self.handwritten, self.verdicts["handwritten"]))
            told = {
                "above": "Rendered ones are read better than handwritten ones",
                "below": "Rendered ones are read worse than handwritten ones",
                "at": "Rendered ones are read as well as handwritten ones",
                NOT_ENOUGH: "Not enough to say whether rendered ones are read better than handwritten ones",
            }[self.verdicts["rendered minus handwritten"]]
            found.append(f"{told}: the difference is {self.gap}.")
        return found

    @staticmethod
    def _read(what: str, one: Estimate, verdict: Verdict) -> str:
        plain = {"above": "change the answer", NOT_ENOUGH: "may or may not be read"}
        figures = beside_chance(one, CHANCE, verdict)
        return f"{what} {plain.get(verdict, 'are not read')}: accuracy {figures}, {one.n:,} pictures."


def audit_digits(
    encoder: Encoder,
    handwritten: ImageDataset | None = None,
    *,
    templates: str | Sequence[str] = "mnist",
    words: bool = False,
    fonts: Sequence[str | Path] = (),
    **settings: Unpack[Settings],
) -> DigitAudit:
    """Read digits, written by hand and rendered, with the same prompts.

    Parameters
    ----------
    encoder : Encoder
    handwritten : ImageDataset, optional
        Classes "0" to "9" or "zero" to "nine", such as MNIST.
    templates : str or sequence of str
        The paper's own by default.
    words : bool
        Say "three" rather than "3".
    fonts : sequence of paths
        More fonts, beside Pillow's own and those that lie beside an installed matplotlib.
    **settings
        See `Settings`.

    Raises
    ------
    InputError
        Classes that are not the ten digits, or a file that is no font.
    """
    for file in fonts:  # before anything is computed
        font(10, file)
    setup = Setup.of(**settings)
    named = [WORDS[int(digit)] if words else digit for digit in _DIGITS]
    weights = answer_embeddings(encoder, [expand([name], templates) for name in named])
    ways = render_styles(fonts)
    pictures = generated_dataset(
        "rendered digits",
        lambda index: ways[index // 10].draw(_DIGITS[index % 10]),
        [index % 10 for index in range(10 * len(ways))],
        _DIGITS,
        made=f"digits v{_VERSION} {' '.join(way.name for way in ways)}",
    )
    scores = setup.embed(encoder, pictures).rows @ weights.T
    # One digit in one font is asked for again and again: ten questions, not hundreds.
    hits = top1_hits(scores, pictures.labels).reshape(len(ways), 10)
    hand: Estimate | None = None
    table, labels = answer_probabilities(scores), pictures.labels
    data: list[ImageDataset] = [pictures]
    failures: tuple[Failed, ...] = ()
    if handwritten is not None:
        numbers = np.array([parse_number(name, handwritten.name) for name in handwritten.class_names])
        if numbers.max() > 9:
            raise InputError(f"{handwritten.name} has a class {numbers.max()}: expected the digits 0 to 9")
        found = setup.embed(encoder, handwritten)
        labels, failures = numbers[handwritten.labels[found.positions]], found.failures
        table = answer_probabilities(found.rows @ weights.T)
        hand, data = proportion(top1_hits(found.rows @ weights.T, labels)), [handwritten, pictures]
    rendered, parts = proportion(hits.reshape(-1), pictures.labels), _by_part(ways, hits)
    return DigitAudit(
        facts={**setup.facts(encoder, *data), "Fonts": ", ".join(dict.fromkeys(_font_name(w) for w in ways))},
        failures=failures,
        samples=[
            (way.name, way.draw(_DIGITS[index % 10])) for index, way in enumerate(ways) if index % 3 == 0
        ],
        dataset=None if handwritten is None else handwritten.name,
        handwritten=hand,
        gap=None if hand is None else difference(rendered, hand),
        verdicts=decide(_claims(hand, rendered, parts)),
        rendered=rendered,
        ways=parts,
        by_digit={
            digit: proportion(table[labels == index, index])
            for index, digit in enumerate(_DIGITS)
            if (labels == index).any()
        },
        confusion_handwritten=[] if handwritten is None else confusion(table, labels),
        confusion_rendered=confusion(answer_probabilities(scores), pictures.labels),
        words=words,
    )


def _claims(hand: Estimate | None, rendered: Estimate, ways: Mapping[str, Estimate]) -> dict[str, Claim]:
    """What the audit says, as one family."""
    # Ten digits are all there are: the number of pictures decides whether there is enough to say anything.
    printed = {"rendered, all": rendered, **ways}
    claims = {name: against_chance(one, CHANCE, cases=one.n) for name, one in printed.items()}
    if hand is not None:
        claims["handwritten"] = against_chance(hand, CHANCE)
        cases = min(rendered.n or 0, hand.n or 0)
        claims["rendered minus handwritten"] = independent_claim(rendered, hand, cases=cases)
    return claims


def render_styles(fonts: Sequence[str | Path] = ()) -> list[RenderStyle]:
    """Every font in every size upright, in every turn at medium size, light and dark; and MNIST's form.

    Examples
    --------
    >>> render_styles()[0].name
    'plain font, small, upright, dark'
    """
    files: list[str | None] = [None, *(str(one) for one in (*_found_fonts(), *fonts))]
    found = []
    for file in files:
        shapes = [(name, 0.0) for name in _SIZES] + [("medium", turn) for turn in _TURNS]
        for size, turn in shapes:
            for light in (False, True):
                told = "upright" if turn == 0 else f"turned {turn:+.0f} degrees"
                name = f"{_plain(file)}, {size}, {told}, {'light' if light else 'dark'}"
                found.append(RenderStyle(name, SIDE, _SIZES[size], turn, light, file))
        found.append(RenderStyle(f"{_plain(file)}, like MNIST", 28, 0.7, 0.0, True, file))
    return found


def _found_fonts() -> list[Path]:
    """Fonts beside matplotlib, if that is installed."""
    from importlib.util import find_spec

    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    return [folder / name for name in _FONTS if (folder / name).is_file()]


def _plain(file: str | None) -> str:
    return "plain font" if file is None else Path(file).stem


def _font_name(way: RenderStyle) -> str:
    return _plain(way.file)


def _by_part(ways: Sequence[RenderStyle], hits: Floats) -> dict[str, Estimate]:
    """Accuracy of all ways that share a part of their name: a font, a size, a turn, a colour."""
    parts = [way.name.split(", ") for way in ways]
    names = sorted({part for each in parts for part in each}, key=lambda part: _order(part, parts))
    found = {}
    for name in names:
        kept = hits[[name in each for each in parts]]
        found[name] = proportion(kept.reshape(-1), np.tile(np.arange(10), len(kept)))
    return found


def _order(part: str, parts: Sequence[Sequence[str]]) -> tuple[int, int]:
    """By what the part tells, then by when it comes first."""
    return min((each.index(part), row) for row, each in enumerate(parts) if part in each)


def _heat(values: Sequence[Sequence[float]], title: str) -> Heatmap:
    return Heatmap(rows=_DIGITS, columns=_DIGITS, values=values, x="answer", y="digit", title=title)
