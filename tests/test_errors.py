"""The exception hierarchy: which base classes a caller may catch."""

from __future__ import annotations

import inspect

import pytest

from diptych import errors
from diptych.errors import DiptychError

ALL = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]


@pytest.mark.parametrize("error", ALL)
def test_every_error_is_one_of_ours_and_documented(error: type[Exception]) -> None:
    assert issubclass(error, DiptychError)
    assert inspect.getdoc(error)
    assert str(error("what came")) == "what came"


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ImageError, ValueError),
        (errors.TextError, ValueError),
        (errors.DataError, ValueError),
        (errors.UnknownModelError, LookupError),
        (errors.DownloadError, OSError),
        (errors.NotFittedError, AttributeError),
        (errors.MissingExtraError, ImportError),
        (errors.SaveError, OSError),
    ],
)
def test_builtin_kin(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, builtin)


def test_a_wrong_checksum_is_a_weights_error() -> None:
    assert issubclass(errors.ChecksumError, errors.WeightsError)


def test_the_drawing_names_every_error() -> None:
    assert errors.__doc__ is not None
    for error in ALL:
        assert error.__name__ in errors.__doc__
