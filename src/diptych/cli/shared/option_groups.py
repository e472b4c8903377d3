"""Groups of options that several commands share, declared once and spelt out for typer.

A group is a frozen dataclass whose fields are options. A command declares one parameter of that type, and
`@with_group` puts the options in its place.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints


def with_group(parameter: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command take the fields of one of its parameters as options of its own.

    Parameters
    ----------
    parameter : str
        Its name; its type is a dataclass in which every field has a default. The options stand in ``--help``
        where it stands.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Page:
    ...     top: int = 20
    ...     page: int = 1
    >>> def show(query: str, page: Page = Page(), quiet: bool = False) -> None:
    ...     print(query, page.top, page.page, quiet)
    >>> show.__annotations__["page"] = Page
    >>> command = with_group("page")(show)
    >>> list(inspect.signature(command).parameters)
    ['query', 'top', 'page', 'quiet']
    >>> command(query="snow", page=3)
    snow 20 3 False
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        group = hints.pop(parameter)
        options = get_type_hints(group, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for name, own in inspect.signature(command).parameters.items():
            if name != parameter:
                parameters.append(own.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
                continue
            parameters += [
                inspect.Parameter(
                    one.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=one.default,
                    annotation=options[one.name],
                )
                for one in fields(group)
            ]

        @functools.wraps(command)
        def spread(**given: Any) -> None:
            chosen = group(**{one.name: given.pop(one.name, one.default) for one in fields(group)})
            command(**given, **{parameter: chosen})

        spread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        spread.__annotations__ = {one.name: one.annotation for one in parameters}
        return spread

    return decorate
