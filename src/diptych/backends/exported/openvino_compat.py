"""Import OpenVINO and NNCF without telemetry, and keep this thread's signal stack while OpenVINO runs."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from types import ModuleType

from diptych.extras import require

_TELEMETRY_MODULE = "openvino_telemetry"
_STACK_T_SIZE = 24  # bytes of a stack_t on 64-bit Linux: pointer, flags, size


def import_intel_library(module: str, purpose: str) -> ModuleType:
    """Import OpenVINO or NNCF without their telemetry.

    Both import the telemetry module only if it is installed, so it is hidden while they are imported. Their
    own opt-outs still write a file with an id to the home folder.

    Raises
    ------
    MissingExtraError
        The library is not installed.
    """
    if module in sys.modules:
        return require(module, extra="openvino", purpose=purpose)
    before = {name: sys.modules.get(name) for name in (_TELEMETRY_MODULE, f"{_TELEMETRY_MODULE}.backend")}
    sys.modules.update(dict.fromkeys(before))  # type: ignore[arg-type] # None makes the import fail
    try:
        return require(module, extra="openvino", purpose=purpose)
    finally:
        for name, original in before.items():
            if original is None:
                del sys.modules[name]
            else:
                sys.modules[name] = original


@contextlib.contextmanager
def preserved_signal_stack() -> Iterator[None]:
    """Restore this thread's alternate signal stack on exit.

    OpenVINO's CPU plugin installs a stack of its own, and frees it when its last model is deleted, in
    whatever thread that happens. The next Ctrl-C, which Python handles on that stack, then ends the process
    with a segmentation fault (observed with 2026.4).
    """
    if sys.platform != "linux":  # the plugin does so on Linux only
        yield
        return
    system = ctypes.CDLL(None)
    before = ctypes.create_string_buffer(_STACK_T_SIZE)
    system.sigaltstack(None, before)
    try:
        yield
    finally:
        system.sigaltstack(before, None)
