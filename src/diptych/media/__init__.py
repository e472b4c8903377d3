"""Pictures from disk, memory and, on request, the network: one decoder path, hostile input refused.

Files of this room: `images` (the one way a picture is loaded), `sources` (paths, bytes and files, within
limits), `formats` and `raw` (bytes to an opened, not yet decoded picture), `colours` (any mode to RGB),
`profiles` (colours to sRGB), `png` and `truncation` (damage around the pixels, and at the end of them),
`layouts` (TIFF, BMP, PSD and others, whose layouts Pillow reads wrong), `fallbacks` (libvips),
`native` and `pillow` (what libraries print, and settle for a whole process),
`details`, `exif` and `words` (what a header tells), `frames` (whether there is more behind the first one),
`xmp` (keywords in sidecars), `files` (paths, folders and patterns to picture files), `system_folders`
(what no walk enters by itself), `patterns` and
`locations` (brace ranges, globs, addresses of shards), `archives` and `tars` (pictures inside archives, in
place), `hashes` (64 bits for a picture, and which are near) and `urls` (fetching, only when a caller asks).
Resizing to what a model sees is left to `diptych.inputs`.
"""

from __future__ import annotations

from diptych.media.decoding.colours import to_rgb
from diptych.media.details import Details, read_details
from diptych.media.folders.archives import (
    ArchiveEntry,
    is_archive,
    iter_members,
    list_archive,
    list_files,
    read_member,
)
from diptych.media.folders.files import IMAGE_SUFFIXES, find_images
from diptych.media.folders.system_folders import is_in_system_folder, is_system_folder
from diptych.media.images import load_image
from diptych.media.sources import Limits, Source
from diptych.media.urls import fetch

__all__ = [
    "load_image", "to_rgb", "find_images", "fetch", "read_details", "Details",
    "list_archive", "list_files", "read_member", "iter_members", "is_archive", "ArchiveEntry",
    "Limits", "Source", "IMAGE_SUFFIXES", "is_system_folder", "is_in_system_folder",
]  # fmt: skip
