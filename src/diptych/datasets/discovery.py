"""Which known data sets a folder holds, and where: CLIP_benchmark's layouts, torchvision's folders, archives.

Data sets are recognised by the names of files and folders, nothing is opened: `cifar-10-batches-py`,
`wds_vtab-cifar10`, `cifar10-test-a.tar.gz` beside `cifar10-train.tar.gz`, `caltech101/101_ObjectCategories`.
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
from diptych.datasets.parts import WORDS, Part, choose, listed, told_part
from diptych.datasets.registry import KNOWN, Known, known, short
from diptych.errors import DataError
from diptych.media import IMAGE_SUFFIXES, is_system_folder
from diptych.zeroshot import class_names, folder_names

_FILES = re.compile(r"\.(tar|tgz|tar\.(gz|bz2|xz)|parquet)$")
_GROUPS = {"wds", "vtab", "data", "datasets"}  # folders that hold data sets
_PART_WORDS = {word for words in WORDS.values() for word in words}
# What may stand in a name beside the data set's own: its part, its size, how it is packed.
_MORE = {
    *_PART_WORDS,
    *("a", "b", "k", "shot", "sample", "subset", "small", "images", "raw", "of", "shard", "wds", "format"),
    *("batches", "py", "python", "binary", "bin"),
}


@dataclass(frozen=True)
class Place:
    """A known data set on disk.

    Attributes
    ----------
    known : Known
    parts : mapping
        "test", "train" and "val", where there are such, -> its files, or its folder.
    unused : tuple of Path
        What is called after the data set too, and is not read: another folder or archive stands for it.
    """

    known: Known
    parts: Mapping[str, tuple[Path, ...]]
    unused: tuple[Path, ...] = ()

    def open(
        self, part: Part = "test", *, domain: str | None = None
    ) -> ImageDataset | MultiLabelDataset | CaptionDataset:
        """The data set: class names of the registry, the name of CLIP_benchmark.

        Of several files, pictures of a later one that is a copy of earlier ones count once, with a warning.

        Parameters
        ----------
        part : "test", "train" or "val"
        domain : str, optional
            Of class folders, only pictures below a folder of this name.

        Raises
        ------
        DataError
            No such part, or files that cannot be read or do not match the class names.
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
        found = together([read_labelled(path, part=part, domain=domain) for path in paths])
        return without_copies(name_known(found, self.known, name if domain is None else f"{name}/{domain}"))


def name_known(found: Labelled, one: Known, name: str) -> ImageDataset:
    """Pictures of a known data set with its class names; words that came with them stay as they are."""
    if found.kind == "words":
        return dataset_of(found, name)
    spelled = {spelling(text): words for text, words in one.words.items()}
    found = replace(found, classes=tuple(spelled.get(spelling(text), text) for text in found.classes))
    if one.prompts is None:
        return dataset_of(found, name)
    if one.subset and (wnids := _wnids_of(found, one)):
        folders = folder_names(one.prompts)
        if found.kind == "numbers":
            found = replace(found, classes=tuple(wnids[: len(found.classes)]), kind="names")
        return dataset_of(found, name, {wnid: folders[wnid] for wnid in wnids})
    if one.in_order and len(found.classes) == len(class_names(one.prompts)):
        found = replace(found, kind="numbers")
    return dataset_of(found, name, one.prompts)


def _wnids_of(found: Labelled, one: Known) -> list[str]:
    """The classes that are answers, in ImageNet's order; none where the pictures are of other classes."""
    every = list(folder_names(one.prompts)) if one.prompts else []
    defined = [every[place] for place in one.among]
    if found.kind == "numbers":  # without folders, labels count the classes of the data set's own list
        return defined if len(found.classes) <= len(defined) else []
    if set(found.classes) <= set(defined):
        return defined
    there = set(found.classes)
    return [wnid for wnid in every if wnid in there] if there <= set(every) else []


def find(root: str | Path, name: str) -> Place:
    """Where a data set lies in a folder, or the folder or file itself.

    Parameters
    ----------
    root : path
        A folder of data sets, or the data set: then the name is taken at its word.
    name : str
        As `registry.known` takes it.

    Raises
    ------
    DataError
        It is not there; the message lists what is.
    InputError
        No data set of that name.
    """
    wanted, path = known(name), Path(root)
    if not path.exists():
        raise DataError(f"{path} is not there: expected a folder of data sets, or one data set")
    places = there(path) if path.is_dir() else []
    found = next((place for place in places if place.known == wanted), None)
    if found is not None:
        return found
    own = _parts([path], wanted)
    if own and (not places or path.is_file()):
        return Place(wanted, own)
    like = " or ".join((short(wanted.name), *wanted.folders))
    raise DataError(
        f"{path} holds no {wanted.name}: it has {listed(place.known.name for place in places)}; expected a "
        f"folder called {like}, or a file such as {short(wanted.name)}-test.tar"
    )


def there(root: str | Path) -> list[Place]:
    """The known data sets in a folder, in the registry's order.

    Examples
    --------
    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> for file in ("cifar10-test-a.tar.gz", "cifar10-train.tar.gz", "cifar100.txt", "notes.tar"):
    ...     (root / file).touch()
    >>> [(place.known.name, sorted(place.parts)) for place in there(root)]
    [('cifar10', ['test', 'train'])]
    """
    found: dict[str, list[Path]] = {}
    for path in _candidates(Path(root)):
        if (one := recognise(path.name)) is not None:
            found.setdefault(one.name, []).append(path)
    places = []
    for one in KNOWN.values():
        paths = found.get(one.name, [])
        if parts := _parts(paths, one):
            places.append(Place(one, parts, tuple(path for path in paths if _is_unused(path, parts))))
    return places


