"""Training objectives compared on small packs: zero-shot accuracy against pairs seen and operations.

Command:  python recipes/efficiency_study.py --part 0 2 & python recipes/efficiency_study.py --part 1 2
          without --part all runs in one process; with --quick a smoke run; with --sweep the short runs that
          selected the rates below
Data:     DIPTYCH_SHARED/data: flickr8k-train, open-train, caltech101-train-16shot, tfflowers-train-1000, and
          five classes of cifar10-train; measured on cifar10-test-a and flickr8k-val
Cost:     about 25 minutes on two idle cores, 41 on busy ones; after a kill the same command continues the
          study
Result:   points.json, curves as SVG and PNG, a table: the contrastive objective is the most efficient;
          see docs/efficiency-study.md

(Paper, section 2.3 and figure 2.) Four objectives on the same two picture towers, of about the same
operations, see the same pairs in the same order; a fifth learns the labels of the labelled part. The rate
is constant after its warmup and averaged weights are measured, so each point equals the end of a shorter run.
efficiency_measures.py scores the pictures, efficiency_curves.py plots the points.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import default
import numpy as np
from default_sources import DATA
from efficiency_curves import draw, table
from efficiency_measures import TestSet, captioned_test_set, labelled_test_set, measure

from diptych.files.disk import write_atomically
from diptych.inputs import counted_long_texts, load_tokenizer
from diptych.model.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.training import Evaluator, Listener, Run, StepReport, TrainConfig, train
from diptych.training.data import AugmentConfig, LabelledTar, Mixture, Once
from diptych.training.objectives.predicting import cost_of
from diptych.weights import ModelSpec

SEEN_CLASSES = (
    "airplane",
    "automobile",
    "dog",
    "frog",
    "ship",
)  # of CIFAR-10: their training pictures are used
# Packs that the default model learns from, and that came after this study.
LATER_PACKS = ("openstax", "mnist")
UNSEEN_CLASSES = (
    "bird",
    "cat",
    "deer",
    "horse",
    "truck",
)  # theirs are not; other packs have similar pictures and words
SIDE, BATCH, STEPS = 32, 128, 32  # pixels; pairs a step; steps an epoch
LEVELS = (1, 2, 3, 4, 6, 8, 12)  # epochs after which to measure
TEXT = TextConfig(context_length=32, vocab_size=8192, width=128, heads=2, layers=2)  # tower and decoder
TOWERS: Mapping[str, ResNetConfig | ViTConfig] = {
    "ResNet": ResNetConfig(image_size=SIDE, layers=(1, 1, 1, 1), width=16, pool="average", stem_pool=False),
    "ViT": ViTConfig(image_size=SIDE, patch_size=8, width=128, layers=4, head_width=32),
}
SEEDS = 3
RATES = {  # the best of the sweep, docs/efficiency-study.md
    "ResNet": {"contrastive": 5e-4, "captions": 5e-4, "words": 1e-3, "ngrams": 1e-3, "classes": 5e-4},
    "ViT": {"contrastive": 1e-3, "captions": 1e-3, "words": 3e-3, "ngrams": 3e-3, "classes": 1e-3},
}
SWEEP_RATES = (2.5e-4, 5e-4, 1e-3, 3e-3)


@dataclass(frozen=True)
class Leg:
    """One run of the grid."""

    objective: str
    tower: str
    seed: int
    lr: float
    levels: tuple[int, ...] = LEVELS

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.tower}-{self.objective}-{self.lr:g}-{self.seed}-{self.levels[-1]}"


def grid() -> list[Leg]:
    """All runs, seed by seed, so that a study that is stopped early is complete for fewer seeds."""
    return [
        Leg(objective, tower, seed, rate)
        for seed in range(SEEDS)
        for tower in TOWERS
        for objective, rate in RATES[tower].items()
    ]


def sweep() -> list[Leg]:
    """Short runs at several rates with their own seed; `classes` uses the rate of `contrastive`."""
    return [
        Leg(objective, tower, 9, rate, (3,))
        for tower in TOWERS
        for objective in RATES[tower]
        for rate in SWEEP_RATES
        if objective != "classes"
    ]


def data() -> tuple[Mixture, Mixture]:
    """The packs, and only their labelled part; an epoch of either has `STEPS` batches."""
    parts = []
    for description, repeat in default.data(cifar=0.7).parts:
        if any(name in repr(description) for name in LATER_PACKS):
            continue
        if isinstance(description, LabelledTar) and "cifar10" in str(description.pattern):
            description = replace(description, exclude=description.exclude | frozenset(UNSEEN_CLASSES))
        parts.append((Once(description), repeat))
    labelled = [part for part in parts if part[0].open().label(0) is not None]
    return scaled(parts), scaled(labelled)


def scaled(parts: list[tuple[Once, float]]) -> Mixture:
    """Scale the repeats so that an epoch has half a batch more than `STEPS` batches."""
    visits = sum(len(part.open()) * repeat for part, repeat in parts)
    factor = (STEPS + 0.5) * BATCH / visits
    return Mixture(tuple((part, repeat * factor) for part, repeat in parts))


def config(leg: Leg, data: tuple[Mixture, Mixture], out: Path) -> TrainConfig:
    """Settings of a run; runs differ in objective, tower, seed and rate only."""
    shape = CLIPConfig(embed_dim=128, vision=TOWERS[leg.tower], text=TEXT, activation="quick_gelu")
    everything, labelled = data
    by_label = leg.objective == "classes"
    labels = {name for part, _ in labelled.parts for name in part.open().classes} if by_label else ()  # type: ignore[attr-defined]
    return TrainConfig(
        name=leg.name,
        out=str(out / "runs" / leg.name),
        model=shape,
        data=labelled if by_label else everything,
        objective=leg.objective,  # type: ignore[arg-type]
        classes=tuple(sorted(labels)),
        epochs=leg.levels[-1],
        batch_size=BATCH,
        lr=leg.lr,
        warmup=STEPS,
        schedule="constant",
        ema=0.99,
        augment=AugmentConfig(scale=(0.5, 1.0), flip=0.5),
        seed=leg.seed,
        threads=1,  # two runs side by side use two cores better than one run on both
        workers=1,
        cache="no",  # a run visits most pictures once or twice
        checkpoint_every=10_000,  # steps: the ends of epochs are enough
        log_every=STEPS,
    )


def tokens_of(data: Mixture, config: TrainConfig, sample: int = 200) -> float:
    """Mean number of tokens of a text, with start and end, estimated from a sample of each part."""
    tokenizer, total, weights = load_tokenizer(config.spec.tokenizer), 0.0, 0.0
    for source, repeat in data.open():
        some = np.linspace(0, len(source) - 1, min(sample, len(source))).astype(int)
        texts = [text for n in some for text in source.captions(int(n))]
        with counted_long_texts():  # the loader warns of them
            lengths = tokenizer(texts).argmax(1) + 1
        weights += len(source) * repeat
        total += len(source) * repeat * float(lengths.mean())
    return total / weights


def evaluator(leg: Leg, config: TrainConfig, sheets: Mapping[str, TestSet]) -> Evaluator:
    """Measure after the epochs of `levels`; after the last one measure retrieval as well."""

    def evaluate(trained: Any, step: int) -> Mapping[str, float]:
        epoch = round(step / STEPS)
        if epoch not in leg.levels:
            return {}
        measured_sheets = {
            name: sheet for name, sheet in sheets.items() if epoch == leg.levels[-1] or sheet.classes
        }
        return {"epoch": epoch, **measure(trained, config, measured_sheets)}

    return evaluate


class Progress(Listener):
    """Prints a line for each measurement."""

    def __init__(self, name: str) -> None:
        self.name, self.speed = name, 0.0

    def step(self, report: StepReport) -> None:
        """Record the speed."""
        self.speed = report.pairs_per_second

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Print the metrics."""
        if metrics:
            summary = ", ".join(
                f"{k.partition('/')[2]} {v:.3f}" for k, v in metrics.items() if "epoch" not in k
            )
            print(f"{self.name:32} {step * BATCH:7,} pairs, {self.speed:5.0f}/s: {summary}", flush=True)


