"""Optional dependencies: import them, or say what to install. Knows no particular one."""

from __future__ import annotations

import importlib
from types import ModuleType

from diptych.errors import MissingExtraError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, or raise the one message that says how to get it.

    Parameters
    ----------
    module : str
        Dotted name to import.
    extra : str
        The extra of this package that brings it, named after the room that asks.
    purpose : str
        What it is needed for, as the object of "is needed to".

    Raises
    ------
    MissingExtraError
        The module is not installed.

    Examples
    --------
    >>> require("json", extra="training", purpose="read tables").__name__
    'json'
    >>> require("no_such_module", extra="training", purpose="read Parquet tables")
    Traceback (most recent call last):
        ...
    diptych.errors.MissingExtraError: no_such_module is needed to read Parquet tables and is not \
installed. Install it with: pip install 'diptych[training]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module that is there but lacks a part of its own is a broken installation, not a missing extra.
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise MissingExtraError(
            f"{error.name} is needed to {purpose} and is not installed. "
            f"Install it with: pip install 'diptych[{extra}]'"
        ) from error
