"""Open the data of a run on one process, and pin its batches in advance."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diptych.errors import TrainingError
from diptych.files.disk import user_cache
from diptych.prefetch import read_ahead, worker_threads
from diptych.training.config import TrainConfig
from diptych.training.data import Batch, Loader, Negatives, RankShard, open_pairs
from diptych.training.data.feature_cache import EncodeImages, FeatureLoader
from diptych.training.data.texts.companions import CompanionTexts
from diptych.training.distributed.accelerator import Accelerator
from diptych.training.distributed.world import World


def no_batch_error(config: TrainConfig, loader: Loader) -> TrainingError:
    """The error for data that does not fill a batch."""
    return TrainingError(
        f"the data does not fill one batch of {config.batch_size} pairs ({loader.report}): use a smaller "
        "batch_size or more data"
    )


@dataclass(frozen=True)
class LockedEncoder:
    """The locked part of an image tower.

    Attributes
    ----------
    encode : callable
        Preprocessed images (B, 3, S, S) on the CPU to its output (B, *shape) there.
    shape : tuple of int
        (W,) before a projection, or that of a feature map.
    identity : str
        Of the tower's weights.
    """

    encode: EncodeImages
    shape: tuple[int, ...]
    identity: str


def open_loader(config: TrainConfig, world: World, lanes: int, locked: LockedEncoder | None = None) -> Loader:
    """The loader of this process's part of every batch; of features, if a locked encoder is passed."""
    spec = config.spec
    options: dict[str, Any] = {
        "batch_size": config.batch_size,
        # Crops of smaller epochs (image_sizes) are made from the same cached images.
        "image_size": config.largest_side,
        "augment": config.augment,
        "seed": config.seed,
        "mean": spec.preprocess.mean,
        "std": spec.preprocess.std,
        "workers": config.workers,
        "negatives": Negatives(config.negatives, config.negatives_each) if config.negatives else None,
        "companions": CompanionTexts.open(config.text_pairs, config.label_tree, config.caption_words),
        "rank_shard": RankShard(world.rank, world.size, lanes),
    }
    if locked is not None:
        return FeatureLoader(
            config.data,
            config.load_tokenizer(),
            encode=locked.encode,
            shape=locked.shape,
            weights=locked.identity,
            views=config.cache_features,
            folder=Path(config.features_folder).expanduser() if config.features_folder else feature_folder(),
            **options,
        )
    return open_pairs(
        config.data,
        config.load_tokenizer(),
        pairs_per_epoch=config.pairs_per_epoch,
        cache="auto" if config.cache == "auto" else config.cache == "yes",
        **options,
    )


def feature_folder() -> Path:
    """The folder of cached features where a config names none."""
    return user_cache() / "features"


def prefetch_pinned(batches: Iterator[Batch], accelerator: Accelerator) -> Generator[Batch]:
    """Yield batches in pinned memory, from which the accelerator copies asynchronously.

    Pinning is a copy of the whole batch (616 MB for 4,096 images of 224 pixels) and would take a large part
    of a step on the thread that launches kernels. One batch is made in advance. If it is not used, a resumed
    run makes it again, since its position was not saved.
    """
    if not accelerator.copies_async:
        yield from batches
        return

    def pinned(batch: Batch) -> Batch:
        return replace(batch, crops=accelerator.pin(batch.crops), groups=accelerator.pin(batch.groups))

    with worker_threads(1, "diptych-pin") as pool:
        following = read_ahead(pool, map(pinned, batches))
        while True:
            started = time.perf_counter()
            batch = next(following, None)
            if batch is None:
                return
            # What the caller waited, in place of the time that the pinning thread waited for the loader.
            yield replace(batch, wait_seconds=time.perf_counter() - started)
