"""Registry of known data sets by CLIP_benchmark's names: prompts, the paper's metric, folder names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

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


IMAGENET_A: tuple[int, ...] = (
    6, 11, 13, 15, 17, 22, 23, 27, 30, 37, 39, 42, 47, 50, 57, 70, 71, 76, 79, 89, 90, 94, 96, 97, 99,
    105, 107, 108, 110, 113, 124, 125, 130, 132, 143, 144, 150, 151, 207, 234, 235, 254, 277, 283, 287,
    291, 295, 298, 301, 306, 307, 308, 309, 310, 311, 313, 314, 315, 317, 319, 323, 324, 326, 327, 330,
    334, 335, 336, 347, 361, 363, 372, 378, 386, 397, 400, 401, 402, 404, 407, 411, 416, 417, 420, 425,
    428, 430, 437, 438, 445, 456, 457, 461, 462, 470, 472, 483, 486, 488, 492, 496, 514, 516, 528, 530,
    539, 542, 543, 549, 552, 557, 561, 562, 569, 572, 573, 575, 579, 589, 606, 607, 609, 614, 626, 627,
    640, 641, 642, 643, 658, 668, 677, 682, 684, 687, 701, 704, 719, 736, 746, 749, 752, 758, 763, 765,
    768, 773, 774, 776, 779, 780, 786, 792, 797, 802, 803, 804, 813, 815, 820, 823, 831, 833, 835, 839,
    845, 847, 850, 859, 862, 870, 879, 880, 888, 890, 897, 900, 907, 913, 924, 932, 933, 934, 937, 943,
    945, 947, 951, 954, 956, 957, 959, 971, 972, 980, 981, 984, 986, 987, 988,
)  # fmt: skip
"""The 200 classes of ImageNet-A (Hendrycks et al. 2021, arXiv 1907.07174)."""

IMAGENET_R: tuple[int, ...] = (
    1, 2, 4, 6, 8, 9, 11, 13, 22, 23, 26, 29, 31, 39, 47, 63, 71, 76, 79, 84, 90, 94, 96, 97, 99, 100,
    105, 107, 113, 122, 125, 130, 132, 144, 145, 147, 148, 150, 151, 155, 160, 161, 162, 163, 171, 172,
    178, 187, 195, 199, 203, 207, 208, 219, 231, 232, 234, 235, 242, 245, 247, 250, 251, 254, 259, 260,
    263, 265, 267, 269, 276, 277, 281, 288, 289, 291, 292, 293, 296, 299, 301, 308, 309, 310, 311, 314,
    315, 319, 323, 327, 330, 334, 335, 337, 338, 340, 341, 344, 347, 353, 355, 361, 362, 365, 366, 367,
    368, 372, 388, 390, 393, 397, 401, 407, 413, 414, 425, 428, 430, 435, 437, 441, 447, 448, 457, 462,
    463, 469, 470, 471, 472, 476, 483, 487, 515, 546, 555, 558, 570, 579, 583, 587, 593, 594, 596, 609,
    613, 617, 621, 629, 637, 657, 658, 701, 717, 724, 763, 768, 774, 776, 779, 780, 787, 805, 812, 815,
    820, 824, 833, 847, 852, 866, 875, 883, 889, 895, 907, 928, 931, 932, 933, 934, 936, 937, 943, 945,
    947, 948, 949, 951, 953, 954, 957, 963, 965, 967, 980, 981, 983, 988,
)  # fmt: skip
"""The 200 classes of ImageNet-R (Hendrycks et al. 2021, arXiv 2006.16241)."""


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
