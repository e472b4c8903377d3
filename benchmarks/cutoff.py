"""Search cut-off without labels: queries about content of a collection against queries about absent content.

    python benchmarks/cutoff.py [--model MODEL] [--pictures flickr8k-test.tar] [--plot PATH]

The collection is captioned pictures. Present: one caption of each picture, and the short queries of
`cutoff_queries.txt` whose words occur in a caption. Absent: queries of that file whose words occur in no
caption, and names of ImageNet classes whose words occur in none (dogs left out: captions say "dog").
Captions do not name everything, so some absent queries do match a picture, and pictures that match the
caption of another one count as wrong: the figures are underestimates.

Printed: how well the best hit's score separates the two (area under the ROC curve), beside other scores;
whether hits are ranked better by it or by cosines; what the default cut-off shows and misses on the whole
collection, on small ones and on one with dogs only.
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
REPEATS = 10


@dataclass(frozen=True)
class Query:
    """A query, whether it was written as a present one, and the words that decide."""

    text: str
    present: bool
    words: tuple[re.Pattern[str], ...]

    def pictures(self, captions: Captions) -> list[int]:
        """Images with a caption that has every word."""
        return [
            number
            for number, texts in enumerate(captions)
            if any(all(word.search(text) for word in self.words) for text in texts)
        ]

    def mentioned(self, captions: Captions) -> bool:
        """Whether any caption has any of the words."""
        return any(word.search(text) for texts in captions for text in texts for word in self.words)


def read_queries(path: Path) -> list[Query]:
    """Read a file of queries; its first lines describe the format."""
    queries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(("+ ", "- ")):
            text, _, words = line[2:].partition(" | ")
            queries.append(Query(text.strip(), line[0] == "+", tuple(map(pattern, words.split()))))
    return queries


def pattern(word: str) -> re.Pattern[str]:
    """Compile a word of a query's list: "a/b" matches either, "a*" any word with that prefix.

    Examples
    --------
    >>> matcher = pattern("surf*/wave")
    >>> [bool(matcher.search(text)) for text in ("two surfers", "a wave", "waves", "resurface")]
    [True, True, False, False]
    """
    alternatives = "|".join(re.escape(word_part).replace(r"\*", r"[\w-]*") for word_part in word.split("/"))
    return re.compile(rf"(?<![\w-])(?:{alternatives})(?![\w-])", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class QuerySet:
    """Embeddings of queries of one kind, and the images that match each."""

    embeddings: Floats  # (Q, D)
    about: tuple[tuple[int, ...], ...]


def matching_queries(encoder: Encoder, captions: Captions, queries: Sequence[Query]) -> dict[str, QuerySet]:
    """Queries about content of the collection, by kind."""
    short = [(query.text, query.pictures(captions)) for query in queries if query.present]
    matched = [(text, pictures) for text, pictures in short if pictures]
    print(f"{len(matched)} of {len(short)} short queries are about something here")
    return {
        "captions": QuerySet(
            embed_texts(encoder, [texts[0] for texts in captions]),
            tuple((number,) for number in range(len(captions))),
        ),
        "short queries": QuerySet(
            embed_texts(encoder, [text for text, _ in matched]),
            tuple(tuple(pictures) for _, pictures in matched),
        ),
    }


def absent_queries(encoder: Encoder, captions: Captions, queries: Sequence[Query]) -> dict[str, QuerySet]:
    """Queries about content that the collection lacks, by kind."""
    absent_queries = [query for query in queries if not query.present]
    absent = [query.text for query in absent_queries if not query.mentioned(captions)]
    caption_words = {
        word for texts in captions for text in texts for word in re.findall(r"\w+", text.lower())
    }
    names = [
        name
        for number, name in enumerate(class_names("imagenet"))
        if number not in DOGS and not caption_words & set(re.findall(r"\w+", name.lower()))
    ]
    print(
        f"{len(absent)} of {len(absent_queries)} queries and {len(names)} class names are about nothing here"
    )
    return {
        "absent queries": QuerySet(embed_texts(encoder, absent), ((),) * len(absent)),
        "absent names": QuerySet(
            embed_texts(encoder, [f"a photo of a {name}" for name in names]), ((),) * len(names)
        ),
    }


def scoring_functions(
    encoder: Encoder, background: Background, pictures: Floats
) -> Mapping[str, Callable[[Floats], Floats]]:
    """Candidate scores of hits by name, ours first; each maps queries (Q, D) to scores (Q, N)."""
    gauge = RelevanceScale.of(background, pictures)
    background_cosines = pictures @ background.rows.T  # (N, B)
    scale = encoder.logit_scale
    evidence = np.log(np.exp(scale * (background_cosines - 1)).mean(axis=1)) + scale

    def ours(embeddings: Floats) -> Floats:
        return np.stack(
            [gauge.relevance(pictures @ embedding, pictures, size=len(pictures)) for embedding in embeddings]
        )

    def over_collection(embeddings: Floats) -> Floats:
        cosines = embeddings @ pictures.T
        middle = np.median(cosines, axis=1, keepdims=True)
        result: Floats = (cosines - middle) / np.median(np.abs(cosines - middle), axis=1, keepdims=True)
        return result

    def double_z(embeddings: Floats) -> Floats:
        z = (embeddings @ pictures.T - background_cosines.mean(axis=1)) / background_cosines.std(axis=1)
        result: Floats = z - z.mean(axis=1, keepdims=True)
        return result

    return {
        "relevance": ours,
        "cosine": lambda embeddings: embeddings @ pictures.T,
        "z over the collection": over_collection,
        "z over the background texts": lambda embeddings: (
            (embeddings @ pictures.T - background_cosines.mean(1)) / background_cosines.std(1)
        ),
        "both z, one after the other": double_z,
        "softmax with the background texts": lambda embeddings: scale * embeddings @ pictures.T - evidence,
    }


def print_auc(
    scorers: Mapping[str, Callable[[Floats], Floats]],
    here: Mapping[str, QuerySet],
    absent: Mapping[str, QuerySet],
) -> None:
    """Print the area under the ROC curve of every score, for each present kind against each absent kind."""
    pairs = [(kind, absent_kind) for kind in here for absent_kind in absent]
    print(
        "\n| score of the best hit | "
        + " | ".join(f"{kind} / {absent_kind}" for kind, absent_kind in pairs)
        + " |"
    )
    print("| --- |" + " ---: |" * len(pairs))
    for name, scorer in scorers.items():
        best = {kind: scorer(queries.embeddings).max(axis=1) for kind, queries in {**here, **absent}.items()}
        areas = [
            roc_auc(
                np.concatenate([best[kind], best[absent_kind]]),
                [1] * len(best[kind]) + [0] * len(best[absent_kind]),
            )
            for kind, absent_kind in pairs
        ]
        print(f"| {name} | " + " | ".join(f"{area:.3f}" for area in areas) + " |")


def print_ranking(scorers: Mapping[str, Callable[[Floats], Floats]], captions: QuerySet) -> None:
    """Print the share of captions whose own image is in the top ten, by cosine and by our score."""
    own = np.array([about[0] for about in captions.about])
    shares = []
    for name in ("cosine", "relevance"):
        values = scorers[name](captions.embeddings)  # (Q, N)
        before = (values > np.take_along_axis(values, own[:, None], axis=1)).sum(axis=1)
        shares.append(f"{(before < 10).mean():.3f} by {name}")
    print(f"\ncaptions whose picture is among the first ten: {', '.join(shares)}")


def print_errors(shown: Mapping[str, NDArray[np.bool_]], here: Mapping[str, QuerySet]) -> None:
    """Print what the default cut-off shows for each kind; `shown` has (Q, N) each."""
    print(
        "\n| queries | with an answer | hits shown, median (90th percentile) "
        "| fraction of shown hits that are right | fraction of right pictures shown |"
    )
    print("| --- | ---: | ---: | ---: | ---: |")
    for kind, shown_images in shown.items():
        counts = shown_images.sum(axis=1)
        line = f"| {kind} ({len(shown_images)}) | {(counts > 0).mean():.3f} | {np.median(counts):.0f} "
        line += f"({np.quantile(counts, 0.9):.0f}) |"
        if kind in here:
            correct = [shown_images[number, list(about)] for number, about in enumerate(here[kind].about)]
            is_shown = np.concatenate(correct)
            line += f" {is_shown.sum() / max(counts.sum(), 1):.3f} | {is_shown.mean():.3f} |"
        print(line if kind in here else line + " | |")


def print_small_collections(
    background: Background, pictures: Floats, here: Mapping[str, QuerySet], absent: Mapping[str, QuerySet]
) -> None:
    """Print error rates on small collections: captions of their images against absent queries."""
    print("\n| pictures | captions without an answer | absent queries with one | absent names with one |")
    print("| ---: | ---: | ---: | ---: |")
    rng = np.random.default_rng(0)
    for size in (size for size in SIZES if size < len(pictures)):
        rates = []
        for _ in range(REPEATS):
            chosen = rng.permutation(len(pictures))[:size]
            gauge = RelevanceScale.of(background, pictures[chosen])
            embeddings_by_kind = {"captions": here["captions"].embeddings[chosen]} | {
                kind: queries.embeddings for kind, queries in absent.items()
            }
            answered = [
                np.mean(
                    [shown_by_cutoff(gauge, embedding, pictures[chosen]).any() for embedding in embeddings]
                )
                for embeddings in embeddings_by_kind.values()
            ]
            rates.append([1 - answered[0], *answered[1:]])
        print(f"| {size} | " + " | ".join(f"{rate:.3f}" for rate in np.mean(rates, axis=0)) + " |")


def print_dogs(encoder: Encoder, background: Background, pictures: Floats, captions: Captions) -> None:
    """Print scores on a collection in which every image matches one query."""
    dogs = pictures[Query("", True, (pattern("dog/dogs"),)).pictures(captions)]
    gauge = RelevanceScale.of(background, dogs)
    print(f"\n| {len(dogs)} pictures of dogs, query | best relevance | share of pictures shown |")
    print("| --- | ---: | ---: |")
    texts = ("dogs", "a dog", "a dog playing outside", "a dog in the snow", "a cat", "a circuit board")
    for text, embedding in zip(texts, encoder.encode_texts(texts), strict=True):
        relevance = gauge.relevance(dogs @ embedding, dogs, size=len(dogs))
        print(f"| {text} | {relevance.max():.2f} | {(relevance >= DEFAULT_CUTOFF).mean():.3f} |")


def shown_by_cutoff(gauge: RelevanceScale, embedding: Floats, pictures: Floats) -> NDArray[np.bool_]:
    """Images that the default cut-off shows."""
    return gauge.relevance(pictures @ embedding, pictures, size=len(pictures)) >= DEFAULT_CUTOFF


def draw_curve(path: Path, here: Floats, absent: Floats) -> None:
    """Plot the share of answered queries, present against absent, over all cut-offs."""
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


def catalog_embeddings(encoder: Encoder, dataset: CaptionDataset) -> Floats:
    """Embeddings as a catalogue stores them, in half precision."""
    embedded_items = collect(embed_images(encoder, dataset), encoder.dim)
    assert not embedded_items.failures, embedded_items.failures[0]
    return embedded_items.vectors.astype(np.float16).astype(np.float32)


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
    pictures, background = catalog_embeddings(encoder, dataset), Background.of(encoder)
    queries = read_queries(QUERIES)
    here = matching_queries(encoder, dataset.captions, queries)
    absent = absent_queries(encoder, dataset.captions, queries)
    gauge = RelevanceScale.of(background, pictures)
    size = len(pictures)
    print(
        f"levels, in spreads of {gauge.spread:.4f}: noise {gauge.noise(size):.2f}, "
        f"match {gauge.match(size):.2f}"
    )
    scorers = scoring_functions(encoder, background, pictures)
    print_auc(scorers, here, absent)
    print_ranking(scorers, here["captions"])
    relevance_of = {
        kind: scorers["relevance"](queries.embeddings) for kind, queries in {**here, **absent}.items()
    }
    print_errors({kind: relevance >= DEFAULT_CUTOFF for kind, relevance in relevance_of.items()}, here)
    print_small_collections(background, pictures, here, absent)
    print_dogs(encoder, background, pictures, dataset.captions)
    if options.plot:
        best = {kind: relevance.max(axis=1) for kind, relevance in relevance_of.items()}
        draw_curve(options.plot, best["short queries"], best["absent queries"])


if __name__ == "__main__":
    main()
