"""The contract of `diptych.encoder` fulfilled with torch: pictures and texts in, unit rows out.

Puts model, preprocessing and tokenizer together, and chooses what the contract leaves open: device,
precision, how many at a time, whether texts share their beginnings. Finding weights is `diptych.weights`;
files and failures are `diptych.embedding.batches`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from diptych.encoder import EncoderCost
from diptych.errors import InputError
from diptych.inputs import OnLong, Tokenizer, load_tokenizer, preprocess, preprocess_batch
from diptych.model.clip import CLIP
from diptych.model.config import ResNetConfig, TimmConfig
from diptych.model.cost import cost
from diptych.model.devices import pick_device, pick_dtype
from diptych.model.initialise import build
from diptych.model.text.prefix_tree import encode_with_prefix_trees, supports_prefix_trees
from diptych.model.timm_trunk import fill_buffers
from diptych.weights import Checkpoint, ModelSpec, fit
from diptych.zeroshot import ZeroShotClassifier

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.encoder import FloatArray

BATCH = 64  # pictures or texts at a time
TEXTS = 4096  # texts turned into trees at a time
# Trees computed together. On a processor few, so that what one layer hands the next stays in its cache:
# 8 gave 311 prompts/s where 64 gave 254 (ViT-B/32, two cores); on an accelerator many, to keep it busy.
TREES = {"cpu": 8}
MANY_TREES = 64


class TorchEncoder:
    """A model behind the contract; `diptych.load` makes one.

    Parameters
    ----------
    model : CLIP
        Used as it is: already on its device, in its precision.
    spec : ModelSpec
        The preprocessing and tokenizer that belong to it.
    tokenizer : Tokenizer, optional
        Made from the spec if not handed in.
    identity : str
        Of the weights and all that travels with them.
    batch_size : int
        Pictures or texts computed at a time.
    threads : int, optional
        Threads that resize pictures; by default one per core.
    on_long : {"cut", "refuse"}
        What becomes of a text over the model's length.

    Attributes
    ----------
    model : CLIP
        The torch module, with the signatures of open_clip's.
    """

    def __init__(
        self,
        model: CLIP,
        spec: ModelSpec,
        *,
        tokenizer: Tokenizer | None = None,
        identity: str = "unsaved",
        batch_size: int = BATCH,
        threads: int | None = None,
        on_long: OnLong = "cut",
    ) -> None:
        self.model, self.spec, self.identity = model, spec, identity
        self.tokenizer = tokenizer or load_tokenizer(spec.tokenizer)
        self.batch_size, self.threads, self.on_long = batch_size, threads, on_long

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int = BATCH,
        threads: int | None = None,
        on_long: OnLong = "cut",
    ) -> TorchEncoder:
        """An encoder from weights in memory; parameters as for `load`.

        `threads` is set for all of torch in this process.

        Raises
        ------
        WeightsError
            The weights do not fit the architecture beside them.
        """
        where = pick_device(device)
        dtype = pick_dtype(precision, where)
        if threads is not None:
            torch.set_num_threads(threads)
        model = build(checkpoint.spec.architecture, device="meta")
        whole = fit(checkpoint.spec.architecture, checkpoint.state, source=checkpoint.spec.name)
        state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in whole.items()}
        # The scale stays exact: a bfloat16 logarithm would be off by a hundredth.
        state |= {k: whole[k].float() for k in ("logit_scale", "logit_bias") if k in state}
        model.load_state_dict(state, assign=True)
        fill_buffers(model, torch.device("cpu"))
        model = model.to(where).eval().requires_grad_(False)
        if isinstance(checkpoint.spec.architecture.vision, ResNetConfig | TimmConfig):
            model.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(
            model,
            checkpoint.spec,
            tokenizer=load_tokenizer(checkpoint.spec.tokenizer, checkpoint.folder),
            identity=checkpoint.identity,
            batch_size=batch_size,
            threads=threads,
            on_long=on_long,
        )

    @property
    def dim(self) -> int:
        """Length of a row."""
        return self.spec.architecture.embed_dim

    @property
    def input_size(self) -> int:
        """Side of the square the model sees, pixels."""
        return self.spec.preprocess.size

    @property
    def logit_scale(self) -> float:
        """Factor on cosines, already exponentiated."""
        return self.model.logit_scale.float().exp().item()

    @property
    def logit_bias(self) -> float:
        """Added after the scale; 0 without a sigmoid loss."""
        return 0.0 if self.model.logit_bias is None else self.model.logit_bias.float().item()

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self._weight.device

    @property
    def precision(self) -> str:
        """What the model computes in: float32, bfloat16 or float16."""
        return str(self._weight.dtype).removeprefix("torch.")

    @property
    def _weight(self) -> Tensor:
        """One of the weights that have the model's device and precision, which the scale has not."""
        return next(self.model.visual.parameters())

    def encode_images(self, images: Sequence[Image]) -> FloatArray:
        """Decoded RGB pictures as unit rows, (N, dim) float32."""
        return self._over_images(images, self.model.encode_image, (self.dim,), unit=True)

    def prepare(self, image: Image) -> FloatArray:
        """One decoded RGB picture as `encode_prepared` takes it, (3, S, S) float32; safe in any thread."""
        return preprocess(image, self.spec.preprocess)

    def encode_prepared(self, prepared: Sequence[FloatArray]) -> FloatArray:
        """What `prepare` gave as unit rows, (N, dim) float32."""
        return self._over(prepared, np.stack, self.model.encode_image, (self.dim,), unit=True)

    def image_features(self, images: Sequence[Image]) -> FloatArray:
        """Decoded RGB pictures before the projection, (N, width) float32, not normalised."""
        return self._over_images(images, self.model.visual.features, (self.model.visual.feature_width,))

    def encode_patches(self, images: Sequence[Image]) -> FloatArray:
        """Decoded RGB pictures as grids of unit rows, (N, h, w, dim) float32."""
        vision = self.spec.architecture.vision
        if isinstance(vision, TimmConfig):
            raise InputError(
                f"{vision.model_name} is built by timm, which gives no vector for a single patch"
            )
        grid = vision.grid
        return self._over_images(
            images, self.model.visual.patch_embeddings, (grid, grid, self.dim), unit=True
        )

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Texts as unit rows, (N, dim) float32; common beginnings are computed once where that is exact."""
        rows = np.empty((len(texts), self.dim), np.float32)
        share = supports_prefix_trees(self.spec.architecture.text)
        step = TEXTS if share else self.batch_size
        # One call for all, so that texts that are too long are counted in one warning.
        tokens = torch.from_numpy(self.tokenizer(list(texts), on_long=self.on_long))
        for start in range(0, len(texts), step):
            part = tokens[start : start + step]
            found = (
                encode_with_prefix_trees(self.model, part, batch_size=TREES.get(self.device.type, MANY_TREES))
                if share
                else self.model.encode_text(part.to(self.device), normalize=True)
            )
            rows[start : start + step] = _unit(found)
        return rows

    def cost(self) -> EncoderCost:
        """Parameters, and operations of a forward pass as torch counts them on tensors without memory."""
        parameters = sum(weight.numel() for weight in self.model.parameters())
        try:
            shape = self.spec.architecture
            counted = cost(shape, shape.text.context_length)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):
            return EncoderCost(parameters)  # a tower of another library, which may need real tensors
        return EncoderCost(parameters, counted.picture, counted.text)

    def classifier(self, names: Sequence[str] | Mapping[str, Any], **options: Any) -> ZeroShotClassifier:
        """A zero-shot classifier for classes given in words.

        Parameters
        ----------
        names : sequence of str, or mapping
            As for `ZeroShotClassifier.fit`.
        **options
            As for `ZeroShotClassifier`: templates, multi_label, ...
        """
        return ZeroShotClassifier(self, **options).fit(names)

    def _over_images(
        self, images: Sequence[Image], function: Any, shape: tuple[int, ...], *, unit: bool = False
    ) -> FloatArray:
        ready = partial(preprocess_batch, config=self.spec.preprocess, threads=self.threads)
        return self._over(images, ready, function, shape, unit=unit)

    @torch.inference_mode()
    def _over(
        self, items: Sequence[Any], ready: Any, function: Any, shape: tuple[int, ...], *, unit: bool = False
    ) -> FloatArray:
        rows = np.empty((len(items), *shape), np.float32)
        dtype = self._weight.dtype
        for start in range(0, len(items), self.batch_size):
            pixels = ready(items[start : start + self.batch_size])  # (B, 3, S, S)
            with _full_float32(self.device):
                found = function(torch.from_numpy(pixels).to(self.device, dtype))
            rows[start : start + len(found)] = _unit(found) if unit else found.float().cpu().numpy()
        return rows

    def __repr__(self) -> str:
        return f"TorchEncoder({self.spec.name!r}, {self.dim} wide, {self.device}, {self.precision})"


@contextmanager
def _full_float32(device: torch.device) -> Iterator[None]:
    """Convolutions of float32 in float32: CUDA's would round to TensorFloat-32, with 10 bits."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _unit(rows: Tensor) -> FloatArray:
    """Rows of length one in float32, also where the model computes in half precision."""
    unit: FloatArray = torch.nn.functional.normalize(rows.float(), dim=-1).cpu().numpy()
    return unit
