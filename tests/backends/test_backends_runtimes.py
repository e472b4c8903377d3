"""Export and choice of a runtime: inaccurate exports refused, failures leave no files, choices persist."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.backends import (
    ExportedEncoder,
    TorchEncoder,
    choose_runtime,
    export,
    runtime_choice,
)
from diptych.backends.conversion import converting, tracing
from diptych.backends.conversion.samples import TEXTS, synthetic_images
from diptych.backends.exported.fidelity import MIN_COSINES, compare_embeddings, spearman
from diptych.backends.exported.folder import is_exported, read_export
from diptych.backends.runtime_choice import RuntimeChoice, read_choice, write_choice
from diptych.cli.shared.labels import note_language
from diptych.errors import InputError, SaveError, WeightsError
from diptych.inputs import preprocess_batch
from diptych.weights import Checkpoint, load_checkpoint, save_checkpoint
from tests.backends.export_toys import checkpoint, forked, pictures
from tests.paths import python_path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache."""
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def worse(monkeypatch: pytest.MonkeyPatch, runtime: str, precision: str, noise: float) -> None:
    """Add noise to the rows of one runtime, beyond the tolerance of the golden vectors."""

    class Worse(ExportedEncoder):
        def encode_images(self, images: Sequence[Any]) -> Any:
            rows = super().encode_images(images)
            if (self.runtime, self.precision) == (runtime, precision):
                rows = rows + np.random.default_rng(0).normal(size=rows.shape).astype(np.float32) * noise
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    monkeypatch.setattr(converting, "ExportedEncoder", Worse)


# ----------------------------------------------------------------------------------------- comparison of rows


def test_spearman_against_a_table_worked_by_hand() -> None:
    # Ranks 1 2 3 4 against 2 1 4 3: the squared differences add up to 4, so 1 - 6 * 4 / (4 * 15).
    single, other = np.array([[1, 2, 3, 4.0]], np.float32), np.array([[5, 1, 90, 7.0]], np.float32)
    assert spearman(single, other)[0] == pytest.approx(1 - 24 / 60)


@pytest.mark.parametrize("precision", list(MIN_COSINES))
def test_bars_are_for_the_mean_and_the_worst(precision: str) -> None:
    good = compare_embeddings(
        "openvino", precision, (np.eye(8, dtype=np.float32),) * 2, (np.eye(8, dtype=np.float32),) * 2
    )
    assert good.shortfall == ""
    mean, worst = MIN_COSINES[precision]
    for name, value in (
        ("image_mean", mean),
        ("image_worst", worst),
        ("text_mean", mean),
        ("text_worst", worst),
    ):
        below = dataclasses.replace(good, **{name: value - 1e-4})
        assert f"{value - 1e-4:.5f}, the minimum is {value}" in below.shortfall
        assert "use" in below.shortfall.lower()
    assert "order" in dataclasses.replace(good, order=0.5).shortfall
    assert "nan" in dataclasses.replace(good, image_mean=float("nan")).shortfall


def test_synthetic_images_are_varied_for_the_default_model() -> None:
    rows = diptych.load(runtime="torch", exact=True).encode_images(synthetic_images(24))
    cosines = (rows @ rows.T)[~np.eye(24, dtype=bool)]
    assert cosines.mean() < 0.75
    assert len(set(TEXTS)) == len(TEXTS)


# --------------------------------------------------------------------------------------------- the exporter


