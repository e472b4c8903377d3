"""A command line whose arguments are a query: `-people` is a word of it, and no cluster of short options.

In a search engine a minus before a word asks for less of it, so that is what somebody in a hurry types. What
is certainly an option stays one wherever it stands; everything else becomes a word of the query.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from typer.core import TyperCommand, TyperOption

_PATH_STARTS = ("/", "./", "../", "~/")


class QueryCommand(TyperCommand):
    """A command that takes a query."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As usual, once the words of the query stand behind ``--``."""
        chosen, words = split_query(args, self.get_params(ctx))
        return super().parse_args(ctx, [*chosen, "--", *words] if words else chosen)


def split_query(args: Sequence[str], parameters: Iterable[Any]) -> tuple[list[str], list[str]]:
    """Options with their values, and the words of the query, each in the order in which they came.

    A word that begins with one dash is an option where it is one short option, several flags together
    (``-p0``), or a short option with a number or a path right behind it (``-k5``, ``-c./catalog``). Any other
    word of two or more characters belongs to the query. A single unknown letter (``-n``) is left to be
    refused, and so is everything unknown that begins with two dashes: those are slips. Behind ``--`` all is
    query.

    Parameters
    ----------
    args : sequence of str
    parameters : iterable of parameters
        Of the command.

    Returns
    -------
    (list of str, list of str)

    Examples
    --------
    >>> from typer.main import get_command
    >>> from diptych.cli.main import app
    >>> search = get_command(app).commands["search"]
    >>> split_query(["beach", "-people", "-k", "5", "-p", "+", "sea"], search.params)
    (['-k', '5', '-p'], ['beach', '-people', '+', 'sea'])
    """
    named = {name: one for one in parameters if isinstance(one, TyperOption) for name in one.opts}
    named |= {name: one for one in named.values() for name in one.secondary_opts}
    chosen: list[str] = []
    words: list[str] = []
    left = iter(args)
    for arg in left:
        if arg == "--":
            words += left
        elif not _is_option(arg, named):
            words.append(arg)
        else:
            chosen.append(arg)
            option = named.get(arg)  # `--top=5` is no name: its value is part of it
            if option is not None and _takes_value(option):
                chosen += [value for value in [next(left, None)] if value is not None]
    return chosen, words


def _is_option(arg: str, named: dict[str, TyperOption]) -> bool:
    if not arg.startswith("-") or arg == "-":
        return False
    if arg.startswith("--") or len(arg) == 2:
        # "-5" and "-é" are no option of anybody; "-n" is one of some other program.
        return arg.startswith("--") or (arg[1].isascii() and arg[1].isalpha()) or arg in named
    flags = arg[1:]
    while flags and (option := named.get(f"-{flags[0]}")) is not None:
        if _takes_value(option):
            value = flags[1:]
            return value.isdecimal() or value.startswith(_PATH_STARTS)
        flags = flags[1:]
    return not flags


def _takes_value(option: TyperOption) -> bool:
    return not option.is_flag and option.nargs != 0
