"""Regularisation sweep of a linear probe: ours beside a loop of scikit-learn fits over all 97 strengths.

    python benchmarks/probe.py --tolerance same --every 8 --cache DIR

Both get the same float32 features of the default model before its projection. Both choose the strength on the
same fifth of the training images, then train on all of them and classify the test images. The data are
CIFAR-10 (5,000 training images by default) and Caltech-101 (16 of each class).

The plain loop is what one writes by hand: `LogisticRegression(C=c, max_iter=1000).fit(features, labels)`. Its
default tolerance ends fits early (see `diptych.evaluation.probes.logistic`), which makes the loop faster and
changes its choice; `--tolerance same` gives it our tolerance. `--every N` fits only every Nth strength and
scales the time of the loop accordingly; the output says so. Aim: 5 times as fast with either tolerance, at
equal accuracy.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, machine
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

import diptych
from diptych.datasets import ImageDataset, load_labelled
from diptych.evaluation import FeatureStore
from diptych.evaluation.probes import logistic
from diptych.evaluation.probes.regularisation_search import GRID
from diptych.evaluation.probes.splits import split_validation
from diptych.evaluation.protocols.settings import Setup

SETS = {
    "cifar10": ("cifar10-train.tar.gz", "cifar10-test-a.tar.gz"),
    "caltech101": ("caltech101-train-16shot.tar", "caltech101-test-a.tar"),
}


@dataclass(frozen=True, eq=False)
class Work:
    """Features and labels, and the split of the training features that selects the strength."""

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    test_rows: NDArray[np.float32]
    truth: NDArray[np.int64]
    teach: NDArray[np.intp]
    choose: NDArray[np.intp]


@dataclass(frozen=True)
class Swept:
    """Result of a sweep: chosen strength, accuracies, and seconds of the sweep and of the last fit."""

    c: float
    validation: float
    test: float
    sweep: float
    last: float
    fits: int
    unfinished: int


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS), help="data sets")
    parser.add_argument("--cifar", type=int, default=5000, help="training pictures of CIFAR-10")
    parser.add_argument("--tolerance", choices=["default", "same"], default="default", help="of the loop")
    parser.add_argument("--every", type=int, default=1, help="the loop fits every Nth strength only")
    parser.add_argument("--cache", type=Path, help="a folder for the features")
    args = parser.parse_args()
    encoder = diptych.load(exact=True)
    print(machine())
    for name in args.sets:
        work = _features(encoder, name, args)
        count = len(np.unique(work.labels))
        print(f"\n{name}: {len(work.labels):,} x {work.rows.shape[1]} features, {count} classes")
        ours, loop = _ours(work), _loop(work, args.tolerance == "same", args.every)
        _print_sweep("ours", ours)
        _print_sweep(f"loop, {args.tolerance} tolerance", loop)
        scale = len(GRID) / loop.fits
        if args.every > 1:
            print(
                f"  the loop fitted {loop.fits} of {len(GRID)} strengths: its time counts {scale:.2f} times"
            )
        print(f"  ratio of the sweep: {loop.sweep * scale / ours.sweep:.1f} (aim 5)")
        print(f"  with the last fit:  {(loop.sweep * scale + loop.last) / (ours.sweep + ours.last):.1f}")


def _features(encoder: Any, name: str, args: Any) -> Work:
    train, test = (load_labelled(args.shared / "data" / file) for file in SETS[name])
    if name == "cifar10":
        train = train.sample(args.cifar)
    setup = Setup.of(store=FeatureStore(args.cache) if args.cache else None)

    def read(data: ImageDataset) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        embedded = setup.embed(encoder, data, features=True)
        return embedded.embeddings, data.labels[embedded.positions]

    (features, labels), (test_features, truth) = read(train), read(test)
    return Work(features, labels, test_features, truth, *split_validation(labels, 0.2, seed=0))


def _ours(work: Work) -> Swept:
    start = time.perf_counter()
    search = logistic.search(
        work.rows[work.teach], work.labels[work.teach], work.rows[work.choose], work.labels[work.choose]
    )
    between = time.perf_counter()
    final = logistic.fit(work.rows, work.labels, search.c)
    end = time.perf_counter()
    predicted = final.scores(work.test_rows, int(work.labels.max()) + 1).argmax(axis=1)
    return Swept(
        search.c,
        max(fit.accuracy for fit in search.tried),
        float((predicted == work.truth).mean()),
        between - start,
        end - between,
        len(search.tried),
        sum(not fit.converged for fit in search.tried) + (not final.converged),
    )


def _loop(work: Work, same: bool, every: int) -> Swept:
    def model(c: float, rows: int) -> LogisticRegression:
        tolerance = {"tol": logistic.TOLERANCE / rows} if same else {}
        return LogisticRegression(C=c, max_iter=1000, **tolerance)

    start = time.perf_counter()
    rows, labels = work.rows[work.teach], work.labels[work.teach]
    accuracies, grid = [], GRID[::every]
    with warnings.catch_warnings(record=True) as convergence_warnings:
        warnings.simplefilter("always")
        for c in grid:
            fitted = model(c, len(rows)).fit(rows, labels)
            accuracies.append(fitted.score(work.rows[work.choose], work.labels[work.choose]))
        best = grid[int(np.argmax(accuracies))]
        between = time.perf_counter()
        last = model(best, len(work.rows)).fit(work.rows, work.labels)
    end = time.perf_counter()
    test = float(last.score(work.test_rows, work.truth))
    return Swept(
        best, max(accuracies), test, between - start, end - between, len(grid), len(convergence_warnings)
    )


def _print_sweep(side: str, swept: Swept) -> None:
    print(
        f"  {side:24} {swept.fits:3} fits in {swept.sweep:7.1f} s + {swept.last:5.1f} s, {swept.unfinished} "
        f"did not converge; C {swept.c:9.3g}, validation {swept.validation:.4f}, test {swept.test:.4f}"
    )


if __name__ == "__main__":
    main()
