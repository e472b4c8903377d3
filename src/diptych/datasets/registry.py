"""Data sets by CLIP_benchmark's names: class names and prompts, the paper's metric, names of their folders.

A line of data each. Where they lie in a folder is `places.py`'s business, reading them `layouts.py`'s, and
the words are `diptych.zeroshot`'s.
"""

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
class Known:
    """A data set this package knows by name.

    Attributes
    ----------
    name : str
        CLIP_benchmark's.
    prompts : str or None
        Its set of class names and templates in `diptych.zeroshot`; None where the paper has none: then the
        files tell the classes, and the template is "plain".
    metric : str
        The figure the paper gives for it (appendix A, table 9), by its name in results.
    task : "classification", "multilabel" or "retrieval"
    folders : tuple of str
        Names it goes by on disk, besides its own.
    inner : tuple of str
        Folders inside its folder that hold the classes.
    words : mapping
        Class as the files have it -> words, where the spelling does not tell.
    subset : bool
        Only the classes whose folders are there are answers, or those of `among`.
    among : tuple of int
        Positions of its classes among those of `prompts`, where it is defined on a part of them.
    in_order : bool
        All its folders, sorted, go with the class names one by one.
    domains : bool
        Folders above the class folders are domains, to be measured apart.
    train_and_val : bool
        The paper trains on both (table 9); a release in lists of its own says so itself (`released.py`).
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
        """How many, where that is known before the files are read."""
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
    Known(name="imagenet1k", prompts="imagenet", folders=("imagenet", "ilsvrc2012")),
    Known(
        name="imagenetv2", prompts="imagenet", folders=("imagenetv2-matched-frequency-format", "imagenet-v2")
    ),
    Known(name="imagenet_sketch", prompts="imagenet", inner=("sketch",)),
    Known(name="imagenet-a", prompts="imagenet", subset=True, among=IMAGENET_A),
    Known(name="imagenet-r", prompts="imagenet", subset=True, among=IMAGENET_R),
    Known(name="imagenet-o", prompts="imagenet", subset=True),
    Known(name="objectnet", prompts="imagenet", subset=True, folders=("objectnet-1.0",)),
    Known(name="imagenet-100", prompts="imagenet", subset=True),
    # the paper's other data sets
    Known(name="food101", prompts="food101"),
    Known(name="cifar10", prompts="cifar10"),
    Known(name="cifar10.1", prompts="cifar10"),
    Known(name="cifar100", prompts="cifar100"),
    Known(name="birdsnap", prompts="birdsnap"),
    Known(name="sun397", prompts="sun397"),
    Known(name="cars", prompts="cars", folders=("stanford_cars",)),
    Known(
        name="fgvc_aircraft", prompts="fgvc_aircraft", metric=PER_CLASS, folders=("fgvc-aircraft-2013b",)
    ),
    Known(name="voc2007_multilabel", prompts="voc2007", metric=ELEVEN_POINTS, task="multilabel",
          folders=("VOCdevkit",)),
    Known(name="voc2007", prompts="voc2007"),
    Known(name="dtd", prompts="dtd"),
    Known(name="pets", prompts="pets", metric=PER_CLASS, folders=("oxford-iiit-pet", "oxford_pets")),
    Known(
        name="vtab/caltech101",
        prompts="caltech101",
        metric=PER_CLASS,
        inner=("101_ObjectCategories",),
        words={"BACKGROUND_Google": "background"},
    ),
    Known(name="flowers", prompts="flowers102", metric=PER_CLASS,
          folders=("flowers102", "oxford_flowers102")),
    Known(name="mnist", prompts="mnist"),
    Known(name="fer2013", prompts="fer2013", words=_FACES),
    Known(name="stl10", prompts="stl10", folders=("stl10_binary",)),
    Known(name="eurosat", prompts="eurosat", inner=("2750",), words=_LAND),
    Known(name="vtab/resisc45", prompts="resisc45"),
    Known(name="gtsrb", prompts="gtsrb"),
    Known(name="vtab/kitti_closest_vehicle_distance", prompts="kitti", folders=("kitti",)),
    Known(name="country211", prompts="country211", in_order=True, train_and_val=True),
    Known(name="pcam", prompts="pcam", folders=("patch_camelyon",)),
    Known(name="ucf101", prompts="ucf101"),
    Known(name="kinetics700", prompts="kinetics700", metric=MEAN_OF_TOP_1_AND_5),
    Known(name="vtab/clevr_count_all", prompts="clevr_counts", folders=("clevr_counts",)),
    Known(name="hateful_memes", prompts="hateful_memes", metric="roc_auc"),
    Known(
        name="renderedsst2", prompts="sst2", folders=("rendered-sst2", "sst2"), train_and_val=True
    ),
    # the rest of VTAB: class names come with CLIP_benchmark's shards
    Known(name="vtab/svhn"),
    Known(name="vtab/clevr_closest_object_distance"),
    Known(name="vtab/diabetic_retinopathy"),
    Known(name="vtab/dmlab"),
    Known(name="vtab/dsprites_label_orientation"),
    Known(name="vtab/dsprites_label_x_position"),
    Known(name="vtab/dsprites_label_y_position"),
    Known(name="vtab/smallnorb_label_azimuth"),
    Known(name="vtab/smallnorb_label_elevation"),
    # pictures and captions
    Known(name="mscoco_captions", task="retrieval", metric="image_retrieval_recall@1"),
    Known(name="flickr30k", task="retrieval", metric="image_retrieval_recall@1"),
    Known(name="flickr8k", task="retrieval", metric="image_retrieval_recall@1"),
    # not the paper's, nor CLIP_benchmark's
    Known(name="pacs", domains=True),
    Known(name="tfflowers", folders=("tf_flowers", "flower_photos"), words=_FLOWERS),
)  # fmt: skip

KNOWN: Mapping[str, Known] = MappingProxyType({one.name: one for one in _ALL})
"""Data sets by name."""


def short(name: str) -> str:
    """A name without CLIP_benchmark's prefixes for where it comes from.

    Examples
    --------
    >>> short("wds/vtab/caltech101"), short("cifar10")
    ('caltech101', 'cifar10')
    """
    return name.removeprefix("wds/").removeprefix("vtab/")


def known(name: str) -> Known:
    """The data set of a name; the prefixes wds/ and vtab/ may be there or not.

    Raises
    ------
    InputError
        No data set of that name.

    Examples
    --------
    >>> known("wds/vtab/cifar10").name, known("caltech101").metric
    ('cifar10', 'mean_per_class_recall')
    """
    found = next((one for one in _ALL if short(one.name) == short(name.lower())), None)
    if found is not None:
        return found
    near = difflib.get_close_matches(short(name.lower()), [short(one) for one in KNOWN], n=3)
    meant = f" (did you mean {', '.join(near)}?)" if near else ""
    raise InputError(f"no data set is known as {name!r}{meant}: there are {', '.join(KNOWN)}")
