"""OpenVINO and NNCF, as guests: they neither report to their makers nor take over how signals are handled."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from types import ModuleType

from diptych.extras import require

_REPORTER = "openvino_telemetry"
_STACK_T = 24  # bytes of a stack_t on 64-bit Linux: pointer, flags, size


def intel(module: str, purpose: str) -> ModuleType:
    """OpenVINO or NNCF, without their reports to their makers.

    Both report through a module that they can do without: it is not there while they are imported. Their own
    ways to say no still leave a file with an id in the home folder.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    if module in sys.modules:
        return require(module, extra="openvino", purpose=purpose)
    before = {name: sys.modules.get(name) for name in (_REPORTER, f"{_REPORTER}.backend")}
    sys.modules.update(dict.fromkeys(before))  # type: ignore[arg-type] # None: taken for "not installed"
    try:
        return require(module, extra="openvino", purpose=purpose)
    finally:
        for name, held in before.items():
            if held is None:
                del sys.modules[name]
            else:
                sys.modules[name] = held


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Leave this thread the stack on which its signals are handled.

    OpenVINO's plugin for processors puts a stack of its own there, and frees it when the last of its models
    goes, in whatever thread that happens. The next Ctrl-C, which Python handles on that stack, then ends the
    process with a segmentation fault (seen with 2026.4).
    """
    if sys.platform != "linux":  # the only system on which it does so
        yield
        return
    system = ctypes.CDLL(None)
    before = ctypes.create_string_buffer(_STACK_T)
    system.sigaltstack(None, before)
    try:
        yield
    finally:
        system.sigaltstack(before, None)
