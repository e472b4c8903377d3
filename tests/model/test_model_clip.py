"""The CLIP model: shapes, published sizes, precisions, pooling at the end token, gradient checkpointing."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from diptych.errors import InputError, UnknownModelError
from diptych.model.clip import CLIP
from diptych.model.config import CLIPConfig, EfficientNetConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.model.initialise import build
from diptych.model.presets.family_presets import TIMM_PRESETS
from diptych.model.presets.table import PRESETS, preset

PUBLISHED = {
    "ViT-B-32": 151_277_313,
    "ViT-B-16": 149_620_737,
    "ViT-L-14": 427_616_513,
    "ViT-L-14-336": 427_944_193,
    "RN50": 102_007_137,
    "RN101": 119_688_033,
    "RN50x4": 178_300_601,
    "RN50x16": 290_979_217,
    "RN50x64": 623_258_305,
    "ViT-H-14": 986_109_441,
    "ViT-g-14": 1_366_678_273,
    "ViT-bigG-14": 2_539_567_105,
}
LARGE = {"ViT-H-14", "ViT-g-14", "ViT-bigG-14"}  # more memory than a test should take
SMALL = {name for name in PRESETS if name in PUBLISHED or name.startswith("diptych")} - LARGE
TEXT = TextConfig(vocab_size=100, context_length=12, width=32, heads=2, layers=2)
SIGLIP = CLIPConfig(
    embed_dim=32,
    vision=ViTConfig(
        image_size=32, patch_size=8, width=32, layers=2, head_width=16, class_token=False, pool="attention",
        pre_norm=False, post_norm="before_pool", projection=False, patch_bias=True, norm_eps=1e-6,
    ),
    text=dataclasses.replace(TEXT, causal=False, pool="last", projection_bias=True, norm_eps=1e-6),
    activation="gelu_tanh",
    init_logit_scale=math.log(10),
    init_logit_bias=-10.0,
)  # fmt: skip
SHAPES = {
    "vit": CLIPConfig(
        embed_dim=24,
        vision=ViTConfig(image_size=32, patch_size=8, width=32, layers=2, head_width=16),
        text=TEXT,
    ),
    "vit-average": CLIPConfig(
        embed_dim=24,
        vision=ViTConfig(
            image_size=32, patch_size=8, width=32, layers=1, head_width=16, pool="average", class_token=False
        ),
        text=TEXT,
    ),
    "resnet": CLIPConfig(
        embed_dim=24,
        vision=ResNetConfig(image_size=64, layers=(1, 1, 1, 1), width=8, head_width=32),
        text=TEXT,
    ),
    "resnet-average": CLIPConfig(
        embed_dim=24,
        vision=ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=8, pool="average", stem_pool=False),
        text=TEXT,
        activation="quick_gelu",
    ),
    "siglip": SIGLIP,
    "efficientnet": CLIPConfig(
        embed_dim=24, vision=EfficientNetConfig(image_size=32, width=0.25, depth=0.5, hidden=16), text=TEXT
    ),
}


def texts(count: int, length: int = 12, seed: int = 0) -> torch.Tensor:
    """Texts of several lengths that start with 98 and end with 99, padded with 0."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 98, (count, length), generator=generator)
    ends = torch.randint(2, length, (count,), generator=generator)
    tokens[:, 0] = 98
    tokens[torch.arange(count), ends] = 99
    return tokens * (torch.arange(length) <= ends[:, None])


def pictures(config: CLIPConfig, count: int = 2) -> torch.Tensor:
    side = config.vision.image_size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=SHAPES, ids=str)
def model(request: pytest.FixtureRequest) -> CLIP:
    return build(SHAPES[request.param], seed=0).eval()


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_have_the_published_number_of_parameters(name: str) -> None:
    assert sum(p.numel() for p in build(preset(name), device="meta").parameters()) == PUBLISHED[name]


