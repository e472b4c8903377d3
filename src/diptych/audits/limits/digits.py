"""Audit of digits: handwritten against rendered ones, with the same prompts (paper, section 3.1.5).

The paper's model reads rendered text well and MNIST poorly, since its training data has almost no
handwritten digits. The rendered digits come in several sizes, rotations and fonts, and once in MNIST's form
(white on black, 28 pixels). If a model reads that form but not MNIST, handwriting is the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
from PIL import Image

from diptych.audits.base import Audit, accuracy_bars, verdict_cell
from diptych.audits.generated_images import GeneratedDataset, generated_dataset
from diptych.audits.limits.count_scenes import WORDS, parse_number
from diptych.audits.limits.scenes import SIDE
from diptych.audits.limits.text_overlay import font, text_image
from diptych.audits.prompt_scores import (
    Floats,
    accuracy_by_answer,
    answer_probabilities,
    class_embeddings,
    confusion,
    top1_hits,
)
from diptych.datasets import ImageDataset
from diptych.embedding.batches import Failed
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.evaluation import Settings
from diptych.evaluation.protocols.settings import Setup
from diptych.reports import Cell, Estimate, Heatmap, Section, Table
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

CHANCE = 0.1
_DIGITS = tuple("0123456789")
_VERSION = 1
# Included in matplotlib, if that is installed: no system font is assumed.
_FONTS = ("DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "STIXGeneralItalic.ttf")
_SIZES = {"small": 0.25, "medium": 0.5, "large": 0.85}
_CAPTION = f"Chance is {CHANCE:.3f}. Verdicts of the whole audit are corrected together (Holm)."
_TURNS = (-15.0, 15.0, 45.0)


@dataclass(frozen=True)
class RenderStyle:
    """Name and parameters of one way to render digits with `text_image`."""

    name: str
    side: int
    size: float
    turn: float = 0.0
    light: bool = False
    file: str | None = None

    def draw(self, digit: str) -> Image.Image:
        """Render a digit."""
        return text_image(digit, self.side, size=self.size, turn=self.turn, light=self.light, file=self.file)


@dataclass(frozen=True, kw_only=True, eq=False)
class DigitAudit(Audit):
    """Result of the audit of digits.

    Attributes
    ----------
    dataset : str or None
        Name of the handwritten data.
    gap : Estimate or None
        Rendered minus handwritten.
    rendered : Estimate
        All render styles together.
    ways : mapping of str to Estimate
        By font, size and rotation; a few dozen images each.
    by_digit : mapping of str to Estimate
        Of the handwritten digits if there are any, else of the rendered ones.
    confusion_handwritten, confusion_rendered : sequence of sequences of float
        Share of each answer (column) among pictures of each digit (row).
    words : bool
        Whether the prompts say "three" instead of "3".
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
    def _title(self) -> str:
        return "Digits, handwritten and rendered"

    def _sections(self) -> list[Section]:
        kinds = {"handwritten": self.handwritten} if self.handwritten else {}
        rows: list[list[Cell]] = [
            [name, accuracy, verdict_cell(self.verdicts[name])]
            for name, accuracy in {**kinds, "rendered, all": self.rendered, **self.ways}.items()
        ]
        table = Table(["digits", "accuracy", "verdict"], rows, _CAPTION)
        plot = accuracy_bars({**kinds, **self.ways}, CHANCE)
        heats = {"confusion_rendered": _heat(self.confusion_rendered, "rendered")}
        if self.handwritten:
            heats["confusion_handwritten"] = _heat(self.confusion_handwritten, "handwritten")
        return [
            Section("Does it read digits?", self._statements(), {"digits": table}, {"digits": plot}),
            Section("Which answer for which digit", ["Correct answers are on the diagonal."], plots=heats),
        ]

    def _statements(self) -> list[str]:
        statements = [self._sentence("Rendered digits", self.rendered, self.verdicts["rendered, all"])]
        if self.handwritten and self.gap:
            called = f"Handwritten digits ({self.dataset})"
            statements.insert(0, self._sentence(called, self.handwritten, self.verdicts["handwritten"]))
            comparison = {
                "above": "Rendered ones are read better than handwritten ones",
                "below": "Rendered ones are read worse than handwritten ones",
                "at": "Rendered ones are read as well as handwritten ones",
                NOT_ENOUGH: "Not enough to say whether rendered ones are read better than handwritten ones",
            }[self.verdicts["rendered minus handwritten"]]
            statements.append(f"{comparison}: the difference is {self.gap}.")
        return statements

    @staticmethod
    def _sentence(subject: str, accuracy: Estimate, verdict: Verdict) -> str:
        plain = {"above": "change the answer", NOT_ENOUGH: "may or may not be read"}
        figures = beside_chance(accuracy, CHANCE, verdict)
        return f"{subject} {plain.get(verdict, 'are not read')}: accuracy {figures}, {accuracy.n:,} pictures."


