"""Fixtures shared by the tests of weights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from diptych.model.initialise import build
from diptych.weights import Checkpoint, ModelSpec
from tests.importable_timm import import_timm
from tests.weights.tiny_models import TINY


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    state = {name: tensor.detach() for name, tensor in build(TINY, seed=0).state_dict().items()}
    return Checkpoint(spec=ModelSpec(name="toy", architecture=TINY), state=state, identity="")


@pytest.fixture(scope="session")
def with_timm() -> Iterator[None]:
    """Make timm importable."""
    library = import_timm()
    yield
    del library