@pytest.mark.parametrize("name", sorted(set(PRESETS) - set(TIMM_PRESETS)))
def test_every_preset_runs_a_forward_pass(name: str) -> None:
    config = preset(name)
    # The other presets run on the meta device: shapes without 10 GB of weights.
    device = "cpu" if name in SMALL else "meta"
    model = build(config, device=device)
    if device == "cpu":
        for parameter in model.state_dict().values():
            parameter.fill_(1e-4)  # faster than random numbers; only shapes and finiteness are checked
    side = config.vision.image_size
    with torch.inference_mode():
        image = model.eval().encode_image(torch.ones(1, 3, side, side, device=device))
    assert image.shape == (1, config.embed_dim)
    assert device == "meta" or torch.isfinite(image).all()


def test_both_encoders_give_rows_of_one_space(model: CLIP) -> None:
    image, text, scale = model(pictures(model.config), texts(3))
    assert image.shape == (2, model.config.embed_dim)
    assert text.shape == (3, model.config.embed_dim)
    torch.testing.assert_close(image.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(text.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(scale.log(), torch.tensor(model.config.init_logit_scale))


def test_logits_are_scaled_cosines_and_carry_the_bias() -> None:
    model = build(SIGLIP, seed=0).eval()
    image, text, scale = model(pictures(SIGLIP), texts(3))
    expected = scale * image @ text.T - 10
    torch.testing.assert_close(model.logits(pictures(SIGLIP), texts(3)), expected)


def test_padding_after_the_longest_end_is_never_computed_and_does_not_matter() -> None:
    model = build(SHAPES["vit"], seed=0).eval()
    tokens = texts(5)
    lengths = []
    model.transformer.register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
    short = model.encode_text(tokens)
    assert lengths == [int(tokens.argmax(1).max()) + 1]
    noise = torch.randint(1, 98, tokens.shape)
    after = torch.arange(12) > tokens.argmax(1, keepdim=True)
    torch.testing.assert_close(model.encode_text(torch.where(after, noise, tokens)), short)


def test_a_named_end_token_is_read_at_its_first_place() -> None:
    config = dataclasses.replace(SHAPES["vit"], text=dataclasses.replace(TEXT, end_id=50))
    model = build(config, seed=0).eval()
    tokens = torch.tensor([[98, 3, 50, 99, 50, 7]])
    torch.testing.assert_close(model.encode_text(tokens), model.encode_text(torch.tensor([[98, 3, 50]])))


def test_bidirectional_text_is_read_at_the_last_position_and_never_cut() -> None:
    model = build(SIGLIP, seed=0).eval()
    tokens = texts(2)
    changed = tokens.clone()
    changed[:, -1] = 42
    assert not torch.allclose(model.encode_text(tokens), model.encode_text(changed))


def test_texts_over_the_context_are_refused() -> None:
    with pytest.raises(InputError, match="at most 12"):
        build(SHAPES["vit"], seed=0).encode_text(torch.zeros(1, 13, dtype=torch.long))


def test_patches_are_a_grid_in_the_shared_space(model: CLIP) -> None:
    grid = model.visual.patch_embeddings(pictures(model.config))
    side = model.config.vision.grid
    assert grid.shape == (2, side, side, model.config.embed_dim)
    assert torch.isfinite(grid).all()


def test_features_before_the_projection(model: CLIP) -> None:
    x = pictures(model.config)
    torch.testing.assert_close(model.visual.project(model.visual.features(x)), model.encode_image(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_near_single(model: CLIP, dtype: torch.dtype) -> None:
    x, tokens = pictures(model.config), texts(3)
    exact = [f.detach() for f in model(x, tokens)[:2]]
    model.to(dtype)
    for mine, theirs in zip(model(x.to(dtype), tokens)[:2], exact, strict=True):
        assert (mine.float() * theirs).sum(-1).min() > 0.99


def test_gradient_checkpointing_changes_memory_only(model: CLIP) -> None:
    x, tokens = pictures(model.config), texts(2)
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model.logits(x, tokens).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_gradient_checkpointing_counts_running_statistics_once() -> None:
    states = []
    for enable in (False, True):
        model = build(SHAPES["resnet"], seed=0).train()
        model.set_grad_checkpointing(enable)
        model.encode_image(pictures(model.config)).sum().backward()
        states.append(model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, msg=name)


def test_every_parameter_gets_a_gradient(model: CLIP) -> None:
    model.train()
    image, text, scale = model(pictures(model.config), texts(2))
    (scale * image @ text.T).square().sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None and n != "logit_bias"]
    assert not without


def test_compiled_model_agrees(model: CLIP) -> None:
    x, tokens = pictures(model.config), texts(3)
    # aot_eager traces like the default backend, but does not call a C++ compiler.
    encode_image = torch.compile(model.encode_image, backend="aot_eager")
    encode_text = torch.compile(model.encode_text, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(encode_image(x), model.encode_image(x))
        torch.testing.assert_close(encode_text(tokens), model.encode_text(tokens))


def test_a_seed_fixes_the_start_and_no_parameter_is_left_unset(model: CLIP) -> None:
    again = build(model.config, seed=0).state_dict()
    other = build(model.config, seed=1).state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, again[name]), name
        assert torch.isfinite(value.float()).all(), name
    assert not torch.equal(model.token_embedding.weight, other["token_embedding.weight"])


def test_the_start_follows_its_table() -> None:
    model = build(preset("ViT-B-32"), seed=0)
    block = model.transformer.blocks[0]
    for parameter, std in {
        model.token_embedding.weight: 0.02,
        model.positional_embedding: 0.01,
        block.attn.in_proj_weight: 512**-0.5,
        block.attn.out_proj.weight: (2 * 512 * 12) ** -0.5,
        block.mlp.c_fc.weight: (2 * 512) ** -0.5,
        model.visual.positional_embedding: 768**-0.5,
    }.items():
        assert parameter.std().item() == pytest.approx(std, rel=0.02)
    resnet = build(SHAPES["resnet"], seed=0).visual
    assert resnet.layer1[0].bn3.weight.abs().max() == 0  # at initialisation a block is the identity


def test_patch_dropout_keeps_the_class_token_and_only_in_training() -> None:
    vision = dataclasses.replace(SHAPES["vit"].vision, patch_dropout=0.5)
    model = build(dataclasses.replace(SHAPES["vit"], vision=vision), seed=0)
    lengths = []
    model.visual.transformer.register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
    model.train().encode_image(pictures(model.config))
    model.eval().encode_image(pictures(model.config))
    assert lengths == [9, 17]


@pytest.mark.parametrize("name", ["resnet-average", "efficientnet"])
def test_an_average_pool_reads_any_side(name: str) -> None:
    model = build(SHAPES[name], seed=0).eval()
    assert model.encode_image(torch.zeros(1, 3, 48, 48)).shape == (1, 24)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ViTConfig(width=100, head_width=64), "not a multiple of head_width"),
        (lambda: ViTConfig(class_token=False), "needs class_token"),
        (lambda: ResNetConfig(image_size=100), "not a multiple of 32"),
        (lambda: ViTConfig(stem="convolutions", patch_size=32), "needs patch_size 16"),
        (lambda: ViTConfig(rope=True, width=60, head_width=30), "multiple of 4"),
        (lambda: ViTConfig(pool_heads=5), "not a multiple of pool_heads"),
        (lambda: ViTConfig(projection=False, projection_bias=True), "needs projection"),
        (lambda: TextConfig(width=0), "above 0"),
        (lambda: ViTConfig(pool="avg"), "expected one of 'token'"),
        (lambda: ResNetConfig(pool="avg"), "expected one of 'attention'"),
        (lambda: ResNetConfig(layers=(0, 1, 1, 1)), "one block or more"),
        (lambda: ViTConfig(patch_dropout=1.5), "patch_dropout"),
        (lambda: ViTConfig(image_size=8), "smaller than one patch"),
        (lambda: CLIPConfig.from_dict({"vision": {"kind": "eva"}}), "kind 'eva'"),
        (lambda: CLIPConfig.from_dict({"vision": {"kind": "vit", "depth": 3}}), "unknown key 'depth'"),
    ],
)
def test_shapes_that_cannot_be_are_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(UnknownModelError, match=r"Did you mean .*ViT-L-14"):
        preset("ViT-L-41")
    with pytest.raises(UnknownModelError, match="Known are: RN50"):
        preset("zzz")


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_configs_go_to_json_and_back(name: str) -> None:
    assert CLIPConfig.from_dict(PRESETS[name].to_dict()) == PRESETS[name]
