"""The cut-off without labels: queries about what a collection shows against queries about what it does not.

    python benchmarks/cutoff.py [--model MODEL] [--pictures flickr8k-test.tar] [--plot PATH]

The collection is captioned pictures. There: one caption of each picture, and the short queries of
`cutoff_queries.txt` whose words a caption has. Not there: that file's queries of which no caption has a word,
and names of ImageNet's classes without one (dogs left out: captions say "dog"). Captions do not name all
there is, so some of what counts as not there is in a picture after all, and pictures that fit a caption
beside its own count as wrong: figures are low by that much.

Printed: how well the best hit's figure tells the two apart (area under the ROC curve) beside other figures
that could be shown; whether hits are better put in its order or in that of cosines; what the default cut-off
lets through and loses, on the whole collection, on small ones and on one that shows nothing but dogs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import arguments, machine
from numpy.typing import NDArray

import diptych
from diptych.catalog.relevance import DEFAULT_CUTOFF, Background, RelevanceScale
from diptych.datasets import CaptionDataset, load_captioned
from diptych.embedding.batches import collect, embed_images, embed_texts
from diptych.encoder import Encoder
from diptych.reports import Curve, Curves, save_plot
from diptych.stats.rankings import roc_auc
from diptych.zeroshot import class_names

Floats = NDArray[np.float32]
Captions = Sequence[Sequence[str]]

QUERIES = Path(__file__).with_name("cutoff_queries.txt")
DOGS = range(151, 269)  # of ImageNet's classes
SIZES = (20, 100)
DRAWS = 10


@dataclass(frozen=True)
class Query:
    """A query, whether it was written as one that is there, and the words that decide."""

    text: str
    there: bool
    words: tuple[re.Pattern[str], ...]

    def pictures(self, captions: Captions) -> list[int]:
        """Pictures of which a caption has every word."""
        return [
            number
            for number, texts in enumerate(captions)
            if any(all(word.search(text) for word in self.words) for text in texts)
        ]

    def mentioned(self, captions: Captions) -> bool:
        """Whether any caption has any of the words."""
        return any(word.search(text) for texts in captions for text in texts for word in self.words)


def read_queries(path: Path) -> list[Query]:
    """The lines of a file of queries, as its head describes them."""
    queries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(("+ ", "- ")):
            text, _, words = line[2:].partition(" | ")
            queries.append(Query(text.strip(), line[0] == "+", tuple(map(pattern, words.split()))))
    return queries


def pattern(word: str) -> re.Pattern[str]:
    """A word of a query's list: "a/b" is either, "a*" any beginning so.

    Examples
    --------
    >>> found = pattern("surf*/wave")
    >>> [bool(found.search(text)) for text in ("two surfers", "a wave", "waves", "resurface")]
    [True, True, False, False]
    """
    either = "|".join(re.escape(one).replace(r"\*", r"[\w-]*") for one in word.split("/"))
    return re.compile(rf"(?<![\w-])(?:{either})(?![\w-])", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Asked:
    """Queries of one kind as rows, and which pictures each is about."""

    rows: Floats  # (Q, D)
    about: tuple[tuple[int, ...], ...]


def there(encoder: Encoder, captions: Captions, queries: Sequence[Query]) -> dict[str, Asked]:
    """What is about something in the collection."""
    short = [(query.text, query.pictures(captions)) for query in queries if query.there]
    kept = [(text, pictures) for text, pictures in short if pictures]
    print(f"{len(kept)} of {len(short)} short queries are about something here")
    return {
        "captions": Asked(
            embed_texts(encoder, [texts[0] for texts in captions]),
            tuple((number,) for number in range(len(captions))),
        ),
        "short queries": Asked(
            embed_texts(encoder, [text for text, _ in kept]), tuple(tuple(found) for _, found in kept)
        ),
    }


def missing(encoder: Encoder, captions: Captions, queries: Sequence[Query]) -> dict[str, Asked]:
    """What is about nothing in the collection."""
    written = [query for query in queries if not query.there]
    kept = [query.text for query in written if not query.mentioned(captions)]
    said = {word for texts in captions for text in texts for word in re.findall(r"\w+", text.lower())}
    names = [
        name
        for number, name in enumerate(class_names("imagenet"))
        if number not in DOGS and not said & set(re.findall(r"\w+", name.lower()))
    ]
    print(f"{len(kept)} of {len(written)} queries and {len(names)} names of classes are about nothing here")
    return {
        "absent queries": Asked(embed_texts(encoder, kept), ((),) * len(kept)),
        "absent names": Asked(
            embed_texts(encoder, [f"a photo of a {name}" for name in names]), ((),) * len(names)
        ),
    }


def figures(
    encoder: Encoder, background: Background, pictures: Floats
) -> Mapping[str, Callable[[Floats], Floats]]:
    """What could be shown of a query's (Q, D) hits, each (Q, N), by name; ours first."""
    gauge = RelevanceScale.of(background, pictures)
    beside = pictures @ background.rows.T  # (N, B)
    scale = encoder.logit_scale
    evidence = np.log(np.exp(scale * (beside - 1)).mean(axis=1)) + scale

    def ours(rows: Floats) -> Floats:
        return np.stack([gauge.relevance(pictures @ row, pictures, size=len(pictures)) for row in rows])

    def over_collection(rows: Floats) -> Floats:
        cosines = rows @ pictures.T
        middle = np.median(cosines, axis=1, keepdims=True)
        result: Floats = (cosines - middle) / np.median(np.abs(cosines - middle), axis=1, keepdims=True)
        return result

    def both(rows: Floats) -> Floats:
        z = (rows @ pictures.T - beside.mean(axis=1)) / beside.std(axis=1)
        result: Floats = z - z.mean(axis=1, keepdims=True)
        return result

    return {
        "this cut-off's": ours,
        "cosine": lambda rows: rows @ pictures.T,
        "z over the collection": over_collection,
        "z over the background": lambda rows: (rows @ pictures.T - beside.mean(1)) / beside.std(1),
        "both z, one after the other": both,
        "softmax beside the background": lambda rows: scale * rows @ pictures.T - evidence,
    }


