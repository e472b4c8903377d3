"""Internal folders of file servers, operating systems and photo programs: thumbnails, trash, snapshots.

They hold copies and deleted files, so they are skipped when a folder is walked. Hidden names are skipped by
the walks themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

# In lower case: shares are mounted by systems that are case-sensitive and by systems that are not.
SYSTEM_FOLDERS: frozenset[str] = (
    frozenset({"@eadir", "@tmp", "@sharebin", "@sharesnap", "#recycle", "#snapshot"})  # Synology
    | frozenset({"@recycle", "@recently-snapshot", "@__thumb"})  # QNAP
    | frozenset({"~snapshot"})  # NetApp
    | frozenset({"$recycle.bin", "recycler", "system volume information", "found.000"})  # Windows
    | frozenset({"__macosx", "network trash folder", "temporary items"})  # macOS
    | frozenset({"lost+found", "lost.dir"})  # ext4, Android
)
# Photo libraries of Apple programs are folders: the imported files are in `_ORIGINALS`, the rest is derived.
_LIBRARIES = (".photoslibrary", ".photolibrary", ".migratedphotolibrary", ".aplibrary")
_ORIGINALS = {"originals", "masters"}
_PREVIEWS = (".lrdata",)  # of Lightroom


def is_system_folder(name: str, parent: str = "") -> bool:
    """Whether a folder is used internally by a file server, operating system or photo program.

    Parameters
    ----------
    name : str
        Name of the folder.
    parent : str
        Name of the folder that contains it.

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
    """Whether one of several nested folders, the outermost first, is a system folder.

    Examples
    --------
    >>> is_in_system_folder(["2019", "@eaDir", "beach.jpg"]), is_in_system_folder(["2019"])
    (True, False)
    """
    return any(is_system_folder(name, parent) for parent, name in zip(("", *folders), folders, strict=False))
