"""One run of indexing as a process of its own, to be killed: `indexer.py CATALOG FOLDER IDENTITY [WORD]`.

The encoder takes a little time over each picture, so that a kill at a random instant finds it at work. With
the word `reembed` everything is embedded again; with `hang` it says "encoding" at its first pictures, and
waits to be killed.
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
    """The toy encoder at 2,000 pictures a second; another identity turns its axes."""

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
    intake.COMMIT_IMAGES = 4  # many transactions in a short life
    store = Store.create(catalog)
    settings = IntakeSettings(batch_size=4)
    encoder = Slow(identity=identity)
    encoder.hangs = "hang" in more
    print("begun", flush=True)  # imports are over
    index_pictures(store, encoder, [folder], settings=settings, reembed="reembed" in more)
    store.close()


if __name__ == "__main__":
    main()
