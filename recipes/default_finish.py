"""The default model, last step: the mean of the weights of both legs, in half precision.

Command:  python recipes/default_finish.py runs/default runs/default-unlocked --out runs/default-mean
Data:     Flickr8k-val, to measure the mean
Cost:     half a minute
Result:   to be measured. In half precision it is `diptych.load()`: the two files that this command writes:
          diptych models convert runs/default-mean converted --half

Runs that start from the same weights end in one basin of the loss, where the mean has a lower loss on new
data than either (Wortsman et al. 2022, arXiv 2203.05482).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from default_sources import DATA

from diptych.backends import TorchEncoder
from diptych.datasets import load_captioned
from diptych.evaluation import evaluate_retrieval
from diptych.weights import combine, load_checkpoint, to_diptych


def main() -> None:
    """Average, measure, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, help="the last one defines the preprocessing of pictures"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the mean")
    args = parser.parse_args()
    whole = combine([load_checkpoint(run) for run in args.runs])
    metrics = evaluate_retrieval(
        TorchEncoder.from_checkpoint(whole, precision="float32"),
        load_captioned(DATA / "flickr8k-val.tar"),
        ks=(1, 10),
    ).metrics
    rounded = {f"flickr8k-val/{name}": round(value, 6) for name, value in metrics.items()}
    training = {**whole.spec.training, "metrics": rounded}
    print(rounded)
    print(to_diptych(replace(whole, spec=replace(whole.spec, training=training)), args.out))


if __name__ == "__main__":
    main()
