"""File of a saved classifier: safetensors with the arrays, and JSON in its header.

Reading executes nothing. The file is written by atomic rename. Whether it fits an encoder is checked by
`ZeroShotClassifier.load`.
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
    # The file format has its own names for the arrays.
    arrays = {
        "rows": weights.text_embeddings,
        "means": weights.class_embeddings,
        "opponents": weights.negatives,
    }
    # safetensors writes the raw memory: a transposed or sliced view would be stored in the wrong order.
    whole = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}
    data = safetensors_numpy.save(whole, metadata={_KEY: text})
    write_bytes(path, data)


def load(path: Path) -> tuple[dict[str, Any], ClassWeights]:
    """Read header and weights; WeightsError if the file is missing or not a complete saved classifier."""
    try:
        data = path.read_bytes()
        arrays = safetensors_numpy.load(data)
        length = int.from_bytes(data[:8], "little")  # of the header; safetensors checked it while loading
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
    """Class weights from the arrays of a file; ValueError if their shapes contradict each other."""
    labels = tuple(
        Label(label["name"], tuple(label["texts"]), tuple(label["groups"])) for label in header["labels"]
    )
    counts = np.array(header["counts"], dtype=np.intp)
    weights = ClassWeights(labels, arrays["rows"], counts, arrays["means"], arrays["opponents"])
    width = weights.class_embeddings.shape[1]
    fits = len(counts) == len(weights.class_embeddings) == len(labels) > 0 and (counts > 0).all()
    texts_shape = weights.text_embeddings.shape
    if not fits or texts_shape != (counts.sum(), width) or weights.negatives.shape[1] != width:
        raise ValueError(
            f"{texts_shape} rows and {weights.class_embeddings.shape} means for {len(labels)} labels"
        )
    if len(weights.negatives) not in (0, len(labels)):
        raise ValueError(f"{len(weights.negatives)} opponents for {len(labels)} labels")
    return weights
