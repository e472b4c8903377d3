"""Fine-tuning every loadable family of models: tokenizer, preprocessing and lengths are kept."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.backends import load
from diptych.errors import TrainingError
from diptych.inputs import PreprocessConfig, TokenizerConfig
from diptych.model.config import CLIPConfig, ResNetConfig, RobertaConfig
from diptych.model.initialise import build
from diptych.model.presets.table import PRESETS
from diptych.training import Listener, Run, fine_tuning_defaults, inputs_of, train
from diptych.weights import ModelSpec, load_checkpoint, save_checkpoint, to_open_clip, to_transformers
from diptych.weights.registry import preprocess_for, tokenizer_for
from tests.training.make_runs import COLOURS, TINY, TINY_VIT, config_of, write_pairs

# The small models here have a reduced vocabulary, about which every export warns.
pytestmark = pytest.mark.filterwarnings("ignore:.* has no tokenizer for this model:UserWarning")

HALF = (0.5, 0.5, 0.5)
WORDS = ["<s>", "<pad>", "</s>", "<unk>", *COLOURS, "a", "square,", "number", *map(str, range(10))]
ROBERTA = RobertaConfig(
    context_length=12, vocab_size=len(WORDS), width=32, heads=2, layers=1, positions=20, pad_id=1
)


def tiny(name: str) -> CLIPConfig:
    """A released architecture with all sizes reduced."""
    config = PRESETS[name]
    vision = dataclasses.replace(
        config.vision, image_size=32, patch_size=16, width=32, layers=1, head_width=16, mlp_ratio=2.0
    )
    text = dataclasses.replace(
        config.text, context_length=12, vocab_size=len(WORDS), width=32, heads=2, layers=1
    )
    if text.end_id is not None:
        text = dataclasses.replace(text, end_id=WORDS.index("</s>"))
    return dataclasses.replace(config, embed_dim=32, vision=vision, text=text)


RESNET = ResNetConfig(image_size=64, layers=(1, 1, 1, 1), width=8)
# Name: architecture, and the inputs that differ from CLIP's.
FAMILIES: dict[str, tuple[CLIPConfig, dict[str, Any]]] = {
    "ViT": (TINY_VIT, {}),
    "OpenAI ResNet": (dataclasses.replace(TINY, vision=RESNET, activation="quick_gelu"), {}),
    "LAION, half": (TINY_VIT, {"mean": HALF, "std": HALF}),
    "DFN5B": (dataclasses.replace(TINY_VIT, activation="quick_gelu"), {"resize": "squash"}),
    "SigLIP": (tiny("ViT-B-16-SigLIP"), {}),
    "SigLIP 2": (tiny("ViT-B-16-SigLIP"), {"clean": "lower"}),
    "XLM-R": (dataclasses.replace(TINY_VIT, text=ROBERTA), {}),
    "CLIPA": (tiny("ViT-L-14-CLIPA"), {"kind": "file"}),
    "MetaCLIP 2": (tiny("ViT-H-14-worldwide"), {"kind": "file", "clean": "canonicalize"}),
    "M-CLIP": (dataclasses.replace(TINY_VIT, text=dataclasses.replace(ROBERTA, head="affine")), {}),
}


def write_start(name: str, folder: Path) -> Path:
    """Write a tiny random model of a family in Diptych's format."""
    architecture, inputs = FAMILIES[name]
    preprocess = dataclasses.asdict(preprocess_for(architecture))
    preprocess |= {key: value for key, value in inputs.items() if key not in ("clean", "kind")}
    if inputs.get("kind") == "file":
        text = architecture.text
        tokenizer = TokenizerConfig(
            kind="file",
            vocab_size=text.vocab_size,
            context_length=text.context_length,
            pad_id=text.pad_id,
            strip_sep_token=name == "CLIPA",
        )
    else:
        tokenizer = tokenizer_for(architecture)
    tokenizer = dataclasses.replace(tokenizer, clean=inputs.get("clean", tokenizer.clean))
    spec = ModelSpec(
        name=name,
        architecture=architecture,
        preprocess=PreprocessConfig(**preprocess),
        tokenizer=tokenizer,
        languages=("mul",) if isinstance(architecture.text, RobertaConfig) else (),
    )
    extra = [write_table(folder.parent / "table" / "tokenizer.json")] if tokenizer.kind == "file" else []
    save_checkpoint(folder, spec, build(architecture, seed=1).state_dict(), extra_files=extra)
    return folder


