"""Predictive objectives, the paper's baselines: captions, words, n-grams and labels from the picture."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.errors import TrainingError
from diptych.inputs import load_tokenizer
from diptych.model.initialise import build
from diptych.model.text.decoder import CaptionDecoder
from diptych.training import Run, train
from diptych.training.data import LabelledTar, Mixture
from diptych.training.objectives.predicting import BUCKETS, BagPrediction, CaptionPrediction, Classification
from tests.training.make_runs import COLOURS, TINY, TINY_VIT, config_of, same, write_pairs

SHAPES = {"resnet": TINY, "vit": TINY_VIT}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tar", 64)


def tokens_of(texts: list[str]) -> torch.Tensor:
    from diptych.training import TrainConfig

    config = TrainConfig(data=Mixture(()), model=TINY)
    return torch.from_numpy(load_tokenizer(config.spec.tokenizer)(texts))


def pictures() -> torch.Tensor:
    """One picture of each colour, normalised as in training."""
    from diptych.inputs import CLIP_MEAN, CLIP_STD

    plain = np.array(list(COLOURS.values())) / 255
    rows = (plain - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
    return torch.from_numpy(rows).float()[:, :, None, None].expand(-1, -1, 32, 32).contiguous()


@pytest.mark.parametrize("objective", ["captions", "words", "ngrams"])
@pytest.mark.parametrize("towers", SHAPES)
def test_each_learns_to_say_what_it_sees(pairs: Path, tmp_path: Path, objective: str, towers: str) -> None:
    texts = tokens_of([f"a {name} square" for name in COLOURS])
    right: list[float] = []

    def zero_shot(trained, step: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
        best = trained.score(pictures(), texts).argmax(1)
        right.append((best == torch.arange(len(COLOURS))).float().mean().item())
        return {"accuracy": right[-1]}

    options = {"objective": objective, "model": SHAPES[towers], "lr": 5e-3, "chunk": 8, "evaluate_every": 25}
    config = config_of(pairs, tmp_path / "run", epochs=25, **options)
    assert train(Run(config, {"colours": zero_shot})).metrics == {"colours/accuracy": 1.0}


@pytest.mark.parametrize("objective", ["captions", "words", "ngrams"])
def test_a_run_in_legs_gives_the_weights_of_one(pairs: Path, tmp_path: Path, objective: str) -> None:
    config = config_of(pairs, tmp_path / "whole", objective=objective)
    train(Run(config))
    config = dataclasses.replace(config, out=str(tmp_path / "legs"))
    train(Run(dataclasses.replace(config, max_minutes=1e-9)))
    train(Run(config), resume=True)
    assert same(tmp_path / "whole", tmp_path / "legs")


def test_bags_count_words_and_runs_once_each() -> None:
    model = build(TINY, seed=0).eval()
    bag = BagPrediction(model, 3)
    seen = torch.log_softmax(torch.randn(2, BUCKETS), 1)
    tokens = tokens_of(["a red square", "red"])
    ids = [
        [t for t in row if t < 1022][:length] for row, length in zip(tokens.tolist(), (99, 99), strict=True)
    ]
    ids = [[int(t) for t in row[1 : row.argmax()]] for row in tokens]

    def number(run: list[int]) -> int:
        value = run[0]
        for n, token in enumerate(run[1:], start=2):
            value = (value * 1_000_003 + token + n) % 2_147_483_647
        return value % BUCKETS

    for row, words in enumerate(ids):
        runs = [words[i : i + n] for n in (1, 2, 3) for i in range(len(words) - n + 1)]
        expected = sum(seen[row, number(run)].item() for run in runs) / len(runs)
        assert bag.log_likelihood(seen, tokens)[row].item() == pytest.approx(expected, rel=1e-5)
    single = BagPrediction(model, 1)
    words = torch.log_softmax(torch.randn(2, 1024), 1)
    expected = sum(words[0, t].item() for t in ids[0]) / len(ids[0])
    assert single.log_likelihood(words, tokens)[0].item() == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_a_captions_probability_is_the_product_of_its_tokens() -> None:
    config = dataclasses.replace(TINY.text, vocab_size=12, context_length=5)
    decoder = CaptionDecoder(config, 6, "gelu").eval()
    cells = torch.randn(1, 4, 6)
    # All captions of one and of two tokens, and all longer ones: their probabilities add up to 1.
    total = 0.0
    ends = [[10, 11, 0, 0, 0]] + [[10, a, 11, 0, 0] for a in range(11)]
    longer = [[10, a, b, 11, 0] for a in range(11) for b in range(11)]
    result = decoder(cells.expand(len(ends + longer), -1, -1), torch.tensor(ends + longer)).exp()
    total = result.sum().item()
    alone = decoder(cells, torch.tensor(ends[:1])).exp().item()
    assert result[0].item() == pytest.approx(alone, rel=1e-4)  # whatever follows the end or is in other rows
    assert 0 < total < 1
    rest = [[10, a, b, c, 11] for a in range(11) for b in range(11) for c in range(11)]
    more = decoder(cells.expand(len(rest), -1, -1), torch.tensor(rest)).exp().sum().item()
    assert total < total + more < 1 + 1e-4
    other = decoder(torch.randn(1, 4, 6), torch.tensor(ends[1:2])).item()
    assert other != pytest.approx(result[1].log().item(), rel=1e-4)  # it depends on the picture


def test_labels_are_learned(tmp_path: Path) -> None:
    import tarfile

    noise = np.random.default_rng(0)
    with tarfile.open(tmp_path / "classes.tar", "w") as tar:
        for number in range(48):
            name, colour = list(COLOURS.items())[number % 4]
            pixels = np.clip(np.array(colour) + noise.normal(0, 12, (32, 32, 3)), 0, 255).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            info = tarfile.TarInfo(f"pack/{name}/{number}.png")
            info.size = len(buffer.getvalue())
            tar.addfile(info, io.BytesIO(buffer.getvalue()))
    data = Mixture(((LabelledTar(str(tmp_path / "classes.tar")), 1.0),))
    names = tuple(COLOURS)
    results: list[list[int]] = []

    def classify(trained, step: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
        from diptych.training.data.order import hash_keys

        scores = trained.score(pictures())
        order = np.argsort(hash_keys(names).view(np.int64))  # columns are sorted by the hashed names
        results.append([int(order[n]) for n in scores.argmax(1)])
        return {}

    options = {"objective": "classes", "classes": names, "data": data, "lr": 5e-3, "evaluate_every": 15}
    train(Run(config_of(Path("x"), tmp_path / "run", epochs=15, **options), {"c": classify}))
    assert results[-1] == [0, 1, 2, 3]
    short = config_of(Path("x"), tmp_path / "short", **{**options, "precision": "bfloat16", "epochs": 1})  # type: ignore[arg-type]
    assert train(Run(short)).finished
    fewer = {**options, "classes": names[:3]}
    with pytest.raises(TrainingError, match="not among the classes"):
        train(Run(config_of(Path("x"), tmp_path / "fewer", **fewer)))
    with pytest.raises(TrainingError, match="0 classes"):
        train(Run(config_of(Path("x"), tmp_path / "none", **{**options, "classes": ()})))


def test_only_what_the_head_reads_is_trained() -> None:
    for shape in (TINY, TINY_VIT):
        for make in (CaptionPrediction, BagPrediction, lambda m: Classification(m, torch.tensor([1, 2]))):
            trained = make(build(shape, seed=0)).train()
            rows = trained(torch.randn(4, 3, 32, 32), tokens_of(["a b", "c", "d e f", "g"]))
            sum(row.sum() for row in rows).backward()
            late = {id(p) for p in trained.loss_parameters()}
            for name, parameter in trained.named_parameters():
                if id(parameter) not in late:
                    assert parameter.requires_grad == (parameter.grad is not None), name
