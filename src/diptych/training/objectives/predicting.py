"""Baseline objectives of the paper: predict captions, their words, or a class label.

(Paper, section 2.3 and figure 2: a transformer that predicts captions learned three times slower than a bag
of words, and that four times slower than contrast. VirTex, arXiv 2006.06666; Joulin et al. 2016, arXiv
1511.02251; Visual N-Grams, Li et al. 2017, arXiv 1612.09161.) Each trains the same image tower with a head of
its own and gives one loss per pair, so it works with the chunks and processes of `loop/gradients.py`. `score`
is the log-likelihood of a text given an image: the zero-shot use of such a model.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.errors import TrainingError
from diptych.model.clip import CLIP
from diptych.model.cost import Cost, cost
from diptych.model.sharding import shard_like
from diptych.model.text.decoder import CaptionDecoder
from diptych.training.config import TrainConfig
from diptych.training.losses.feature_exchange import Exchange, global_mean
from diptych.training.objectives.objective import Objective, PairFeatures

BUCKETS = 16_384  # n-grams are hashed into so many entries, in place of a dictionary


class Predicting(Objective):
    """Base of the objectives whose loss is the negative log-likelihood of a pair's text given its image."""

    def forward(
        self, images: Tensor | None, tokens: Tensor | None, samples: Tensor | None = None
    ) -> PairFeatures:
        """The loss of each pair, (B,)."""
        assert images is not None
        assert tokens is not None
        return (-self.log_likelihood(self.image_context(images), tokens.to(images.device)),)

    def loss(self, features: Sequence[Tensor], groups: Tensor | None, exchange: Exchange) -> Tensor:
        """The mean over all pairs."""
        return global_mean(features[0], exchange)

    def trainable_towers(self) -> tuple[bool, bool]:
        """Both: every pair's loss needs its image and its text."""
        return True, True

    def loss_parameters(self) -> Sequence[nn.Parameter]:
        """None: the scale and the bias of the logits are not used."""
        return []

    @property
    def product(self) -> nn.Module:
        """The tower with its head."""
        return self

    @abstractmethod
    def image_context(self, images: Tensor) -> Tensor:
        """What the head needs of images, computed once per image: (B, ...)."""

    @abstractmethod
    def log_likelihood(self, context: Tensor, tokens: Tensor) -> Tensor:
        """Log-likelihood of each text given its image, (B,)."""

    @torch.no_grad()
    def score(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Log-likelihood of each of K texts given each of N images, (N, K): the head runs once per text."""
        context = self.image_context(images)
        columns = [
            self.log_likelihood(context, text.expand(len(context), -1)) for text in tokens.to(images.device)
        ]
        return torch.stack(columns, dim=1)


class CaptionPrediction(Predicting):
    """Predict the tokens of a caption in their order, by a transformer decoder."""

    def __init__(self, model: CLIP, seed: int = 0) -> None:
        super().__init__()
        self.model = model
        config = model.config
        meta = next(model.parameters()).is_meta
        width = width_of(model)
        self.decoder = CaptionDecoder(config.text, width, config.activation, None if meta else seed)
        _lock_unused(model, for_patch_tokens=True)

    def initialise(self, seed: int) -> None:
        """Set the decoder from a seed."""
        self.decoder.initialise(seed)

    def image_context(self, images: Tensor) -> Tensor:
        """Patch tokens, (B, P, C)."""
        return self.model.visual.patch_tokens(images)

    def log_likelihood(self, context: Tensor, tokens: Tensor) -> Tensor:
        """By the decoder, (B,)."""
        result: Tensor = self.decoder(context, tokens)
        return result


class BagPrediction(Predicting):
    """Predict the bag of words or n-grams of a caption.

    Parameters
    ----------
    longest : int
        Of the n-grams: 1 predicts tokens, 3 tokens, bigrams and trigrams.
    """

    def __init__(self, model: CLIP, longest: int = 1, seed: int = 0) -> None:
        super().__init__()
        self.model, self.longest = model, longest
        self.vocabulary = model.config.text.vocab_size
        self.head = nn.Linear(width_of(model), self.vocabulary if longest == 1 else BUCKETS)
        if not self.head.weight.is_meta:
            self.initialise(seed)
        _lock_unused(model)

    def initialise(self, seed: int) -> None:
        """Set the head from a seed."""
        _initialise_head(self.head, seed)

    def image_context(self, images: Tensor) -> Tensor:
        """Log-probability of each n-gram or bucket, (B, K)."""
        return F.log_softmax(self.head(self.model.visual.features(images)).float(), dim=1)

    def log_likelihood(self, context: Tensor, tokens: Tensor) -> Tensor:
        """Mean log-probability of the text's n-grams, (B,); start, end and padding do not count."""
        start = self.vocabulary - 2  # the start token and the end token are the last two
        position = torch.arange(tokens.shape[1], device=tokens.device)
        # The end token has the highest id of all, so argmax is its position; padding follows it.
        inside = (tokens < start) & (position < tokens.argmax(1, keepdim=True))  # (B, L)
        total, count = torch.zeros_like(context[:, 0]), torch.zeros_like(context[:, 0])
        ngram, complete = torch.zeros_like(tokens), torch.ones_like(inside)
        for length in range(1, self.longest + 1):
            # At each position the n-gram of `length` tokens that ends there, hashed: a polynomial of its
            # tokens, extended from the n-gram one token shorter that ends at the position before.
            # e.g. tokens [start, a, b, c, end]: length 2 gives the hashes of (a, b) and (b, c).
            before = F.pad(ngram, (1, 0))[:, :-1]
            ngram = tokens if length == 1 else (before * 1_000_003 + tokens + length) % 2_147_483_647
            complete = inside if length == 1 else F.pad(complete, (1, 0))[:, :-1] & inside
            entries = ngram if self.longest == 1 else ngram % BUCKETS
            total = total + (context.gather(1, entries) * complete).sum(1)
            count = count + complete.sum(1)
        return total / count.clamp(min=1)


class Classification(Objective):
    """Supervised classification of images, with which the paper compares its towers.

    Parameters
    ----------
    classes : Tensor, shape (K,), int64
        Group numbers of the classes, sorted (see `Batch.groups`).
    """

    def __init__(self, model: CLIP, classes: Tensor, seed: int = 0) -> None:
        super().__init__()
        if len(classes) < 2:
            raise TrainingError(f"{len(classes)} classes in classes=(...): expected two or more")
        self.model = model
        self.register_buffer("classes", classes)
        # In a tuple: it stays on its device when the module moves, and is not saved.
        self._numbers = (classes,)
        self.head = nn.Linear(width_of(model), len(classes))
        if not self.head.weight.is_meta:
            self.initialise(seed)
        _lock_unused(model)

    def initialise(self, seed: int) -> None:
        """Set the head from a seed, and the buffer of class numbers."""
        self.classes.copy_(self._numbers[0])  # type: ignore[operator]
        _initialise_head(self.head, seed)

    def forward(
        self, images: Tensor | None, tokens: Tensor | None, samples: Tensor | None = None
    ) -> PairFeatures:
        """Image features before the projection, (B, W)."""
        assert images is not None
        return (self.model.visual.features(images),)

    def loss(self, features: Sequence[Tensor], groups: Tensor | None, exchange: Exchange) -> Tensor:
        """Cross-entropy of the class that the group of a pair names."""
        classes: Tensor = self.classes  # type: ignore[assignment]
        assert groups is not None
        target = torch.searchsorted(classes, groups).clamp(max=len(classes) - 1)
        if not torch.equal(classes[target], groups):
            raise TrainingError(
                "a picture's label is not among the classes: list every label of the data in classes=(...)"
            )
        # The loss is outside autocast, and the features may be of half precision.
        logits: Tensor = self.head(features[0].float())
        return global_mean(F.cross_entropy(logits, target, reduction="none"), exchange)

    def trainable_towers(self) -> tuple[bool, bool]:
        """The image tower only."""
        return True, False

    def loss_parameters(self) -> Sequence[nn.Parameter]:
        """The head."""
        return list(self.head.parameters())

    @property
    def needs_groups(self) -> bool:
        """The label is the group."""
        return True

    @property
    def product(self) -> nn.Module:
        """The tower with its head."""
        return self

    @torch.no_grad()
    def score(self, images: Tensor) -> Tensor:
        """Logits of the classes in their order, (N, K)."""
        logits: Tensor = self.head(self.model.visual.features(images))
        return logits


def _initialise_head(head: nn.Linear, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        # The whole matrix is drawn on every process and then sharded: the values do not depend on the shards.
        values = torch.randn(head.weight.shape, generator=generator) * 0.02
        head.weight.copy_(shard_like(values, head.weight))
        head.bias.zero_()


def width_of(model: CLIP) -> int:
    """Width of image features before the projection."""
    return model.visual.feature_width


def cost_of(config: TrainConfig, tokens: int, side: int = 0) -> Cost:
    """Operations for a pair with `tokens` tokens and an image of `side` pixels, by the run's objective."""
    shape, objective = config.architecture, config.objective
    if objective == "contrastive":
        return cost(shape, tokens, side)
    if objective == "captions":
        return cost(shape, tokens, side, "decoder")
    entries = {"words": shape.text.vocab_size, "ngrams": BUCKETS, "classes": len(config.classes)}[objective]
    return cost(shape, tokens, side, "head", entries)


def _lock_unused(model: CLIP, *, for_patch_tokens: bool = False) -> None:
    """Lock everything that the head does not read: the text tower, and the end of the image tower."""
    unused = {id(p) for p in model.visual.unused_parameters(for_patch_tokens=for_patch_tokens)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("visual.") and id(parameter) not in unused)
