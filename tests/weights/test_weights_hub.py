"""The Hugging Face client with a local fake hub: resuming, checksums, offline mode, licences."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from diptych.errors import ChecksumError, DownloadError, MissingExtraError, UnknownModelError, WeightsError
from diptych.model.config import RobertaConfig
from diptych.model.initialise import build
from diptych.model.presets.table import PRESETS
from diptych.weights import (
    Checkpoint,
    ModelSpec,
    load_checkpoint,
    save_checkpoint,
    to_open_clip,
    to_transformers,
)
from diptych.weights import load as load_module
from diptych.weights.download import Hub
from diptych.weights.registry import Release
from diptych.weights.transformers import m_clip
from diptych.weights.transformers.roberta import (
    BASES,
    TOKENIZER_REPOSITORY,
    XLM_R_VOCABULARY,
    roberta_tokenizer,
)
from tests.fake_hub import FakeHub, point_at, serving
from tests.weights.tiny_models import TINY, changed
from tests.weights.tiny_multilingual import recorded, state_of, write_xlm_r_table

# The small models here have a reduced vocabulary, about which every export warns.
pytestmark = pytest.mark.filterwarnings("ignore:.* has no tokenizer for this model:UserWarning")

README = "---\nlanguage: en\nlicense: cc-by-4.0\n---\n# A model\nlicense: not this\n"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with serving(monkeypatch, tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    state = {name: tensor.detach() for name, tensor in build(TINY, seed=0).state_dict().items()}
    spec = ModelSpec(name="toy", architecture=TINY)
    return Checkpoint(spec=spec, state=state, identity="")


def publish(
    hub: FakeHub, checkpoint: Checkpoint, layout: str, folder: Path, repository: str = "org/toy"
) -> None:
    if layout == "open_clip":
        to_open_clip(checkpoint, folder)
    elif layout == "transformers":
        to_transformers(checkpoint, folder)
    else:
        save_checkpoint(folder, checkpoint.spec, checkpoint.state)
    (folder / "README.md").write_text(README)
    hub.publish(repository, folder)


@pytest.mark.parametrize("layout", ["open_clip", "transformers", "ours"])
def test_a_repository_of_each_layout(
    hub: FakeHub, checkpoint: Checkpoint, layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(hub, checkpoint, layout, tmp_path / "out")
    first = load_checkpoint("hf-hub:org/toy")
    assert all(torch.equal(first.state[name], checkpoint.state[name]) for name in checkpoint.state)
    assert "licence: cc-by-4.0" in capsys.readouterr().err
    hub.asked.clear()
    second = load_checkpoint("hf-hub:org/toy")
    assert second.identity == first.identity
    assert not hub.fetched()
    assert "licence" not in capsys.readouterr().err


def test_the_stated_licence_and_source_are_kept(hub: FakeHub, checkpoint: Checkpoint, tmp_path: Path) -> None:
    publish(hub, checkpoint, "open_clip", tmp_path / "out")
    spec = load_checkpoint("hf-hub:org/toy").spec
    assert (spec.name, spec.licence) == ("org/toy", "cc-by-4.0")
    assert spec.source == "https://huggingface.co/org/toy"


def test_a_broken_download_goes_on_where_it_stopped(
    hub: FakeHub, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub, checkpoint, "open_clip", tmp_path / "out")
    name = "org/toy/open_clip_model.safetensors"
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub.broken.add(name)
    loaded = load_checkpoint("hf-hub:org/toy")
    assert torch.equal(loaded.state["visual.proj"], checkpoint.state["visual.proj"])
    first, second = [wanted for method, item, wanted in hub.asked if (method, item) == ("GET", name)]
    assert first is None
    assert second is not None
    assert int(second.removeprefix("bytes=").rstrip("-")) > 1024


def test_wrong_bytes_are_refused_and_thrown_away(
    hub: FakeHub, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    publish(hub, checkpoint, "open_clip", tmp_path / "out")
    name = "org/toy/open_clip_model.safetensors"
    hub.lies[name] = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(ChecksumError, match=r"open_clip_model\.safetensors.*was deleted"):
        load_checkpoint("hf-hub:org/toy")
    hub.lies.clear()
    assert load_checkpoint("hf-hub:org/toy").state


def test_a_cache_that_rots_is_noticed(hub: FakeHub, checkpoint: Checkpoint, tmp_path: Path) -> None:
    publish(hub, checkpoint, "open_clip", tmp_path / "out")
    load_checkpoint("hf-hub:org/toy")
    blob = next((tmp_path / "cache").rglob("open_clip_model.safetensors")).resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(ChecksumError):
        load_checkpoint("hf-hub:org/toy")


def test_offline(
    hub: FakeHub, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub, checkpoint, "transformers", tmp_path / "out")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match=r"HF_HUB_OFFLINE is set.*local-dir"):
        load_checkpoint("hf-hub:org/toy")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    online = load_checkpoint("hf-hub:org/toy")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert load_checkpoint("hf-hub:org/toy").identity == online.identity
    assert not hub.asked


def test_offline_is_told_with_older_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(constants, "is_offline_mode", raising=False)
    for offline, item in ((True, "HF_HUB_OFFLINE is set"), (False, "check the network")):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        assert item in str(Hub("org/toy")._unreachable("a.bin", OSError("broken")))


def test_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at("http://127.0.0.1:1", monkeypatch)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with pytest.raises(DownloadError, match="check the network"):
        load_checkpoint("hf-hub:org/toy")


def test_no_such_repository(hub: FakeHub) -> None:
    for name in ("org/none", "not a name", "org/none@v2"):
        with pytest.raises(UnknownModelError, match="no repository"):
            load_checkpoint(f"hf-hub:{name}")


def test_a_repository_without_a_model(hub: FakeHub) -> None:
    hub.files["org/data/README.md"] = b"# Data"
    with pytest.raises(UnknownModelError, match=r"holds none of open_clip_config\.json"):
        load_checkpoint("hf-hub:org/data")


@pytest.mark.parametrize(
    ("vision", "error", "message"),
    [
        ({"eva_model_name": "eva-clip-b-16"}, UnknownModelError, "EVA"),
        ({"timm_model_name": "eva02_base_patch16_clip_224"}, MissingExtraError, r"diptych\[timm\]"),
    ],
)
def test_a_family_that_is_not_built_is_refused_before_gigabytes_are_fetched(
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    vision: dict[str, str],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it was not installed
    config = {"model_cfg": {"embed_dim": 8, "vision_cfg": vision, "text_cfg": {}}}
    hub.files["org/eva/open_clip_config.json"] = json.dumps(config).encode()
    hub.files["org/eva/open_clip_model.safetensors"] = b"gigabytes"
    with pytest.raises(error, match=message):
        load_checkpoint("hf-hub:org/eva")
    assert "org/eva/open_clip_model.safetensors" not in hub.fetched()


def test_a_release_by_name_and_tag(
    hub: FakeHub,
    checkpoint: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Only the weights are fetched, `.bin` if there is no safetensors; the rest is in the tables."""
    spec = ModelSpec(name="toy t", architecture=TINY, licence="mit")
    monkeypatch.setattr(Release, "spec", lambda self: spec)
    monkeypatch.setitem(PRESETS, "toy", TINY)
    release = Release("toy", "t", "quick_gelu", "clip", "mit", "org/toy", 1)
    monkeypatch.setattr(load_module, "find_release", lambda name, tag: release)
    torch.save(checkpoint.state, tmp_path / "open_clip_pytorch_model.bin")
    hub.files["org/toy/open_clip_pytorch_model.bin"] = (tmp_path / "open_clip_pytorch_model.bin").read_bytes()
    loaded = load_checkpoint("toy", "t", cache_dir=tmp_path / "elsewhere")
    assert loaded.spec == spec
    assert hub.fetched() == {"org/toy/open_clip_pytorch_model.bin"}
    assert (tmp_path / "elsewhere" / "models--org--toy").is_dir()
    assert "licence: mit" in capsys.readouterr().err
    load_checkpoint("toy", "t", cache_dir=tmp_path / "elsewhere")
    assert "licence" not in capsys.readouterr().err
    (snapshot,) = (tmp_path / "elsewhere/models--org--toy/snapshots").iterdir()
    (snapshot / "open_clip_config.json").write_text(json.dumps({"model_cfg": changed(quick_gelu=True)}))
    with pytest.warns(UserWarning, match="the tag 't' is followed.*activation is 'gelu' and 'quick_gelu'"):
        load_checkpoint("toy", "t", cache_dir=tmp_path / "elsewhere")


