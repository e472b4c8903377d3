"""Single words searched in captioned pictures, in English and in Spanish.

    python benchmarks/words.py [--model MODEL]... [--data flickr8k-val.tar] [--json FILE]

`words.txt` has 60 everyday words, each with the WordNet synset of its everyday sense. A picture is right for
a word if the word, its plural or another name of the synset stands in at least two of its captions. A name
that two of the words share ("bike", of bicycle and motorcycle) counts only if another name of the word stands
in a caption of the picture too. Captions do not name everything: the precision is underestimated.

The pictures are written into a temporary folder, indexed as `diptych index` does and searched as
`diptych search` does. Printed for each word: the precision at min(10, number of right pictures), of the
nearest pictures whatever their relevance, and whether the search finds nothing at its cut-off. The same for
the words whose synset has a Spanish name, asked by the first of these names.

With several models, given by repeated --model (the old one first): the difference of each to the first, with
a 95 percent interval from a bootstrap over the words, the same words for both models.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from common import arguments, machine
from cutoff import Captions, pattern

import diptych
from diptych.catalog import Searcher, SearchOptions, Store, index_pictures
from diptych.datasets import CaptionDataset, load_captioned
from diptych.encoder import Encoder
from diptych.inputs.nouns import plural
from diptych.reports import Estimate
from diptych.stats.rankings import resampled

WORDS = Path(__file__).with_name("words.txt")
TOP = 10
LEAST_CAPTIONS = 2  # in which a name must stand
MOST_MODELS = 3  # that fit a table of 80 columns
RESAMPLES = 4000
IRREGULAR = {"man": "men", "woman": "women", "child": "children"}


@dataclass(frozen=True)
class Word:
    """A word, its synset, all English names of the synset, and its first Spanish name or ""."""

    text: str
    wnid: str
    names: tuple[str, ...]
    spanish: str


@dataclass(frozen=True)
class Answer:
    """Precision of one query, None without a right picture; and whether the search shows any picture."""

    precision: float | None
    found: bool


@dataclass(frozen=True)
class ModelAnswers:
    """Answers of one model by word; in Spanish for the words that have a Spanish name."""

    model: str
    name: str
    identity: str
    english: Mapping[str, Answer]
    spanish: Mapping[str, Answer]


def read_words(path: Path, wordnet: Path) -> list[Word]:
    """Read the words with their synsets from `words.txt`, and the names of these from WordNet's table."""
    lines = path.read_text(encoding="utf-8").splitlines()
    synsets = dict(line.split("\t") for line in lines if line and not line.startswith("#"))
    wanted = set(synsets.values())
    names: dict[str, tuple[list[str], str]] = {}
    with gzip.open(wordnet, "rt", encoding="utf-8") as table:
        for line in table:
            wnid, english, spanish, *_ = line.split("\t")
            if wnid in wanted:
                names[wnid] = (english.split("|"), spanish.split("|")[0])
    words = []
    for text, wnid in synsets.items():
        english_names, first_spanish = names[wnid]
        if text not in (lowered := [name.lower() for name in english_names]):
            sys.exit(f"{path}: {wnid} has no name {text!r}; its names are {', '.join(english_names)}")
        words.append(Word(text, wnid, tuple(lowered), first_spanish))
    return words


def forms(name: str) -> tuple[str, str]:
    """Singular and plural of a name.

    Examples
    --------
    >>> forms("bench"), forms("male child"), forms("young woman")
    (('bench', 'benches'), ('male child', 'male children'), ('young woman', 'young women'))
    """
    start, last = name[: name.rfind(" ") + 1], name.split()[-1]
    return name, start + IRREGULAR.get(last, plural(last))


def shared_names(words: Sequence[Word]) -> set[str]:
    """Names of more than one of the words, unless they are one of the words."""
    counts = Counter(name for word in words for name in word.names)
    return {name for name, count in counts.items() if count > 1} - {word.text for word in words}


