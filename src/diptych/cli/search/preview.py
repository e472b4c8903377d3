"""Show pictures in the terminal: by the protocols of kitty or iTerm2, else with half-block characters."""

from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL.Image import Image

Protocol = Literal["kitty", "iterm", "blocks", ""]
ROWS, COLUMNS = 10, 36  # size of a picture in the terminal
_CELL = (10, 20)  # approximate pixels of a character cell, for terminals that scale pictures themselves
_CHUNK = 4096  # largest number of base64 bytes in one escape sequence of kitty's protocol


def terminal_protocol(
    environment: Mapping[str, str] | None = None, *, terminal: bool | None = None
) -> Protocol:
    """Detect how this terminal shows pictures; "" if it cannot, or if the output is not a terminal.

    Examples
    --------
    >>> terminal_protocol({"TERM": "xterm-kitty"}, terminal=True)
    'kitty'
    >>> terminal_protocol({"COLORTERM": "truecolor"}, terminal=True)
    'blocks'
    >>> terminal_protocol({"TERM": "xterm"}, terminal=False)
    ''
    """
    environ = os.environ if environment is None else environment
    if not (sys.stdout.isatty() if terminal is None else terminal) or environ.get("TERM") == "dumb":
        return ""
    blocks: Protocol = "blocks" if environ.get("COLORTERM") in ("truecolor", "24bit") else ""
    if "TMUX" in environ or environ.get("TERM", "").startswith("screen"):
        return blocks  # tmux and screen drop the sequences of pictures
    if "KITTY_WINDOW_ID" in environ or environ.get("TERM") in ("xterm-kitty", "xterm-ghostty"):
        return "kitty"
    if environ.get("TERM_PROGRAM") in ("iTerm.app", "WezTerm", "vscode", "mintty", "rio"):
        return "iterm"
    return blocks


def render_preview(image: Image, protocol: Protocol, *, indent: int = 6) -> str:
    r"""Encode a picture as text that makes the terminal draw it.

    Examples
    --------
    >>> from PIL import Image
    >>> render_preview(Image.new("RGB", (2, 2), "red"), "blocks", indent=0)
    '\x1b[38;2;255;0;0;48;2;255;0;0m▀▀\x1b[0m\n'
    """
    if protocol == "blocks":
        return _blocks(image, indent)
    small = image.copy()
    small.thumbnail((COLUMNS * _CELL[0], ROWS * _CELL[1]))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    margin = " " * indent
    if protocol == "iterm":
        size = len(buffer.getvalue())
        return f"{margin}\x1b]1337;File=inline=1;size={size};height={ROWS};preserveAspectRatio=1:{data}\a\n"
    if protocol == "kitty":
        parts = [data[i : i + _CHUNK] for i in range(0, len(data), _CHUNK)]
        heads = [f"a=T,f=100,r={ROWS}," if i == 0 else "" for i in range(len(parts))]
        more = [int(i < len(parts) - 1) for i in range(len(parts))]
        drawn = "".join(
            f"\x1b_G{head}m={flag};{part}\x1b\\" for head, flag, part in zip(heads, more, parts, strict=True)
        )
        return f"{margin}{drawn}\n"
    return ""


def _blocks(image: Image, indent: int) -> str:
    """Draw two pixels per cell: the upper half block takes a foreground and a background colour."""
    small = image.convert("RGB")
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
