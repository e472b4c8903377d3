"""Exported models: rows equal torch's on every runtime, incomplete folders refused, no torch, no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import diptych
from diptych.backends import ExportedEncoder, TorchEncoder
from diptych.backends.exported import encoder as module
from diptych.backends.exported.folder import ExportSpec, read_export
from diptych.backends.exported.towers import has_bfloat16
from diptych.embedding.batches import collect, embed_images
from diptych.encoder import Encoder, FeatureEncoder, PreparingEncoder
from diptych.errors import DiptychError, InputError, MissingExtraError, TextError, WeightsError
from diptych.inputs import LongTextWarning
from tests.backends.export_toys import drop, edit, pictures

TEXTS = ["a cat", "two red dogs on the mat", "", "a dog", "the sea", "a cat on the house"]
WAYS = [("onnx", "float32", 0.99999), ("openvino", "float32", 0.99999), ("openvino", "int8", 0.95)]
if has_bfloat16():
    WAYS.append(("openvino", "bfloat16", 0.998))


def cosines(one: Any, other: Any) -> Any:
    return (one * other).sum(1)


@pytest.mark.parametrize(("runtime", "precision", "least"), WAYS)
def test_rows_are_those_of_torch(
    exported: tuple[Path, TorchEncoder], runtime: str, precision: str, least: float
) -> None:
    folder, whole = exported
    encoder = diptych.load(folder, runtime=runtime, precision=precision)
    assert isinstance(encoder, Encoder)
    assert isinstance(encoder, PreparingEncoder)
    assert not isinstance(encoder, FeatureEncoder)
    for name in ("identity", "dim", "input_size", "logit_bias"):
        assert getattr(encoder, name) == getattr(whole, name)
    assert encoder.logit_scale == pytest.approx(whole.logit_scale)
    assert (encoder.runtime, encoder.precision) == (runtime, precision)
    for count in (1, 11):
        rows = encoder.encode_images(pictures(count))
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        assert cosines(rows, whole.encode_images(pictures(count))).min() > least
    for texts in (TEXTS[:1], TEXTS, TEXTS * 20):
        assert cosines(encoder.encode_texts(texts), whole.encode_texts(texts)).min() > least
    assert encoder.encode_images([]).shape == encoder.encode_texts([]).shape == (0, whole.dim)


def test_the_company_a_text_keeps_does_not_matter(exported: tuple[Path, TorchEncoder]) -> None:
    encoder = ExportedEncoder(exported[0], runtime="onnx", batch_size=4)
    together = encoder.encode_texts(TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(encoder.encode_texts([text])[0], row, atol=1e-5)


def test_long_texts_are_cut_and_counted_or_refused(exported: tuple[Path, TorchEncoder]) -> None:
    folder, whole = exported
    long = ["the sea " * 40, "a cat", "two dogs " * 30]
    with pytest.warns(LongTextWarning, match="2 of 3") as caught:
        rows = ExportedEncoder(folder, runtime="onnx").encode_texts(long)
    assert len(caught) == 1
    with pytest.warns(LongTextWarning):
        assert cosines(rows, whole.encode_texts(long)).min() > 0.99999
    strict = diptych.load(folder, on_long="refuse")
    assert strict.encode_texts(["a cat"]).shape == (1, whole.dim)
    with pytest.raises(TextError, match="text 0 has"):
        strict.encode_texts(long)


def test_a_stream_and_a_classifier_take_it(exported: tuple[Path, TorchEncoder]) -> None:
    folder, whole = exported
    encoder = diptych.load(folder)
    items = [(str(i), picture) for i, picture in enumerate(pictures(7))]
    result = collect(embed_images(encoder, [*items, ("broken", b"no picture")], batch_size=3), encoder.dim)
    assert cosines(result.vectors, whole.encode_images(pictures(7))).min() > 0.99999
    assert [failure.key for failure in result.failures] == ["broken"]
    names = ["cat", "dog", "sea"]
    mine, theirs = (item.classifier(names, templates="plain") for item in (encoder, whole))
    np.testing.assert_allclose(mine.weights_, theirs.weights_, atol=1e-4)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_several_threads_get_their_own_rows(vit_folder: Path, runtime: str) -> None:
    encoder = diptych.load(vit_folder, runtime=runtime, precision="float32")
    tower = encoder._tower("image")
    noise = np.random.default_rng(0).normal(size=(4, 9, 3, 32, 32)).astype(np.float32)
    alone = [tower(batch) for batch in noise]

    def again(number: int) -> Any:
        return np.stack([tower(noise[number]) for _ in range(40)])

    with ThreadPoolExecutor(4) as pool:
        for item, expected in zip(pool.map(again, range(4)), alone, strict=True):
            np.testing.assert_allclose(item, np.broadcast_to(expected, item.shape), atol=1e-5)


def test_a_torch_encoder_prepares_the_same(exported: tuple[Path, TorchEncoder]) -> None:
    whole = exported[1]
    assert isinstance(whole, PreparingEncoder)
    rows = whole.encode_prepared([whole.prepare(picture) for picture in pictures(5)])
    np.testing.assert_allclose(rows, whole.encode_images(pictures(5)), atol=1e-6)


def test_texts_seen_both_ways_without_a_mask_are_never_cut(exported: tuple[Path, TorchEncoder]) -> None:
    folder, whole = exported
    seen: list[tuple[int, ...]] = []
    encoder = ExportedEncoder(folder, runtime="onnx")
    tower = encoder._tower("text")
    encoder._towers["text"] = lambda batch: (seen.append(batch.shape), tower(batch))[1]
    encoder.encode_texts(["a cat", "a dog"])
    text = whole.spec.architecture.text
    longest = max(map(len, encoder.tokenizer.encode(["a cat", "a dog"])))
    siglip = whole.spec.name == "toy-siglip"
    assert seen == [(2, text.context_length if siglip else longest)]


# ----------------------------------------------------------------------------------------- incomplete folders


@pytest.fixture
def copy(vit_folder: Path, tmp_path: Path) -> Path:
    """A copy of the folder that a test may damage."""
    return Path(shutil.copytree(vit_folder, tmp_path / "copy"))


def test_one_vector_for_every_picture_is_noticed(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def same(path: Path, *_: object, **__: object) -> Any:
        return lambda batch: np.tile(np.linspace(0.1, 1, 24, dtype=np.float32), (len(batch), 1))

    monkeypatch.setattr(module, "open_tower", same)
    encoder = diptych.load(copy)
    with pytest.raises(WeightsError, match=r"the image tower .* golden vectors are missed by"):
        encoder.encode_images(pictures(1))
    with pytest.raises(WeightsError, match="the text tower"):
        encoder.encode_texts(["a cat"])


def test_towers_of_another_model_are_noticed(copy: Path, exported: tuple[Path, TorchEncoder]) -> None:
    for name in ("image.onnx", "text.onnx"):
        shutil.copy(exported[0] / name, copy / name)
    if read_export(exported[0]).name == "toy-vit":
        return
    edit(copy, sizes={})
    with pytest.raises(WeightsError, match=r"golden vectors are missed|gives embeddings of"):
        diptych.load(copy).encode_images(pictures(1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "image.onnx").unlink(), "lacks image.onnx"),
        (lambda folder: (folder / "text.onnx").write_bytes(b"short"), "has 5 bytes, expected"),
        (lambda folder: (folder / "exported.json").write_text("{"), "not JSON"),
        (lambda folder: edit(folder, format=2), "has format 2, .* export it again"),
        (lambda folder: edit(folder, dim="wide"), "dim is 'wide'"),
        (lambda folder: edit(folder, surprise=1), r"another version of diptych \(surprise\): export it"),
        (lambda folder: drop(folder, "cut", "sizes"), r"another version of diptych \(cut, sizes\): export"),
        (lambda folder: edit(folder, languages="de"), "languages is 'de'"),
        (lambda folder: edit(folder, sizes={"../../etc/passwd": 1}), "files of the folder"),
        (
            lambda folder: edit(folder, tokenizer={"kind": "file", "file": "../x"}),
            "outside the model's folder",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(copy: Path, damage: Any, message: str) -> None:
    damage(copy)
    with pytest.raises(DiptychError, match=message):
        diptych.load(copy).encode_texts(["a cat"])


def test_an_unreadable_graph_is_told_of(copy: Path) -> None:
    size = (copy / "image.onnx").stat().st_size
    (copy / "image.onnx").write_bytes(b"\0" * size)
    for runtime in ("onnx", "openvino"):
        with pytest.raises(WeightsError, match=r"image\.onnx cannot be opened"):
            diptych.load(copy, runtime=runtime, precision="float32").encode_images(pictures(1))


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(["format", "dim", "sizes", "checks", "golden_texts", "name"]),
        st.none()
        | st.integers()
        | st.text()
        | st.lists(st.integers())
        | st.dictionaries(st.text(), st.integers()),
    )
)
def test_any_description_is_read_or_refused(vit_folder: Path, changes: dict[str, Any]) -> None:
    values = json.loads((vit_folder / "exported.json").read_text()) | changes
    try:
        spec = ExportSpec.from_json(json.dumps(values))
    except WeightsError:
        return
    assert ExportSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "tpu"}, "unknown runtime 'tpu': expected one of torch, onnx, openvino, auto"),
        ({"runtime": "torch"}, "which torch cannot run"),
        ({"runtime": "onnx", "precision": "int8"}, "onnx computes in float32 here, got 'int8'"),
        ({"precision": "int8"}, "holds no int8 towers"),
        ({"precision": "int3"}, "got 'int3'"),
        ({"device": "cuda"}, "computes on the CPU, not on 'cuda'"),
    ],
)
def test_what_does_not_go_together_is_refused(
    vit_folder: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        diptych.load(vit_folder, **options)  # type: ignore[arg-type]


def test_it_says_that_it_has_no_module(vit_folder: Path) -> None:
    encoder = diptych.load(vit_folder)
    with pytest.raises(AttributeError, match="runtime='torch'"):
        encoder.model  # noqa: B018
    assert "onnx, float32" in repr(encoder)


def test_without_a_runtime_the_extra_is_named(vit_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert diptych.load(vit_folder).runtime == "openvino"
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'diptych\[onnx\]'"):
        diptych.load(vit_folder)


# ---------------------------------------------------------------------------------------------- without torch

ALONE = """
import sys
sys.modules["torch"] = None
import socket
def refuse(event, args):
    if event.startswith("socket.") and event != "socket.gethostname":
        raise AssertionError(f"{event} {args}")
