"""Duration of the whole command `diptych search`, on ten thousand and on a million pictures.

    python benchmarks/search_command.py [--rows 10000 1000000] [--model default] [--repeat 5]

The model is exported, and torch cannot be imported in any of the processes. Catalogues hold synthetic
entries: each has a vector of `search_vectors`' clusters, a file name and a date, written through the store as
`diptych index` does, with the same search index. The output has the median of the whole command, the median
of a process that opens the same encoder and encodes the same words, and their difference. The difference is
the work of the catalogue: opening, search, cut-off, file names. The first run after the files were dropped
from the page cache is shown too.

Aims: 1 s in all for 10,000 pictures; 1.5 s over the encoder's start for a million.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import arguments, drop_file_cache, machine, seconds
from numpy.typing import NDArray
from search_vectors import VectorWorld

from diptych.backends import export, load
from diptych.catalog import Store
from diptych.catalog.annotations.records import FileRecord, ImageRecord, ListedFile
from diptych.catalog.indexing.run import improve, space_for
from diptych.encoder import Encoder
from diptych.media.details import Details
from diptych.progress import silent
from diptych.weights import load_checkpoint

WORDS = "a dog running on the beach"
NO_TORCH = "import sys; sys.modules['torch'] = None\n"
SEARCH = NO_TORCH + "from diptych.cli.main import main; main()"
ENCODE = NO_TORCH + "import diptych; diptych.load(sys.argv[1], runtime='onnx').encode_texts([sys.argv[2]])"
PART = 5000  # pictures in one transaction


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 1_000_000])
    parser.add_argument("--model", default="default")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as home:
        model = Path(home, "model")
        export(load_checkpoint(args.model), model)
        encoder = load(model, runtime="onnx")
        start = seconds(lambda: _run(ENCODE, model, WORDS), repeat=args.repeat)
        print(f"{'the encoder alone: opened, one text':42}{start:6.2f} s")
        for rows in args.rows:
            catalog = Path(home, f"catalog-{rows}")
            print(f"\n{rows:,} pictures: {_fill(catalog, encoder, rows)}", flush=True)
            command = ["search", WORDS, "--catalog", catalog, "--model", model, "--runtime", "onnx", "--all"]
            cold = _cold(catalog, command)
            warm = seconds(lambda command=command: _run(SEARCH, *command), repeat=args.repeat)  # type: ignore[misc]
            for name, taken in (("from a cold cache", cold), ("again", warm)):
                if taken is not None:
                    print(
                        f"{'diptych search, ' + name:42}{taken:6.2f} s, {taken - start:5.2f} over the encoder"
                    )


def _run(code: str, *words: object) -> None:
    subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], check=True, stdout=subprocess.DEVNULL, text=True
    )


def _cold(catalog: Path, command: list[object]) -> float | None:
    """One run with the page cache dropped; None if the system cannot do that."""
    if not drop_file_cache(catalog):
        return None
    start = time.monotonic()
    _run(SEARCH, *command)
    return time.monotonic() - start


def _fill(catalog: Path, encoder: Encoder, rows: int) -> str:
    """Create a catalogue; return the description of its index."""
    world = VectorWorld.of(encoder.dim, seed=0)
    store = Store.create(catalog)
    try:
        space = space_for(store, encoder, "default")
        for start in range(0, rows, PART):
            pictures = world.pictures(min(PART, rows - start))
            store.save_images([_picture(start + n, row) for n, row in enumerate(pictures)], space)
        return improve(store, silent) or "scanned, no index is needed"
    finally:
        store.close()


def _picture(number: int, row: NDArray[np.float32]) -> ImageRecord:
    name = f"/pictures/{number // 1000:04d}/{number:07d}.jpg".encode()
    file = ListedFile(name, "", 100_000, 1_600_000_000_000_000_000 + number, 1, number, 0)
    draw = np.random.default_rng(number).integers(0, 2**63, 2)
    return ImageRecord(
        [FileRecord(file)],
        number.to_bytes(16, "big"),
        100_000,
        details=Details(format="JPEG", width=800, height=600),
        vector=row,
        hashes=(int(draw[0]), int(draw[1])),
    )


if __name__ == "__main__":
    main()
