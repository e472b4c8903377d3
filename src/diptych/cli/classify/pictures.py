"""Which pictures a command line means: files, folders, globs, addresses, a list on standard input.

Opening and decoding them is `diptych.media`'s work; here are only names, and the bytes behind an address.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from diptych.cli.shared.console import complain
from diptych.errors import ImageError, InputError
from diptych.files.text_files import decode_text, encoding_of, lines_of
from diptych.files.unicode_text import existing_path
from diptych.media import IMAGE_SUFFIXES, fetch, find_images

STANDARD_INPUT = "-"
_USUAL = (".jpg", ".png", ".webp", ".gif", ".heic")  # of IMAGE_SUFFIXES, those a message names


def sort_words(words: Sequence[str], *, quiet: bool = False) -> tuple[list[str], list[str]]:
    """Pictures and labels told apart: what is there or looks like a picture is one, the rest are labels.

    Raises
    ------
    ImageError
        A word has the form of a picture's name or of a pattern, and no such picture is there.

    Examples
    --------
    >>> sort_words(["-", "a dog", "https://example.org/cat.jpg"])
    (['-', 'https://example.org/cat.jpg'], ['a dog'])
    >>> sort_words(["cta.jpg", "a dog"])
    Traceback (most recent call last):
        ...
    diptych.errors.ImageError: cta.jpg: there is no such file or folder. If it is meant as a label, say \
--label 'cta.jpg'
    """
    pictures: list[str] = []
    labels: list[str] = []
    for word in words:
        (pictures if _names_pictures(word) else labels).append(word)
    # The first word is meant as pictures; a later one may only happen to have a folder's name.
    for word in words[1:] if labels and not quiet else ():
        if word in pictures and word.replace(" ", "").isalnum() and Path(word).is_dir():
            complain(
                "note", f"{word!r} is a folder here: its pictures are taken. For a label: --label '{word}'"
            )
    return pictures, labels


def _names_pictures(word: str) -> bool:
    if word == STANDARD_INPUT or is_address(word) or exists(word):
        return True
    if "*" not in word and Path(word).suffix.lower() not in IMAGE_SUFFIXES:
        return False  # "a dog?" has a sign of a pattern, and is a label
    try:
        return bool(find_images([word]))
    except ImageError as error:
        raise ImageError(f"{error}. If it is meant as a label, say --label '{word}'") from None


def nothing_named(labels: Sequence[str]) -> ImageError:
    """The error for a line without a picture: a mistyped folder was taken as a label.

    Examples
    --------
    >>> print(nothing_named(["pisc", "a cat"]))
    no picture was named; taken as labels: 'pisc', 'a cat'. Name a file, folder or pattern that is there
    """
    shown = ", ".join(map(repr, labels[:5])) + (", ..." if len(labels) > 5 else "")
    taken = f"; taken as labels: {shown}" if labels else ""
    return ImageError(f"no picture was named{taken}. Name a file, folder or pattern that is there")


def exists(word: str) -> bool:
    """Whether a file or folder of that name is there; a sentence too long for a name is none."""
    try:
        return existing_path(Path(word)).exists()
    except (OSError, ValueError):
        return False


def is_address(word: str) -> bool:
    """Whether a word is an http or https address."""
    return word.lower().startswith(("http://", "https://"))


def gather(names: Iterable[str], *, allow_urls: bool, stdin: TextIO) -> list[str]:
    """The names of all pictures meant, folders and patterns opened, each once, in order.

    Raises
    ------
    ImageError
        A name that is neither a file nor a folder nor a pattern; no picture at all.
    InputError
        An address without `--allow-urls`.
    """
    found: list[str] = []
    for name in names:
        if name == STANDARD_INPUT:
            # A list may hold names that are gone by now: they fail one by one, like other bad pictures.
            for line in listed(_read_names(stdin)):
                found.extend(_opened(line, allow_urls) if is_address(line) or exists(line) else [line])
        else:
            found.extend(_opened(name, allow_urls))
    if not found:
        more = len(IMAGE_SUFFIXES) - len(_USUAL)
        raise ImageError(
            f"no pictures in {', '.join(names) or 'an empty list'}: looked for files ending in "
            f"{', '.join(_USUAL)} and {more} other suffixes"
        )
    once: dict[str, str] = {}
    for name in found:
        once.setdefault(_place(name), name)
    return list(once.values())


def _read_names(stdin: TextIO) -> str:
    """Names as the file system has them, which need be no valid text; in UTF-16 where a mark says so."""
    buffer = getattr(stdin, "buffer", None)
    if buffer is None:
        return stdin.read()
    data: bytes = buffer.read()
    # Whatever the locale: names come from `find`, whose bytes they are, or from PowerShell, which marks them.
    marked = encoding_of(data[:4]) != ("utf-8", 0)
    return decode_text(data, "standard input") if marked else os.fsdecode(data)


def _place(name: str) -> str:
    """What two names of one picture have in common."""
    return name if is_address(name) else str(Path(name).absolute())


def _opened(name: str, allow_urls: bool) -> list[str]:
    if is_address(name):
        if not allow_urls:
            raise InputError(f"{name} is an address; nothing is fetched unless you say --allow-urls")
        return [name]
    return [str(path) for path in find_images([name])]


def listed(text: str) -> list[str]:
    r"""Names from a list, one a line, or ended by NUL as `find -print0` writes them.

    Examples
    --------
    >>> listed("a.jpg\n\nb c.jpg\n"), listed("a\nb.jpg\0c.jpg\0")
    (['a.jpg', 'b c.jpg'], ['a\nb.jpg', 'c.jpg'])
    """
    lines = text.split("\0") if "\0" in text else lines_of(text)
    return [line for line in lines if line.strip()]


def sources(
    names: Iterable[str], failed: Callable[[str, str], None], *, typed: Container[str] = ()
) -> Iterator[tuple[str, Path | bytes]]:
    """Each picture as (name, path or fetched bytes); an address that cannot be fetched goes to `failed`.

    Addresses in `typed`, which a person wrote on the command line, may lie in private networks; others come
    from lists, which strangers may have written.
    """
    for name in names:
        if not is_address(name):
            yield name, Path(name)
            continue
        try:
            data = fetch(name, allow_private=name in typed)
        except ImageError as error:
            failed(name, str(error))
        else:
            yield name, data
