"""Encoder on ONNX graphs, exported or released, without torch (`diptych.encoder` has the contract).

It combines preprocessing, tokenizer and two towers. A tower is opened when it is first needed, because a text
search needs no image tower. A tower of our own exports is checked on its golden embeddings before its first
use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.backends.exported.finding import read_released
from diptych.backends.exported.folder import Golden, is_exported, read_export, read_golden, tower_file
from diptych.backends.exported.released import ReleasedModel
from diptych.backends.exported.towers import RUNTIMES, Tower, is_installed, open_tower
from diptych.embedding.golden import check_tower
from diptych.encoder import normalize
from diptych.errors import InputError, WeightsError
from diptych.extras import require
from diptych.inputs import (
    OnLong,
    Tokenizer,
    counted_long_texts,
    load_tokenizer,
    preprocess,
    preprocess_batch,
)
from diptych.inputs.flores import FLORES, flores_code

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from diptych.encoder import FloatArray
    from diptych.model.clip import CLIP
    from diptych.zeroshot import ZeroShotClassifier

BATCH = 64  # images or texts per call


class ExportedEncoder:
    """Encoder on an exported model; `diptych.load` opens one.

    Parameters
    ----------
    folder : path or ReleasedModel
        Folder written by `diptych export`, or in a released layout (`backends.exported.finding`).
    runtime : {"onnx", "openvino"}, optional
        By default the first of the two that is installed.
    precision : {"float32", "bfloat16", "float16", "int8"}, optional
        By default float32, or that of a released folder's graphs. bfloat16 needs OpenVINO; int8 of our own
        exports needs OpenVINO and an export with int8.
    batch_size : int
        Images or texts per call.
    threads : int, optional
        Threads that resize and compute; by default one per core.
    on_long : {"cut", "refuse"}
        What to do with a text that is too long.

    Attributes
    ----------
    identity : str
        Identity of the exported model.

    Raises
    ------
    InputError
        The runtime or precision is unknown or not available.
    WeightsError
        The folder is incomplete, or this runtime and precision were too far from float32 at the export.
    MissingExtraError
        No runtime is installed.
    """

    def __init__(
        self,
        folder: str | Path | ReleasedModel,
        *,
        runtime: str | None = None,
        precision: str | None = None,
        batch_size: int = BATCH,
        threads: int | None = None,
        on_long: OnLong = "cut",
    ) -> None:
        self.released = folder if isinstance(folder, ReleasedModel) else None
        self.folder = folder.folder if isinstance(folder, ReleasedModel) else Path(folder)
        if self.released is None and not is_exported(self.folder):
            # bfloat16 is computed from graphs of any precision.
            graph_precision = None if precision == "bfloat16" else precision
            self.released = read_released(self.folder, precision=graph_precision)
        self.spec = read_export(self.folder) if self.released is None else self.released.spec
        precision = precision or (self.released.precision if self.released else "float32")
        own_int8 = self.released is None and precision == "int8"
        openvino = precision == "bfloat16" or own_int8
        self.runtime = runtime or ("openvino" if openvino else _first_installed())
        if self.runtime not in RUNTIMES:
            raise InputError(f"unknown runtime {runtime!r}: expected one of {', '.join(RUNTIMES)}")
        possible = self._precisions()
        if precision not in possible:
            raise InputError(f"{self.runtime} computes in {' or '.join(possible)} here, got {precision!r}")
        if own_int8 and "int8" not in self.spec.precisions:
            raise InputError(
                f"{self.folder} holds no int8 towers: export it again with --int8 (and --calibrate FOLDER)"
            )
        if reason := self.spec.refusal(self.runtime, precision):
            raise WeightsError(reason)
        self.precision = precision
        self.batch_size, self.threads, self.on_long = batch_size, threads, on_long
        self._towers: dict[str, Tower] = {}
        self._opening = Lock()

    @property
    def identity(self) -> str:
        """Identity of the exported model."""
        return self.spec.identity

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.spec.dim

    @property
    def input_size(self) -> int:
        """Side of the square input image, pixels."""
        return self.spec.preprocess.size

    @property
    def logit_scale(self) -> float:
        """Factor on cosine similarities, already exponentiated."""
        return self.spec.logit_scale

    @property
    def logit_bias(self) -> float:
        """Bias added after the scale; 0 unless trained with the sigmoid loss."""
        return self.spec.logit_bias

    @property
    def model(self) -> CLIP:
        """Raise AttributeError: there is no torch module.

        Raises
        ------
        AttributeError
            Always; the message says how to get the torch module.
        """
        raise AttributeError(
            f"{self!r} runs without torch and has no .model: load the weights with runtime='torch'"
        )

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer of the model."""
        return load_tokenizer(self.spec.tokenizer, self.folder)

    def prepare(self, image: Image) -> FloatArray:
        """Preprocess a decoded RGB image for `encode_prepared`, (3, S, S) float32; thread-safe."""
        return preprocess(image, self.spec.preprocess)

    def encode_prepared(self, prepared: Sequence[FloatArray]) -> FloatArray:
        """Embed images from `prepare`, (N, dim) float32, normalised."""
        embeddings = np.empty((len(prepared), self.dim), np.float32)
        for start in range(0, len(prepared), self.batch_size):
            pixels = np.stack(prepared[start : start + self.batch_size])  # (B, 3, S, S)
            embeddings[start : start + len(pixels)] = self._check_rows(self._tower("image")(pixels))
        return normalize(embeddings)  # those of a graph in half precision are slightly off

    def encode_images(self, images: Sequence[Image]) -> FloatArray:
        """Embed decoded RGB images, (N, dim) float32, normalised."""
        return self._encode_images(images, self._tower("image")) if len(images) else self._no_embeddings

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts, (N, dim) float32, normalised."""
        return (
            self._encode_texts(texts, self._tower("text"), self.on_long)
            if len(texts)
            else self._no_embeddings
        )

    def with_language(self, language: str) -> ExportedEncoder:
        """Copy of the encoder for texts in another language: NLLB-CLIP has a language token before each text.

        Image embeddings and identity are the same, so one index serves all languages.

        Parameters
        ----------
        language : str
            "de", "pt-BR", "zh-Hant", or NLLB's code, "deu_Latn".

        Returns
        -------
        ExportedEncoder
            Encoder that shares the towers of this one.

        Raises
        ------
        InputError
            The language is unknown, or the model has no token for it.
        """
        code = flores_code(language)
        if code is None:
            raise InputError(f"unknown language {language!r}: expected one of {', '.join(sorted(FLORES))}")
        spec = replace(self.spec, tokenizer=replace(self.spec.tokenizer, language=code))
        other = object.__new__(type(self))
        other.__dict__ |= {key: value for key, value in self.__dict__.items() if key != "tokenizer"}
        other.spec = spec
        _ = other.tokenizer  # loaded now, as it raises the error of a model without such tokens
        return other

    def classifier(self, names: Sequence[str] | Mapping[str, Any], **options: Any) -> ZeroShotClassifier:
        """Fit a zero-shot classifier to class names; `options` are those of `ZeroShotClassifier`."""
        from diptych.zeroshot import ZeroShotClassifier

        return ZeroShotClassifier(self, **options).fit(names)

    def __repr__(self) -> str:
        return f"ExportedEncoder({self.spec.name!r}, {self.dim} wide, {self.runtime}, {self.precision})"

    @property
    def _no_embeddings(self) -> FloatArray:
        return np.empty((0, self.dim), np.float32)

    def _encode_images(self, images: Sequence[Image], tower: Tower) -> FloatArray:
        embeddings = np.empty((len(images), self.dim), np.float32)
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            pixels = preprocess_batch(batch, self.spec.preprocess, threads=self.threads)  # (B, 3, S, S)
            embeddings[start : start + len(batch)] = self._check_rows(tower(pixels))
        return normalize(embeddings)  # those of a graph in half precision are slightly off

    def _encode_texts(self, texts: Sequence[str], tower: Tower, on_long: OnLong) -> FloatArray:
        embeddings = np.empty((len(texts), self.dim), np.float32)
        # One call for all texts, so that those that are too long are counted in one warning.
        tokens = self.tokenizer(list(texts), on_long=on_long)  # (N, L)
        lengths = self._used_lengths(tokens)
        order = np.argsort(lengths, kind="stable")  # similar lengths in one batch: little padding
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            embeddings[batch] = self._check_rows(tower(tokens[batch, : lengths[batch].max()]))
        return normalize(embeddings)  # those of a graph in half precision are slightly off

    def _check_rows(self, rows: FloatArray) -> FloatArray:
        if rows.shape[1:] != (self.dim,):
            raise WeightsError(
                f"a tower of {self.spec.name} gives embeddings of shape {rows.shape[1:]}, expected width "
                f"{self.dim}: its files do not belong together; export or fetch the model again"
            )
        if not np.isfinite(rows).all():
            raise WeightsError(
                f"a tower of {self.spec.name} gives infinite values or NaN on {self.runtime} in "
                f"{self.precision}: use another runtime or precision"
            )
        return rows

    def _used_lengths(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of ids of each text that affect its embedding, (N, L) -> (N,)."""
        cut, cut_id = self.spec.cut, self.spec.cut_id
        if cut == "never":
            return np.full(len(tokens), tokens.shape[1], np.int64)
        if cut == "padding":
            # Position of the last id that is not padding, from the right: e.g. 5 7 1 1 with padding 1: 4 - 2.
            return np.asarray(tokens.shape[1] - (tokens != cut_id)[:, ::-1].argmax(1), np.int64)
        return np.asarray((tokens if cut_id is None else tokens == cut_id).argmax(1) + 1, np.int64)

    @cached_property
    def _golden(self) -> Golden:
        return read_golden(self.folder)

    def _precisions(self) -> tuple[str, ...]:
        """Precisions that this folder and runtime can have."""
        if self.released is None:
            return RUNTIMES[self.runtime].precisions
        half = ("bfloat16",) if self.runtime == "openvino" else ()
        return (self.released.precision, *half)

    def _tower(self, name: str) -> Tower:
        """Return a tower; it is opened and checked at the first call, by one thread."""
        if name not in self._towers:
            with self._opening:
                if name not in self._towers:  # another thread may have opened it meanwhile
                    self._towers[name] = self._open_tower(name)
        return self._towers[name]

    def _open_tower(self, name: str) -> Tower:
        if self.released is None:
            path = self.folder / tower_file(name, self.precision)
            tower = open_tower(path, self.runtime, self.precision, threads=self.threads)
            self._check_golden(name, tower)
            return tower
        graph = self.released.tower(name)
        computed = "bfloat16" if self.precision == "bfloat16" else "float32"
        return open_tower(
            graph.graph.path, self.runtime, computed, threads=self.threads, signature=graph.signature
        )

    def _check_golden(self, name: str, tower: Tower) -> None:
        """Compare a tower's embeddings of the golden images or texts with the stored ones."""
        from PIL import Image

        golden = self._golden
        if name == "image":
            images = [Image.fromarray(pixels) for pixels in golden.pictures]
            expected, actual = golden.image_rows, self._encode_images(images, tower)
        else:
            with counted_long_texts(silent=True):  # a model of few tokens cuts them, as it did at the export
                expected = golden.text_rows
                actual = self._encode_texts(self.spec.golden_texts, tower, "cut")
        title = f"the {name} tower of {self.spec.name} on {self.runtime} in {self.precision}"
        check_tower(expected, actual, self.precision, title)


def _first_installed() -> str:
    """First installed runtime: ONNX Runtime is preferred, as it starts faster."""
    for runtime in RUNTIMES:
        if is_installed(runtime):
            return runtime
    require("onnxruntime", extra="onnx", purpose="run exported models")
    raise AssertionError("onnxruntime can be imported but has no module specification")
