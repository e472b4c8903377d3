"""From pairs to groups: what is one picture, what is part of what, what shows one scene.

Pictures that are the same make one group, whatever the number of copies; parts are gathered around the whole
they lie in, so that two parts of one collage do not become each other's copies; scenes are gathered loosely
and never reach into the other groups. Every file of a group says what it is to the one that is kept.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from diptych.catalog.duplicates.keeping import File, KeepRule, best_first
from diptych.catalog.duplicates.pairs import DuplicatePair
from diptych.matching.verdicts import TIERS, Tier

SERIES = 2  # other moments of a picture that make it one of a series


@dataclass(frozen=True)
class GroupMember:
    """A file of a group.

    Attributes
    ----------
    file : File
    tier : {"bytes", "picture", "part", "scene"}
        What it is to the file that is kept.
    pair : DuplicatePair, optional
        The evidence; none for the kept one and for the same bytes.
    direct : bool
        The evidence is about the kept one itself, not about another of the group.
    """

    file: File
    tier: Tier
    pair: DuplicatePair | None = None
    direct: bool = True


@dataclass(frozen=True)
class DuplicateGroup:
    """Files that belong together.

    Attributes
    ----------
    tier : {"bytes", "picture", "part", "scene"}
        Of the member that differs most.
    kept : GroupMember
        The one to keep; in tier "part" the whole.
    others : tuple of GroupMember
    why : str
        It is kept.
    """

    tier: Tier
    kept: GroupMember
    others: tuple[GroupMember, ...]
    why: str

    @property
    def members(self) -> tuple[GroupMember, ...]:
        """All of them, the kept one first."""
        return (self.kept, *self.others)


class UnionFind:
    """Sets that grow together (union-find).

    Examples
    --------
    >>> union = UnionFind()
    >>> union.join(1, 2)
    >>> union.join(3, 2)
    >>> union.of(1) == union.of(3), union.of(4)
    (True, 4)
    """

    def __init__(self) -> None:
        self._above: dict[int, int] = {}

    def of(self, one: int) -> int:
        """What stands for the set of this one."""
        root = one
        while self._above.get(root, root) != root:
            root = self._above[root]
        while self._above.get(one, one) != root:
            self._above[one], one = root, self._above[one]
        return root

    def join(self, a: int, b: int) -> None:
        """Make two sets one; the smaller number stands for it."""
        low, high = sorted((self.of(a), self.of(b)))
        self._above[high] = low


def make_groups(
    pairs: Iterable[DuplicatePair],
    files: Mapping[int, Sequence[File]],
    rules: Sequence[KeepRule],
    tiers: Collection[Tier] = TIERS,
) -> list[DuplicateGroup]:
    """Gather pictures into groups.

    Parameters
    ----------
    pairs : iterable of DuplicatePair
    files : mapping
        Content -> its files; pairs of other contents do not count.
    rules : sequence of KeepRule
        Which file is kept.
    tiers : collection of Tier
        Which groups are wanted.

    Returns
    -------
    list of DuplicateGroup
        By tier, the largest first.
    """
    known = _series([pair for pair in pairs if pair.first in files and pair.second in files])
    same = [pair for pair in known if pair.verdict.tier == "picture" and "picture" in tiers]
    union = UnionFind()
    for pair in same:
        union.join(pair.first, pair.second)
    sets: dict[int, list[int]] = defaultdict(list)
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
        groups += _parts(known, union, heads, rules)
    if "scene" in tiers:
        groups += _scenes(known, union, heads, rules)
    return sorted(
        groups, key=lambda group: (TIERS.index(group.tier), -len(group.members), group.kept.file.name)
    )


def _series(pairs: Sequence[DuplicatePair]) -> list[DuplicatePair]:
    """The pairs, where pictures of a series that seem to be written over are scenes like the rest of it.

    Something that comes into a standing camera's view looks like something that was laid over; but such a
    camera takes more than one picture.
    """
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
    """Files of one picture."""
    if len(ordered) < 2:
        return None
    head = ordered[0]
    others = []
    for file in ordered[1:]:
        if file.content == head.content:
            others.append(GroupMember(file, "bytes"))
        else:
            direct = links[file.content].get(head.content)
            others.append(
                GroupMember(file, "picture", direct or _closest(links[file.content]), direct is not None)
            )
    tier = max((one.tier for one in others), key=TIERS.index)
    return DuplicateGroup(tier, GroupMember(head, "bytes"), tuple(others), why)


def _closest(links: Mapping[int, DuplicatePair]) -> DuplicatePair:
    return max(links.values(), key=lambda pair: pair.verdict.pixels)


def _parts(
    pairs: Iterable[DuplicatePair], union: UnionFind, heads: Mapping[int, File], rules: Sequence[KeepRule]
) -> Iterator[DuplicateGroup]:
    """Every whole with the parts found in it."""
    inside: dict[int, dict[int, DuplicatePair]] = defaultdict(dict)
    for pair in pairs:
        a, b = union.of(pair.first), union.of(pair.second)
        if pair.verdict.tier != "part" or a == b:
            continue
        if pair.verdict.whole is None:  # neither lies in the other: around the one that would be kept
            first = best_first([heads[a], heads[b]], rules)[0][0]
            whole, part = (a, b) if first is heads[a] else (b, a)
        else:
            whole, part = (a, b) if pair.verdict.whole == 0 else (b, a)
        best = inside[whole].get(part)
        if best is None or pair.verdict.pixels > best.verdict.pixels:
            inside[whole][part] = pair
    for whole, parts in inside.items():
        members = [GroupMember(heads[part], "part", pair) for part, pair in parts.items()]
        members.sort(key=lambda member: member.file.name)
        yield DuplicateGroup(
            "part", GroupMember(heads[whole], "part"), tuple(members), "the others are parts of it"
        )


def _scenes(
    pairs: Iterable[DuplicatePair], union: UnionFind, heads: Mapping[int, File], rules: Sequence[KeepRule]
) -> Iterator[DuplicateGroup]:
    """Pictures of one scene, one file of each."""
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
        root_of = {id(heads[root]): root for root in roots}
        head = root_of[id(ordered[0])]
        others = []
        for file in ordered[1:]:
            direct = links[root_of[id(file)]].get(head)
            pair = direct or _closest(links[root_of[id(file)]])
            others.append(GroupMember(file, "scene", pair, direct is not None))
        yield DuplicateGroup("scene", GroupMember(ordered[0], "scene"), tuple(others), why)
