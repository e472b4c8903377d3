"""Fine-tuning the default model in seven ways: what each learns of a new task, and what it forgets.

Command:  python recipes/finetune.py   (the same again goes on; --seeds, --tasks and --out as --help has them)
Data:     DIPTYCH_SHARED/data: tfflowers-train-1000 and mnist-train-10k to learn; tfflowers-test-a,
          mnist-test-a, cifar10-test-a, caltech101-test-a, flickr8k-val and pacs-a to measure
Cost:     28 runs of 20 seconds and measuring 72 models of 10 each: about 25 minutes on one thread of two
          shared cores, 3 GB of checkpoints
Result:   the tables and curves of docs/fine-tuning.md; runs/finetune/*/measured.json

Two tasks: flowers, which the default model has seen in training and names well, and written digits, which it
cannot name at all. Each way is measured by the same code on the task's test pictures and on four things that
the model could do before.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from default import DATA, FLOWERS, HERE

from diptych import load
from diptych.datasets import load_captioned, load_labelled
from diptych.encoder import Encoder
from diptych.evaluation import Interpolation, Measure, Point, Result, interpolate
from diptych.files.disk import write_bytes
from diptych.reports import Curve, Curves, save_plot
from diptych.training import Run, TrainConfig, gentle, train
from diptych.training.data import AugmentConfig, Description, LabelledTar, Mixture, Part
from diptych.weights import combine, load_checkpoint
from diptych.zeroshot import folder_names

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS = {str(number): word for number, word in enumerate(WORDS)}
NUMBER = ("a photo of the number {}.",)
SHARES = [number / 10 for number in range(11)]

# What differs between the ways; the data, the batch and the number of steps are the task's.
PLAIN: Mapping[str, Any] = {"lr": 1e-3}
GENTLE = gentle(load_checkpoint("default").spec.architecture)
WAYS: Mapping[str, Mapping[str, Any]] = {
    "plain": PLAIN,
    "plain, early layers slower": {**PLAIN, "layer_decay": GENTLE["layer_decay"]},
    "plain, batch norms still": {**PLAIN, "still_norms": True},
    "gentle": {name: value for name, value in GENTLE.items() if name not in ("epochs", "batch_size")},
    "low rank (LoRA, 8)": {"lr": 1e-3, "lora": 8},
    "pictures locked (LiT)": {**PLAIN, "lock": "image"},
    "texts locked": {**PLAIN, "lock": "text"},
}
HALVES = {"plain": "WiSE-FT, half of plain", "gentle": "WiSE-FT, half of gentle"}


@dataclass(frozen=True)
class Task:
    """What is learned: pictures, how often they are seen, and how it is measured."""

    data: Description
    epochs: int
    augment: AugmentConfig
    target: Measure


def tasks() -> dict[str, Task]:
    """Flowers and digits, about 3,000 pictures seen of each."""
    flowers = {name: FLOWERS.get(name, name) for name in ("daisy", "dandelion", *FLOWERS)}
    digits = load_labelled(DATA / "mnist-test-a.tar.gz", class_names=DIGITS)
    return {
        "flowers": Task(
            LabelledTar(DATA / "tfflowers-train-1000.tar", rename=FLOWERS),
            3,
            AugmentConfig(scale=(0.5, 1.0), flip=0.5),
            Measure(load_labelled(DATA / "tfflowers-test-a.tar", class_names=flowers)),
        ),
        "digits": Task(
            Part(LabelledTar(DATA / "mnist-train-10k.tar.gz", NUMBER, rename=DIGITS), 0.3, held_out=True),
            1,
            AugmentConfig(),
            Measure(digits.sample(1000), templates=NUMBER),
        ),
    }


def kept() -> list[Measure]:
    """What the model could do before; samples, so that 60 models can be measured."""
    held = json.loads((HERE / "held_out.json").read_text("utf-8"))["caltech101"]
    words = folder_names("caltech101")
    caltech = load_labelled(DATA / "caltech101-test-a.tar", class_names="caltech101")
    return [
        Measure(load_labelled(DATA / "cifar10-test-a.tar.gz").sample(1000)),
        Measure(caltech.subset([words[name] for name in held], name="caltech101, 20 left out")),
        Measure(load_labelled(DATA / "pacs-a.tar", domain="photo")),
        Measure(load_captioned(DATA / "flickr8k-val.tar").sample(500)),
    ]


def config(name: str, task: Task, seed: int, folder: Path) -> TrainConfig:
    """One run."""
    fields: dict[str, Any] = {
        "data": Mixture(((task.data, 1.0),)),
        "model": load_checkpoint("default").spec.architecture,
        "start": "default",
        "name": f"default, fine-tuned: {name}",
        "epochs": task.epochs,
        "batch_size": 64,
        "warmup": 5,
        "augment": task.augment,
        "seed": seed,
        "out": str(folder),
        "evaluate_every": 100,
    }
    return TrainConfig(**{**fields, **WAYS[name]})


def main() -> None:
    """Train and measure what is not there yet; print the tables, write the JSON and the curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/finetune"), help="folder of the runs")
    parser.add_argument("--docs", type=Path, help="write fine-tuning.json and plots/ there as well")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each way")
    parser.add_argument("--tasks", nargs="+", default=["flowers", "digits"])
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*were cut")  # captions of Flickr8k, the same each time
    known, rest = tasks(), kept()
    docs = args.docs or args.out
    told: dict[str, Any] = {"start": load_checkpoint("default").identity, "tasks": {}}
    for name in args.tasks:
        measures = [known[name].target, *rest]
        found = {
            way: [run(way, known[name], seed, args.out / name, measures) for seed in range(args.seeds)]
            for way in WAYS
        }
        curves = {way: curve(args.out / name / folder_of(way, 0), measures) for way in HALVES}
        table = rows(found, curves)
        show(name, table)
        draw(docs / "plots" / f"fine-tuning-{name}", name, table, curves)
        told["tasks"][name] = {"table": table, "curves": {way: plainly(one) for way, one in curves.items()}}
    write_bytes(docs / "fine-tuning.json", (json.dumps(told, indent=1) + "\n").encode())


