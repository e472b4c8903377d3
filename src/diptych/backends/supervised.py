"""Supervised classifiers: training runs with the objective "classes", as callables from images to scores.

Evaluation calls this a `Scorer`. It is not an encoder, because it has no text tower. The head is only in the
run's checkpoint, with its image tower, so the last state of the run is used.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diptych.errors import ModelError, TrainingError, WeightsError, listed
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
    """Image tower with a classification head; `load_supervised` opens one.

    Parameters
    ----------
    trained : Classification
        The trained module, on its device.
    spec : ModelSpec
        Specification with the preprocessing.
    columns : sequence of int
        Columns of the head, in the order of the scores.
    threads : int, optional
        Threads that resize images.
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
        """Side of the square input image, pixels."""
        return self.spec.preprocess.size

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image]) -> FloatArray:
        """Logits of decoded RGB images, (N, C) float32."""
        logits = np.empty((len(images), len(self.columns)), np.float32)
        device = self.trained.head.weight.device
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            pixels = torch.from_numpy(preprocess_batch(batch, self.spec.preprocess, threads=self.threads))
            pixels = pixels.to(device).contiguous(memory_format=torch.channels_last)  # (B, 3, S, S)
            logits[start : start + len(batch)] = self.trained.score(pixels)[:, self.columns].cpu().numpy()
        return logits


def supervised_classes(folder: str | Path) -> tuple[str, ...]:
    """Labels that a run was trained on; empty for a run of another objective or another folder."""
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
        Folder of the run.
    class_names : sequence of str
        Labels of the columns of the scores: some of those that the run was trained on, in any order.
    device, batch_size, threads
        As for `load`.

    Raises
    ------
    WeightsError
        There is no such run, it has another objective, or was not trained on one of the labels.
    """
    run_folder = Path(folder)
    if not (run_folder / checkpoint.FILE).is_file():
        raise WeightsError(f"{run_folder} holds no {checkpoint.FILE}: expected the folder of a run")
    try:
        state, config, _ = checkpoint.read(run_folder)
    except TrainingError as error:
        raise WeightsError(str(error)) from error
    known = _classes(config)
    if not known:
        raise WeightsError(
            f"{run_folder} is a run of the objective {config.get('objective')}: only 'classes' has a head "
            "for labels; diptych.load opens the others"
        )
    if missing := [name for name in class_names if name not in known]:
        raise WeightsError(
            f"{run_folder} has not learned {listed(missing, 5)}; it learned {listed(known, 20)}"
        )
    trained, spec = _load_trained(run_folder, state.tensors)
    columns = torch.searchsorted(trained.classes, _numbers(class_names))  # type: ignore[arg-type]
    resolved_device = pick_device(device)
    trained.to(resolved_device).model.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if threads is not None:
        torch.set_num_threads(threads)
    content = f"{_hash(trained.state_dict())}:{','.join(class_names)}:{spec.preprocess}"
    identity = f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"
    return SupervisedScorer(
        trained, spec, columns.tolist(), identity=identity, batch_size=batch_size, threads=threads
    )


def _classes(config: Mapping[str, str]) -> tuple[str, ...]:
    """Labels from the config in the checkpoint, whose values are texts of Python literals."""
    if config.get("objective") != repr("classes"):
        return ()
    return tuple(ast.literal_eval(config["classes"]))


def _numbers(names: Sequence[str]) -> torch.Tensor:
    return torch.from_numpy(hash_keys(names).view(np.int64).copy())


def _load_trained(folder: Path, tensors: Mapping[str, Any]) -> tuple[Classification, ModelSpec]:
    """Build the classifier with the averaged weights if there are any, else the last ones."""
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
