"""Torch's own files and the wrappings people find weights in; hostile ones are in test_weights_archive."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from diptych.errors import WeightsError
from diptych.weights.pickled import read_state


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "_orig_mod."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_training_checkpoints(tmp_path: Path, prefix: str, wrapper: str | None) -> None:
    state = {f"{prefix}logit_scale": torch.tensor(1.0), f"{prefix}visual.proj": torch.ones(2, 2)}
    content = (
        state if wrapper is None else {"epoch": 3, "name": "x", "optimizer": {"lr": 0.1}, wrapper: state}
    )
    torch.save(content, tmp_path / "a.pt")
    assert set(read_state(tmp_path / "a.pt")) == {"logit_scale", "visual.proj"}


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for content, reason in ((b"", "0 bytes"), (b"hello", "cannot read"), (pickle.dumps([1, 2]), "weights")):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=reason):
            read_state(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(WeightsError, match="'epoch' is a int, expected a tensor"):
        read_state(path)
    with pytest.raises(WeightsError, match="not a file"):
        read_state(tmp_path / "none.pt")
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    path.write_bytes(buffer.getvalue())
    with pytest.raises(WeightsError):
        read_state(path)
