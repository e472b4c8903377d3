"""Weights to start a run from: a whole model, or a pretrained image tower alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from diptych.errors import WeightsError
from diptych.training.config import TrainConfig
from diptych.training.loop.trainable_model import TrainableModel
from diptych.training.objectives.build import refuse_other_inputs
from diptych.training.objectives.tuning import fitted_start
from diptych.weights import load_checkpoint
from diptych.weights.backbones.efficientnet_lite import read_image_classifier
from diptych.weights.download import sha256


def load_start(config: TrainConfig, trainable: TrainableModel, note: Callable[[str], None]) -> str:
    """Load the weights that `start` or `start_image` of a config names, if any.

    Parameters
    ----------
    note : callable
        Called with a message for the user.

    Returns
    -------
    str
        Identity of the weights, which is recorded in the model that the run saves; "" for a random start.

    Raises
    ------
    WeightsError
        They do not fit the architecture of the run.
    """
    if config.start_image:
        return _load_image_tower(config, trainable)
    if not config.start:
        return ""
    start = load_checkpoint(config.start)
    refuse_other_inputs(config, start.spec, config.start)
    state, resized = fitted_start(config.architecture, start, config.start)
    if resized:
        note(resized)
    trainable.load_weights(state)
    return start.identity


def _load_image_tower(config: TrainConfig, trainable: TrainableModel) -> str:
    """Load a pretrained image classifier without its last layer; the projection keeps its random start."""
    path = Path(config.start_image).expanduser()
    classifier = read_image_classifier(path)
    vision, own = config.architecture.vision, trainable.model.visual.state_dict()
    shapes = {name: tensor.shape for name, tensor in own.items() if not name.startswith("head.")}
    if {name: tensor.shape for name, tensor in classifier.tower.items()} != shapes:
        width, depth = classifier.config.width, classifier.config.depth
        raise WeightsError(
            f"{path} is an EfficientNet-Lite of width {width:g} and depth {depth:g}, which does not fit the "
            f"image tower of this run, {vision}: set vision=EfficientNetConfig(width={width:g}, "
            f"depth={depth:g})"
        )
    trainable.load_image_tower(classifier.tower)
    return f"{path.name} (sha256:{sha256(path)})"
