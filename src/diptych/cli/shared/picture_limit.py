"""`--max-pixels`, the option of every command that decodes pictures."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from diptych.cli.shared.options import option

VARIABLE = (
    "DIPTYCH_MAX_PIXELS"  # as in `diptych.media.sources`, which is not imported here: `--help` must stay fast
)

MaxPixels = Annotated[
    str | None,
    option(
        "NUMBER",
        "Refuse pictures with more pixels than this, e.g. 500MP (default 300MP). A pixel needs 4 bytes "
        "of memory.",
        envvar=VARIABLE,
        show_default=False,
        show_envvar=False,
        rich_help_panel="Machine",
    ),
]


@contextlib.contextmanager
def picture_limit(max_pixels: str | None) -> Iterator[None]:
    """Set the largest size of a picture that is decoded, also for processes started inside the block.

    Raises
    ------
    InputError
        Not a number of pixels.
    """
    if max_pixels is None:
        yield
        return
    from diptych.media.sources import read_pixels

    pixels, before = read_pixels(max_pixels), os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(pixels)
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def with_pixel_limit(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option `--max-pixels` to a command and apply it while the command runs.

    Examples
    --------
    >>> @with_pixel_limit
    ... def show(path: str) -> None:
    ...     print(path)
    >>> show(path="a.jpg", max_pixels="500MP")
    a.jpg
    >>> list(inspect.signature(show).parameters)
    ['path', 'max_pixels']
    """
    parameters = [
        *inspect.signature(command, eval_str=True).parameters.values(),
        inspect.Parameter("max_pixels", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=MaxPixels),
    ]

    @functools.wraps(command)
    def limited(*positional: Any, max_pixels: str | None = None, **named: Any) -> None:
        with picture_limit(max_pixels):
            command(*positional, **named)

    limited.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    limited.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return limited