def plainly(curve: Interpolation) -> dict[str, Any]:
    """A curve's figures alone; all that was measured lies in the run's folder."""
    figures = {name: curve.figures(number) for number, name in enumerate(curve.names)}
    return {"end": curve.end, "shares": [point.share for point in curve.points], **figures}


def folder_of(way: str, seed: int) -> str:
    """A folder's name.

    Examples
    --------
    >>> folder_of("low rank (LoRA, 8)", 1)
    'low-rank-lora-8-1'
    """
    return "-".join("".join(c if c.isalnum() else " " for c in way.lower()).split()) + f"-{seed}"


def run(way: str, task: Task, seed: int, folder: Path, measures: Sequence[Measure]) -> list[float]:
    """Train and measure one model, or read what was measured before."""
    out = folder / folder_of(way, seed)
    file = out / "measured.json"
    if not file.exists():
        summary = train(Run(config(way, task, seed, out)), resume=True)
        results = [measure(load(out)) for measure in measures]
        write_bytes(file, json.dumps([result.to_dict() for result in results], indent=1).encode())
        seconds = f"{summary.step} steps in {summary.seconds:.0f} s"
        print(f"{out}: {seconds}; {measures[0].name} {results[0].metrics['acc1']:.3f}", flush=True)
    return figures([Result.from_dict(one) for one in json.loads(file.read_text("utf-8"))], measures)


def figures(results: Sequence[Result], measures: Sequence[Measure]) -> list[float]:
    """The one figure of each measure."""
    return [result.metrics[measure.metric] for result, measure in zip(results, measures, strict=True)]


