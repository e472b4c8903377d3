"""Optional dependencies: import them, or report what to install."""

from __future__ import annotations

import importlib
from types import ModuleType

from diptych.errors import MissingExtraError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, or raise an error that tells how to install it.

    Parameters
    ----------
    module : str
        Dotted name to import.
    extra : str
        The extra of this package that installs it.
    purpose : str
        Completes the sentence "MODULE is needed to ...".

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
        # An installed module that fails to import another module is broken, not a missing extra.
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise MissingExtraError(
            f"{error.name} is needed to {purpose} and is not installed. "
            f"Install it with: pip install 'diptych[{extra}]'"
        ) from error
