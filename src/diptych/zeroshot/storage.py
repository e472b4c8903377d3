"""The file of a saved classifier: safetensors, with everything that is not a number as JSON in its header.

Nothing in it is executed when read. It appears by atomic rename: whole or not at all. Whose vectors it holds,
and whether they fit an encoder, is the classifier's question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from diptych.errors import WeightsError
from diptych.files.disk import write_bytes
from diptych.zeroshot.labels import Label
from diptych.zeroshot.weights import ClassWeights

_KEY = "diptych.classifier"
_VERSION = 1


def save(path: Path, header: Mapping[str, Any], weights: ClassWeights) -> None:
    """Write the file; SaveError when there is no space or no permission."""
    labels = [asdict(label) for label in weights.labels]
    text = json.dumps({"version": _VERSION, **header, "labels": labels, "counts": weights.counts.tolist()})
    arrays = {"rows": weights.rows, "means": weights.means, "opponents": weights.opponents}
    # save() writes the memory as it lies: a transposed or cut view would come out scrambled.
    whole = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}
    data = safetensors_numpy.save(whole, metadata={_KEY: text})
    write_bytes(path, data)


def load(path: Path) -> tuple[dict[str, Any], ClassWeights]:
    """Header and weights; WeightsError when the file is not there or not a whole saved classifier."""
    try:
        data = path.read_bytes()
        arrays = safetensors_numpy.load(data)
        length = int.from_bytes(data[:8], "little")  # safetensors checked it while loading
        header: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_KEY])
        if header["version"] != _VERSION:
            raise ValueError(f"version {header['version']}, expected {_VERSION}: fit and save it again")
        return header, _weights(header, arrays)
    except FileNotFoundError:
        raise WeightsError(
            f"{path} is not there: expected a classifier saved by ZeroShotClassifier.save"
        ) from None
    except (OSError, SafetensorError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise WeightsError(f"{path} is not a saved classifier ({type(error).__name__}: {error})") from error


def _weights(header: Mapping[str, Any], arrays: Mapping[str, Any]) -> ClassWeights:
    """The learned state, checked against itself."""
    labels = tuple(Label(one["name"], tuple(one["texts"]), tuple(one["groups"])) for one in header["labels"])
    counts = np.array(header["counts"], dtype=np.intp)
    weights = ClassWeights(labels, arrays["rows"], counts, arrays["means"], arrays["opponents"])
    width = weights.means.shape[1]
    fits = len(counts) == len(weights.means) == len(labels) > 0 and (counts > 0).all()
    if not fits or weights.rows.shape != (counts.sum(), width) or weights.opponents.shape[1] != width:
        raise ValueError(
            f"{weights.rows.shape} rows and {weights.means.shape} means for {len(labels)} labels"
        )
    if len(weights.opponents) not in (0, len(labels)):
        raise ValueError(f"{len(weights.opponents)} opponents for {len(labels)} labels")
    return weights