def points(leg: Leg, data: tuple[Mixture, Mixture], sheets: Mapping[str, TestSet], out: Path) -> Any:
    """Train a leg, or resume it, unless it is done; return its points."""
    done = out / "runs" / f"{leg.name}.json"
    if not done.exists():
        run = config(leg, data, out)
        tokens = tokens_of(run.data, run)
        operations = cost_of(run, round(tokens), SIDE).pair
        ended = train(
            Run(run, {"study": evaluator(leg, run, sheets)}), resume=True, listener=Progress(leg.name)
        )
        if not ended.finished:
            raise SystemExit(f"{leg.name}: {ended.reason}; run the same command again to resume")
        rows = list(_measured(Path(run.out) / "log.jsonl"))
        facts = {**asdict(leg), "tokens": tokens, "operations": operations, "seconds": ended.seconds}
        rows_with_pairs = [{**row, "pairs": row["step"] * BATCH} for row in rows]
        _write(done, {**facts, "points": rows_with_pairs})
        shutil.rmtree(run.out)  # checkpoint and model
    return json.loads(done.read_text("utf-8"))


def _measured(log: Path) -> Iterator[dict[str, float]]:
    for line in log.read_text("utf-8").splitlines():
        row = {key.removeprefix("study/"): value for key, value in json.loads(line).items()}
        if "seen" in row:
            yield row