def curve(run: Path, measures: Sequence[Measure]) -> Interpolation:
    """The way from the default model to a run's, measured, or read from the run's folder."""
    file = run / "curve.json"
    ends = [load_checkpoint("default"), load_checkpoint(run)]
    found = Interpolation(
        ends[0].identity, ends[1].identity, [measure.metric for measure in measures], points := []
    )
    before: Sequence[Point] = ()
    if file.exists() and (read := Interpolation.read(file)).end == found.end:
        before = read.points

    def encoder_at(share: float) -> Encoder:
        return load(combine(ends, [1 - share, share]))

    for point in interpolate(encoder_at, SHARES, measures, lambda measure, at, _: measure(at), before):
        points.append(point)
        found.save(file)
    return found


Row = dict[str, Any]


def rows(found: Mapping[str, Sequence[Sequence[float]]], curves: Mapping[str, Interpolation]) -> list[Row]:
    """The table: each way's figures, mean and spread over the seeds; the start first, the halves last."""
    plain, half = curves["plain"], SHARES.index(0.5)
    table = [row("start", [[plain.figures(n)[0] for n in range(len(plain.names))]])]
    table += [row(way, runs) for way, runs in found.items()]
    for way, name in HALVES.items():
        table.append(row(name, [[curves[way].figures(n)[half] for n in range(len(plain.names))]]))
    for one in table:
        one["names"] = plain.names
        one["kept"] = mean(
            now / then for now, then in zip(one["mean"][1:], table[0]["mean"][1:], strict=True)
        )
    return table


def row(name: str, runs: Sequence[Sequence[float]]) -> Row:
    """Mean, least and most over the seeds."""
    columns = list(zip(*runs, strict=True))
    return {
        "way": name,
        "seeds": len(runs),
        "mean": [mean(column) for column in columns],
        "low": [min(column) for column in columns],
        "high": [max(column) for column in columns],
    }


def show(task: str, table: Sequence[Row]) -> None:
    """Print as Markdown; after the figure, how far apart the seeds are."""
    names = ["CIFAR-10", "Caltech, 20", "PACS photo", "Flickr8k r@10"]
    print(f"\n| {task} | target | {' | '.join(names)} | kept |\n| --- |{' ---: |' * (len(names) + 2)}")
    for one in table:
        cells = [cell(one, number) for number in range(len(names) + 1)]
        print(f"| {one['way']} | {' | '.join(cells)} | {one['kept']:.0%} |", flush=True)


def cell(row: Row, number: int) -> str:
    """A figure, and half the distance between the seeds' least and most."""
    spread = (row["high"][number] - row["low"][number]) / 2
    return f"{row['mean'][number]:.3f}" + (f" ±{spread:.3f}" if row["seeds"] > 1 else "")


def draw(stem: Path, task: str, table: Sequence[Row], curves: Mapping[str, Interpolation]) -> None:
    """Target accuracy against what is kept: the ways as points, the ways between as curves."""
    start = table[0]["mean"][1:]

    def share_kept(one: Interpolation) -> Iterator[float]:
        for number in range(len(one.points)):
            yield mean(one.figures(n + 1)[number] / before for n, before in enumerate(start))

    # The points of the gentle way lie so close that only two can be named.
    named = {"plain": SHARES, "gentle": [0.5, 1.0]}
    drawn = {
        f"from the start to {way}": Curve(
            list(share_kept(one)),
            one.figures(0),
            labels=[f"{share:g}" if share in named[way] else "" for share in SHARES],
        )
        for way, one in curves.items()
    }
    drawn |= {
        one["way"]: Curve([one["kept"]], [one["mean"][0]])
        for one in table
        if one["way"] in WAYS and one["way"] not in curves
    }
    kept = "kept: mean of four figures, each as a part of the start's"
    title = f"Fine-tuning the default model on {task}"
    save_plot(stem, Curves(curves=drawn, x=kept, y=f"accuracy on {task}", title=title))


if __name__ == "__main__":
    main()
