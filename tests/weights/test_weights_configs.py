"""Configs of other projects: every key is understood, known to be harmless, or refused by name."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import UnknownModelError, WeightsError
from diptych.inputs.config import PreprocessConfig, TokenizerConfig
from diptych.model.config import ResNetConfig, ViTConfig
from diptych.model.presets.family_presets import FAMILY_PRESETS
from diptych.model.presets.table import PRESETS, mlp_ratio, preset
from diptych.weights import Checkpoint, ModelSpec, to_open_clip, to_transformers
from diptych.weights.open_clip import read as open_clip
from diptych.weights.open_clip import write as write_open_clip
from diptych.weights.registry import preprocess_for, tokenizer_for
from diptych.weights.transformers import read as transformers
from diptych.weights.transformers import write as write_transformers
from tests.weights.tiny_models import TINY, changed

# The small models here have a reduced vocabulary, about which every export warns.
pytestmark = pytest.mark.filterwarnings("ignore:.* has no tokenizer for this model:UserWarning")


CLIP_NAMES = [name for name, c in PRESETS.items() if c.text.causal and not name.startswith("diptych")]
# Models released as Google's folders; "ViT-SO400M-14-SigLIP-378" belongs to open_clip.
SIGLIP_NAMES = [name for name in PRESETS if "SigLIP" in name and name not in FAMILY_PRESETS]


@pytest.mark.parametrize("name", SIGLIP_NAMES)
def test_siglips_survive_transformers_words(name: str) -> None:
    """Architecture, preprocessing (squash, 0.5) and text cleaning equal those of a bare file of that name."""
    config = preset(name)
    pre, tok = preprocess_for(config), tokenizer_for(config)
    words = write_transformers.write_config(config), write_transformers.write_preprocess(pre, siglip=True)
    assert transformers.read_config(*words) == (config, pre, tok)


@pytest.mark.parametrize("name", CLIP_NAMES)
@pytest.mark.parametrize("quick", ["", "-quickgelu"])
def test_presets_survive_open_clips_words(name: str, quick: str) -> None:
    config = preset(name + quick)
    pre, tok = PreprocessConfig(size=config.vision.image_size), tokenizer_for(config)
    assert open_clip.read_config(write_open_clip.write_config(config, pre, tok, name=name)) == (
        config,
        pre,
        tok,
    )


WORLDWIDE = [name for name in CLIP_NAMES if "worldwide" in name]


@pytest.mark.parametrize("name", WORLDWIDE)
def test_metaclip_2_survives_transformers_words(name: str) -> None:
    config = preset(name)
    words = write_transformers.write_config(config)
    assert words["model_type"] == "metaclip_2"
    width, text = config.vision.width, config.text
    ratio = mlp_ratio(width, int(width * config.vision.mlp_ratio))
    read, _, tokenizer = transformers.read_config(words)
    assert read == dataclasses.replace(config, vision=dataclasses.replace(config.vision, mlp_ratio=ratio))
    assert (tokenizer.kind, tokenizer.pad_id, tokenizer.clean) == ("file", text.pad_id, "none")


@pytest.mark.parametrize(
    "name", [name for name in CLIP_NAMES if name.startswith("ViT-") and name not in WORLDWIDE]
)
def test_presets_survive_transformers_words(name: str) -> None:
    config = preset(name)
    assert isinstance(config.vision, ViTConfig)
    width, size = config.vision.width, config.vision.image_size
    # transformers stores the hidden width, open_clip a rounded ratio: 4.3637 of g/14 stands for 48/11.
    ratio = mlp_ratio(width, int(width * config.vision.mlp_ratio))
    config = dataclasses.replace(config, vision=dataclasses.replace(config.vision, mlp_ratio=ratio))
    pre = write_transformers.write_preprocess(PreprocessConfig(size=size), siglip=False)
    assert transformers.read_config(write_transformers.write_config(config), pre)[:2] == (
        config,
        PreprocessConfig(size=size),
    )


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"quick_gelu": True}, {"activation": "quick_gelu"}),
        ({"init_logit_bias": -10}, {"init_logit_bias": -10.0}),
        ({"vision__head_width": 32}, {"vision.head_width": 32}),
        ({"vision__pool_type": "avg"}, {"vision.pool": "average", "vision.post_norm": "before_pool"}),
        (
            {"vision__pool_type": "avg", "vision__final_ln_after_pool": True},
            {"vision.pool": "average", "vision.post_norm": "after_pool"},
        ),
        ({"vision__no_ln_pre": True}, {"vision.pre_norm": False}),
        ({"vision__norm_kwargs": {"eps": 1e-6}}, {"vision.norm_eps": 1e-6, "text.norm_eps": 1e-5}),
        ({"text__act_kwargs": {"approximate": "tanh"}}, {"text.activation": "gelu_tanh"}),
        ({"text__pool_type": "eos", "text__eos_id": 7}, {"text.pool": "end", "text.end_id": 7}),
        (
            {"text__pool_type": "last", "text__no_causal_mask": True},
            {"text.pool": "last", "text.causal": False},
        ),
        ({"text__proj_bias": True, "custom_text": True}, {"text.projection_bias": True}),
        ({"text__pad_id": 5}, {"text.pad_id": 5}),
    ],
)
def test_open_clips_keys(keys: dict[str, Any], expected: dict[str, Any]) -> None:
    config, pre, tok = open_clip.read_config(changed(**keys))
    for path, value in expected.items():
        result: Any = config
        for part in path.split("."):
            result = getattr(result, part)
        assert result == value, path
    assert open_clip.read_config(write_open_clip.write_config(config, pre, tok, name="x")) == (
        config,
        pre,
        tok,
    )


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"surprise": 1}, "model_cfg.surprise"),
        ({"vision__surprise": 1}, "vision_cfg.surprise"),
        ({"text__surprise": None}, "text_cfg.surprise"),
        ({"vision__ls_init_value": 0.1}, "ls_init_value"),
        ({"vision__qk_norm": True}, "qk_norm"),
        ({"vision__attentional_pool": True}, "attentional_pool"),
        ({"vision__pool_type": "none"}, "pool_type"),
        ({"vision__image_size": [32, 64]}, "image_size"),
        ({"vision__width": 0}, "width"),
        ({"vision__width": True}, "width"),
        ({"vision__layers": [1, 2, 3], "vision__patch_size": None}, "four stages"),
        ({"text__embed_cls": True}, "embed_cls"),
        ({"text__proj_type": "none"}, "without a projection"),
        ({"text__heads": 7}, "heads"),
        ({"text__tokenizer_kwargs": {"strip_sep_token": 1}}, "strip_sep_token"),
        ({"vision__timm_model_name": "hf-hub:someone/tower"}, "name of a tower"),
        ({"vision__timm_model_name": "vit_pe_core_tiny_patch16_384"}, "image_size is 32"),
        ({"vision__timm_model_name": "convnext_base", "vision__timm_pool": "rot_attn"}, "timm_pool"),
        ({"text__act_kwargs": {"approximate": "tanh"}, "quick_gelu": True}, "quick_gelu"),
        ({"vision_cfg": 3}, "vision_cfg is 3"),
        ({"embed_dim": "many"}, "embed_dim"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(WeightsError, match=named):
        open_clip.read_config(changed(**keys))


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"multimodal_cfg": {}}, "CoCa"),
        ({"vision__eva_model_name": "eva-clip-b-16"}, "EVA"),
        ({"text__hf_model_name": "roberta-base"}, "roberta"),
    ],
)
def test_families_that_are_not_built_are_refused_by_name(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(UnknownModelError, match=named):
        open_clip.read_config(changed(**keys))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "blip"}, "blip"),
        ({"text_config": {"rope_theta": 1}}, "text_config.rope_theta"),
        ({"vision_config": {"num_channels": 1}}, "num_channels"),
        ({"vision_config": {"hidden_act": "relu"}}, "hidden_act"),
        ({"vision_config": {"num_attention_heads": 7}}, "multiple"),
        ({"surprise": 1}, "surprise"),
        ({"text_config": 5}, "text_config"),
    ],
)
def test_transformers_keys(change: dict[str, Any], named: str) -> None:
    with pytest.raises((WeightsError, UnknownModelError), match=named):
        transformers.read_config({"model_type": "clip", **change})


def test_a_released_config_of_the_first_years() -> None:
    """OpenAI's early configs: bookkeeping keys everywhere, sizes under two names, an end token of id 2."""
    tower = {"add_cross_attention": False, "torch_dtype": None, "top_k": 50, "use_bfloat16": False}
    config, pre, _ = transformers.read_config(
        {
            "_name_or_path": "openai/clip-vit-large-patch14/",
            "model_type": "clip",
            "projection_dim": 768,
            "text_config": {**tower, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
            "text_config_dict": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
            "vision_config": {**tower, "hidden_size": 1024, "intermediate_size": 4096, "patch_size": 14},
            "vision_config_dict": {"num_attention_heads": 16, "num_hidden_layers": 24},
        },
        {"crop_size": 224, "size": 224, "do_center_crop": True, "resample": 3, "feature_extractor_type": "x"},
    )
    assert config == preset("ViT-L-14-quickgelu")
    assert pre == PreprocessConfig()


def test_preprocessing_that_cannot_be_followed_is_refused() -> None:
    read = transformers.read_preprocess
    for wrong in (
        {"do_resize": False},
        {"crop_size": 200},
        {"size": {"shortest_edge": 256}},
        {"resample": 0},
        {"rescale_factor": 1.0},
        {"image_mean": [1, 2]},
    ):
        with pytest.raises((WeightsError, ValueError)):
            read(wrong, 224, siglip=False)
    squashed = read(
        {"size": {"height": 224, "width": 224}, "do_center_crop": False, "resample": 2}, 224, siglip=True
    )
    assert (squashed.resize, squashed.interpolation, squashed.mean) == ("squash", "bilinear", (0.5, 0.5, 0.5))


@given(width=st.integers(1, 5000), hidden=st.integers(1, 20000))
def test_mlp_ratio_gives_the_hidden_width_back(width: int, hidden: int) -> None:
    assert int(width * mlp_ratio(width, hidden)) == hidden


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200)
@given(data=st.data())
def test_broken_configs_raise_our_errors_only(data: st.DataObject) -> None:
    theirs = write_transformers.write_config(TINY)
    whole = write_open_clip.write_config(
        TINY, PreprocessConfig(size=32), TokenizerConfig(vocab_size=520), name="x"
    )
    pre = write_transformers.write_preprocess(PreprocessConfig(size=32), siglip=False)
    model = whole["model_cfg"]
    where = data.draw(
        st.sampled_from(
            [
                theirs,
                theirs["text_config"],
                theirs["vision_config"],
                pre,
                whole,
                model,
                model["vision_cfg"],
                model["text_cfg"],
                whole["preprocess_cfg"],
            ]
        )
    )
    where[data.draw(st.sampled_from([*where, "surprise"]))] = data.draw(JUNK)
    with contextlib.suppress(WeightsError, UnknownModelError):
        transformers.read_config(theirs, pre)
    with contextlib.suppress(WeightsError, UnknownModelError):
        open_clip.read_config(whole)


