"""Build the model, the objective and the teachers of a config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from diptych.errors import TrainingError
from diptych.model.clip import CLIP
from diptych.model.initialise import build, initialise
from diptych.model.timm_trunk import fill_buffers
from diptych.training.config import TrainConfig
from diptych.training.data.order import hash_keys
from diptych.training.data.texts.synsets import read_synsets
from diptych.training.objectives.companions import CompanionObjective
from diptych.training.objectives.label_tree import LabelTreeTeacher
from diptych.training.objectives.objective import Contrastive, Objective
from diptych.training.objectives.predicting import BagPrediction, CaptionPrediction, Classification
from diptych.training.objectives.tuning import add_low_rank, locked_parameters
from diptych.weights import ModelSpec, load_checkpoint


def build_model(config: TrainConfig, device: torch.device, *, plain: bool = False) -> CLIP:
    """The initialised model; see `build_objective`.

    The image tower has the memory format channels last, except on the meta device: FSDP2 takes contiguous
    parameters only.
    """
    model = build(config.architecture, device=device, seed=config.seed)
    if device.type != "meta":
        model.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if plain:
        return model
    locked = locked_parameters(
        model, config.lock, groups=config.lock_image_unlocked_groups, layers=config.lock_text_unlocked_layers
    )
    if config.lora:
        add_low_rank(model, config.lora, config.lora_alpha, seed=config.seed, locked=locked)
    if config.cache_features and config.lock_image_unlocked_groups <= 1:
        # The features that are computed once come after the norm before the projection.
        unused = {id(parameter) for parameter in model.visual.unused_parameters(for_patch_tokens=False)}
        locked += [parameter for parameter in model.visual.parameters() if id(parameter) not in unused]
    # After `add_low_rank`, which sets requires_grad of all parameters.
    for parameter in locked:
        parameter.requires_grad_(False)
    return model


def build_objective(
    config: TrainConfig,
    device: torch.device,
    teachers: Sequence[CLIP] = (),
    tree: LabelTreeTeacher | None = None,
    *,
    plain: bool = False,
) -> Objective:
    """The objective of a config, with its initialised model.

    Parameters
    ----------
    device : torch.device
        "meta" for shapes only, to be sharded; `materialise` allocates them.
    teachers, tree
        Of `load_teacher` and `load_label_tree`, loaded once for all objectives of a run.
    plain : bool
        Without low-rank updates and with every parameter trainable: the form that is saved.
    """
    model = build_model(config, device, plain=plain)
    if device.type != "meta":
        return _objective_on(model, config, teachers, tree).to(device)
    with device:
        return _objective_on(model, config, teachers, tree)


def materialise(objective: Objective, device: torch.device, seed: int) -> None:
    """Allocate an objective on the meta device, shard by shard, and initialise it from the seed."""
    objective.to_empty(device=device)
    fill_buffers(objective.model, device)
    initialise(objective.model, seed=seed)
    objective.initialise(seed)


def _objective_on(
    model: CLIP, config: TrainConfig, teachers: Sequence[CLIP], tree: LabelTreeTeacher | None
) -> Objective:
    if config.objective == "contrastive":
        return Contrastive(
            model,
            loss=config.loss,
            share_text=config.share_text,
            compiled=config.compile,
            teachers=teachers,
            similarity=config.distil_similarity,
            features=config.distil_features,
            positive=config.same_caption == "positive",
            negatives=config.negatives_weight if config.negatives else None,
            companions=_companions(config, tree),
            unlocked=config.lock_image_unlocked_groups if config.cache_features else None,
            feature_dropout=config.feature_dropout,
        )
    if config.objective == "classes":
        # The same hashes as in `Batch.groups`.
        classes = torch.from_numpy(hash_keys(config.classes).view(np.int64).copy()).sort().values
        return Classification(model, classes, config.seed)
    if config.objective == "captions":
        return CaptionPrediction(model, config.seed)
    return BagPrediction(model, 1 if config.objective == "words" else 3, config.seed)


def _companions(config: TrainConfig, tree: LabelTreeTeacher | None) -> CompanionObjective | None:
    """The losses on the companions of the pairs, if there are any."""
    pairs, words = config.text_pairs, config.caption_words
    if pairs is None and config.label_tree is None and words is None:
        return None
    return CompanionObjective(
        pairs_weight=None if pairs is None else pairs.weight,
        epochs_alone=0 if pairs is None else pairs.epochs_alone,
        tree=tree,
        tree_weight=1.0 if config.label_tree is None else config.label_tree.weight,
        word_information=None if words is None else _information(words.path),
        words_weight=1.0 if words is None else words.weight,
    )


def load_label_tree(config: TrainConfig, device: torch.device) -> LabelTreeTeacher | None:
    """Load the teacher of the label tree of a config, if it has one; its tower must be the model's."""
    tree = config.label_tree
    if tree is None:
        return None
    teacher = LabelTreeTeacher.open(tree, device)
    if not teacher.has_tower_of(config.architecture):
        raise TrainingError(
            f"{tree.classifier} has another image tower than the model: the teacher of a label tree must be "
            "the classifier that the model starts from (start_image)"
        )
    return teacher


def _information(path: str) -> Tensor:
    """Weights of the synsets of a file, on the CPU."""
    return torch.tensor([synset.weight for synset in read_synsets(path)], device="cpu")


def load_teacher(config: TrainConfig, name: str, device: torch.device) -> CLIP:
    """Load a teacher, which must have the tokenizer and the preprocessing of this run."""
    checkpoint = load_checkpoint(name)
    refuse_other_inputs(config, checkpoint.spec, name)
    model = build(checkpoint.spec.architecture, seed=0).to(device)
    model.load_state_dict(checkpoint.state)
    model.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval().requires_grad_(False)


def refuse_other_inputs(config: TrainConfig, spec: ModelSpec, name: str) -> None:
    """Raise TrainingError for a model with another tokenizer or other preprocessing than the run."""
    # Image side and context length may differ: position tables are resized, and what does not fit is refused
    # elsewhere.
    ours = config.spec
    sized = replace(spec.preprocess, size=ours.preprocess.size)
    cut = replace(spec.tokenizer, context_length=ours.tokenizer.context_length)
    for field, theirs in (("tokenizer", cut), ("preprocess", sized)):
        mine = getattr(ours, field)
        if theirs != mine:
            raise TrainingError(
                f"{name} has another {field}: {theirs}, this run has {mine}. To start from it, set its "
                "inputs: TrainConfig(start=name, **inputs_of(name)), as --from does"
            )
