"""The file of a saved classifier: safetensors, with everything that is not a number as JSON in its header.

Nothing in it is executed when read. It appears by atomic rename: whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from diptych.errors import SaveError, WeightsError

_KEY = "diptych.classifier"
_VERSION = 1
_LARGEST_HEADER = 100_000_000  # bytes; safetensors' own limit


def write(path: Path, header: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Write the file; SaveError when there is no space, no folder or no permission."""
    text = json.dumps({"version": _VERSION, **header}, ensure_ascii=False)
    data = safetensors_numpy.save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata={_KEY: text}
    )
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise SaveError(
            f"the classifier could not be saved as {path} ({error.strerror or error}): {len(data):,} bytes "
            "are needed in a folder that exists and may be written to"
        ) from error


def read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Header and arrays; WeightsError when the file is not there or not a saved classifier."""
    try:
        data = path.read_bytes()
        arrays = safetensors_numpy.load(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + min(length, _LARGEST_HEADER)]).get("__metadata__", {})
        header = json.loads(metadata[_KEY])
    except FileNotFoundError:
        raise WeightsError(
            f"{path} is not there: expected a classifier saved by ZeroShotClassifier.save"
        ) from None
    except (
        OSError,
        SafetensorError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        RecursionError,
    ) as error:
        raise WeightsError(f"{path} is not a saved classifier ({type(error).__name__}: {error})") from error
    if not isinstance(header, dict) or header.get("version") != _VERSION:
        raise WeightsError(
            f"{path} is a saved classifier of another version: expected {_VERSION}; fit and save it again"
        )
    return header, arrays