def tell_areas(
    ways: Mapping[str, Callable[[Floats], Floats]], here: Mapping[str, Asked], absent: Mapping[str, Asked]
) -> None:
    """The area under the ROC curve of every figure, for each kind that is there against each that is not."""
    pairs = [(one, other) for one in here for other in absent]
    print("\n| best hit by | " + " | ".join(f"{one} / {other}" for one, other in pairs) + " |")
    print("| --- |" + " ---: |" * len(pairs))
    for name, way in ways.items():
        best = {kind: way(asked.rows).max(axis=1) for kind, asked in {**here, **absent}.items()}
        areas = [
            roc_auc(np.concatenate([best[one], best[other]]), [1] * len(best[one]) + [0] * len(best[other]))
            for one, other in pairs
        ]
        print(f"| {name} | " + " | ".join(f"{area:.3f}" for area in areas) + " |")


def tell_orders(ways: Mapping[str, Callable[[Floats], Floats]], captions: Asked) -> None:
    """Captions whose own picture is among the first ten, in the order of cosines and of figures."""
    own = np.array([about[0] for about in captions.about])
    shares = []
    for name in ("cosine", "this cut-off's"):
        values = ways[name](captions.rows)  # (Q, N)
        before = (values > np.take_along_axis(values, own[:, None], axis=1)).sum(axis=1)
        shares.append(f"{(before < 10).mean():.3f} by {name if name == 'cosine' else 'figure'}")
    print(f"\ncaptions whose picture is among the first ten: {', '.join(shares)}")


def tell_errors(shown: Mapping[str, NDArray[np.bool_]], here: Mapping[str, Asked]) -> None:
    """What the default cut-off shows of each kind, (Q, N) each."""
    print(
        "\n| queries | answered | shown, median (nine tenths under) | right among them | right ones found |"
    )
    print("| --- | ---: | ---: | ---: | ---: |")
    for kind, these in shown.items():
        many = these.sum(axis=1)
        line = f"| {kind} ({len(these)}) | {(many > 0).mean():.3f} | {np.median(many):.0f} "
        line += f"({np.quantile(many, 0.9):.0f}) |"
        if kind in here:
            right = [these[number, list(about)] for number, about in enumerate(here[kind].about)]
            found = np.concatenate(right)
            line += f" {found.sum() / max(many.sum(), 1):.3f} | {found.mean():.3f} |"
        print(line if kind in here else line + " | |")