def audit_digits(
    encoder: Encoder,
    handwritten: ImageDataset | None = None,
    *,
    templates: str | Sequence[str] = "mnist",
    words: bool = False,
    fonts: Sequence[str | Path] = (),
    **settings: Unpack[Settings],
) -> DigitAudit:
    """Test whether the model reads handwritten and rendered digits, with the same prompts.

    Parameters
    ----------
    handwritten : ImageDataset, optional
        Classes "0" to "9" or "zero" to "nine", such as MNIST.
    templates : str or sequence of str
        By default those of the paper.
    words : bool
        Use "three" instead of "3" in the prompts.
    fonts : sequence of paths
        Further fonts, in addition to those of Pillow and of an installed matplotlib.

    Raises
    ------
    InputError
        Classes are not the ten digits, or a file is not a font.
    """
    for file in fonts:  # fail before anything is computed
        font(10, file)
    setup = Setup.of(**settings)
    names = [WORDS[int(digit)] if words else digit for digit in _DIGITS]
    weights = class_embeddings(encoder, names, templates)
    styles = render_styles(fonts)
    rendered_data = _rendered_dataset(styles)
    scores = setup.embed(encoder, rendered_data).embeddings @ weights.T
    # Images of one digit in different styles are not independent: they form 10 clusters for the interval.
    hits = top1_hits(scores, rendered_data.labels).reshape(len(styles), 10)
    handwritten_accuracy: Estimate | None = None
    probabilities, labels = answer_probabilities(scores), rendered_data.labels
    datasets: list[ImageDataset] = [rendered_data]
    failures: tuple[Failed, ...] = ()
    if handwritten is not None:
        numbers = np.array([parse_number(name, handwritten.name) for name in handwritten.class_names])
        if numbers.max() > 9:
            raise InputError(f"{handwritten.name} has a class {numbers.max()}: expected the digits 0 to 9")
        embedded = setup.embed(encoder, handwritten)
        labels, failures = numbers[handwritten.labels[embedded.positions]], embedded.failures
        probabilities = answer_probabilities(embedded.embeddings @ weights.T)
        handwritten_accuracy = proportion(top1_hits(embedded.embeddings @ weights.T, labels))
        datasets = [handwritten, rendered_data]
    rendered, by_condition = proportion(hits.reshape(-1), rendered_data.labels), _by_condition(styles, hits)
    return DigitAudit(
        facts={
            **setup.facts(encoder, *datasets),
            "Fonts": ", ".join(dict.fromkeys(_font_label(style.file) for style in styles)),
        },
        failures=failures,
        samples=[
            (style.name, style.draw(_DIGITS[index % 10]))
            for index, style in enumerate(styles)
            if index % 3 == 0
        ],
        dataset=None if handwritten is None else handwritten.name,
        handwritten=handwritten_accuracy,
        gap=None if handwritten_accuracy is None else difference(rendered, handwritten_accuracy),
        verdicts=decide(_claims(handwritten_accuracy, rendered, by_condition)),
        rendered=rendered,
        ways=by_condition,
        by_digit=accuracy_by_answer(probabilities, labels, _DIGITS),
        confusion_handwritten=[] if handwritten is None else confusion(probabilities, labels),
        confusion_rendered=confusion(answer_probabilities(scores), rendered_data.labels),
        words=words,
    )


