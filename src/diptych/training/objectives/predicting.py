"""What contrastive pretraining was compared with: predicting captions, their words, or a label.

(Paper, section 2.3 and figure 2: a transformer that predicts captions learned three times slower than a bag
of words, and that four times slower than contrast. VirTex, arXiv 2006.06666; Joulin et al. 2016, arXiv
1511.02251; Visual N-Grams, Li et al. 2017, arXiv 1612.09161.) Each trains the same picture tower with a head
of its own and gives one number a pair, so chunks and processes are those of `gradients.py`. How likely a text
is for a picture, `score` says: that is what such a model does zero-shot.
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
from diptych.training.losses.exchange import Exchange, mean_of
from diptych.training.objectives.objective import Objective, Rows

BUCKETS = 16_384  # of n-grams: what a dictionary would hold, without a dictionary


class Predicting(Objective):
    """One number a pair: minus how likely the picture makes the text."""

    def forward(self, images: Tensor | None, tokens: Tensor | None) -> Rows:
        """What is lost on each pair, (B,)."""
        assert images is not None
        assert tokens is not None
        return (-self.likelihood(self.seen(images), tokens.to(images.device)),)

    def loss(self, rows: Sequence[Tensor], groups: Tensor | None, exchange: Exchange) -> Tensor:
        """The mean over all pairs."""
        return mean_of(rows[0], exchange)

    def trainable_towers(self) -> tuple[bool, bool]:
        """Both are needed for every row."""
        return True, True

    def loss_parameters(self) -> Sequence[nn.Parameter]:
        """None: the scale and the bias of the logits are not used."""
        return []

    @property
    def product(self) -> nn.Module:
        """The tower with its head."""
        return self

    @abstractmethod
    def seen(self, images: Tensor) -> Tensor:
        """What the head gets of pictures, (B, ...)."""

    @abstractmethod
    def likelihood(self, seen: Tensor, tokens: Tensor) -> Tensor:
        """The logarithm of how likely each text is for its picture, (B,)."""

    @torch.no_grad()
    def score(self, images: Tensor, tokens: Tensor) -> Tensor:
        """How likely each of K texts is for each of N pictures, (N, K): the head asked once a pair."""
        seen = self.seen(images)
        columns = [self.likelihood(seen, text.expand(len(seen), -1)) for text in tokens.to(images.device)]
        return torch.stack(columns, dim=1)


class CaptionPrediction(Predicting):
    """The words of a caption in their order, by a transformer."""

    def __init__(self, model: CLIP, seed: int = 0) -> None:
        super().__init__()
        self.model = model
        config = model.config
        meta = next(model.parameters()).is_meta
        width = width_of(model)
        self.decoder = CaptionDecoder(config.text, width, config.activation, None if meta else seed)
        _leave_out(model, for_patch_tokens=True)

    def initialise(self, seed: int) -> None:
        """Set the decoder from a seed."""
        self.decoder.initialise(seed)

    def seen(self, images: Tensor) -> Tensor:
        """The picture's cells, (B, P, C)."""
        return self.model.visual.patch_tokens(images)

    def likelihood(self, seen: Tensor, tokens: Tensor) -> Tensor:
        """By the decoder."""
        found: Tensor = self.decoder(seen, tokens)
        return found


