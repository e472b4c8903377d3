"""Groups of options that several commands share, declared once and expanded for typer.

A group is a frozen dataclass whose fields are options. A command declares one parameter of that type, and
`@with_group` puts the options in its place.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints


def with_group(*groups: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Expand parameters of a command that are option groups into one option for each of their fields.

    Parameters
    ----------
    *groups : str
        Names of parameters. The type of each is a dataclass in which every field has a default. Its options
        stand in ``--help`` where the parameter stands.

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
        kinds = {name: hints[name] for name in groups}
        parameters: list[inspect.Parameter] = []
        for name, parameter in inspect.signature(command).parameters.items():
            if name in kinds:
                parameters += _options_of(kinds[name])
            else:
                parameters.append(
                    parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
                )

        @functools.wraps(command)
        def expanded(**arguments: Any) -> None:
            # All groups first: an option may have the name of a group's parameter, as `page` above.
            values = {
                name: kind(**{f.name: arguments.pop(f.name, f.default) for f in fields(kind)})
                for name, kind in kinds.items()
            }
            command(**arguments, **values)

        expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return expanded

    return decorate


def _options_of(group: type) -> list[inspect.Parameter]:
    """The fields of a group as parameters, in the order in which they are declared."""
    annotations = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=annotations[field.name],
        )
        for field in fields(group)
    ]
