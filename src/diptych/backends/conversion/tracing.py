"""Trace a model's two towers to ONNX graphs (with torch), for any batch size and text length.

The graph of the text tower finds the end token itself. With causal attention the caller may leave out the ids
after the last end token of a batch. `converting` writes the other files.
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
MAX_PROTO_BYTES = 1_800_000_000  # a protobuf is limited to 2 GB, so larger weights get a file of their own


def write_towers(model: CLIP, folder: Path) -> None:
    """Write `image.onnx` and `text.onnx`.

    Raises
    ------
    MissingExtraError
        The exporter is not installed.
    SaveError
        No space, or no permission.
    WeightsError
        The exporter does not support the model.
    """
    for module in ("onnx", "onnxscript"):
        require(module, extra="onnx", purpose="export a model")
    config = model.text_config
    batch = torch.export.Dim("batch")
    pixels = torch.zeros(2, 3, *[model.config.vision.image_size] * 2)
    _write(TracedImageTower(model), "pixels", pixels, {0: batch}, folder / tower_file("image", "float32"))
    ids = torch.zeros(2, config.context_length, dtype=torch.int64)
    axes: dict[int, Any] = {0: batch}
    if trimmable_ids(config)[0] != "never":
        axes[1] = torch.export.Dim("length", min=2, max=config.context_length)
    _write(TracedTextTower(model), "ids", ids, axes, folder / tower_file("text", "float32"))


def trimmable_ids(config: TextConfig) -> tuple[str, int | None]:
    """Which ids of a text may be left out: values of `cut` and `cut_id` of `ExportSpec`."""
    if isinstance(config, RobertaConfig):
        return "padding", config.pad_id
    return ("end", config.end_id) if supports_prefix_trees(config) else ("never", None)


class TracedImageTower(nn.Module):
    """Image tower with normalised output: pixels (B, 3, S, S) to embeddings (B, dim)."""

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.visual = model.visual

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed preprocessed images."""
        return l2_normalize(self.visual(pixels))


class TracedTextTower(nn.Module):
    """Text tower with normalised output: token ids (B, L) to embeddings (B, dim)."""

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        # A bound method, not the model as a child module: the image tower's weights would be written as well.
        self._encode_ids = model.encode_ids

    def forward(self, ids: Tensor) -> Tensor:
        """Embed token ids."""
        return l2_normalize(self._encode_ids(ids))


def _write(tower: nn.Module, input_name: str, example: Tensor, axes: dict[int, Any], path: Path) -> None:
    """Trace a tower on an example, with the dynamic axes `axes`, and write the graph."""
    with _silence_exporter(), torch.no_grad(), _translate_errors(path.name):
        program = torch.onnx.export(
            tower.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=(axes,),
            opset_version=OPSET,
            input_names=[input_name],
            output_names=["rows"],
            verbose=False,
        )
    assert program is not None
    _remove_metadata(program.model)
    tensors = (value.const_value for value in program.model.graph.initializers.values())
    weight = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    with saving(path):
        program.save(path, external_data=weight > MAX_PROTO_BYTES)


@contextlib.contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    """Raise errors of the exporter as WeightsError, with the cause only, without its pages of advice."""
    try:
        yield
    except torch.onnx.OnnxExporterError as error:
        cause = error.__cause__ or error
        reason = (str(cause).strip().splitlines() or ["no reason given"])[0][:300]
        raise WeightsError(
            f"the model cannot be written as {name}: {type(cause).__name__}: {reason}. Use it with torch"
        ) from error


def _remove_metadata(model: Any) -> None:
    """Remove the exporter's metadata: on every node the source lines, with paths of this machine."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    ClearMetadataAndDocStringPass()(model)


@contextlib.contextmanager
def quiet_loggers(*names: str) -> Iterator[None]:
    """Let these loggers report errors only."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _silence_exporter() -> Iterator[None]:
    """Silence the exporter's remarks about itself: missing operators of torchvision, future renames."""
    with quiet_loggers("torch.onnx._internal.exporter._registration"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*treespec, LeafSpec.*", category=FutureWarning)
        yield