class BagPrediction(Predicting):
    """Which words or runs of words a caption has, whatever their order.

    Parameters
    ----------
    model : CLIP
    longest : int
        1 predicts words (tokens), 3 words and runs of two and three.
    seed : int
    """

    def __init__(self, model: CLIP, longest: int = 1, seed: int = 0) -> None:
        super().__init__()
        self.model, self.longest = model, longest
        self.vocabulary = model.config.text.vocab_size
        self.head = nn.Linear(width_of(model), self.vocabulary if longest == 1 else BUCKETS)
        if not self.head.weight.is_meta:
            self.initialise(seed)
        _leave_out(model)

    def initialise(self, seed: int) -> None:
        """Set the head from a seed."""
        _initialise_head(self.head, seed)

    def seen(self, images: Tensor) -> Tensor:
        """Logarithms of how likely each entry of the bag is, (B, K)."""
        return F.log_softmax(self.head(self.model.visual.features(images)).float(), dim=1)

    def likelihood(self, seen: Tensor, tokens: Tensor) -> Tensor:
        """The mean over what the text has; start, end and padding do not count."""
        start = self.vocabulary - 2  # the start token and the end token are the last two
        place = torch.arange(tokens.shape[1], device=tokens.device)
        inside = (tokens < start) & (place < tokens.argmax(1, keepdim=True))
        total, count = torch.zeros_like(seen[:, 0]), torch.zeros_like(seen[:, 0])
        run, whole = torch.zeros_like(tokens), torch.ones_like(inside)
        for length in range(1, self.longest + 1):
            # The run of `length` tokens that ends here, as a number: a polynomial of its tokens.
            before = F.pad(run, (1, 0))[:, :-1]
            run = tokens if length == 1 else (before * 1_000_003 + tokens + length) % 2_147_483_647
            whole = inside if length == 1 else F.pad(whole, (1, 0))[:, :-1] & inside
            entries = run if self.longest == 1 else run % BUCKETS
            total = total + (seen.gather(1, entries) * whole).sum(1)
            count = count + whole.sum(1)
        return total / count.clamp(min=1)


class Classification(Objective):
    """Which of some classes a picture shows (the supervised training the paper compares its towers with).

    Parameters
    ----------
    model : CLIP
    classes : Tensor, shape (K,), int64
        The groups' numbers of the classes, sorted (see `Batch.groups`).
    seed : int
    """

    def __init__(self, model: CLIP, classes: Tensor, seed: int = 0) -> None:
        super().__init__()
        if len(classes) < 2:
            raise TrainingError(
                f"{len(classes)} classes to tell apart: expected two or more, by classes=(...)"
            )
        self.model = model
        self.register_buffer("classes", classes)
        self._numbers = (classes,)  # in a tuple: it stays where it is when the module moves
        self.head = nn.Linear(width_of(model), len(classes))
        if not self.head.weight.is_meta:
            self.initialise(seed)
        _leave_out(model)

    def initialise(self, seed: int) -> None:
        """Set the head from a seed, and the classes' numbers."""
        self.classes.copy_(self._numbers[0])  # type: ignore[operator]
        _initialise_head(self.head, seed)

    def forward(self, images: Tensor | None, tokens: Tensor | None) -> Rows:
        """What is known of each picture before the head, (B, W)."""
        assert images is not None
        return (self.model.visual.features(images),)

    def loss(self, rows: Sequence[Tensor], groups: Tensor | None, exchange: Exchange) -> Tensor:
        """Cross-entropy of the right class."""
        known: Tensor = self.classes  # type: ignore[assignment]
        assert groups is not None
        right = torch.searchsorted(known, groups).clamp(max=len(known) - 1)
        if not torch.equal(known[right], groups):
            raise TrainingError("a picture's label is none of the classes: name all of the data's labels")
        # The loss stands outside autocast, and the rows may be of half precision.
        logits: Tensor = self.head(rows[0].float())
        return mean_of(F.cross_entropy(logits, right, reduction="none"), exchange)

    def trainable_towers(self) -> tuple[bool, bool]:
        """Pictures only."""
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
        found: Tensor = self.head(self.model.visual.features(images))
        return found


def _initialise_head(head: nn.Linear, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        values = torch.randn(head.weight.shape, generator=draw) * 0.02
        head.weight.copy_(shard_like(values, head.weight))
        head.bias.zero_()


def width_of(model: CLIP) -> int:
    """Width of a picture's features before the projection."""
    return model.visual.feature_width


def cost_of(config: TrainConfig, tokens: int, side: int = 0) -> Cost:
    """What a pair of a run costs by its objective: a text of so many tokens, a picture of that side."""
    shape, objective = config.architecture, config.objective
    if objective == "contrastive":
        return cost(shape, tokens, side)
    if objective == "captions":
        return cost(shape, tokens, side, "decoder")
    entries = {"words": shape.text.vocab_size, "ngrams": BUCKETS, "classes": len(config.classes)}[objective]
    return cost(shape, tokens, side, "head", entries)


def _leave_out(model: CLIP, *, for_patch_tokens: bool = False) -> None:
    """Let only that learn of the model which the head reads: there are no texts in the space of pictures."""
    unused = {id(p) for p in model.visual.unused_parameters(for_patch_tokens=for_patch_tokens)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("visual.") and id(parameter) not in unused)
