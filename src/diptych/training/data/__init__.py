"""Image-text pairs from files to batches.

Indexed data: a description in a recipe (`sources`) opens to records, `order` decides the order of visits,
`reader` decodes, `augment` crops, `loader` makes batches. Streamed shards: `streaming` makes batches with
`sources.shard_reader`, `stream_lanes` and `decoders`. Models, losses and training steps are unknown here.
"""

from __future__ import annotations

from diptych.training.data.augment import AugmentConfig
from diptych.training.data.batch import Batch, RankShard
from diptych.training.data.loader import Loader, Mixture, PairLoader
from diptych.training.data.sources.sources import (
    Description,
    Folder,
    LabelledFolder,
    LabelledTar,
    Once,
    Part,
    Source,
    TablePairs,
    TarPairs,
    describe,
    split,
)
from diptych.training.data.streaming import StreamLoader, TarStream, open_pairs
from diptych.training.data.texts.hard_negatives import Negatives

__all__ = [
    "Mixture", "TarPairs", "TarStream", "LabelledTar", "TablePairs", "Folder", "LabelledFolder", "Once",
    "Part", "Source", "Description", "describe", "split", "AugmentConfig", "Negatives", "open_pairs",
    "Loader", "PairLoader", "StreamLoader", "Batch", "RankShard",
]  # fmt: skip
