"""Released ONNX models on the hub, by Immich's names or by repository; only needed files are fetched."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

import diptych
from diptych.errors import DownloadError, InputError, UnknownModelError, WeightsError
from diptych.weights import load_checkpoint
from tests.backends.make_released_onnx import pictures
from tests.backends.released_models import unpack
from tests.fake_hub import FakeHub, serving

README = b"---\nlicense: mit\n---\n"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("released"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folders: Path) -> Iterator[FakeHub]:
    """A hub with a siglip under one of Immich's names, with files for other hardware, and a jina-clip."""
    with serving(monkeypatch, tmp_path) as server:
        server.publish("immich-app/ViT-B-16-SigLIP__webli", folders / "siglip")
        server.publish("jinaai/jina-clip-v2", folders / "jina")
        for name in ("visual/rknpu/rk3588/model.rknn", "visual/model.armnn", "README.md"):
            server.files[f"immich-app/ViT-B-16-SigLIP__webli/{name}"] = README
        for name in (
            "model.safetensors",
            "onnx/model_fp16.onnx",
            "onnx/model_q4.onnx",
            "README.md",
            "modeling.py",
        ):
            server.files[f"jinaai/jina-clip-v2/{name}"] = README
        yield server


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP__webli", "hf-hub:immich-app/ViT-B-16-SigLIP__webli"])
def test_a_model_of_immich(
    hub: FakeHub,
    folders: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = diptych.load(folders / "siglip")
    encoder = diptych.load(name)
    assert encoder.identity == expected.identity
    np.testing.assert_allclose(
        encoder.encode_images(pictures()), expected.encode_images(pictures()), atol=1e-5
    )
    assert "licence: mit" in capsys.readouterr().err
    wanted = {path.relative_to(folders / "siglip").as_posix() for path in (folders / "siglip").rglob("*")}
    wanted -= {"rows.json", "visual", "textual"}
    fetched = {file.partition("__webli/")[2] for file in hub.fetched() if file}
    assert fetched == wanted | {"README.md"}
    assert encoder.spec.name == "immich-app/ViT-B-16-SigLIP__webli"
    assert (encoder.spec.licence, encoder.spec.languages) == ("mit", ("en",))
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert diptych.load(name).identity == expected.identity
    assert not hub.asked


def test_jina_clip_is_fetched_as_graphs(hub: FakeHub, folders: Path) -> None:
    encoder = diptych.load("hf-hub:jinaai/jina-clip-v2")
    assert encoder.identity == diptych.load(folders / "jina").identity
    assert {file.removeprefix("jinaai/jina-clip-v2/") for file in hub.fetched()} == {
        "README.md",
        "config.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "onnx/model.onnx",
    }


def test_a_precision_is_the_file_of_that_precision(hub: FakeHub, folders: Path) -> None:
    graph = (folders / "jina/onnx/model.onnx").read_bytes()
    hub.files["jinaai/jina-clip-v2/onnx/model_quantized.onnx"] = graph
    assert diptych.load("hf-hub:jinaai/jina-clip-v2", precision="int8").precision == "int8"
    assert "jinaai/jina-clip-v2/onnx/model.onnx" not in hub.fetched()
    with pytest.raises(WeightsError, match=r"model_fp16\.onnx is no ONNX file"):
        diptych.load("hf-hub:jinaai/jina-clip-v2", precision="float16")
    with pytest.raises(InputError, match="precision 'int4': expected one of float32, float16, int8"):
        diptych.load("hf-hub:jinaai/jina-clip-v2", precision="int4")


def test_graphs_that_are_not_there(hub: FakeHub) -> None:
    for name in ("onnx/model.onnx", "onnx/model_fp16.onnx"):
        del hub.files[f"jinaai/jina-clip-v2/{name}"]
    with pytest.raises(UnknownModelError, match="holds no ONNX graphs in float32 or float16 or int8"):
        diptych.load("hf-hub:jinaai/jina-clip-v2")
    with pytest.raises(UnknownModelError, match=r"no search model of that name.* It has LABSE"):
        diptych.load("hf-hub:immich-app/buffalo_l")
    del hub.files["immich-app/ViT-B-16-SigLIP__webli/textual/weights_0"]
    with pytest.raises(UnknownModelError, match=r"holds none of textual/weights_0"):
        diptych.load("ViT-B-16-SigLIP__webli")


def test_offline_and_not_in_the_cache(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        diptych.load("ViT-B-16-SigLIP__webli")


def test_a_hostile_graph_is_refused_before_its_data_are_fetched(hub: FakeHub, folders: Path) -> None:
    data = (folders / "siglip/visual/model.onnx").read_bytes()
    assert data.count(b"model.onnx.data") > 1
    name = "immich-app/ViT-B-16-SigLIP__webli/visual/model.onnx"
    hub.files[name] = data.replace(b"model.onnx.data", b"../../../secret")
    with pytest.raises(WeightsError, match=r"keeps weights in '\.\./\.\./\.\./secret'"):
        diptych.load("ViT-B-16-SigLIP__webli")
    assert not any("secret" in file for _, file, _ in hub.asked)


def test_what_needs_weights_says_what_graphs_are_for(hub: FakeHub, folders: Path, tmp_path: Path) -> None:
    for name in (folders / "clip", folders / "jina"):
        with pytest.raises(WeightsError, match=r"holds ONNX graphs \(.*\.onnx\), which can only be run"):
            load_checkpoint(name)
    with pytest.raises(UnknownModelError, match="holds ONNX graphs, which can only be run"):
        load_checkpoint("hf-hub:immich-app/ViT-B-32__openai")
    with pytest.raises(
        UnknownModelError, match=r"The weights of the same model are 'ViT-B-32', 'laion2b_s34b_b79k'"
    ):
        load_checkpoint("ViT-B-32__laion2b-s34b-b79k")
    with pytest.raises(InputError, match=r"torch cannot run: name its weights"):
        diptych.load("ViT-B-16-SigLIP__webli", runtime="torch")


def test_a_folder_of_weights_with_graphs_beside_them_is_one_of_weights(folders: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folders / "xenova", tmp_path / "both")
    (folder / "model.safetensors").write_bytes(b"weights")
    whole = Path(shutil.copytree(folders / "jina", tmp_path / "whole"))  # a jina-clip as a cloned repository
    (whole / "model.safetensors").write_bytes(b"weights")
    assert diptych.load(whole).identity == diptych.load(folders / "jina").identity
    with pytest.raises(WeightsError, match=r"config\.json|text_config|model\.safetensors"):
        diptych.load(folder)


def test_no_torch_for_a_name_of_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    diptych.load("ViT-B-16-SigLIP__webli")
    code = (
        "import sys, diptych\n"
        f"encoder = diptych.load('ViT-B-16-SigLIP__webli', cache_dir={str(tmp_path / 'cache')!r})\n"
        "encoder.encode_texts(['a cat'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"HF_HUB_OFFLINE": "1", "PATH": ""})
