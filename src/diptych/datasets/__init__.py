"""Data sets to measure on: labelled and captioned pictures, read where they lie, in the layouts they come in.

Files: `archives` (files of a folder, a tar or a zip, one after another), `records` (files of pixels),
`pickles` (CIFAR's batches as data), `pixel_tables` (HDF5 and CSV), `parquet` (tables of pictures),
`containers` (whatever holds pictures).

Layouts: `labelled` (what a layout says of its pictures), `parts` (for testing, for training), `pixel_sets`,
`shards`, `listings`, `released`, `class_folders` and `layouts` (which one a path has), `naming` (words for
the classes), `captions` (captions beside pictures).

What comes of it: `contents` (pictures in order, and their digests), `dataset` (labelled and captioned
pictures), `overlap` (pictures that two data sets share), `multilabel` (pictures with several classes),
`regions` (parts of pictures), `compositional` and `compositional_records` (Winoground, ARO and SugarCrepe),
`registry` (data sets by name), `places` (where they lie). Nothing is unpacked to disk, nothing is executed,
nothing is measured here.
"""

from __future__ import annotations

from diptych.datasets.compositional import CompositionalBenchmark, load_compositional
from diptych.datasets.dataset import (
    CaptionDataset,
    ImageDataset,
    load_captioned,
    load_labelled,
    load_labelled_shards,
)
from diptych.datasets.discovery import Place, find, there
from diptych.datasets.formats.class_folders import domains
from diptych.datasets.multilabel import MultiLabelDataset, load_multi_label

__all__ = [
    "load_labelled",
    "load_labelled_shards",
    "load_captioned",
    "load_multi_label",
    "load_compositional",
    "ImageDataset",
    "CaptionDataset",
    "MultiLabelDataset",
    "CompositionalBenchmark",
    "domains",
    "find",
    "there",
    "Place",
]
