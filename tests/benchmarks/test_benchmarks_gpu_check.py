"""The GPU check script on two gloo processes: every training mode gives the same losses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.waiting import HANG

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_check.py"


def test_two_processes_pass_every_check(tmp_path: Path) -> None:
    out = tmp_path / "table.md"
    command = [
        sys.executable,
        str(SCRIPT),
        "--processes",
        "2",
        "--small",
        "--device",
        "cpu",
        "--out",
        str(out),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=HANG)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.strip("| ").split(" | ") for line in out.read_text().splitlines() if line.startswith("| ")]
    verdicts = {row[0]: row[-1] for row in rows[2:]}
    assert set(verdicts.values()) == {"ok"}, verdicts
    assert {
        "float16, DDP",
        "bfloat16, FSDP2",
        "FSDP2, chunks",
        "ring",
        "FSDP2, shared texts",
        "FSDP2, evaluation",
    } <= set(verdicts)
