"""Form groups from pairs: the same picture, parts of a picture, and scenes.

Copies of a picture are connected components of the "picture" pairs. Parts are grouped by the whole that they
lie in, so that two parts of one collage do not become copies of each other. Scenes are connected components
of the "scene" pairs between groups. Every member says how it is related to the file that is kept.

E.g. pairs a-b and b-c of tier "picture" and p-a of tier "part" (p in a): one group of copies {a, b, c}, and
one group "part" with the best file of {a, b, c} as the whole and p as its part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from diptych.catalog.duplicates.keeping import File, KeepRule, best_first
from diptych.catalog.duplicates.pairs import DuplicatePair
from diptych.matching.verdicts import TIERS, Tier

SERIES = 2  # least number of "another moment" pairs of a picture that belongs to a series


@dataclass(frozen=True)
class GroupMember:
    """A file of a group."""

    file: File
    tier: Tier  # its relation to the kept file
    pair: DuplicatePair | None = None  # the evidence; None for the kept file and for identical files
    direct: bool = True  # the evidence compares it with the kept file itself, not with another member


@dataclass(frozen=True)
class DuplicateGroup:
    """Files that are related."""

    tier: Tier  # the tier of the member that differs most
    kept: GroupMember  # the file to keep; in tier "part" the whole
    others: tuple[GroupMember, ...]
    why: str  # why it is kept

    @property
    def members(self) -> tuple[GroupMember, ...]:
        """All members, the kept one first."""
        return (self.kept, *self.others)


class UnionFind:
    """Disjoint sets (union-find) with path compression.

    Examples
    --------
    >>> union = UnionFind()
    >>> union.join(1, 2)
    >>> union.join(3, 2)
    >>> union.of(1) == union.of(3), union.of(4)
    (True, 4)
    """

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    def of(self, item: int) -> int:
        """The representative of the set of an item."""
        root = item
        while self._parents.get(root, root) != root:
            root = self._parents[root]
        # Path compression: all items on the way now point to the root. E.g. 4 -> 3 -> 2 -> 1 becomes 4 -> 1,
        # 3 -> 1, 2 -> 1, so the next search takes one step.
        while self._parents.get(item, item) != root:
            self._parents[item], item = root, self._parents[item]
        return root

    def join(self, a: int, b: int) -> None:
        """Merge two sets; the smaller representative stays."""
        low, high = sorted((self.of(a), self.of(b)))
        self._parents[high] = low


def make_groups(
    pairs: Iterable[DuplicatePair],
    files: Mapping[int, Sequence[File]],
    rules: Sequence[KeepRule],
    tiers: Collection[Tier] = TIERS,
) -> list[DuplicateGroup]:
    """Form groups of related files, sorted by tier, the largest first.

    Parameters
    ----------
    files : mapping
        Content -> its files; pairs of other contents are ignored.
    rules : sequence of KeepRule
        Decide which file is kept.
    tiers : collection of Tier
        Groups to return.
    """
    usable = _series([pair for pair in pairs if pair.first in files and pair.second in files])
    same = [pair for pair in usable if pair.verdict.tier == "picture" and "picture" in tiers]
    union = UnionFind()
    for pair in same:
        union.join(pair.first, pair.second)
    sets: dict[int, list[int]] = defaultdict(list)
    # All contents, also those without pairs: identical files of one content are a group by themselves.
    for content in files:
        sets[union.of(content)].append(content)
    links = _links(same)
    groups, heads = [], {}
    for root, contents in sets.items():
        ordered, why = best_first([file for content in contents for file in files[content]], rules)
        heads[root] = ordered[0]
        group = _same(ordered, why, links)
        if group is not None and group.tier in tiers:
            groups.append(group)
    if "part" in tiers:
        groups += _parts(usable, union, heads, rules)
    if "scene" in tiers:
        groups += _scenes(usable, union, heads, rules)
    return sorted(
        groups, key=lambda group: (TIERS.index(group.tier), -len(group.members), group.kept.file.name)
    )


def _series(pairs: Sequence[DuplicatePair]) -> list[DuplicatePair]:
    """Change "written over" to "scene" for pictures of a series.

    An object that enters the view of a fixed camera looks like an overlay; but such a camera takes several
    pictures, of which others are recognised as another moment.
    """
    # E.g. frames 1, 2 and 3 of one camera: 1-2 and 2-3 are "another moment", but 1-3 looks "written over", as
    # a person has come in. 1 and 3 belong to one such pair each, so 1-3 stays a part. Once a frame 4 is
    # another moment of 3, 3 belongs to two, and 1-3 becomes a scene.
    moments: Counter[int] = Counter()
    for pair in pairs:
        if pair.verdict.change == "another moment":
            moments.update((pair.first, pair.second))
    return [
        replace(pair, verdict=replace(pair.verdict, tier="scene", change="another moment", box=None))
        if pair.verdict.change == "written over" and max(moments[pair.first], moments[pair.second]) >= SERIES
        else pair
        for pair in pairs
    ]


Links = dict[int, dict[int, DuplicatePair]]  # content -> other content -> their pair


def _links(pairs: Iterable[DuplicatePair]) -> Links:
    links: Links = defaultdict(dict)
    for pair in pairs:
        links[pair.first][pair.second] = links[pair.second][pair.first] = pair
    return links


def _same(ordered: Sequence[File], why: str, links: Links) -> DuplicateGroup | None:
    """The group of the files of one picture; None for a single file."""
    if len(ordered) < 2:
        return None
    head = ordered[0]
    others = []
    for file in ordered[1:]:
        if file.content == head.content:
            others.append(GroupMember(file, "bytes"))
        else:
            # Without a pair with the kept file, the nearest pair with another copy is the evidence.
            direct = links[file.content].get(head.content)
            others.append(
                GroupMember(file, "picture", direct or _closest(links[file.content]), direct is not None)
            )
    tier = max((member.tier for member in others), key=TIERS.index)
    return DuplicateGroup(tier, GroupMember(head, "bytes"), tuple(others), why)


def _closest(links: Mapping[int, DuplicatePair]) -> DuplicatePair:
    return max(links.values(), key=lambda pair: pair.verdict.pixels)


def _parts(
    pairs: Iterable[DuplicatePair], union: UnionFind, heads: Mapping[int, File], rules: Sequence[KeepRule]
) -> Iterator[DuplicateGroup]:
    """Yield a group for every whole, with the parts found in it."""
    inside: dict[int, dict[int, DuplicatePair]] = defaultdict(dict)
    for pair in pairs:
        a, b = union.of(pair.first), union.of(pair.second)
        # a == b: the two are connected as copies through other pictures, and need no second group.
        if pair.verdict.tier != "part" or a == b:
            continue
        if pair.verdict.whole is None:  # neither contains the other: the better file takes this role
            first = best_first([heads[a], heads[b]], rules)[0][0]
            whole, part = (a, b) if first is heads[a] else (b, a)
        else:
            # `whole` 0 is the first of the pair, and `a` is the set of the first.
            whole, part = (a, b) if pair.verdict.whole == 0 else (b, a)
        # Several copies of the part may lie in several copies of the whole: the clearest pair is the
        # evidence.
        best = inside[whole].get(part)
        if best is None or pair.verdict.pixels > best.verdict.pixels:
            inside[whole][part] = pair
    for whole, parts in inside.items():
        members = [GroupMember(heads[part], "part", pair) for part, pair in parts.items()]
        members.sort(key=lambda member: member.file.name)
        kept = GroupMember(heads[whole], "part")
        yield DuplicateGroup("part", kept, tuple(members), "the others are parts of it")


def _scenes(
    pairs: Iterable[DuplicatePair], union: UnionFind, heads: Mapping[int, File], rules: Sequence[KeepRule]
) -> Iterator[DuplicateGroup]:
    """Yield groups of pictures of one scene, with one file of each picture."""
    loose = UnionFind()
    links: Links = defaultdict(dict)
    for pair in pairs:
        a, b = union.of(pair.first), union.of(pair.second)
        if pair.verdict.tier == "scene" and a != b:
            loose.join(a, b)
            links[a][b] = links[b][a] = pair
    sets: dict[int, list[int]] = defaultdict(list)
    for root in links:
        sets[loose.of(root)].append(root)
    for roots in sets.values():
        ordered, why = best_first([heads[root] for root in roots], rules)
        # By identity, as `best_first` returns the same objects: hashing a File would hash its eleven fields.
        root_of = {id(heads[root]): root for root in roots}
        head = root_of[id(ordered[0])]
        others = []
        for file in ordered[1:]:
            direct = links[root_of[id(file)]].get(head)
            pair = direct or _closest(links[root_of[id(file)]])
            others.append(GroupMember(file, "scene", pair, direct is not None))
        yield DuplicateGroup("scene", GroupMember(ordered[0], "scene"), tuple(others), why)
