"""`--max-pixels`: the option of every command that decodes pictures, declared once."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

VARIABLE = "DIPTYCH_MAX_PIXELS"  # as in `diptych.media.sources`, which `--help` does not load

MaxPixels = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER",
        envvar=VARIABLE,
        help="Refuse pictures of more pixels, e.g. 500MP; by default 300MP. Each takes 4 bytes of memory.",
        show_default=False,
        show_envvar=False,
        rich_help_panel="Machine",
    ),
]


@contextlib.contextmanager
def picture_limit(max_pixels: str | None) -> Iterator[None]:
    """Inside, pictures of up to so many pixels are decoded, also by processes that are started there.

    Raises
    ------
    InputError
        No number of pixels.
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


def reads_pictures(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the option `--max-pixels`, which holds while it runs.

    Examples
    --------
    >>> @reads_pictures
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
    def limited(*given: Any, max_pixels: str | None = None, **named: Any) -> None:
        with picture_limit(max_pixels):
            command(*given, **named)

    limited.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    limited.__annotations__ = {one.name: one.annotation for one in parameters}
    return limited
