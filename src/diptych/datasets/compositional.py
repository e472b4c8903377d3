"""Compositional benchmarks (Winoground, ARO, SugarCrepe): images with similar captions, one of them right.

A benchmark is a set of images, or crops of images, that one or more tasks share: ARO has two tasks,
SugarCrepe seven. Its files are read by `compositional_records.py`.
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
    CaseRecord,
    read_aro,
    read_sugar_crepe,
    read_winoground,
)
from diptych.datasets.dataset import stratified
from diptych.datasets.formats.archives import ImageEntry
from diptych.datasets.formats.containers import scan
from diptych.datasets.formats.parquet import is_parquet
from diptych.datasets.regions import Box, Regions, digest_of
from diptych.errors import DataError, counted, listed
from diptych.files.tables import column_names
from diptych.files.unicode_text import composed
from diptych.media import IMAGE_SUFFIXES

_ARO_FILES = {"visual_genome_relation": "vg_relation", "visual_genome_attribution": "vg_attribution"}
# Paths of the images beside the files, as released or as unpacked by the original evaluations.
_PICTURES = {
    "winoground": ("images", "images.zip"),
    "aro": ("images", "vgr_vga_images.zip", "images.zip"),
    "sugar_crepe": (
        *("val2017", "coco/images/val2017", "coco/val2017", "images/val2017", "images"),
        *("val2017.zip", "coco/val2017.zip"),
    ),
}
LEAST_PAIRS = 25  # minimum number of cases for a pair of attributes to count, as in ARO's evaluation
# Relations that ARO's authors leave out of the mean over relations, because they are symmetric ("next to") or
# rare; from the notebook that reproduces the paper's figures.
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
    """A test case.

    Attributes
    ----------
    images : tuple of int
        Positions in the benchmark's images.
    captions : tuple of str
        The caption of each of these images, in their order, then wrong captions.
    categories : mapping of str to str
        Kind of category -> category.
    """

    images: tuple[int, ...]
    captions: tuple[str, ...]
    categories: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SelectionTask:
    """Test cases that are measured together: all of Winoground, one file of ARO or of SugarCrepe.

    Attributes
    ----------
    name : str
        Name in results: "winoground", "aro/vg_relation", "sugar_crepe/add_att".
    pictures : Regions
        All images of the benchmark.
    labels : (N,) int64
        Category for the mean over categories, as an index into `class_names`; -1: not counted.
    class_names : tuple of str
        Empty if no mean over categories is defined.
    skipped : tuple of (key, reason)
        CaseRecords that were left out, and missing images.
    sampled_from : int or None
        Number of cases from which a sample was drawn; None: these are all.
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
        """The number of cases in words; of a sample with the total number."""
        if self.sampled_from is None:
            return counted(len(self), "case")
        return f"a random sample of {len(self):,} of {self.sampled_from:,} cases"

    @property
    def fingerprint(self) -> str:
        """Hash over the images and captions of each case, in order, independent of file names."""
        digests = self.pictures.digests()
        joined = (digest_of(*(digests[position] for position in case.images)) for case in self.cases)
        answers = ([case.captions, sorted(case.categories.items())] for case in self.cases)
        return contents.fingerprint(joined, answers)

    def sample(self, count: int, seed: int = 0) -> SelectionTask:
        """Draw a sample of at most `count` cases, stratified by category, in their order."""
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
    tasks : tuple of SelectionTask
        At least one.
    """

    name: str
    pictures: Regions
    tasks: tuple[SelectionTask, ...]

    def sample(self, count: int, seed: int = 0) -> CompositionalBenchmark:
        """Draw samples of at most `count` cases of each task, and keep the images that they use."""
        tasks = [task.sample(count, seed) for task in self.tasks]
        used = sorted({position for task in tasks for case in task.cases for position in case.images})
        new_position = {old: new for new, old in enumerate(used)}
        pictures = self.pictures.take(used)
        return replace(
            self,
            pictures=pictures,
            tasks=tuple(
                replace(
                    task,
                    pictures=pictures,
                    cases=tuple(
                        replace(case, images=tuple(new_position[image] for image in case.images))
                        for case in task.cases
                    ),
                )
                for task in tasks
            ),
        )


def load_compositional(
    path: str | Path, *, images: str | Path | None = None
) -> tuple[CompositionalBenchmark, ...]:
    """Load the compositional benchmarks of a folder, which are recognised by their files.

    Parameters
    ----------
    path : path
        A folder with `examples.jsonl` (Winoground) or Parquet with its columns, with
        `visual_genome_relation.json` or `visual_genome_attribution.json` (ARO), or with `add_att.json` and
        the like (SugarCrepe); in the folder itself or in an inner folder `data`. Or a Parquet file of
        Winoground.
    images : path, optional
        The folder or archive (zip, tar) of the images. By default it is searched beside the files under the
        released names: `images.zip` or `images` for Winoground, `images` or `vgr_vga_images.zip` for ARO,
        `val2017` or `val2017.zip` for SugarCrepe.

    Raises
    ------
    DataError
        No benchmark, no images, or no usable record in a file.
    """
    root = Path(path)
    if not root.exists():
        raise DataError(f"{root} is not there: expected a folder with Winoground, ARO or SugarCrepe")
    images_path = None if images is None else Path(images)
    benchmarks = [
        _benchmark(name, files, images_path)
        for name, files in (
            ("winoground", _winoground_files(root)),
            ("aro", _named_files(root, _ARO_FILES)),
            ("sugar_crepe", _named_files(root, SUGAR_CREPE_FILES)),
        )
        if files
    ]
    if not benchmarks:
        raise DataError(
            f"{root} is not a compositional benchmark: expected a folder with examples.jsonl or Parquet of "
            f"the columns {listed(WINOGROUND_COLUMNS)} (Winoground), visual_genome_relation.json or "
            "visual_genome_attribution.json (ARO), or add_att.json, swap_obj.json and the like (SugarCrepe)"
        )
    return tuple(benchmarks)


# ------------------------------------------------------------------------------------------- which files


def _named_files(root: Path, stems: Iterable[str]) -> list[Path]:
    """The JSON files of these names, in the folder or in its folder `data`."""
    for folder in (root, root / "data"):
        if files := [file for stem in stems if (file := folder / f"{stem}.json").is_file()]:
            return files
    return []


def _winoground_files(root: Path) -> list[Path]:
    """examples.jsonl, else the Parquet files with Winoground's columns."""
    if root.is_file():
        return [root] if is_parquet(root) and _is_winoground(root) else []
    for folder in (root, root / "data"):
        if (file := folder / "examples.jsonl").is_file():
            return [file]
        if files := [file for file in sorted(folder.glob("*.parquet")) if _is_winoground(file)]:
            return files
    return []


