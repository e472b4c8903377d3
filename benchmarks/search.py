"""Searching a million vectors: ours beside faiss flat, faiss HNSW and usearch, in one run.

    python benchmarks/search.py [--rows 1000000] [--dim 512] [--queries 300] [--peers flat hnsw usearch]

Synthetic vectors are generated once (`search_vectors.py`), and every side reads them in a process of its
own. Queries resemble texts, which lie apart from the images. Printed for single queries with ten neighbours
each: the median and the 99th percentile, recall@10 against exact float32 products in NumPy, and the
process's own memory (`Anonymous` in smaps_rollup, without mapped files). A graph searches with the smallest
effort that reaches recall 0.99, or the largest that was tried. Our index is tuned with 374 other texts.

Filters keep a random fraction of the rows, or the half of the rows that is farthest from the mean query. The
time to a first answer starts with the Python process, with the files in the page cache and without.

Building graphs takes an hour for a million rows on two cores: `--peer-rows N` gives them only the first N,
which makes them look better; the output says so. Aims, on two cores: p50 5 ms at recall 0.99, 0.7 GB, filters
never under 0.98, and exact where they leave 200,000 rows or fewer.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import search_vectors
from common import arguments, drop_file_cache, machine
from numpy.typing import NDArray

from diptych.vectors.nearest import EXACT_ROWS
from diptych.vectors.segments import Segments

Floats = NDArray[np.float32]
RowNumbers = NDArray[np.int64]
Work = dict[str, Any]

JUDGES = 374  # texts that the index is tuned with: as many as in a catalogue
K = 10
FRACTIONS = (0.001, 0.01, 0.1, 0.5)
GRAPHS = ("hnsw", "usearch")
SIDE = Path(__file__).with_name("search_side.py")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--peers", nargs="*", choices=["flat", *GRAPHS], default=["flat", *GRAPHS])
    parser.add_argument("--peer-rows", type=int, help="rows the graphs are built from; by default all")
    parser.add_argument("--folder", type=Path, help="for the vectors; by default a temporary one")
    args = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        run(args, Path(folder))


def run(args: Namespace, folder: Path) -> None:
    """Generate the vectors, run each side, print the results."""
    start = time.monotonic()
    segments, texts = search_vectors.make(folder / "space", args.rows, args.dim, JUDGES + args.queries)
    judges, queries = texts[:JUDGES], texts[JUDGES:]
    print(f"{args.rows:,} x {args.dim}, made in {time.monotonic() - start:.0f} s")
    print(search_vectors.describe(segments, queries), flush=True)
    work = _prepare(folder, segments, judges, queries)
    work["exact_rows"] = min(EXACT_ROWS, args.rows // 5)
    built = _side("build", work)
    print(f"ours: {built['told']}")
    for k, probes, candidates in built["settings"]:
        print(f"  for {k:,}: {probes:,} lists visited, {candidates:,} rows ranked exactly")
    print(f"  at most {built['peak']:,.0f} MiB while it was built, mapped files included")
    print(f"\n{'':34}{'p50 ms':>8}{'p99 ms':>8}{'recall':>8}{'MiB':>7}")
    answers = {side: _side(side, work) for side in ("ours", "scan")}
    _print_line("ours", answers["ours"])
    print(f"    of 200 neighbours{'':13}{answers['ours']['p50 of 200']:8.2f}")
    _print_line("ours, every row looked at", answers["scan"])
    for side in args.peers:
        rows = min(args.peer_rows or args.rows, args.rows) if side in GRAPHS else args.rows
        answers[side] = _side(side, _with_first_rows(work, segments, queries, folder, rows))
        _print_line(f"{_NAMES[side]}{'' if rows == args.rows else f', {rows:,} rows'}", answers[side])
    _print_filtered(answers)
    _print_first_answer(work, folder)


_NAMES = {"flat": "faiss flat, float32", "hnsw": "faiss HNSW, float32", "usearch": "usearch, half precision"}


def _prepare(folder: Path, segments: Segments, judges: Floats, queries: Floats) -> Work:
    """Save everything that a side needs."""
    marks = {f"{fraction:.1%} of the rows": _random_mask(segments.rows, fraction) for fraction in FRACTIONS}
    marks["the far half"] = _far_half(segments, queries)
    true = exact(segments, queries, list(marks.values()))
    for name, rows in (("judges", judges), ("texts", queries), ("true", true[0])):
        np.save(folder / f"{name}.npy", rows)
    for (name, mark), expected in zip(marks.items(), true[1:], strict=True):
        np.savez(folder / f"{name}.npz", marks=mark, true=expected)
    return {
        "space": str(segments.folder),
        "dim": segments.dim,
        "of": segments.rows,
        "rows": segments.rows,
        "index": str(folder / "ivf"),
        "filters": {name: str(folder / f"{name}.npz") for name in marks},
        **{name: str(folder / f"{name}.npy") for name in ("judges", "texts", "true")},
    }


def _with_first_rows(work: Work, segments: Segments, queries: Floats, folder: Path, rows: int) -> Work:
    """The same work on the first rows only."""
    if rows == segments.rows:
        return work
    fewer = Segments(segments.folder, segments.dim, rows)
    np.save(folder / "true of fewer.npy", exact(fewer, queries, [])[0])
    return {**work, "rows": rows, "true": str(folder / "true of fewer.npy"), "filters": {}}


def _random_mask(rows: int, fraction: float) -> NDArray[np.bool_]:
    return np.random.default_rng(round(fraction * 1e4)).random(rows) < fraction


def _far_half(segments: Segments, queries: Floats) -> NDArray[np.bool_]:
    """Rows less like the queries' mean than the median row."""
    mean = queries.mean(axis=0)
    near = np.concatenate([part.astype(np.float32) @ mean for _, part in segments.parts()])
    far: NDArray[np.bool_] = near < np.median(near)
    return far


