"""What several test files of this folder share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch
from tiny_models import TINY

from diptych.model.initialise import build
from diptych.weights import Checkpoint, ModelSpec


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    state = {name: tensor.detach() for name, tensor in build(TINY, seed=0).state_dict().items()}
    return Checkpoint(spec=ModelSpec(name="toy", architecture=TINY), state=state, identity="")


@pytest.fixture(scope="session")
def with_timm() -> Iterator[None]:
    """Let timm be imported: a CPU build of torch lacks two operators that torchvision's wheel asks for."""
    library = None
    try:
        import timm
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in [name for name in sys.modules if name.partition(".")[0] in ("torchvision", "timm")]:
            del sys.modules[name]
        import timm
    assert timm.__version__
    yield
    del library
