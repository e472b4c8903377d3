"""Quantise both towers to 8 bits for OpenVINO with NNCF, calibrated on images and texts.

Post-training quantisation with NNCF's settings for transformers: SmoothQuant moves outliers of activations
into the weights before both are rounded (Xiao et al. 2022, arXiv 2211.10438). It works on the exported ONNX
files, without torch. `exported.fidelity` decides whether the result is accurate enough.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.backends.exported.folder import TOWERS, tower_file
from diptych.backends.exported.openvino_compat import import_intel_library, preserved_signal_stack
from diptych.errors import WeightsError
from diptych.files.disk import saving

if TYPE_CHECKING:
    from numpy.typing import NDArray


def quantise(folder: Path, pixels: Sequence[NDArray[np.float32]], ids: Sequence[NDArray[np.int64]]) -> None:
    """Write 8-bit towers beside the float32 ones.

    Parameters
    ----------
    folder : Path
        Folder with `image.onnx` and `text.onnx`.
    pixels : sequence of (3, S, S) float32
        Preprocessed images for calibration.
    ids : sequence of (L,) int64
        Token ids of texts for calibration.

    Raises
    ------
    MissingExtraError
        OpenVINO or NNCF is not installed.
    WeightsError
        A tower cannot be quantised.
    """
    openvino, nncf = (import_intel_library(name, "make 8-bit towers") for name in ("openvino", "nncf"))
    from nncf.quantization.advanced_parameters import OverflowFix

    inputs: tuple[Sequence[NDArray[Any]], ...] = (pixels, ids)
    for tower, examples in zip(TOWERS, inputs, strict=True):
        model = openvino.Core().read_model(folder / tower_file(tower, "float32"))
        name = model.inputs[0].get_any_name()
        data = nncf.Dataset([{name: example[None]} for example in examples])  # batches of one
        with _silence_nncf(), preserved_signal_stack():
            try:
                quantised = nncf.quantize(
                    model,
                    data,
                    model_type=nncf.ModelType.TRANSFORMER,
                    subset_size=len(examples),
                    # Processors without VNNI (AVX2 only) add pairs of products in 16 bits, which overflow
                    # with weights of 8 bits. With weights of 7 bits they do not.
                    advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
                )
            except Exception as error:  # NNCF raises any kind of error on a graph that it does not support
                raise WeightsError(
                    f"the {tower} tower cannot be quantised to 8 bits: {error}. Export without int8"
                ) from error
        with saving(folder):
            openvino.save_model(quantised, folder / tower_file(tower, "int8"), compress_to_fp16=False)


@contextlib.contextmanager
def _silence_nncf() -> Iterator[None]:
    """Silence messages and progress bars, which would be mixed with results on standard output.

    NNCF checks whether the model is one of torch, and then torch logs that it finds no GPU.
    """
    loggers = [logging.getLogger(name) for name in ("nncf", "torch.utils.cpp_extension")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
