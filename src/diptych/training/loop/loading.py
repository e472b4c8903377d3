"""Open the data of a run on one process."""

from __future__ import annotations

from diptych.errors import TrainingError
from diptych.training.config import TrainConfig
from diptych.training.data import Loader, Negatives, RankShard, open_pairs
from diptych.training.distributed.world import World


def no_batch_error(config: TrainConfig, loader: Loader) -> TrainingError:
    """The error for data that does not fill a batch."""
    return TrainingError(
        f"the data does not fill one batch of {config.batch_size} pairs ({loader.report}): use a smaller "
        "batch_size or more data"
    )


def open_loader(config: TrainConfig, world: World, lanes: int) -> Loader:
    """The loader of this process's part of every batch."""
    spec = config.spec
    return open_pairs(
        config.data,
        config.load_tokenizer(),
        batch_size=config.batch_size,
        # Crops of smaller epochs (image_sizes) are made from the same cached images.
        image_size=config.largest_side,
        augment=config.augment,
        seed=config.seed,
        mean=spec.preprocess.mean,
        std=spec.preprocess.std,
        workers=config.workers,
        pairs_per_epoch=config.pairs_per_epoch,
        cache="auto" if config.cache == "auto" else config.cache == "yes",
        negatives=Negatives(config.negatives, config.negatives_each) if config.negatives else None,
        rank_shard=RankShard(world.rank, world.size, lanes),
    )
