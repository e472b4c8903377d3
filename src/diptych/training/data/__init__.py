"""Pairs of pictures and texts, from files to batches: what a training run reads.

The way through: a description in a recipe (`sources`) opens to records; `order` says which record when;
`reader` decodes, `augment` crops; `loader` makes batches of it. Shards that are not to be indexed go another
way: `streaming`, over `walk`, `lanes` and `decoders`. No model, no loss and no step is known here: those are
`diptych.training`'s.
"""

from __future__ import annotations

from diptych.training.data.augment import AugmentConfig
from diptych.training.data.batch import Batch, Share
from diptych.training.data.loader import Mixture, PairLoader
from diptych.training.data.negatives import Negatives
from diptych.training.data.opening import Loader, open_pairs
from diptych.training.data.sources.sources import (
    Description,
    Folder,
    LabelledFolder,
    LabelledTar,
    Once,
    Part,
    Source,
    Table,
    TarPairs,
    describe,
    split,
)
from diptych.training.data.streaming import StreamLoader, TarStream

__all__ = [
    "Mixture",
    "TarPairs",
    "TarStream",
    "LabelledTar",
    "Table",
    "Folder",
    "LabelledFolder",
    "Once",
    "Part",
    "Source",
    "Description",
    "describe",
    "split",
    "AugmentConfig",
    "Negatives",
    "open_pairs",
    "Loader",
    "PairLoader",
    "StreamLoader",
    "Batch",
    "Share",
]
