"""A run that learned labels (objective "classes"), as a callable from pictures to scores.

It is what evaluation calls a `Scorer`: no encoder, for it has no texts. The head is kept in the run's
checkpoint, beside the tower it was trained with, so the last state of the run is what answers.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diptych.errors import ModelError, TrainingError, WeightsError
from diptych.inputs import preprocess_batch
from diptych.model.devices import pick_device
from diptych.model.initialise import build
from diptych.model.timm_trunk import fill_buffers
from diptych.training.checkpoints import checkpoint
from diptych.training.data.order import hash_keys
from diptych.training.objectives.predicting import Classification
from diptych.weights import ModelSpec, load_checkpoint

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.encoder import FloatArray

BATCH = 64


class SupervisedScorer:
    """A tower with its head; `load_supervised` makes one.

    Parameters
    ----------
    trained : Classification
        On its device.
    spec : ModelSpec
        The preprocessing that belongs to it.
    columns : sequence of int
        Of the head, in the order that scores are to have.
    identity : str
    batch_size : int
    threads : int, optional
        That resize pictures.
    """

    precision = "float32"

    def __init__(
        self,
        trained: Classification,
        spec: ModelSpec,
        columns: Sequence[int],
        *,
        identity: str = "unsaved",
        batch_size: int = BATCH,
        threads: int | None = None,
    ) -> None:
        self.trained, self.spec, self.columns = trained.eval(), spec, list(columns)
        self.identity, self.batch_size, self.threads = identity, batch_size, threads

    @property
    def input_size(self) -> int:
        """Side of the square the model sees, pixels."""
        return self.spec.preprocess.size

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image]) -> FloatArray:
        """Decoded RGB pictures as logits, (N, C) float32."""
        rows = np.empty((len(images), len(self.columns)), np.float32)
        device = self.trained.head.weight.device
        for start in range(0, len(images), self.batch_size):
            part = images[start : start + self.batch_size]
            pixels = torch.from_numpy(preprocess_batch(part, self.spec.preprocess, threads=self.threads))
            pixels = pixels.to(device).contiguous(memory_format=torch.channels_last)
            rows[start : start + len(part)] = self.trained.score(pixels)[:, self.columns].cpu().numpy()
        return rows


def supervised_classes(folder: str | Path) -> tuple[str, ...]:
    """The labels that a run learned; empty for a run of another objective, or for what is no run."""
    if not (Path(folder) / checkpoint.FILE).is_file():
        return ()
    try:
        _, config, _ = checkpoint.read(Path(folder))
    except TrainingError:
        return ()
    return _classes(config)


def load_supervised(
    folder: str | Path,
    class_names: Sequence[str],
    *,
    device: str = "auto",
    batch_size: int = BATCH,
    threads: int | None = None,
) -> SupervisedScorer:
    """Open a run of the objective "classes" as a scorer.

    Parameters
    ----------
    folder : path
        Of the run.
    class_names : sequence of str
        What the columns of scores are to be: some of the labels it learned, in the data set's order.
    device, batch_size, threads
        As for `load`.

    Returns
    -------
    SupervisedScorer

    Raises
    ------
    WeightsError
        No such run, of another objective, or a label it has not learned.
    """
    home = Path(folder)
    if not (home / checkpoint.FILE).is_file():
        raise WeightsError(f"{home} holds no {checkpoint.FILE}: expected the folder of a run")
    try:
        state, config, _ = checkpoint.read(home)
    except TrainingError as error:
        raise WeightsError(str(error)) from error
    known = _classes(config)
    if not known:
        raise WeightsError(
            f"{home} is a run of the objective {config.get('objective')}: only 'classes' has a head for "
            "labels; diptych.load opens the others"
        )
    if missing := [name for name in class_names if name not in known]:
        raise WeightsError(
            f"{home} has not learned {', '.join(map(repr, missing[:5]))}; it learned "
            f"{', '.join(map(repr, known[:20]))}"
        )
    trained, spec = _trained(home, state.tensors)
    columns = torch.searchsorted(trained.classes, _numbers(class_names))  # type: ignore[arg-type]
    where = pick_device(device)
    trained.to(where).model.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if threads is not None:
        torch.set_num_threads(threads)
    told = f"{_hash(trained.state_dict())}:{','.join(class_names)}:{spec.preprocess}"
    identity = f"sha256:{hashlib.sha256(told.encode()).hexdigest()}"
    return SupervisedScorer(
        trained, spec, columns.tolist(), identity=identity, batch_size=batch_size, threads=threads
    )


def _classes(config: Mapping[str, str]) -> tuple[str, ...]:
    """Labels, as the checkpoint tells its config."""
    if config.get("objective") != repr("classes"):
        return ()
    return tuple(ast.literal_eval(config["classes"]))


def _numbers(names: Sequence[str]) -> torch.Tensor:
    return torch.from_numpy(hash_keys(names).view(np.int64).copy())


def _trained(folder: Path, tensors: Mapping[str, Any]) -> tuple[Classification, ModelSpec]:
    """The averaged weights if there are any, with the shape that the kept model has."""
    state = tensors.get("average", tensors.get("model"))
    try:
        spec = load_checkpoint(folder).spec
        if state is None:
            raise WeightsError("its weights are in pieces of several processes")
        model = build(spec.architecture, device="meta")
        trained = Classification(model, torch.empty_like(state["classes"]))
        trained.load_state_dict(state, assign=True)
        fill_buffers(model, torch.device("cpu"))
    except (RuntimeError, KeyError, ModelError) as error:
        raise WeightsError(f"{folder} cannot be opened as a classifier of pictures: {error}") from error
    return trained.requires_grad_(False), spec


def _hash(state: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
