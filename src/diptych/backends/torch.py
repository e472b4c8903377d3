"""Encoder on torch: images and texts to normalised embeddings (`diptych.encoder` has the contract).

It combines model, preprocessing and tokenizer, and determines device, precision, batch size, and whether
texts share their prefixes. `diptych.weights` finds weights; `diptych.embedding.batches` handles files and
failures.
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
from diptych.model.config import EfficientNetConfig, ResNetConfig, TimmConfig
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

BATCH = 64  # images or texts per forward pass
TEXTS = 4096  # texts arranged as prefix trees at a time
# Trees per forward pass. Few on a CPU, so that activations stay in its cache: 8 gave 311 prompts/s where 64
# gave 254 (ViT-B/32, two cores). Many on an accelerator, to keep it busy.
TREES = {"cpu": 8}
MANY_TREES = 64


class TorchEncoder:
    """Encoder on torch; `diptych.load` opens one.

    Parameters
    ----------
    model : CLIP
        The model, on its device and in its precision.
    spec : ModelSpec
        Specification with preprocessing and tokenizer.
    tokenizer : Tokenizer, optional
        By default created from the spec.
    identity : str
        Identity of the checkpoint.
    batch_size : int
        Images or texts per forward pass.
    threads : int, optional
        Threads that resize images; by default one per core.
    on_long : {"cut", "refuse"}
        What to do with a text that is too long.

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
        """Build an encoder from a checkpoint; parameters as for `load`.

        `threads` is set for all of torch in this process.

        Raises
        ------
        WeightsError
            The weights do not fit the architecture.
        """
        torch_device = pick_device(device)
        dtype = pick_dtype(precision, torch_device)
        if threads is not None:
            torch.set_num_threads(threads)
        model = build(checkpoint.spec.architecture, device="meta")
        checked = fit(checkpoint.spec.architecture, checkpoint.state, source=checkpoint.spec.name)
        state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in checked.items()}
        # The scale stays in float32: its logarithm in bfloat16 would change it by about one percent.
        state |= {k: checked[k].float() for k in ("logit_scale", "logit_bias") if k in state}
        model.load_state_dict(state, assign=True)
        fill_buffers(model, torch.device("cpu"))
        model = model.to(torch_device).eval().requires_grad_(False)
        if isinstance(checkpoint.spec.architecture.vision, ResNetConfig | EfficientNetConfig | TimmConfig):
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
        """Width of the embeddings."""
        return self.spec.architecture.embed_dim

    @property
    def input_size(self) -> int:
        """Side of the square input image, pixels."""
        return self.spec.preprocess.size

    @property
    def logit_scale(self) -> float:
        """Factor on cosine similarities, already exponentiated."""
        return self.model.logit_scale.float().exp().item()

    @property
    def logit_bias(self) -> float:
        """Bias added after the scale; 0 unless trained with the sigmoid loss."""
        return 0.0 if self.model.logit_bias is None else self.model.logit_bias.float().item()

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self._weight.device

    @property
    def precision(self) -> str:
        """Precision of the model: float32, bfloat16 or float16."""
        return str(self._weight.dtype).removeprefix("torch.")

    @property
    def _weight(self) -> Tensor:
        """A weight with the model's precision, which the logit scale does not have."""
        return next(self.model.visual.parameters())

    def encode_images(self, images: Sequence[Image]) -> FloatArray:
        """Embed decoded RGB images, (N, dim) float32, normalised."""
        return self._encode_image_batches(images, self.model.encode_image, (self.dim,), unit=True)

    def prepare(self, image: Image) -> FloatArray:
        """Preprocess a decoded RGB image for `encode_prepared`, (3, S, S) float32; thread-safe."""
        return preprocess(image, self.spec.preprocess)

    def encode_prepared(self, prepared: Sequence[FloatArray]) -> FloatArray:
        """Embed images from `prepare`, (N, dim) float32, normalised."""
        return self._encode_batches(prepared, np.stack, self.model.encode_image, (self.dim,), unit=True)

    def image_features(self, images: Sequence[Image]) -> FloatArray:
        """Image features before the projection, (N, width) float32, not normalised."""
        return self._encode_image_batches(
            images, self.model.visual.features, (self.model.visual.feature_width,)
        )

    def encode_patches(self, images: Sequence[Image]) -> FloatArray:
        """Patch embeddings of decoded RGB images, (N, h, w, dim) float32, normalised."""
        vision = self.spec.architecture.vision
        if isinstance(vision, TimmConfig):
            raise InputError(
                f"{vision.model_name} is built by timm, which has no embeddings of single patches"
            )
        grid = vision.grid
        return self._encode_image_batches(
            images, self.model.visual.patch_embeddings, (grid, grid, self.dim), unit=True
        )

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts, (N, dim) float32, normalised; with causal attention common prefixes are shared."""
        embeddings = np.empty((len(texts), self.dim), np.float32)
        use_trees = supports_prefix_trees(self.spec.architecture.text)
        step = TEXTS if use_trees else self.batch_size
        # One call for all texts, so that those that are too long are counted in one warning.
        tokens = torch.from_numpy(self.tokenizer(list(texts), on_long=self.on_long))  # (N, L)
        trees = TREES.get(self.device.type, MANY_TREES)
        for start in range(0, len(texts), step):
            batch = tokens[start : start + step]
            batch_embeddings = (
                encode_with_prefix_trees(self.model, batch, batch_size=trees)
                if use_trees
                else self.model.encode_text(batch.to(self.device), normalize=True)
            )
            embeddings[start : start + step] = _normalize(batch_embeddings)
        return embeddings

    def cost(self) -> EncoderCost:
        """Number of parameters, and operations of a forward pass, counted on the meta device."""
        parameters = sum(weight.numel() for weight in self.model.parameters())
        try:
            shape = self.spec.architecture
            counted = cost(shape, shape.text.context_length)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):
            return EncoderCost(parameters)  # towers of timm may not run on the meta device
        return EncoderCost(parameters, counted.picture, counted.text)

    def classifier(self, names: Sequence[str] | Mapping[str, Any], **options: Any) -> ZeroShotClassifier:
        """Fit a zero-shot classifier to class names; `options` are those of `ZeroShotClassifier`."""
        return ZeroShotClassifier(self, **options).fit(names)

    def _encode_image_batches(
        self, images: Sequence[Image], encode: Any, shape: tuple[int, ...], *, unit: bool = False
    ) -> FloatArray:
        prepare = partial(preprocess_batch, config=self.spec.preprocess, threads=self.threads)
        return self._encode_batches(images, prepare, encode, shape, unit=unit)

    @torch.inference_mode()
    def _encode_batches(
        self, items: Sequence[Any], prepare: Any, encode: Any, shape: tuple[int, ...], *, unit: bool = False
    ) -> FloatArray:
        """Apply `encode` to batches of items, which `prepare` turns into pixels; `shape` is an output's."""
        outputs = np.empty((len(items), *shape), np.float32)
        dtype = self._weight.dtype
        for start in range(0, len(items), self.batch_size):
            pixels = prepare(items[start : start + self.batch_size])  # (B, 3, S, S)
            with _full_float32(self.device):
                batch = encode(torch.from_numpy(pixels).to(self.device, dtype))
            outputs[start : start + len(batch)] = _normalize(batch) if unit else batch.float().cpu().numpy()
        return outputs

    def __repr__(self) -> str:
        return f"TorchEncoder({self.spec.name!r}, {self.dim} wide, {self.device}, {self.precision})"


@contextmanager
def _full_float32(device: torch.device) -> Iterator[None]:
    """Compute float32 convolutions in float32; CUDA's default is TensorFloat-32, with 10 bits of mantissa."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _normalize(embeddings: Tensor) -> FloatArray:
    """Normalise embeddings in float32, also those of a model in half precision."""
    normalized: FloatArray = torch.nn.functional.normalize(embeddings.float(), dim=-1).cpu().numpy()
    return normalized
