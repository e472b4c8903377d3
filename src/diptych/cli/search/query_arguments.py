"""Parse a command line whose arguments are a query: `-people` is a query word, not five short options.

As in a search engine, a minus in front of a word excludes it. Words that can only be options stay options,
wherever they stand; all others become words of the query.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from typer.core import TyperCommand, TyperOption

_PATH_STARTS = ("/", "./", "../", "~/")


class QueryCommand(TyperCommand):
    """A typer command whose arguments are a query."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move the words of the query behind ``--``, then parse as usual."""
        option_args, words = split_query(args, self.get_params(ctx))
        return super().parse_args(ctx, [*option_args, "--", *words] if words else option_args)


def split_query(args: Sequence[str], parameters: Iterable[Any]) -> tuple[list[str], list[str]]:
    """Separate options with their values from the words of the query; both keep their order.

    A word that begins with one dash is an option where it is one short option, several flags together
    (``-p0``), or a short option with a number or a path right behind it (``-k5``, ``-c./catalog``). Any other
    word of two or more characters belongs to the query. An unknown single letter (``-n``) and an unknown
    word with two dashes stay options and are refused later: they are typing errors. Everything after ``--``
    is query.

    Parameters
    ----------
    args : sequence of str
    parameters : iterable of typer parameters
        The parameters of the command.

    Returns
    -------
    (list of str, list of str)
        Options with their values, and words of the query.

    Examples
    --------
    >>> from typer.main import get_command
    >>> from diptych.cli.main import app
    >>> search = get_command(app).commands["search"]
    >>> split_query(["beach", "-people", "-k", "5", "-p", "+", "sea"], search.params)
    (['-k', '5', '-p'], ['beach', '-people', '+', 'sea'])
    """
    by_name = {
        name: option for option in parameters if isinstance(option, TyperOption) for name in option.opts
    }
    by_name |= {name: option for option in by_name.values() for name in option.secondary_opts}
    option_args: list[str] = []
    words: list[str] = []
    remaining = iter(args)
    for arg in remaining:
        if arg == "--":
            words += remaining
        elif not _is_option(arg, by_name):
            words.append(arg)
        else:
            option_args.append(arg)
            option = by_name.get(arg)  # None for `--top=5`, which holds its value
            if option is not None and _takes_value(option):
                option_args += [value for value in [next(remaining, None)] if value is not None]
    return option_args, words


def _is_option(arg: str, by_name: dict[str, TyperOption]) -> bool:
    if not arg.startswith("-") or arg == "-":
        return False
    if arg.startswith("--") or len(arg) == 2:
        # "-5" and "-é" are never options, so they are words; an unknown "-n" is a typing error.
        return arg.startswith("--") or (arg[1].isascii() and arg[1].isalpha()) or arg in by_name
    flags = arg[1:]
    while flags and (option := by_name.get(f"-{flags[0]}")) is not None:
        if _takes_value(option):
            value = flags[1:]
            return value.isdecimal() or value.startswith(_PATH_STARTS)
        flags = flags[1:]
    return not flags


def _takes_value(option: TyperOption) -> bool:
    return not option.is_flag and option.nargs != 0
