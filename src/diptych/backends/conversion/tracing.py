"""A model's two towers as ONNX graphs (torch): any number of pictures and texts, texts of any length.

The graph of the text tower finds the end token itself; whoever feeds it may leave out ids after the longest
end token of a batch where the model is causal. Which files there are besides is `converting`'s business.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diptych.backends.exported.folder import tower_file
from diptych.errors import WeightsError
from diptych.extras import require
from diptych.files.disk import saving
from diptych.model.blocks import l2_normalize
from diptych.model.clip import CLIP
from diptych.model.config import RobertaConfig, TextConfig
from diptych.model.text.prefix_tree import supports_prefix_trees

OPSET = 18
LARGEST_PROTO = 1_800_000_000  # bytes: a protobuf ends at 2 GB, so larger weights get a file of their own


def write_towers(model: CLIP, folder: Path) -> None:
    """Write `image.onnx` and `text.onnx`.

    Raises
    ------
    MissingExtraError
        The exporter is not installed.
    SaveError
        No space, or no permission.
    WeightsError
        The exporter does not understand the model.
    """
    for module in ("onnx", "onnxscript"):
        require(module, extra="onnx", purpose="export a model")
    config = model.text_config
    batch = torch.export.Dim("batch")
    pixels = torch.zeros(2, 3, *[model.config.vision.image_size] * 2)
    _write(ImageTower(model), "pixels", pixels, {0: batch}, folder / tower_file("image", "float32"))
    ids = torch.zeros(2, config.context_length, dtype=torch.int64)
    axes: dict[int, Any] = {0: batch}
    if cut(config)[0] != "never":
        axes[1] = torch.export.Dim("length", min=2, max=config.context_length)
    _write(TextTower(model), "ids", ids, axes, folder / tower_file("text", "float32"))


def cut(config: TextConfig) -> tuple[str, int | None]:
    """Which ids may be left out, and the id that says so: see `ExportSpec`."""
    if isinstance(config, RobertaConfig):
        return "padding", config.pad_id
    return ("end", config.end_id) if supports_prefix_trees(config) else ("never", None)


class ImageTower(nn.Module):
    """Pixels (B, 3, S, S) to unit rows (B, dim)."""

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.visual = model.visual

    def forward(self, pixels: Tensor) -> Tensor:
        """Pictures in the shared space."""
        return l2_normalize(self.visual(pixels))


class TextTower(nn.Module):
    """Ids (B, L) to unit rows (B, dim)."""

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        # The image tower is no child of this module: its weights would be written twice.
        self._read = model.encode_ids

    def forward(self, ids: Tensor) -> Tensor:
        """Texts in the shared space."""
        return l2_normalize(self._read(ids))


def _write(tower: nn.Module, taken: str, example: Tensor, axes: dict[int, Any], path: Path) -> None:
    with _quiet(), torch.no_grad(), _translated(path.name):
        program = torch.onnx.export(
            tower.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=(axes,),
            opset_version=OPSET,
            input_names=[taken],
            output_names=["rows"],
            verbose=False,
        )
    assert program is not None
    _without_notes(program.model)
    tensors = (value.const_value for value in program.model.graph.initializers.values())
    weight = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    with saving(path):
        program.save(path, external_data=weight > LARGEST_PROTO)


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    """What the exporter raises, as ours; the reason alone of its pages of advice to developers."""
    try:
        yield
    except torch.onnx.OnnxExporterError as error:
        cause = error.__cause__ or error
        reason = (str(cause).strip().splitlines() or ["no reason given"])[0][:300]
        raise WeightsError(
            f"the model cannot be written as {name}: {type(cause).__name__}: {reason}. Use it with torch"
        ) from error


def _without_notes(model: Any) -> None:
    """Leave out what the exporter notes on every node: the source lines it came from, on this machine."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    ClearMetadataAndDocStringPass()(model)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the exporter says of itself: torchvision's operators it lacks, classes it will rename."""
    loggers = [logging.getLogger(f"torch.onnx._internal.exporter.{name}") for name in ("_registration",)]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*treespec, LeafSpec.*", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
