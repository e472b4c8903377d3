"""Released ONNX folders: the rows of the libraries that exported them, on every runtime, without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import diptych
from diptych.backends import ExportedEncoder
from diptych.backends.exported.graph_file import read_graph
from diptych.backends.exported.graph_pruning import pruned_model
from diptych.backends.exported.immich import list_immich_models
from diptych.backends.exported.released import LOGIT_SCALE, image_tower
from diptych.encoder import Encoder, PreparingEncoder
from diptych.errors import InputError, WeightsError
from diptych.inputs import counted_long_texts
from tests.backends.make_released_onnx import SIDE, TEXTS, pictures
from tests.backends.released_models import MODELS, add_language_tokens, unpack


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every folder of a released model, as written by `make_released_onnx.py`."""
    return unpack(tmp_path_factory.mktemp("released"))


@pytest.fixture
def copy(folders: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one folder that a test may damage."""

    def made(name: str) -> Path:
        return Path(shutil.copytree(folders / name, tmp_path / name))

    return made


def rows_of(folder: Path) -> tuple[Any, Any]:
    rows = json.loads((folder / "rows.json").read_text())
    return np.array(rows["images"], np.float32), np.array(rows["texts"], np.float32)


def texts_of(encoder: Any) -> Any:
    with counted_long_texts():  # the last text is truncated
        return encoder.encode_texts(TEXTS)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize("name", MODELS)
def test_rows_are_those_of_the_library(folders: Path, name: str, runtime: str) -> None:
    images, texts = rows_of(folders / name)
    encoder = diptych.load(folders / name, runtime=runtime)
    assert isinstance(encoder, Encoder)
    assert isinstance(encoder, PreparingEncoder)
    assert (encoder.dim, encoder.input_size) == (images.shape[1], SIDE)
    np.testing.assert_allclose(encoder.encode_images(pictures()), images, atol=1e-5)
    np.testing.assert_allclose(texts_of(encoder), texts, atol=1e-5)
    for number, picture in enumerate(pictures()):  # independent of the other items in the batch
        np.testing.assert_allclose(encoder.encode_images([picture])[0], images[number], atol=1e-5)
    np.testing.assert_allclose(
        encoder.encode_prepared([encoder.prepare(pictures()[1])])[0], images[1], atol=1e-5
    )
    np.testing.assert_allclose(encoder.encode_texts(TEXTS[:1])[0], texts[0], atol=1e-5)
    assert encoder.encode_images([]).shape == encoder.encode_texts([]).shape == (0, encoder.dim)


def test_the_toys_can_tell_a_mistake(folders: Path) -> None:
    """The vectors of a toy differ enough that a wrong transform or token id would be visible."""
    for name in MODELS:
        for rows in rows_of(folders / name):
            distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)[~np.eye(len(rows), dtype=bool)]
            assert distances.min() > 1e-3, name


def test_no_torch_is_imported(folders: Path) -> None:
    code = (
        "import sys, diptych; from PIL import Image\n"
        f"for name in {MODELS!r}:\n"
        f"    encoder = diptych.load({str(folders)!r} + '/' + name)\n"
        "    encoder.encode_texts(['a cat']); encoder.encode_images([Image.new('RGB', (9, 20))])\n"
        "    encoder.classifier(['cat', 'dog'], templates='plain')\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_said_of_a_folder(folders: Path) -> None:
    siglip, clip = (diptych.load(folders / name) for name in ("siglip", "clip"))
    assert (clip.logit_scale, clip.logit_bias, siglip.logit_bias) == (LOGIT_SCALE, 0.0, -10.0)
    assert siglip.spec.tokenizer.clean == "canonicalize"
    assert siglip.spec.preprocess.resize == "squash"
    assert diptych.load(folders / "jina").spec.preprocess.fill_color == 90
    assert clip.spec.name == "clip"
    with pytest.raises(AttributeError, match="runs without torch"):
        _ = clip.model


def test_identity_is_that_of_the_content(folders: Path, copy: Callable[[str], Path]) -> None:
    known = {name: diptych.load(folders / name).identity for name in MODELS}
    assert len(set(known.values())) == len(MODELS)
    for name, file in (
        ("siglip", "visual/model.onnx.data"),
        ("siglip", "textual/weights_0"),
        ("clip", "visual/model.onnx"),
        ("clip", "textual/tokenizer.json"),
        ("jina", "preprocessor_config.json"),
    ):
        folder = copy(name)
        assert diptych.load(folder).identity == known[name]
        data = (folder / file).read_bytes()
        if file.endswith(".json"):  # still JSON, but different content
            changed = data.replace(b'"cat"', b'"cow"').replace(b'"longest"', b'"squash"')
        else:
            changed = data[:-1] + bytes([data[-1] ^ 1])
        (folder / file).write_bytes(changed)
        try:
            assert diptych.load(folder).identity != known[name], file
        except WeightsError:
            assert file.endswith(".onnx"), file  # the last byte of a graph is not part of a weight
        shutil.rmtree(folder)


def test_precisions_of_transformers_js(copy: Callable[[str], Path]) -> None:
    folder = copy("jina")
    (folder / "onnx/model.onnx").rename(folder / "onnx/model_fp16.onnx")
    assert diptych.load(folder).precision == "float16"
    assert diptych.load(folder, precision="float16").precision == "float16"
    assert diptych.load(folder, exact=True).precision == "float16"
    with pytest.raises(InputError, match=r"holds no graphs in int8; it holds float16"):
        diptych.load(folder, precision="int8")
    shutil.copy(folder / "onnx/model_fp16.onnx", folder / "onnx/model_quantized.onnx")
    assert diptych.load(folder, precision="int8").precision == "int8"
    with pytest.raises(InputError, match="onnx computes in float16 here, got 'bfloat16'"):
        diptych.load(folder, precision="bfloat16", runtime="onnx")
    assert diptych.load(folder, precision="bfloat16", runtime="openvino").precision == "bfloat16"
    with pytest.raises(InputError, match="holds no graphs in float16; it holds float32"):
        ExportedEncoder(copy("clip"), precision="float16")


def test_torch_is_refused_with_the_way_out(folders: Path) -> None:
    with pytest.raises(InputError, match=r"holds ONNX graphs, which torch cannot run: name its weights"):
        diptych.load(folders / "clip", runtime="torch")
    with pytest.raises(InputError, match="computes on the CPU, not on 'cuda'"):
        diptych.load(folders / "clip", device="cuda")


def test_of_a_graph_of_both_towers_one_is_computed(folders: Path, tmp_path: Path) -> None:
    """Texts do not run the image tower: the graph is cut to what is needed, with external data or without."""
    path = folders / "jina/onnx/model.onnx"
    text = onnx.load_from_string(pruned_model(path, "l2norm_text_embeddings"))
    whole = onnx.load(path)
    onnx.checker.check_model(text)
    assert [port.name for port in text.graph.input] == ["input_ids"]
    assert [port.name for port in text.graph.output] == ["l2norm_text_embeddings"]
    assert "Conv" in {node.op_type for node in whole.graph.node}
    assert "Conv" not in {node.op_type for node in text.graph.node}
    assert 0 < len(text.graph.initializer) < len(whole.graph.initializer)
    shutil.copytree(folders / "jina", tmp_path / "jina")
    onnx.save_model(
        whole,
        tmp_path / "jina/onnx/model.onnx",
        save_as_external_data=True,
        location="data",
        size_threshold=0,
    )
    assert (tmp_path / "jina/onnx/data").stat().st_size > 1000
    images, texts = rows_of(folders / "jina")
    for runtime in ("onnx", "openvino"):
        encoder = diptych.load(tmp_path / "jina", runtime=runtime)
        np.testing.assert_allclose(texts_of(encoder), texts, atol=1e-5)
        np.testing.assert_allclose(encoder.encode_images(pictures()), images, atol=1e-5)


def test_rows_do_not_depend_on_the_batch_where_ranges_are_found_while_running(
    folders: Path, tmp_path: Path
) -> None:
    model = onnx.load(folders / "xenova/onnx/vision_model.onnx")
    model.graph.node.append(
        onnx.helper.make_node("DynamicQuantizeLinear", ["pixel_values"], ["q", "scale", "zero"])
    )
    onnx.save_model(model, tmp_path / "model.onnx")
    tower = image_tower(read_graph(tmp_path / "model.onnx"), SIDE, ("image_embeds",))
    assert tower.signature.fixed_batch == 1
    usual = image_tower(read_graph(folders / "xenova/onnx/vision_model.onnx"), SIDE, ("image_embeds",))
    assert usual.signature.fixed_batch is None


def test_an_nllb_reads_the_language_before_a_text(copy: Callable[[str], Path]) -> None:
    folder = copy("siglip")
    rust = add_language_tokens(folder)
    english, german, end = (rust.token_to_id(token) for token in ("eng_Latn", "deu_Latn", "</s>"))
    encoder = diptych.load(folder)
    assert isinstance(encoder, ExportedEncoder)
    assert encoder.tokenizer.takes_language
    assert not diptych.load(copy("clip")).tokenizer.takes_language
    in_german = encoder.with_language("de")
    cat = rust.token_to_id("cat")
    assert encoder.tokenizer.encode("cat") == [[english, cat, end]]
    assert in_german.tokenizer.encode("cat") == [[german, cat, end]]
    assert in_german.identity == encoder.identity
    assert np.abs(in_german.encode_texts(["cat"]) - encoder.encode_texts(["cat"])).max() > 1e-3
    np.testing.assert_array_equal(in_german.encode_images(pictures()), encoder.encode_images(pictures()))
    assert encoder.tokenizer.encode("cat") == [[english, cat, end]]
    with pytest.raises(InputError, match="no token of a language 'fra_Latn'"):
        encoder.with_language("fr")
    with pytest.raises(InputError, match="unknown language 'klingon': expected one of af, ar"):
        encoder.with_language("klingon")
    with pytest.raises(InputError, match="begin with no language token"):
        diptych.load(folder.with_name("clip")).with_language("de")  # type: ignore[union-attr]


def test_immich_models_are_known() -> None:
    models = {model.name: model for model in list_immich_models()}
    assert len(models) == 58
    assert models["nllb-clip-large-siglip__v1"].languages == "mul"
    assert (models["ViT-L-14-336__openai"].dim, models["ViT-L-14-336__openai"].image_size) == (768, 336)
    assert models["ViT-B-32__openai"].repository == "immich-app/ViT-B-32__openai"
