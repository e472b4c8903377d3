"""The pairs of a run, as one process reads them."""

from __future__ import annotations

from diptych.errors import TrainingError
from diptych.training.config import TrainConfig
from diptych.training.data import Loader, Negatives, Share, open_pairs
from diptych.training.distributed.world import World


def no_batch(config: TrainConfig, loader: Loader) -> TrainingError:
    """What to say of data that fills no batch."""
    return TrainingError(
        f"the data gives no batch of {config.batch_size} pairs ({loader.report}); take a smaller batch_size "
        "or more data"
    )


def open_loader(config: TrainConfig, world: World, lanes: int) -> Loader:
    """A process's part of the pairs of a run."""
    spec = config.spec
    return open_pairs(
        config.data,
        config.load_tokenizer(),
        batch_size=config.batch_size,
        image_size=config.largest_side,
        augment=config.augment,
        seed=config.seed,
        mean=spec.preprocess.mean,
        std=spec.preprocess.std,
        workers=config.workers,
        pairs_per_epoch=config.pairs_per_epoch,
        cache="auto" if config.cache == "auto" else config.cache == "yes",
        negatives=Negatives(config.negatives, config.negatives_each) if config.negatives else None,
        share=Share(world.rank, world.size, lanes),
    )
