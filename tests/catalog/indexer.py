"""One indexing run as a separate process to be killed: `indexer.py CATALOG FOLDER IDENTITY [WORD]`.

The encoder is slow, so that a kill at a random instant finds it at work. The word `reembed` embeds everything
again; with `hang` the process prints "encoding" at its first pictures and waits to be killed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from diptych.catalog import IntakeSettings, Store, index_pictures
from diptych.catalog.indexing import intake
from tests.toys import ToyEncoder
from tests.waiting import HANG, pause


class Slow(ToyEncoder):
    """The toy encoder limited to 2,000 pictures a second; another identity rotates its axes."""

    hangs = False

    def encode_images(self, images: Sequence[Image]) -> NDArray[np.float32]:
        if self.hangs:
            print("encoding", flush=True)
            pause(HANG)
        pause(len(images) / 2000)
        return super().encode_images(images)

    def _rows(self, colours: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
        return np.roll(super()._rows(colours), int(self.identity[-1]), axis=1)


def main() -> None:
    catalog, folder, identity, *more = sys.argv[1:]
    intake.COMMIT_IMAGES = 4  # many transactions within a short run
    store = Store.create(catalog)
    settings = IntakeSettings(batch_size=4)
    encoder = Slow(identity=identity)
    encoder.hangs = "hang" in more
    print("begun", flush=True)  # imports are finished
    index_pictures(store, encoder, [folder], settings=settings, reembed="reembed" in more)
    store.close()


if __name__ == "__main__":
    main()
