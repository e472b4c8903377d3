"""Effective robustness, measured: the default model and its probe against small supervised ResNets.

Command:  python recipes/robustness.py [--sizes small] [--limit 1000]
          with --quick a smoke run: two tiny networks, few steps, 50 pictures
Data:     DIPTYCH_SHARED/data: cifar10-train to train on, cifar10-test-a to measure on, clean and corrupted
Cost:     size small, 500 pictures, severities 1, 3 and 5, two cores: about 13 minutes of training and 5 of
          measuring; each network prints what it took, and a killed study goes on with the same command
Result:   report/index.html with the plot of the paper's figure 13, and report.json

(CLIP paper, section 3.3; Taori et al. 2020, arXiv 2007.00644.) Ordinary models: ResNets of several widths and
lengths of training that learned the labels of CIFAR-10. Under corruption they keep what the line through them
says; the question is what a model that learned from captions and labels keeps beyond it, zero-shot and as a
linear probe. The caveat: the default model has seen training pictures of CIFAR-10, so its zero-shot figures
are not those of a model that never met the data set, and the comparison is of training, not of data.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import default

from diptych import load
from diptych.backends import TorchEncoder, load_supervised
from diptych.datasets import ImageDataset, load_labelled
from diptych.errors import InputError
from diptych.evaluation import (
    LinearScorer,
    Scorer,
    ShiftGroup,
    Standing,
    ZeroShotScorer,
    compare_robustness,
    corruptions_of,
    measure,
    robustness_report,
)
from diptych.evaluation.probes import logistic
from diptych.evaluation.protocols.settings import Setup
from diptych.evaluation.results.result import versions
from diptych.model.config import CLIPConfig, ResNetConfig, TextConfig
from diptych.training import Run, TrainConfig, train
from diptych.training.data import AugmentConfig, LabelledTar, Mixture

SIDE = 32
CAVEAT = (
    "The default model has seen training pictures of CIFAR-10, with their labels as captions: its zero-shot "
    "figures are not those of a model that never met this data set."
)
# Told apart by width and by how long they learned: the line needs accuracies that differ.
TEXT = TextConfig(context_length=16, vocab_size=1024, width=32, heads=2, layers=1)  # not used, the smallest


@dataclass(frozen=True)
class Size:
    """An ordinary model: channels of the stem, blocks of each stage, epochs over a share of the pictures."""

    width: int
    layers: tuple[int, int, int, int]
    epochs: int
    share: float

    @property
    def name(self) -> str:
        """Of its folder, and in tables."""
        return f"resnet-{self.width}x{sum(self.layers)}-{self.epochs}x{self.share:g}"


SIZES = {
    "quick": (Size(8, (1, 1, 1, 1), 2, 0.05), Size(8, (1, 1, 1, 1), 4, 0.2)),
    "small": (
        Size(8, (1, 1, 1, 1), 1, 0.25),
        Size(8, (1, 1, 1, 1), 2, 0.5),
        Size(16, (1, 1, 1, 1), 1, 0.5),
        Size(16, (1, 1, 1, 1), 2, 1.0),
        Size(16, (1, 1, 1, 1), 4, 1.0),
        Size(32, (1, 1, 1, 1), 4, 1.0),
        Size(32, (1, 1, 1, 1), 8, 1.0),
    ),
    "large": (
        Size(8, (1, 1, 1, 1), 1, 0.25),
        Size(8, (1, 1, 1, 1), 4, 0.5),
        Size(16, (1, 1, 1, 1), 2, 1.0),
        Size(16, (1, 1, 1, 1), 8, 1.0),
        Size(32, (1, 1, 1, 1), 8, 1.0),
        Size(32, (2, 2, 2, 2), 8, 1.0),
        Size(32, (2, 2, 2, 2), 16, 1.0),
        Size(48, (2, 2, 2, 2), 16, 1.0),
    ),
}


def config(size: Size, data: Path, classes: tuple[str, ...], out: Path) -> TrainConfig:
    """A run that learns labels; the pictures are CIFAR-10's, turned and cropped, no colours changed."""
    vision = ResNetConfig(
        image_size=SIDE, layers=size.layers, width=size.width, pool="average", stem_pool=False
    )
    return TrainConfig(
        name=size.name,
        out=str(out / size.name),
        model=CLIPConfig(embed_dim=32, vision=vision, text=TEXT),
        data=Mixture(((LabelledTar(data, ("{}",)), size.share),)),
        objective="classes",
        classes=classes,
        epochs=size.epochs,
        batch_size=128,
        lr=2e-3,
        weight_decay=0.05,
        warmup=50,
        augment=AugmentConfig(scale=(0.6, 1.0), flip=0.5),
        checkpoint_every=10_000,
        log_every=20,
    )


