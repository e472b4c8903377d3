"""Items to vectors: decoded ahead, encoded in batches, kept in memory or in folders that other tools read.

`batches` is the one stream that everything goes through which embeds many things. The other files write
folders of vectors: `units` cuts what there is into pieces of work, `items` reads one piece, `encoding` embeds
it, `folder` writes and reads the layout (clip-retrieval's, with a manifest beside it), `run` brings them
together so that a killed run continues, and `cluster` does the same on many machines. A collection that
answers questions is `diptych.catalog`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diptych.lazy import lazy_attributes

if TYPE_CHECKING:
    from diptych.embedding.batches import Collected, Embedded, Failed, collect, embed_images, embed_texts
    from diptych.embedding.encoding import EmbeddingSettings
    from diptych.embedding.folder import (
        EmbeddingPart,
        Manifest,
        PartRecord,
        is_embeddings,
        read_manifest,
        read_parts,
        write_manifest,
        write_part,
    )
    from diptych.embedding.run import EmbeddingSummary, embed_to_folder
    from diptych.embedding.units import UNIT_ROWS, Columns

__all__ = [
    "embed_images",
    "embed_texts",
    "collect",
    "Embedded",
    "Failed",
    "Collected",
    "embed_to_folder",
    "EmbeddingSettings",
    "Columns",
    "EmbeddingSummary",
    "UNIT_ROWS",
    "read_manifest",
    "read_parts",
    "is_embeddings",
    "write_manifest",
    "write_part",
    "Manifest",
    "EmbeddingPart",
    "PartRecord",
]

_MODULES = {
    **dict.fromkeys(("embed_images", "embed_texts", "collect", "Embedded", "Failed", "Collected"), "batches"),
    **dict.fromkeys(("embed_to_folder", "EmbeddingSummary"), "run"),
    **dict.fromkeys(("Columns", "UNIT_ROWS"), "units"),
    **dict.fromkeys(("read_manifest", "read_parts", "is_embeddings", "write_manifest"), "folder"),
    **dict.fromkeys(("write_part", "Manifest", "EmbeddingPart", "PartRecord"), "folder"),
    "EmbeddingSettings": "encoding",
}

if not TYPE_CHECKING:  # a type checker that saw it would take any name for one of ours
    __getattr__ = lazy_attributes(__name__, _MODULES)
