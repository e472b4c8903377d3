"""Exported model folders, made once per session: exporting takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from diptych.backends import TorchEncoder, export
from diptych.backends.conversion.samples import synthetic_images
from diptych.backends.exported import fidelity
from diptych.weights import Checkpoint
from tests.backends.export_toys import MODELS, checkpoint, trace_once


@pytest.fixture(autouse=True, scope="session")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trace each toy model once and use the graphs in all exports of it."""
    with pytest.MonkeyPatch.context() as patch:
        trace_once(patch, tmp_path_factory.mktemp("traced"))
        yield


@pytest.fixture(scope="session", params=list(MODELS))
def exported(
    request: pytest.FixtureRequest, traced: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TorchEncoder]:
    """A folder with 8-bit towers and the model it was exported from, for each kind of model."""
    home = tmp_path_factory.mktemp(request.param)
    weights = checkpoint(request.param, home)
    with pytest.MonkeyPatch.context() as lower:
        # Small random weights lose more to 8 bits than trained ones, and the loss depends on the machine;
        # the threshold itself is tested in test_backends_runtimes.py.
        lower.setitem(fidelity.MIN_COSINES, "int8", (0.98, 0.95))  # type: ignore[arg-type]
        export(weights, home / "exported", int8=True, pictures=synthetic_images(60, side=48, seed=2))
    return home / "exported", TorchEncoder.from_checkpoint(weights, device="cpu", precision="float32")


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny vision transformer."""
    return checkpoint("vit", tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def vit_folder(vit: Checkpoint, traced: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as an exported folder."""
    folder = tmp_path_factory.mktemp("exports") / "vit"
    export(vit, folder)
    return folder
