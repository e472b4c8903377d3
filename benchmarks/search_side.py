"""One side of search.py in its own process, so that memory can be measured separately.

A line of JSON on standard input describes the work, a line on standard output has the answer. Rows come from
the segments that search.py wrote; an index that needs float32 gets them in parts.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.vectors.exact import nearest_exact
from diptych.vectors.nearest import NearestNeighbours
from diptych.vectors.segments import Segments

Work = dict[str, Any]
Floats = NDArray[np.float32]
RowNumbers = NDArray[np.int64]
Ask = Callable[[Floats], RowNumbers]  # (Q, D) -> (Q, K)
Marks = NDArray[np.bool_]

K = 10
TARGET = 0.99
EFFORTS = (
    16,
    32,
    64,
    128,
    256,
    512,
    1024,
    2048,
)  # a graph's `ef`: the least that reaches the target is taken


def memory() -> dict[str, float]:
    """Anonymous and private dirty memory of this process, MiB; empty if the system does not report it."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return {}
    sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
    return {name: int(sizes[name]) / 1024 for name in ("Anonymous", "Private_Dirty")}


def peak_memory() -> float:
    """Peak memory of this process, mapped files included, MiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def parts(segments: Segments, rows: int) -> Iterator[tuple[int, Floats]]:
    """Yield the first rows in parts, as float32."""
    for first, part in segments.parts():
        for start in range(0, min(len(part), rows - first), 16_384):
            yield first + start, part[start : min(start + 16_384, rows - first)].astype(np.float32)


def recall(neighbours: RowNumbers, true: RowNumbers) -> float:
    """Mean share of the true neighbours that were returned."""
    return float(np.mean([np.isin(want, got).mean() for got, want in zip(neighbours, true, strict=True)]))


def timed(ask: Callable[[int], object], count: int) -> tuple[float, float]:
    """Median and 99th percentile of single questions, ms; the first ten do not count."""
    taken = []
    for n in range(count):
        start = time.perf_counter()
        ask(n)
        taken.append(time.perf_counter() - start)
    p50, p99 = np.percentile(np.array(taken[10:] or taken) * 1e3, [50, 99])
    return float(p50), float(p99)


def build(work: Work, segments: Segments, texts: Floats) -> Work:
    """Build our index, tuned with texts that are not used as queries."""
    from diptych.vectors.ivf_build import build_ivf

    report = build_ivf(segments, Path(work["index"]), texts)
    return {"told": report.summary(), "seconds": report.seconds, "peak": peak_memory(), "settings": [
        [setting.k, setting.probes, setting.candidates] for setting in report.head.settings
    ]}  # fmt: skip


def ours(work: Work, segments: Segments, texts: Floats, true: RowNumbers) -> Work:
    """Our index, with and without filters."""
    near = NearestNeighbours(segments, Path(work["index"]), exact_rows=work["exact_rows"])
    if near.index_error:
        sys.exit(near.index_error)
    figures = _measure(lambda queries: near.search(queries, K)[0], texts, true)
    two_hundred = timed(lambda n: near.search(texts[n : n + 1], 200), len(texts))
    filtered = {}
    for name, marks, expected in _filters(work):
        allowed = np.flatnonzero(marks)
        neighbours = np.concatenate([near.search(text[None], K, allowed=allowed)[0] for text in texts])
        p50, p99 = timed(lambda n, rows=allowed: near.search(texts[n : n + 1], K, allowed=rows), len(texts))  # type: ignore[misc]
        filtered[name] = {"recall": recall(neighbours, expected), "p50": p50, "p99": p99}
    return {**figures, "p50 of 200": two_hundred[0], "filtered": filtered}


def scan(work: Work, segments: Segments, texts: Floats, true: RowNumbers) -> Work:
    """Our exact search without an index."""
    return _measure(lambda queries: nearest_exact(segments, queries, K)[0], texts, true)


def flat(work: Work, segments: Segments, texts: Floats, true: RowNumbers) -> Work:
    """Faiss flat index over float32."""
    import faiss

    index = faiss.IndexFlatIP(segments.dim)
    for _, rows in parts(segments, work["rows"]):
        index.add(rows)
    return _measure(lambda queries: index.search(queries, K)[1], texts, true)


def hnsw(work: Work, segments: Segments, texts: Floats, true: RowNumbers) -> Work:
    """Faiss HNSW graph over float32."""
    import faiss

    index = faiss.IndexHNSWFlat(segments.dim, 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 100
    start = time.monotonic()
    for _, rows in parts(segments, work["rows"]):
        index.add(rows)
    built = time.monotonic() - start

    def effort(value: int) -> None:
        index.hnsw.efSearch = value

    taken = _smallest_effort(effort, lambda queries: index.search(queries, K)[1], texts, true)
    figures = _measure(lambda queries: index.search(queries, K)[1], texts, true)
    filtered = {}
    for name, marks, expected in _filters(work):
        bits: Any = np.packbits(marks, bitorder="little")
        loose: Any = faiss  # its stubs know neither the array form nor this class
        some = loose.SearchParametersHNSW(sel=loose.IDSelectorBitmap(bits), efSearch=taken)
        neighbours = index.search(texts, K, params=some)[1]
        p50, p99 = timed(lambda n, how=some: index.search(texts[n : n + 1], K, params=how), len(texts))  # type: ignore[misc]
        filtered[name] = {"recall": recall(neighbours, expected), "p50": p50, "p99": p99}
    return {**figures, "seconds": built, "effort": taken, "filtered": filtered}


def usearch(work: Work, segments: Segments, texts: Floats, true: RowNumbers) -> Work:
    """Usearch graph over half precision."""
    from usearch.index import Index

    index = Index(ndim=segments.dim, metric="ip", dtype="f16", connectivity=32, expansion_add=100)
    start = time.monotonic()
    for first, rows in parts(segments, work["rows"]):
        index.add(np.arange(first, first + len(rows)), rows)
    built = time.monotonic() - start

    def ask(queries: Floats) -> RowNumbers:
        return np.stack([index.search(query, K).keys for query in queries]).astype(np.int64)

    def effort(value: int) -> None:
        index.expansion_search = value

    taken = _smallest_effort(effort, ask, texts, true)
    return {**_measure(ask, texts, true), "seconds": built, "effort": taken}


def first_answer(work: Work, segments: Segments, texts: Floats, true: RowNumbers) -> Work:
    """Open the index and answer one query; search.py measures from before the process started."""
    near = NearestNeighbours(segments, Path(work["index"]), exact_rows=work["exact_rows"])
    return {"rows": near.search(texts[:1], K)[0].tolist()}


def _measure(ask: Ask, texts: Floats, true: RowNumbers) -> Work:
    p50, p99 = timed(lambda n: ask(texts[n : n + 1]), len(texts))
    neighbours = np.concatenate([ask(text[None]) for text in texts])
    return {"p50": p50, "p99": p99, "recall": recall(neighbours, true), "memory": memory()}


def _smallest_effort(effort: Callable[[int], None], ask: Ask, texts: Floats, true: RowNumbers) -> int:
    for value in EFFORTS:
        effort(value)
        if recall(ask(texts), true) >= TARGET:
            return value
    return EFFORTS[-1]


def _filters(work: Work) -> Iterator[tuple[str, Marks, RowNumbers]]:
    for name, path in work["filters"].items():
        held = np.load(path)
        yield name, held["marks"], held["true"]


def main() -> None:
    work = json.loads(sys.stdin.readline())
    segments = Segments(Path(work["space"]), work["dim"], work["of"])
    if work["who"] == "build":
        answer = build(work, segments, np.load(work["judges"]))
    else:
        run_side = {side.__name__: side for side in (ours, scan, flat, hnsw, usearch, first_answer)}[
            work["who"]
        ]
        answer = run_side(work, segments, np.load(work["texts"]), np.load(work["true"]))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
