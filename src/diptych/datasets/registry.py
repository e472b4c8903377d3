"""Registry of known data sets by CLIP_benchmark's names: prompts, the paper's metric, folder names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

from diptych.datasets.imagenet_subsets import IMAGENET_A, IMAGENET_R
from diptych.errors import InputError
from diptych.zeroshot import class_names

Task: TypeAlias = Literal["classification", "multilabel", "retrieval"]

PER_CLASS = "mean_per_class_recall"
MEAN_OF_TOP_1_AND_5 = "mean_acc1_acc5"
ELEVEN_POINTS = "mean_average_precision_11_point"


@dataclass(frozen=True, kw_only=True)
class KnownDataset:
    """A data set in the registry.

    Attributes
    ----------
    name : str
        CLIP_benchmark's name.
    prompts : str or None
        Its set of class names and templates in `diptych.zeroshot`; None if the paper has none: then the
        class names come from the files, and the template is "plain".
    metric : str
        The metric of the paper (appendix A, table 9), by its name in results.
    task : "classification", "multilabel" or "retrieval"
    folders : tuple of str
        Further names of its folder or files on disk.
    inner : tuple of str
        Names of an inner folder that contains the class folders.
    words : mapping
        Class in the files -> class name, if the spelling differs.
    subset : bool
        Only classes with a folder, or those of `among`, can be predicted.
    among : tuple of int
        Positions of its classes in `prompts`, if it is defined on some of them.
    in_order : bool
        Its sorted folders correspond to the class names one by one.
    domains : bool
        Folders above the class folders are domains, which are measured separately.
    train_and_val : bool
        The paper trains on both (table 9); releases with their own lists handle it in `released.py`.
    """

    name: str
    prompts: str | None = None
    metric: str = "acc1"
    task: Task = "classification"
    folders: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    subset: bool = False
    among: tuple[int, ...] = ()
    in_order: bool = False
    domains: bool = False
    train_and_val: bool = False

    @property
    def classes(self) -> int | None:
        """Number of classes, if it is known before reading the files."""
        if self.among:
            return len(self.among)
        return None if self.prompts is None or self.subset else len(class_names(self.prompts))


_FLOWERS = {"roses": "rose", "sunflowers": "sunflower", "tulips": "tulip"}
_FACES = {"disgust": "disgusted", "fear": "fearful", "surprise": "surprised"}
_LAND = {
    "AnnualCrop": "annual crop land",
    "HerbaceousVegetation": "brushland or shrubland",
    "Highway": "highway or road",
    "Industrial": "industrial buildings or commercial buildings",
    "Pasture": "pasture land",
    "PermanentCrop": "permanent crop land",
    "Residential": "residential buildings or homes or apartments",
    "SeaLake": "lake or sea",
}

_ALL = (
    # ImageNet and its kin
    KnownDataset(name="imagenet1k", prompts="imagenet", folders=("imagenet", "ilsvrc2012")),
    KnownDataset(
        name="imagenetv2", prompts="imagenet", folders=("imagenetv2-matched-frequency-format", "imagenet-v2")
    ),
    KnownDataset(name="imagenet_sketch", prompts="imagenet", inner=("sketch",)),
    KnownDataset(name="imagenet-a", prompts="imagenet", subset=True, among=IMAGENET_A),
    KnownDataset(name="imagenet-r", prompts="imagenet", subset=True, among=IMAGENET_R),
    KnownDataset(name="imagenet-o", prompts="imagenet", subset=True),
    KnownDataset(name="objectnet", prompts="imagenet", subset=True, folders=("objectnet-1.0",)),
    KnownDataset(name="imagenet-100", prompts="imagenet", subset=True),
    # the paper's other data sets
    KnownDataset(name="food101", prompts="food101"),
    KnownDataset(name="cifar10", prompts="cifar10"),
    KnownDataset(name="cifar10.1", prompts="cifar10"),
    KnownDataset(name="cifar100", prompts="cifar100"),
    KnownDataset(name="birdsnap", prompts="birdsnap"),
    KnownDataset(name="sun397", prompts="sun397"),
    KnownDataset(name="cars", prompts="cars", folders=("stanford_cars",)),
    KnownDataset(
        name="fgvc_aircraft", prompts="fgvc_aircraft", metric=PER_CLASS, folders=("fgvc-aircraft-2013b",)
    ),
    KnownDataset(name="voc2007_multilabel", prompts="voc2007", metric=ELEVEN_POINTS, task="multilabel",
          folders=("VOCdevkit",)),
    KnownDataset(name="voc2007", prompts="voc2007"),
    KnownDataset(name="dtd", prompts="dtd"),
    KnownDataset(name="pets", prompts="pets", metric=PER_CLASS, folders=("oxford-iiit-pet", "oxford_pets")),
    KnownDataset(
        name="vtab/caltech101",
        prompts="caltech101",
        metric=PER_CLASS,
        inner=("101_ObjectCategories",),
        words={"BACKGROUND_Google": "background"},
    ),
    KnownDataset(name="flowers", prompts="flowers102", metric=PER_CLASS,
          folders=("flowers102", "oxford_flowers102")),
    KnownDataset(name="mnist", prompts="mnist"),
    KnownDataset(name="fer2013", prompts="fer2013", words=_FACES),
    KnownDataset(name="stl10", prompts="stl10", folders=("stl10_binary",)),
    KnownDataset(name="eurosat", prompts="eurosat", inner=("2750",), words=_LAND),
    KnownDataset(name="vtab/resisc45", prompts="resisc45"),
    KnownDataset(name="gtsrb", prompts="gtsrb"),
    KnownDataset(name="vtab/kitti_closest_vehicle_distance", prompts="kitti", folders=("kitti",)),
    KnownDataset(name="country211", prompts="country211", in_order=True, train_and_val=True),
    KnownDataset(name="pcam", prompts="pcam", folders=("patch_camelyon",)),
    KnownDataset(name="ucf101", prompts="ucf101"),
    KnownDataset(name="kinetics700", prompts="kinetics700", metric=MEAN_OF_TOP_1_AND_5),
    KnownDataset(name="vtab/clevr_count_all", prompts="clevr_counts", folders=("clevr_counts",)),
    KnownDataset(name="hateful_memes", prompts="hateful_memes", metric="roc_auc"),
    KnownDataset(
        name="renderedsst2", prompts="sst2", folders=("rendered-sst2", "sst2"), train_and_val=True
    ),
    # the rest of VTAB: class names come with CLIP_benchmark's shards
    KnownDataset(name="vtab/svhn"),
    KnownDataset(name="vtab/clevr_closest_object_distance"),
    KnownDataset(name="vtab/diabetic_retinopathy"),
    KnownDataset(name="vtab/dmlab"),
    KnownDataset(name="vtab/dsprites_label_orientation"),
    KnownDataset(name="vtab/dsprites_label_x_position"),
    KnownDataset(name="vtab/dsprites_label_y_position"),
    KnownDataset(name="vtab/smallnorb_label_azimuth"),
    KnownDataset(name="vtab/smallnorb_label_elevation"),
    # pictures and captions
    KnownDataset(name="mscoco_captions", task="retrieval", metric="image_retrieval_recall@1"),
    KnownDataset(name="flickr30k", task="retrieval", metric="image_retrieval_recall@1"),
    KnownDataset(name="flickr8k", task="retrieval", metric="image_retrieval_recall@1"),
    # not the paper's, nor CLIP_benchmark's
    KnownDataset(name="pacs", domains=True),
    KnownDataset(name="tfflowers", folders=("tf_flowers", "flower_photos"), words=_FLOWERS),
)  # fmt: skip

KNOWN: Mapping[str, KnownDataset] = MappingProxyType({dataset.name: dataset for dataset in _ALL})
"""Known data sets by name."""


def short(name: str) -> str:
    """Remove CLIP_benchmark's prefixes wds/ and vtab/ from a name.

    Examples
    --------
    >>> short("wds/vtab/caltech101"), short("cifar10")
    ('caltech101', 'cifar10')
    """
    return name.removeprefix("wds/").removeprefix("vtab/")


def known_dataset(name: str) -> KnownDataset:
    """Look up a data set by name; the prefixes wds/ and vtab/ are optional.

    Raises
    ------
    InputError
        An unknown name.

    Examples
    --------
    >>> known_dataset("wds/vtab/cifar10").name, known_dataset("caltech101").metric
    ('cifar10', 'mean_per_class_recall')
    """
    match = next((dataset for dataset in _ALL if short(dataset.name) == short(name.lower())), None)
    if match is not None:
        return match
    similar = difflib.get_close_matches(short(name.lower()), [short(dataset) for dataset in KNOWN], n=3)
    suggestion = f" (did you mean {', '.join(similar)}?)" if similar else ""
    raise InputError(f"no data set is known as {name!r}{suggestion}: there are {', '.join(KNOWN)}")
