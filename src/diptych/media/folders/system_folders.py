"""Folders that file servers and operating systems keep for themselves: thumbnails, waste bins, snapshots.

Their pictures are copies and deleted files, so no walk over a folder enters them unless it is told to. Hidden
names are left out by the walks themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

# Lower case: shares are mounted by systems that tell cases apart and by systems that do not.
SYSTEM_FOLDERS: frozenset[str] = (
    frozenset({"@eadir", "@tmp", "@sharebin", "@sharesnap", "#recycle", "#snapshot"})  # Synology
    | frozenset({"@recycle", "@recently-snapshot", "@__thumb"})  # QNAP
    | frozenset({"~snapshot"})  # NetApp
    | frozenset({"$recycle.bin", "recycler", "system volume information", "found.000"})  # Windows
    | frozenset({"__macosx", "network trash folder", "temporary items"})  # macOS
    | frozenset({"lost+found", "lost.dir"})  # ext4, Android
)
# Libraries of Apple's programs are folders: what was imported lies in one of these, the rest is made from it.
_LIBRARIES = (".photoslibrary", ".photolibrary", ".migratedphotolibrary", ".aplibrary")
_ORIGINALS = {"originals", "masters"}
_PREVIEWS = (".lrdata",)  # of Lightroom


def is_system_folder(name: str, parent: str = "") -> bool:
    """Whether a folder holds what a file server, a system or a picture program made for itself.

    Parameters
    ----------
    name : str
        Of the folder.
    parent : str
        Name of the folder it is in.

    Examples
    --------
    >>> [is_system_folder(name) for name in ("@eaDir", "#recycle", "System Volume Information", "recycling")]
    [True, True, True, False]
    >>> [is_system_folder(name, "Photos.photoslibrary") for name in ("resources", "originals")]
    [True, False]
    """
    lowered = name.lower()
    if parent.lower().endswith(_LIBRARIES):
        return lowered not in _ORIGINALS
    return lowered in SYSTEM_FOLDERS or lowered.endswith(_PREVIEWS)


def is_in_system_folder(folders: Sequence[str]) -> bool:
    """Whether one of these nested folders, the outermost first, is a system folder.

    Examples
    --------
    >>> is_in_system_folder(["2019", "@eaDir", "beach.jpg"]), is_in_system_folder(["2019"])
    (True, False)
    """
    return any(is_system_folder(name, parent) for parent, name in zip(("", *folders), folders, strict=False))
