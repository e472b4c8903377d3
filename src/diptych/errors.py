"""What a caller may catch, drawn as a tree.

DiptychError
├── InputError            something handed in cannot be used (also a ValueError)
│   ├── ImageError        a picture that is missing, broken, too large or not a picture
│   ├── TextError         a text that cannot be used: no labels, over the limit and refused
│   └── DataError         a data set, shard or table that cannot be read as pairs
├── ModelError            a model that cannot be had or does not fit
│   ├── UnknownModelError no model, tag or preset of that name
│   ├── WeightsError      a checkpoint that cannot be read, or does not fit the architecture
│   │   └── ChecksumError bytes that are not the ones promised; a file whose identity does not hold
│   └── DownloadError     the network was needed and not there, or not allowed
├── NotFittedError        a classifier used before `fit`
├── CatalogError          a catalogue that cannot be opened, or does not belong to this encoder
├── MissingExtraError     an optional dependency is not installed (also an ImportError)
├── TrainingError         a run that cannot start, go on, or be resumed
└── SaveError             a file that could not be written: no space, no permission (also an OSError)

Every message says what came, what was expected and the way out. This module knows nothing of any other.
"""

from __future__ import annotations


class DiptychError(Exception):
    """Root of everything this package raises on purpose.

    Examples
    --------
    >>> try:
    ...     raise ImageError("photo.jpg is empty (0 bytes): expected a picture")
    ... except DiptychError as error:
    ...     print(error)
    photo.jpg is empty (0 bytes): expected a picture
    """


class InputError(DiptychError, ValueError):
    """Something handed in cannot be used."""


class ImageError(InputError):
    """A picture that is missing, broken, too large or not a picture."""


class TextError(InputError):
    """A text or a list of labels that cannot be used."""


class DataError(InputError):
    """A data set, shard or table that cannot be read as image-text pairs."""


class ModelError(DiptychError):
    """A model that cannot be had or does not fit."""


class UnknownModelError(ModelError, LookupError):
    """No model, tag or preset of that name; the message lists the near ones."""


class WeightsError(ModelError):
    """A checkpoint that cannot be read, or does not fit the architecture."""


class ChecksumError(WeightsError):
    """Bytes that are not the ones promised."""


class DownloadError(ModelError, OSError):
    """The network was needed and not there, or not allowed."""


class NotFittedError(DiptychError, AttributeError):
    """A classifier used before `fit`."""


class CatalogError(DiptychError):
    """A catalogue that cannot be opened, is damaged, or holds vectors of another encoder."""


class MissingExtraError(DiptychError, ImportError):
    """An optional dependency is not installed; the message names the extra."""


class TrainingError(DiptychError):
    """A run that cannot start, go on, or be resumed."""


class SaveError(DiptychError, OSError):
    """A file that could not be written."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun, for a message.

    Examples
    --------
    >>> counted(1, "file"), counted(2000, "file"), counted(1, "class", "classes")
    ('1 file', '2,000 files', '1 class')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
