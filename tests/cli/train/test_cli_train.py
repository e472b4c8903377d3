"""`diptych train`: on pairs without a recipe, by a recipe, stopped and resumed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.waiting import HANG

Run = Callable[..., Any]

RECIPE = """
from diptych.training.data import Mixture, TarPairs
from diptych.training import Run, TrainConfig

def run():
    config = TrainConfig(
        data=Mixture(((TarPairs("pairs.tar"), 1.0),)), model="diptych-tiny", out="runs/recipe",
        epochs=1, batch_size=8, warmup=1, threads=1,
    )
    return Run(config, {"toy": lambda model, step: {"steps": step}})
"""


@pytest.fixture(autouse=True)
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty small pictures with captions, in the working folder."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0)
    with tarfile.open("pairs.tar", "w") as tar:
        for number in range(40):
            picture = io.BytesIO()
            Image.fromarray(noise.integers(0, 256, (40, 40, 3), np.uint8)).save(picture, "PNG")
            for name, data in (("png", picture.getvalue()), ("txt", f"picture {number}".encode())):
                info = tarfile.TarInfo(f"{number:03}.{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return tmp_path / "pairs.tar"


OWN = (
    "--pairs",
    "pairs.tar",
    "--model",
    "diptych-tiny",
    "--epochs",
    "2",
    "--batch-size",
    "8",
    "--out",
    "runs/mine",
)


def test_own_pairs_need_no_recipe(run: Run) -> None:
    done = run("train", *OWN, "--set", "warmup=1", "--hold-out", "0.3", "--json")
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["finished"] is True
    assert "val/image_retrieval_recall@1" in printed["metrics"]
    assert "runs/mine" in done.stderr
    shown = run("models", "show", "runs/mine")
    assert shown.exit_code == 0, shown.stderr
    Image.new("RGB", (40, 40), "red").save("red.png")
    answered = run("classify", "red.png", "red", "blue", "--model", "runs/mine", "--json")
    assert answered.exit_code == 0, answered.stderr


def test_a_recipe_with_typed_overrides_stopped_and_resumed(run: Run) -> None:
    Path("recipe.py").write_text(RECIPE)
    stopped = run("train", "recipe.py", "--set", "epochs=3", "--set", "max_minutes=1e-9")
    assert stopped.exit_code == 0, stopped.stderr
    assert "with --resume" in stopped.stderr
    again = run("train", "recipe.py", "--set", "epochs=3")
    assert again.exit_code == 2
    assert "add --resume" in again.stderr
    done = run("train", "recipe.py", "--set", "epochs=3", "--resume", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["metrics"] == {"toy/steps": 15.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either a recipe"),
        (("recipe.py", "--pairs", "pairs.tar"), "give either a recipe"),
        (("nothing.py",), "is not a file"),
        (("empty.py",), "no function run()"),
        (("--pairs", "nothing.tar"), "nothing.tar"),
        ((*OWN, "--set", "epoch=3"), "did you mean: epochs"),
        ((*OWN[:2], "--model", "ViT-Z"), "unknown model 'ViT-Z'"),
        ((*OWN, "--hold-out", "2"), "expected 0 or more"),
        ((*OWN, "--batch-size", "4000"), "smaller batch_size"),
        ((*OWN, "--out", "empty.py"), "empty.py is a file: expected a folder for the run"),
        ((*OWN, "--pairs-per-epoch", "0"), "'--pairs-per-epoch'"),
    ],
)
def test_what_cannot_be_trained_is_said(run: Run, arguments: tuple[str, ...], message: str) -> None:
    Path("recipe.py").write_text(RECIPE)
    Path("empty.py").write_text("")
    done = run("train", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(run: Run) -> None:
    done = run("train", *OWN, "--chunk", "auto", "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert not Path("runs").exists()
    for word in ("picture encoder", "GFLOP", "steps", "total", "this machine", "H100"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    printed = json.loads(run("train", *OWN, "--dry-run", "--json", "--set", "epochs=4").stdout)
    assert (printed["steps"], printed["pairs_an_epoch"], printed["chunk"]) == (
        20,
        40,
        0,
    )  # too few to hold one out


def test_streamed_shards_need_no_index(run: Run) -> None:
    stream = ("--stream", "--val", "pairs.tar", "--set", "warmup=1")
    done = run("train", *OWN, *stream, "--json")
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["step"] == 10
    assert "val/text_retrieval_recall@10" in printed["metrics"]
    planned = run("train", *OWN, "--stream", "--pairs-per-epoch", "33", "--dry-run", "--json")
    assert json.loads(planned.stdout)["steps"] == 8
    indexed = run("train", *OWN, "--pairs-per-epoch", "33", "--dry-run")
    assert indexed.exit_code == 2
    assert "have an index, which counts them" in " ".join(indexed.stderr.split())
    refused = run("train", *OWN, "--stream", "--hold-out", "0.1")
    assert refused.exit_code == 2
    assert "leave out --hold-out" in refused.stderr


def test_columns_of_a_table_are_named_on_the_line(run: Run) -> None:
    Path("pictures").mkdir()
    for number in range(16):
        Image.new("RGB", (32, 32), (number * 9, 90, 200)).save(f"pictures/{number}.png")
    lines = [f"pictures/{number}.png\tpicture {number}\tBild {number}" for number in range(16)]
    Path("table.tsv").write_text("\n".join(["image\ten\tde", *lines]))
    options = ("--image-column", "image", "--caption-column", "en", "--caption-column", "de")
    done = run("train", "--pairs", "table.tsv", *OWN[2:], *options, "--set", "warmup=1", "--hold-out", "0")
    assert done.exit_code == 0, done.stderr
    missing = run("train", "--pairs", "table.tsv", *OWN[2:], "--caption-column", "fr")
    assert missing.exit_code == 2
    assert "no column" in missing.stderr


def test_samples_and_curves_go_to_tensorboard(run: Run) -> None:
    log = ("--logger", "tensorboard", "--set", "log_every=2", "--set", "warmup=1")
    done = run("train", *OWN, *log, "--hold-out", "0.3", "--json")
    assert done.exit_code == 0, done.stderr
    steps = json.loads(done.stdout)["step"]
    with Image.open(f"runs/mine/samples/step-{steps:06}.png") as sheet:
        sheet.load()
        assert sheet.width >= 600
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator("runs/mine/tensorboard")
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "train/pairs_per_second", "val/image_retrieval_recall@10"} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("train/loss")] == list(range(2, steps + 1, 2))
    assert tags["images"] == ["samples"]


def test_an_unknown_logger_is_said_before_anything_is_read(run: Run) -> None:
    done = run("train", *OWN, "--logger", "tensorbord")
    assert done.exit_code == 2
    assert "expected tensorboard or wandb" in done.stderr
    assert not Path("runs").exists()


def test_torchrun_leaves_every_option_to_the_command() -> None:
    # torchrun's parser accepts prefixes of its own options anywhere on the line: --log, --start.
    import typer
    from torch.distributed.run import get_args_parser

    from diptych.cli.main import app

    group: Any = typer.main.get_command(app)
    options = [name for option in group.commands["train"].params for name in option.opts if "--" in name]
    assert {"--pairs", "--chunk", "--resume"} <= set(options)
    for name in options:
        printed = ["--nproc-per-node", "2", "-m", "diptych", "train", "recipe.py", name, "value"]
        assert get_args_parser().parse_args(printed).training_script_args[-2:] == [name, "value"]


def test_two_processes_by_torchrun_train_and_measure(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["-m", "diptych", "train", *OWN, "--set", "warmup=1", "--set", "threads=1"]
    command += ["--set", "parallel=fsdp", "--hold-out", "0.3", "--chunk", "auto", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    printed = json.loads(done.stdout)  # only one process prints
    assert printed["finished"] is True
    assert Path(f"runs/mine/samples/step-{printed['step']:06}.png").is_file()


def test_a_constant_run_is_ended_by_a_cooldown(run: Run) -> None:
    level = ("--schedule", "constant", "--set", "warmup=1", "--hold-out", "0")
    assert run("train", *OWN, *level).exit_code == 0
    # Options after OWN: the last value counts.
    late = run("train", *OWN, *level, "--epochs-cooldown", "1", "--resume")
    assert late.exit_code == 2
    assert "expected epochs=3 or more" in " ".join(late.stderr.split())
    shape = ("--lr-cooldown-power", "2", "--lr-cooldown-end", "1e-5")
    cooled = run("train", *OWN, *level, "--epochs", "3", "--epochs-cooldown", "1", *shape, "--resume")
    assert cooled.exit_code == 0, cooled.stderr
    refused = run("train", *OWN, "--epochs-cooldown", "1")
    assert refused.exit_code == 2
    assert "schedule=constant" in refused.stderr


def test_every_option_that_sets_a_field_is_one_and_is_shown(run: Run) -> None:
    import dataclasses

    from diptych.cli.train.train_options import ConfigOptions
    from diptych.training import TrainConfig

    names = {field.name for field in dataclasses.fields(ConfigOptions)} - {"assignments"}
    assert names <= {field.name for field in dataclasses.fields(TrainConfig)}
    shown = run("train", "--help").stdout
    for name in names:
        assert f"--{name.replace('_', '-')} " in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_numbered_checkpoints_are_named_as_a_model_and_begun_at(run: Run) -> None:
    level = ("--schedule", "constant", "--set", "warmup=1", "--hold-out", "0")
    done = run("train", *OWN, *level, "--save-frequency", "1", "--keep-checkpoints", "2")
    assert done.exit_code == 0, done.stderr
    Image.new("RGB", (40, 40), "red").save("red.png")
    for model in ("runs/mine/epoch-1", "runs/mine/epoch-2"):
        answered = run("classify", "red.png", "red", "blue", "--model", model, "--json")
        assert answered.exit_code == 0, answered.stderr
        assert run("models", "show", model).exit_code == 0
    ended = ("--epochs", "2", "--epochs-cooldown", "1", "--out", "runs/ended")
    cooled = run("train", *OWN, *level, *ended, "--resume-from", "runs/mine/epoch-1")
    assert cooled.exit_code == 0, cooled.stderr
    assert "resumed at step 5 of runs/mine/epoch-1" in " ".join(cooled.stderr.split())
    refused = run("train", *OWN, *level, "--resume-from", "runs/mine/epoch-1", "--resume")
    assert refused.exit_code == 2
    assert "is in the folder of the run itself" in " ".join(refused.stderr.split())
