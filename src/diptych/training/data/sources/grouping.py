"""Group the members of a shard into records by their keys (`media.folders.keys`), in one pass.

A record is what stands together under one key. Members of other records may lie between: "0001.seg.png" comes
before "0001.txt" in an archive that is sorted by name. So records whose keys begin alike up to the first dot
wait for each other, a few at a time: in a shard of screenshots all keys begin alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from diptych.files.unicode_text import caseless
from diptych.media.folders.files import IMAGE_SUFFIXES
from diptych.media.folders.keys import CAPTION_SUFFIXES, root_key, split_key

MOST_WAITING = 8  # records: each holds a picture's bytes
IMAGE = "image"
SECOND = "a second picture of its key"  # why it is no pair
TEXTS = tuple(suffix.removeprefix(".") for suffix in CAPTION_SUFFIXES)

T = TypeVar("T")


@dataclass
class Group(Generic[T]):
    """A record: its number in the shard, its key, and by role ("image", "txt", "json") what is kept of it.

    Attributes
    ----------
    second : str
        Why its picture is no pair although nothing is wrong: it is the second one of a key; "" for none.
    """

    number: int
    key: str
    parts: dict[str, T] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    second: str = ""
    accessory: bool = False  # without a picture, and its files belong to one of a longer or shorter key

    @property
    def complete(self) -> bool:
        """Whether there are a picture and captions."""
        return IMAGE in self.parts and len(self.parts) > 1


class Grouping(Generic[T]):
    """Records by the names of members, in the order of the archive.

    Examples
    --------
    >>> grouping = Grouping[str]()
    >>> for name in ("1.jpg", "1.seg.png", "1.txt", "2.left.jpg", "2.txt"):
    ...     done = grouping.open(name)
    ...     grouping.keep(name)
    ...     print([(group.key, sorted(group.parts)) for group in done])
    []
    []
    []
    [('1', ['image', 'txt']), ('1.seg', ['image'])]
    []
    >>> [(group.key, group.parts) for group in grouping.close()]
    [('2.left', {'image': '2.left.jpg', 'txt': '2.txt'}), ('2', {'txt': '2.txt'})]
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Group[T]] = {}
        self._run, self._run_has_picture = "", False
        self._count = 0
        self.group: Group[T] | None = None
        self.role = ""

    def open(self, name: str) -> list[Group[T]]:
        """Go to the next member; the records that it shows to be finished.

        `group` and `role` are its record and what it is of it; None and "" for a member of no record.
        """
        key, suffix = split_key(name)
        self.group = None
        self.role = IMAGE if suffix in IMAGE_SUFFIXES else suffix[1:] if suffix in CAPTION_SUFFIXES else ""
        if not self.role:
            return []
        run, done = caseless(root_key(key)), list[Group[T]]()
        if run != self._run:
            done = self.close()
            self._run = run
        if key not in self._waiting:
            done += self._make_room(key)
            self._waiting[key] = Group(self._count, key)
            self._count += 1
        self.group = self._waiting[key]
        self._run_has_picture |= self.role == IMAGE and caseless(key) == run
        before = self.group.names.setdefault(self.role, name)
        if self.role == IMAGE and before != name:  # 1.png beside 1.jpg
            self.group, self.role = Group(self.group.number, key, second=f"{name} beside {before}"), ""
            done.append(self.group)
            self.group = None
        return done

    def keep(self, part: T) -> None:
        """Keep something of the member."""
        if self.group is not None:
            self.group.parts[self.role] = part

    def close(self) -> list[Group[T]]:
        """All records that still wait."""
        done = list(self._waiting.values())
        for group in done:
            self._borrow(group)
        self._waiting, self._run_has_picture = {}, False
        return done

    def _make_room(self, key: str) -> list[Group[T]]:
        """Let go of the oldest records, where nothing more of them is to come or too many wait."""
        done = []
        while self._waiting:
            oldest = next(iter(self._waiting))
            related = key.startswith(f"{oldest}.")
            if len(self._waiting) < MOST_WAITING and (related or not self._waiting[oldest].complete):
                break
            self._borrow(self._waiting[oldest])
            done.append(self._waiting.pop(oldest))
        return done

    def _borrow(self, group: Group[T]) -> None:
        """Give a picture without captions those of its key in another case, or up to the first dot."""
        if IMAGE not in group.parts:
            group.accessory |= self._run_has_picture and caseless(group.key) != self._run  # 1.output.txt
            return
        if group.complete:
            return
        alike = caseless(group.key)
        others = [one for one in self._waiting.values() if IMAGE not in one.parts and one.parts]
        for wanted in (alike, self._run):
            if wanted != alike and self._run_has_picture:
                group.second = f"{group.names[IMAGE]} beside the picture of that key"
                return
            lenders = [one for one in others if caseless(one.key) == wanted]
            if len(lenders) == 1:
                lenders[0].accessory = True
                group.parts |= {role: lenders[0].parts[role] for role in TEXTS if role in lenders[0].parts}
                return
