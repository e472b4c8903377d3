"""Vectors in files: pictures or texts embedded into a folder that other tools read, part by part.

`units` cuts what there is into pieces of work, `items` reads one, `encoding` embeds it, `folder` writes and
reads the layout (clip-retrieval's, with a manifest beside it), `run` brings them together so that a killed
run goes on, and `cluster` does the same on many machines. A collection that answers questions is
`diptych.catalog`.
"""

from __future__ import annotations

from diptych.embeddings.encoding import Settings
from diptych.embeddings.folder import (
    Manifest,
    Part,
    Record,
    is_embeddings,
    read_manifest,
    read_parts,
    write_manifest,
    write_part,
)
from diptych.embeddings.run import Outcome, embed_to_folder
from diptych.embeddings.units import UNIT_ROWS, Columns

__all__ = [
    "embed_to_folder",
    "Settings",
    "Columns",
    "Outcome",
    "UNIT_ROWS",
    "read_manifest",
    "read_parts",
    "is_embeddings",
    "write_manifest",
    "write_part",
    "Manifest",
    "Part",
    "Record",
]
