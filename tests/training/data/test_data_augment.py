"""Augmentation of images and captions: crops, flips, colours, erasing, rotation, word dropout."""

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.errors import DataError
from diptych.training.data.augment import (
    COLUMNS,
    FLIP,
    AugmentConfig,
    adjust_colours,
    crop,
    crop_boxes,
    crop_pairs,
    drop_words_of,
)
from diptych.training.data.image_cache import decode, side_for
from diptych.training.data.order import hash_keys, uniforms

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
NUMBERS = hash_keys(str(n) for n in range(4000))


def smooth(seed, height, width):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def batch(count=64, side=16):
    pictures = np.stack([smooth(n, side, side) for n in range(count)])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def colours(images):
    """Undo the normalisation."""
    return images * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]


@pytest.mark.parametrize("size", [(40, 40), (37, 60), (90, 33), (20, 20)])
def test_no_augmentation_is_the_plain_resize_of_the_middle_square(size):
    picture = smooth(1, *size)
    boxes = crop_boxes(np.array([size]), uniforms(NUMBERS[:1], COLUMNS), None)
    got = crop([picture], boxes, 24, np.array([False]))[0].permute(1, 2, 0).numpy()
    side = min(size)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    box = (left, top, left + side, top + side)
    expected = np.asarray(Image.fromarray(picture).resize((24, 24), Image.Resampling.BICUBIC, box=box))
    assert np.abs(got.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (100, 30), (1, 1), (1, 500)])
def test_crops_lie_inside_and_keep_to_scale_and_ratio(size):
    config = AugmentConfig(scale=(0.3, 0.8))
    boxes = crop_boxes(np.tile(size, (4000, 1)), uniforms(NUMBERS, COLUMNS), config)
    top, left, height, width = boxes.T
    assert boxes.min() >= 0
    assert (height >= 1).all()
    assert (width >= 1).all()
    assert (top + height <= size[0]).all()
    assert (left + width <= size[1]).all()
    if size == (64, 64):
        share, ratio = height * width / 4096, width / height
        assert 0.29 < share.min() < 0.33
        assert 0.77 < share.max() < 0.81
        assert abs(share.mean() - 0.55) < 0.02
        assert 0.72 < ratio.min() < 0.78
        assert 1.28 < ratio.max() < 1.39
        assert abs(np.log(ratio).mean()) < 0.02
        middle = np.stack([top + height / 2, left + width / 2])
        assert np.abs(middle.mean(1) - 32).max() < 0.5
        assert np.abs(np.corrcoef(middle)[0, 1]) < 0.05


def test_the_whole_picture_is_taken_where_no_crop_fits():
    boxes = crop_boxes(np.array([[50, 50]] * 5), np.full((5, COLUMNS), 0.999), AugmentConfig(scale=(1, 1)))
    assert boxes.tolist() == [[0, 0, 50, 50]] * 5


def test_mirrored_pictures_are_mirrored():
    pictures = [smooth(n, 20, 20) for n in range(3)]
    boxes = np.array([[2, 3, 14, 15]] * 3)
    plain = crop(pictures, boxes, 12, np.array([False, False, False]))
    some = crop(pictures, boxes, 12, np.array([False, True, False]))
    assert torch.equal(some[1], plain[1].flip(2))
    assert torch.equal(some[[0, 2]], plain[[0, 2]])
    assert (uniforms(NUMBERS, COLUMNS)[:, FLIP] < 0.3).mean() == pytest.approx(0.3, abs=0.03)
    assert crop([], np.empty((0, 4), np.int64), 12, np.empty(0, bool)).shape == (0, 3, 12, 12)


@pytest.mark.parametrize("config", [None, AugmentConfig()])
def test_without_colour_changes_a_batch_is_only_normalised(config):
    images = batch()
    out = adjust_colours(images, NUMBERS[:64], config, MEAN, STD)
    assert out.dtype == torch.float32
    assert torch.allclose(colours(out), images / 255, atol=1e-6)


