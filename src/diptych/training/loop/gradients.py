"""Gradients of a batch of any size: towers in chunks, one loss on all pairs (gradient caching).

A contrastive loss cannot be summed over parts of a batch: every pair is a negative of every other. But the
loss depends on a pair only through its features, and features depend only on their own chunk. So (Gao et al.
2021, arXiv 2101.06983, "GradCache"):

1. encode chunk by chunk and keep the features, not the graph: N x E numbers instead of all activations;
2. compute the loss on all features, and its gradient in every feature (`diptych.training.losses`), once;
3. encode each chunk again, with its graph, and backpropagate the gradients of its features.

That is a third more work (two forward passes and a backward pass of twice the cost: 4 units instead of 3) and
the activation memory of one chunk. e.g. 4,096 pairs in chunks of 256: features of width 512 in float32 take
2 x 8 MiB for the whole batch, and activations are held for 256 pairs at a time. By the chain rule the result
is the gradient of the loss on the whole batch, if step 3 computes the features of step 1. Two things could
make them differ:

* random numbers. Dropout and patch dropout use torch's generators, which are seeded before each chunk from
  the run's seed, the step and the number of the chunk among all processes. Crops and colours depend on the
  visit (`diptych.training.data`), not on a generator;
* running statistics of batch norms. They are updated in step 3 only, so once for each chunk. A batch norm
  normalises with the statistics of its chunk, as it does with those of one process's pairs in any
  distributed training: with batch norms the chunk size is part of the model, and gradients are equal only
  for equal chunks.

DDP all-reduces once, with the last chunk; FSDP2 reduce-scatters with each, so that no process holds a whole
gradient. A batch of one chunk is encoded once, and its graph kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from diptych.model.batch_norm import frozen_statistics
from diptych.training.losses.feature_exchange import Exchange, NoExchange
from diptych.training.objectives.objective import Objective, PairFeatures

# Images (B, 3, S, S), tokens (B, L) and possibly samples (B, 3): the arguments of `Objective.forward`.
Chunk = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor | None]


def cached_gradients(
    objective: Objective,
    chunks: Sequence[Callable[[], Chunk]],
    groups: Tensor | None = None,
    *,
    seeds: Sequence[int],
    exchange: Exchange | None = None,
    forward: Callable[..., PairFeatures] | None = None,
    backward: Callable[[bool], AbstractContextManager[object]] | None = None,
    precision: Callable[[], AbstractContextManager[object]] = nullcontext,
    factor: float | Tensor = 1.0,
) -> Tensor:
    """Add the gradient of the loss on all chunks to every parameter's `grad`.

    Parameters
    ----------
    objective : Objective
        What is trained.
    chunks : sequence of callables
        Each returns its images, tokens and samples; with more than one chunk, each is called several times.
    groups : LongTensor, optional
        Of all pairs of this process, for the loss.
    seeds : sequence of int
        One for each chunk.
    exchange : Exchange, optional
        With the other processes. Each must have the same number of pairs.
    forward : callable, optional
        `objective` wrapped for several processes.
    backward : callable, optional
        Makes the context of a chunk's forward and backward pass; its argument says whether it is the last
        chunk, after which gradients are reduced over processes.
    precision : callable
        Makes the context (an autocast) of each pass through the towers.
    factor : float or Tensor
        On all gradients; a tensor on the device, so that the host does not wait for it.

    Returns
    -------
    Tensor, shape ()
        The loss, without factor and without graph.

    Examples
    --------
    >>> from diptych.model.presets.table import preset
    >>> from diptych.model.initialise import build
    >>> from diptych.training.objectives.objective import Contrastive
    >>> model = build(preset("diptych-tiny"), seed=0)
    >>> pairs = torch.randn(4, 3, 32, 32), torch.tensor([[8190, n, 8191] for n in range(4)])
    >>> chunks = [lambda n=n: (pairs[0][n : n + 2], pairs[1][n : n + 2]) for n in (0, 2)]
    >>> loss = cached_gradients(Contrastive(model), chunks, seeds=[0, 1])
    >>> model.visual.conv1.weight.grad.abs().sum() > 0
    tensor(True)
    """
    exchange, forward, backward = exchange or NoExchange(), forward or objective, backward or _no_context
    trainable, single = objective.trainable_towers(), len(chunks) == 1

    def encode(number: int, towers: tuple[bool, bool]) -> PairFeatures:
        """Features of a chunk from the image tower, the text tower or both; with a graph if grad is on."""
        torch.manual_seed(seeds[number])
        images, tokens, *samples = chunks[number]()
        # A new autocast for each pass: it caches the cast weights together with their graph, so one that
        # spanned steps 1 and 3 would give step 3 weights without a graph.
        with precision():
            return forward(images if towers[0] else None, tokens if towers[1] else None, *samples)

    def frozen_features(number: int) -> list[Tensor]:
        with torch.no_grad(), precision():
            return list(objective.frozen_features(*chunks[number]()))

    # Step 1: the features of every chunk, a list of one tensor per kind (image, text, ...) for each chunk.
    graph: list[PairFeatures] = []
    if single:
        with backward(True):
            graph = [encode(0, (True, True))]
        features = [_not_none(graph[0])]
    else:
        with torch.no_grad(), frozen_statistics(objective):
            features = [_not_none(encode(number, (True, True))) for number in range(len(chunks))]
    # Step 2: one leaf per kind with the features of all chunks, (N, ...), whose `grad` the loss fills.
    leaves = [torch.cat(parts).detach().requires_grad_() for parts in zip(*features, strict=True)]
    frozen = [torch.cat(parts) for parts in zip(*map(frozen_features, range(len(chunks))), strict=True)]
    loss = objective.loss([*leaves, *frozen], groups, exchange)
    (loss * factor).backward()  # type: ignore[no-untyped-call]

    # Step 3: each chunk again, from the slice start:stop of the leaves' gradients.
    # e.g. chunks of 4, 4 and 2 pairs: slices 0:4, 4:8, 8:10.
    start = 0
    for number, chunk_features in enumerate(features):
        stop = start + len(chunk_features[0])
        with backward(number + 1 == len(features)):
            with_graph = graph[0] if single else encode(number, trainable)
            _backpropagate(
                with_graph, [None if leaf.grad is None else leaf.grad[start:stop] for leaf in leaves]
            )
        start = stop
    return loss.detach()


def _not_none(features: PairFeatures) -> list[Tensor]:
    return [tensor for tensor in features if tensor is not None]


def _backpropagate(features: PairFeatures, gradients: Sequence[Tensor | None]) -> None:
    """Backpropagate gradients of features through those that have a graph: a locked tower's have none."""
    roots = [
        (tensor, gradient.to(tensor.dtype))
        for tensor, gradient in zip(features, gradients, strict=True)
        if tensor is not None and gradient is not None and tensor.requires_grad
    ]
    if roots:
        # In one call: towers that share parameters are passed once.
        torch.autograd.backward([tensor for tensor, _ in roots], [gradient for _, gradient in roots])


@contextmanager
def _no_context(last: bool) -> Iterator[None]:
    yield


def chunk_seed(seed: int, step: int, chunk: int) -> int:
    """The seed of one chunk of one step; a hash, so that neighbouring steps get unrelated random numbers.

    Examples
    --------
    >>> chunk_seed(0, 1, 0) == chunk_seed(0, 0, 1)
    False
    """
    digest = hashlib.blake2b(f"{seed}/{step}/{chunk}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1  # 63 bits: CUDA's generator takes a signed number