def test_a_runtime_that_is_off_ends_the_export_and_leaves_nothing(
    vit: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse(monkeypatch, "onnx", "float32", 0.02)
    message = (
        r"onnx in float32 is refused: mean cosine of pictures to float32 is 0\.99\d+, the minimum is 0.9999"
    )
    with pytest.raises(WeightsError, match=message):
        export(vit, tmp_path / "out" / "model")
    assert list((tmp_path / "out").iterdir()) == []


def test_bfloat16_that_is_off_is_marked_and_not_opened(
    vit: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converting, "variants", lambda int8: [("onnx", "float32"), ("openvino", "bfloat16")])
    worse(monkeypatch, "openvino", "bfloat16", 0.05)
    said: list[str] = []
    spec = export(vit, tmp_path / "model", note=said.append)
    assert "bfloat16 is refused" in said[-1]
    assert [bool(check["refused"]) for check in spec.checks] == [False, True]
    with pytest.raises(WeightsError, match="bfloat16 is refused"):
        diptych.load(tmp_path / "model", runtime="openvino", precision="bfloat16")
    assert diptych.load(tmp_path / "model", runtime="openvino").precision == "float32"


def test_what_is_written_says_all_and_names_nothing_of_this_machine(
    vit: Checkpoint, vit_folder: Path
) -> None:
    spec = read_export(vit_folder)
    assert spec.identity == vit.identity
    assert spec.licence == "MIT"
    assert spec.architecture["activation"] == "gelu"
    assert spec.checks[0]["runtime"] == "onnx"
    assert {"image_mean", "image_worst", "text_mean", "text_worst", "order"} <= set(spec.checks[0])
    here = str(Path(converting.__file__).parent).encode()
    for path in vit_folder.iterdir():
        assert here not in path.read_bytes(), f"{path.name} holds paths of this machine"
    assert (vit_folder.stat().st_mode & 0o077) == (vit_folder.parent.stat().st_mode & 0o077) | 0o055


def test_a_folder_with_something_in_it_is_left_alone(vit: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(SaveError, match="not an empty folder"):
        export(vit, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_an_empty_folder_is_written_to_by_whatever_name(
    vit: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converting, "variants", lambda int8: [])
    for name in ("here", "there", "linked"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("linked", target_is_directory=True)
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "there" / ".there.abc.part").mkdir()  # as a killed export would leave it
    for to in (".", "../there/", tmp_path / "link", Path("../new")):
        export(vit, to)
        assert is_exported(to)
        assert not list(Path(to).glob(".*")) or to == "../there/"
        assert diptych.load(to, runtime="onnx").identity == vit.identity
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "here").samefile("."), "who stands in the folder still does"


def test_the_languages_of_a_model_travel_with_it(
    vit: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(converting, "variants", lambda int8: [])
    for languages in ((), ("de",)):
        spec = dataclasses.replace(vit.spec, languages=languages)
        folder = tmp_path / ("-".join(languages) or "none")
        export(dataclasses.replace(vit, spec=spec), folder)
        encoder = diptych.load(folder)
        assert encoder.spec.languages == languages
        note_language(["der Hund im Schnee"], encoder, quiet=False)
        assert ("note" in capsys.readouterr().err) == (not languages)


def test_a_failed_export_leaves_an_empty_folder_empty(
    vit: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse(monkeypatch, "onnx", "float32", 0.02)
    with pytest.raises(WeightsError):
        export(vit, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_written_as_onnx_is_told_of(
    vit: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "l2_normalize", forked)
    with pytest.raises(WeightsError, match=r"cannot be written as image\.onnx: .*Use it with torch"):
        export(vit, tmp_path / "out" / "model")
    assert list((tmp_path / "out").iterdir()) == []


def test_few_pictures_are_refused(vit: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 pictures to calibrate with: expected 10"):
        export(vit, tmp_path / "model", pictures=pictures(3))


def test_pictures_handed_in_are_told_of(vit: Checkpoint, tmp_path: Path) -> None:
    spec = export(vit, tmp_path / "model", int8=True, pictures=pictures(20), pictures_from="of a test")
    assert spec.calibration == "16 of a test"
    assert {check["pictures"] for check in spec.checks} == {4}
    assert spec.precisions == ("float32", "int8")


SENT_NOTHING = """
import sys
def refuse(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "subprocess.Popen"):
        raise AssertionError(f"{event} {args}")
import diptych.backends, torch, ctypes.util
from tests.backends.export_toys import checkpoint
from pathlib import Path
sys.addaudithook(refuse)
home = Path(sys.argv[1])
diptych.backends.export(checkpoint("vit", home), home / "out", int8=True)
"""


def test_nothing_is_sent_or_printed_while_8_bit_towers_are_made(tmp_path: Path) -> None:
    words = [sys.executable, "-W", "error", "-c", SENT_NOTHING, str(tmp_path)]
    path = {
        "PYTHONPATH": ":".join([python_path(), *sys.path]),
        "HOME": str(tmp_path),
        "PATH": "",
    }
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""
    # An audit hook sees what Python opens, not what a library opens in C++. Telemetry needs an identifier in
    # the home folder (OpenVINO: intel/, ONNX Runtime: .cache/Microsoft/), so neither folder may appear.
    kept = {path.name for path in tmp_path.iterdir()} - {"out"}
    assert not {name for name in kept if name in ("intel", ".cache", ".local", ".config")}, kept


@pytest.mark.shared
def test_the_default_model_on_photographs(shared: Any, tmp_path: Path) -> None:
    from diptych.datasets import load_captioned
    from diptych.media import load_image

    data = load_captioned(shared / "data" / "flickr8k-test.tar")
    photographs = [load_image(content, target=96) for _, content in itertools.islice(data, 120)]
    spec = export(load_checkpoint("default"), tmp_path / "model", int8=True, pictures=photographs)
    by = {(check["runtime"], check["precision"]): check for check in spec.checks}
    assert by["onnx", "float32"]["image_worst"] > 0.99999
    assert by["openvino", "int8"]["image_mean"] > 0.998
    if ("openvino", "bfloat16") in by:
        assert by["openvino", "bfloat16"]["image_mean"] > 0.9998
    whole = diptych.load(runtime="torch", exact=True)
    pixels = preprocess_batch(photographs[:8], whole.spec.preprocess)
    rows = diptych.load(tmp_path / "model").encode_prepared(list(pixels))
    np.testing.assert_allclose(rows, whole.encode_images(photographs[:8]), atol=1e-5)


# -------------------------------------------------------------------------------------- choice of a runtime


@pytest.fixture
def home(vit: Checkpoint, tmp_path: Path) -> Path:
    """The same model in a separate folder."""
    save_checkpoint(tmp_path / "home", vit.spec, vit.state)
    return tmp_path / "home"


def test_weights_are_converted_once_for_another_runtime(
    home: Path,
    cache: Path,
    vit: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = diptych.load(home, runtime="onnx")
    assert "converting toy-vit, once" in capsys.readouterr().err
    assert isinstance(first, ExportedEncoder)
    assert first.identity == vit.identity
    monkeypatch.setattr(converting, "export", None)
    again = diptych.load(home, runtime="openvino", precision="float32")
    assert capsys.readouterr().err == ""
    np.testing.assert_allclose(first.encode_texts(["a"]), again.encode_texts(["a"]), atol=1e-5)
    assert diptych.load(vit, runtime="onnx").folder == first.folder
    assert first.folder.parent == cache / "exports"


def test_auto_is_torch_until_something_was_measured(home: Path, cache: Path, vit: Checkpoint) -> None:
    assert isinstance(diptych.load(home, runtime="auto"), TorchEncoder)
    assert not cache.exists()
    write_choice(vit.identity, RuntimeChoice("onnx", "float32"))
    assert isinstance(diptych.load(home, runtime="auto"), TorchEncoder), "the export is gone: nothing is made"
    kept = diptych.load(home, runtime="onnx")
    chosen = diptych.load(home, runtime="auto")
    assert isinstance(chosen, ExportedEncoder)
    assert (chosen.runtime, chosen.folder) == ("onnx", kept.folder)
    for options in ({"exact": True}, {"precision": "bfloat16"}, {"runtime": "torch"}, {"runtime": None}):
        assert isinstance(diptych.load(home, **{"runtime": "auto", **options}), TorchEncoder)


def test_a_choice_holds_for_this_machine_and_these_versions(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_choice("sha256:abc", RuntimeChoice("onnx", "float32", {"onnx float32": 2.0}))
    assert read_choice("sha256:abc") == RuntimeChoice("onnx", "float32", {"onnx float32": 2.0})
    here = runtime_choice.machine()
    monkeypatch.setattr(runtime_choice, "machine", lambda: here | {"cpu": "another"})
    assert read_choice("sha256:abc") is None
    write_choice("sha256:abc", RuntimeChoice("torch", "bfloat16"))
    monkeypatch.setattr(runtime_choice, "machine", lambda: here)
    assert read_choice("sha256:abc") == RuntimeChoice("onnx", "float32", {"onnx float32": 2.0})
    for damage in (b"", b"[1]", b"{}", b'[{"machine": 1}]'):
        next(cache.glob("runtimes/*.json")).write_bytes(damage)
        assert read_choice("sha256:abc") is None


def test_choosing_measures_once_and_keeps_to_it(
    home: Path, cache: Path, vit: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_choice, "SECONDS", 0.0)
    monkeypatch.setattr(
        runtime_choice, "_rates", lambda ways, _: {way: 1.0 + 2 * (way[0] == "onnx") for way in ways}
    )
    choice = choose_runtime(home)
    assert (choice.runtime, choice.precision) == ("onnx", "float32")
    assert any(way.startswith("torch") for way in choice.rates)
    assert not any(way.endswith("int8") for way in choice.rates), "nothing was handed in to fit 8 bits to"
    monkeypatch.setattr(runtime_choice, "_rates", None)
    assert choose_runtime(home) == choice
    assert diptych.load(home, runtime="auto").runtime == "onnx"


def test_rates_are_measured_in_turns(vit: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, turns = [0.0], list[float]()
    monkeypatch.setattr(runtime_choice, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    class Slow:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def encode_images(self, images: Sequence[Any]) -> None:
            clock[0] += self.seconds
            if turns[-1:] != [self.seconds]:
                turns.append(self.seconds)

    ways: Any = {("torch", "float32"): Slow(0.1), ("onnx", "float32"): Slow(0.001)}
    rates = runtime_choice._rates(ways, pictures(2))
    assert rates["torch", "float32"] == pytest.approx(20, rel=0.01)
    assert rates["onnx", "float32"] == pytest.approx(2000, rel=0.01)
    assert turns == [0.1, 0.001] * (runtime_choice.TURNS + 1)


def test_unknown_runtimes_list_the_known(home: Path) -> None:
    with pytest.raises(InputError, match="expected one of torch, onnx, openvino, auto"):
        diptych.load(home, runtime="tflite")


def test_the_index_of_one_is_the_index_of_all(vit: Checkpoint, vit_folder: Path) -> None:
    assert json.loads((vit_folder / "exported.json").read_text())["identity"] == vit.identity
    assert checkpoint("vit", vit_folder).identity == vit.identity
