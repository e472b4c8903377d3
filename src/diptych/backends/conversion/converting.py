"""Export weights to a folder, and compare every installed runtime with the model (needs torch).

`tracing` writes the graphs, `exported.fidelity` has the limits, and `exported.folder` the format. 8-bit
towers are made for OpenVINO by NNCF, from the exported ONNX files. The folder is written under a temporary
name and renamed when all checks have passed, so a failure leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.backends.conversion.samples import TEXTS, synthetic_images
from diptych.backends.conversion.tracing import quiet_loggers, trimmable_ids, write_towers
from diptych.backends.exported.encoder import ExportedEncoder
from diptych.backends.exported.fidelity import compare_embeddings
from diptych.backends.exported.folder import (
    TOWERS,
    ExportSpec,
    Golden,
    new_folder,
    tower_file,
    write_golden,
    write_spec,
)
from diptych.backends.exported.openvino_compat import import_intel_library, preserved_signal_stack
from diptych.backends.exported.towers import has_bfloat16, is_installed
from diptych.backends.torch import TorchEncoder
from diptych.errors import InputError, WeightsError, counted
from diptych.extras import require
from diptych.files.disk import saving
from diptych.inputs import counted_long_texts, preprocess
from diptych.weights import Checkpoint

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from diptych.encoder import FloatArray

Note = Callable[[str], None]

GOLDEN = 4  # images and texts whose embeddings are stored
COMPARED = 64  # images on which runtimes are compared with the model
CALIBRATED = 300  # images on which 8-bit towers are calibrated: NNCF's default
MIN_IMAGES = 10  # fewer cannot be split into images for both purposes


def export(
    checkpoint: Checkpoint,
    folder: str | Path,
    *,
    int8: bool = False,
    pictures: Sequence[Image] | None = None,
    pictures_from: str = "pictures handed in",
    note: Note = lambda message: None,
) -> ExportSpec:
    """Export a model to a folder that needs no torch.

    Parameters
    ----------
    checkpoint : Checkpoint
        As from `diptych.weights.load_checkpoint`.
    folder : path
        New or empty.
    int8 : bool
        Also write 8-bit towers, for OpenVINO.
    pictures : sequence of PIL.Image.Image, optional
        Decoded RGB images like those to be encoded, 10 or more: the runtimes are compared on one in five, at
        most 64; 8-bit towers are calibrated on at most 300 of the others. By default synthetic ones
        (`samples`).
    pictures_from : str
        Origin of the images, stored in the folder.
    note : callable
        Called with messages about the progress.

    Returns
    -------
    ExportSpec
        Specification of the folder; `checks` has the measurements.

    Raises
    ------
    WeightsError
        The model cannot be converted, or a runtime is too far from float32; the message says why and what to
        do.
    MissingExtraError
        The exporter, ONNX Runtime or, for `int8`, OpenVINO is not installed.
    InputError
        There are too few images.
    SaveError
        The folder is not empty, or cannot be written.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, extra="onnx", purpose="export a model")
    if pictures is not None and len(pictures) < MIN_IMAGES:
        raise InputError(
            f"{counted(len(pictures), 'picture')} to calibrate with: expected {MIN_IMAGES} or more"
        )
    encoder = TorchEncoder.from_checkpoint(checkpoint, device="cpu", precision="float32")
    comparison_images, calibration_images = _split_images(pictures, int8=int8)
    with new_folder(Path(folder)) as temporary:
        if checkpoint.tokenizer_file is not None:
            with saving(temporary):
                shutil.copy(checkpoint.tokenizer_file, temporary)
        note("writing both towers as ONNX")
        write_towers(encoder.model, temporary)
        spec, golden = _build_spec(encoder, checkpoint)
        write_golden(temporary, golden)
        if int8:
            note(f"fitting 8-bit towers to {len(calibration_images)} pictures")
            pixels = [preprocess(image, spec.preprocess) for image in calibration_images]
            _quantise(temporary, pixels, _text_ids(encoder))
            origin = f"{len(calibration_images)} {'drawn pictures' if pictures is None else pictures_from}"
            spec = replace(spec, calibration=origin)
        # Written twice: the checks open the folder, and their results are a part of the specification.
        spec = write_spec(temporary, spec)
        checks = _checks(temporary, encoder, comparison_images, int8=int8, note=note)
        return write_spec(temporary, replace(spec, checks=checks))


