"""The contract of `diptych.encoder` fulfilled by ONNX graphs, exported or released, without torch.

Puts preprocessing, tokenizer and two towers together. A tower is opened when it is first needed, since a
search in words needs no image tower, and a tower of our own exports is tested on its golden vectors before it
answers anything.
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
from diptych.backends.exported.judging import refuse_golden
from diptych.backends.exported.released import ReleasedModel
from diptych.backends.exported.towers import PRECISIONS, RUNTIMES, Tower, is_installed, open_tower
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

BATCH = 64  # pictures or texts computed at a time


class ExportedEncoder:
    """An exported model behind the contract; `diptych.load` opens one.

    Parameters
    ----------
    folder : path or ReleasedModel
        As `diptych export` wrote it, or in a released layout (`backends.exported.finding`).
    runtime : {"onnx", "openvino"}, optional
        By default the first of the two that is installed.
    precision : {"float32", "bfloat16", "float16", "int8"}, optional
        By default float32, or that of a released folder's graphs. bfloat16 with OpenVINO only; so is int8 of
        our own exports, where it was exported.
    batch_size : int
        Pictures or texts computed at a time.
    threads : int, optional
        That resize and compute; by default one per core.
    on_long : {"cut", "refuse"}
        What becomes of a text over the model's length.

    Attributes
    ----------
    identity : str
        Of the model it was made from.

    Raises
    ------
    InputError
        No such runtime or precision.
    WeightsError
        The folder is not whole, or this was found too far from float32 when it was made.
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
            wanted = None if precision == "bfloat16" else precision
            self.released = read_released(self.folder, precision=wanted)
        self.spec = read_export(self.folder) if self.released is None else self.released.spec
        precision = precision or (self.released.precision if self.released else "float32")
        ours_in_8_bits = self.released is None and precision == "int8"
        openvino = precision == "bfloat16" or ours_in_8_bits
        self.runtime = runtime or ("openvino" if openvino else _first_installed())
        if self.runtime not in RUNTIMES:
            raise InputError(f"unknown runtime {runtime!r}: expected one of {', '.join(RUNTIMES)}")
        possible = self._precisions()
        if precision not in possible:
            raise InputError(f"{self.runtime} computes in {' or '.join(possible)} here, not {precision!r}")
        if ours_in_8_bits and "int8" not in self.spec.precisions:
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
        """Of the model it was made from."""
        return self.spec.identity

    @property
    def dim(self) -> int:
        """Length of a row."""
        return self.spec.dim

    @property
    def input_size(self) -> int:
        """Side of the square the model sees, pixels."""
        return self.spec.preprocess.size

    @property
    def logit_scale(self) -> float:
        """Factor on cosines, already exponentiated."""
        return self.spec.logit_scale

    @property
    def logit_bias(self) -> float:
        """Added after the scale; 0 without a sigmoid loss."""
        return self.spec.logit_bias

    @property
    def model(self) -> CLIP:
        """There is none.

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
        """Texts to ids."""
        return load_tokenizer(self.spec.tokenizer, self.folder)

    def prepare(self, image: Image) -> FloatArray:
        """One decoded RGB picture as `encode_prepared` takes it, (3, S, S) float32; safe in any thread."""
        return preprocess(image, self.spec.preprocess)

    def encode_prepared(self, prepared: Sequence[FloatArray]) -> FloatArray:
        """What `prepare` gave as unit rows, (N, dim) float32."""
        rows = np.empty((len(prepared), self.dim), np.float32)
        for start in range(0, len(prepared), self.batch_size):
            part = np.stack(prepared[start : start + self.batch_size])  # (B, 3, S, S)
            rows[start : start + len(part)] = self._checked(self._tower("image")(part))
        return _unit(rows)

    def encode_images(self, images: Sequence[Image]) -> FloatArray:
        """Decoded RGB pictures as unit rows, (N, dim) float32."""
        return self._images(images, self._tower("image")) if len(images) else self._none

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Texts as unit rows, (N, dim) float32."""
        return self._texts(texts, self._tower("text"), self.on_long) if len(texts) else self._none

    def with_language(self, language: str) -> ExportedEncoder:
        """The same encoder for texts in another language: NLLB-CLIP reads a token for it before every text.

        Pictures, their vectors and the identity stay as they are, so one index answers every language.

        Parameters
        ----------
        language : str
            "de", "pt-BR", "zh-Hant", or NLLB's own code, "deu_Latn".

        Returns
        -------
        ExportedEncoder
            With the same towers.

        Raises
        ------
        InputError
            No such language, or the model reads no token for it.
        """
        code = flores_code(language)
        if code is None:
            raise InputError(f"unknown language {language!r}: expected one of {', '.join(sorted(FLORES))}")
        spec = replace(self.spec, tokenizer=replace(self.spec.tokenizer, language=code))
        other = object.__new__(type(self))
        other.__dict__ |= {key: value for key, value in self.__dict__.items() if key != "tokenizer"}
        other.spec = spec
        _ = other.tokenizer  # a model without such tokens is told of here
        return other

    def classifier(self, names: Sequence[str] | Mapping[str, Any], **options: Any) -> ZeroShotClassifier:
        """A zero-shot classifier for classes given in words.

        Parameters
        ----------
        names : sequence of str, or mapping
            As for `ZeroShotClassifier.fit`.
        **options
            As for `ZeroShotClassifier`: templates, multi_label, ...
        """
        from diptych.zeroshot import ZeroShotClassifier

        return ZeroShotClassifier(self, **options).fit(names)

    def __repr__(self) -> str:
        return f"ExportedEncoder({self.spec.name!r}, {self.dim} wide, {self.runtime}, {self.precision})"

    @property
    def _none(self) -> FloatArray:
        return np.empty((0, self.dim), np.float32)

    def _images(self, images: Sequence[Image], tower: Tower) -> FloatArray:
        rows = np.empty((len(images), self.dim), np.float32)
        for start in range(0, len(images), self.batch_size):
            part = images[start : start + self.batch_size]
            pixels = preprocess_batch(part, self.spec.preprocess, threads=self.threads)  # (B, 3, S, S)
            rows[start : start + len(part)] = self._checked(tower(pixels))
        return _unit(rows)

    def _texts(self, texts: Sequence[str], tower: Tower, on_long: OnLong) -> FloatArray:
        rows = np.empty((len(texts), self.dim), np.float32)
        # One call for all, so that texts that are too long are counted in one warning.
        tokens = self.tokenizer(list(texts), on_long=on_long)  # (N, L)
        lengths = self._lengths(tokens)
        order = np.argsort(lengths, kind="stable")  # alike lengths together: little is padded
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            rows[chosen] = self._checked(tower(tokens[chosen, : lengths[chosen].max()]))
        return _unit(rows)

    def _checked(self, rows: FloatArray) -> FloatArray:
        if rows.shape[1:] != (self.dim,):
            raise WeightsError(
                f"a tower of {self.spec.name} gives rows of {rows.shape[1:]}, expected {self.dim} wide: its "
                "files do not belong together; export or fetch the model again"
            )
        if not np.isfinite(rows).all():
            raise WeightsError(
                f"a tower of {self.spec.name} gives rows that are no numbers on {self.runtime} in "
                f"{self.precision}: use another runtime or precision"
            )
        return rows

    def _lengths(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many ids of each text have to be seen, (N,)."""
        cut, by = self.spec.cut, self.spec.cut_id
        if cut == "never":
            return np.full(len(tokens), tokens.shape[1], np.int64)
        if cut == "padding":
            return np.asarray(tokens.shape[1] - (tokens != by)[:, ::-1].argmax(1), np.int64)
        return np.asarray((tokens if by is None else tokens == by).argmax(1) + 1, np.int64)

    @cached_property
    def _golden(self) -> Golden:
        return read_golden(self.folder)

    def _precisions(self) -> tuple[str, ...]:
        """What this folder is computed in on this runtime."""
        if self.released is None:
            return PRECISIONS[self.runtime]
        half = ("bfloat16",) if self.runtime == "openvino" else ()
        return (self.released.precision, *half)

    def _tower(self, name: str) -> Tower:
        """A tower, opened and tested when it is first asked for; by one thread."""
        if name not in self._towers:
            with self._opening:
                if name not in self._towers:
                    self._towers[name] = self._opened(name)
        return self._towers[name]

    def _opened(self, name: str) -> Tower:
        if self.released is None:
            path = self.folder / tower_file(name, self.precision)
            tower = open_tower(path, self.runtime, self.precision, threads=self.threads)
            self._test(name, tower)
            return tower
        graph = self.released.tower(name)
        computed = "bfloat16" if self.precision == "bfloat16" else "float32"
        return open_tower(
            graph.graph.path, self.runtime, computed, threads=self.threads, signature=graph.signature
        )

    def _test(self, name: str, tower: Tower) -> None:
        """Golden vectors: what a tower makes of them now, beside what the model made of them."""
        from PIL import Image

        golden = self._golden
        if name == "image":
            pictures = [Image.fromarray(pixels) for pixels in golden.pictures]
            kept, found = golden.image_rows, self._images(pictures, tower)
        else:
            with counted_long_texts(silent=True):  # a model of a few tokens cuts them, as it did then
                kept, found = golden.text_rows, self._texts(self.spec.golden_texts, tower, "cut")
        told = f"the {name} tower of {self.spec.name} on {self.runtime} in {self.precision}"
        refuse_golden(kept, found, self.precision, told)


def _first_installed() -> str:
    """The first runtime that is there: ONNX Runtime starts sooner."""
    for runtime in RUNTIMES:
        if is_installed(runtime):
            return runtime
    require("onnxruntime", extra="onnx", purpose="run exported models")
    raise AssertionError("it is there and it is not")


def _unit(rows: FloatArray) -> FloatArray:
    """Rows of length one: a graph in half precision is off by a little."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)
