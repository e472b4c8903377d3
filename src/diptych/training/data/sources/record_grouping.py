"""Group the members of a shard into records by their keys (`media.folders.keys`), in one pass.

The members of one key form a record. Members of other records may lie between them: "0001.seg.png" comes
before "0001.txt" in an archive that is sorted by name. So records whose keys are equal up to the first dot
(a run) are kept open together, but only a few: in a shard of screenshots all keys may begin alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from diptych.files.unicode_text import caseless
from diptych.media.folders.files import IMAGE_SUFFIXES
from diptych.media.folders.keys import CAPTION_SUFFIXES, root_key, split_key

MAX_OPEN = 8  # records kept open: each holds the bytes of an image
IMAGE = "image"
SECOND = "a second picture of its key"  # reason why an image is not a pair
TEXTS = tuple(suffix.removeprefix(".") for suffix in CAPTION_SUFFIXES)

T = TypeVar("T")


@dataclass
class RecordGroup(Generic[T]):
    """A record: its number in the shard, its key, and its parts by role ("image", "txt", "json").

    Attributes
    ----------
    second : str
        Set where its image is not a pair because it is the second one of a key: a message; else "".
    """

    number: int
    key: str
    parts: dict[str, T] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    second: str = ""
    accessory: bool = False  # without an image: its files belong to a record of a longer or shorter key

    @property
    def complete(self) -> bool:
        """Whether it has an image and captions."""
        return IMAGE in self.parts and len(self.parts) > 1


class RecordGrouper(Generic[T]):
    """Groups members by their names, in the order of the archive.

    Examples
    --------
    >>> grouper = RecordGrouper[str]()
    >>> for name in ("1.jpg", "1.seg.png", "1.txt", "2.left.jpg", "2.txt"):
    ...     complete = grouper.open(name)
    ...     grouper.keep(name)
    ...     print([(group.key, sorted(group.parts)) for group in complete])
    []
    []
    []
    [('1', ['image', 'txt']), ('1.seg', ['image'])]
    []
    >>> [(group.key, group.parts) for group in grouper.close()]
    [('2.left', {'image': '2.left.jpg', 'txt': '2.txt'}), ('2', {'txt': '2.txt'})]
    """

    def __init__(self) -> None:
        self._open: dict[str, RecordGroup[T]] = {}
        self._run, self._run_has_image = "", False
        self._count = 0
        self.group: RecordGroup[T] | None = None
        self.role = ""

    def open(self, name: str) -> list[RecordGroup[T]]:
        """Start the next member, and return the records that are complete by now.

        `group` and `role` become its record and its role in it; None and "" for a member of no record.
        """
        key, suffix = split_key(name)
        self.group = None
        self.role = IMAGE if suffix in IMAGE_SUFFIXES else suffix[1:] if suffix in CAPTION_SUFFIXES else ""
        if not self.role:
            return []
        # A new key up to the first dot ends the run: no member of the open records can follow.
        run, done = caseless(root_key(key)), list[RecordGroup[T]]()
        if run != self._run:
            done = self.close()
            self._run = run
        if key not in self._open:
            done += self._close_oldest(key)
            self._open[key] = RecordGroup(self._count, key)
            self._count += 1
        self.group = self._open[key]
        self._run_has_image |= self.role == IMAGE and caseless(key) == run
        first = self.group.names.setdefault(self.role, name)
        if self.role == IMAGE and first != name:  # 1.png beside 1.jpg
            self.group, self.role = RecordGroup(self.group.number, key, second=f"{name} beside {first}"), ""
            done.append(self.group)
            self.group = None
        return done

    def keep(self, part: T) -> None:
        """Store the content of the current member."""
        if self.group is not None:
            self.group.parts[self.role] = part

    def close(self) -> list[RecordGroup[T]]:
        """End the run: all records that are still open."""
        done = list(self._open.values())
        for group in done:
            self._borrow_captions(group)
        self._open, self._run_has_image = {}, False
        return done

    def _close_oldest(self, key: str) -> list[RecordGroup[T]]:
        """Close the oldest records that can get no more members; or, if too many are open, the oldest."""
        done = []
        while self._open:
            oldest = next(iter(self._open))
            # e.g. "1.jpg", "1.seg.png", "1.txt": the key "1.seg" must not close the record "1".
            related = key.startswith(f"{oldest}.")
            if len(self._open) < MAX_OPEN and (related or not self._open[oldest].complete):
                break
            self._borrow_captions(self._open[oldest])
            done.append(self._open.pop(oldest))
        return done

    def _borrow_captions(self, group: RecordGroup[T]) -> None:
        """Give an image without captions those of its key in another case, or up to the first dot."""
        if IMAGE not in group.parts:
            group.accessory |= self._run_has_image and caseless(group.key) != self._run  # 1.output.txt
            return
        if group.complete:
            return
        own_key = caseless(group.key)
        others = [other for other in self._open.values() if IMAGE not in other.parts and other.parts]
        for key in (own_key, self._run):
            if key != own_key and self._run_has_image:
                group.second = f"{group.names[IMAGE]} beside the picture of that key"
                return
            lenders = [other for other in others if caseless(other.key) == key]
            if len(lenders) == 1:
                lenders[0].accessory = True
                group.parts |= {role: lenders[0].parts[role] for role in TEXTS if role in lenders[0].parts}
                return