def _is_winoground(file: Path) -> bool:
    return set(WINOGROUND_COLUMNS) <= set(column_names(file, "evaluation"))


def _benchmark(name: str, files: Sequence[Path], images: Path | None) -> CompositionalBenchmark:
    """Build a benchmark from the records of its files and the images that they name."""
    read = {"winoground": read_winoground, "aro": read_aro, "sugar_crepe": read_sugar_crepe}[name]
    each = [read(file) for file in files]
    image_names = {image for records, _ in each for record in records for image, _ in record.images}
    sources = list(files) if is_parquet(files[0]) else [_pictures_of(name, files[0].parent, images)]
    entries = _entries(sources, image_names)
    if not entries:
        raise DataError(
            f"none of the {len(image_names):,} pictures that {files[0].name} names is in {sources[0]}: "
            f"expected files such as {min(image_names)!r:.60}; --images names another folder or archive"
        )
    parts = {
        part for records, _ in each for record in records for part in record.images if part[0] in entries
    }
    order = {entry: position for position, entry in enumerate(entries.values())}
    ordered = sorted(parts, key=lambda part: (order[entries[part[0]]], part[1] or (), part[0]))
    pictures = Regions(name, tuple(entries[image] for image, _ in ordered), tuple(box for _, box in ordered))
    position_of = {part: position for position, part in enumerate(ordered)}
    if name == "winoground":  # its Parquet may have several files
        each = [
            (
                [item for records, _ in each for item in records],
                [item for _, skipped_item in each for item in skipped_item],
            )
        ]
    names = [name] if name == "winoground" else [_task_name(name, file) for file in files]
    tasks = tuple(
        _task(task, pictures, records, left_out, position_of)
        for task, (records, left_out) in zip(names, each, strict=True)
    )
    return CompositionalBenchmark(name, pictures, tasks)


