"""Discovery of known data sets on disk: CLIP_benchmark's layouts, torchvision's folders, archives.

Data sets are recognised by the names of files and folders, without opening them: `cifar-10-batches-py`,
`wds_vtab-cifar10`, `cifar10-test-a.tar.gz` and `cifar10-train.tar.gz`, `caltech101/101_ObjectCategories`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from diptych.datasets.dataset import CaptionDataset, ImageDataset, dataset_of, load_captioned
from diptych.datasets.formats.labelled import Labelled, together
from diptych.datasets.formats.layouts import parts_in, read_labelled
from diptych.datasets.multilabel import MultiLabelDataset, load_multi_label, multi_label_parts
from diptych.datasets.naming import spelling
from diptych.datasets.overlap import without_copies
from diptych.datasets.parts import WORDS, Part, choose, part_in_name
from diptych.datasets.registry import KNOWN, KnownDataset, known_dataset, short
from diptych.errors import DataError, listed
from diptych.media import IMAGE_SUFFIXES, is_system_folder
from diptych.zeroshot import class_names, folder_names

_FILES = re.compile(r"\.(tar|tgz|tar\.(gz|bz2|xz)|parquet)$")
_GROUPS = {"wds", "vtab", "data", "datasets"}  # folders that hold data sets
_PART_WORDS = {word for words in WORDS.values() for word in words}
# Words that may follow the name of a data set: its part, size or packing.
_MORE = {
    *_PART_WORDS,
    *("a", "b", "k", "shot", "sample", "subset", "small", "images", "raw", "of", "shard", "wds", "format"),
    *("batches", "py", "python", "binary", "bin"),
}


@dataclass(frozen=True)
class DatasetLocation:
    """Location of a known data set on disk.

    Attributes
    ----------
    parts : mapping
        "test", "train" and "val", as far as present, -> its files, or its folder.
    unused : tuple of Path
        Files and folders with the name of the data set that are not read, because others have precedence.
    """

    known: KnownDataset
    parts: Mapping[str, tuple[Path, ...]]
    unused: tuple[Path, ...] = ()

    def open(
        self, part: Part = "test", *, domain: str | None = None
    ) -> ImageDataset | MultiLabelDataset | CaptionDataset:
        """Open the data set with the class names of the registry and the name of CLIP_benchmark.

        If a file is a copy of others, its images count once, with a warning.

        Parameters
        ----------
        part : "test", "train" or "val"
        domain : str, optional
            For class folders, only images below a folder of this name.

        Raises
        ------
        DataError
            A missing part, or files that cannot be read or do not match the class names.
        """
        if part not in self.parts:
            like = short(self.known.name)
            raise DataError(
                f"{self.known.name} has no part {part!r} here: it has {listed(self.parts)}; "
                f"expected a file or folder such as {like}-{part}.tar or {like}/{part}"
            )
        paths, name = self.parts[part], self.known.name
        if self.known.task == "retrieval":
            return without_copies(load_captioned(list(paths), part=part, name=name))
        if self.known.task == "multilabel":
            return load_multi_label(paths[0], part=part, name=name)
        labelled = together([read_labelled(path, part=part, domain=domain) for path in paths])
        return without_copies(
            name_known(labelled, self.known, name if domain is None else f"{name}/{domain}")
        )


def name_known(labelled: Labelled, dataset: KnownDataset, name: str) -> ImageDataset:
    """Apply the class names of a known data set to its images; class names from the files are kept."""
    if labelled.kind == "words":
        return dataset_of(labelled, name)
    spelled = {spelling(text): words for text, words in dataset.words.items()}
    labelled = replace(
        labelled, classes=tuple(spelled.get(spelling(text), text) for text in labelled.classes)
    )
    if dataset.prompts is None:
        return dataset_of(labelled, name)
    if dataset.subset and (wnids := _wnids_of(labelled, dataset)):
        folders = folder_names(dataset.prompts)
        if labelled.kind == "numbers":
            labelled = replace(labelled, classes=tuple(wnids[: len(labelled.classes)]), kind="names")
        return dataset_of(labelled, name, {wnid: folders[wnid] for wnid in wnids})
    if dataset.in_order and len(labelled.classes) == len(class_names(dataset.prompts)):
        labelled = replace(labelled, kind="numbers")
    return dataset_of(labelled, name, dataset.prompts)


def _wnids_of(labelled: Labelled, dataset: KnownDataset) -> list[str]:
    """WordNet ids of the data set's classes, in ImageNet's order; empty if images have other classes."""
    all_wnids = list(folder_names(dataset.prompts)) if dataset.prompts else []
    defined = [all_wnids[position] for position in dataset.among]
    if labelled.kind == "numbers":  # without folders, labels are positions in the data set's own list
        return defined if len(labelled.classes) <= len(defined) else []
    if set(labelled.classes) <= set(defined):
        return defined
    folders_present = set(labelled.classes)
    return (
        [wnid for wnid in all_wnids if wnid in folders_present] if folders_present <= set(all_wnids) else []
    )


def find_dataset(root: str | Path, name: str) -> DatasetLocation:
    """Find a data set by name in a folder of data sets, or take the folder or file itself.

    Parameters
    ----------
    root : path
        A folder of data sets, or the data set itself, whose file name is not checked.
    name : str
        As for `registry.known_dataset`.

    Raises
    ------
    DataError
        It is missing; the message lists the data sets of the folder.
    InputError
        An unknown name.
    """
    dataset, path = known_dataset(name), Path(root)
    if not path.exists():
        raise DataError(f"{path} is not there: expected a folder of data sets, or one data set")
    locations = available_datasets(path) if path.is_dir() else []
    match = next((location for location in locations if location.known == dataset), None)
    if match is not None:
        return match
    parts = _parts([path], dataset)
    if parts and (not locations or path.is_file()):
        return DatasetLocation(dataset, parts)
    like = " or ".join((short(dataset.name), *dataset.folders))
    names = listed(location.known.name for location in locations)
    raise DataError(
        f"{path} holds no {dataset.name}: it has {names}; expected a folder called {like}, or a file such as "
        f"{short(dataset.name)}-test.tar"
    )


def available_datasets(root: str | Path) -> list[DatasetLocation]:
    """Find all known data sets in a folder, in the registry's order.

    Examples
    --------
    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> for file in ("cifar10-test-a.tar.gz", "cifar10-train.tar.gz", "cifar100.txt", "notes.tar"):
    ...     (root / file).touch()
    >>> [(place.known.name, sorted(place.parts)) for place in available_datasets(root)]
    [('cifar10', ['test', 'train'])]
    """
    paths_by_name: dict[str, list[Path]] = {}
    for path in _candidates(Path(root)):
        if (dataset := recognise(path.name)) is not None:
            paths_by_name.setdefault(dataset.name, []).append(path)
    locations = []
    for dataset in KNOWN.values():
        paths = paths_by_name.get(dataset.name, [])
        if parts := _parts(paths, dataset):
            locations.append(
                DatasetLocation(dataset, parts, tuple(path for path in paths if _is_unused(path, parts)))
            )
    return locations


def _is_unused(path: Path, parts: Mapping[str, tuple[Path, ...]]) -> bool:
    """Whether no part uses this file or a file of this folder."""
    return not any(path == used or path in used.parents for paths in parts.values() for used in paths)


def recognise(name: str) -> KnownDataset | None:
    """Recognise the data set of a file or folder by its name; of several matches the longest.

    Examples
    --------
    >>> recognise("wds_vtab-cifar10_test").name, recognise("imagenet-sample-1000.tar").name
    ('cifar10', 'imagenet1k')
    >>> recognise("imagenet-a").name, recognise("imagenet-c"), recognise("cifar1000")
    ('imagenet-a', None, None)
    >>> recognise("imagenet-100").name, recognise("cifar10.1-test.tar").name, recognise("imagenet-21k")
    ('imagenet-100', 'cifar10.1', None)
    """
    stem = re.sub(r"^(wds[_-])?(vtab[_-])?", "", _FILES.sub("", name.lower()))
    best, length = None, 0
    for dataset in KNOWN.values():
        for alias in (short(dataset.name), *dataset.folders):
            # A point is significant: cifar10.1 is a data set, cifar10-1.tar may be a shard of cifar10.
            pattern = r"\.".join(r"[\W_]*".join(spelling(segment)) for segment in alias.split("."))
            match = re.match(rf"{pattern}(?![a-z0-9])", stem)
            size = len(spelling(alias))
            if match and size > length and _is_suffix(stem[match.end() :]):
                best, length = dataset, size
    return best


def paper_metric(*names: str) -> str:
    """The paper's metric of a known data set; "acc1" for others.

    Parameters
    ----------
    *names : str
        Names of the data set, its file or folder; the first known one is used.

    Examples
    --------
    >>> paper_metric("test", "hateful_memes"), paper_metric("kinetics700-val.tar"), paper_metric("mine")
    ('roc_auc', 'mean_acc1_acc5', 'acc1')
    """
    match = next((dataset for dataset in map(recognise, names) if dataset is not None), None)
    return "acc1" if match is None else match.metric


def _is_suffix(rest: str) -> bool:
    """Whether the rest of a name consists of parts, sizes and shard numbers; imagenet-100 is not ImageNet.

    A number is a size after a word (sample-1000), or a shard number if it begins with 0.
    """
    words = re.findall(r"t10k|[a-z]+|\d+|[^\W\da-z_]+", rest)
    numbers_fit = not words or not words[0].isdigit() or words[0].startswith("0")
    return numbers_fit and all(word.isdigit() or word in _MORE for word in words)


def _candidates(root: Path) -> Iterator[Path]:
    """Yield the folder itself, its content, and the content of folders that group data sets."""
    yield root
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if path.name.startswith(".") or is_system_folder(path.name):
            continue
        yield path
        if path.is_dir() and path.name.lower() in _GROUPS:
            yield from (candidate for candidate in _candidates(path) if candidate != path)


def _parts(paths: list[Path], dataset: KnownDataset) -> dict[str, tuple[Path, ...]]:
    """Part -> files or folder; folders with parts have precedence, then whole folders, then archives."""
    inside: dict[str, tuple[Path, ...]] = {}
    folders: dict[str, list[Path]] = {}
    files: dict[str, list[Path]] = {}
    for path in paths:
        word = part_in_name(path.name) or ""
        if path.is_dir():
            folder_parts = _in_folder(path, dataset)
            folders.setdefault(word, []).extend(folder_parts.pop("", ()))
            inside = {**_by_part(folder_parts), **inside}
        elif path.is_file() and (_FILES.search(path.name.lower()) or len(paths) == 1):
            files.setdefault(word, []).append(path)
    whole = {
        word: tuple(each) for folder_parts in (files, folders) for word, each in folder_parts.items() if each
    }
    parts = {**_by_part(whole), **inside}
    if dataset.train_and_val and {"train", "val"} <= parts.keys() and parts["train"] != parts["val"]:
        parts["train"] = (*parts["train"], *parts["val"])
    return parts


def _in_folder(path: Path, dataset: KnownDataset) -> dict[str, tuple[Path, ...]]:
    """Part -> folder or files, from a layout with parts or folders of parts; "" -> a folder without parts."""
    inner = (path, *_inner(path, dataset))
    for folder in inner:
        words = multi_label_parts(folder) if dataset.task == "multilabel" else parts_in(folder)
        if words:
            return dict.fromkeys(words, (folder,))
    if dataset.task == "multilabel":
        return {}
    for folder in reversed(inner):
        children = [
            child
            for child in sorted(folder.iterdir())
            if not child.name.startswith(".") and not is_system_folder(child.name)
        ]
        parts: dict[str, list[Path]] = {}
        for child in children:
            word = child.name.lower() if child.is_dir() else part_in_name(child.name)
            if word in _PART_WORDS and (child.is_dir() or _FILES.search(child.name.lower())):
                parts.setdefault(word, []).append(child)
        if parts:
            return {word: tuple(each) for word, each in parts.items()}
        flat = dataset.task == "retrieval" and any(
            child.suffix.lower() in IMAGE_SUFFIXES for child in children
        )
        if flat or any(child.is_dir() for child in children):
            return {"": (folder,)}
    return {}


def _inner(path: Path, dataset: KnownDataset) -> list[Path]:
    """Inner folders that may contain the data set: with a known inner name, or with its name."""
    children = (child for child in sorted(path.iterdir()) if child.is_dir())
    return [child for child in children if child.name in dataset.inner or recognise(child.name) == dataset]


def _by_part(paths: Mapping[str, tuple[Path, ...]]) -> dict[str, tuple[Path, ...]]:
    """Map names of parts to "test", "train" and "val"; files without a part are the test part."""
    parts: dict[str, tuple[Path, ...]] = {}
    for name, words in WORDS.items():
        if set(words) & set(paths):
            parts[name] = choose(paths, name, "")
    if "" in paths and "test" not in parts:
        parts["test"] = paths[""]
    return parts
