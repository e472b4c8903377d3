"""A collection on disk that answers questions: pictures indexed once, then asked in words or pictures.

A catalogue is a folder: a database of files and pictures (`database`, `schema`, `store`, `entries`) and
vectors in files of half-precision rows (`spaces`, `file_space`, `segments`), or both in PostgreSQL
(`postgres`). `scan` finds what changed on disk, `intake`
reads and embeds it, `indexing` does both as one run that can be killed and repeated. `query` and `filters`
say what is asked, `nearest` finds it, `relevance` judges it, `search` brings it together; `checking` says
whether it all holds. No model is known here: an encoder is handed in.
"""

from __future__ import annotations

from diptych.catalog.database.postgres import is_address
from diptych.catalog.exchange.exporting import export_vectors
from diptych.catalog.exchange.importing import ImportReport, import_vectors
from diptych.catalog.files.forgetting import check_forgettable, forget_paths
from diptych.catalog.files.listing import roots_of
from diptych.catalog.files.mounts import network_kind
from diptych.catalog.files.roots import known_roots
from diptych.catalog.indexing.checking import check
from diptych.catalog.indexing.intake import Outcome
from diptych.catalog.indexing.intake import Settings as IntakeSettings
from diptych.catalog.indexing.run import index as index_pictures
from diptych.catalog.indexing.run import planned_run
from diptych.catalog.indexing.summary import Summary, summarise
from diptych.catalog.indexing.watch import changed_folders
from diptych.catalog.search.heat_map import heat_map, overlay
from diptych.catalog.search.query import Term, parse_query
from diptych.catalog.search.search_result import Hit, SearchOptions, SearchResult
from diptych.catalog.search.searcher import Searcher
from diptych.catalog.store.browsing import Listing, list_pictures
from diptych.catalog.store.entries import Entry, failures, load_entry, read_entries
from diptych.catalog.store.filters import Filter
from diptych.catalog.store.store import Store

__all__ = [
    "Store",
    "is_address",
    "Searcher",
    "SearchOptions",
    "SearchResult",
    "Listing",
    "list_pictures",
    "Hit",
    "Entry",
    "Filter",
    "Term",
    "parse_query",
    "index_pictures",
    "forget_paths",
    "check_forgettable",
    "changed_folders",
    "known_roots",
    "planned_run",
    "network_kind",
    "roots_of",
    "check",
    "import_vectors",
    "ImportReport",
    "export_vectors",
    "summarise",
    "Summary",
    "read_entries",
    "load_entry",
    "heat_map",
    "overlay",
    "failures",
    "IntakeSettings",
    "Outcome",
]
