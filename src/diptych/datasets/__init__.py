"""Data sets for evaluation: labelled and captioned images in the layouts in which they are published.

- `dataset`, `multilabel`, `captions`, `regions`, `compositional`: the data set classes and their readers.
- `registry` (known data sets by name), `discovery` (finds them on disk), `naming` (class names), `parts`
  (test, train, val), `contents` (image contents and digests), `overlap` (images that data sets share).
- `formats`: readers of folders, archives, files of pixels, Parquet, and of each published layout.

Nothing is unpacked to disk, and nothing in a file is executed.
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
from diptych.datasets.discovery import DatasetLocation, available_datasets, find_dataset
from diptych.datasets.formats.class_folders import domains
from diptych.datasets.multilabel import MultiLabelDataset, load_multi_label

__all__ = [
    "load_labelled", "load_labelled_shards", "load_captioned", "load_multi_label", "load_compositional",
    "ImageDataset", "CaptionDataset", "MultiLabelDataset", "CompositionalBenchmark", "domains",
    "find_dataset", "available_datasets", "DatasetLocation",
]  # fmt: skip
