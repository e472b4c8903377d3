"""The default model, first run: small sets of captioned and labelled photographs, 81 minutes on two cores.

Command:  diptych train recipes/default.py
Data:     DIPTYCH_SHARED/data (by default ../shared/data): flickr8k-train, open-train,
          caltech101-train-16shot, cifar10-train, tfflowers-train-1000; without the classes of held_out.json
Cost:     81 minutes on two busy cores (Zen 5, bfloat16), 2.6 GB; the best epoch is done after 60
Result:   runs/default/model, Flickr8k-val recall@10 0.272 / 0.293; recipes/default_more.py continues from it.
          docs/default-model.md lists what was tried
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from diptych.backends import TorchEncoder
from diptych.datasets import load_captioned
from diptych.evaluation import evaluate_retrieval
from diptych.model.clip import CLIP
from diptych.model.config import CLIPConfig, ResNetConfig, TextConfig
from diptych.training import Evaluator, Run, TrainConfig
from diptych.training.data import AugmentConfig, LabelledTar, Mixture, TarPairs
from diptych.zeroshot import folder_names

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("DIPTYCH_SHARED", HERE.parents[1] / "shared")) / "data"

# Sentences for pictures that have only a label. Their variety teaches the text tower which words do not
# matter; those with {kind} teach that a nectarine is a fruit.
TEMPLATES = (
    "a photo of {a}.",
    "a photo of the {}.",
    "a picture of {a}.",
    "an image of {a}.",
    "{a}.",
    "{}",
    "a close-up photo of {a}.",
    "a small photo of {a}.",
    "a bad photo of {a}.",
    "a good photo of {a}.",
    "a blurry photo of {a}.",
    "a cropped photo of the {}.",
    "there is {a} in the picture.",
    "this is {a}.",
    "a photo of one {}.",
    "a photo of {a}, a type of {kind}.",
    "{a}, a kind of {kind}.",
)


def run() -> Run:
    """First run of the default model."""
    return with_retrieval(config())


def config() -> TrainConfig:
    """Configuration of the first run."""
    architecture = CLIPConfig(
        embed_dim=256,
        vision=ResNetConfig(image_size=64, layers=(2, 3, 4, 2), width=48, pool="average"),
        text=TextConfig(context_length=32, vocab_size=8192, width=256, heads=4, layers=3),
        activation="quick_gelu",
    )
    return TrainConfig(
        name="diptych-default",
        out="runs/default",
        licence="MIT for the weights; the training pictures have licences of their own, see the card",
        source="Flickr8k, open-train, Caltech-101, CIFAR-10 and TF flowers packs, by recipes/default.py",
        model=architecture,
        data=data(captioned=4.0, cifar=0.3),
        epochs=24,
        image_sizes=((1 / 3, 32), (1 / 3, 48), (1 / 3, 64)),
        batch_size=384,
        lr=1.5e-3,
        weight_decay=0.3,
        warmup=150,
        ema=0.998,
        seed=10,
        augment=AugmentConfig(
            scale=(0.35, 1.0),
            flip=0.5,
            jitter=(0.4, 0.4, 0.4, 0.05),
            grayscale=0.1,
            erasing=0.25,
            drop_words=0.15,
        ),
        evaluate_every=2,
        monitor="flickr8k-val/text_retrieval_recall@10",
        checkpoint_every=50,
    )


def with_retrieval(config: TrainConfig) -> Run:
    """A run that is measured on Flickr8k-val, which all choices were based on."""
    return Run(config, {"flickr8k-val": retrieval(DATA / "flickr8k-val.tar", config)})


def data(captioned: float = 3.0, cifar: float = 0.35) -> Mixture:
    """The packs, and how often an epoch visits each of their pictures."""
    held = json.loads((HERE / "held_out.json").read_text("utf-8"))
    names = held["caltech101"] + held["open-train"] + held["also"]
    left_out = frozenset(names) | frozenset(n.replace("_", " ") for n in names)
    left_out |= frozenset(n.replace(" ", "_") for n in names)

    def labelled(pattern: str, label_field: str | None = None, rename: Mapping[str, str] = {}) -> LabelledTar:
        return LabelledTar(DATA / pattern, TEMPLATES, label_field, rename, left_out)

    return Mixture(
        (
            (TarPairs(DATA / "flickr8k-train-{000000..000002}.tar"), captioned),
            (labelled("open-train-{000000..000002}.tar.gz", label_field="label"), 1.0),
            (labelled("caltech101-train-16shot.tar", rename=folder_names("caltech101")), 2.0),
            (labelled("cifar10-train.tar.gz"), cifar),
            (labelled("tfflowers-train-1000.tar", rename=FLOWERS), 1.0),
        )
    )


def retrieval(path: Path, config: TrainConfig) -> Evaluator:
    """Evaluator of recall at 10 in both directions on captioned pictures."""
    dataset = load_captioned(path)

    def evaluate(model: CLIP, step: int) -> Mapping[str, float]:
        spec = replace(config, model=model.config).spec  # --set may have changed the shape
        encoder = TorchEncoder(model, spec, threads=config.workers)
        return evaluate_retrieval(encoder, dataset, ks=(1, 10)).metrics

    return evaluate


FLOWERS = {"roses": "rose", "sunflowers": "sunflower", "tulips": "tulip"}
