"""Records of the fastest runtime of a model on this machine, in the user's cache. No torch.

`runtime_choice` measures them.
"""

from __future__ import annotations

import importlib.util
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diptych.files.disk import user_cache, write_bytes
from diptych.inputs import processors

_NEEDED = ("onnx", "onnxscript", "onnxruntime")  # to convert and to compare
_LIBRARIES = ("diptych", "torch", "onnxruntime", "openvino")


@dataclass(frozen=True)
class RuntimeChoice:
    """The fastest runtime and precision, and all measured rates.

    Attributes
    ----------
    rates : mapping
        Images per second by "runtime precision". Empty if the model cannot be converted.
    """

    runtime: str
    precision: str
    rates: Mapping[str, float] = field(default_factory=dict)


def machine() -> dict[str, str]:
    """Describe the machine for which a measurement is valid: processor, cores, GPU, versions.

    Examples
    --------
    >>> sorted(machine())[:3]
    ['cores', 'cpu', 'diptych']
    """
    gpu = Path("/proc/driver/nvidia").exists() or Path("/dev/kfd").exists()
    versions = {name: _version(name) for name in _LIBRARIES}
    return {"cpu": _processor(), "cores": str(processors()), "gpu": "yes" if gpu else "no", **versions}


def measurable() -> bool:
    """Whether another runtime than torch is installed that could be chosen."""
    return all(importlib.util.find_spec(module) for module in _NEEDED)


def read_choice(identity: str) -> RuntimeChoice | None:
    """Read the choice for a model on a machine like this; None if there is none."""
    for entry in _entries(identity):
        if entry.get("machine") == machine():
            try:
                return RuntimeChoice(str(entry["runtime"]), str(entry["precision"]), dict(entry["rates"]))
            except (KeyError, TypeError, ValueError):
                return None
    return None


def write_choice(identity: str, choice: RuntimeChoice) -> None:
    """Store a choice; it replaces an earlier one for the same machine.

    Raises
    ------
    SaveError
        The cache cannot be written.
    """
    here = machine()
    others = [entry for entry in _entries(identity) if entry.get("machine") != here]
    text = json.dumps([*others, {"machine": here, **asdict(choice)}], indent=2)
    write_bytes(_file(identity), text.encode())


def _file(identity: str) -> Path:
    return user_cache() / "runtimes" / f"{identity.removeprefix('sha256:')[:24]}.json"


def _entries(identity: str) -> list[dict[str, Any]]:
    """All records of a model. None if the file cannot be read, as they can be measured again."""
    try:
        entries = json.loads(_file(identity).read_bytes())
    except (OSError, ValueError):
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # takes 20 ms, needed for "auto" only

    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _processor() -> str:
    """Name of the processor, from Linux or Python."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