def exact(segments: Segments, queries: Floats, marks: list[NDArray[np.bool_]]) -> list[RowNumbers]:
    """Exact neighbours by NumPy products: among all rows, then among those of each filter, (Q, K) each."""
    kept = [np.ones(segments.rows, bool), *marks]
    best = [np.full((len(queries), K), -np.inf, np.float32) for _ in kept]
    rows = [np.full((len(queries), K), -1) for _ in kept]
    for first, part in segments.parts():
        for start in range(0, len(part), 16_384):
            products = queries @ part[start : start + 16_384].astype(np.float32).T  # (Q, n)
            numbers = np.arange(first + start, first + start + products.shape[1])
            for n, mark in enumerate(kept):
                here = mark[numbers]
                scores = np.concatenate([best[n], products[:, here]], axis=1)
                where = np.concatenate([rows[n], np.tile(numbers[here], (len(queries), 1))], axis=1)
                top = np.argpartition(-scores, K - 1, axis=1)[:, :K]
                best[n] = np.take_along_axis(scores, top, axis=1)
                rows[n] = np.take_along_axis(where, top, axis=1)
    return rows


def _side(who: str, work: Work) -> Any:
    done = subprocess.run(
        [sys.executable, str(SIDE)],
        input=json.dumps({**work, "who": who}) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{who} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _print_line(name: str, answer: Work) -> None:
    own = answer["memory"].get("Anonymous")
    extra = f"  built in {answer['seconds']:,.0f} s, effort {answer['effort']}" if "effort" in answer else ""
    print(
        f"{name:34}{answer['p50']:8.2f}{answer['p99']:8.2f}{answer['recall']:8.4f}"
        f"{'' if own is None else f'{own:7,.0f}'}{extra}",
        flush=True,
    )


def _print_filtered(answers: dict[str, Work]) -> None:
    for side, answer in answers.items():
        if answer.get("filtered"):
            print(f"\nfiltered, {_NAMES.get(side, side)}")
            for name, figures in answer["filtered"].items():
                print(f"  {name:32}{figures['p50']:8.2f}{figures['p99']:8.2f}{figures['recall']:8.4f}")


def _print_first_answer(work: Work, folder: Path) -> None:
    """Print the time from the start of a process to its first answer."""
    for cached in (False, True):
        if not cached and not drop_file_cache(folder):
            continue
        start = time.monotonic()
        _side("first_answer", work)
        state = "in the system's cache" if cached else "on disk only"
        print(f"\nopened and answered in {time.monotonic() - start:.2f} s from nothing, files {state}")


if __name__ == "__main__":
    main()
