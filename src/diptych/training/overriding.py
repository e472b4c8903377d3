"""Change fields of nested frozen dataclasses by texts: `key=value` and `key.field=value`."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import typing
from collections.abc import Sequence
from typing import Any, Literal

from diptych.errors import InputError


def override(config: Any, assignments: Sequence[str]) -> Any:
    """A copy of a dataclass with fields changed; see `TrainConfig.override`.

    Raises
    ------
    InputError
        There is no such field (similar ones are listed), or the value has another type.
    """
    # Collected first and set together, so that fields that constrain each other may come in any order.
    changes: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"{text!r} is not an assignment: expected key=value, such as epochs=3")
        _collect(config, key.strip().split("."), value.strip(), key, changes)
    try:
        return _apply(config, changes)
    except (ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{', '.join(assignments)} cannot be set: {error}") from error


def _collect(config: Any, path: list[str], text: str, key: str, changes: dict[str, Any]) -> None:
    """Add the new value of the field at `path` to the (nested) changes."""
    names = [f.name for f in dataclasses.fields(config)]
    if path[0] not in names:
        similar = difflib.get_close_matches(path[0], names, n=3)
        way_out = f"did you mean: {', '.join(similar)}?" if similar else f"the fields are {', '.join(names)}"
        raise InputError(f"no field {key!r} to set; {way_out}")
    old = getattr(config, path[0])
    if len(path) > 1:
        if not dataclasses.is_dataclass(old):
            raise InputError(f"{path[0]!r} has no fields, so {key!r} cannot be set")
        _collect(old, path[1:], text, key, changes.setdefault(path[0], {}))
        return
    kind = typing.get_type_hints(type(config))[path[0]]
    changes[path[0]] = _parse(kind, old, text, key)


def _apply(config: Any, changes: dict[str, Any]) -> Any:
    nested = {name: _apply(getattr(config, name), v) for name, v in changes.items() if isinstance(v, dict)}
    return dataclasses.replace(config, **{**changes, **nested})


def _parse(kind: Any, old: Any, text: str, key: str) -> Any:
    """Parse a text as the type of a field."""
    if isinstance(old, bool):
        if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise InputError(f"{key} takes true or false, not {text!r}")
        return text.lower() in ("true", "1", "yes")
    if typing.get_origin(kind) is Literal:
        if text not in typing.get_args(kind):
            raise InputError(f"{key} is one of {', '.join(typing.get_args(kind))}, not {text!r}")
        return text
    if isinstance(old, str) or kind is str:
        return text
    if dataclasses.is_dataclass(old):
        if key == "model":
            return text
        raise InputError(f"{key} cannot be set as a whole on the command line: set its fields")
    try:
        value = ast.literal_eval(text)
        if isinstance(old, int) or (
            old is None and int in typing.get_args(kind)
        ):  # int | None: may be left out
            return _integer(value)
        return float(value) if old is None else type(old)(value)
    except (ValueError, SyntaxError, TypeError) as error:
        raise InputError(
            f"{key} takes a value such as {old!r} ({type(old).__name__}), not {text!r}"
        ) from error


def _integer(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value:
        raise ValueError(value)
    return int(value)