sys.addaudithook(refuse)
import diptych
from PIL import Image
encoder = diptych.load(sys.argv[1], runtime=sys.argv[2], precision=sys.argv[3])
print(encoder.encode_images([Image.new("RGB", (40, 30), "red")]).shape, encoder.encode_texts(["a dog"]).shape)
from diptych.cli.main import main
words = ["classify", sys.argv[4], "a dog", "a cat", "--model", sys.argv[1], "--runtime", sys.argv[2]]
sys.argv = ["diptych", *words, "--json"]
main()
"""


@pytest.mark.parametrize(("runtime", "precision"), [("onnx", "float32"), ("openvino", "int8")])
def test_it_is_used_without_torch_and_without_a_network(
    exported: tuple[Path, TorchEncoder], tmp_path: Path, runtime: str, precision: str
) -> None:
    folder, whole = exported
    pictures(1)[0].save(tmp_path / "one.png")
    words = [
        sys.executable,
        "-W",
        "error",
        "-c",
        ALONE,
        str(folder),
        runtime,
        precision,
        str(tmp_path / "one.png"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shapes, _, answer = done.stdout.partition("\n")
    assert shapes == f"(1, {whole.dim}) (1, {whole.dim})"
    assert json.loads(answer)["model"] == whole.identity


INTERRUPTED = """
import gc, signal, sys, threading
import diptych
from PIL import Image
encoder = diptych.load(sys.argv[1], runtime="openvino", precision="float32")
encoder.encode_images([Image.new("RGB", (40, 30), "red")])
def let_go():
    global encoder
    del encoder
    gc.collect()
thread = threading.Thread(target=let_go)
thread.start()
thread.join()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_is_one_after_openvino_has_gone_in_another_thread(vit_folder: Path) -> None:
    words = [sys.executable, "-c", INTERRUPTED, str(vit_folder)]
    path = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=path)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