def _is_unused(path: Path, parts: Mapping[str, tuple[Path, ...]]) -> bool:
    """Whether nothing that is read lies in this folder, or is this file."""
    return not any(path == used or path in used.parents for paths in parts.values() for used in paths)


def recognise(name: str) -> Known | None:
    """The data set a file or folder is called after, by the longest of the names that fit.

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
    for one in KNOWN.values():
        for alias in (short(one.name), *one.folders):
            # A point stays: cifar10.1 is a data set, and cifar10-1.tar may be a shard of cifar10.
            pattern = r"\.".join(r"[\W_]*".join(spelling(piece)) for piece in alias.split("."))
            match = re.match(rf"{pattern}(?![a-z0-9])", stem)
            size = len(spelling(alias))
            if match and size > length and _only_more(stem[match.end() :]):
                best, length = one, size
    return best


def paper_metric(*names: str) -> str:
    """The paper's metric of a known data set; accuracy of any other.

    Parameters
    ----------
    *names : str
        What the data set, its file or folder is called; the first that is known counts.

    Examples
    --------
    >>> paper_metric("test", "hateful_memes"), paper_metric("kinetics700-val.tar"), paper_metric("mine")
    ('roc_auc', 'mean_acc1_acc5', 'acc1')
    """
    known = next((one for one in map(recognise, names) if one is not None), None)
    return "acc1" if known is None else known.metric


def _only_more(rest: str) -> bool:
    """Whether nothing but parts, sizes and numbers of shards follows; imagenet-100 is not ImageNet.

    A number is a size after a word (sample-1000), or that of a shard where it begins with 0.
    """
    words = re.findall(r"t10k|[a-z]+|\d+|[^\W\da-z_]+", rest)
    numbers_fit = not words or not words[0].isdigit() or words[0].startswith("0")
    return numbers_fit and all(word.isdigit() or word in _MORE for word in words)


def _candidates(root: Path) -> Iterator[Path]:
    """The folder itself, what is in it, and what is in the folders that hold data sets."""
    yield root
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if path.name.startswith(".") or is_system_folder(path.name):
            continue
        yield path
        if path.is_dir() and path.name.lower() in _GROUPS:
            yield from (one for one in _candidates(path) if one != path)


def _parts(paths: list[Path], one: Known) -> dict[str, tuple[Path, ...]]:
    """Part -> files or folder; folders that hold parts go first, then whole folders, then archives."""
    inside: dict[str, tuple[Path, ...]] = {}
    folders: dict[str, list[Path]] = {}
    files: dict[str, list[Path]] = {}
    for path in paths:
        word = told_part(path.name) or ""
        if path.is_dir():
            found = _in_folder(path, one)
            folders.setdefault(word, []).extend(found.pop("", ()))
            inside = {**_by_part(found), **inside}
        elif path.is_file() and (_FILES.search(path.name.lower()) or len(paths) == 1):
            files.setdefault(word, []).append(path)
    whole = {word: tuple(each) for found in (files, folders) for word, each in found.items() if each}
    parts = {**_by_part(whole), **inside}
    if one.train_and_val and {"train", "val"} <= parts.keys() and parts["train"] != parts["val"]:
        parts["train"] = (*parts["train"], *parts["val"])
    return parts


def _in_folder(path: Path, one: Known) -> dict[str, tuple[Path, ...]]:
    """Part -> folder or files, of a layout of its own or of folders of parts; "" -> one without parts."""
    inner = (path, *_inner(path, one))
    for folder in inner:
        words = multi_label_parts(folder) if one.task == "multilabel" else parts_in(folder)
        if words:
            return dict.fromkeys(words, (folder,))
    if one.task == "multilabel":
        return {}
    for folder in reversed(inner):
        children = [
            child
            for child in sorted(folder.iterdir())
            if not child.name.startswith(".") and not is_system_folder(child.name)
        ]
        parts: dict[str, list[Path]] = {}
        for child in children:
            word = child.name.lower() if child.is_dir() else told_part(child.name)
            if word in _PART_WORDS and (child.is_dir() or _FILES.search(child.name.lower())):
                parts.setdefault(word, []).append(child)
        if parts:
            return {word: tuple(each) for word, each in parts.items()}
        flat = one.task == "retrieval" and any(child.suffix.lower() in IMAGE_SUFFIXES for child in children)
        if flat or any(child.is_dir() for child in children):
            return {"": (folder,)}
    return {}


def _inner(path: Path, one: Known) -> list[Path]:
    """Folders inside that may be the data set's own: of its known names, or named like it."""
    children = (child for child in sorted(path.iterdir()) if child.is_dir())
    return [child for child in children if child.name in one.inner or recognise(child.name) == one]


def _by_part(found: Mapping[str, tuple[Path, ...]]) -> dict[str, tuple[Path, ...]]:
    """By "test" and "train"; what names no part is for testing."""
    parts: dict[str, tuple[Path, ...]] = {}
    for name, words in WORDS.items():
        if set(words) & set(found):
            parts[name] = choose(found, name, "")
    if "" in found and "test" not in parts:
        parts["test"] = found[""]
    return parts
