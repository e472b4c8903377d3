"""Damaged or malicious released folders: one clear error, and no file outside the folder is opened."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import diptych
from diptych.backends.exported import encoder as exported
from diptych.backends.exported.graph_file import read_graph
from diptych.errors import DiptychError, WeightsError
from tests.backends.make_released_onnx import pictures
from tests.backends.released_models import unpack

IMAGE, TEXT = "visual/model.onnx", "textual/model.onnx"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("released"))


@pytest.fixture
def copy(folders: Path, tmp_path: Path) -> Callable[[str], Path]:
    def made(name: str) -> Path:
        return Path(shutil.copytree(folders / name, tmp_path / "models" / name))

    return made


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes a key."""
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def edit_graph(path: Path, change: Callable[[Any], None]) -> None:
    """Change a graph and leave its external data in place."""
    model = onnx.load(path, load_external_data=False)
    change(model.graph)
    path.write_bytes(model.SerializeToString())


def located(location: str, **entries: str) -> Callable[[Path], None]:
    """Point the first external weight of the siglip image tower to another location."""

    def damage(folder: Path) -> None:
        def move(graph: Any) -> None:
            tensor = next(t for t in graph.initializer if t.data_location == TensorProto.EXTERNAL)
            for entry in tensor.external_data:
                entry.value = {"location": location, **entries}.get(entry.key, entry.value)

        edit_graph(folder / IMAGE, move)

    return damage


def linked(to: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        target = folder.parent / "secret"
        target.write_bytes(b"\0" * 100_000)
        path = folder / to
        path.unlink()
        path.symlink_to(target)

    return damage


def small_graph(inputs: list[Any], outputs: list[Any]) -> Callable[[Path], None]:
    """Replace the image graph by a graph of constants with these inputs and outputs."""

    def damage(folder: Path) -> None:
        ports = [helper.make_tensor_value_info(*port) for port in inputs]
        results = [helper.make_tensor_value_info(*port) for port in outputs]
        nodes = [
            helper.make_node("Constant", [], [name], value=helper.make_tensor("c", 1, [1, 8], np.ones(8)))
            for name, *_ in outputs
        ]
        graph = helper.make_graph(nodes, "g", ports, results)
        (folder / IMAGE).write_bytes(helper.make_model(graph).SerializeToString())

    return damage


def claiming(folder: Path) -> None:
    """A tensor that claims 2^40 numbers in four bytes."""

    def claim(graph: Any) -> None:
        graph.initializer.append(TensorProto(name="bomb", dims=[1 << 40], data_type=1, raw_data=b"\0" * 4))

    edit_graph(folder / IMAGE, claim)


def claiming_packed(folder: Path) -> None:
    def claim(graph: Any) -> None:
        graph.initializer.append(
            TensorProto(name="bomb", dims=[1 << 20, 1 << 20], data_type=1, float_data=[1.0])
        )

    edit_graph(folder / IMAGE, claim)


def in_a_node(folder: Path) -> None:
    """External data named by a constant inside a node, in a graph nested in a node."""

    def hide(graph: Any) -> None:
        tensor = TensorProto(name="t", dims=[1], data_type=1, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="../../secret")
        inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], [])
        graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=inner))

    edit_graph(folder / IMAGE, hide)


def in_a_function(folder: Path) -> None:
    """External data named by the default value of a function attribute."""
    model = onnx.load(folder / IMAGE, load_external_data=False)
    tensor = TensorProto(name="t", dims=[1], data_type=1, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../secret")
    function = helper.make_function(
        "custom", "F", [], ["y"], [], [helper.make_opsetid("", 17)], attribute_protos=[]
    )
    function.attribute_proto.append(helper.make_attribute("value", tensor))
    model.functions.append(function)
    (folder / IMAGE).write_bytes(model.SerializeToString())


def with_endless_shape(folder: Path) -> None:
    """A shape whose product has a hundred thousand digits: multiplying them would take minutes."""

    def claim(graph: Any) -> None:
        graph.initializer.append(TensorProto(name="bomb", dims=[1 << 40] * 10_000, data_type=1))

    edit_graph(folder / IMAGE, claim)


def nested(folder: Path) -> None:
    inner = helper.make_graph([], "inner", [], [])
    for _ in range(30):
        inner = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=inner)], "g", [], [])
    (folder / IMAGE).write_bytes(helper.make_model(inner).SerializeToString())


