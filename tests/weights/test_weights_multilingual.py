"""Multilingual models of open_clip, M-CLIP and SigLIP 2: the same numbers as their own code."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diptych.backends import TorchEncoder, load
from diptych.errors import UnknownModelError, WeightsError
from diptych.inputs import load_tokenizer
from diptych.model.config import RobertaConfig, ViTConfig
from diptych.model.initialise import build
from diptych.model.presets.table import preset
from diptych.weights import (
    Checkpoint,
    ModelSpec,
    join_text_encoder,
    load_checkpoint,
    load_text_encoder,
    save_checkpoint,
    to_diptych,
    to_open_clip,
    to_transformers,
)
from diptych.weights.open_clip import read as open_clip
from diptych.weights.open_clip import write as write_open_clip
from diptych.weights.registry import find_release
from diptych.weights.transformers import m_clip
from diptych.weights.transformers import read as transformers
from diptych.weights.transformers.roberta import BASES, base_model_name
from tests.weights.tiny_models import TINY
from tests.weights.tiny_multilingual import pixels, recorded, state_of, write_gemma_table, write_xlm_r_table

VISION = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1}
CASES = recorded()["open_clip"]


def open_clip_folder(folder: Path, case: dict[str, Any], *, base: str = "text") -> Path:
    """A model in open_clip's layout, with the config of its text tower in a folder beside it."""
    (folder / "text").mkdir(parents=True)
    (folder / "text/config.json").write_text(json.dumps(recorded()["xlm_roberta_config"]))
    text = {"hf_model_name": base, "hf_tokenizer_name": base, "context_length": 12}
    text |= {"hf_pooler_type": case["pooler"], "hf_proj_type": case["proj"]}
    model = {"embed_dim": case["embed_dim"], "vision_cfg": VISION, "text_cfg": text}
    config = {"model_cfg": model, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    state = state_of({**recorded()["open_clip_shapes"], **case["own_shapes"]})
    state["text.transformer.embeddings.position_ids"] = torch.arange(26)[None]  # as in older files
    save_file(state, folder / "open_clip_model.safetensors")
    write_xlm_r_table(folder / "tokenizer.json")
    return folder


def m_clip_folder(folder: Path, **changes: Any) -> Path:
    """A text encoder in the layout of M-CLIP."""
    (folder / "base").mkdir(parents=True)
    (folder / "base/config.json").write_text(json.dumps(recorded()["xlm_roberta_config"]))
    config = {"architectures": ["MultilingualCLIP"], "model_type": "M-CLIP", "modelBase": "base"}
    config |= {"numDims": 16, "transformerDimensions": 32, "transformers_version": "4.8.1", **changes}
    (folder / "config.json").write_text(json.dumps(config))
    state = state_of(recorded()["m_clip"]["shapes"])
    state["transformer.embeddings.position_ids"] = torch.arange(26)[None]
    torch.save(state, folder / "pytorch_model.bin")
    write_xlm_r_table(folder / "tokenizer.json")
    return folder


def picture_checkpoint(dim: int = 16) -> Checkpoint:
    """A small English CLIP."""
    shape = dataclasses.replace(TINY, embed_dim=dim, activation="quick_gelu")
    state = {name: tensor.detach() for name, tensor in build(shape, seed=1).state_dict().items()}
    return Checkpoint(
        spec=ModelSpec(name="pictures", architecture=shape, licence="mit"), state=state, identity=""
    )


def tokens_of(name: str = "tokens") -> torch.Tensor:
    return torch.tensor(recorded()[name])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['pooler']}-{case['proj']}")
