"""EfficientNet-Lite: agreement with recorded outputs of another implementation, padding, its files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import InputError, WeightsError
from diptych.model.config import EfficientNetConfig
from diptych.model.efficientnet import EfficientNet, SameConv2d, same_padding, scaled_channels
from diptych.model.presets.table import preset
from diptych.weights import Checkpoint, ModelSpec, to_open_clip, to_transformers
from diptych.weights.backbones.efficientnet_lite import VARIANTS, read_image_classifier
from tests.model.efficientnet_recording import RECORDING, picture, seeded

RECORDED = json.loads(RECORDING.read_text(encoding="utf-8"))
FOREIGN = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
DEPTHWISE = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
INVERTED = {
    "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
    "conv_pwl": "_project_conv", "bn3": "_bn2",
}  # fmt: skip


def foreign_state(config: EfficientNetConfig) -> dict[str, torch.Tensor]:
    """Seeded weights under the names of the package, whose blocks are numbered through all stages."""
    tower = EfficientNet(config, 1)
    counts = [len(stage) for stage in tower.blocks]  # type: ignore[arg-type]
    shapes = {"_fc.weight": torch.Size([10, 1280]), "_fc.bias": torch.Size([10])}
    for name, value in tower.state_dict().items():
        module, _, rest = name.partition(".")
        if module in FOREIGN:
            shapes[f"{FOREIGN[module]}.{rest}"] = value.shape
        elif module == "blocks":
            stage, block, inner, parameter = rest.split(".")
            number = sum(counts[: int(stage)]) + int(block)
            names = DEPTHWISE if stage == "0" else INVERTED
            shapes[f"_blocks.{number}.{names[inner]}.{parameter}"] = value.shape
    return seeded(shapes)


@pytest.mark.parametrize("name", VARIANTS)
def test_features_are_those_of_the_recorded_network(name: str, tmp_path: Path) -> None:
    torch.save(foreign_state(VARIANTS[name]), tmp_path / "lite.pth")
    classifier = read_image_classifier(tmp_path / "lite.pth")
    assert classifier.config == VARIANTS[name]
    assert classifier.weight.shape == (10, 1280)
    tower = EfficientNet(classifier.config, 8).eval()
    tower.load_state_dict(dict(classifier.tower), strict=False)
    with torch.no_grad():
        features = tower.features(picture())[0, :16]
    torch.testing.assert_close(features, torch.tensor(RECORDED[name]), atol=1e-4, rtol=1e-4)


def test_files_of_other_networks_are_refused(tmp_path: Path) -> None:
    state = foreign_state(VARIANTS["lite0"])
    del state["_fc.bias"]
    torch.save(state, tmp_path / "headless.pth")
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "resnet.pth")
    for file in ("headless.pth", "resnet.pth"):
        with pytest.raises(WeightsError, match="is no EfficientNet-Lite 0 to 4"):
            read_image_classifier(tmp_path / file)


@given(st.integers(1, 300), st.sampled_from([3, 5, 7]), st.integers(1, 3))
def test_padding_gives_the_size_of_tensorflow(size: int, kernel: int, stride: int) -> None:
    before, after = same_padding(size, kernel, stride)
    assert after - before in (0, 1)
    outputs = (max(size + before + after, kernel) - kernel) // stride + 1
    assert outputs == math.ceil(size / stride)


def test_odd_padding_comes_after() -> None:
    layer = SameConv2d(1, 1, 3, 2)
    torch.nn.init.ones_(layer.weight)
    # Padded as 0 1 2 3 4 | 0: windows 1 2 3 and 3 4 0.
    row = torch.tensor([1.0, 2, 3, 4]).expand(1, 1, 4, 4)
    assert layer(row)[0, 0, 0].tolist() == [18, 21]


@pytest.mark.parametrize("width", [0.35, 0.5, 0.75, 1.0, 1.1, 1.4, 2.0])
def test_channels_are_multiples_of_eight_and_near(width: float) -> None:
    for channels in (16, 24, 40, 80, 112, 192, 320):
        scaled = scaled_channels(channels, width)
        assert scaled % 8 == 0
        assert scaled >= 0.9 * channels * width


@pytest.mark.parametrize(
    "values",
    [
        {"width": 0},
        {"depth": -1},
        {"depth": math.inf},
        {"width": math.nan},
        {"hidden": -8},
        {"image_size": 0},
    ],
)
def test_sizes_that_cannot_be_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError):
        EfficientNetConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("write", [to_open_clip, to_transformers])
def test_other_projects_have_no_such_model(write: Callable[[Checkpoint, Path], None], tmp_path: Path) -> None:
    checkpoint = Checkpoint(ModelSpec(name="lite", architecture=preset("diptych-lite")), {}, "")
    with pytest.raises(WeightsError, match="EfficientNet"):
        write(checkpoint, tmp_path)