def test_brightness_contrast_saturation_by_hand():
    images = batch()
    plain = images / 255
    grey = (plain * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    for place, base in ((0, torch.zeros_like(plain)), (1, grey.mean((2, 3), keepdim=True)), (2, grey)):
        jitter = [0.0] * 4
        jitter[place] = 0.3
        config = AugmentConfig(jitter=tuple(jitter), jitter_probability=1)
        out = colours(adjust_colours(images, NUMBERS[:64], config, MEAN, STD))
        factor = 0.7 + 0.6 * uniforms(NUMBERS[:64], COLUMNS)[:, 3 + place]
        factor = torch.from_numpy(factor).float()[:, None, None, None]
        expected = (base + factor * (plain - base)).clamp(0, 1)
        assert torch.allclose(out, expected, atol=2e-3), place  # the YIQ matrix is rounded to four digits


def test_hue_keeps_greys_and_lightness():
    config = AugmentConfig(jitter=(0, 0, 0, 0.5), jitter_probability=1)
    grey = torch.full((64, 3, 8, 8), 100, dtype=torch.uint8)
    assert torch.allclose(
        colours(adjust_colours(grey, NUMBERS[:64], config, MEAN, STD)), grey / 255, atol=2e-3
    )
    red = torch.tensor([140, 90, 90], dtype=torch.uint8)[:, None, None].expand(64, 3, 8, 8)
    out = colours(adjust_colours(red, NUMBERS[:64], config, MEAN, STD))[:, :, 0, 0]
    assert torch.allclose(out @ torch.tensor([0.299, 0.587, 0.114]), torch.tensor(104.95 / 255), atol=2e-3)
    assert out.argmax(1).unique().tolist() == [0, 1, 2]


def test_grey_and_erased_pictures_come_as_often_as_asked():
    images = batch(side=32).repeat(30, 1, 1, 1)
    out = colours(adjust_colours(images, NUMBERS[: len(images)], AugmentConfig(grayscale=0.25), MEAN, STD))
    share = ((out - out.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 2e-3).float().mean()
    assert share == pytest.approx(0.25, abs=0.03)

    config = AugmentConfig(erasing=0.5, erasing_scale=(0.1, 0.3))
    out = adjust_colours(images, NUMBERS[: len(images)], config, MEAN, STD)
    erased = (out == 0).all(1).float().mean((1, 2))
    assert (erased > 0).float().mean() == pytest.approx(0.5, abs=0.04)
    assert erased[erased > 0.05].min() > 0.07
    assert erased.max() < 0.34


def test_rotation_turns_about_the_middle():
    images = batch(16, 33)
    out = adjust_colours(images, NUMBERS[:16], AugmentConfig(rotation=15), MEAN, STD)
    plain = adjust_colours(images, NUMBERS[:16], None, MEAN, STD)
    assert torch.allclose(out[..., 16, 16], plain[..., 16, 16], atol=1e-4)
    assert (out - plain).abs().mean() > 0.01


def test_a_picture_does_not_hang_on_its_batch():
    config = AugmentConfig(jitter=(0.4, 0.4, 0.4, 0.1), grayscale=0.2, erasing=0.5, rotation=10)
    images = batch()
    whole = adjust_colours(images, NUMBERS[:64], config, MEAN, STD)
    assert torch.equal(whole, adjust_colours(images, NUMBERS[:64], config, MEAN, STD))
    assert torch.allclose(
        whole[20:30], adjust_colours(images[20:30], NUMBERS[20:30], config, MEAN, STD), atol=1e-5
    )
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    adjust_colours(images, NUMBERS[:64], config, MEAN, STD)
    assert torch.equal(state[0], torch.random.get_rng_state())
    assert np.array_equal(state[1], np.random.get_state()[1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip": 1.5},
        {"scale": (0.0, 1.0)},
        {"scale": (0.9, 0.5)},
        {"ratio": (0, 1)},
        {"jitter": (0.1, 0.1, 0.1, 0.7)},
        {"jitter": (0.1, 0.1)},
        {"erasing_scale": (0.5, 2.0)},
        {"rotation": -3.0},
    ],
)
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(DataError, match=rf"augment\.{next(iter(wrong))}"):
        AugmentConfig(**wrong)


def test_decoding_brings_pictures_down_and_never_up():
    from tests.training.data.make_pairs import picture

    assert decode(picture(0, (400, 300)), 80).shape == (80, 107, 3)
    assert decode(picture(0, (400, 300), "JPEG"), 80).shape == (80, 107, 3)
    assert decode(picture(0, (50, 30)), 80).shape == (30, 50, 3)
    assert side_for(224, 0.9) == 280


def test_words_are_left_out_at_the_rate_asked_for_and_keep_their_order():
    caption = " ".join(f"w{n}" for n in range(20))
    kept = [drop_words_of(caption, NUMBERS[n : n + 1], 0.2).split() for n in range(500)]
    assert 0.78 < sum(map(len, kept)) / 10_000 < 0.82
    assert all(words == sorted(words, key=lambda word: int(word[1:])) for words in kept)
    assert drop_words_of(caption, NUMBERS[:1], 0.0) == caption
    assert all(len(drop_words_of("a b c", NUMBERS[n : n + 1], 1.0).split()) == 1 for n in range(20))


def test_words_left_out_hang_on_the_visit_alone():
    result = [(smooth(n, 20, 20), ("one two three four five", "six seven eight nine")) for n in range(8)]
    config = AugmentConfig(drop_words=0.5)
    together = crop_pairs(result, NUMBERS[:8], config, 16)[1]
    alone = [crop_pairs(result[n : n + 1], NUMBERS[n : n + 1], config, 16)[1][0] for n in range(8)]
    assert together == alone
    whole = crop_pairs(result, NUMBERS[:8], AugmentConfig(), 16)[1]  # the other random samples are unchanged
    assert all(set(some.split()) < set(full.split()) for some, full in zip(together, whole, strict=True))


def test_pairs_of_one_caption_stay_one_group_whatever_words_are_left_out():
    result = [(smooth(n, 20, 20), ("one two three four five",)) for n in range(20)]
    _, read, whole = crop_pairs(result, NUMBERS[:20], AugmentConfig(drop_words=0.4), 16)
    assert len(set(read)) > 5
    assert set(whole) == {"one two three four five"}
