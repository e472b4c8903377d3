"""Exceptions of this package.

DiptychError
├── InputError            an argument cannot be used (also a ValueError)
│   ├── ImageError        an image that is missing, damaged, too large or not an image
│   ├── TextError         texts that cannot be used: no labels, or over the context length and refused
│   └── DataError         a data set, shard or table that cannot be read
├── ModelError            a model that is not available or does not fit
│   ├── UnknownModelError no model, tag or preset has this name
│   ├── WeightsError      a checkpoint that cannot be read, or does not fit the architecture
│   │   └── ChecksumError wrong checksum or identity of a file
│   └── DownloadError     network access failed or is not allowed
├── NotFittedError        a classifier used before `fit`
├── CatalogError          a catalogue that cannot be opened, or belongs to another encoder
├── MissingExtraError     an optional dependency is not installed (also an ImportError)
├── TrainingError         a training run that cannot start, continue or be resumed
└── SaveError             a file that cannot be written: no space, no permission (also an OSError)

Every message says what was found, what was expected and how to fix it.
"""

from __future__ import annotations

from collections.abc import Iterable


class DiptychError(Exception):
    """Base class of all exceptions that this package raises on purpose.

    Examples
    --------
    >>> try:
    ...     raise ImageError("photo.jpg is empty (0 bytes): expected a picture")
    ... except DiptychError as error:
    ...     print(error)
    photo.jpg is empty (0 bytes): expected a picture
    """


class InputError(DiptychError, ValueError):
    """An argument or input that cannot be used."""


class ImageError(InputError):
    """An image that is missing, damaged, too large or not an image."""


class TextError(InputError):
    """A text or a list of labels that cannot be used."""


class DataError(InputError):
    """A data set, shard or table that cannot be read."""


class ModelError(DiptychError):
    """A model that is not available or does not fit."""


class UnknownModelError(ModelError, LookupError):
    """No model, tag or preset has this name; the message lists similar names."""


class WeightsError(ModelError):
    """A checkpoint that cannot be read, or does not fit the architecture."""


class ChecksumError(WeightsError):
    """A file whose checksum or identity is not the expected one."""


class DownloadError(ModelError, OSError):
    """Network access failed or is not allowed."""


class NotFittedError(DiptychError, AttributeError):
    """A classifier used before `fit`."""


class CatalogError(DiptychError):
    """A catalogue that cannot be opened, is damaged, or holds embeddings of another encoder."""


class MissingExtraError(DiptychError, ImportError):
    """An optional dependency is not installed; the message names the extra."""


class TrainingError(DiptychError):
    """A training run that cannot start, continue or be resumed."""


class SaveError(DiptychError, OSError):
    """A file that cannot be written."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """Format a number with its noun, singular or plural.

    Examples
    --------
    >>> counted(1, "file"), counted(2000, "file"), counted(1, "class", "classes")
    ('1 file', '2,000 files', '1 class')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def listed(names: Iterable[object], most: int = 10) -> str:
    """Quote the first few names, for a message.

    Examples
    --------
    >>> listed(["a", "b", "c"], 2), listed([])
    ("'a', 'b' and 1 more", 'none')
    """
    quoted = [repr(str(name)) for name in names]
    more = f" and {len(quoted) - most:,} more" if len(quoted) > most else ""
    return (", ".join(quoted[:most]) or "none") + more
