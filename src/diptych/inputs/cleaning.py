"""Texts made plain before they are cut into tokens: mojibake mended, HTML unescaped, case, punctuation.

The steps and their order are those of CLIP's released tokenizer (https://github.com/openai/CLIP,
clip/simple_tokenizer.py) and of open_clip's `clean` options; token ids depend on every one of them.
"""

from __future__ import annotations

import html
import re
import string
from collections.abc import Callable

from diptych.inputs.config import Clean

# What ftfy or html.unescape could change in an ASCII text: an ampersand (entities) or a control character
# other than tab and line ends (it unifies those, but they are white space before and after). Everything else
# ftfy does begins with a character above 127.
_MAY_CHANGE = re.compile(r"[^\t\n\f\r -%'-~]").search
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def mend(text: str) -> str:
    """`ftfy.fix_text`, then HTML entities unescaped twice; the same string at once where neither could act.

    Examples
    --------
    >>> mend("schÃ¶n &amp;amp; gut")
    'schön & gut'
    """
    if _MAY_CHANGE(text) is None:
        return text
    import ftfy  # imported on first need: most texts are ASCII

    return html.unescape(html.unescape(ftfy.fix_text(text)))


def _lower(text: str) -> str:
    return " ".join(mend(text).split()).lower()


def _canonicalize(text: str) -> str:
    # An underscore parts words; other punctuation leaves nothing behind (big_vision, prompt_engineering.py).
    return " ".join(mend(text).replace("_", " ").translate(_NO_PUNCTUATION).lower().split())


def _whitespace(text: str) -> str:
    return " ".join(mend(text).split())


def _none(text: str) -> str:
    # A lone surrogate (half of a pair, from broken JSON) cannot be written as UTF-8 at all.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


CLEANERS: dict[Clean, Callable[[str], str]] = {
    "lower": _lower,
    "canonicalize": _canonicalize,
    "whitespace": _whitespace,
    "none": _none,
}