def _task_name(benchmark: str, file: Path) -> str:
    return f"{benchmark}/{_ARO_FILES.get(file.stem, file.stem)}"


def _task(
    name: str,
    pictures: Regions,
    records: Sequence[CaseRecord],
    left_out: Sequence[tuple[str, str]],
    position_of: Mapping[tuple[str, Box | None], int],
) -> SelectionTask:
    usable = [record for record in records if all(part in position_of for part in record.images)]
    missing = {
        image: None for record in records for image, box in record.images if (image, box) not in position_of
    }
    # From all records, not from the kept ones: a missing image must not change which categories count.
    class_names = _counted(records)
    number = {category: index for index, category in enumerate(class_names)}
    return SelectionTask(
        name,
        pictures,
        tuple(Case(tuple(map(position_of.__getitem__, r.images)), r.captions, r.categories) for r in usable),
        np.array([number.get(_category(record), -1) for record in usable], dtype=np.int64),
        class_names,
        (*left_out, *((image, "named by a test case, but missing") for image in missing)),
    )


def _category(record: CaseRecord) -> str:
    """Category for ARO's mean over categories; "" in other benchmarks."""
    return record.categories.get("relation") or record.categories.get("attributes") or ""


def _counted(records: Iterable[CaseRecord]) -> tuple[str, ...]:
    """Categories that ARO's authors average over, sorted; none for other benchmarks."""
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
    """Find the folder or archive of the images."""
    if images is not None:
        if not images.exists():
            raise DataError(f"--images {images} is not there: expected the folder or archive of the pictures")
        return images
    candidates = [base / candidate for base in (folder, folder.parent) for candidate in _PICTURES[name]]
    existing = next((candidate for candidate in candidates if candidate.exists()), None)
    if existing is None:
        raise DataError(
            f"{folder} has no pictures beside the files of {name}: expected "
            f"{' or '.join(_PICTURES[name][:2])} there; --images PATH names a folder or archive elsewhere"
        )
    return existing


def _entries(sources: Sequence[Path], names: set[str]) -> dict[str, ImageEntry]:
    """Name -> entry of the image, in the order in which images are read.

    A name is compared with the ends of existing paths, with and without the suffix: "1.jpg" matches
    VG_100K/1.jpg, and "ex_0_img_0" matches images/ex_0_img_0.png. So no name can point outside the folder.
    """
    entries: dict[str, ImageEntry] = {}
    # CaseRecords and file names may be in different Unicode normal forms.
    named = {composed(name): name for name in names}
    for source in sources:
        for member, _ in scan(source, lambda _: False):
            for end in _ends(PurePosixPath(composed(str(member.name)))):
                if (name := named.get(end)) is not None:
                    entries.setdefault(name, ImageEntry(source, member.name, member.size))
    return entries


def _ends(path: PurePosixPath) -> Iterator[str]:
    """Yield the path and its ends without the first folders; each also without an image's suffix."""
    for start in range(len(path.parts)):
        end = PurePosixPath(*path.parts[start:])
        yield str(end)
        if end.suffix.lower() in IMAGE_SUFFIXES:
            yield str(end.with_suffix(""))
