"""Both towers in 8 bits for OpenVINO, by NNCF: ranges of activations are fitted to pictures and texts.

Post-training quantisation with NNCF's transformer settings: SmoothQuant moves the outliers of activations
into the weights before both are rounded (Xiao et al. 2022, arXiv 2211.10438). No torch: it works on the
exported ONNX files. Whether the result is near enough is `judging`'s business.
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
from diptych.backends.exported.intel import intel, signals_kept
from diptych.errors import WeightsError
from diptych.files.disk import saving

if TYPE_CHECKING:
    from numpy.typing import NDArray


def quantise(folder: Path, pixels: Sequence[NDArray[np.float32]], ids: Sequence[NDArray[np.int64]]) -> None:
    """Write the 8-bit towers beside the float32 ones.

    Parameters
    ----------
    folder : Path
        With `image.onnx` and `text.onnx`.
    pixels : sequence of (3, S, S) float32
        Pictures to fit to, as the image tower reads them.
    ids : sequence of (L,) int64
        Texts to fit to, as the text tower reads them.

    Raises
    ------
    MissingExtraError
        OpenVINO or NNCF is not installed.
    WeightsError
        A tower cannot be made of 8 bits.
    """
    openvino, nncf = (intel(name, "make 8-bit towers") for name in ("openvino", "nncf"))
    from nncf.quantization.advanced_parameters import OverflowFix

    given: tuple[Sequence[NDArray[Any]], ...] = (pixels, ids)
    for tower, examples in zip(TOWERS, given, strict=True):
        model = openvino.Core().read_model(folder / tower_file(tower, "float32"))
        name = model.inputs[0].get_any_name()
        data = nncf.Dataset([{name: one[None]} for one in examples])
        with _quiet(), signals_kept():
            try:
                small = nncf.quantize(
                    model,
                    data,
                    model_type=nncf.ModelType.TRANSFORMER,
                    subset_size=len(examples),
                    # Processors without VNNI (AVX2 alone) add pairs of products in 16 bits, which overflow
                    # with weights of 8 bits. Weights of 7 bits are right on every processor.
                    advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
                )
            except Exception as error:  # NNCF raises anything on a graph it does not understand
                raise WeightsError(
                    f"the {tower} tower cannot be made of 8 bits: {error}. Export without int8"
                ) from error
        with saving(folder):
            openvino.save_model(small, folder / tower_file(tower, "int8"), compress_to_fp16=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither remarks nor bars, which would go to standard output among the results.

    NNCF looks whether the model is torch's, and then torch remarks that it finds no GPU.
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