def cut_short(file: str, left: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = (folder / file).read_bytes()
        (folder / file).write_bytes(data[: int(len(data) * left)])

    return damage


PICTURES = ("image", 1, [1, 3, 16, 16])
ROWS = ("embedding", 1, [1, 8])
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no visual": (lambda folder: shutil.rmtree(folder / "visual"), r"lacks visual/preprocess_cfg\.json"),
    "no text graph": (lambda folder: (folder / TEXT).unlink(), r"lacks textual/model\.onnx"),
    "no tokenizer": (
        lambda folder: (folder / "textual/tokenizer.json").unlink(),
        r"lacks textual/tokenizer\.json",
    ),
    "no config": (lambda folder: (folder / "config.json").unlink(), r"lacks config\.json"),
    "a folder for a graph": (
        lambda folder: ((folder / IMAGE).unlink(), (folder / IMAGE).mkdir()),
        r"visual/model\.onnx is no file",
    ),
    "garbage": (
        lambda folder: (folder / IMAGE).write_bytes(b"\x93NUMPY" * 50),
        "is no ONNX file, or is truncated",
    ),
    "empty": (lambda folder: (folder / IMAGE).write_bytes(b""), "is no ONNX file, or is truncated"),
    "half a graph": (cut_short(TEXT, 0.5), r"textual/model\.onnx is no ONNX file, or is truncated"),
    "half the weights": (
        cut_short("visual/model.onnx.data", 0.5),
        r"has 4,352 bytes, model\.onnx needs .*truncated",
    ),
    "no weights": (lambda folder: (folder / "textual/weights_0").unlink(), r"lacks textual/weights_0"),
    "weights above": (
        located("../../secret"),
        r"keeps weights in '\.\./\.\./secret': expected a file beside it",
    ),
    "weights at the root": (located("/etc/passwd"), "keeps weights in '/etc/passwd'"),
    "weights on a drive": (located("C:\\secret"), "keeps weights in"),
    "weights in memory": (located("*/_ORT_MEM_ADDR_/*"), "keeps weights in"),
    "weights nowhere": (located(""), "keeps weights in ''"),
    "weights before the start": (located("model.onnx.data", offset="-8"), "bytes at offset -8 of"),
    "weights at no number": (located("model.onnx.data", offset="ten"), "invalid offset or length"),
    "weights of another length": (
        located("model.onnx.data", length="4"),
        "has 4 bytes at offset .* its shape says",
    ),
    "a link to weights": (linked("visual/model.onnx.data"), "is a link to a file outside"),
    "a link to a table": (linked("textual/tokenizer.json"), "is a link to a file outside"),
    "a link to a graph": (linked(TEXT), "is a link to a file outside"),
    "weights named in a node": (in_a_node, r"keeps weights in '\.\./\.\./secret'"),
    "weights named in a function": (in_a_function, r"keeps weights in '\.\./\.\./secret'"),
    "a shape without end": (with_endless_shape, "a tensor of over 281,474,976,710,656 numbers"),
    "a claim of terabytes": (claiming, r"'bomb' holds 4 bytes, its shape says 4,398,046,511,104"),
    "a claim of packed numbers": (claiming_packed, r"'bomb' claims 1,099,511,627,776 numbers in \d+ bytes"),
    "graphs without end": (nested, "messages are nested without end"),
    "two inputs": (
        small_graph([PICTURES, ("more", 1, [1, 3, 16, 16])], [ROWS]),
        r"takes image \(1, 3, 16, 16\) float32, more .*: expected one input of pictures",
    ),
    "no input": (small_graph([], [ROWS]), "takes nothing and gives"),
    "a flat input": (small_graph([("image", 1, [1, 768])], [ROWS]), "expected one input of pictures"),
    "bytes for pixels": (
        small_graph([("image", 2, [1, 3, 16, 16])], [ROWS]),
        "expected one input of pictures",
    ),
    "another size": (small_graph([("image", 1, [1, 3, 32, 32])], [ROWS]), "makes pictures of 3 x 16 x 16"),
    "too many at a time": (
        small_graph([("image", 1, [100_000, 3, 16, 16])], [ROWS]),
        "has batch size 100000",
    ),
    "rows for every patch": (small_graph([PICTURES], [("embedding", 1, [1, 4, 8])]), "expected rows"),
    "whole numbers for rows": (small_graph([PICTURES], [("embedding", 7, [1, 8])]), "expected rows"),
    "two outputs": (small_graph([PICTURES], [("one", 1, [1, 8]), ("two", 1, [1, 8])]), "named embedding"),
    "another width": (small_graph([PICTURES], [("embedding", 1, [1, 9])]), r"have 9 values|embed_dim is 8"),
    "config that is no JSON": (lambda folder: (folder / "config.json").write_text("{"), "is not JSON"),
    "config that is a list": (
        lambda folder: (folder / "config.json").write_text("[]"),
        "expected a JSON object",
    ),
    "no text_cfg": (lambda folder: edit(folder / "config.json", text_cfg=None), "lacks 'text_cfg'"),
    "another embed_dim": (lambda folder: edit(folder / "config.json", embed_dim=512), "embed_dim is 512"),
    "another length": (
        lambda folder: edit(folder / "config.json", text_cfg={"context_length": 77}),
        "its config says 77 tokens",
    ),
    "another cleaning": (
        lambda folder: edit(
            folder / "config.json", text_cfg={"context_length": 12, "tokenizer_kwargs": {"clean": "x"}}
        ),
        "clean is 'x'",
    ),
    "no padding": (
        lambda folder: edit(folder / "textual/tokenizer_config.json", pad_token="<none>"),
        "pad_token is '<none>', expected a token of its tokenizer.json",
    ),
    "a table of words": (
        lambda folder: (folder / "textual/tokenizer.json").write_text("cat dog"),
        "cannot be read as a tokenizer.json",
    ),
    "pictures of another size": (
        lambda folder: edit(folder / "visual/preprocess_cfg.json", size=[32, 32]),
        "makes pictures of 3 x 32 x 32",
    ),
    "no deviation": (
        lambda folder: edit(folder / "visual/preprocess_cfg.json", std=[0, 1, 1]),
        "std must be above 0",
    ),
    "another filter": (
        lambda folder: edit(folder / "visual/preprocess_cfg.json", interpolation="lanczos"),
        "interpolation is 'lanczos'",
    ),
    "a key nobody knows": (
        lambda folder: edit(folder / "visual/preprocess_cfg.json", tilt=3),
        "tilt = 3 is an unknown setting",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_broken_folder_gives_one_line(
    what: str, copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy("siglip")
    damage, message = DAMAGE[what]
    damage(folder)

    def opened(*_: object, **__: object) -> Any:
        raise AssertionError("a runtime opened it")

    monkeypatch.setattr(exported, "open_tower", opened)
    with pytest.raises(DiptychError, match=message) as caught:
        diptych.load(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 900


def test_rows_that_are_no_numbers_are_refused(copy: Callable[[str], Path]) -> None:
    folder = copy("clip")

    def spoil(graph: Any) -> None:
        for tensor in graph.initializer:
            if tensor.data_type == 1 and len(tensor.raw_data) > 64:
                tensor.raw_data = b"\xff" * len(tensor.raw_data)

    edit_graph(folder / IMAGE, spoil)
    with pytest.raises(WeightsError, match="gives infinite values or NaN"):
        diptych.load(folder).encode_images(pictures()[:1])


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_what_a_runtime_refuses_is_one_line(copy: Callable[[str], Path], runtime: str) -> None:
    folder = copy("clip")
    edit_graph(folder / IMAGE, lambda graph: setattr(graph.node[-1], "op_type", "NoSuchOperator"))
    with pytest.raises(
        WeightsError, match=r"visual/model\.onnx cannot be opened: .*fetch the model again"
    ) as caught:
        diptych.load(folder, runtime=runtime).encode_images(pictures()[:1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["siglip", "jina"])
def test_the_links_of_the_hubs_cache_are_followed(
    copy: Callable[[str], Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files in the hub's cache are links to blobs/; OpenVINO by itself refuses external data behind links."""
    folder = copy(name)
    if name == "jina":
        graph = folder / "onnx/model.onnx"
        onnx.save_model(
            onnx.load(graph), graph, save_as_external_data=True, location="data", size_threshold=0
        )
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    repository = tmp_path / "models--org--toy"
    snapshot = repository / "snapshots" / "0123"
    (repository / "blobs").mkdir(parents=True)
    for number, path in enumerate(sorted(folder.rglob("*"))):
        if path.is_file():
            shutil.copy(path, repository / "blobs" / str(number))
            link = snapshot / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(repository / "blobs" / str(number), link.parent))
    expected = diptych.load(folder)
    for runtime in ("onnx", "openvino"):
        encoder = diptych.load(snapshot, runtime=runtime)
        assert encoder.identity == expected.identity
        np.testing.assert_allclose(
            encoder.encode_images(pictures()), expected.encode_images(pictures()), atol=1e-5
        )
    assert list((tmp_path / "cache").iterdir()) == []


@settings(max_examples=100)
@given(st.data())
def test_any_bytes_are_read_or_refused(folders: Path, data: st.DataObject) -> None:
    original = (folders / "jina/onnx/model.onnx").read_bytes()
    place = data.draw(st.integers(0, len(original) - 1))
    removed = data.draw(st.integers(0, 40))
    changed = original[:place] + data.draw(st.binary(max_size=20)) + original[place + removed :]
    path = folders / "jina/onnx/changed.onnx"
    path.write_bytes(changed)
    with contextlib.suppress(WeightsError):
        assert read_graph(path).path == path
