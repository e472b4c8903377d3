"""Measure the default model on data that it never saw, with chance beside every figure.

Command:  python recipes/measure_default.py [--model runs/default] [--json docs/default-model.json]
          two models: --json old.json with --model OLD, --json new.json with the new one, then
          diptych compare old.json new.json
Data:     DIPTYCH_SHARED/data: the packs named test, val-a, pacs and imagenet-sample, and the left-out classes
          of held_out.json from open-train. A model whose training left out other classes has seen most of
          these: measure it with --held-out and the held_out.json of its time. `diptych compare` then leaves
          these figures out, since the pictures differ
Cost:     about two minutes on two cores
Result:   docs/default-model.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from default import FLOWERS
from default_sources import DATA, HERE

from diptych import load
from diptych.backends import TorchEncoder
from diptych.datasets import domains, load_captioned, load_labelled, load_labelled_shards
from diptych.evaluation import Result, evaluate_retrieval, evaluate_zero_shot
from diptych.evaluation.results.result import short_name
from diptych.model.config import EfficientNetConfig
from diptych.zeroshot import class_names, folder_names


def main() -> None:
    """Print the table; write the results as JSON with --json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="default", help="a name, a run or a folder")
    parser.add_argument("--json", type=Path, help="where to write the results, for `diptych compare`")
    parser.add_argument("--brief", action="store_true", help="without the outcomes of single pictures")
    parser.add_argument(
        "--held-out", type=Path, default=HERE / "held_out.json", help="classes that its training left out"
    )
    args = parser.parse_args()
    encoder = load(args.model, runtime="torch", exact=True)
    # The released EfficientNet-Lite weights were trained on ImageNet's labels; other towers start at random.
    supervised = isinstance(encoder.spec.architecture.vision, EfficientNetConfig)
    results = []
    print(f"{encoder.spec.name}\n{encoder.identity}\n")
    print(f"{'data':30} {'metric':11} {'figure':>7} {'chance':>7} {'n':>6} {'ECE':>6}")
    for result in measure(encoder, args.held_out):
        results.append(result)
        print_result(result, mark=supervised and result.dataset == IMAGENET)
    if supervised:
        print("\n*: not zero-shot: the image tower was trained on these classes")
    if args.json:
        brief: dict[str, object] = {"outcomes": {}, "details": {}} if args.brief else {}
        serialised = [{**result.to_dict(), **brief} for result in results]
        args.json.write_text(json.dumps(serialised, indent=1) + "\n", "utf-8")


IMAGENET = "imagenet-sample-1000"
SHOWN = {f"{side}_retrieval_recall@{k}" for side in ("image", "text") for k in (1, 5, 10)} | {"acc1", "acc5"}


def print_result(result: Result, *, mark: bool = False) -> None:
    """Print a line for each shown metric; the expected calibration error is that of the best class."""
    for row in result.rows():
        if row["metric"] in SHOWN:
            name = f"{row['dataset']}{' *' if mark else ''}"
            line = f"{name:30} {short_name(row['metric']):11} {row['value']:7.4f} {row['chance']:7.4f}"
            calibrated = row["metric"] == "acc1" and "calibration" in result.details
            error = f" {result.details['calibration']['ece']:6.3f}" if calibrated else ""
            print(f"{line} {row['n']:6,}{error}", flush=True)


def measure(encoder: TorchEncoder, held_out: Path) -> Iterator[Result]:
    """Yield results of retrieval, zero-shot on unseen classes, shift, and packs with seen training halves."""
    held = json.loads(held_out.read_text("utf-8"))
    yield evaluate_retrieval(encoder, load_captioned(DATA / "flickr8k-test.tar"))
    caltech = load_labelled(DATA / "caltech101-test-a.tar", class_names="caltech101")
    words = folder_names("caltech101")
    left_out = caltech.subset([words[name] for name in held["caltech101"]], name="caltech101, 20 left out")
    yield evaluate_zero_shot(encoder, left_out)
    shards = sorted(DATA.glob("open-train-*.tar.gz"))
    open_classes = load_labelled_shards(shards).subset(held["open-train"], name="open-train, 60 left out")
    yield evaluate_zero_shot(encoder, open_classes)
    for domain in domains(DATA / "pacs-a.tar"):
        yield evaluate_zero_shot(encoder, load_labelled(DATA / "pacs-a.tar", domain=domain))
    imagenet = load_labelled(DATA / f"{IMAGENET}.tar")
    yield evaluate_zero_shot(encoder, imagenet, class_names("imagenet"))
    yield evaluate_zero_shot(encoder, load_labelled(DATA / "cifar10-test-a.tar.gz"))
    yield evaluate_zero_shot(encoder, caltech)
    names = {name: FLOWERS.get(name, name) for name in ("daisy", "dandelion", *FLOWERS)}
    yield evaluate_zero_shot(encoder, load_labelled(DATA / "tfflowers-test-a.tar", class_names=names))
    digits = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    mnist = load_labelled(DATA / "mnist-test-a.tar.gz", class_names=digits)
    yield evaluate_zero_shot(encoder, mnist, templates=("a photo of the number {}.",))


if __name__ == "__main__":
    main()