def right_pictures(word: Word, captions: Captions, shared: set[str]) -> set[int]:
    """Positions of the pictures that show the word by their captions."""
    every = pattern("/".join(form for name in word.names for form in forms(name)))
    own = pattern("/".join(form for name in word.names if name not in shared for form in forms(name)))
    return {
        number
        for number, texts in enumerate(captions)
        if sum(bool(every.search(text)) for text in texts) >= LEAST_CAPTIONS
        and any(own.search(text) for text in texts)
    }


def precision(ranked: Sequence[int], right: set[int]) -> float | None:
    """Precision at min(TOP, number of right pictures); None without a right picture.

    Examples
    --------
    >>> precision([7, 1, 2, 3], {1, 7, 3}), precision([1, 2], set())
    (0.6666666666666666, None)
    """
    depth = min(TOP, len(right))
    return len(right.intersection(ranked[:depth])) / depth if depth else None


def write_pictures(dataset: CaptionDataset, folder: Path) -> None:
    """Write the picture files as they are, named by their position."""
    folder.mkdir()
    for number, (key, content) in enumerate(dataset):
        assert isinstance(content, bytes), f"{key}: expected the bytes of a file"
        (folder / f"{number}{Path(key).suffix}").write_bytes(content)


def search_all(
    encoder: Encoder, pictures: Path, catalog: Path, queries: Sequence[tuple[str, set[int]]]
) -> list[Answer]:
    """Index the pictures, then search each query; a query comes with its right pictures."""
    store = Store.create(catalog)
    try:
        outcome = index_pictures(store, encoder, [pictures])
        assert not outcome.failed, f"{outcome.failed} pictures cannot be read"
        searcher = Searcher(store, encoder)
        return [ask(searcher, query, right) for query, right in queries]
    finally:
        store.close()


def ask(searcher: Searcher, query: str, right: set[int]) -> Answer:
    """Search as the command does for `found`, and without its cut-off for the precision."""
    shown = searcher.search(query)
    # Copies one by one: two right pictures that look alike are two.
    nearest = searcher.search(query, SearchOptions(cutoff=None, limit=TOP, collapse=False))
    ranked = [int(hit.entry.path.stem) for hit in nearest.hits]
    return Answer(precision(ranked, right), bool(shown.hits))


def measure(model: str, words: Sequence[Word], truth: Mapping[str, set[int]], home: Path) -> ModelAnswers:
    """Answers of one model; `home` has the folder "pictures" and gets a catalogue."""
    encoder = diptych.load(model)
    spanish = [word for word in words if word.spanish]
    queries = [(word.text, truth[word.text]) for word in words]
    queries += [(word.spanish, truth[word.text]) for word in spanish]
    with tempfile.TemporaryDirectory(dir=home) as catalog:
        answers = search_all(encoder, home / "pictures", Path(catalog, "catalog"), queries)
    return ModelAnswers(
        model,
        encoder.spec.name,
        encoder.identity,
        {word.text: answer for word, answer in zip(words, answers, strict=False)},
        {word.text: answer for word, answer in zip(spanish, answers[len(words) :], strict=True)},
    )


def precisions(answers: Mapping[str, Answer], words: Sequence[str]) -> list[float]:
    """Precisions of these words, without those that have no right picture."""
    return [value for word in words if (value := answers[word].precision) is not None]


