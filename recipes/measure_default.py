"""Measure the default model on data that it never saw, with chance beside every figure.

Command:  python recipes/measure_default.py [--model runs/default] [--json docs/default-model.json]
Data:     DIPTYCH_SHARED/data: the packs named test, val-a, pacs and imagenet-sample, and the left-out classes
          of held_out.json from open-train
Cost:     about two minutes on two cores
Result:   docs/default-model.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from default import DATA, FLOWERS, HERE

from diptych import load
from diptych.backends import TorchEncoder
from diptych.datasets import domains, load_captioned, load_labelled, load_labelled_shards
from diptych.evaluation import Result, evaluate_retrieval, evaluate_zero_shot
from diptych.zeroshot import class_names, folder_names


def main() -> None:
    """Print the table; write the results as JSON with --json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="default", help="a name, a run or a folder")
    parser.add_argument("--json", type=Path, help="where to write the results, for `diptych compare`")
    parser.add_argument("--brief", action="store_true", help="without the outcomes of single pictures")
    args = parser.parse_args()
    encoder = load(args.model, runtime="torch", exact=True)
    results = []
    print(f"{encoder.spec.name} {encoder.identity}\n")
    print(f"{'data':34} {'metric':27} {'figure':>7} {'chance':>7} {'n':>6}")
    for result in measure(encoder):
        results.append(result)
        for row in result.rows():
            if row["metric"] in SHOWN:
                figures = f"{row['value']:7.4f} {row['chance']:7.4f} {row['n']:6,}"
                print(f"{row['dataset']:34} {row['metric']:27} {figures}", flush=True)
    if args.json:
        brief: dict[str, object] = {"outcomes": {}, "details": {}} if args.brief else {}
        serialised = [{**result.to_dict(), **brief} for result in results]
        args.json.write_text(json.dumps(serialised, indent=1) + "\n", "utf-8")


SHOWN = {f"{side}_retrieval_recall@{k}" for side in ("image", "text") for k in (1, 5, 10)} | {"acc1", "acc5"}


def measure(encoder: TorchEncoder) -> Iterator[Result]:
    """Yield results of retrieval, zero-shot on unseen classes, shift, and packs with seen training halves."""
    held = json.loads((HERE / "held_out.json").read_text("utf-8"))
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
    imagenet = load_labelled(DATA / "imagenet-sample-1000.tar")
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
