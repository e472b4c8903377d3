"""What is mounted where: drives that come and go below a folder, and folders that lie on another computer.

Known on Linux alone; elsewhere there are no mounts to tell of.
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
    """One mounted file system.

    Attributes
    ----------
    number : str
        Of this mount: one that is mounted again gets another.
    path : str
        Where it is mounted.
    kind : str
        The file system's name, such as "ext4" or "nfs4".
    """

    number: str
    path: str
    kind: str


def mounts(table: Path = TABLE) -> list[Mount]:
    """What is mounted, later ones over earlier ones; nothing where the system does not tell."""
    try:
        lines = table.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    return [mount for line in lines if (mount := _parsed(line)) is not None]


def _parsed(line: str) -> Mount | None:
    r"""A line of the table: number, parent, device, root, path, options, more of them, "-", kind, ...

    Examples
    --------
    >>> _parsed(r"36 35 0:31 / /mnt/my\040share rw,noatime shared:1 - nfs4 nas:/photos rw")
    Mount(number='36', path='/mnt/my share', kind='nfs4')
    """
    before, dash, after = line.partition(" - ")
    fields = before.split(" ")
    if not dash or len(fields) < 5:
        return None
    path = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
    return Mount(fields[0], path, after.split(" ")[0])


def mounts_below(folders: Iterable[Path], table: Path = TABLE) -> frozenset[Mount]:
    """What is mounted at or below one of these folders."""
    homes = [os.path.realpath(folder).rstrip("/") + "/" for folder in folders]
    return frozenset(one for one in mounts(table) if any(f"{one.path}/".startswith(home) for home in homes))


def network_kind(folder: Path, table: Path = TABLE) -> str:
    """The name of the network file system that a folder lies on; "" where it is none, or nobody knows."""
    place = os.path.realpath(folder)
    best = Mount("", "", "")
    for mount in mounts(table):
        inside = f"{place}/".startswith(mount.path.rstrip("/") + "/")
        if inside and len(mount.path) >= len(best.path):
            best = mount
    return best.kind if best.kind in NETWORK else ""
