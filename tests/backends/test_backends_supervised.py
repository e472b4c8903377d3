"""A checkpoint of a supervised run (trained on labels) used as a picture classifier."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.backends import load_supervised, supervised_classes
from diptych.errors import WeightsError
from diptych.training import Run, train
from diptych.training.data import LabelledTar, Mixture
from tests.training.make_runs import COLOURS, config_of, write_pairs

NAMES = tuple(COLOURS)


def painted(name: str, number: int) -> Image.Image:
    noise = np.random.default_rng(number).normal(0, 12, (32, 32, 3))
    return Image.fromarray(np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a small run on pictures of one colour each, to the end."""
    home = tmp_path_factory.mktemp("supervised")
    with tarfile.open(home / "classes.tar", "w") as tar:
        for number in range(48):
            buffer = io.BytesIO()
            painted(NAMES[number % 4], number).save(buffer, "PNG")
            info = tarfile.TarInfo(f"pack/{NAMES[number % 4]}/{number}.png")
            info.size = len(buffer.getvalue())
            tar.addfile(info, io.BytesIO(buffer.getvalue()))
    data = Mixture(((LabelledTar(str(home / "classes.tar")), 1.0),))
    options = {"objective": "classes", "classes": NAMES, "data": data, "lr": 5e-3, "epochs": 15}
    train(Run(config_of(Path("x"), home / "run", **options, evaluate_every=15)))
    return home / "run"


def test_it_names_what_it_learned_in_the_order_asked_for(run: Path) -> None:
    assert supervised_classes(run) == NAMES
    pictures = [painted(name, 100 + n) for n, name in enumerate(NAMES)]
    for order in (NAMES, NAMES[::-1], ("blue", "red")):
        scorer = load_supervised(run, order, device="cpu", batch_size=3)
        query = [painted(name, 200 + n) for n, name in enumerate(order)]
        assert scorer(query).argmax(1).tolist() == list(range(len(order)))
        assert scorer(query).shape == (len(order), len(order))
    whole = load_supervised(run, NAMES, device="cpu")
    assert scorer.input_size == 32
    assert whole(pictures) == pytest.approx(load_supervised(run, NAMES, batch_size=1)(pictures), abs=1e-4)
    assert whole.identity == load_supervised(run, NAMES).identity != scorer.identity


def test_what_is_no_such_run(run: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="has not learned 'dog'; it learned 'red', 'green'"):
        load_supervised(run, ["red", "dog"])
    with pytest.raises(WeightsError, match="expected the folder of a run"):
        load_supervised(tmp_path, NAMES)
    assert supervised_classes(tmp_path) == ()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "checkpoint.pt").write_bytes(b"broken")
    assert supervised_classes(tmp_path / "broken") == ()
    with pytest.raises(WeightsError, match="cannot be read"):
        load_supervised(tmp_path / "broken", NAMES)
    train(Run(config_of(write_pairs(tmp_path / "pairs.tar", 32), tmp_path / "contrast", epochs=1)))
    assert supervised_classes(tmp_path / "contrast") == ()
    with pytest.raises(WeightsError, match="objective 'contrastive'"):
        load_supervised(tmp_path / "contrast", NAMES)
