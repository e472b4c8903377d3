"""Gradients of a batch of any size: towers in chunks, one loss on all pairs (gradient caching).

A contrastive loss cannot be added up over parts of a batch: every pair is every other's negative. But the
loss sees of a pair its rows alone, and a row depends on its own chunk alone. So (Gao et al. 2021, arXiv
2101.06983, "GradCache"):

1. encode chunk by chunk and keep the rows, not the graph: N x E numbers instead of all activations;
2. compute the loss on all rows, and its gradient in every row (`diptych.training.losses`), once;
3. encode each chunk again, with its graph, and send its rows' gradients back through it.

That is a third more work and the memory of a chunk. By the chain rule it is the gradient of the loss on the
whole batch, provided that step 3 sees what step 1 saw. Two things could differ, and do not:

* chance. Dropout and patch dropout draw from torch's generators, which are seeded before each chunk by the
  run's seed, the step and the chunk's number among all processes. Crops and colours hang on the visit
  (`diptych.training.data`), not on a generator;
* running statistics of batch norms. They are updated in step 3 alone, so once for each chunk. A batch norm
  normalises with the statistics of its chunk, as it does with those of one process's share in any
  distributed training: with batch norm the size of a chunk is part of the model, and only with the same
  chunks are gradients equal.

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
from diptych.training.losses.exchange import Alone, Exchange
from diptych.training.objectives.objective import Objective, Rows

Chunk = tuple[Tensor, Tensor]  # pictures (B, 3, S, S) and tokens (B, L)


def cached_gradients(
    objective: Objective,
    chunks: Sequence[Callable[[], Chunk]],
    groups: Tensor | None = None,
    *,
    seeds: Sequence[int],
    exchange: Exchange | None = None,
    forward: Callable[[Tensor | None, Tensor | None], Rows] | None = None,
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
        Each gives its pictures and tokens; called several times where there is more than one.
    groups : LongTensor, optional
        Of all pairs of this process, for the loss.
    seeds : sequence of int
        One for each chunk.
    exchange : Exchange, optional
        With the other processes. Each must have the same number of pairs.
    forward : callable, optional
        `objective` as a wrapper for many processes makes it.
    backward : callable, optional
        Makes the context in which a chunk is encoded with its graph and sent back; told whether it is the
        last: the moment to talk to other processes.
    precision : callable
        Makes the context (an autocast) of each pass through the towers.
    factor : float or Tensor
        On all gradients; a tensor on the device need not be waited for.

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
    exchange, forward, backward = exchange or Alone(), forward or objective, backward or _plain
    learns, whole = objective.trainable_towers(), len(chunks) == 1

    def encode(number: int, wanted: tuple[bool, bool]) -> Rows:
        """With the gradient's graph, if gradients are on."""
        torch.manual_seed(seeds[number])
        pictures, tokens = chunks[number]()
        # An autocast of its own for each pass: it remembers weights it cast, graph and all.
        with precision():
            return forward(pictures if wanted[0] else None, tokens if wanted[1] else None)

    def frozen_features(number: int) -> list[Tensor]:
        with torch.no_grad(), precision():
            return list(objective.frozen_features(*chunks[number]()))

    graph: list[Rows] = []
    if whole:
        with backward(True):
            graph = [encode(0, (True, True))]
        rows = [_present(graph[0])]
    else:
        with torch.no_grad(), frozen_statistics(objective):
            rows = [_present(encode(number, (True, True))) for number in range(len(chunks))]
    leaves = [torch.cat(part).detach().requires_grad_() for part in zip(*rows, strict=True)]
    fixed = [torch.cat(part) for part in zip(*map(frozen_features, range(len(chunks))), strict=True)]
    loss = objective.loss([*leaves, *fixed], groups, exchange)
    (loss * factor).backward()  # type: ignore[no-untyped-call]

    start = 0
    for number, part in enumerate(rows):
        stop = start + len(part[0])
        with backward(number + 1 == len(rows)):
            found = graph[0] if whole else encode(number, learns)
            _send_back(found, [leaf.grad[start:stop] for leaf in leaves if leaf.grad is not None])
        start = stop
    return loss.detach()


def _present(rows: Rows) -> list[Tensor]:
    return [row for row in rows if row is not None]


def _send_back(rows: Sequence[Tensor | None], gradients: Sequence[Tensor]) -> None:
    """Through the graphs of those rows that have one: a locked tower's have none."""
    ends = [
        (row, gradient.to(row.dtype))
        for row, gradient in zip(rows, gradients, strict=True)
        if row is not None and row.requires_grad
    ]
    if ends:
        torch.autograd.backward([row for row, _ in ends], [gradient for _, gradient in ends])


@contextmanager
def _plain(last: bool) -> Iterator[None]:
    yield


def chunk_seed(seed: int, step: int, chunk: int) -> int:
    """The seed of one chunk of one step: nearby numbers give unrelated ones.

    Examples
    --------
    >>> chunk_seed(0, 1, 0) == chunk_seed(0, 0, 1)
    False
    """
    digest = hashlib.blake2b(f"{seed}/{step}/{chunk}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1  # CUDA's generator wants a signed number