def write_table(path: Path) -> Path:
    """Write a tokenizer.json of whole words, `<s>` before and `</s>` after a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    path.parent.mkdir(parents=True, exist_ok=True)
    rust = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    rust.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    rust.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    rust.save(str(path))
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tar", 16)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_from_every_family_keeps_its_inputs(name: str, pairs: Path, tmp_path: Path) -> None:
    start = write_start(name, tmp_path / "start")
    before = load_checkpoint(start)
    shape = before.spec.architecture
    changes = {
        **fine_tuning_defaults(shape),
        **inputs_of(str(start)),
        "epochs": 1,
        "batch_size": 16,
        "ema": 0.0,
        "lr": 0.01,
    }
    seen: dict[str, Any] = {}

    def evaluate(model: Any, step: int) -> Mapping[str, float]:
        seen.update({key: tensor.clone() for key, tensor in model.state_dict().items()})
        return {"x": 1.0}

    config = config_of(pairs, tmp_path / "run", start=str(start), model=shape, **changes)
    train(Run(config, {"e": evaluate}))
    after = load_checkpoint(tmp_path / "run")
    assert (after.spec.preprocess, after.spec.tokenizer) == (before.spec.preprocess, before.spec.tokenizer)
    assert after.spec.languages == before.spec.languages
    assert config.loss == ("sigmoid" if shape.init_logit_bias is not None else "infonce")
    for tower in (True, False):  # both towers changed, and the saved config is that of the start
        names = [n for n in after.state if n.startswith("visual.") == tower and after.state[n].ndim > 1]
        assert any(not torch.equal(after.state[n], before.state[n]) for n in names)
    assert all(torch.equal(after.state[n], seen[n]) for n in seen)
    encoder = load(tmp_path / "run", runtime="torch", exact=True)
    picture = Image.fromarray(np.full((40, 32, 3), (220, 30, 30), np.uint8))
    rows = [*encoder.encode_images([picture]), *encoder.encode_texts(["a red square, number 3"])]
    assert all(np.isfinite(row).all() for row in rows)
    # The same command resumes, and a copy in Diptych's format is the same model.
    assert train(Run(config, {"e": evaluate}), resume=True).step == 1
    save_checkpoint(
        tmp_path / "copy",
        after.spec,
        after.state,
        extra_files=[f for f in [after.tokenizer_file] if f is not None],
    )
    copied = load(tmp_path / "copy", runtime="torch", exact=True)
    np.testing.assert_array_equal(rows[0], copied.encode_images([picture])[0])


def test_training_sees_the_models_own_colours_and_ids(pairs: Path, tmp_path: Path) -> None:
    """The first batch as the towers receive it: normalised by 0.5, with ids of the model's own tokenizer."""
    from diptych.training.distributed.world import World
    from diptych.training.loop.trainer import open_loader

    start = write_start("SigLIP", tmp_path / "start")
    config = config_of(
        pairs,
        tmp_path / "run",
        start=str(start),
        model=FAMILIES["SigLIP"][0],
        **{**inputs_of(str(start)), "augment": None},
    )
    loader = open_loader(config, World(), 1)
    batch = next(iter(loader.batches(0, {})))
    loader.close()
    number = batch.captions.index("a red square, number 0")
    assert batch.tokens[number].tolist()[:3] == [0, WORDS.index("a"), WORDS.index("red")]
    expected = (batch.crops[number].float() / 255 - 0.5) / 0.5
    torch.testing.assert_close(batch.part(slice(number, number + 1), torch.device("cpu"))[0][0], expected)


def test_without_its_inputs_a_start_is_refused_with_the_way(pairs: Path, tmp_path: Path) -> None:
    start = write_start("LAION, half", tmp_path / "start")
    with pytest.raises(TrainingError, match=r"another preprocess.*inputs_of\(name\)"):
        train(Run(config_of(pairs, tmp_path / "run", start=str(start), model=TINY_VIT)))


@pytest.mark.parametrize("way", [to_open_clip, to_transformers])
def test_a_run_from_another_projects_folder(
    way: Callable[[Any, Path], None], pairs: Path, tmp_path: Path
) -> None:
    way(load_checkpoint(write_start("LAION, half", tmp_path / "start")), tmp_path / "theirs")
    config = config_of(pairs, tmp_path / "run", start=str(tmp_path / "theirs"), model=TINY_VIT, epochs=1)
    train(Run(dataclasses.replace(config, **inputs_of(config.start))))
    assert load_checkpoint(tmp_path / "run").spec.preprocess.mean == HALF


def test_other_sides_and_lengths_resize_the_position_tables(pairs: Path, tmp_path: Path) -> None:
    start = write_start("ViT", tmp_path / "start")
    notes: list[str] = []

    class Notes(Listener):
        def note(self, message: str) -> None:
            notes.append(message)

    config = config_of(pairs, tmp_path / "run", start=str(start), model=TINY_VIT, epochs=1, lr=1e-9, ema=0.0)
    config = config.override(["model.vision.image_size=48", "model.text.context_length=20"])
    train(Run(dataclasses.replace(config, **inputs_of(str(start)))), listener=Notes())
    assert any("32 pixels and texts of 16 tokens" in note and "48 and 20" in note for note in notes)
    after = load_checkpoint(tmp_path / "run")
    resized = load_checkpoint(start, image_size=48, context_length=20)
    assert (after.spec.preprocess.size, after.spec.tokenizer.context_length) == (48, 20)
    for name in ("visual.positional_embedding", "positional_embedding"):
        torch.testing.assert_close(after.state[name], resized.state[name], atol=1e-6, rtol=0)


def test_the_command_line_goes_on_from_a_siglip(pairs: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from diptych.cli.main import app

    start = write_start("SigLIP", tmp_path / "start")
    words = ["train", "--pairs", str(pairs), "--from", str(start), "--out", str(tmp_path / "run"), "--json"]
    words += ["--epochs", "1", "--batch-size", "8", "--hold-out", "0.5", "--set", "threads=1", "-q"]
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["finished"]
    spec = load_checkpoint(tmp_path / "run").spec
    assert spec.tokenizer == TokenizerConfig(
        kind="file", vocab_size=len(WORDS), context_length=12, pad_id=1, clean="canonicalize"
    )
