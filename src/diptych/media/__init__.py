"""Load images and their metadata from files, archives, memory and, on request, the web.

`images` loads an image as upright RGB, `details` reads its metadata, `frames` detects further frames,
`sources` opens paths, bytes and files within limits, and `urls` downloads. `decoding` decodes the formats,
`metadata` reads EXIF, IPTC, XMP and sidecars, `folders` finds image files in folders and archives. Resizing
for a model is in `diptych.inputs`.
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