def paired_bootstrap(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Mean of second minus first over the same words, with the 95 percent percentile interval.

    Examples
    --------
    >>> print(paired_bootstrap([0.5, 0.2, 0.0], [0.6, 0.3, 0.1]))
    0.100 [0.100, 0.100]
    """
    gaps = np.subtract(second, first)
    means = resampled(lambda counts: float(counts @ gaps) / len(gaps), len(gaps), resamples=RESAMPLES)
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(gaps.mean()), float(low), float(high), n=len(gaps))


def summary(models: Sequence[ModelAnswers]) -> dict[str, list[float]]:
    """The figures under the table: name -> the value of each model."""
    english, spanish = list(models[0].english), list(models[0].spanish)

    def means(answers: Sequence[Mapping[str, Answer]], words: Sequence[str]) -> list[float]:
        return [float(np.mean(precisions(each, words))) for each in answers]

    def misses(answers: Sequence[Mapping[str, Answer]]) -> list[float]:
        return [sum(not answer.found for answer in each.values()) for each in answers]

    in_english, in_spanish = [each.english for each in models], [each.spanish for each in models]
    both = means(in_english, spanish), means(in_spanish, spanish)
    return {
        f"mean precision, {len(precisions(in_english[0], english))} words": means(in_english, english),
        f"find nothing, of {len(english)} words": misses(in_english),
        f"mean precision, {len(precisions(in_english[0], spanish))} words with Spanish name": both[0],
        "the same in Spanish": both[1],
        "Spanish / English": [b / a if a else float("nan") for a, b in zip(*both, strict=True)],
        f"find nothing in Spanish, of {len(spanish)} words": misses(in_spanish),
    }


def differences(models: Sequence[ModelAnswers]) -> dict[str, Estimate]:
    """Differences in mean precision of each further model to the first."""
    return {
        f"{letter} - A, {language}": paired_bootstrap(
            precisions(getattr(models[0], language), list(getattr(models[0], language))),
            precisions(getattr(other, language), list(getattr(other, language))),
        )
        for letter, other in zip("BC", models[1:], strict=False)
        for language in ("english", "spanish")
    }


def print_table(words: Sequence[Word], truth: Mapping[str, set[int]], models: Sequence[ModelAnswers]) -> None:
    """Print a line for each word, then the means and differences, in at most 80 columns."""

    def cell(answer: Answer | None) -> str:
        if answer is None:
            return f"{'':7}"
        value = "-" if answer.precision is None else f"{answer.precision:.2f}"
        return f"{value:>6}{' ' if answer.found else '*'}"

    letters = "".join(f"{letter:>6} " for letter in "ABC"[: len(models)])
    for letter, each in zip("ABC", models, strict=False):
        print(f"{letter}: {each.model}, {each.name} {each.identity[:19]}")
    header = f"{'word':12}{'right':>6}{letters}  {'Spanish':18}{letters}"
    print(f"*: diptych search finds nothing\n\n{header.rstrip()}")
    for word in words:
        english = "".join(cell(each.english[word.text]) for each in models)
        spanish = "".join(cell(each.spanish.get(word.text)) for each in models)
        line = f"{word.text:12}{len(truth[word.text]):6}{english}  {word.spanish:18}{spanish}"
        print(line.rstrip())
    print(f"\n{'':44}{letters}".rstrip())
    for name, values in summary(models).items():
        cells = "".join(f"{value:6.0f} " if name.startswith("find") else f"{value:6.3f} " for value in values)
        print(f"{name:44}{cells}".rstrip())
    for name, gap in differences(models).items():
        print(f"{name:44}{gap.value:+6.3f} [{gap.low:+.3f}, {gap.high:+.3f}]")


def main() -> None:
    options = parse(sys.argv[1:])
    dataset = load_captioned(options.data or options.shared / "data" / "flickr8k-test.tar")
    words = read_words(WORDS, options.shared / "data" / "wordnet-nouns.tsv.gz")
    shared = shared_names(words)
    truth = {word.text: right_pictures(word, dataset.captions, shared) for word in words}
    print(machine())
    print(f"{dataset.name}: {len(dataset):,} pictures; shared by two words: {', '.join(sorted(shared))}")
    with tempfile.TemporaryDirectory() as home:
        write_pictures(dataset, Path(home, "pictures"))
        models = [measure(model, words, truth, Path(home)) for model in options.model or ["default"]]
    print_table(words, truth, models)
    if options.json:
        values = {
            "data": dataset.name,
            "fingerprint": dataset.fingerprint,
            "words": [{**asdict(word), "right": len(truth[word.text])} for word in words],
            "models": [asdict(each) for each in models],
            "summary": summary(models),
            "differences": {name: asdict(gap) for name, gap in differences(models).items()},
        }
        options.json.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse the options."""
    parser = arguments(__doc__)
    parser.add_argument("--model", action="append", help="a name, a run or a folder; repeat it to compare")
    parser.add_argument("--data", type=Path, help="captioned pictures; by default Flickr8k's test ones")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args(words)
    if len(options.model or ()) > MOST_MODELS:
        parser.error(f"{len(options.model)} models: expected at most {MOST_MODELS}")
    return options


if __name__ == "__main__":
    main()
