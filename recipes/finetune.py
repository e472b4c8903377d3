"""Fine-tune the default model in seven ways, and measure the new task and forgetting.

Command:  python recipes/finetune.py   (the same command resumes; see --help for --seeds, --tasks and --out)
Data:     DIPTYCH_SHARED/data: tfflowers-train-1000 and mnist-train-10k to learn; tfflowers-test-a,
          mnist-test-a, cifar10-test-a, caltech101-test-a, flickr8k-val and pacs-a to measure
Cost:     28 runs of 20 seconds and 72 measurements of 10 seconds: about 25 minutes on one thread of two
          shared cores, 3 GB of checkpoints
Result:   the tables and curves of docs/fine-tuning.md; runs/finetune/*/measured.json

Two tasks: flowers, which the default model has seen in training and classifies well, and handwritten digits,
which it cannot classify. Each way is measured by the same code on the test pictures of the task and on four
tasks that the model could do before.
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

from default import FLOWERS
from default_sources import DATA, HERE

from diptych import load
from diptych.datasets import load_captioned, load_labelled
from diptych.encoder import Encoder
from diptych.evaluation import Interpolation, InterpolationPoint, Measure, Result, interpolate
from diptych.files.disk import write_bytes
from diptych.reports import Curve, Curves, save_plot
from diptych.training import Run, TrainConfig, fine_tuning_defaults, train
from diptych.training.data import AugmentConfig, Description, LabelledTar, Mixture, Part
from diptych.weights import combine, load_checkpoint
from diptych.zeroshot import folder_names

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS = {str(number): word for number, word in enumerate(WORDS)}
NUMBER = ("a photo of the number {}.",)
FRACTIONS = [number / 10 for number in range(11)]

# Differences between the ways; data, batch size and number of steps belong to the task.
PLAIN: Mapping[str, Any] = {"lr": 1e-3}
GENTLE = fine_tuning_defaults(load_checkpoint("default").spec.architecture)
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
    """A task: training data, epochs, augmentation, and the measure of success."""

    data: Description
    epochs: int
    augment: AugmentConfig
    target: Measure


def tasks() -> dict[str, Task]:
    """Flowers and digits, with about 3,000 training pictures seen of each."""
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


def retained_measures() -> list[Measure]:
    """Measures of earlier abilities, on samples, so that 60 models can be measured."""
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
    """Configuration of one run."""
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
    """Train and measure the missing runs; print the tables, write the JSON file and the curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/finetune"), help="folder of the runs")
    parser.add_argument("--docs", type=Path, help="write fine-tuning.json and plots/ there as well")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each way")
    parser.add_argument("--tasks", nargs="+", default=["flowers", "digits"])
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*were cut")  # captions of Flickr8k, the same each time
    all_tasks, old_measures = tasks(), retained_measures()
    docs = args.docs or args.out
    summary: dict[str, Any] = {"start": load_checkpoint("default").identity, "tasks": {}}
    for name in args.tasks:
        measures = [all_tasks[name].target, *old_measures]
        runs_by_way = {
            way: [run(way, all_tasks[name], seed, args.out / name, measures) for seed in range(args.seeds)]
            for way in WAYS
        }
        curves = {way: curve(args.out / name / folder_of(way, 0), measures) for way in HALVES}
        table = rows(runs_by_way, curves)
        print_table(name, table)
        draw(docs / "plots" / f"fine-tuning-{name}", name, table, curves)
        summary["tasks"][name] = {
            "table": table,
            "curves": {way: curve_figures(interpolation) for way, interpolation in curves.items()},
        }
    write_bytes(docs / "fine-tuning.json", (json.dumps(summary, indent=1) + "\n").encode())


def curve_figures(curve: Interpolation) -> dict[str, Any]:
    """The figures of a curve; the run's folder has all measurements."""
    figures = {name: curve.figures(number) for number, name in enumerate(curve.names)}
    return {"end": curve.end, "shares": [point.alpha for point in curve.points], **figures}


def folder_of(way: str, seed: int) -> str:
    """Name of the folder of a run.

    Examples
    --------
    >>> folder_of("low rank (LoRA, 8)", 1)
    'low-rank-lora-8-1'
    """
    return "-".join("".join(c if c.isalnum() else " " for c in way.lower()).split()) + f"-{seed}"


def run(way: str, task: Task, seed: int, folder: Path, measures: Sequence[Measure]) -> list[float]:
    """Train and measure one model, or read its earlier measurement."""
    out = folder / folder_of(way, seed)
    file = out / "measured.json"
    if not file.exists():
        summary = train(Run(config(way, task, seed, out)), resume=True)
        results = [measure(load(out)) for measure in measures]
        write_bytes(file, json.dumps([result.to_dict() for result in results], indent=1).encode())
        seconds = f"{summary.step} steps in {summary.seconds:.0f} s"
        print(f"{out}: {seconds}; {measures[0].name} {results[0].metrics['acc1']:.3f}", flush=True)
    return figures([Result.from_dict(result) for result in json.loads(file.read_text("utf-8"))], measures)


