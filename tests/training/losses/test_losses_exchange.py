"""Losses over several processes: equal to those of one process, with all-gather and with a ring."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diptych.training.losses.feature_exchange import NoExchange
from tests.training import processes


@pytest.mark.parametrize("count", [1, 2, 4])
def test_losses_of_many_processes_are_those_of_one(count: int, tmp_path: Path) -> None:
    processes.run(count, "tests.training.processes:losses", tmp_path)
    files = [torch.load(tmp_path / f"losses-{count}-{rank}.pt") for rank in range(count)]
    for which, scale in processes.CASES:
        whole = processes.loss_gradients(NoExchange(), which, scale)
        assert whole["a"].abs().max() > 1e-4
        for exchange in ("gathered", "ring"):
            parts = [file[f"{exchange} {which} {scale}"] for file in files]
            result = {name: torch.cat([part[name] for part in parts]) for name in ("a", "b")}
            for name, value in whole.items():
                for part in parts if name in ("loss", "scale", "bias") else [result]:
                    torch.testing.assert_close(
                        part[name], value, rtol=1e-9, atol=1e-12, msg=f"{which} {name}"
                    )
