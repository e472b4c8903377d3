"""Text cleaning before tokenization: mojibake, HTML entities, case, punctuation, white space.

The steps and their order are those of CLIP's released tokenizer (https://github.com/openai/CLIP,
clip/simple_tokenizer.py) and of open_clip's `clean` options; token ids depend on every one of them.
"""

from __future__ import annotations

import html
import re
import string
from collections.abc import Callable

from diptych.inputs.config import Clean

# ftfy and html.unescape change an ASCII text only if it has an ampersand (entities) or a control character
# other than tab and line ends (ftfy unifies line ends, but they are white space before and after). All other
# repairs of ftfy need a character above 127.
_MAY_CHANGE = re.compile(r"[^\t\n\f\r -%'-~]").search
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def fix_text(text: str) -> str:
    """Apply `ftfy.fix_text` and unescape HTML entities twice; skipped if neither could change the text.

    Examples
    --------
    >>> fix_text("schÃ¶n &amp;amp; gut")
    'schön & gut'
    """
    if _MAY_CHANGE(text) is None:
        return text
    import ftfy  # imported on first use: most texts are ASCII

    return html.unescape(html.unescape(ftfy.fix_text(text)))


def _lower(text: str) -> str:
    return " ".join(fix_text(text).split()).lower()


def _canonicalize(text: str) -> str:
    # An underscore becomes a space, other punctuation is deleted (big_vision, prompt_engineering.py).
    return " ".join(fix_text(text).replace("_", " ").translate(_NO_PUNCTUATION).lower().split())


def _whitespace(text: str) -> str:
    return " ".join(fix_text(text).split())


def _none(text: str) -> str:
    # A lone surrogate (half of a pair, from broken JSON) cannot be encoded as UTF-8.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


CLEANERS: dict[Clean, Callable[[str], str]] = {
    "lower": _lower,
    "canonicalize": _canonicalize,
    "whitespace": _whitespace,
    "none": _none,
}
