"""Files from the Hugging Face hub, through its own client, and their checksums.

The client brings the cache folder, HF_HUB_OFFLINE, tokens, proxies and the resuming of broken downloads. What
is added here: bytes are hashed before they are used, a licence is shown before they are fetched, and every
failure says what to do. Nothing is fetched unless a caller names a repository.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from diptych.errors import ChecksumError, DownloadError, UnknownModelError

_HASH = re.compile(r"[0-9a-f]{64}")


class Hub:
    """One repository of the hub.

    Parameters
    ----------
    repository : str
        "organisation/name", with "@revision" after it where one is meant.
    cache_dir : str or Path, optional
        Where files are kept; by default where the hub's client keeps them (HF_HOME, HF_HUB_CACHE).
    licence : str, optional
        Where it is known; else it is looked for in the repository's README.
    """

    def __init__(
        self, repository: str, *, cache_dir: str | Path | None = None, licence: str | None = None
    ) -> None:
        self.repository, _, revision = repository.partition("@")
        self.revision = revision or None
        self.cache_dir = None if cache_dir is None else str(cache_dir)
        self._licence = licence
        # The client tries for half a minute before it gives up: once is enough.
        self._unreachable_before = False

    def fetch(self, *names: str) -> Path:
        """The first of these files the repository has, as a path in the cache.

        Raises
        ------
        DownloadError
            The hub cannot be reached or may not be, and the file is not in the cache.
        UnknownModelError
            There is no such repository, or none of the files is in it.
        ChecksumError
            The bytes are not the ones the hub promised; they are thrown away.
        """
        unreachable: DownloadError | None = None
        for name in names:
            try:
                path = self.find(name)
            except DownloadError as error:  # another of the names may be in the cache
                unreachable = unreachable or error
                continue
            if path is not None:
                return path
        if unreachable is not None:
            raise unreachable
        raise UnknownModelError(
            f"the repository {self.repository!r} holds none of {', '.join(names)}: it is no model of a kind "
            "that can be read here"
        )

    def find(self, name: str) -> Path | None:
        """One file as a path in the cache, or None where the repository does not have it."""
        from huggingface_hub import errors, hf_hub_download

        try:
            path = hf_hub_download(
                self.repository,
                name,
                revision=self.revision,
                cache_dir=self.cache_dir,
                library_name="diptych",
                local_files_only=self._unreachable_before,
            )
        except (
            errors.LocalEntryNotFoundError
        ) as error:  # also an EntryNotFoundError, but "not here", not "no"
            if self._known_absent(name):
                return None
            raise self._unreachable(name, error) from error
        except errors.EntryNotFoundError:
            return None
        except errors.GatedRepoError as error:
            raise DownloadError(
                f"the repository {self.repository!r} is gated: accept its terms on the hub and log in "
                "(`hf auth login`, or HF_TOKEN)"
            ) from error
        except (
            errors.RepositoryNotFoundError,
            errors.RevisionNotFoundError,
            errors.HFValidationError,
        ) as error:
            at = f" at {self.revision!r}" if self.revision else ""
            raise UnknownModelError(
                f"no repository {self.repository!r}{at} on the hub that may be read; a private one needs a "
                "token (`hf auth login`, or HF_TOKEN)"
            ) from error
        except Exception as error:  # the client's own, its HTTP library's, the system's
            raise self._unreachable(name, error) from error
        return self._checked(Path(path))

    def announce(self, *names: str) -> str:
        """Show the licence unless one of these files has been downloaded before; the licence."""
        licence = self._licence or self._stated_licence()
        if not any(isinstance(self._held(name), str) for name in names):
            print(f"diptych: fetching {self.repository} from the hub, licence: {licence}", file=sys.stderr)
        return licence

    def _stated_licence(self) -> str:
        """From the head of the repository's README, where model cards state it."""
        try:
            readme = self.find("README.md")
        except DownloadError:  # the weights themselves may be in the cache
            readme = None
        text = "" if readme is None else readme.read_text(encoding="utf-8", errors="replace")[:20_000]
        head = text.split("\n---", 1)[0] if text.startswith("---") else ""
        stated = re.search(r"^license:[ \t]*['\"]?([\w.+-]+)", head, flags=re.MULTILINE)
        named = re.search(r"^license_name:[ \t]*['\"]?([\w.+-]+)", head, flags=re.MULTILINE)
        if stated and stated[1] == "other" and named:
            return named[1]
        return stated[1] if stated else "unknown"

    def _known_absent(self, name: str) -> bool:
        """Whether the cache remembers that the repository does not have the file."""
        held = self._held(name)
        return held is not None and not isinstance(held, str)

    def _held(self, name: str) -> object:
        """What the cache knows of a file: its path, that it does not exist, or nothing."""
        from huggingface_hub import try_to_load_from_cache

        return try_to_load_from_cache(self.repository, name, cache_dir=self.cache_dir, revision=self.revision)

    def _checked(self, path: Path) -> Path:
        # The hub's client names a large file in its cache after the SHA-256 the hub states for it.
        blob = path.resolve()
        if _HASH.fullmatch(blob.name) and (found := sha256(blob)) != blob.name:
            blob.unlink()
            path.unlink(missing_ok=True)
            raise ChecksumError(
                f"{path.name} of {self.repository!r} has the SHA-256 {found[:12]}..., the hub states "
                f"{blob.name[:12]}...; it was thrown away. Run the same command again to fetch it anew"
            )
        return path

    def _unreachable(self, name: str, error: Exception) -> DownloadError:
        from huggingface_hub import constants

        self._unreachable_before = True
        offline = constants.HF_HUB_OFFLINE  # is_offline_mode() is newer than the oldest client allowed
        why = "HF_HUB_OFFLINE is set" if offline else _first_line(error)
        way = (
            "unset HF_HUB_OFFLINE once to fetch it"
            if offline
            else "check the network (HTTPS_PROXY, HF_ENDPOINT) and run the same command again"
        )
        return DownloadError(
            f"{name} of {self.repository!r} is not in the cache and cannot be fetched ({why}): {way}, or "
            "copy the files to a folder and load 'local-dir:FOLDER'"
        )


def checked_against(*paths: Path) -> str:
    """What `Hub` checked these files against: the hub states a hash for large files, not for small ones."""
    stated = all(_HASH.fullmatch(path.resolve().name) for path in paths)
    return "the SHA-256 the hub states for the weights" if stated else ""


def sha256(path: Path) -> str:
    """Hash of a file, in hexadecimal.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     sha256(Path(file.name))[:8]
    'e3b0c442'
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    lines: Sequence[str] = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
