"""The default model, first leg: a text tower learns to name what a pretrained picture tower sees.

Command:  diptych train recipes/default.py && diptych train recipes/default_unlocked.py \
          && python recipes/default_finish.py
Data:     the package index (EfficientNet-Lite2, 24 MB) and DIPTYCH_SHARED/data (by default ../shared/data):
          flickr8k-train, openstax-pairs, open-train, caltech101-train-16shot, cifar10-train,
          tfflowers-train-1000, mnist-train-10k, wordnet-nouns, imagenet-tree; without the classes of
          held_out.json
Cost:     to be measured
Result:   runs/default/model; docs/default-model.md lists what was tried

Locked-image tuning (LiT, Zhai et al. 2022, arXiv 2111.07991): the picture tower was trained on ImageNet's
labels and stays as it is, so the features of every picture are computed once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from default_sources import DATA, HERE, backbone, caption_words, label_tree, text_pairs

from diptych.backends import TorchEncoder
from diptych.datasets import load_captioned
from diptych.evaluation import evaluate_retrieval
from diptych.model.clip import CLIP
from diptych.model.config import CLIPConfig, EfficientNetConfig, TextConfig
from diptych.training import Evaluator, Run, TrainConfig
from diptych.training.data import AugmentConfig, LabelledTar, Mixture, TarPairs
from diptych.training.data.texts.caption_words import CaptionWords
from diptych.training.data.texts.companions import LabelTree, TextPairs
from diptych.zeroshot import folder_names

# Sentences for pictures that have only a label: bare words and plurals, because that is what people search
# for, and sentences, because classifiers are built from them. {kind} teaches that a nectarine is a fruit.
TEMPLATES = (
    "{}",
    "{}",
    "{a}",
    "the {}",
    "{s}",
    "a photo of {a}.",
    "a photo of the {}.",
    "a photo of {s}.",
    "a picture of {a}.",
    "an image of {a}.",
    "a close-up photo of {a}.",
    "a small photo of {a}.",
    "a bad photo of {a}.",
    "a blurry photo of {a}.",
    "there is {a} in the picture.",
    "a photo of {a}, a type of {kind}.",
)
FLOWERS = {"roses": "rose", "sunflowers": "sunflower", "tulips": "tulip"}
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS = {str(digit): f"the digit {word}" for digit, word in enumerate(WORDS)}


def run() -> Run:
    """First leg of the default model."""
    return with_retrieval(config())


def config() -> TrainConfig:
    """Configuration of the first leg."""
    architecture = CLIPConfig(
        embed_dim=256,
        vision=EfficientNetConfig(image_size=224, width=1.1, depth=1.2, hidden=512),
        text=TextConfig(context_length=32, vocab_size=8192, width=256, heads=4, layers=4),
        activation="quick_gelu",
    )
    start, tree = str(backbone()), str(label_tree())
    return TrainConfig(
        name="diptych-default",
        out="runs/default",
        licence="MIT; the picture tower derives from EfficientNet-Lite2, Apache-2.0; see NOTICE and the card",
        source="EfficientNet-Lite2 and the packs of pictures on the card, by recipes/default.py",
        languages=("en", "es"),
        model=architecture,
        start_image=start,
        lock="image",
        lock_image_unlocked_groups=1,
        cache_features=2,
        feature_dropout=0.3,
        text_pairs=TextPairs(path=str(text_pairs()), fraction=0.3, weight=0.5, epochs_alone=2),
        label_tree=LabelTree(path=tree, classifier=start),
        caption_words=CaptionWords(path=str(caption_words())),
        negatives_from="same_kind",
        data=data(),
        epochs=20,
        batch_size=448,
        lr=1e-3,
        weight_decay=0.2,
        warmup=100,
        ema=0.995,
        seed=16,
        augment=AugmentConfig(scale=(0.4, 1.0), flip=0.5, jitter=(0.4, 0.4, 0.4, 0.05), grayscale=0.1),
        evaluate_every=2,
        monitor="flickr8k-val/image_retrieval_recall@10",
        checkpoint_every=50,
    )


def with_retrieval(config: TrainConfig) -> Run:
    """A run that is measured on Flickr8k-val, on which choices are based."""
    return Run(config, {"flickr8k-val": retrieval(DATA / "flickr8k-val.tar", config)})


def data(captioned: float = 3.0, cifar: float = 0.2) -> Mixture:
    """The packs, and how often an epoch visits each of their pictures."""
    held = json.loads((HERE / "held_out.json").read_text("utf-8"))
    names = folder_names("caltech101")
    left_out = frozenset(
        [*held["caltech101"], *(names[n] for n in held["caltech101"]), *held["open-train"], *held["also"]]
    )

    def labelled(pattern: str, label_field: str | None = None, rename: Mapping[str, str] = {}) -> LabelledTar:
        return LabelledTar(DATA / pattern, TEMPLATES, label_field, rename, left_out)

    return Mixture(
        (
            (TarPairs(DATA / "flickr8k-train-{000000..000002}.tar"), captioned),
            (TarPairs(DATA / "openstax-pairs-{000000..000001}.tar"), captioned / 2),
            (labelled("open-train-{000000..000002}.tar.gz", label_field="label"), 1.0),
            (labelled("caltech101-train-16shot.tar", rename=names), 2.0),
            (labelled("cifar10-train.tar.gz"), cifar),
            (labelled("tfflowers-train-1000.tar", rename=FLOWERS), 1.0),
            (labelled("mnist-train-10k.tar.gz", rename=DIGITS), 0.1),
        )
    )


def retrieval(path: Path, config: TrainConfig) -> Evaluator:
    """Evaluator of recall at 1 and 10 in both directions on captioned pictures."""
    dataset = load_captioned(path)

    def evaluate(model: CLIP, step: int) -> Mapping[str, float]:
        spec = replace(config, model=model.config).spec  # --set may have changed the shape
        encoder = TorchEncoder(model, spec, threads=config.workers)
        return evaluate_retrieval(encoder, dataset, ks=(1, 10)).metrics

    return evaluate
