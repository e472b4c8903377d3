"""Pictures given on a command line: files, folders, patterns, addresses, or a list on standard input.

`diptych.media` decodes them.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from diptych.cli.shared.console import print_message, progress
from diptych.errors import ImageError, InputError, SaveError
from diptych.files.disk import file_stems, replace_file
from diptych.files.text_files import decode_text, encoding_of, lines_of
from diptych.files.unicode_text import existing_path
from diptych.media import IMAGE_SUFFIXES, fetch, find_images

if TYPE_CHECKING:
    from diptych.encoder import Encoder

STANDARD_INPUT = "-"
_USUAL = (".jpg", ".png", ".webp", ".gif", ".heic")  # the IMAGE_SUFFIXES that messages list


def sort_words(words: Sequence[str], *, quiet: bool = False) -> tuple[list[str], list[str]]:
    """Separate pictures from labels: words that exist or look like a picture's name are pictures.

    Raises
    ------
    ImageError
        A word looks like a picture's name or a pattern, but matches no file.

    Examples
    --------
    >>> sort_words(["-", "a dog", "https://example.org/cat.jpg"])
    (['-', 'https://example.org/cat.jpg'], ['a dog'])
    >>> sort_words(["cta.jpg", "a dog"])
    Traceback (most recent call last):
        ...
    diptych.errors.ImageError: cta.jpg: there is no such file or folder. For a label, give \
