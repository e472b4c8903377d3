"""Mounted file systems: drives below a folder, and folders on network drives.

Supported on Linux only; elsewhere the list of mounts is empty.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TABLE = Path("/proc/self/mountinfo")
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "9p", "ceph", "glusterfs", "lustre", "beegfs"}
    | {"fuse.sshfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.gvfsd-fuse", "davfs", "fuse.davfs2"}
)


@dataclass(frozen=True)
class Mount:
    """One mounted file system."""

    number: str  # mount ID of the kernel; a drive that is mounted again gets another one
    path: str  # mount point
    kind: str  # file system type, such as "ext4" or "nfs4"


def mounts(table: Path = TABLE) -> list[Mount]:
    """List the mounts in the order in which they were made; empty if the system has no mount table."""
    try:
        lines = table.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    return [mount for line in lines if (mount := _parsed(line)) is not None]


def _parsed(line: str) -> Mount | None:
    r"""Parse a line of the table: ID, parent, device, root, path, options, optional fields, "-", type, ...

    Examples
    --------
    >>> _parsed(r"36 35 0:31 / /mnt/my\040share rw,noatime shared:1 - nfs4 nas:/photos rw")
    Mount(number='36', path='/mnt/my share', kind='nfs4')
    """
    before, dash, after = line.partition(" - ")
    fields = before.split(" ")
    if not dash or len(fields) < 5:
        return None
    # Spaces and other special characters are written in octal, such as \040.
    path = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
    return Mount(fields[0], path, after.split(" ")[0])


def mounts_below(folders: Iterable[Path], table: Path = TABLE) -> frozenset[Mount]:
    """Return the mounts at or below one of these folders."""
    # Both sides end in a slash, so that /mnt/a is not taken for a folder above /mnt/ab.
    prefixes = tuple(os.path.realpath(folder).rstrip("/") + "/" for folder in folders)
    return frozenset(mount for mount in mounts(table) if f"{mount.path}/".startswith(prefixes))


def network_kind(folder: Path, table: Path = TABLE) -> str:
    """Return the type of the network file system that holds a folder; "" if it is local or unknown."""
    real = os.path.realpath(folder)
    innermost = Mount("", "", "")
    for mount in mounts(table):
        contains = f"{real}/".startswith(mount.path.rstrip("/") + "/")
        # `>=`: of several mounts at one path, the last one hides the others.
        if contains and len(mount.path) >= len(innermost.path):
            innermost = mount
    return innermost.kind if innermost.kind in NETWORK else ""