def figures(results: Sequence[Result], measures: Sequence[Measure]) -> list[float]:
    """The main figure of each measure."""
    return [result.metrics[measure.metric] for result, measure in zip(results, measures, strict=True)]


def curve(run: Path, measures: Sequence[Measure]) -> Interpolation:
    """Interpolation from the default model to a run: measured, or read from the run's folder."""
    file = run / "curve.json"
    ends = [load_checkpoint("default"), load_checkpoint(run)]
    interpolation = Interpolation(
        ends[0].identity, ends[1].identity, [measure.metric for measure in measures], points := []
    )
    before: Sequence[InterpolationPoint] = ()
    if file.exists() and (read := Interpolation.read(file)).end == interpolation.end:
        before = read.points

    def encoder_at(fraction: float) -> Encoder:
        return load(combine(ends, [1 - fraction, fraction]))

    for point in interpolate(encoder_at, FRACTIONS, measures, lambda measure, at, _: measure(at), before):
        points.append(point)
        interpolation.save(file)
    return interpolation


Row = dict[str, Any]


def rows(
    runs_by_way: Mapping[str, Sequence[Sequence[float]]], curves: Mapping[str, Interpolation]
) -> list[Row]:
    """Rows of the table: start, ways (mean and range over the seeds), halves of the interpolations."""
    plain, half = curves["plain"], FRACTIONS.index(0.5)
    table = [row("start", [[plain.figures(n)[0] for n in range(len(plain.names))]])]
    table += [row(way, runs) for way, runs in runs_by_way.items()]
    for way, name in HALVES.items():
        table.append(row(name, [[curves[way].figures(n)[half] for n in range(len(plain.names))]]))
    for table_row in table:
        table_row["names"] = plain.names
        table_row["kept"] = mean(
            now / then for now, then in zip(table_row["mean"][1:], table[0]["mean"][1:], strict=True)
        )
    return table


def row(name: str, runs: Sequence[Sequence[float]]) -> Row:
    """Mean, minimum and maximum over the seeds."""
    columns = list(zip(*runs, strict=True))
    return {
        "way": name,
        "seeds": len(runs),
        "mean": [mean(column) for column in columns],
        "low": [min(column) for column in columns],
        "high": [max(column) for column in columns],
    }


def print_table(task: str, table: Sequence[Row]) -> None:
    """Print the table as Markdown, each figure with half the range over the seeds."""
    names = ["CIFAR-10", "Caltech, 20", "PACS photo", "Flickr8k r@10"]
    print(f"\n| {task} | target | {' | '.join(names)} | kept |\n| --- |{' ---: |' * (len(names) + 2)}")
    for table_row in table:
        cells = [cell(table_row, number) for number in range(len(names) + 1)]
        print(f"| {table_row['way']} | {' | '.join(cells)} | {table_row['kept']:.0%} |", flush=True)


def cell(row: Row, number: int) -> str:
    """Format a figure with half the range over the seeds."""
    spread = (row["high"][number] - row["low"][number]) / 2
    return f"{row['mean'][number]:.3f}" + (f" ±{spread:.3f}" if row["seeds"] > 1 else "")


def draw(stem: Path, task: str, table: Sequence[Row], curves: Mapping[str, Interpolation]) -> None:
    """Plot target accuracy against retained accuracy: ways as points, interpolations as curves."""
    start = table[0]["mean"][1:]

    def retained(interpolation: Interpolation) -> Iterator[float]:
        for number in range(len(interpolation.points)):
            yield mean(interpolation.figures(n + 1)[number] / before for n, before in enumerate(start))

    # The points of the gentle way lie so close that only two can be named.
    named = {"plain": FRACTIONS, "gentle": [0.5, 1.0]}
    drawn = {
        f"from the start to {way}": Curve(
            list(retained(interpolation)),
            interpolation.figures(0),
            labels=[f"{fraction:g}" if fraction in named[way] else "" for fraction in FRACTIONS],
        )
        for way, interpolation in curves.items()
    }
    drawn |= {
        table_row["way"]: Curve([table_row["kept"]], [table_row["mean"][0]])
        for table_row in table
        if table_row["way"] in WAYS and table_row["way"] not in curves
    }
    retained_label = "kept: mean of four figures, each as a part of the start's"
    title = f"Fine-tuning the default model on {task}"
    save_plot(stem, Curves(curves=drawn, x=retained_label, y=f"accuracy on {task}", title=title))


if __name__ == "__main__":
    main()
