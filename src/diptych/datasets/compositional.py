"""Compositional benchmarks read where they lie: which caption belongs to a picture, among similar ones.

A benchmark is a set of pictures, or parts of pictures, that one or more tasks share: ARO has two tasks,
SugarCrepe seven. What the files say is `compositional_records.py`'s; the scores are the business of
`diptych.evaluation`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from diptych.datasets import contents
from diptych.datasets.compositional_records import (
    SUGAR_CREPE_FILES,
    WINOGROUND_COLUMNS,
    Record,
    read_aro,
    read_sugar_crepe,
    read_winoground,
)
from diptych.datasets.dataset import stratified
from diptych.datasets.formats.archives import Entry
from diptych.datasets.formats.containers import scan
from diptych.datasets.formats.parquet import has_columns, is_parquet
from diptych.datasets.parts import listed
from diptych.datasets.regions import Box, Regions, digest_of
from diptych.errors import DataError, counted
from diptych.files.unicode_text import composed
from diptych.media import IMAGE_SUFFIXES

_ARO_FILES = {"visual_genome_relation": "vg_relation", "visual_genome_attribution": "vg_attribution"}
# Where the pictures lie beside the files, as released or as the original evaluations have them unpacked.
_PICTURES = {
    "winoground": ("images", "images.zip"),
    "aro": ("images", "vgr_vga_images.zip", "images.zip"),
    "sugar_crepe": (
        *("val2017", "coco/images/val2017", "coco/val2017", "images/val2017", "images"),
        *("val2017.zip", "coco/val2017.zip"),
    ),
}
LEAST_PAIRS = 25  # cases of a pair of attributes, or ARO's authors do not count it
# Relations that ARO's authors leave out of the mean over relations, because swapping the two things says the
# same ("next to") or the relation is rare; from the notebook that reproduces the paper's figures.
UNCOUNTED_RELATIONS = frozenset(
    """adjusting; attached to; between; bigger than; biting; boarding; brushing; chewing; cleaning; climbing;
    close to; coming from; coming out of; contain; crossing; dragging; draped over; drinking; drinking from;
    driving; driving down; driving on; eating from; eating in; enclosing; exiting; facing; filled with;
    floating in; floating on; flying; flying above; flying in; flying over; flying through; full of;
    going down; going into; going through; grazing in; growing in; growing on; guiding; hanging from;
    hanging in; hanging off; hanging over; higher than; holding onto; hugging; in between; jumping off;
    jumping on; jumping over; kept in; larger than; leading; leaning over; leaving; licking; longer than;
    looking in; looking into; looking out; looking over; looking through; lying next to; lying on top of;
    making; mixed with; mounted on; moving; on the back of; on the edge of; on the front of;
    on the other side of; opening; painted on; parked at; parked beside; parked by; parked in;
    parked in front of; parked near; parked next to; perched on; petting; piled on; playing; playing in;
    playing on; playing with; pouring; reaching for; reading; reflected on; riding on; running in; running on;
    running through; seen through; sitting behind; sitting beside; sitting by; sitting in front of;
    sitting near; sitting next to; sitting under; skiing down; skiing on; sleeping in; sleeping on;
    smiling at; sniffing; splashing; sprinkled on; stacked on; standing against; standing around;
    standing behind; standing beside; standing in front of; standing near; standing next to; staring at;
    stuck in; surrounding; swimming in; swinging; talking to; topped with; touching; traveling down;
    traveling on; tying; typing on; underneath; wading in; waiting for; walking across; walking by;
    walking down; walking next to; walking through; working in; working on; worn on; wrapped around;
    wrapped in; by; of; near; next to; with; beside; on the side of; around""".replace("\n    ", " ").split(
        "; "
    )
)


@dataclass(frozen=True)
class Case:
    """One test case.

    Attributes
    ----------
    images : tuple of int
        Positions in the benchmark's pictures.
    captions : tuple of str
        The caption of each of these pictures, in their order, then captions that fit none.
    categories : mapping of str to str
        Kind of category -> the category.
    """

    images: tuple[int, ...]
    captions: tuple[str, ...]
    categories: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SelectionTask:
    """Test cases that make one figure: all of Winoground, one file of ARO or of SugarCrepe.

    Attributes
    ----------
    name : str
        What results call it: "winoground", "aro/vg_relation", "sugar_crepe/add_att".
    pictures : Regions
        Those of the benchmark.
    cases : tuple of Case
    labels : (N,) int64
        Index into `class_names` of the category that the mean over categories goes by; -1: not counted.
    class_names : tuple of str
        Empty where no mean over categories is defined.
    skipped : tuple of (key, reason)
        Records that were left out, and pictures that are not there.
    sampled_from : int or None
        How many cases these were drawn from; None: they are all.
    """

    name: str
    pictures: Regions
    cases: tuple[Case, ...]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    sampled_from: int | None = None

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def extent(self) -> str:
        """The number of cases in words, which never calls a sample all of them."""
        if self.sampled_from is None:
            return counted(len(self), "case")
        return f"a random sample of {len(self):,} of {self.sampled_from:,} cases"

    @property
    def fingerprint(self) -> str:
        """Hash over the pictures and captions of each case, in order; file names play no part."""
        digests = self.pictures.digests()
        joined = (digest_of(*(digests[place] for place in case.images)) for case in self.cases)
        answers = ([case.captions, sorted(case.categories.items())] for case in self.cases)
        return contents.fingerprint(joined, answers)

    def sample(self, count: int, seed: int = 0) -> SelectionTask:
        """At most `count` cases drawn by category, in their old order."""
        if count >= len(self):
            return self
        rows = stratified(self.labels, count, seed)
        return replace(
            self,
            cases=tuple(self.cases[row] for row in rows),
            labels=self.labels[rows],
            sampled_from=self.sampled_from or len(self),
        )


@dataclass(frozen=True, eq=False)
class CompositionalBenchmark:
    """A benchmark as it was released.

    Attributes
    ----------
    name : str
        "winoground", "aro" or "sugar_crepe".
    pictures : Regions
    tasks : tuple of SelectionTask
        At least one.
    """

    name: str
    pictures: Regions
    tasks: tuple[SelectionTask, ...]

    def sample(self, count: int, seed: int = 0) -> CompositionalBenchmark:
        """At most `count` cases of each task, and the pictures that these need."""
        tasks = [task.sample(count, seed) for task in self.tasks]
        used = sorted({place for task in tasks for case in task.cases for place in case.images})
        place = {old: new for new, old in enumerate(used)}
        pictures = self.pictures.take(used)
        return replace(
            self,
            pictures=pictures,
            tasks=tuple(
                replace(
                    task,
                    pictures=pictures,
                    cases=tuple(
                        replace(case, images=tuple(place[one] for one in case.images)) for case in task.cases
                    ),
                )
                for task in tasks
            ),
        )


def load_compositional(
    path: str | Path, *, images: str | Path | None = None
) -> tuple[CompositionalBenchmark, ...]:
    """The compositional benchmarks in a folder, known by their files.

    Parameters
    ----------
    path : path
        A folder with `examples.jsonl` (Winoground) or Parquet with its columns, with
        `visual_genome_relation.json` or `visual_genome_attribution.json` (ARO), or with `add_att.json` and
        the like (SugarCrepe); in the folder itself or in one called `data`. Or a Parquet file of Winoground.
    images : path, optional
        The folder or archive (zip, tar) of the pictures. By default it is looked for beside the files under
        the names it was released with: `images.zip` or `images` for Winoground, `images` or
        `vgr_vga_images.zip` for ARO, `val2017` or `val2017.zip` for SugarCrepe.

    Raises
    ------
    DataError
        No benchmark there, no pictures, or nothing of a file that can be used.
    """
    root = Path(path)
    if not root.exists():
        raise DataError(f"{root} is not there: expected a folder with Winoground, ARO or SugarCrepe")
    where = None if images is None else Path(images)
    found = [
        _benchmark(name, files, where)
        for name, files in (
            ("winoground", _winoground_files(root)),
            ("aro", _named_files(root, _ARO_FILES)),
            ("sugar_crepe", _named_files(root, SUGAR_CREPE_FILES)),
        )
        if files
    ]
    if not found:
        raise DataError(
            f"{root} is no compositional benchmark: expected a folder with examples.jsonl or Parquet of "
            f"the columns {listed(WINOGROUND_COLUMNS)} (Winoground), visual_genome_relation.json or "
            "visual_genome_attribution.json (ARO), or add_att.json, swap_obj.json and the like (SugarCrepe)"
        )
    return tuple(found)


# ------------------------------------------------------------------------------------------- which files


def _named_files(root: Path, stems: Iterable[str]) -> list[Path]:
    """The JSON files of these names, in the folder or in the one called data."""
    for folder in (root, root / "data"):
        if files := [file for stem in stems if (file := folder / f"{stem}.json").is_file()]:
            return files
    return []


def _winoground_files(root: Path) -> list[Path]:
    """examples.jsonl, else the Parquet files with Winoground's columns."""
    if root.is_file():
        return [root] if is_parquet(root) and has_columns(root, WINOGROUND_COLUMNS) else []
    for folder in (root, root / "data"):
        if (file := folder / "examples.jsonl").is_file():
            return [file]
        files = [one for one in sorted(folder.glob("*.parquet")) if has_columns(one, WINOGROUND_COLUMNS)]
        if files:
            return files
    return []


