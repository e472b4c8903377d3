"""Cached embeddings: used only for the same model and identical pictures, and equal to fresh ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL.Image import Image

from diptych.datasets import load_labelled
from diptych.errors import DataError, InputError
from diptych.evaluation import FeatureStore, evaluate_zero_shot
from diptych.evaluation.protocols.features import embed_dataset
from tests.toys import ToyEncoder, picture_bytes, tar_bytes


class Wide(ToyEncoder):
    """A toy encoder with features before the projection: the row twice, and one more column."""

    def image_features(self, images: Sequence[Image]) -> NDArray[np.float32]:
        return np.pad(2 * self.encode_images(images), ((0, 0), (0, 1)), constant_values=7)


def pack(path: Path, second: str = "green") -> Path:
    files = {"p/red/0.png": picture_bytes("red"), "p/green/0.png": picture_bytes(second)}
    path.write_bytes(tar_bytes(files | {"p/green/1.png": b"broken"}))
    return path


def asked(encoder: ToyEncoder) -> int:
    return sum(count for what, count in encoder.calls if what == "images")


def test_a_second_measurement_encodes_no_picture(tmp_path: Path) -> None:
    dataset, store = load_labelled(pack(tmp_path / "p.tar")), FeatureStore(tmp_path / "kept")
    first, again = ToyEncoder(), ToyEncoder()
    counted: list[int] = []
    single = evaluate_zero_shot(first, dataset, store=store)
    other = evaluate_zero_shot(again, dataset, store=store, progress=counted.append)
    assert (asked(first), asked(again), counted) == (2, 0, [3])
    assert single == other == evaluate_zero_shot(ToyEncoder(), dataset)
    assert [failure.key for failure in other.failures] == ["p/green/1.png"]


def test_another_model_another_picture_another_decoding_are_not_taken(tmp_path: Path) -> None:
    path, store = pack(tmp_path / "p.tar"), FeatureStore(tmp_path / "kept")
    embed_dataset(ToyEncoder(), load_labelled(path), store=store)
    other = ToyEncoder(identity="toy:another")
    embed_dataset(other, load_labelled(path), store=store)
    fast = ToyEncoder()
    embed_dataset(fast, load_labelled(path), store=store, exact=False)
    assert (asked(other), asked(fast)) == (2, 2)
    before = path.stat().st_size
    pack(path, "blue")  # the same names and sizes
    assert path.stat().st_size == before
    changed = ToyEncoder()
    embed_dataset(changed, load_labelled(path), store=store)
    assert asked(changed) == 2


def test_a_file_of_another_model_under_this_ones_name_is_refused(tmp_path: Path) -> None:
    dataset, store = load_labelled(pack(tmp_path / "p.tar")), FeatureStore(tmp_path / "kept")
    embed_dataset(ToyEncoder(), dataset, store=store)
    (mine,) = store.folder.glob("*.npz")
    embed_dataset(ToyEncoder(identity="toy:another"), dataset, store=store)
    (theirs,) = set(store.folder.glob("*.npz")) - {mine}
    mine.write_bytes(theirs.read_bytes())
    encoder = ToyEncoder()
    with pytest.warns(UserWarning, match="toy:another.*encoded again"):
        embed_dataset(encoder, dataset, store=store)
    assert asked(encoder) == 2
    mine.write_bytes(b"PK\x03\x04 cut")
    with pytest.warns(UserWarning, match="encoded again"):
        embed_dataset(ToyEncoder(), dataset, store=store)


def test_features_before_the_projection(tmp_path: Path) -> None:
    dataset, store = load_labelled(pack(tmp_path / "p.tar")), FeatureStore(tmp_path / "kept")
    rows = embed_dataset(Wide(), dataset, store=store).embeddings
    wide = embed_dataset(Wide(), dataset, store=store, features=True)
    assert np.array_equal(wide.embeddings, np.pad(2 * rows, ((0, 0), (0, 1)), constant_values=7))
    again = Wide()
    assert np.array_equal(
        embed_dataset(again, dataset, store=store, features=True).embeddings, wide.embeddings
    )
    assert again.calls == []
    with pytest.raises(InputError, match="image_features"):
        embed_dataset(ToyEncoder(), dataset, features=True)


def test_nothing_readable_is_said(tmp_path: Path) -> None:
    path = tmp_path / "p.tar"
    path.write_bytes(tar_bytes({"p/a/0.png": b"x", "p/b/0.png": b"y"}))
    with pytest.raises(DataError, match="none of the 2 pictures"):
        embed_dataset(ToyEncoder(), load_labelled(path), store=FeatureStore(tmp_path / "kept"))
