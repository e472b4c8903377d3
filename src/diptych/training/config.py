"""What a training run is: one frozen dataclass, and how `--set key=value` changes it.

A recipe is a Python function that returns a `Run`: a `TrainConfig` and the evaluators to call. The loop is
`trainer.py`; this file trains nothing.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from diptych.errors import InputError, WeightsError
from diptych.inputs import PreprocessConfig, Tokenizer, TokenizerConfig, load_tokenizer
from diptych.inputs.config import CLIP_VOCAB_SIZE
from diptych.model.config import CLIPConfig, ResNetConfig, check_choices
from diptych.training.data.augment import AugmentConfig
from diptych.training.data.loader import Mixture
from diptych.weights import ModelSpec
from diptych.weights.names import resolve_architecture
from diptych.weights.registry import tokenizer_for

# Called with the (averaged) model and the step; what it returns is logged under the evaluator's name. The
# model is a CLIP; for the objectives of predicting.py it is the tower with its head, which has `score`.
Evaluator = Callable[[Any, int], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run.

    Examples
    --------
    >>> from diptych.training.data.sources.sources import TarPairs
    >>> config = TrainConfig(data=Mixture(((TarPairs("pairs.tar"), 1.0),)))
    >>> config.override(["epochs=3", "augment.flip=0.5"]).augment.flip
    0.5
    >>> config.override(["model.text.layers=2"]).architecture.text.layers
    2
    """

    # What
    data: Mixture
    model: CLIPConfig | str = "diptych-small"  # a shape, or a preset's name
    start: str = ""  # weights to go on from, as `diptych.load` names them; "": none (paper, section 2.5)
    # What a picture and a text are to the model: of the weights that are gone on from (`inputs_of`), or by
    # default CLIP's. Side and length are always the architecture's.
    preprocess: PreprocessConfig | None = None
    tokenizer: TokenizerConfig | None = None
    tokenizer_file: str = ""  # path of the tokenizer.json, for a tokenizer that is a file
    languages: tuple[str, ...] = ()  # of the texts, as codes; () where nobody says
    out: str = "runs/diptych"  # folder of the run: log, checkpoint, model
    name: str = "diptych"  # of the model, for people
    licence: str = "unknown"  # of the weights
    source: str = ""  # what it was trained on, in a sentence

    # How long
    epochs: int = 10
    pairs_per_epoch: int = 0  # usable pairs that an epoch of streamed shards has; 0: counted
    batch_size: int = 256  # pairs a step, of all processes together
    # Pairs encoded at once, on each process: the memory of a step is that of a chunk. 0: the whole batch;
    # -1: the most that fit into memory, found once and kept for the whole run.
    chunk: int = 0
    # (share of the epochs, side in pixels), in order: begin on small pictures, which cost less. Needs a tower
    # that reads any side. Empty: the model's own side throughout.
    image_sizes: tuple[tuple[float, int], ...] = ()
    max_minutes: float = 0.0  # save and stop after so long, to be resumed; 0: no limit

    # How (paper, section 2.5 and table 18, but for a rate that suits small models)
    lr: float = 1e-3
    weight_decay: float = 0.2  # not on gains, biases and the scale
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    warmup: int = 200  # steps of linear warmup
    # After it: a cosine down to 0; or the peak to the end, and a run's middle is what a shorter one ends in.
    schedule: Literal["cosine", "constant"] = "cosine"
    # Last epochs of a constant schedule, in which the rate falls (Zhai et al. 2022, arXiv 2106.04560, section
    # 3.5; Haegele et al. 2024, arXiv 2405.18392); 0: none. From lr to lr_cooldown_end, as a power of the part
    # that is left: 1 is a straight line.
    epochs_cooldown: int = 0
    lr_cooldown_power: float = 1.0
    lr_cooldown_end: float = 0.0
    clip: float = 1.0  # largest norm of all gradients together; 0: no clipping
    max_scale: float = 100.0  # the factor on cosines never exceeds it
    ema: float = 0.0  # decay of the averaged weights that are evaluated and kept; 0: none
    # contrastive, or what it was compared with, see predicting.py: the same picture tower learns to predict
    # captions, their words, their words and runs of words, or the label
    objective: Literal["contrastive", "captions", "words", "ngrams", "classes"] = "contrastive"
    classes: tuple[str, ...] = ()  # every label of the data, for the objective "classes"
    loss: Literal["infonce", "sigmoid"] = "infonce"
    # Pairs that share a caption or a label: not each other's negatives, right answers too, or wrong ones
    same_caption: Literal["ignore", "positive", "negative"] = "ignore"
    negatives: str = (
        ""  # a file of captions that are nearly right, see training/data/negatives.py; contrastive only
    )
    negatives_each: int = 1  # how many of them a pair meets in a step
    negatives_weight: float = 1.0  # of what is lost to them
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    # What stays as it is (fine-tuning), see tuning.py
    lock: Literal["", "image", "text", "both"] = ""  # a tower that does not learn (LiT: image)
    # Groups at the end of a locked tower that do learn: the projection with the norm before it, then block
    # after block, or stage after stage of a tower that has stages. 0: the whole tower is locked.
    lock_image_unlocked_groups: int = 0
    lock_text_unlocked_layers: int = 0
    still_norms: bool = False  # batch norms go by the statistics they have, and keep them
    layer_decay: float = 1.0  # the rate of each layer is this part of the next one's
    lora: int = 0  # rank of the changes that are learned in place of the weights; 0: the weights
    lora_alpha: float = 16.0  # their factor is alpha / rank

    # Stronger models to learn from, as `diptych.load` names them; several count as one
    teachers: tuple[str, ...] = ()
    distil_similarity: float = 1.0  # weight of their view of what is alike
    distil_features: float = 0.0  # weight of their rows themselves; one teacher, of the model's width

    # Reproducibility and machine
    seed: int = 0
    device: str = "auto"
    # auto: bfloat16 where the machine has it, else float32
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    parallel: Literal["ddp", "fsdp"] = "ddp"  # of several processes: each has the model, or a piece of it
    exchange: Literal["gathered", "ring"] = "gathered"  # how their features meet in the loss
    use_bn_sync: bool = False  # batch norms normalise over the pictures of all processes; on GPUs
    lanes: int = 0  # the data is dealt out in so many; 0: as many as processes at the start
    threads: int = 0  # of torch; 0: as many as it takes
    workers: int = 2  # threads that decode
    cache: Literal["auto", "yes", "no"] = "auto"  # keep decoded pictures in memory
    share_text: bool = True  # compute common beginnings of texts once
    grad_checkpointing: bool = False
    compile: bool = False

    # Watching
    evaluate_every: int = 1  # epochs
    checkpoint_every: int = 200  # steps
    # Epochs from one numbered checkpoint to the next: OUT/epoch-3, with the model of that epoch; 0: none.
    save_frequency: int = 0
    keep_checkpoints: int = 0  # numbered checkpoints that stay, the newest, and the best beside; 0: all
    log_every: int = 10  # steps
    monitor: str = ""  # metric whose best model is kept, e.g. "val/recall@10"; "": the last is kept
    patience: int = 0  # evaluations without a better monitor before stopping early; 0: never

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "evaluate_every", "checkpoint_every", "log_every", "workers"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: expected 1 or more")
        check_choices(self)
        for name in ("lr", "eps", "max_scale", "lr_cooldown_power"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}: expected a number above 0")
        for name in (
            "pairs_per_epoch",
            "warmup",
            "clip",
            "weight_decay",
            "patience",
            "max_minutes",
            "threads",
            "lanes",
            "epochs_cooldown",
            "lock_image_unlocked_groups",
            "lock_text_unlocked_layers",
            "save_frequency",
            "keep_checkpoints",
        ):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}: expected 0 or more")
        if self.chunk < -1:
            raise InputError(f"chunk is {self.chunk}: expected pairs, 0 (the whole batch) or -1 (what fits)")
        if not 0 <= self.ema < 1:
            raise InputError(f"ema is {self.ema}: expected 0 (none) or a decay below 1, such as 0.999")
        if self.patience and not self.monitor:
            raise InputError("patience needs monitor: the metric that has to get better")
        self._check_cooldown()
        self._check_tuning()
        self._check_negatives()
        self._check_sizes()

    def _check_cooldown(self) -> None:
        if not 0 <= self.lr_cooldown_end <= self.lr:
            raise InputError(
                f"lr_cooldown_end is {self.lr_cooldown_end}: expected a rate from 0 to lr={self.lr}"
            )
        if self.epochs_cooldown > self.epochs:
            raise InputError(
                f"epochs_cooldown is {self.epochs_cooldown}: expected no more than the {self.epochs} epochs "
                "of the run, of which it is the end"
            )
        if self.epochs_cooldown and self.schedule != "constant":
            raise InputError(
                "epochs_cooldown goes with schedule=constant: any other schedule falls by itself, got "
                f"schedule={self.schedule}"
            )

    def _check_tuning(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"layer_decay is {self.layer_decay}: expected a part above 0, up to 1")
        if self.lora and not self.start:
            raise InputError("lora changes weights that are there: name them, start='default'")
        if self.lora and self.parallel == "fsdp":
            raise InputError("lora goes with parallel='ddp': what it learns is small enough for each process")
        unlocked = {"image": self.lock_image_unlocked_groups, "text": self.lock_text_unlocked_layers}
        for tower, count in unlocked.items():
            if count and self.lock not in (tower, "both"):
                raise InputError(
                    f"groups of the {tower} tower are unlocked, and it is not locked: lock={tower}"
                )
        if self.lock == "both" and not any(unlocked.values()):
            raise InputError(
                "lock=both leaves nothing to learn: unlock the last groups of a tower, "
                "lock_image_unlocked_groups=1 or lock_text_unlocked_layers=1"
            )
        if self.lora < 0 or min(self.distil_similarity, self.distil_features) < 0:
            raise InputError("lora, distil_similarity and distil_features: expected 0 or more")

    def _check_negatives(self) -> None:
        if self.negatives_each < 1 or self.negatives_weight < 0:
            raise InputError(
                f"negatives_each is {self.negatives_each} and negatives_weight {self.negatives_weight}: "
                "expected 1 or more, and 0 or more"
            )
        if self.negatives and (self.objective != "contrastive" or self.augment.drop_words):
            raise InputError(
                "negatives belong to whole captions in contrastive training: leave out objective and "
                "augment.drop_words"
            )

    def _check_sizes(self) -> None:
        vision = self.architecture.vision
        if self.image_sizes and not (isinstance(vision, ResNetConfig) and vision.pool == "average"):
            raise InputError(
                "image_sizes needs a tower that reads pictures of any side: a ResNet with pool='average'"
            )
        if any(side < 32 for _, side in self.image_sizes):
            raise InputError(f"the sides of image_sizes must be 32 pixels or more, got {self.image_sizes}")
        if self.image_sizes and abs(sum(share for share, _ in self.image_sizes) - 1) > 1e-6:
            raise InputError(f"the shares of image_sizes must sum to 1, got {self.image_sizes}")

    @property
    def architecture(self) -> CLIPConfig:
        """The architecture of the model, looked up where it is a name."""
        return resolve_architecture(self.model) if isinstance(self.model, str) else self.model

    @property
    def spec(self) -> ModelSpec:
        """What travels with the weights that this run makes."""
        shape = self.architecture
        text = shape.text
        tokenizer = self.tokenizer
        if tokenizer is None and text.vocab_size <= CLIP_VOCAB_SIZE:
            tokenizer = TokenizerConfig(vocab_size=text.vocab_size, pad_id=text.pad_id)
        tokenizer = tokenizer or tokenizer_for(shape)
        return ModelSpec(
            name=self.name,
            architecture=shape,
            preprocess=replace(self.preprocess or PreprocessConfig(), size=shape.vision.image_size),
            tokenizer=replace(tokenizer, context_length=text.context_length),
            licence=self.licence,
            source=self.source,
            languages=self.languages,
        )

    def load_tokenizer(self) -> Tokenizer:
        """Load the tokenizer of the run's texts.

        Raises
        ------
        WeightsError
            It is a file, and `tokenizer_file` names none.
        """
        config = self.spec.tokenizer
        if config.kind == "file" and not self.tokenizer_file:
            raise WeightsError(
                "this architecture's tokenizer is a file: name it, tokenizer_file='path/to/tokenizer.json', "
                "or go on from weights that bring it along (--from, inputs_of)"
            )
        return load_tokenizer(config, Path(self.tokenizer_file).parent if self.tokenizer_file else None)

    def side(self, epoch: int) -> int:
        """Side of the pictures in an epoch, pixels."""
        done = 0.0
        for share, side in self.image_sizes:
            done += share
            if epoch < done * self.epochs - 1e-6:
                return side
        return self.architecture.vision.image_size

    @property
    def largest_side(self) -> int:
        """Side of the largest pictures of all epochs, pixels."""
        return max((side for _, side in self.image_sizes), default=self.architecture.vision.image_size)

    def override(self, assignments: Sequence[str]) -> TrainConfig:
        """A copy with fields changed by `key=value` texts; `augment.flip=0.5` reaches inside.

        Raises
        ------
        InputError
            No such field (the near ones are listed), or a value of another type.
        """
        # Gathered first and set together: two fields that only fit each other may come in any order.
        changes: dict[str, Any] = {}
        if isinstance(self.model, str) and any(text.strip().startswith("model.") for text in assignments):
            return dataclasses.replace(self, model=self.architecture).override(assignments)
        for text in assignments:
            key, equals, value = text.partition("=")
            if not equals:
                raise InputError(f"{text!r} is no assignment: expected key=value, such as epochs=3")
            _gather(self, key.strip().split("."), value.strip(), key, changes)
        try:
            changed: TrainConfig = _apply(self, changes)
        except (ValueError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{', '.join(assignments)} cannot be set: {error}") from error
        return changed


@dataclass(frozen=True)
class Run:
    """What a recipe returns: the run's config, and what to measure while it goes."""

    config: TrainConfig
    evaluators: Mapping[str, Evaluator] = field(default_factory=dict)


def _gather(config: Any, path: list[str], text: str, key: str, changes: dict[str, Any]) -> None:
    """Note a new value for the field that `path` leads to."""
    names = [f.name for f in dataclasses.fields(config)]
    if path[0] not in names:
        near = difflib.get_close_matches(path[0], names, n=3)
        way_out = f"did you mean: {', '.join(near)}?" if near else f"the fields are {', '.join(names)}"
        raise InputError(f"no field {key!r} to set; {way_out}")
    old = getattr(config, path[0])
    if len(path) > 1:
        if not dataclasses.is_dataclass(old):
            raise InputError(f"{path[0]!r} has no fields inside, so {key!r} cannot be set")
        _gather(old, path[1:], text, key, changes.setdefault(path[0], {}))
        return
    kind = typing.get_type_hints(type(config))[path[0]]
    changes[path[0]] = _parse(kind, old, text, key)


def _apply(config: Any, changes: dict[str, Any]) -> Any:
    inside = {name: _apply(getattr(config, name), v) for name, v in changes.items() if isinstance(v, dict)}
    return dataclasses.replace(config, **{**changes, **inside})


def _parse(kind: Any, old: Any, text: str, key: str) -> Any:
    """Read a text as a field's type."""
    if isinstance(old, bool):
        if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise InputError(f"{key} takes true or false, not {text!r}")
        return text.lower() in ("true", "1", "yes")
    if typing.get_origin(kind) is Literal:
        if text not in typing.get_args(kind):
            raise InputError(f"{key} is one of {', '.join(typing.get_args(kind))}, not {text!r}")
        return text
    if isinstance(old, str) or kind is str:
        return text
    if dataclasses.is_dataclass(old):
        if key == "model":
            return text
        raise InputError(f"{key} cannot be set as a whole on the command line: set its fields")
    try:
        value = ast.literal_eval(text)
        if isinstance(old, int) or (
            old is None and int in typing.get_args(kind)
        ):  # int | None: may be left out
            return _whole(value)
        return float(value) if old is None else type(old)(value)
    except (ValueError, SyntaxError, TypeError) as error:
        raise InputError(
            f"{key} takes a value such as {old!r} ({type(old).__name__}), not {text!r}"
        ) from error


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value:
        raise ValueError(value)
    return int(value)