def _benchmark(name: str, files: Sequence[Path], images: Path | None) -> CompositionalBenchmark:
    """Records of the files with the pictures that they name."""
    read = {"winoground": read_winoground, "aro": read_aro, "sugar_crepe": read_sugar_crepe}[name]
    each = [read(file) for file in files]
    wanted = {image for records, _ in each for record in records for image, _ in record.images}
    places = list(files) if is_parquet(files[0]) else [_pictures_of(name, files[0].parent, images)]
    entries = _entries(places, wanted)
    if not entries:
        raise DataError(
            f"none of the {len(wanted):,} pictures that {files[0].name} names is in {places[0]}: expected "
            f"files such as {min(wanted)!r:.60}; --images names another folder or archive"
        )
    shown = {
        part for records, _ in each for record in records for part in record.images if part[0] in entries
    }
    order = {entry: place for place, entry in enumerate(entries.values())}
    ordered = sorted(shown, key=lambda part: (order[entries[part[0]]], part[1] or (), part[0]))
    pictures = Regions(name, tuple(entries[one] for one, _ in ordered), tuple(box for _, box in ordered))
    place_of = {part: place for place, part in enumerate(ordered)}
    if name == "winoground":  # its Parquet may come in several files
        each = [([one for records, _ in each for one in records], [one for _, out in each for one in out])]
    names = [name] if name == "winoground" else [_task_name(name, file) for file in files]
    tasks = tuple(
        _task(task, pictures, records, left_out, place_of)
        for task, (records, left_out) in zip(names, each, strict=True)
    )
    return CompositionalBenchmark(name, pictures, tasks)


