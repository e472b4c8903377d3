"""How much memory a chunk of pairs takes, and so how large a chunk can be.

What a pass through the towers needs is above all what autograd keeps of it for the way back. That is
counted, not guessed: the towers encode a few pairs of the run's own data, on its device and in its precision,
and every tensor that is kept is counted once. It grows by the pair, so two sizes give the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.errors import TrainingError

SIZES = (4, 12)  # pairs that are encoded to count
MARGIN = 1.5  # besides what is kept: gradients on their way back, and what one operation needs for itself


@dataclass(frozen=True)
class Footprint:
    """Of a pass with its graph, bytes.

    Attributes
    ----------
    pair : float
        For each pair.
    fixed : float
        Whatever the number of pairs, such as copies of weights in half precision.
    """

    pair: float
    fixed: float

    def bytes(self, pairs: int) -> float:
        """Of a chunk of pairs, on its way there and back."""
        return MARGIN * (self.pair * pairs + self.fixed)

    def with_part(self, other: Footprint, part: float) -> Footprint:
        """With a part of another one on top."""
        return Footprint(self.pair + part * other.pair, self.fixed + part * other.fixed)

    def largest(self, free: float, most: int, each: int) -> int:
        """Pairs of a chunk that fits, in as few and equal chunks as can be.

        Parameters
        ----------
        free : float
            Bytes that may be used.
        most : int
            Pairs there are.
        each : int
            Bytes that every pair takes, in this chunk or not: its rows and their gradients.

        Raises
        ------
        TrainingError
            Not even one pair fits.

        Examples
        --------
        >>> Footprint(pair=1e6, fixed=0).largest(free=32e6, most=50, each=0)  # 21 fit, so three chunks of 17
        17
        """
        fits = int(((free - each * most) / MARGIN - self.fixed) // self.pair)
        if fits < 1:
            raise TrainingError(
                f"not even a chunk of one pair fits into memory: {free / 2**30:.1f} GiB are free, "
                f"a pair takes {self.bytes(1) / 2**30:.2f}. Take a smaller model or batch, bfloat16, or "
                "--set grad_checkpointing=true"
            )
        chunks = -(-most // min(fits, most))
        return -(-most // chunks)


def footprint(encode: Callable[[int], object], parameters: list[Tensor]) -> Footprint:
    """Count what autograd keeps.

    Parameters
    ----------
    encode : callable
        Encodes so many pairs with their graph.
    parameters : list of Tensor
        Not counted: they are there anyway.
    """
    few, more = (kept_bytes(lambda count=count: encode(count), parameters) for count in SIZES)  # type: ignore[misc]
    pair = max(1.0, (more - few) / (SIZES[1] - SIZES[0]))
    return Footprint(pair, max(0.0, few - SIZES[0] * pair))


def kept_bytes(work: Callable[[], object], parameters: list[Tensor]) -> int:
    """Bytes of all tensors that autograd keeps of some work, each storage once.

    Examples
    --------
    >>> x = torch.ones(1000, requires_grad=True)
    >>> kept_bytes(lambda: (x.exp() + 1).exp(), [x])  # both exponentials, in float32
    8000
    """
    known = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept: dict[int, Tensor] = {}  # held, or a freed address could be met again

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = tensor
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = work()
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del result
    return total