def test_what_other_formats_have_no_words_for(tmp_path: Path, checkpoint: Checkpoint) -> None:
    ours = dataclasses.replace(checkpoint, spec=ModelSpec(name="r", architecture=preset("diptych-tiny")))
    with pytest.raises(WeightsError, match="cannot express"):
        to_open_clip(ours, tmp_path / "a")
    with pytest.raises(WeightsError, match="ResNet; keep this model in our own format"):
        to_transformers(ours, tmp_path / "b")
    with pytest.raises(WeightsError, match="convert to open_clip"):
        write_transformers.write_config(preset("RN50"))
    pooled = dataclasses.replace(preset("RN50"), vision=ResNetConfig(pool="average"))
    for refuse in (
        lambda: write_transformers.write_config(pooled),
        lambda: write_open_clip.write_config(pooled, PreprocessConfig(), TokenizerConfig(), name="x"),
    ):
        with pytest.raises(WeightsError, match=r"average pool|our own format"):
            refuse()
    vision = dataclasses.replace(TINY.vision, pre_norm=False)
    odd = ModelSpec(name="o", architecture=dataclasses.replace(TINY, vision=vision))
    with pytest.raises(WeightsError, match="always with a norm before"):
        to_transformers(dataclasses.replace(checkpoint, spec=odd), tmp_path / "c")
    assert not list(tmp_path.iterdir())