--label 'cta.jpg'
    """
    pictures: list[str] = []
    labels: list[str] = []
    for word in words:
        (pictures if _names_pictures(word) else labels).append(word)
    # The first word is meant as pictures; a later one may be a label that is also the name of a folder.
    for word in words[1:] if labels and not quiet else ():
        if word in pictures and word.replace(" ", "").isalnum() and Path(word).is_dir():
            print_message(
                "note", f"{word!r} is a folder, so its pictures are used. For a label: --label '{word}'"
            )
    return pictures, labels


def _names_pictures(word: str) -> bool:
    if word == STANDARD_INPUT or is_address(word) or exists(word):
        return True
    if "*" not in word and Path(word).suffix.lower() not in IMAGE_SUFFIXES:
        return False  # "a dog?" has a wildcard, but is a label
    try:
        return bool(find_images([word]))
    except ImageError as error:
        raise ImageError(f"{error}. For a label, give --label '{word}'") from None


def nothing_named(labels: Sequence[str]) -> ImageError:
    """The error for a command line without pictures; a mistyped folder counts as a label.

    Examples
    --------
    >>> print(nothing_named(["pisc", "a cat"]))
    no picture given; these words are labels: 'pisc', 'a cat'. Name an existing file, folder or pattern
    """
    shown = ", ".join(map(repr, labels[:5])) + (", ..." if len(labels) > 5 else "")
    as_labels = f"; these words are labels: {shown}" if labels else ""
    return ImageError(f"no picture given{as_labels}. Name an existing file, folder or pattern")


def exists(word: str) -> bool:
    """Whether a file or folder of that name exists; False for a sentence that is too long for a name."""
    try:
        return existing_path(Path(word)).exists()
    except (OSError, ValueError):
        return False


def is_address(word: str) -> bool:
    """Whether a word is an http or https address."""
    return word.lower().startswith(("http://", "https://"))


def gather(names: Iterable[str], *, allow_urls: bool, stdin: TextIO) -> list[str]:
    """Names of all pictures, with folders and patterns expanded, each once, in order.

    Raises
    ------
    ImageError
        A name matches no file, or there is no picture at all.
    InputError
        An address without `--allow-urls`.
    """
    pictures: list[str] = []
    for name in names:
        if name == STANDARD_INPUT:
            # Files of a list may have been deleted since: they fail one by one, like damaged pictures.
            for line in listed(_read_names(stdin)):
                pictures.extend(_expand(line, allow_urls) if is_address(line) or exists(line) else [line])
        else:
            pictures.extend(_expand(name, allow_urls))
    if not pictures:
        more = len(IMAGE_SUFFIXES) - len(_USUAL)
        raise ImageError(
            f"no pictures in {', '.join(names) or 'an empty list'}: looked for files ending in "
            f"{', '.join(_USUAL)} and {more} other suffixes"
        )
    once: dict[str, str] = {}
    for name in pictures:
        once.setdefault(_absolute(name), name)
    return list(once.values())


def _read_names(stdin: TextIO) -> str:
    """Read names as bytes of the file system, which need not be valid text; UTF-16 with a byte order mark."""
    buffer = getattr(stdin, "buffer", None)
    if buffer is None:
        return stdin.read()
    data: bytes = buffer.read()
    # Whatever the locale: `find` writes the bytes of the names, PowerShell writes a byte order mark.
    marked = encoding_of(data[:4]) != ("utf-8", 0)
    return decode_text(data, "standard input") if marked else os.fsdecode(data)


def _absolute(name: str) -> str:
    """The absolute path, or the address: equal for two names of the same file."""
    return name if is_address(name) else str(Path(name).absolute())


def _expand(name: str, allow_urls: bool) -> list[str]:
    if is_address(name):
        if not allow_urls:
            raise InputError(f"{name} is an address: to download it, give --allow-urls")
        return [name]
    return [str(path) for path in find_images([name])]


def listed(text: str) -> list[str]:
    r"""Read names from a list, one per line, or each ended by NUL as `find -print0` writes them.

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
    """Yield each picture as (name, path or downloaded bytes); failed downloads are passed to `failed`.

    Addresses in `typed` were given on the command line and may be in private networks; others come from
    lists, which somebody else may have written.
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


@dataclass
class ImageEmbedder:
    """Embeds pictures with a progress bar, and collects the failures."""

    encoder: Encoder
    exact: bool
    threads: int | None
    batch_size: int
    quiet: bool
    typed: frozenset[str] = frozenset()  # names from the command line itself, not from a list

    def embed(self, pictures: Sequence[str], failures: dict[str, str]) -> Iterator[tuple[str, Any]]:
        """Yield (name, embedding) of each readable picture, in order; add the others to `failures`."""
        from diptych.embedding.batches import Failed, embed_images

        with progress("classifying", len(pictures), unit="pictures", quiet=self.quiet) as advance:
            for result in embed_images(
                self.encoder,
                sources(pictures, failures.__setitem__, typed=self.typed),
                batch_size=self.batch_size,
                threads=self.threads,
                exact=self.exact,
                progress=advance,
            ):
                if isinstance(result, Failed):
                    failures[result.key] = result.reason
                else:
                    yield result.key, result.vector


def folder_names(labels: Iterable[str]) -> dict[str, str]:
    """A distinct folder name for each label, valid on any file system.

    Examples
    --------
    >>> folder_names(["cats/dogs: both?", "..", "Cat", "cat"])
    {'cats/dogs: both?': 'cats_dogs_ both_', '..': 'label', 'Cat': 'Cat', 'cat': 'cat (2)'}
    """
    distinct = list(dict.fromkeys(labels))
    return dict(zip(distinct, file_stems(distinct, spaces=True, fallback="label"), strict=True))


def copy_into(folder: Path, source: Path) -> Path:
    """Copy a file into a folder and return its new path; a number is added if the name is used.

    A file that is there already is not copied again, so that the same command resumes.

    Raises
    ------
    SaveError
        The disk is full, or the folder is not writable.
    """
    try:
        free = folder / source.name
        number = 2
        while free.exists():
            if filecmp.cmp(source, free, shallow=False):
                return free
            free = folder / f"{source.stem} ({number}){source.suffix}"
            number += 1
        replace_file(free, lambda part: shutil.copy2(source, part))
    except OSError as error:
        raise SaveError(
            f"{source} could not be copied to {folder} ({error}). Earlier copies stay; to continue, run the "
            "same command again"
        ) from error
    return free
