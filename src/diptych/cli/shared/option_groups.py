"""Groups of options as one parameter of a command, expanded for typer.

A group is a frozen dataclass whose fields are options. A command declares a parameter of that type, and
`@with_groups` puts the options in its place.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Expand each parameter of a command that is a group into one option for each field of the group.

    Every field needs a default. The options stand in ``--help`` where the parameter stands.

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
    >>> command = with_groups(show)
    >>> list(inspect.signature(command).parameters)
    ['query', 'top', 'page', 'quiet']
    >>> command(query="snow", page=3)
    snow 20 3 False
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            options = get_type_hints(groups[name], include_extras=True)
            parameters += [_keyword(f.name, f.default, options[f.name]) for f in fields(groups[name])]
        else:
            parameters.append(_keyword(name, parameter.default, hints[name]))

    @functools.wraps(command)
    def expanded(**arguments: Any) -> None:
        # All groups first: an option may have the name of a group's parameter, as `page` above.
        values = {
            name: group(**{f.name: arguments.pop(f.name, f.default) for f in fields(group)})
            for name, group in groups.items()
        }
        command(**arguments, **values)

    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return expanded


def _keyword(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
