"""Pairs of pictures and texts, from files to batches: what a training run reads.

The way through: a description in a recipe (`sources`) opens to records; `order` says which record when;
`reader` decodes, `augment` crops; `loader` makes batches of it. Shards that are not to be indexed go another
way: `streaming`, over `walk`, `lanes` and `decoders`. No model, no loss and no step is known here: those are
`diptych.training`'s.
"""

from __future__ import annotations

from diptych.pairs.augment import AugmentConfig
from diptych.pairs.batch import Batch, Share
from diptych.pairs.loader import Mixture, PairLoader
from diptych.pairs.negatives import Negatives
from diptych.pairs.opening import Loader, open_pairs
from diptych.pairs.sources import (
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
from diptych.pairs.streaming import StreamLoader, TarStream

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