def tell_small(
    background: Background, pictures: Floats, here: Mapping[str, Asked], absent: Mapping[str, Asked]
) -> None:
    """Collections of few pictures: a caption of one of them, against what is not there."""
    print("\n| pictures | captions without an answer | absent queries with one | absent names with one |")
    print("| ---: | ---: | ---: | ---: |")
    draw = np.random.default_rng(0)
    for size in (size for size in SIZES if size < len(pictures)):
        rates = []
        for _ in range(DRAWS):
            few = draw.permutation(len(pictures))[:size]
            gauge = RelevanceScale.of(background, pictures[few])
            asked = {"captions": here["captions"].rows[few]} | {
                kind: one.rows for kind, one in absent.items()
            }
            answered = [
                np.mean([answers(gauge, row, pictures[few]).any() for row in rows]) for rows in asked.values()
            ]
            rates.append([1 - answered[0], *answered[1:]])
        print(f"| {size} | " + " | ".join(f"{rate:.3f}" for rate in np.mean(rates, axis=0)) + " |")


def tell_dogs(encoder: Encoder, background: Background, pictures: Floats, captions: Captions) -> None:
    """A collection in which everything fits one query."""
    dogs = pictures[Query("", True, (pattern("dog/dogs"),)).pictures(captions)]
    gauge = RelevanceScale.of(background, dogs)
    print(f"\n| {len(dogs)} pictures of dogs, asked for | best figure | shown |")
    print("| --- | ---: | ---: |")
    asked = ("dogs", "a dog", "a dog playing outside", "a dog in the snow", "a cat", "a circuit board")
    for text, row in zip(asked, encoder.encode_texts(asked), strict=True):
        judged = gauge.relevance(dogs @ row, dogs, size=len(dogs))
        print(f"| {text} | {judged.max():.2f} | {(judged >= DEFAULT_CUTOFF).mean():.3f} |")


def answers(gauge: RelevanceScale, row: Floats, pictures: Floats) -> NDArray[np.bool_]:
    """Which pictures the default cut-off shows."""
    return gauge.relevance(pictures @ row, pictures, size=len(pictures)) >= DEFAULT_CUTOFF


def draw_curve(path: Path, here: Floats, absent: Floats) -> None:
    """Queries answered, of both sorts, as the cut-off rises from nothing to everything."""
    levels = np.linspace(1, 0, 41)

    def answered(best: Floats) -> list[float]:
        return [float((best >= level).mean()) for level in levels]

    at = [float((best >= DEFAULT_CUTOFF).mean()) for best in (absent, here)]
    curves = {
        "cut-off from 1 to 0": Curve(answered(absent), answered(here)),
        f"the default, {DEFAULT_CUTOFF:g}": Curve(at[:1], at[1:]),
        "chance": Curve([0, 1], [0, 1], dashed=True),
    }
    plot = Curves(
        curves=curves,
        x="queries about nothing here that are answered",
        y="queries about something here that are answered",
    )
    print("\nplot:", *save_plot(path, plot))


def embedded(encoder: Encoder, dataset: CaptionDataset) -> Floats:
    """Pictures as they lie in a catalogue: half precision."""
    found = collect(embed_images(encoder, dataset), encoder.dim)
    assert not found.failures, found.failures[0]
    return found.vectors.astype(np.float16).astype(np.float32)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--pictures", type=Path, help="captioned pictures; by default Flickr8k's test ones")
    parser.add_argument("--plot", type=Path, help="write the curve there, as SVG and PNG")
    options = parser.parse_args()
    print(machine())
    encoder = diptych.load(options.model)
    dataset = load_captioned(options.pictures or options.shared / "data" / "flickr8k-test.tar")
    print(f"{dataset.name}: {len(dataset)} pictures; {options.model}: {encoder.identity[:19]}...")
    pictures, background = embedded(encoder, dataset), Background.of(encoder)
    queries = read_queries(QUERIES)
    here = there(encoder, dataset.captions, queries)
    absent = missing(encoder, dataset.captions, queries)
    gauge = RelevanceScale.of(background, pictures)
    size = len(pictures)
    print(
        f"levels, in spreads of {gauge.spread:.4f}: noise {gauge.noise(size):.2f}, "
        f"match {gauge.match(size):.2f}"
    )
    ways = figures(encoder, background, pictures)
    tell_areas(ways, here, absent)
    tell_orders(ways, here["captions"])
    judged = {kind: ways["this cut-off's"](asked.rows) for kind, asked in {**here, **absent}.items()}
    tell_errors({kind: one >= DEFAULT_CUTOFF for kind, one in judged.items()}, here)
    tell_small(background, pictures, here, absent)
    tell_dogs(encoder, background, pictures, dataset.captions)
    if options.plot:
        best = {kind: one.max(axis=1) for kind, one in judged.items()}
        draw_curve(options.plot, best["short queries"], best["absent queries"])


if __name__ == "__main__":
    main()
