"""Effective robustness of the default model and its linear probe, against small supervised ResNets.

Command:  python recipes/robustness.py [--sizes small] [--limit 1000]
          with --quick a smoke run: two tiny networks, few steps, 50 pictures
Data:     DIPTYCH_SHARED/data: cifar10-train to train on, cifar10-test-a to measure on, clean and corrupted
Cost:     size small, 500 pictures, severities 1, 3 and 5, two cores: about 13 minutes of training and 5 of
          measuring; each network prints its time, and after a kill the same command continues the study
Result:   report/index.html with the plot of the paper's figure 13, and report.json

(CLIP paper, section 3.3; Taori et al. 2020, arXiv 2007.00644.) The baselines are ResNets of several widths
and lengths of training that learned the labels of CIFAR-10. A line through them predicts the accuracy under
corruption from clean accuracy; effective robustness is what a model that learned from captions and labels
has beyond that line, zero-shot and as a linear probe. Caveat: the default model has seen training pictures
of CIFAR-10, so its zero-shot figures are not those of a model that never saw the data set; the comparison is
of training, not of data.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from default_sources import DATA

from diptych import load
from diptych.backends import TorchEncoder, load_supervised
from diptych.datasets import ImageDataset, load_labelled
from diptych.errors import InputError
from diptych.evaluation import (
    LinearScorer,
    Scorer,
    ShiftGroup,
    ShiftResults,
    ZeroShotScorer,
    compare_robustness,
    corruptions_of,
    measure_shifts,
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
    "figures are not those of a model that never saw this data set."
)
TEXT = TextConfig(
    context_length=16, vocab_size=1024, width=32, heads=2, layers=1
)  # required by the configuration, but not used


@dataclass(frozen=True)
class BaselineSize:
    """A supervised baseline: stem channels, blocks per stage, epochs over a fraction of the pictures.

    The fit of the line needs baselines of different accuracy, so sizes and lengths of training differ.
    """

    width: int
    layers: tuple[int, int, int, int]
    epochs: int
    fraction: float

    @property
    def name(self) -> str:
        """Name of its folder, and in tables."""
        return f"resnet-{self.width}x{sum(self.layers)}-{self.epochs}x{self.fraction:g}"


SIZES = {
    "quick": (BaselineSize(8, (1, 1, 1, 1), 2, 0.05), BaselineSize(8, (1, 1, 1, 1), 4, 0.2)),
    "small": (
        BaselineSize(8, (1, 1, 1, 1), 1, 0.25),
        BaselineSize(8, (1, 1, 1, 1), 2, 0.5),
        BaselineSize(16, (1, 1, 1, 1), 1, 0.5),
        BaselineSize(16, (1, 1, 1, 1), 2, 1.0),
        BaselineSize(16, (1, 1, 1, 1), 4, 1.0),
        BaselineSize(32, (1, 1, 1, 1), 4, 1.0),
        BaselineSize(32, (1, 1, 1, 1), 8, 1.0),
    ),
    "large": (
        BaselineSize(8, (1, 1, 1, 1), 1, 0.25),
        BaselineSize(8, (1, 1, 1, 1), 4, 0.5),
        BaselineSize(16, (1, 1, 1, 1), 2, 1.0),
        BaselineSize(16, (1, 1, 1, 1), 8, 1.0),
        BaselineSize(32, (1, 1, 1, 1), 8, 1.0),
        BaselineSize(32, (2, 2, 2, 2), 8, 1.0),
        BaselineSize(32, (2, 2, 2, 2), 16, 1.0),
        BaselineSize(48, (2, 2, 2, 2), 16, 1.0),
    ),
}


def config(size: BaselineSize, data: Path, classes: tuple[str, ...], out: Path) -> TrainConfig:
    """Configuration of a run on labels; pictures are flipped and cropped, colours unchanged."""
    vision = ResNetConfig(
        image_size=SIDE, layers=size.layers, width=size.width, pool="average", stem_pool=False
    )
    return TrainConfig(
        name=size.name,
        out=str(out / size.name),
        model=CLIPConfig(embed_dim=32, vision=vision, text=TEXT),
        data=Mixture(((LabelledTar(data, ("{}",)), size.fraction),)),
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


def train_baselines(
    sizes: tuple[BaselineSize, ...], data: Path, classes: tuple[str, ...], out: Path
) -> Iterator[Path]:
    """Train or resume each missing baseline; yield the folders of the runs."""
    for size in sizes:
        run = config(size, data, classes, out)
        started = time.monotonic()
        ended = train(Run(run), resume=True)
        if not ended.finished:
            raise SystemExit(f"{size.name}: {ended.reason}; run the same command again to resume")
        print(f"{size.name}: {ended.step} steps, {time.monotonic() - started:.0f} s", flush=True)
        yield Path(run.out)


def probe(encoder: TorchEncoder, dataset: ImageDataset, c: float) -> LinearScorer:
    """Fit logistic regression on the features before the projection, scaled to unit deviation."""
    embedded = Setup().embed(encoder, dataset, features=True)
    spread = embedded.embeddings.std()
    fitted = logistic.fit(embedded.embeddings / spread, dataset.labels[embedded.positions], c)
    return LinearScorer(encoder, fitted.weights / spread, fitted.intercepts)


def scorers(model: str, test: ImageDataset, training_sample: ImageDataset, c: float) -> dict[str, Scorer]:
    """The tested model, zero-shot and as a probe fitted to training pictures."""
    encoder = load(model, runtime="torch", exact=True)
    return {
        f"{model}, zero-shot": ZeroShotScorer(encoder, test.class_names),
        f"{model}, linear probe": probe(encoder, training_sample, c),
    }


def study(args: argparse.Namespace, train_data: Path, test_data: Path) -> list[Path]:
    """Train, measure, compare; return the files of the report."""
    test = load_labelled(test_data).sample(args.limit)
    runs = list(train_baselines(SIZES[args.sizes], train_data, test.class_names, args.out))
    training_sample = load_labelled(train_data).sample(args.probe, seed=1)
    tested = scorers(args.model, test, training_sample, args.c)
    all_scorers: dict[str, Scorer] = {
        **tested,
        **{run.name: load_supervised(run, test.class_names) for run in runs},
    }
    group = ShiftGroup(*corruptions_of(test, severities=args.severities, side=SIDE))
    model_results: dict[str, ShiftResults] = {}
    for name, scorer in all_scorers.items():
        started = time.monotonic()
        model_results[name] = measure_shifts(scorer, group, model=name)
        accuracy, mean = model_results[name].accuracies().mean(1)
        summary = f"clean {accuracy:.3f}, corrupted {mean:.3f}"
        print(f"{name}: {summary}, {time.monotonic() - started:.0f} s", flush=True)
    baselines = [model_results[run.name] for run in runs]
    models = [model_results[name] for name in tested]
    try:
        comparison = compare_robustness(group, models, baselines)
    except InputError as error:  # write a report of the measurements without the line
        print(f"no effective robustness: {error}")
        comparison = compare_robustness(group, [*models, *baselines], baseline=runs[0].name)
    facts = {
        "Command": f"python recipes/robustness.py --sizes {args.sizes} --limit {args.limit}",
        "Data": group.reference.fingerprint,
        "Versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
    report = robustness_report(comparison, facts=facts, caveat=CAVEAT)
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
    files = study(args, DATA / "cifar10-train.tar.gz", DATA / "cifar10-test-a.tar.gz")
    print(f"written: {files[0]} and {len(files) - 1} files beside it")


if __name__ == "__main__":
    main()
