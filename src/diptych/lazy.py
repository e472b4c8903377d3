"""Package attributes that are imported at first use (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_attributes(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package whose public names are in modules that are slow to import.

    Define it behind `if not TYPE_CHECKING`: a type checker that sees a `__getattr__` would accept any
    misspelt name.

    Parameters
    ----------
    package
        Full name of the package, its `__name__`.
    modules
        For each public name, the module inside the package that defines it.

    Returns
    -------
    Callable
        Imports the module of a name, stores the value in the package, so that each name is imported only
        once, and returns the value. It raises AttributeError for a name that is not in `modules`.

    Examples
    --------
    >>> getattr_of_reports = lazy_attributes("diptych.reports", {"Report": "report"})
    >>> getattr_of_reports("Report").__module__
    'diptych.reports.report'
    """

    def __getattr__(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"{package} has no {name!r}; it has {', '.join(modules)}")
        value = getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__