def test_open_clip(case: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = load_checkpoint(open_clip_folder(tmp_path / "m", case))
    model = load(checkpoint, exact=True).model
    with torch.no_grad():
        np.testing.assert_allclose(model.encode_text(tokens_of()), case["text"], atol=2e-5)
        np.testing.assert_allclose(model.encode_image(pixels()), case["image"], atol=1e-4)
    assert not any("position_ids" in name for name in checkpoint.state)
    text = checkpoint.spec.architecture.text
    assert isinstance(text, RobertaConfig)
    assert (text.positions, text.context_length, text.layers) == (26, 12, 2)


def test_older_words_for_the_same() -> None:
    model = {"embed_dim": 512, "vision_cfg": {"patch_size": 32}}
    text = {"hf_model_name": "xlm-roberta-base", "hf_tokenizer_name": "xlm-roberta-base"}
    older = open_clip.read_config(
        {**model, "text_cfg": {**text, "proj": "mlp", "pooler_type": "mean_pooler"}}
    )
    newer = open_clip.read_config({**model, "text_cfg": text})
    assert older == newer
    assert newer[0] == preset("xlm-roberta-base-ViT-B-32")
    assert newer[2] == find_release("xlm-roberta-base-ViT-B-32", "laion5b_s13b_b90k").spec().tokenizer
    assert (newer[2].clean, newer[2].pad_id, newer[2].kind) == ("whitespace", 1, "file")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ({"hf_model_name": "bert-base-uncased"}, UnknownModelError, "known are xlm-roberta-base"),
        ({"hf_model_name": "../text"}, UnknownModelError, "architecture is not known"),
        ({"hf_model_name": ["a"]}, UnknownModelError, "architecture is not known"),
        (
            {"hf_model_name": "xlm-roberta-base", "hf_pooler_type": "max_pooler"},
            WeightsError,
            "hf_pooler_type",
        ),
        ({"hf_model_name": "xlm-roberta-base", "hf_proj_type": "deep"}, WeightsError, "hf_proj_type"),
        ({"hf_model_name": "xlm-roberta-base", "mystery": 1}, WeightsError, "mystery"),
        ({"hf_model_name": "xlm-roberta-base", "context_length": 513}, WeightsError, "positions"),
    ],
)
def test_open_clip_refusals(
    text: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    config = {"embed_dim": 512, "vision_cfg": {"patch_size": 32}, "text_cfg": text}
    with pytest.raises(error, match=message):
        open_clip.read_config(config, tmp_path)


def test_another_kind_of_tower_is_refused_by_name(tmp_path: Path) -> None:
    case = CASES[0]
    folder = open_clip_folder(tmp_path / "m", case)
    config = {**recorded()["xlm_roberta_config"], "model_type": "bert"}
    (folder / "text/config.json").write_text(json.dumps(config))
    with pytest.raises(UnknownModelError, match="type 'bert'"):
        load_checkpoint(folder)
    config = {**recorded()["xlm_roberta_config"], "position_embedding_type": "relative_key"}
    (folder / "text/config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="position_embedding_type"):
        load_checkpoint(folder)


def test_m_clip_with_pictures(tmp_path: Path) -> None:
    texts = load_text_encoder(m_clip_folder(tmp_path / "m"))
    pictures = picture_checkpoint()
    joined = join_text_encoder(pictures, texts)
    model = load(joined, exact=True).model
    with torch.no_grad():
        np.testing.assert_allclose(model.encode_text(tokens_of()), recorded()["m_clip"]["text"], atol=2e-5)
        alone = load(pictures, exact=True).model.encode_image(pixels())
        assert torch.equal(model.encode_image(pixels()), alone)
    assert joined.spec.architecture.activation == "quick_gelu"  # of the images; texts have their own
    assert joined.spec.languages == ("mul",)
    assert joined.spec.licence == "unknown and mit"
    assert joined.spec.tokenizer.context_length == 24  # as many as there are positions


def test_m_clip_by_one_call_and_in_one_folder(tmp_path: Path) -> None:
    folder = m_clip_folder(tmp_path / "m")
    pictures = picture_checkpoint()
    save_checkpoint(tmp_path / "pictures", pictures.spec, pictures.state)
    for name in (f"local-dir:{folder}", folder):
        joined = load_checkpoint(name, tmp_path / "pictures")
        assert joined.identity == join_text_encoder(pictures, load_text_encoder(folder)).identity
    assert to_diptych(joined, tmp_path / "both") == joined.identity
    again = load(tmp_path / "both", exact=True)
    assert again.identity == joined.identity
    assert again.spec == joined.spec
    assert again.encode_texts(["ein Hund im Schnee", "犬"]).shape == (2, 16)


def test_m_clip_refusals(tmp_path: Path) -> None:
    folder = m_clip_folder(tmp_path / "m")
    with pytest.raises(WeightsError, match=r"only an M-CLIP text encoder.*load\(.*'ViT-B-32 openai'\)"):
        load_checkpoint(folder)
    with pytest.raises(WeightsError, match="'m' have 16 values, image embeddings of 'pictures' 32"):
        join_text_encoder(picture_checkpoint(32), load_text_encoder(folder))
    with pytest.raises(WeightsError, match=r"holds no config\.json"):
        load_text_encoder(tmp_path)
    with pytest.raises(WeightsError, match="transformerDimensions is 64, the tower has width 32"):
        load_text_encoder(m_clip_folder(tmp_path / "wide", transformerDimensions=64))
    with pytest.raises(UnknownModelError, match="sentence-transformers/LaBSE"):
        load_text_encoder(m_clip_folder(tmp_path / "bert", modelBase="sentence-transformers/LaBSE"))
    shapes = {name: shape for name, shape in recorded()["m_clip"]["shapes"].items() if "key.bias" not in name}
    torch.save(state_of(shapes), folder / "pytorch_model.bin")
    lacking = load_text_encoder(folder)
    with pytest.raises(WeightsError, match=r"2 missing .*self\.key\.bias"):
        join_text_encoder(picture_checkpoint(), lacking)


def siglip2_folder(folder: Path, *, named: bool = True) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(recorded()["siglip2"]["config"]))
    if named:
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GemmaTokenizer"}))
    save_file(state_of(recorded()["siglip2"]["shapes"]), folder / "model.safetensors")
    write_gemma_table(folder / "tokenizer.json")
    return folder


def test_siglip_2(tmp_path: Path) -> None:
    case = recorded()["siglip2"]
    checkpoint = load_checkpoint(siglip2_folder(tmp_path / "m"))
    model, tokens = load(checkpoint, exact=True).model, torch.tensor(case["tokens"])
    with torch.no_grad():
        np.testing.assert_allclose(model.encode_text(tokens, normalize=True), case["text"], atol=1e-5)
        np.testing.assert_allclose(model.encode_image(pixels(), normalize=True), case["image"], atol=1e-5)
        np.testing.assert_allclose(model.logits(pixels(), tokens), case["logits"], atol=1e-4)
    tokenizer, text = checkpoint.spec.tokenizer, checkpoint.spec.architecture.text
    # Its config states 1, the end token; pooling is at the last position, so other padding would matter.
    assert (tokenizer.pad_id, text.pad_id, tokenizer.clean) == (0, 0, "lower")


def test_the_second_siglip_is_known_by_its_table_or_its_tokenizer(tmp_path: Path) -> None:
    config = {"model_type": "siglip", "text_config": {"vocab_size": 256_000}}
    assert transformers.read_config(config)[2].pad_id == 0
    assert transformers.read_config(config)[2].context_length == 64
    assert transformers.read_config(config, None, {"tokenizer_class": "SiglipTokenizer"})[2].pad_id == 1
    first = transformers.read_config({"model_type": "siglip"})[2]
    assert (first.pad_id, first.clean) == (1, "canonicalize")
    unnamed = load_checkpoint(siglip2_folder(tmp_path / "m", named=False))
    assert unnamed.spec.tokenizer.pad_id == 1


def test_pictures_of_any_shape_are_refused_with_the_way_out() -> None:
    with pytest.raises(UnknownModelError, match=r"NaFlex.*google/siglip2-base-patch16-224"):
        transformers.read_config({"model_type": "siglip2"})


def test_siglip_2_and_back_is_one_model(tmp_path: Path) -> None:
    first = load_checkpoint(siglip2_folder(tmp_path / "m"))
    to_transformers(first, tmp_path / "back")
    assert load_checkpoint(tmp_path / "back").identity == first.identity
    result = json.loads((tmp_path / "back/tokenizer_config.json").read_text())
    assert (result["tokenizer_class"], result["padding_side"]) == ("Siglip2Tokenizer", "right")


@pytest.mark.parametrize("kind", ["xlm_r", "gemma"])
def test_texts_become_the_ids_of_their_own_tokenizers(kind: str, tmp_path: Path) -> None:
    case = recorded()[f"{kind}_tokens"]
    if kind == "xlm_r":
        size = write_xlm_r_table(tmp_path / "tokenizer.json")
        config = find_release("xlm-roberta-base-ViT-B-32", "laion5b_s13b_b90k").spec().tokenizer
    else:
        size = write_gemma_table(tmp_path / "tokenizer.json")
        config = transformers.read_config({"model_type": "siglip", "text_config": {"vocab_size": 256_000}})[2]
    tokenizer = load_tokenizer(dataclasses.replace(config, vocab_size=size, context_length=8), tmp_path)
    with pytest.warns(UserWarning, match="longer than 8 tokens"):
        assert tokenizer(case["texts"]).tolist() == case["ids"]


def test_our_format_and_open_clips_keep_the_model(tmp_path: Path) -> None:
    first = load_checkpoint(open_clip_folder(tmp_path / "m", CASES[0]))
    assert to_diptych(first, tmp_path / "ours") == first.identity
    assert load_checkpoint(tmp_path / "ours").spec.architecture == first.spec.architecture
    with pytest.raises(WeightsError, match="another shape than xlm-roberta-base"):
        to_open_clip(first, tmp_path / "theirs")
    with pytest.raises(WeightsError, match="no RoBERTa text tower"):
        to_transformers(first, tmp_path / "hf")
    assert not (tmp_path / "theirs").exists()


@pytest.mark.parametrize("name", ["xlm-roberta-base-ViT-B-32", "xlm-roberta-large-ViT-H-14"])
def test_released_shapes_survive_open_clips_words(name: str) -> None:
    spec = ModelSpec(name=name, architecture=preset(name), tokenizer=find_tokenizer(name))
    words = write_open_clip.write_config(spec.architecture, spec.preprocess, spec.tokenizer, name=name)
    assert words["model_cfg"]["text_cfg"]["hf_tokenizer_name"] in BASES
    assert open_clip.read_config(words) == (spec.architecture, spec.preprocess, spec.tokenizer)


def find_tokenizer(name: str) -> Any:
    tag = "laion5b_s13b_b90k" if "base" in name else "frozen_laion5b_s13b_b90k"
    return find_release(name, tag).spec().tokenizer


def test_m_clips_head_has_no_words_in_open_clip() -> None:
    tower, dim = m_clip.read_config(
        {"model_type": "M-CLIP", "modelBase": "xlm-roberta-large", "numDims": 512}
    )
    assert base_model_name(tower) == "xlm-roberta-large"
    shape = dataclasses.replace(preset("ViT-B-32"), text=tower, embed_dim=dim)
    spec = ModelSpec(name="m", architecture=shape, tokenizer=m_clip.roberta_tokenizer(tower))
    with pytest.raises(WeightsError, match="a matrix with a bias"):
        write_open_clip.write_config(shape, spec.preprocess, spec.tokenizer, name="m")


@pytest.mark.parametrize(
    ("name", "tag", "parameters"),
    [
        ("xlm-roberta-base-ViT-B-32", "laion5b_s13b_b90k", 366_121_473),
        ("xlm-roberta-large-ViT-H-14", "frozen_laion5b_s13b_b90k", 1_193_014_785),
    ],
)
def test_released_sizes(name: str, tag: str, parameters: int) -> None:
    release = find_release(name, tag)
    model = build(release.spec().architecture, device="meta")
    assert sum(p.numel() for p in model.parameters()) == release.parameters == parameters


def test_languages_leave_the_identity_alone() -> None:
    single = picture_checkpoint()
    spec = dataclasses.replace(single.spec, languages=("de", "fr"))
    from diptych.weights.identity import hash_parts, identity_of

    assert identity_of(spec, single.state) == identity_of(single.spec, single.state)
    assert (
        hash_parts(spec, single.state)["description"] != hash_parts(single.spec, single.state)["description"]
    )
    assert "languages" not in single.spec.to_dict()
    assert ModelSpec.from_dict(spec.to_dict()) == spec
    with pytest.raises(WeightsError, match="languages"):
        ModelSpec.from_dict({**single.spec.to_dict(), "languages": "en"})


def test_texts_through_the_encoder(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(open_clip_folder(tmp_path / "m", CASES[0]))
    encoder = TorchEncoder.from_checkpoint(checkpoint, precision="float32", batch_size=2)
    texts = ["ein Hund im Schnee", "un chien", "犬", "ein ein ein ein"]
    together = encoder.encode_texts(texts)
    alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert encoder.precision == "float32"
    assert isinstance(encoder.spec.architecture.vision, ViTConfig)
