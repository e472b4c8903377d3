"""Catalogues: index the images of a collection once, then search them by text or by image.

A catalogue is a folder with a SQLite database of files and images, and memory-mapped files of float16
embeddings; or both are in PostgreSQL. `indexing.run` brings it up to date with the files on disk, `search`
answers queries, `duplicates`, `map` and `tags` build on both, and `exchange` exports, imports and moves it.
Nothing here depends on a model: the caller passes an encoder.
"""

from __future__ import annotations

from diptych.catalog.database.postgres import is_address
from diptych.catalog.exchange.exporting import export_vectors
from diptych.catalog.exchange.importing import ImportReport, import_vectors
from diptych.catalog.files.forgetting import check_forgettable, forget_paths
from diptych.catalog.files.listing import roots_of
from diptych.catalog.files.mounts import network_kind
from diptych.catalog.files.roots import known_roots
from diptych.catalog.indexing.inspection import CatalogSummary, check, summarise
from diptych.catalog.indexing.intake import IndexOutcome, IntakeSettings
from diptych.catalog.indexing.run import index as index_pictures
from diptych.catalog.indexing.run import planned_run
from diptych.catalog.indexing.watch import changed_folders
from diptych.catalog.search.heat_map import heat_map, overlay
from diptych.catalog.search.query import Term, parse_query
from diptych.catalog.search.search_result import Hit, SearchOptions, SearchResult
from diptych.catalog.search.searcher import Searcher
from diptych.catalog.store.browsing import ListingPage, list_pictures
from diptych.catalog.store.entries import CatalogEntry, failures, load_entry, read_entries
from diptych.catalog.store.filters import Filter
from diptych.catalog.store.store import Store

__all__ = [
    "Store", "is_address", "Searcher", "SearchOptions", "SearchResult", "ListingPage", "list_pictures", "Hit",
    "CatalogEntry", "Filter", "Term", "parse_query", "index_pictures", "forget_paths", "check_forgettable",
    "changed_folders", "known_roots", "planned_run", "network_kind", "roots_of", "check", "import_vectors",
    "ImportReport", "export_vectors", "summarise", "CatalogSummary", "read_entries", "load_entry", "heat_map",
    "overlay", "failures", "IntakeSettings", "IndexOutcome",
]  # fmt: skip
