"""Memory of a chunk of pairs as a function of its size, and the largest chunk that fits.

Most of the memory of a pass through the towers is what autograd saves for the backward pass. It is counted:
the towers encode a few pairs of the run's data, on its device and in its precision, and every saved tensor is
counted once. It is linear in the number of pairs, so two sizes determine it.

e.g. 4 pairs save 50 MB and 12 pairs 130 MB: (130 - 50) / 8 = 10 MB per pair, and 50 - 4 x 10 = 10 MB fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.errors import TrainingError

SIZES = (4, 12)  # pairs that are encoded to measure
MARGIN = 1.5  # for what is not saved: gradients of activations, and workspaces of operations


@dataclass(frozen=True)
class Footprint:
    """Bytes of a pass with its graph.

    Attributes
    ----------
    pair : float
        Per pair.
    fixed : float
        Independent of the number of pairs, such as copies of weights in half precision.
    """

    pair: float
    fixed: float

    def bytes(self, pairs: int) -> float:
        """Bytes of the forward and backward pass of a chunk."""
        return MARGIN * (self.pair * pairs + self.fixed)

    def with_part(self, other: Footprint, part: float) -> Footprint:
        """Add a part of another footprint."""
        return Footprint(self.pair + part * other.pair, self.fixed + part * other.fixed)

    def largest(self, free: float, most: int, each: int) -> int:
        """Size of equal chunks, as few as fit into memory.

        Parameters
        ----------
        free : float
            Bytes that may be used.
        most : int
            Pairs of a step.
        each : int
            Bytes per pair of the step, in this chunk or not: its features and their gradients.

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
                f"a pair takes {self.bytes(1) / 2**30:.2f} GiB. Use a smaller model or batch, bfloat16, or "
                "--set grad_checkpointing=true"
            )
        # -(-a // b) is a / b rounded up: first the number of chunks, then the size of each.
        chunks = -(-most // min(fits, most))
        return -(-most // chunks)


def footprint(encode: Callable[[int], object], parameters: list[Tensor]) -> Footprint:
    """Measure what autograd saves, with `SIZES` pairs.

    Parameters
    ----------
    encode : callable
        Encodes a number of pairs with their graph.
    parameters : list of Tensor
        Not counted, as they are allocated anyway.
    """
    few, more = (kept_bytes(lambda count=count: encode(count), parameters) for count in SIZES)  # type: ignore[misc]
    pair = max(1.0, (more - few) / (SIZES[1] - SIZES[0]))
    return Footprint(pair, max(0.0, few - SIZES[0] * pair))


def kept_bytes(work: Callable[[], object], parameters: list[Tensor]) -> int:
    """Bytes of all tensors that autograd saves during `work`, each storage counted once.

    Examples
    --------
    >>> x = torch.ones(1000, requires_grad=True)
    >>> kept_bytes(lambda: (x.exp() + 1).exp(), [x])  # both exponentials, in float32
    8000
    """
    parameter_storages = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    # By address of the storage. Tensors are held, since the address of a freed one could be reused.
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameter_storages:
            saved[storage.data_ptr()] = tensor
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = work()
    total = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
    del result
    return total
