"""Torch files with the usual wrappers around the weights; malicious ones are in test_weights_archive."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from diptych.errors import WeightsError
from diptych.weights.openai.pickled import read_state, read_torch_file


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "_orig_mod."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("zipped", [True, False])
def test_training_checkpoints(tmp_path: Path, prefix: str, wrapper: str | None, zipped: bool) -> None:
    state = {f"{prefix}logit_scale": torch.tensor(1.0), f"{prefix}visual.proj": torch.ones(2, 2)}
    content = (
        state if wrapper is None else {"epoch": 3, "name": "x", "optimizer": {"lr": 0.1}, wrapper: state}
    )
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    read = read_state(tmp_path / "a.pt")
    assert set(read) == {"logit_scale", "visual.proj"}
    assert torch.equal(read["visual.proj"], torch.ones(2, 2))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_everything_that_training_scripts_keep(
    tmp_path: Path, zipped: bool, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    base = torch.arange(24.0)
    content: dict[str, Any] = {
        "state_dict": {
            **model.state_dict(),
            "parameter": torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)),
            "part": base[4:16].reshape(3, 4).T,
            "same": base[4:16],
            "flag": torch.tensor([True, False]),
            "last": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        },
        "optimizer": optimizer.state_dict(),
        "scaler": {"scale": 65536.0, "none": None},
        "shape": model.weight.shape,
        "dtype": torch.float16,
        "device": torch.device("cpu"),
    }
    path = tmp_path / "a.pt"
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    monkeypatch.setattr(torch, "load", None)  # never called
    read = read_state(path)
    for name, tensor in content["state_dict"].items():
        assert torch.equal(read[name], tensor.detach()), name
        assert read[name].dtype == tensor.dtype
    assert read["last"].is_contiguous(memory_format=torch.channels_last)
    if zipped:
        whole = read_torch_file(path)
        memory = content["optimizer"]["state"][0]
        assert torch.equal(whole["optimizer"]["state"][0]["exp_avg"], memory["exp_avg"])
        assert whole["optimizer"]["param_groups"] == content["optimizer"]["param_groups"]
        assert whole["shape"] == (2, 3)


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
