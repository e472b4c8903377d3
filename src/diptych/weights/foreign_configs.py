"""Read another project's config strictly: every key is understood, known to be harmless, or refused.

An ignored key could mean that the model gives other embeddings than it should.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from diptych.errors import WeightsError

LARGEST_JSON = 4 << 20  # bytes; configs have a few thousand, tables of weights some hundred thousand
_REQUIRED: Final = object()


class ConfigKeys:
    """Keys of a config, taken one by one; `finish` refuses the remaining ones.

    Parameters
    ----------
    values : mapping
        The config.
    where : str
        Name of the config in messages.

    Examples
    --------
    >>> keys = ConfigKeys({"width": 768, "mystery": 1}, "vision_cfg")
    >>> keys.integer("width", 512)
    768
    >>> keys.finish()
    Traceback (most recent call last):
        ...
    diptych.errors.WeightsError: vision_cfg.mystery = 1 is an unknown setting: it might change the \
embeddings, so the model is refused
    """

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, Mapping):
            raise WeightsError(f"{where} is {_short(values)}: expected a JSON object")
        self._left: dict[str, Any] = {str(key): value for key, value in values.items()}
        self._where = where

    def take(self, key: str, default: Any = _REQUIRED) -> Any:
        """Take the value of a key, or the default."""
        if key not in self._left and default is _REQUIRED:
            raise WeightsError(f"{self._where} lacks {key!r}")
        return self._left.pop(key, default)

    def has(self, key: str) -> bool:
        """Whether the config has the key with another value than null."""
        return self._left.get(key) is not None

    def integer(self, key: str, default: Any = _REQUIRED) -> int:
        """Take a whole number above 0; a square given as [n, n] counts as n."""
        value = self.take(key, default)
        if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
            raise self.refusal(key, value, "a whole number above 0")
        return value

    def token_id(self, key: str, default: Any = _REQUIRED) -> int:
        """Take a token id: a whole number, 0 included."""
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
            raise self.refusal(key, value, "a token id")
        return value

    def number(self, key: str, default: Any = _REQUIRED) -> float:
        """Take a finite number."""
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
            raise self.refusal(key, value, "a number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Take true or false; null counts as the default."""
        value = self.take(key, default)
        if value is not None and not isinstance(value, bool):
            raise self.refusal(key, value, "true or false")
        return default if value is None else value

    def choice(self, key: str, default: Any, valid: Collection[Any]) -> Any:
        """Take one of the valid values."""
        value = self.take(key, default)
        # Types are compared too: True == 1 in Python.
        if not any(type(value) is type(other) and value == other for other in valid):
            raise self.refusal(key, value, " or ".join(map(repr, valid)))
        return value

    def only(self, key: str, *valid: Any) -> None:
        """Refuse a key unless it is missing or has one of these values, which have no effect."""
        self.choice(key, valid[0], valid)

    def skip(self, *keys: str) -> None:
        """Ignore keys that have no effect whatever their value."""
        for key in keys:
            self._left.pop(key, None)

    def finish(self) -> None:
        """Refuse the remaining keys."""
        for key, value in self._left.items():
            raise WeightsError(
                f"{self._where}.{key} = {_short(value)} is an unknown setting: it might change the "
                "embeddings, so the model is refused"
            )

    def refusal(self, key: str, value: Any, expected: str) -> WeightsError:
        """Build the error for an unsupported value."""
        return WeightsError(f"{self._where}.{key} is {_short(value)}: expected {expected}")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises
    ------
    WeightsError
        The file is missing, too large, or contains something else.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise WeightsError(
                f"{path} has {path.stat().st_size:,} bytes: expected a JSON file of at most {LARGEST_JSON:,}"
            )
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}: expected a JSON object")
    return content


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
