"""Embed many images or texts: decode ahead, encode in batches, keep in memory or write to a folder.

`batches` is the pipeline that everything uses. The other modules write folders of embeddings: `units` splits
the sources into units of work, `items` reads a unit, `encoding` embeds it, `folder` writes and reads the
layout (that of clip-retrieval, plus a manifest), `run` coordinates them so that a killed run can be resumed,
and `cluster` distributes the units over many machines. Searchable collections are in `diptych.catalog`.
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
    "embed_images", "embed_texts", "collect", "Embedded", "Failed", "Collected", "embed_to_folder",
    "EmbeddingSettings", "Columns", "EmbeddingSummary", "UNIT_ROWS", "read_manifest", "read_parts",
    "is_embeddings", "write_manifest", "write_part", "Manifest", "EmbeddingPart", "PartRecord",
]  # fmt: skip

_MODULES = {
    **dict.fromkeys(("embed_images", "embed_texts", "collect", "Embedded", "Failed", "Collected"), "batches"),
    **dict.fromkeys(("embed_to_folder", "EmbeddingSummary"), "run"),
    **dict.fromkeys(("Columns", "UNIT_ROWS"), "units"),
    **dict.fromkeys(("read_manifest", "read_parts", "is_embeddings", "write_manifest"), "folder"),
    **dict.fromkeys(("write_part", "Manifest", "EmbeddingPart", "PartRecord"), "folder"),
    "EmbeddingSettings": "encoding",
}

if not TYPE_CHECKING:  # a type checker that sees __getattr__ would accept any misspelt name
    __getattr__ = lazy_attributes(__name__, _MODULES)