def _write(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=1) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, "utf-8"))


def legs_of(args: argparse.Namespace) -> list[Leg]:
    """Runs that the command line selects."""
    legs = sweep() if args.sweep else grid()
    if args.quick:
        legs = [replace(leg, levels=(1,)) for leg in legs if (leg.tower, leg.seed) == ("ResNet", 0)]
    return legs


def test_sets(spec: ModelSpec, args: argparse.Namespace) -> dict[str, TestSet]:
    """Test sets; the sweep leaves out the captions."""
    count, classes = 200 if args.quick else 2000, {"seen": SEEN_CLASSES, "unseen": UNSEEN_CLASSES}
    result = {"cifar": labelled_test_set(DATA / "cifar10-test-a.tar.gz", spec, count, classes)}
    if not args.sweep:
        result["flickr"] = captioned_test_set(DATA / "flickr8k-val.tar", spec, 200)
    return result


def main() -> None:
    """Run the missing legs; write and plot all results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--quick", action="store_true", help="a smoke run: one seed, one epoch, the ResNet")
    parser.add_argument("--sweep", action="store_true", help="short runs at several rates")
    part_help = "every N-th run from the I-th on"
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"), help=part_help)
    args = parser.parse_args()
    args.out.joinpath("runs").mkdir(parents=True, exist_ok=True)
    legs, packs, started = legs_of(args), data(), time.monotonic()
    sheets = test_sets(config(legs[0], packs, args.out).spec, args)
    part = legs[args.part[0] :: args.part[1]]
    for number, leg in enumerate(part):
        print(f"{number + 1} of {len(part)}, {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
        points(leg, packs, sheets, args.out)
    done = [args.out / "runs" / f"{leg.name}.json" for leg in legs]
    results = [json.loads(path.read_text("utf-8")) for path in done if path.exists()]
    _write(args.out / "points.json", results)
    if not args.sweep:
        draw(results, args.out)
    print(f"{len(results)} of {len(legs)} runs are done\n\n{table(results)}")


if __name__ == "__main__":
    main()
