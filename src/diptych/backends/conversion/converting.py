"""From weights to an exported folder, judged on every runtime that is installed (torch).

The graphs are `tracing`'s work, 8-bit towers `quantising`'s, how far they may be from the model stands in
`judging`, what the files are in `folder`. A failure leaves nothing behind: the folder is made beside its name
and renamed when everything in it has passed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.backends.conversion.quantising import quantise
from diptych.backends.conversion.samples import TEXTS, drawn_pictures
from diptych.backends.conversion.tracing import cut, write_towers
from diptych.backends.exported.encoder import ExportedEncoder
from diptych.backends.exported.folder import ExportSpec, Golden, finish, replacing, write_golden
from diptych.backends.exported.judging import judge
from diptych.backends.exported.towers import has_bfloat16, is_installed
from diptych.backends.torch import TorchEncoder
from diptych.errors import InputError, WeightsError
from diptych.extras import require
from diptych.files.disk import saving
from diptych.inputs import counted_long_texts, preprocess
from diptych.weights import Checkpoint

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.encoder import FloatArray

Note = Callable[[str], None]

GOLDEN = 4  # pictures and texts whose rows are kept
JUDGED = 64  # pictures that runtimes are judged on
FITTED = 300  # pictures that 8-bit towers are fitted to: NNCF's own number
FEWEST = 10  # pictures that can be judged and fitted to


def export(
    checkpoint: Checkpoint,
    folder: str | Path,
    *,
    int8: bool = False,
    pictures: Sequence[Image] | None = None,
    pictures_from: str = "pictures handed in",
    note: Note = lambda message: None,
) -> ExportSpec:
    """Write a model as a folder that needs no torch.

    Parameters
    ----------
    checkpoint : Checkpoint
        As `diptych.weights.load_checkpoint` gives it.
    folder : path
        New or empty.
    int8 : bool
        Also make 8-bit towers, for OpenVINO.
    pictures : sequence of PIL.Image.Image, optional
        Decoded RGB pictures like those it is for, 10 or more: one in five judges the runtimes, at most 64;
        8-bit towers are fitted to at most 300 of the others. By default drawn ones (`samples`).
    pictures_from : str
        Where they are from, to be told in the folder.
    note : callable
        Told what is being done.

    Returns
    -------
    ExportSpec
        What was written; `checks` has what was measured.

    Raises
    ------
    WeightsError
        The model cannot be converted, or a runtime is too far from float32; the message says why and the
        way out.
    MissingExtraError
        The exporter, ONNX Runtime or, for `int8`, OpenVINO is not installed.
    InputError
        Too few pictures.
    SaveError
        The folder is not empty, or cannot be written.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, extra="onnx", purpose="export a model")
    if pictures is not None and len(pictures) < FEWEST:
        raise InputError(f"{len(pictures)} pictures to calibrate with: expected {FEWEST} or more")
    encoder = TorchEncoder.from_checkpoint(checkpoint, device="cpu", precision="float32")
    judged, fitted = _parted(pictures, int8=int8)
    with replacing(Path(folder)) as made:
        if checkpoint.tokenizer_file is not None:
            with saving(made):
                shutil.copy(checkpoint.tokenizer_file, made)
        note("writing both towers as ONNX")
        write_towers(encoder.model, made)
        spec, golden = _described(encoder, checkpoint)
        write_golden(made, golden)
        if int8:
            note(f"fitting 8-bit towers to {len(fitted)} pictures")
            quantise(made, [preprocess(one, spec.preprocess) for one in fitted], _text_ids(encoder))
            told = f"{len(fitted)} {'drawn pictures' if pictures is None else pictures_from}"
            spec = replace(spec, calibration=told)
        spec = finish(made, spec)
        return finish(made, replace(spec, checks=_checks(made, encoder, judged, int8=int8, note=note)))


def variants(*, int8: bool) -> list[tuple[str, str]]:
    """Runtimes and precisions that this machine can run an exported folder with, ONNX Runtime first."""
    found = [("onnx", "float32")] if is_installed("onnx") else []
    if is_installed("openvino"):
        found.append(("openvino", "float32"))
        found += [("openvino", "bfloat16")] if has_bfloat16() else []
        found += [("openvino", "int8")] if int8 else []
    return found


def _parted(pictures: Sequence[Image] | None, *, int8: bool) -> tuple[list[Image], list[Image]]:
    """Pictures to judge with and others to fit to."""
    if pictures is None:
        drawn = drawn_pictures(JUDGED + (FITTED if int8 else 0))
        return drawn[:JUDGED], drawn[JUDGED:]
    judged = list(pictures[::5])[:JUDGED]
    return judged, [one for number, one in enumerate(pictures) if number % 5][:FITTED]


def _described(encoder: TorchEncoder, checkpoint: Checkpoint) -> tuple[ExportSpec, Golden]:
    """What travels with the towers: the description, and the model's own rows of a few things."""
    given = checkpoint.spec
    may_be_cut, by = cut(given.architecture.text)
    pictures = drawn_pictures(GOLDEN, side=given.preprocess.size, seed=1)
    texts = TEXTS[:: len(TEXTS) // GOLDEN][:GOLDEN]
    with counted_long_texts():
        text_rows = encoder.encode_texts(texts)
    spec = ExportSpec(
        name=given.name,
        identity=checkpoint.identity,
        dim=encoder.dim,
        preprocess=given.preprocess,
        tokenizer=given.tokenizer,
        logit_scale=encoder.logit_scale,
        logit_bias=encoder.logit_bias,
        cut=may_be_cut,
        cut_id=by,
        licence=given.licence,
        source=given.source,
        languages=given.languages,
        architecture=given.architecture.to_dict(),
        golden_texts=texts,
    )
    pixels = np.stack([np.asarray(picture) for picture in pictures])
    return spec, Golden(pixels, encoder.encode_images(pictures), text_rows)


def _checks(
    made: Path, encoder: TorchEncoder, pictures: Sequence[Image], *, int8: bool, note: Note
) -> tuple[dict[str, Any], ...]:
    """Every runtime that is here beside torch in float32.

    One below its bar ends the export, apart from bfloat16, which nobody asked for: it is marked as refused,
    and will not be opened.
    """
    truth = _both(encoder, pictures)
    found: list[dict[str, Any]] = []
    for runtime, precision in variants(int8=int8):
        note(f"checking {runtime} in {precision}")
        check: dict[str, Any] = {"runtime": runtime, "precision": precision}
        try:
            rows = _both(ExportedEncoder(made, runtime=runtime, precision=precision), pictures)
            agreement = judge(runtime, precision, (truth[0], rows[0]), (truth[1], rows[1]))
            check = agreement.to_dict() | {"refused": agreement.shortfall}
        except WeightsError as error:  # golden vectors already
            check["refused"] = str(error)
        if check["refused"]:
            if precision != "bfloat16":
                raise WeightsError(check["refused"])
            note(check["refused"])
        found.append(check)
    return tuple(found)


def _both(
    encoder: TorchEncoder | ExportedEncoder, pictures: Sequence[Image]
) -> tuple[FloatArray, FloatArray]:
    with counted_long_texts():
        return encoder.encode_images(pictures), encoder.encode_texts(TEXTS)


def _text_ids(encoder: TorchEncoder) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The texts as rows of ids, cut where the model may be fed them cut."""
    with counted_long_texts():
        if cut(encoder.spec.architecture.text)[0] == "never":
            return list(encoder.tokenizer(TEXTS))
        return [np.asarray(row, np.int64) for row in encoder.tokenizer.encode(TEXTS)]
