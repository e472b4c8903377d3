"""What was measured to be fastest for a model on this machine: kept in the user's cache. No torch.

Measuring is `choosing`'s work.
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

_NEEDED = ("onnx", "onnxscript", "onnxruntime")  # to convert and judge
_LIBRARIES = ("diptych", "torch", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Choice:
    """A runtime, its precision, and what it was chosen from.

    Attributes
    ----------
    runtime, precision : str
    rates : mapping
        Pictures per second of everything that was measured, by "runtime precision".
    """

    runtime: str
    precision: str
    rates: Mapping[str, float] = field(default_factory=dict)


def machine() -> dict[str, str]:
    """What a measurement holds for: processor, cores, whether there is a GPU, versions.

    Examples
    --------
    >>> sorted(machine())[:3]
    ['cores', 'cpu', 'diptych']
    """
    gpu = Path("/proc/driver/nvidia").exists() or Path("/dev/kfd").exists()
    versions = {name: _version(name) for name in _LIBRARIES}
    return {"cpu": _processor(), "cores": str(processors()), "gpu": "yes" if gpu else "no", **versions}


def measurable() -> bool:
    """Whether anything but torch is installed that could be chosen."""
    return all(importlib.util.find_spec(module) for module in _NEEDED)


def recorded(identity: str) -> Choice | None:
    """The choice for a model on a machine like this, if there is one."""
    for entry in _entries(identity):
        if entry.get("machine") == machine():
            try:
                return Choice(str(entry["runtime"]), str(entry["precision"]), dict(entry["rates"]))
            except (KeyError, TypeError, ValueError):
                return None
    return None


def record(identity: str, choice: Choice) -> None:
    """Keep a choice, in place of an earlier one for the same machine.

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
    """All that is kept for a model; nothing where the file cannot be read: it can be measured again."""
    try:
        held = json.loads(_file(identity).read_bytes())
    except (OSError, ValueError):
        return []
    return [entry for entry in held if isinstance(entry, dict)] if isinstance(held, list) else []


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # 20 ms, for "auto" alone

    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