def test_what_would_be_read_back_as_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_open_clip, "_write_text", lambda config: {"width": 64, "heads": 1})
    with pytest.raises(WeightsError, match="reading the config gives another"):
        write_open_clip.write_config(TINY, PreprocessConfig(size=32), TokenizerConfig(), name="x")


def test_two_spellings_of_one_architecture_can_be_written() -> None:
    for activation in ("gelu", "gelu_tanh", "quick_gelu"):
        vision = dataclasses.replace(TINY.vision, activation=activation, post_norm="before_pool")
        config = dataclasses.replace(TINY, vision=vision, activation=activation)
        write_open_clip.write_config(config, PreprocessConfig(size=32), TokenizerConfig(), name="x")


@pytest.mark.filterwarnings("default")
def test_a_tokenizer_the_other_side_lacks_is_warned_of(tmp_path: Path, checkpoint: Checkpoint) -> None:
    for write in (to_open_clip, to_transformers):
        with pytest.warns(UserWarning, match="reduced vocabulary of 520"):
            write(checkpoint, tmp_path / write.__name__)
        tokenizer = dataclasses.replace(checkpoint.spec.tokenizer, clean="none")
        spec = dataclasses.replace(checkpoint.spec, tokenizer=tokenizer)
        with pytest.warns(UserWarning, match="and cleaning texts by 'none'"):
            write(dataclasses.replace(checkpoint, spec=spec), tmp_path / write.__name__)
