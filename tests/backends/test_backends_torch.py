"""The torch backend: unit-length rows, any batch size, the same numbers as the bare model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diptych
from diptych.backends import TorchEncoder, load, open_clip_triple
from diptych.encoder import Encoder, FeatureEncoder, PatchEncoder
from diptych.errors import InputError, UnknownModelError
from diptych.inputs import LongTextWarning, preprocess_batch
from diptych.model.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.model.initialise import build
from diptych.weights import ModelSpec, save_checkpoint

TEXT = TextConfig(context_length=16, vocab_size=1024, width=32, heads=2, layers=2)
RESNET = CLIPConfig(embed_dim=24, vision=ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=8), text=TEXT)
VIT = dataclasses.replace(
    RESNET, vision=ViTConfig(image_size=32, patch_size=8, width=32, layers=2, head_width=16)
)
TEXTS = ["a cat", "a photo of a cat", "a photo of a dog", "", "a cat", "a photo of a dog on a hill"]


@pytest.fixture(params=[RESNET, VIT], ids=["resnet", "vit"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    spec = ModelSpec(name="toy", architecture=request.param)
    save_checkpoint(tmp_path, spec, build(request.param, seed=0).state_dict())
    return tmp_path


def pictures(count: int) -> list[Image.Image]:
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 256, (40, 50, 3), np.uint8)) for _ in range(count)]


def test_it_fulfils_the_contract(folder: Path) -> None:
    encoder = load(folder)
    assert isinstance(encoder, Encoder)
    assert isinstance(encoder, FeatureEncoder)
    assert isinstance(encoder, PatchEncoder)
    assert encoder.identity.startswith("sha256:")
    assert (encoder.dim, encoder.input_size, encoder.logit_bias) == (24, 32, 0.0)
    assert encoder.logit_scale == pytest.approx(1 / 0.07)


def test_what_it_costs(folder: Path) -> None:
    from diptych.encoder import CostedEncoder
    from diptych.model.cost import cost

    encoder = load(folder, device="cpu", runtime="torch")
    assert isinstance(encoder, CostedEncoder)
    shape = encoder.spec.architecture
    result, counted = encoder.cost(), cost(shape, shape.text.context_length)
    assert (result.image_flops, result.text_flops) == (counted.picture, counted.text)
    assert result.parameters == sum(weight.numel() for weight in encoder.model.parameters())


def test_rows_are_those_of_the_model_and_of_length_one(folder: Path) -> None:
    encoder = load(folder, exact=True)
    rows = encoder.encode_images(pictures(3))
    pixels = torch.from_numpy(preprocess_batch(pictures(3), encoder.spec.preprocess))
    with torch.no_grad():
        expected = encoder.model.encode_image(pixels, normalize=True).numpy()
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_texts_share_beginnings_without_a_trace(folder: Path) -> None:
    encoder = load(folder, exact=True)
    with torch.no_grad():
        tokens = torch.from_numpy(encoder.tokenizer(TEXTS))
        expected = encoder.model.encode_text(tokens, normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected, atol=1e-5)


def test_the_number_at_a_time_does_not_matter(folder: Path) -> None:
    single, many = load(folder, batch_size=1), load(folder, batch_size=64)
    np.testing.assert_allclose(single.encode_images(pictures(5)), many.encode_images(pictures(5)), atol=1e-5)
    np.testing.assert_allclose(single.encode_texts(TEXTS), many.encode_texts(TEXTS), atol=1e-5)


def test_nothing_gives_no_rows(folder: Path) -> None:
    encoder = load(folder)
    assert encoder.encode_images([]).shape == (0, 24)
    assert encoder.encode_texts([]).shape == (0, 24)


def test_features_and_patches(folder: Path) -> None:
    encoder = load(folder)
    width = {True: 256, False: 32}[isinstance(encoder.spec.architecture.vision, ResNetConfig)]
    assert encoder.image_features(pictures(3)).shape == (3, width)
    grid = encoder.spec.architecture.vision.grid
    patches = encoder.encode_patches(pictures(3))
    assert patches.shape == (3, grid, grid, 24)
    np.testing.assert_allclose(np.linalg.norm(patches, axis=-1), 1, atol=1e-5)


def test_features_as_wide_as_the_space_are_not_normalised(tmp_path: Path) -> None:
    shape = dataclasses.replace(VIT, embed_dim=32)
    save_checkpoint(tmp_path, ModelSpec(name="toy", architecture=shape), build(shape, seed=0).state_dict())
    lengths = np.linalg.norm(load(tmp_path).image_features(pictures(2)), axis=1)
    assert (np.abs(lengths - 1) > 0.1).all()


def test_low_precision_keeps_the_scale_and_nearly_the_rows(folder: Path) -> None:
    exact, low = load(folder, exact=True), load(folder, precision="bfloat16")
    assert low.precision == "bfloat16"
    assert low.logit_scale == exact.logit_scale
    assert (low.encode_images(pictures(3)) * exact.encode_images(pictures(3))).sum(1).min() > 0.99
    assert (low.encode_texts(TEXTS) * exact.encode_texts(TEXTS)).sum(1).min() > 0.99


def test_long_texts_are_counted_in_one_warning(folder: Path) -> None:
    encoder = load(folder, batch_size=2)
    with pytest.warns(LongTextWarning, match="3 of 5") as caught:
        encoder.encode_texts(["word " * 500, "short", "word " * 40, "short", "word " * 40])
    assert len(caught) == 1


def test_a_classifier_in_one_call(folder: Path) -> None:
    classifier = load(folder).classifier(["red", "green", "blue"], templates="plain")
    assert classifier.predict(pictures(2)).shape == (2,)
    assert diptych.load(folder).classifier(["red", "green"]).weights_.shape == (2, 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "toaster"}, "unknown device 'toaster'"),
        ({"precision": "int3"}, "unknown precision 'int3'"),
    ],
)
def test_machines_that_are_not_there_are_refused(folder: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(folder, **options)  # type: ignore[arg-type]


def test_an_unknown_name_lists_the_near_ones() -> None:
    with pytest.raises(UnknownModelError, match="ViT-B-32"):
        load("ViT-B-23", "openai")


def zero_shot_of_a_harness(
    model: torch.nn.Module, transform: object, tokenizer: object, names: Sequence[str]
) -> torch.Tensor:
    """CLIP_benchmark's zero-shot protocol, with the calls that it makes to an open_clip model."""
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        rows = []
        for name in names:
            tokens = tokenizer([f"a photo of a {name}.", f"a picture of a {name}."]).to("cpu")
            embedding = torch.nn.functional.normalize(model.encode_text(tokens), dim=-1).mean(dim=0)
            rows.append(embedding / embedding.norm())
        classifier = torch.stack(rows, dim=1)
        images = torch.stack([transform(picture) for picture in pictures(4)]).to("cpu")
        features = torch.nn.functional.normalize(model.encode_image(images), dim=-1)
        return 100.0 * features @ classifier


def test_a_harness_written_for_open_clip_runs_unchanged(folder: Path) -> None:
    model, transform, tokenizer = open_clip_triple(str(folder), None, None, "cpu")
    model = model.to("cpu")
    model.eval()
    logits = zero_shot_of_a_harness(model, transform, tokenizer, ["cat", "dog", "beaver"])
    encoder = load(folder, exact=True)
    templates = ["a photo of a {}.", "a picture of a {}."]
    ours = encoder.classifier(["cat", "dog", "beaver"], templates=templates).cosines(pictures(4))
    np.testing.assert_allclose(logits.numpy(), 100 * ours, atol=1e-3)
    assert tokenizer("one text").shape == (1, 16)
    assert transform(Image.new("P", (9, 7))).shape == (3, 32, 32)


def test_the_encoder_names_itself(folder: Path) -> None:
    assert "toy" in repr(TorchEncoder.from_checkpoint(diptych.weights.load_checkpoint(folder)))