def _task_name(benchmark: str, file: Path) -> str:
    return f"{benchmark}/{_ARO_FILES.get(file.stem, file.stem)}"


def _task(
    name: str,
    pictures: Regions,
    records: Sequence[Record],
    left_out: Sequence[tuple[str, str]],
    place_of: Mapping[tuple[str, Box | None], int],
) -> SelectionTask:
    kept = [record for record in records if all(part in place_of for part in record.images)]
    missing = {image: None for one in records for image, box in one.images if (image, box) not in place_of}
    # By the whole file, not by what is left of it: a sample or a missing picture changes no protocol.
    class_names = _counted(records)
    number = {category: index for index, category in enumerate(class_names)}
    return SelectionTask(
        name,
        pictures,
        tuple(Case(tuple(map(place_of.__getitem__, r.images)), r.captions, r.categories) for r in kept),
        np.array([number.get(_category(record), -1) for record in kept], dtype=np.int64),
        class_names,
        (*left_out, *((image, "named by a test case and not there") for image in missing)),
    )


def _category(record: Record) -> str:
    """The category that ARO's mean goes by; "" in the others."""
    return record.categories.get("relation") or record.categories.get("attributes") or ""


def _counted(records: Iterable[Record]) -> tuple[str, ...]:
    """The categories that ARO's authors average over, sorted; none for the other benchmarks."""
    relations = Counter(
        record.categories["relation"] for record in records if "relation" in record.categories
    )
    pairs = Counter(
        record.categories["attributes"] for record in records if "attributes" in record.categories
    )
    frequent = {pair for pair, count in pairs.items() if count >= LEAST_PAIRS}
    return tuple(sorted((set(relations) - UNCOUNTED_RELATIONS) | frequent))


# --------------------------------------------------------------------------------------- where pictures are


def _pictures_of(name: str, folder: Path, images: Path | None) -> Path:
    """The folder or archive of the pictures."""
    if images is not None:
        if not images.exists():
            raise DataError(f"--images {images} is not there: expected the folder or archive of the pictures")
        return images
    candidates = [base / one for base in (folder, folder.parent) for one in _PICTURES[name]]
    found = next((one for one in candidates if one.exists()), None)
    if found is None:
        raise DataError(
            f"{folder} has no pictures beside the files of {name}: expected "
            f"{' or '.join(_PICTURES[name][:2])} there; --images PATH names a folder or archive elsewhere"
        )
    return found


def _entries(places: Sequence[Path], wanted: set[str]) -> dict[str, Entry]:
    """Name -> the picture of that name, in the order in which they are read.

    A name is compared with the ends of the paths that are there, with and without the suffix: "1.jpg" is
    VG_100K/1.jpg, and "ex_0_img_0" is images/ex_0_img_0.png. So no name leads out of the folder.
    """
    found: dict[str, Entry] = {}
    # The records and the files may have been packed by systems of two normal forms of Unicode.
    named = {composed(name): name for name in wanted}
    for place in places:
        for member, _ in scan(place, lambda _: False):
            for end in _ends(PurePosixPath(composed(str(member.name)))):
                if (name := named.get(end)) is not None:
                    found.setdefault(name, Entry(place, member.name, member.size))
    return found


def _ends(path: PurePosixPath) -> Iterator[str]:
    """The path, and what is left of it without its first folders; each also without a picture's suffix."""
    for start in range(len(path.parts)):
        end = PurePosixPath(*path.parts[start:])
        yield str(end)
        if end.suffix.lower() in IMAGE_SUFFIXES:
            yield str(end.with_suffix(""))