def _rendered_dataset(styles: Sequence[RenderStyle]) -> GeneratedDataset:
    """The ten digits in every style: image 10 s + d is digit d in style s."""
    return generated_dataset(
        "rendered digits",
        lambda index: styles[index // 10].draw(_DIGITS[index % 10]),
        [index % 10 for index in range(10 * len(styles))],
        _DIGITS,
        made=f"digits v{_VERSION} {' '.join(style.name for style in styles)}",
    )


def _claims(
    handwritten: Estimate | None, rendered: Estimate, ways: Mapping[str, Estimate]
) -> dict[str, Claim]:
    """All claims of the audit, which are corrected together."""
    # There are only ten digits (clusters): the number of images decides whether there is enough to say
    # anything.
    printed = {"rendered, all": rendered, **ways}
    claims = {name: against_chance(accuracy, CHANCE, cases=accuracy.n) for name, accuracy in printed.items()}
    if handwritten is not None:
        claims["handwritten"] = against_chance(handwritten, CHANCE)
        cases = min(rendered.n or 0, handwritten.n or 0)
        claims["rendered minus handwritten"] = independent_claim(rendered, handwritten, cases=cases)
    return claims


def render_styles(fonts: Sequence[str | Path] = ()) -> list[RenderStyle]:
    """Every font in every size upright, rotated at medium size, light and dark; and MNIST's form.

    Examples
    --------
    >>> render_styles()[0].name
    'plain font, small, upright, dark'
    """
    files: list[str | None] = [None, *(str(path) for path in (*_matplotlib_fonts(), *fonts))]
    styles = []
    for file in files:
        shapes = [(name, 0.0) for name in _SIZES] + [("medium", turn) for turn in _TURNS]
        for size, turn in shapes:
            for light in (False, True):
                rotation = "upright" if turn == 0 else f"turned {turn:+.0f} degrees"
                name = f"{_font_label(file)}, {size}, {rotation}, {'light' if light else 'dark'}"
                styles.append(RenderStyle(name, SIDE, _SIZES[size], turn, light, file))
        styles.append(RenderStyle(f"{_font_label(file)}, like MNIST", 28, 0.7, 0.0, True, file))
    return styles


def _matplotlib_fonts() -> list[Path]:
    """Fonts included in matplotlib, if that is installed."""
    from importlib.util import find_spec

    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    return [folder / name for name in _FONTS if (folder / name).is_file()]


def _font_label(file: str | None) -> str:
    return "plain font" if file is None else Path(file).stem


def _by_condition(styles: Sequence[RenderStyle], hits: Floats) -> dict[str, Estimate]:
    """Accuracy of all styles that share a part of their name: font, size, rotation or colour."""
    parts = [style.name.split(", ") for style in styles]
    names = sorted(
        {part for name_parts in parts for part in name_parts}, key=lambda part: _order(part, parts)
    )
    result = {}
    for name in names:
        hits_of_part = hits[[name in name_parts for name_parts in parts]]
        result[name] = proportion(hits_of_part.reshape(-1), np.tile(np.arange(10), len(hits_of_part)))
    return result


def _order(part: str, parts: Sequence[Sequence[str]]) -> tuple[int, int]:
    """Sort key of a part: its position in the names, then its first occurrence."""
    return min((name_parts.index(part), row) for row, name_parts in enumerate(parts) if part in name_parts)


def _heat(values: Sequence[Sequence[float]], title: str) -> Heatmap:
    return Heatmap(rows=_DIGITS, columns=_DIGITS, values=values, x="answer", y="digit", title=title)
