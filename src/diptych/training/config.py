"""Config of a training run: one frozen dataclass, and its changes by `--set key=value`.

A recipe is a Python function that returns a `Run`: a `TrainConfig` and the evaluators to call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from diptych.errors import InputError, WeightsError
from diptych.inputs import PreprocessConfig, Tokenizer, TokenizerConfig, load_tokenizer
from diptych.inputs.config import CLIP_VOCAB_SIZE
from diptych.model.config import CLIPConfig, EfficientNetConfig, ResNetConfig, check_choices
from diptych.training.data.augment import AugmentConfig
from diptych.training.data.loader import Mixture
from diptych.training.data.streaming import TarStream
from diptych.training.data.texts.caption_words import CaptionWords
from diptych.training.data.texts.companions import LabelTree, TextPairs
from diptych.training.losses.contrastive import ContrastiveLoss
from diptych.training.overriding import override
from diptych.weights import ModelSpec
from diptych.weights.backbones.efficientnet_lite import PREPROCESS as BACKBONE_PREPROCESS
from diptych.weights.names import resolve_architecture
from diptych.weights.registry import tokenizer_for

# Called with the (averaged) model and the step; the metrics that it returns are logged under its name. The
# model is a CLIP; for the objectives of predicting.py it is the image tower with its head, which has `score`.
Evaluator = Callable[[Any, int], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Config of a training run. Names of fields are stored in checkpoints.

    Examples
    --------
    >>> from diptych.training.data.sources.sources import TarPairs
    >>> config = TrainConfig(data=Mixture(((TarPairs("pairs.tar"), 1.0),)))
    >>> config.override(["epochs=3", "augment.flip=0.5"]).augment.flip
    0.5
    >>> config.override(["model.text.layers=2"]).architecture.text.layers
    2
    """

    # Data and model
    data: Mixture
    model: CLIPConfig | str = "diptych-small"  # an architecture, or the name of a preset
    start: str = ""  # weights to start from, as in `diptych.load`; "": random (paper, section 2.5)
    # A pretrained image classifier to start the image tower from: a file of EfficientNet-Lite
    # (weights/backbones). Its last layer is left out; the projection and the text tower start at random.
    start_image: str = ""
    # Preprocessing and tokenizer: those of the weights to start from (`inputs_of`), by default CLIP's. Image
    # side and context length are always the architecture's.
    preprocess: PreprocessConfig | None = None
    tokenizer: TokenizerConfig | None = None
    tokenizer_file: str = ""  # path of tokenizer.json, for a tokenizer of kind "file"
    languages: tuple[str, ...] = ()  # language codes of the texts; () if unknown
    out: str = "runs/diptych"  # folder of the run: log, checkpoint, model
    name: str = "diptych"  # of the model, for display
    licence: str = "unknown"  # of the weights
    source: str = ""  # description of the training data

    # Length and batches
    epochs: int = 10
    pairs_per_epoch: int = 0  # usable pairs of an epoch of streamed shards; 0: counted
    batch_size: int = 256  # pairs per step, of all processes together
    # Pairs encoded at once on each process, which decides the memory of a step (`loop/gradients.py`). 0: the
    # whole batch; -1: the most that fit into memory, measured once and kept for the whole run.
    chunk: int = 0
    # (share of the epochs, image side in pixels), in order: start with small images, which cost less. Needs a
    # tower that accepts any side. Empty: the side of the architecture throughout.
    image_sizes: tuple[tuple[float, int], ...] = ()
    max_minutes: float = 0.0  # save and stop after this time, to be resumed; 0: no limit

    # Optimisation (paper, section 2.5 and table 18, except for a learning rate that suits small models)
    lr: float = 1e-3
    weight_decay: float = 0.2  # not applied to gains, biases and the scale
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    warmup: int = 200  # steps of linear warmup
    # After the warmup: a cosine to 0; or constant, so that a run can be extended.
    schedule: Literal["cosine", "constant"] = "cosine"
    # Last epochs of a constant schedule, in which the rate decays (Zhai et al. 2022, arXiv 2106.04560,
    # section 3.5; Haegele et al. 2024, arXiv 2405.18392); 0: none. From lr to lr_cooldown_end, as a power of
    # the part that is left: 1 is linear.
    epochs_cooldown: int = 0
    lr_cooldown_power: float = 1.0
    lr_cooldown_end: float = 0.0
    clip: float = 1.0  # largest global norm of the gradients; 0: no clipping
    max_scale: float = 100.0  # largest logit scale
    ema: float = 0.0  # decay of the averaged weights, which are evaluated and saved; 0: none
    # contrastive, or a baseline of the paper (predicting.py): the image tower learns to predict captions,
    # their words, their n-grams, or the label
    objective: Literal["contrastive", "captions", "words", "ngrams", "classes"] = "contrastive"
    classes: tuple[str, ...] = ()  # every label of the data, for the objective "classes"
    loss: ContrastiveLoss = "infonce"
    # Pairs with the same caption or label: masked as negatives, additional positives, or negatives
    same_caption: Literal["ignore", "positive", "negative"] = "ignore"
    # same_kind: captions are no negatives of labelled pictures, nor labels of captioned ones. "A dog runs" is
    # not wrong for a picture with the label dog.
    negatives_from: Literal["all", "same_kind"] = "all"
    negatives: str = ""  # file of hard negatives, see data/texts/hard_negatives.py; contrastive only
    negatives_each: int = 1  # hard negatives per pair and step
    negatives_weight: float = 1.0  # of their loss
    # Texts that go with the pairs, see data/texts/companions.py; contrastive only
    text_pairs: TextPairs | None = None
    label_tree: LabelTree | None = None
    caption_words: CaptionWords | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    # Fine-tuning, see tuning.py
    lock: Literal["", "image", "text", "both"] = ""  # towers that are not trained (LiT: image)
    # Groups at the end of a locked tower that are trained: the projection with the norm before it, then block
    # by block, or stage by stage of a tower with stages. 0: the whole tower is locked.
    lock_image_unlocked_groups: int = 0
    lock_text_unlocked_layers: int = 0
    still_norms: bool = False  # batch norms use and keep the statistics that they have
    layer_decay: float = 1.0  # learning rate of a layer over that of the next one
    lora: int = 0  # rank of the updates that are trained in place of the weights; 0: the weights
    lora_alpha: float = 16.0  # the factor of the updates is alpha / rank

    # Teachers for distillation, as in `diptych.load`; of several, the mean of their logits
    teachers: tuple[str, ...] = ()
    distil_similarity: float = 1.0  # weight of the loss on their similarities
    distil_features: float = 0.0  # weight of the loss on their features; one teacher of the model's width

    # Reproducibility and hardware
    seed: int = 0
    device: str = "auto"
    # auto: bfloat16 if the device supports it, else float32
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    parallel: Literal["ddp", "fsdp"] = "ddp"  # each process holds the model, or a shard of it
    exchange: Literal["gathered", "ring"] = (
        "gathered"  # of features in the loss, see losses/feature_exchange.py
    )
    use_bn_sync: bool = False  # batch norms normalise over the images of all processes; GPUs only
    lanes: int = 0  # of the data, see data/batch.py; 0: the number of processes at the start
    threads: int = 0  # of torch; 0: its default
    # Views of each picture for which the locked part of the image tower runs once, before the first step: 1
    # is the centre crop, more are augmented ones. 0: it runs in every step. See data/feature_cache.py.
    cache_features: int = 0
    # Fraction of the numbers before the image tower's projection that are set to 0 in training. Needs
    # cache_features, where the projection alone would soon know every picture by heart.
    feature_dropout: float = 0.0
    features_folder: str = ""  # of the files with these features; "": in the user's cache
    workers: int = 2  # threads that decode
    cache: Literal["auto", "yes", "no"] = "auto"  # keep decoded images in memory
    share_text: bool = True  # compute common prefixes of texts once
    grad_checkpointing: bool = False
    compile: bool = False

    # Evaluation, checkpoints and logs
    evaluate_every: int = 1  # epochs
    checkpoint_every: int = 200  # steps
    # Epochs between numbered checkpoints: OUT/epoch-3, with the model of that epoch; 0: none.
    save_frequency: int = 0
    keep_checkpoints: int = 0  # numbered checkpoints that stay: the newest, and the best as well; 0: all
    log_every: int = 10  # steps
    monitor: str = ""  # metric whose best model is saved, e.g. "val/recall@10"; "": the last model
    patience: int = 0  # evaluations without an improvement before the run stops; 0: never

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "evaluate_every", "checkpoint_every", "log_every", "workers"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: expected 1 or more")
        check_choices(self)
        for name in ("lr", "eps", "max_scale", "lr_cooldown_power"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}: expected a number above 0")
        for name in (
            *("pairs_per_epoch", "warmup", "clip", "weight_decay", "patience", "max_minutes", "threads"),
            *("lanes", "epochs_cooldown", "lock_image_unlocked_groups", "lock_text_unlocked_layers"),
            *("save_frequency", "keep_checkpoints", "cache_features"),
        ):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}: expected 0 or more")
        if self.chunk < -1:
            raise InputError(f"chunk is {self.chunk}: expected pairs, 0 (the whole batch) or -1 (what fits)")
        if not 0 <= self.ema < 1:
            raise InputError(f"ema is {self.ema}: expected 0 (none) or a decay below 1, such as 0.999")
        if self.patience and not self.monitor:
            raise InputError("patience needs monitor: the metric that has to improve")
        self._check_cooldown()
        self._check_tuning()
        self._check_negatives()
        self._check_sizes()
        self._check_features()

    def _check_cooldown(self) -> None:
        if not 0 <= self.lr_cooldown_end <= self.lr:
            raise InputError(
                f"lr_cooldown_end is {self.lr_cooldown_end}: expected a rate from 0 to lr={self.lr}"
            )
        if self.epochs_cooldown > self.epochs:
            raise InputError(
                f"epochs_cooldown is {self.epochs_cooldown}: expected at most the {self.epochs} epochs "
                "of the run"
            )
        if self.epochs_cooldown and self.schedule != "constant":
            raise InputError(f"epochs_cooldown needs schedule=constant, got schedule={self.schedule}")

    def _check_tuning(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"layer_decay is {self.layer_decay}: expected a factor above 0, up to 1")
        if self.lora and not self.start:
            raise InputError("lora needs weights to start from: name them, such as start='default'")
        if self.lora and self.parallel == "fsdp":
            raise InputError("lora needs parallel='ddp': its parameters are few enough for each process")
        unlocked = {"image": self.lock_image_unlocked_groups, "text": self.lock_text_unlocked_layers}
        for tower, count in unlocked.items():
            if count and self.lock not in (tower, "both"):
                raise InputError(
                    f"groups of the {tower} tower are unlocked, but it is not locked: set lock={tower}"
                )
        if self.lock == "both" and not any(unlocked.values()):
            raise InputError(
                "lock=both leaves nothing to train: unlock the last groups of a tower, "
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
        if (self.text_pairs or self.label_tree or self.caption_words) and self.objective != "contrastive":
            raise InputError("text_pairs, label_tree and caption_words need objective=contrastive")
        if self.text_pairs and self.lock in ("text", "both") and not self.lock_text_unlocked_layers:
            raise InputError("text_pairs train the text tower, which is locked: set lock=image")
        if self.negatives_from == "same_kind" and (
            self.objective != "contrastive" or self.same_caption != "ignore"
        ):
            raise InputError(
                "negatives_from=same_kind needs objective=contrastive and same_caption=ignore: leave one out"
            )
        if self.label_tree and self.parallel == "fsdp":
            raise InputError("label_tree needs parallel=ddp: its teacher is not sharded")
        if self.negatives and (self.objective != "contrastive" or self.augment.drop_words):
            raise InputError(
                "negatives need objective=contrastive and whole captions: leave out objective and "
                "augment.drop_words"
            )

    def _check_sizes(self) -> None:
        vision = self.architecture.vision
        any_side = isinstance(vision, EfficientNetConfig) or (
            isinstance(vision, ResNetConfig) and vision.pool == "average"
        )
        if self.image_sizes and not any_side:
            raise InputError(
                "image_sizes needs a tower that accepts pictures of any side: a ResNet with pool='average' "
                "or an EfficientNet"
            )
        if any(side < 32 for _, side in self.image_sizes):
            raise InputError(f"the sides of image_sizes must be 32 pixels or more, got {self.image_sizes}")
        if self.image_sizes and abs(sum(fraction for fraction, _ in self.image_sizes) - 1) > 1e-6:
            raise InputError(f"the shares of image_sizes must sum to 1, got {self.image_sizes}")

    def _check_features(self) -> None:
        if not 0 <= self.feature_dropout < 1:
            raise InputError(f"feature_dropout is {self.feature_dropout}: expected a fraction below 1")
        if self.start and self.start_image:
            raise InputError("start and start_image are two starts: leave one out")
        if not self.cache_features:
            if self.feature_dropout:
                raise InputError("feature_dropout needs cache_features: set both, or neither")
            return
        if self.lock not in ("image", "both"):
            raise InputError("cache_features needs a locked image tower: set lock=image")
        refused = {
            "objective": self.objective != "contrastive",
            "image_sizes": bool(self.image_sizes),
            "teachers": bool(self.teachers),
            "chunk=-1": self.chunk < 0,
            "pairs_per_epoch": bool(self.pairs_per_epoch),
            "parallel=fsdp": self.parallel == "fsdp",
            "lora": bool(self.lora),
            "streams (TarStream)": any(isinstance(part, TarStream) for part, _ in self.data.parts),
        }
        if names := [name for name, is_set in refused.items() if is_set]:
            raise InputError(f"cache_features cannot be combined with {', '.join(names)}: leave one out")

    @property
    def architecture(self) -> CLIPConfig:
        """The architecture of the model, also if it is given by name."""
        return resolve_architecture(self.model) if isinstance(self.model, str) else self.model

    @property
    def spec(self) -> ModelSpec:
        """The metadata of the weights of this run."""
        shape = self.architecture
        text = shape.text
        tokenizer = self.tokenizer
        if tokenizer is None and text.vocab_size <= CLIP_VOCAB_SIZE:
            tokenizer = TokenizerConfig(vocab_size=text.vocab_size, pad_id=text.pad_id)
        tokenizer = tokenizer or tokenizer_for(shape)
        preprocess = self.preprocess or (BACKBONE_PREPROCESS if self.start_image else PreprocessConfig())
        return ModelSpec(
            name=self.name,
            architecture=shape,
            preprocess=replace(preprocess, size=shape.vision.image_size),
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
                "or start from weights that include it (--from, inputs_of)"
            )
        return load_tokenizer(config, Path(self.tokenizer_file).parent if self.tokenizer_file else None)

    def side(self, epoch: int) -> int:
        """Image side in an epoch, pixels."""
        # e.g. ((0.75, 32), (0.25, 64)) and 8 epochs: 32 in epochs 0 to 5, 64 in epochs 6 and 7.
        done = 0.0
        for fraction, side in self.image_sizes:
            done += fraction
            if epoch < done * self.epochs - 1e-6:
                return side
        return self.architecture.vision.image_size

    @property
    def largest_side(self) -> int:
        """Largest image side of all epochs, pixels."""
        return max((side for _, side in self.image_sizes), default=self.architecture.vision.image_size)

    def override(self, assignments: Sequence[str]) -> TrainConfig:
        """A copy with fields changed by `key=value` texts; `augment.flip=0.5` sets a nested field.

        Raises
        ------
        InputError
            There is no such field (similar ones are listed), or the value has another type.
        """
        if isinstance(self.model, str) and any(text.strip().startswith("model.") for text in assignments):
            return replace(self, model=self.architecture).override(assignments)
        changed: TrainConfig = override(self, assignments)
        return changed


@dataclass(frozen=True)
class Run:
    """The return value of a recipe: a config, and evaluators by name."""

    config: TrainConfig
    evaluators: Mapping[str, Evaluator] = field(default_factory=dict)
