"""Pictures in the terminal, where it can show them: kitty's and iTerm2's protocols, else half blocks.

Writes escape sequences and nothing else; which pictures is the caller's business.
"""

from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL.Image import Image

Way = Literal["kitty", "iterm", "blocks", ""]
ROWS, COLUMNS = 10, 36  # of the terminal, for one picture
_CELL = (10, 20)  # pixels of a cell, about: for terminals that scale by themselves
_CHUNK = 4096  # bytes of base64 that kitty takes at once


def way_of(environment: Mapping[str, str] | None = None, *, terminal: bool | None = None) -> Way:
    """How this terminal shows pictures; empty when it cannot, or when the output is no terminal.

    Examples
    --------
    >>> way_of({"TERM": "xterm-kitty"}, terminal=True), way_of({"TERM": "xterm"}, terminal=False)
    ('kitty', '')
    >>> way_of({"TERM_PROGRAM": "WezTerm"}, terminal=True), way_of({"COLORTERM": "truecolor"}, terminal=True)
    ('iterm', 'blocks')
    """
    told = os.environ if environment is None else environment
    if not (sys.stdout.isatty() if terminal is None else terminal) or told.get("TERM") == "dumb":
        return ""
    if "TMUX" in told or told.get("TERM", "").startswith("screen"):
        return "blocks" if told.get("COLORTERM") in ("truecolor", "24bit") else ""  # they swallow pictures
    if "KITTY_WINDOW_ID" in told or told.get("TERM") in ("xterm-kitty", "xterm-ghostty"):
        return "kitty"
    if told.get("TERM_PROGRAM") in ("iTerm.app", "WezTerm", "vscode", "mintty", "rio"):
        return "iterm"
    return "blocks" if told.get("COLORTERM") in ("truecolor", "24bit") else ""


def preview(picture: Image, way: Way, *, indent: int = 6) -> str:
    r"""A picture as text that draws it.

    Examples
    --------
    >>> from PIL import Image
    >>> preview(Image.new("RGB", (2, 2), "red"), "blocks", indent=0)
    '\x1b[38;2;255;0;0;48;2;255;0;0m▀▀\x1b[0m\n'
    """
    if way == "blocks":
        return _blocks(picture, indent)
    small = picture.copy()
    small.thumbnail((COLUMNS * _CELL[0], ROWS * _CELL[1]))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    margin = " " * indent
    if way == "iterm":
        size = len(buffer.getvalue())
        return f"{margin}\x1b]1337;File=inline=1;size={size};height={ROWS};preserveAspectRatio=1:{data}\a\n"
    if way == "kitty":
        parts = [data[i : i + _CHUNK] for i in range(0, len(data), _CHUNK)]
        heads = [f"a=T,f=100,r={ROWS}," if i == 0 else "" for i in range(len(parts))]
        more = [int(i < len(parts) - 1) for i in range(len(parts))]
        drawn = "".join(
            f"\x1b_G{head}m={flag};{part}\x1b\\" for head, flag, part in zip(heads, more, parts, strict=True)
        )
        return f"{margin}{drawn}\n"
    return ""


def _blocks(picture: Image, indent: int) -> str:
    """Two pixels a cell, one above the other: the upper half block has two colours."""
    small = picture.convert("RGB")
    small.thumbnail((COLUMNS, 2 * ROWS))
    if small.height % 2:
        small = small.crop((0, 0, small.width, small.height + 1))
    lines = []
    for y in range(0, small.height, 2):
        cells, last = [], ""
        for x in range(small.width):
            upper, lower = small.getpixel((x, y)), small.getpixel((x, y + 1))
            assert isinstance(upper, tuple)
            assert isinstance(lower, tuple)
            colour = f"\x1b[38;2;{upper[0]};{upper[1]};{upper[2]};48;2;{lower[0]};{lower[1]};{lower[2]}m"
            cells.append("▀" if colour == last else colour + "▀")
            last = colour
        lines.append(" " * indent + "".join(cells) + "\x1b[0m\n")
    return "".join(lines)