def test_a_multilingual_release_finds_its_table(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokenizer.json of the repository, or XLM-R's if it has none."""
    text = dataclasses.replace(RobertaConfig(), width=8, heads=2, layers=1, vocab_size=XLM_R_VOCABULARY)
    shape = dataclasses.replace(TINY, text=text)
    spec = ModelSpec(name="toy t", architecture=shape, tokenizer=roberta_tokenizer(text))
    monkeypatch.setattr(Release, "spec", lambda self: spec)
    monkeypatch.setitem(PRESETS, "toy", shape)
    release = Release("toy", "t", "gelu", "clip", "mit", "org/toy", 1)
    monkeypatch.setattr(load_module, "find_release", lambda name, tag: release)
    state = {name: tensor.detach() for name, tensor in build(shape, seed=0).state_dict().items()}
    torch.save(state, tmp_path / "open_clip_pytorch_model.bin")
    hub.files["org/toy/open_clip_pytorch_model.bin"] = (tmp_path / "open_clip_pytorch_model.bin").read_bytes()
    write_xlm_r_table(tmp_path / "tokenizer.json")
    hub.files[f"{TOKENIZER_REPOSITORY}/tokenizer.json"] = (tmp_path / "tokenizer.json").read_bytes()
    loaded = load_checkpoint("toy", "t")
    assert loaded.tokenizer_file is not None
    assert loaded.tokenizer_file.read_bytes() == (tmp_path / "tokenizer.json").read_bytes()
    assert f"{TOKENIZER_REPOSITORY}/tokenizer.json" in hub.fetched()
    hub.files["org/toy/tokenizer.json"] = (tmp_path / "tokenizer.json").read_bytes()
    own = load_checkpoint("toy", "t", cache_dir=tmp_path / "elsewhere")
    assert own.identity == loaded.identity
    assert own.folder is not None
    assert "org--toy" in str(own.folder)


def test_texts_of_m_clip_come_with_the_pictures_they_were_taught_to_fit(
    hub: FakeHub, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub, checkpoint, "open_clip", tmp_path / "out", "org/pictures")
    monkeypatch.setitem(BASES, "tiny", recorded()["xlm_roberta_config"])
    config = {"model_type": "M-CLIP", "modelBase": "tiny", "numDims": 32, "transformerDimensions": 32}
    state = state_of({**recorded()["m_clip"]["shapes"], "LinearTransformation.weight": [32, 32]})
    state["LinearTransformation.bias"] = torch.zeros(32)
    torch.save(state, tmp_path / "pytorch_model.bin")
    write_xlm_r_table(tmp_path / "tokenizer.json")
    hub.files["M-CLIP/toy/config.json"] = json.dumps(config).encode()
    for name in ("pytorch_model.bin", "tokenizer.json"):
        hub.files[f"M-CLIP/toy/{name}"] = (tmp_path / name).read_bytes()
    with pytest.raises(UnknownModelError, match="whose image encoder it was trained for"):
        load_checkpoint("hf-hub:M-CLIP/toy")
    said = load_checkpoint("hf-hub:M-CLIP/toy", "hf-hub:org/pictures")
    monkeypatch.setitem(m_clip.IMAGE_MODELS, "M-CLIP/toy", "hf-hub:org/pictures")
    known = load_checkpoint("hf-hub:M-CLIP/toy")
    monkeypatch.setitem(PRESETS, "toy", TINY)
    release = Release("toy", "m_clip", "gelu", "m-clip", "mit", "M-CLIP/toy", 1)
    monkeypatch.setattr(load_module, "find_release", lambda name, tag: release)
    assert said.identity == known.identity == load_checkpoint("toy", "m_clip").identity
    assert known.spec.name == "toy with the pictures of org/pictures"
    assert torch.equal(known.state["visual.proj"], checkpoint.state["visual.proj"])


def test_shards(hub: FakeHub, checkpoint: Checkpoint, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    publish(hub, checkpoint, "transformers", tmp_path / "out")
    whole = load_file(tmp_path / "out/model.safetensors")
    del hub.files["org/toy/model.safetensors"]
    table = {}
    for number, names in enumerate((sorted(whole)[::2], sorted(whole)[1::2])):
        file = f"model-{number}.safetensors"
        save_file({name: whole[name] for name in names}, tmp_path / file)
        hub.files[f"org/toy/{file}"] = (tmp_path / file).read_bytes()
        table |= dict.fromkeys(names, file)
    hub.files["org/toy/model.safetensors.index.json"] = json.dumps({"weight_map": table}).encode()
    loaded = load_checkpoint("hf-hub:org/toy")
    assert all(torch.equal(loaded.state[name], checkpoint.state[name]) for name in checkpoint.state)
    hub.files["org/toy/model.safetensors.index.json"] = json.dumps({"weight_map": {"a": "../x"}}).encode()
    with pytest.raises(WeightsError, match="outside its folder"):
        load_checkpoint("hf-hub:org/toy", cache_dir=tmp_path / "new")


def test_a_licence_by_another_name(hub: FakeHub, tmp_path: Path) -> None:
    hub.files["org/odd/README.md"] = b"---\nlicense: other\nlicense_name: apple-amlr\n---\n"
    assert Hub("org/odd").announce("weights") == "apple-amlr"
    hub.files["org/bare/README.md"] = b"# none"
    assert Hub("org/bare").announce("weights") == "unknown"