def variants(*, int8: bool) -> list[tuple[str, str]]:
    """Runtimes and precisions that can run an exported folder on this machine, ONNX Runtime first."""
    available = [("onnx", "float32")] if is_installed("onnx") else []
    if is_installed("openvino"):
        available.append(("openvino", "float32"))
        available += [("openvino", "bfloat16")] if has_bfloat16() else []
        available += [("openvino", "int8")] if int8 else []
    return available


def _split_images(pictures: Sequence[Image] | None, *, int8: bool) -> tuple[list[Image], list[Image]]:
    """Split images into those for comparison (every fifth) and those for calibration."""
    if pictures is None:
        images = synthetic_images(COMPARED + (CALIBRATED if int8 else 0))
        return images[:COMPARED], images[COMPARED:]
    comparison_images = list(pictures[::5])[:COMPARED]
    return comparison_images, [image for number, image in enumerate(pictures) if number % 5][:CALIBRATED]


def _build_spec(encoder: TorchEncoder, checkpoint: Checkpoint) -> tuple[ExportSpec, Golden]:
    """Build the specification, and the golden embeddings of the model."""
    spec = checkpoint.spec
    cut, cut_id = trimmable_ids(spec.architecture.text)
    pictures = synthetic_images(GOLDEN, side=spec.preprocess.size, seed=1)
    texts = TEXTS[:: len(TEXTS) // GOLDEN][:GOLDEN]
    with counted_long_texts():
        text_rows = encoder.encode_texts(texts)
    export_spec = ExportSpec(
        name=spec.name,
        identity=checkpoint.identity,
        dim=encoder.dim,
        preprocess=spec.preprocess,
        tokenizer=spec.tokenizer,
        logit_scale=encoder.logit_scale,
        logit_bias=encoder.logit_bias,
        cut=cut,
        cut_id=cut_id,
        licence=spec.licence,
        source=spec.source,
        languages=spec.languages,
        architecture=spec.architecture.to_dict(),
        golden_texts=texts,
    )
    pixels = np.stack([np.asarray(picture) for picture in pictures])
    return export_spec, Golden(pixels, encoder.encode_images(pictures), text_rows)


def _checks(
    temporary: Path, encoder: TorchEncoder, pictures: Sequence[Image], *, int8: bool, note: Note
) -> tuple[dict[str, Any], ...]:
    """Compare every available runtime with torch in float32.

    A runtime that is too far from it ends the export. bfloat16, which is not requested explicitly, is only
    marked as refused, and will not be opened.
    """
    reference = _encode_both(encoder, pictures)
    checks: list[dict[str, Any]] = []
    for runtime, precision in variants(int8=int8):
        note(f"checking {runtime} in {precision}")
        check: dict[str, Any] = {"runtime": runtime, "precision": precision}
        try:
            exported = ExportedEncoder(temporary, runtime=runtime, precision=precision)
            images, texts = _encode_both(exported, pictures)
            agreement = compare_embeddings(runtime, precision, (reference[0], images), (reference[1], texts))
            check = agreement.to_dict() | {"refused": agreement.shortfall}
        except WeightsError as error:  # already the golden embeddings differ
            check["refused"] = str(error)
        if check["refused"]:
            if precision != "bfloat16":
                raise WeightsError(check["refused"])
            note(check["refused"])
        checks.append(check)
    return tuple(checks)


def _encode_both(
    encoder: TorchEncoder | ExportedEncoder, pictures: Sequence[Image]
) -> tuple[FloatArray, FloatArray]:
    """Embeddings of images and of `TEXTS`."""
    with counted_long_texts():
        return encoder.encode_images(pictures), encoder.encode_texts(TEXTS)


def _text_ids(encoder: TorchEncoder) -> list[NDArray[np.int64]]:
    """Token ids of `TEXTS`, without padding if the model accepts that."""
    with counted_long_texts():
        if trimmable_ids(encoder.spec.architecture.text)[0] == "never":
            return list(encoder.tokenizer(TEXTS))
        return [np.asarray(row, np.int64) for row in encoder.tokenizer.encode(TEXTS)]


def _quantise(folder: Path, pixels: Sequence[NDArray[np.float32]], ids: Sequence[NDArray[np.int64]]) -> None:
    """Write 8-bit towers beside the float32 ones, calibrated on images and texts.

    Post-training quantisation with NNCF's settings for transformers: SmoothQuant moves outliers of
    activations into the weights before both are rounded (Xiao et al. 2022, arXiv 2211.10438).

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
    with (
        quiet_loggers("nncf", "torch.utils.cpp_extension"),
        open(os.devnull, "w") as nowhere,  # noqa: PTH123
        contextlib.redirect_stdout(nowhere),
    ):
        yield
