"""Download files from the Hugging Face hub with its own client, and verify their checksums.

The client handles the cache folder, HF_HUB_OFFLINE, tokens, proxies and resuming. Added here: files are
hashed before they are used, the licence is shown before a download, and every error says what to do. Nothing
is fetched unless the caller names a repository.
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
        "organisation/name", optionally followed by "@revision".
    cache_dir : str or Path, optional
        Cache folder; by default the hub client's (HF_HOME, HF_HUB_CACHE).
    licence : str, optional
        Licence, if known; else it is read from the repository's README.
    """

    def __init__(
        self, repository: str, *, cache_dir: str | Path | None = None, licence: str | None = None
    ) -> None:
        self.repository, _, revision = repository.partition("@")
        self.revision = revision or None
        self.cache_dir = None if cache_dir is None else str(cache_dir)
        self._licence = licence
        # The client retries for half a minute: after one failure only the cache is searched.
        self._unreachable_before = False

    def fetch(self, *names: str) -> Path:
        """Fetch the first of these files that the repository has; return its path in the cache.

        Raises
        ------
        DownloadError
            The hub is not reachable or HF_HUB_OFFLINE is set, and the file is not in the cache.
        UnknownModelError
            The repository does not exist, or has none of the files.
        ChecksumError
            The file does not have the hash that the hub states; it is deleted.
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
            f"the repository {self.repository!r} holds none of {', '.join(names)}: it is not a model in a "
            "format that diptych reads"
        )

    def find(self, name: str) -> Path | None:
        """Fetch a file; return its path in the cache, or None if the repository does not have it."""
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
        ) as error:  # a subclass of EntryNotFoundError, but it means "not in the cache"
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
                f"no repository {self.repository!r}{at} on the hub, or it is private and needs a token "
                "(`hf auth login`, or HF_TOKEN)"
            ) from error
        except Exception as error:  # of the client, its HTTP library, or the operating system
            raise self._unreachable(name, error) from error
        return self._verified(Path(path))

    def announce(self, *names: str) -> str:
        """Print the licence unless one of these files is in the cache already; return the licence."""
        licence = self._licence or self._stated_licence()
        if not any(isinstance(self._cached(name), str) for name in names):
            print(f"diptych: fetching {self.repository} from the hub, licence: {licence}", file=sys.stderr)
        return licence

    def _stated_licence(self) -> str:
        """Licence from the metadata at the head of the repository's README."""
        try:
            readme = self.find("README.md")
        except DownloadError:  # the weights themselves may be in the cache
            readme = None
        text = "" if readme is None else readme.read_text(encoding="utf-8", errors="replace")[:20_000]
        head = text.split("\n---", 1)[0] if text.startswith("---") else ""
        # Two lines of YAML: `license: other` refers to `license_name`.
        stated = re.search(r"^license:[ \t]*['\"]?([\w.+-]+)", head, flags=re.MULTILINE)
        named = re.search(r"^license_name:[ \t]*['\"]?([\w.+-]+)", head, flags=re.MULTILINE)
        if stated and stated[1] == "other" and named:
            return named[1]
        return stated[1] if stated else "unknown"

    def _known_absent(self, name: str) -> bool:
        """Whether the cache has recorded that the repository does not have the file."""
        cached = self._cached(name)
        return cached is not None and not isinstance(cached, str)

    def _cached(self, name: str) -> object:
        """Path of a file in the cache, a sentinel if the repository does not have it, or None if unknown."""
        from huggingface_hub import try_to_load_from_cache

        return try_to_load_from_cache(self.repository, name, cache_dir=self.cache_dir, revision=self.revision)

    def _verified(self, path: Path) -> Path:
        """Check a file against the hub's hash; return its path."""
        # In the client's cache a large file has the name of the SHA-256 that the hub states for it.
        blob = path.resolve()
        if _HASH.fullmatch(blob.name) and (digest := sha256(blob)) != blob.name:
            blob.unlink()
            path.unlink(missing_ok=True)
            raise ChecksumError(
                f"{path.name} of {self.repository!r} has the SHA-256 {digest[:12]}..., the hub states "
                f"{blob.name[:12]}...; it was deleted. Run the same command again to fetch it anew"
            )
        return path

    def _unreachable(self, name: str, error: Exception) -> DownloadError:
        """Build the error for a file that cannot be fetched; later calls use the cache only."""
        from huggingface_hub import constants

        self._unreachable_before = True
        offline = constants.HF_HUB_OFFLINE  # is_offline_mode() is newer than the oldest supported client
        reason = "HF_HUB_OFFLINE is set" if offline else _first_line(error)
        remedy = (
            "unset HF_HUB_OFFLINE once to fetch it"
            if offline
            else "check the network (HTTPS_PROXY, HF_ENDPOINT) and run the same command again"
        )
        return DownloadError(
            f"{name} of {self.repository!r} is not in the cache and cannot be fetched ({reason}): {remedy}, "
            "or copy the files to a folder and load 'local-dir:FOLDER'"
        )


def hub_check_description(*paths: Path) -> str:
    """What `Hub` verified these files against; empty if the hub states no hash, as for small files."""
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