def ordinary(sizes: tuple[Size, ...], data: Path, classes: tuple[str, ...], out: Path) -> Iterator[Path]:
    """Train each model that is not there yet, or go on with it; the folders of the runs."""
    for size in sizes:
        run = config(size, data, classes, out)
        started = time.monotonic()
        ended = train(Run(run), resume=True)
        if not ended.finished:
            raise SystemExit(f"{size.name}: {ended.reason}; the same command goes on")
        print(f"{size.name}: {ended.step} steps, {time.monotonic() - started:.0f} s", flush=True)
        yield Path(run.out)


def probe(encoder: TorchEncoder, dataset: ImageDataset, c: float) -> LinearScorer:
    """Logistic regression on features before the projection, which are scaled to one size first."""
    found = Setup().embed(encoder, dataset, features=True)
    spread = found.rows.std()
    fitted = logistic.fit(found.rows / spread, dataset.labels[found.positions], c)
    return LinearScorer(encoder, fitted.weights / spread, fitted.intercepts)


def scorers(model: str, test: ImageDataset, seen: ImageDataset, c: float) -> dict[str, Scorer]:
    """The model in question, zero-shot and as a probe fitted to training pictures."""
    encoder = load(model, runtime="torch", exact=True)
    return {
        f"{model}, zero-shot": ZeroShotScorer(encoder, test.class_names),
        f"{model}, linear probe": probe(encoder, seen, c),
    }


def study(args: argparse.Namespace, train_data: Path, test_data: Path) -> list[Path]:
    """Train, measure, compare, write; the files of the report."""
    test = load_labelled(test_data).sample(args.limit)
    runs = list(ordinary(SIZES[args.sizes], train_data, test.class_names, args.out))
    seen = load_labelled(train_data).sample(args.probe, seed=1)
    asked = scorers(args.model, test, seen, args.c)
    every: dict[str, Scorer] = {**asked, **{one.name: load_supervised(one, test.class_names) for one in runs}}
    group = ShiftGroup(*corruptions_of(test, severities=args.severities, side=SIDE))
    standings: dict[str, Standing] = {}
    for name, scorer in every.items():
        started = time.monotonic()
        standings[name] = measure(scorer, group, model=name)
        accuracy, mean = standings[name].accuracies().mean(1)
        told = f"clean {accuracy:.3f}, corrupted {mean:.3f}"
        print(f"{name}: {told}, {time.monotonic() - started:.0f} s", flush=True)
    usual = [standings[one.name] for one in runs]
    models = [standings[name] for name in asked]
    try:
        found = compare_robustness(group, models, usual)
    except InputError as error:  # what was measured is worth a report without a line, too
        print(f"no effective robustness: {error}")
        found = compare_robustness(group, [*models, *usual], baseline=runs[0].name)
    facts = {
        "Command": f"python recipes/robustness.py --sizes {args.sizes} --limit {args.limit}",
        "Data": group.reference.fingerprint,
        "Versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
    report = robustness_report(found, facts=facts, caveat=CAVEAT)
    for text in report.sections[0].text:
        print(text)
    return report.save(args.out / "report")


def main() -> None:
    """Read the command line and run the study."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--sizes", choices=("small", "large"), default="small", help="of ordinary models")
    parser.add_argument("--limit", type=int, default=1000, help="test pictures")
    parser.add_argument("--probe", type=int, default=10_000, help="training pictures of the linear probe")
    parser.add_argument("--c", type=float, default=0.1, help="inverse regularisation of the probe")
    parser.add_argument("--severities", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--model", default="default")
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    args = parser.parse_args()
    if args.quick:
        args.sizes, args.limit, args.probe, args.severities = "quick", 50, 200, [3]
    files = study(args, default.DATA / "cifar10-train.tar.gz", default.DATA / "cifar10-test-a.tar.gz")
    print(f"written: {files[0]} and {len(files) - 1} files beside it")


if __name__ == "__main__":
    main()
