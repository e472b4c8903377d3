"""`diptych evaluate robustness`: domains, other data sets, corruptions; a table, JSON, a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from tests.cli.cli_tools import paint

Run = Callable[..., Result]


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Three domains of two classes of two pictures."""
    for number in range(12):
        domain, kind = ("art", "photo", "sketch")[number // 4], ("dog", "guitar")[number // 2 % 2]
        paint(tmp_path / "pack" / domain / kind / f"{number}.png", number)
    return tmp_path / "pack"


def test_the_other_domains_are_the_shifts(run: Run, tiny: Path, pack: Path) -> None:
    done = run("evaluate", "robustness", pack, "--reference", "photo", "-m", tiny, "--report", "out")
    assert done.exit_code == 0, done.stderr
    for word in ("pack/photo", "pack/art", "pack/sketch", "chance 0.500", "no ordinary models"):
        assert word in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert Path("out/index.html").is_file()
    assert Path("out/shifts.csv").read_text().count("\n") == 3


def test_other_data_sets_and_an_ordinary_line(run: Run, tiny: Path, pack: Path) -> None:
    done = run(
        *("evaluate", "robustness", pack / "photo", "--shift", pack / "art", "--shift", pack / "sketch"),
        *("--json", "-m", tiny),
    )
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)
    assert [shift["dataset"] for shift in printed["models"][0]["shifts"]] == ["art", "sketch"]
    assert printed["main"] == "mean over all"
    assert "Command" in printed["facts"]
    single = run(
        *("evaluate", "robustness", pack / "photo", "--shift", pack / "art"),
        *("--ordinary", tiny, "-m", "default"),
    )
    assert single.exit_code == 2
    assert "two or more" in single.stderr


def test_corruptions(run: Run, tiny: Path, pack: Path) -> None:
    done = run(
        *("evaluate", "robustness", pack / "photo", "--corruptions", "--severities", "1,5", "--limit", 3),
        *("-m", tiny, "--report", "out"),
    )
    assert done.exit_code == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    for word in ("gaussian noise", "jpeg", "weather", "30 corrupted copies"):
        assert word in " ".join(done.stdout.split())
    printed = json.loads(Path("out/report.json").read_text())
    assert len(printed["models"][0]["shifts"]) == 30
    assert printed["models"][0]["shifts"][0]["accuracy"]["n"] == 3
    assert Path("out/corruptions-map.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give exactly one of"),
        (("--corruptions", "--reference", "photo"), "give exactly one of"),
        (("--corruptions", "--severities", "0,6"), "numbers from 1 to 5"),
        (("--corruptions", "--limit", "0"), "--limit"),
        (("--corruptions", "--side", "0"), "side is 0"),
        (("--reference", "dance"), "dance"),
        (("--shift", "gone"), "gone"),
        (("--reference", "photo", "--baseline", "nobody"), "expected one of the models"),
    ],
)
def test_what_cannot_be_asked(run: Run, tiny: Path, pack: Path, words: tuple[str, ...], message: str) -> None:
    done = run("evaluate", "robustness", pack, "-m", tiny, *words)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_picture_that_cannot_be_read_is_told_once(run: Run, tiny: Path, pack: Path) -> None:
    (pack / "photo" / "dog" / "broken.png").write_bytes(b"broken")
    done = run("evaluate", "robustness", pack / "photo", "--corruptions", "--severities", "1", "-m", tiny)
    assert done.exit_code == 1
    assert "1 picture left out" in done.stderr
    assert "broken.png" in done.stderr


@pytest.mark.filterwarnings("ignore:labels that come more than once")
def test_objectnet_beside_imagenet(run: Run, tiny: Path, tmp_path: Path) -> None:
    """Only ImageNet classes in ObjectNet's mapping count; ImageNet has two classes called sunglasses."""
    for number, wnid in enumerate(("n02708093", "n02769748", "n04355933", "n04356056", "n01440764")):
        paint(tmp_path / "imagenet" / wnid / "a.png", number)
        paint(tmp_path / "imagenet" / wnid / "b.png", 10 + number)
    objectnet = tmp_path / "objectnet-1.0"
    labels = {"alarm_clock": "Alarm clock", "backpack": "Backpack", "sunglasses": "Sunglasses"}
    shared = {"Alarm clock": "analog clock", "Backpack": "backpack, back pack"}
    shared["Sunglasses"] = "sunglass; sunglasses, dark glasses, shades"
    for number, folder in enumerate(labels):
        paint(objectnet / "images" / folder / "1.png", 20 + number)
    (objectnet / "mappings").mkdir()
    lists = {
        "folder_to_objectnet_label.json": json.dumps(labels),
        "objectnet_to_imagenet_1k.json": json.dumps(shared),
        "imagenet_to_label_2012_v2": "analog clock\nbackpack, back pack\nsunglass",
        "pytorch_to_imagenet_2012_id.json": json.dumps({"409": 0, "414": 1, "836": 2}),
    }
    for name, text in lists.items():
        (objectnet / "mappings" / name).write_text(text)
    words = ("evaluate", "robustness", "imagenet", "--shift", objectnet, "--shared-classes", "-m", tiny)
    done = run(*words, "--json")
    assert done.exit_code == 0, done.stderr
    (model,) = json.loads(done.stdout)["models"]
    (shift,) = model["shifts"]
    assert shift["chance"] == pytest.approx(1 / 3)
    assert shift["accuracy"]["n"] == 3
    assert model["reference"]["accuracy"]["n"] == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--runtime", "onnx"), "--runtime onnx: labels was trained on labels"),
        (("--precision", "bfloat16"), "--precision bfloat16: labels was trained on labels"),
        (("--runtime", "torch", "--precision", "float32"), ""),
        (("--fast",), "--fast only reduces its pictures"),
    ],
)
def test_options_that_a_run_with_labels_cannot_follow(
    run: Run, pack: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    """A classifier of pictures has no encoder that --runtime, --precision or --fast could choose."""
    monkeypatch.setattr("diptych.backends.supervised_classes", lambda name: ("dog", "guitar"))
    monkeypatch.setattr("diptych.backends.load_supervised", lambda *_, **__: _Guess())
    done = run("evaluate", "robustness", pack, "--reference", "photo", "-m", "labels", *words)
    assert done.exit_code == (0 if not message or "--fast" in words else 2), done.stderr
    assert message in " ".join(done.stderr.split())


class _Guess:
    """A classifier that gives every picture the same scores of two classes."""

    identity, input_size, precision = "guess", 8, "float32"

    def __call__(self, images: Sequence[object]) -> np.ndarray:
        return np.tile(np.array([[1.0, 0.0]], np.float32), (len(images), 1))


def test_classes_that_differ(run: Run, tiny: Path, pack: Path) -> None:
    (pack / "sketch" / "dog").rename(pack / "sketch" / "horse")
    words = ("evaluate", "robustness", pack, "--reference", "photo", "-m", tiny)
    done = run(*words)
    assert done.exit_code == 2
    assert "only in pack/photo: 'dog'" in done.stderr


def test_a_broken_picture_of_a_shift_is_told(run: Run, tiny: Path, pack: Path) -> None:
    for number in range(2):
        (pack / "art" / "dog" / f"broken-{number}.png").write_bytes(b"broken")
    words = ("evaluate", "robustness", pack, "--reference", "photo", "-m", tiny, "--report", "out")
    done = run(*words)
    assert done.exit_code == 1
    assert "failed: 2 pictures left out; the first: art/dog/broken-0.png" in done.stderr
    assert (
        "Pictures left out because they could not be used: 2 of pack/art."
        in Path("out/index.html").read_text()
    )
