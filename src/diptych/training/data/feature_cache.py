"""Output of the locked part of an image tower, computed once and read in place of pictures.

What is locked (LiT, arXiv 2111.07991) gives the same output for the same crop in every epoch. So K views of
every record are encoded once, before the first step: view 0 is the centre crop, the others are augmented. A
step then reads a row of a memory-mapped file, and costs the text tower and what follows the locked part. e.g.
45,000 records, 4 views and 1,280 float16 numbers each: 460 MB; with the last stage of an EfficientNet-Lite2
unlocked, 208 x 7 x 7 numbers each: 3.7 GB.

The file's name contains a hash of what its numbers depend on (weights of the tower, keys of the records and
some of their pictures, preprocessing, augmentation, seed), so runs share it, and a run with other weights
makes another file. Two runs must not fill the same file at the same time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.errors import DataError, DiptychError
from diptych.files.disk import saving, write_bytes
from diptych.prefetch import map_ahead, worker_threads
from diptych.training.data.augment import AugmentConfig, choose_captions, crop_pairs
from diptych.training.data.batch import DeferredTransform, PairChunk, Tokenize
from diptych.training.data.loader import CHUNK, PairLoader
from diptych.training.data.order import UInts, Visits, mix, unit

MappedRows = np.memmap[Any, np.dtype[np.float16]]
EncodeImages = Callable[[Tensor], Tensor]  # preprocessed images (B, 3, S, S) on the CPU -> (B, *shape)

FORMAT = 1  # of the file; another one is computed again
SAMPLED = 64  # pictures of each source whose bytes are part of the name
SAVE_EVERY = 64  # chunks between two notes of how far the file is
# Salts of a record's hash, or of a visit's number, beside those that `order.uniforms` lists.
_VIEW_NUMBER, _VIEW_OF_VISIT = 11, 4


class FeatureLoader(PairLoader):
    """Batches of features and captions in place of crops and captions.

    Parameters
    ----------
    data, tokenizer, **options
        As for `PairLoader`.
    encode : callable
        Images to features, the same in every call.
    shape : tuple of int
        Of the features of a picture: (W,), or (C, G, G).
    views : int
        Stored views of each record, K: the centre crop, then K - 1 augmented ones.
    folder : Path
        Of the file.
    weights : str
        Identity of the encoder, part of the file's name.

    Raises
    ------
    DataError
        The features are not finite numbers of float16.
    """

    def __init__(
        self,
        data: Any,
        tokenizer: Tokenize,
        *,
        encode: EncodeImages,
        shape: tuple[int, ...],
        views: int,
        folder: Path,
        weights: str,
        **options: Any,
    ) -> None:
        super().__init__(data, tokenizer, cache=False, **options)
        self._encode, self.views = encode, views
        self._hashes = [source.hashes() for source in self.sources]
        # e.g. sources of 3 and 5 records: rows 0..2 are the first one's, rows 3..7 the second one's.
        self._first_row = np.cumsum([0, *map(len, self.sources)])
        self.path = folder / f"features-{self._identity(weights)}.f16"
        self._shape = (int(self._first_row[-1]), views, *shape)
        self._rows: MappedRows | None = None

    def prepare(self, scanning: Callable[[int], Callable[[int], None]]) -> None:
        """Compute what the file does not hold yet; continues where an earlier run was stopped."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        done = self._completed()
        if not done:
            # A note of an earlier file would say that the new one, still all zeros, is complete.
            self._progress_file.unlink(missing_ok=True)
            # Reserved first: a full disk would end the process when a mapped page is written.
            with saving(self.path), self.path.open("wb") as file:
                size = 2 * int(np.prod(self._shape))
                file.truncate(size)
                if hasattr(os, "posix_fallocate"):  # not on Windows and macOS
                    os.posix_fallocate(file.fileno(), 0, size)
        rows = np.memmap(self.path, np.float16, "r+", shape=self._shape)
        total = self._shape[0]
        if done < total:
            self._fill(rows, done, scanning(total))
        self._rows = np.memmap(self.path, np.float16, "r", shape=self._shape)
        # A record without an image or caption has no features: it is read again, to be counted and named.
        first_numbers = self._rows.reshape(len(self._rows), -1)[:, 0]
        for row in np.flatnonzero(np.isnan(first_numbers)).tolist():
            part = int(np.searchsorted(self._first_row, row, side="right")) - 1
            self.reader.pair(part, row - int(self._first_row[part]))
            self.reader.bad[part][row - int(self._first_row[part])] = True

    def _identity(self, weights: str) -> str:
        """Hash of what the features depend on."""
        transform = self.batcher.transform
        images_only = None if self.augment is None else replace(self.augment, drop_words=0.0)
        parts = [
            *(FORMAT, weights, self.views, self.image_size, self.kept_side),
            *(transform.mean, transform.std, repr(images_only) if self.views > 1 else "", self.seed),
        ]
        digest = hashlib.sha256(json.dumps(parts, default=str).encode())
        for source, hashes in zip(self.sources, self._hashes, strict=True):
            digest.update(hashes.tobytes())
            # Keys such as 000123 are the same in many data sets, so some pictures count, too.
            for index in np.linspace(0, len(source) - 1, min(SAMPLED, len(source))).astype(int).tolist():
                try:
                    digest.update(hashlib.sha256(source.image(index)).digest())
                except DiptychError:  # counted when it is read
                    continue
        return digest.hexdigest()[:16]

    @property
    def _progress_file(self) -> Path:
        return self.path.with_suffix(".json")

    def _completed(self) -> int:
        """Rows that the file holds."""
        try:
            done = int(json.loads(self._progress_file.read_text("utf-8"))["rows"])
            size = self.path.stat().st_size
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        return done if size == 2 * int(np.prod(self._shape)) else 0

    def _fill(self, rows: MappedRows, done: int, progress: Callable[[int], None]) -> None:
        progress(done)
        spans = [
            (part, range(start, min(start + CHUNK, len(source))))
            for part, source in enumerate(self.sources)
            for start in range(0, len(source), CHUNK)
            if self._first_row[part] + min(start + CHUNK, len(source)) > done
        ]
        with worker_threads(self.workers, "diptych-features") as pool:
            loaded = map_ahead(lambda span: pool.submit(self._view_chunk, *span), spans, 2 * self.workers)
            for number, (first, good, images) in enumerate(loaded, start=1):
                count = len(good)
                block = np.full((count, *self._shape[1:]), np.nan, np.float16)
                if good.any():
                    features = self._encode(images).float().numpy()  # (good views, *shape)
                    if not np.isfinite(features).all() or np.abs(features).max() > np.finfo(np.float16).max:
                        raise DataError(
                            "the image tower gives features that float16 cannot hold: set cache_features=0"
                        )
                    block[good] = features.reshape(-1, *self._shape[1:])
                rows[first : first + count] = block
                progress(count)
                if number % SAVE_EVERY == 0 or first + count == self._shape[0]:
                    self._note_progress(rows, first + count)

    def _note_progress(self, rows: MappedRows, done: int) -> None:
        """Write how many rows the file holds, after these rows."""
        rows.flush()
        write_bytes(self._progress_file, json.dumps({"rows": done}).encode())

    def _view_chunk(self, part: int, span: range) -> tuple[int, NDArray[np.bool_], Tensor]:
        """First row of some records, which of them are usable, and the views of these, (n K, 3, S, S)."""
        pairs = [self.reader.pair(part, index) for index in span]
        good = np.array([pair is not None for pair in pairs])
        usable = [pair for pair in pairs if pair is not None]
        hashes = self._hashes[part][span.start : span.stop][good]
        images = [self._crop(usable, hashes, view) for view in range(self.views)]  # K of (n, 3, S, S)
        stacked = torch.stack(images, dim=1).flatten(0, 1)
        return int(self._first_row[part]) + span.start, good, stacked

    def _crop(self, pairs: Sequence[Any], hashes: UInts, view: int) -> Tensor:
        """One view of some records, preprocessed: (n, 3, S, S) float32."""
        numbers = mix(mix(mix(hashes, self.seed), _VIEW_NUMBER), view)
        augment: AugmentConfig | None = self.augment if view else None
        crops, _, _ = crop_pairs(pairs, numbers, augment, self.image_size)
        transform: DeferredTransform = replace(self.batcher.transform, augment=augment)
        return transform(crops, numbers)

    def _load(self, visits: Visits, span: range) -> PairChunk:
        """Read the features and the captions of some visits."""
        assert self._rows is not None, "prepare comes first"
        here = slice(span.start, span.stop)
        part, index, number = visits.part[here], visits.index[here], visits.number[here]
        bad = [self.reader.bad[p][n] for p, n in zip(part.tolist(), index.tolist(), strict=True)]
        good = np.flatnonzero(~np.array(bad, np.bool_))
        texts = [self.sources[part[n]].captions(int(index[n])) for n in good]
        captions, full_captions = choose_captions(texts, number[good], self.augment)
        view = np.floor(unit(mix(number[good], _VIEW_OF_VISIT)) * self.views).astype(np.int64)
        features = self._rows[self._first_row[part[good]] + index[good], view]  # (n, *shape)
        return self._chunk(
            visits[here],
            good,
            crops=torch.from_numpy(features),
            record_captions=texts,
            captions=captions,
            full_captions=full_captions,
            first=span.start,
            seconds=0.0,
        )
