"""Texts that go with the pairs: text pairs and label trees, from the files to the trained weights."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import DataError, InputError, TrainingError
from diptych.model.config import EfficientNetConfig
from diptych.model.efficientnet import FEATURES, EfficientNet
from diptych.model.initialise import build
from diptych.training import Run, train
from diptych.training.data.texts.caption_words import MAX_WORDS, CaptionWords, WordTexts
from diptych.training.data.texts.companions import (
    STRENGTHS,
    CompanionTexts,
    LabelTree,
    NodeTexts,
    PairTexts,
    TextPairs,
)
from diptych.training.data.texts.synsets import Synset, read_synsets
from diptych.training.loop.gradients import cached_gradients
from diptych.training.loop.plan import plan
from diptych.training.losses.multi_label import multi_label_loss
from diptych.training.objectives.companions import CompanionObjective
from diptych.training.objectives.label_tree import LabelTreeTeacher
from diptych.training.objectives.objective import Contrastive
from diptych.weights.backbones.efficientnet_lite import ImageClassifier
from tests.training import processes
from tests.training.make_runs import TINY, config_of, logged, same, weights, write_pairs

LITE0 = dataclasses.replace(TINY, vision=EfficientNetConfig(image_size=32, hidden=8))
DOG = Synset({"en": ("dog", "hound"), "es": ("perro",)}, "an animal that barks", (0, 1))
CAR = Synset({"en": ("car",)}, "it has four wheels", (2,), weight=2.0)
RED = Synset(
    {"en": ("red", "crimson"), "es": ("rojo", "roja")}, "the colour of blood", (3, 0), forms=("red",)
)
SQUARE = Synset({"en": ("square",)}, "it has four sides", weight=0.2, forms=("square", "squares"))
SYNSETS = [DOG, CAR, RED]
NUMBERS = np.arange(1, 2001, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of synsets and of a classifier with four classes and random weights."""
    folder = tmp_path_factory.mktemp("files")
    lines = [
        {"names": {k: list(v) for k, v in s.names.items()}, "definition": s.definition}
        | {"classes": list(s.classes), "weight": s.weight, "forms": list(s.forms)}
        for s in [*SYNSETS, SQUARE]
    ]
    (folder / "synsets.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    torch.manual_seed(0)
    tower = EfficientNet(LITE0.vision, 1)
    state = {name: value for name, value in tower.state_dict().items() if not name.startswith("head.")}
    state |= {"classifier.weight": torch.randn(4, FEATURES), "classifier.bias": torch.zeros(4)}
    torch.save(state, folder / "lite0.pth")
    return folder


def run_of(files: Path, pairs: Path, out: Path, **changes):
    options = {
        "model": LITE0,
        "lock": "image",
        "lock_image_unlocked_groups": 1,
        "start_image": str(files / "lite0.pth"),
        "text_pairs": TextPairs(path=str(files / "synsets.jsonl"), fraction=0.5),
        "label_tree": LabelTree(path=str(files / "synsets.jsonl"), classifier=str(files / "lite0.pth")),
        "caption_words": CaptionWords(path=str(files / "synsets.jsonl")),
        "features_folder": str(out.parent / "cache"),
        "cache_features": 2,
    }
    return config_of(pairs, out, **{**options, **changes})


def teacher_of(synsets=SYNSETS, classes=4):
    torch.manual_seed(1)
    tower = EfficientNet(LITE0.vision, 1).state_dict()
    tower = {name: value for name, value in tower.items() if not name.startswith("head.")}
    weight = torch.randn(classes, FEATURES)
    classifier = ImageClassifier(LITE0.vision, tower, weight, torch.zeros(classes))
    return LabelTreeTeacher(classifier, synsets, torch.device("cpu"))


def test_synsets_are_read_plain_and_gzipped(files, tmp_path):
    assert read_synsets(files / "synsets.jsonl") == [*SYNSETS, SQUARE]
    packed = tmp_path / "synsets.jsonl.gz"
    packed.write_bytes(gzip.compress((files / "synsets.jsonl").read_bytes()))
    assert read_synsets(packed) == [*SYNSETS, SQUARE]


@pytest.mark.parametrize(
    "line",
    [
        "dog",
        "[]",
        '{"names": {}}',
        '{"names": {"en": []}}',
        '{"names": {"en": "dog"}}',
        '{"names": {"en": ["dog"]}, "classes": ["1"]}',
        '{"names": {"en": ["dog"]}, "classes": [-1]}',
        '{"names": {"en": ["dog"]}, "classes": [true]}',
        '{"names": {"en": ["dog"]}, "weight": -1}',
        '{"names": {"en": ["dog"]}, "definition": 3}',
    ],
)
def test_a_line_of_another_form_is_named(tmp_path, line):
    path = tmp_path / "synsets.jsonl"
    path.write_text('{"names": {"en": ["cat"]}}\n' + line, "utf-8")
    with pytest.raises(DataError, match=r"synsets\.jsonl, line 2"):
        read_synsets(path)


@given(st.text())
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "synsets.jsonl"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        synsets = read_synsets(path)
    except DataError:
        return
    assert all(synset.names for synset in synsets)


@pytest.mark.parametrize("content", [b"", b"\n\n", gzip.compress(b"x")[:9]])
def test_files_without_synsets(tmp_path, content):
    name = "a.gz" if content.startswith(b"\x1f") else "a.jsonl"
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        read_synsets(tmp_path / name)


def test_text_pairs_have_one_meaning():
    drawn = PairTexts(SYNSETS, TextPairs(path="", fraction=0.4, synonyms=0.3, translations=0.3))
    pairs = drawn.of(NUMBERS, alone=False)
    assert pairs == drawn.of(NUMBERS, alone=False)
    assert 0.35 < np.mean([first != "" for first, _ in pairs]) < 0.45
    assert all((first == "") == (second == "") for first, second in pairs)
    assert all(first != "" for first, _ in drawn.of(NUMBERS, alone=True))
    meanings = [("dog", "hound", "perro", "barks"), ("car", "wheels"), ("red", "crimson", "roj", "blood")]
    kinds = set()
    for first, second in set(pairs) - {("", "")}:
        assert any(
            any(word in first for word in meaning) and any(word in second for word in meaning)
            for meaning in meanings
        ), (first, second)
        kinds.add("perro" in first or "roj" in first)
        assert "perro" not in second
        assert "roj" not in second
    assert kinds == {True, False}


def test_kinds_that_the_file_lacks_are_left_out():
    pairs = PairTexts([CAR], TextPairs(path="", fraction=1.0, synonyms=0.5, translations=0.5, weight=1.0))
    assert all(second == "it has four wheels" for _, second in pairs.of(NUMBERS, alone=False))
    with pytest.raises(DataError, match="no synset with a definition"):
        PairTexts([Synset({"en": ("car",)})], TextPairs(path="", fraction=1.0))


def test_nodes_are_drawn_by_their_weights():
    drawn = NodeTexts(SYNSETS, LabelTree(path="", classifier="", synthetic=0.5, other_languages=0.5))
    texts, nodes = drawn.of(NUMBERS)
    shares = np.bincount(nodes[:, 0], minlength=3) / len(nodes)
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.04)
    assert np.mean(nodes[:, 1] >= 0) == pytest.approx(0.5, abs=0.04)
    for text, (node, below, strength) in zip(texts, nodes.tolist(), strict=True):
        assert below in (-1, *SYNSETS[node].classes)
        assert 0 <= strength < STRENGTHS
        assert any(name in text for names in SYNSETS[node].names.values() for name in names)
    assert any("perro" in text for text in texts)
    assert not any("dog" in text and "perro" in text for text in texts)


def test_words_of_captions():
    drawn = WordTexts([RED, SQUARE], CaptionWords(path="", other_languages=0.5))
    captions = [["A RED square, red", "squares", "a dog"], ["red"], [], ["a redder dog"]] * 500
    texts, words = drawn.of(NUMBERS, captions)
    assert texts == drawn.of(NUMBERS, captions)[0]
    assert words.shape == (2000, 1 + MAX_WORDS)
    # Two captions have "square" or "squares", one has "red"; a single caption counts twice.
    assert words[0, 1:5].tolist() == [0, 1, 1, -1]
    assert words[1, 1:4].tolist() == [0, 0, -1]
    assert (words[2::4] == -1).all()
    assert (words[3::4] == -1).all()
    assert texts[2] == texts[3] == ""
    first = words[::4, 0]
    # By their weights: 1 for red, and twice 0.2 for square.
    assert np.mean(first == 0) == pytest.approx(1 / 1.4, abs=0.07)
    for text, number in zip(texts[::4], first.tolist(), strict=True):
        names = [("red", "crimson", "roj"), ("square",)][number]
        assert any(name in text for name in names), text
    assert any("roj" in text for text in texts)


def test_forms_are_single_words():
    for form in ("hot dog", "t-shirt", "", "4x4"):
        with pytest.raises(DataError, match="single words of letters"):
            WordTexts([Synset({"en": ("x",)}, forms=(form,))], CaptionWords(path=""))
    _, words = WordTexts([Synset({"en": ("TV",)}, forms=("TV",))], CaptionWords(path="")).of(
        NUMBERS[:1], [["a tv"]]
    )
    assert words[0, 0] == 0


@pytest.mark.parametrize("kind", ["text_pairs", "caption_words"])
def test_a_batch_in_which_nothing_is_to_be_learned(files, tmp_path, kind):
    pairs = write_pairs(tmp_path / "p.tar", 32)
    nothing = {"text_pairs": TextPairs(path=str(files / "synsets.jsonl"), fraction=0.0)}
    car = tmp_path / "car.jsonl"
    car.write_text('{"names": {"en": ["car"]}, "forms": ["car"]}', "utf-8")
    nothing["caption_words"] = CaptionWords(path=str(car))
    options = {"label_tree": None, "text_pairs": None, "caption_words": None, kind: nothing[kind]}
    for chunk in (0, 8):
        train(run_of(files, pairs, tmp_path / f"{chunk}", **options, epochs=1, chunk=chunk))
    plain = {"label_tree": None, "text_pairs": None, "caption_words": None}
    train(run_of(files, pairs, tmp_path / "plain", **plain, epochs=1))
    assert [step[1] for step in logged(tmp_path / "0")] == pytest.approx(
        [step[1] for step in logged(tmp_path / "plain")], rel=1e-4
    )


def test_a_plan_measures_what_will_be_trained(files, tmp_path):
    pairs = write_pairs(tmp_path / "p.tar", 64)
    alone = TextPairs(path=str(files / "synsets.jsonl"), epochs_alone=1)
    for groups in (1, 3):
        run = run_of(
            files, pairs, tmp_path / "r", text_pairs=alone, lock_image_unlocked_groups=groups, epochs=2
        )
        estimate = plan(Run(run))
        assert estimate.steps == 8
        assert estimate.hours["this machine"] > 0
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "r").exists()


def test_the_teacher_must_be_the_towers_classifier(files, tmp_path):
    pairs = write_pairs(tmp_path / "p.tar", 32)
    other = dataclasses.replace(LITE0, vision=EfficientNetConfig(image_size=32, width=1.1, hidden=8))
    for model in (other, TINY):
        with pytest.raises(TrainingError, match="has another image tower than the model"):
            train(run_of(files, pairs, tmp_path / "r", model=model, start_image="", cache_features=0))


def test_more_words_than_a_visit_carries():
    many = [Synset({"en": (name,)}, forms=(name,)) for name in (f"word{chr(97 + n)}" for n in range(26))]
    caption = " ".join(synset.forms[0] for synset in many)
    _, words = WordTexts(many, CaptionWords(path="")).of(NUMBERS[:3], [[caption]] * 3)
    assert (words >= 0).all()
    assert all(row[0] in row[1:] for row in words)
    with pytest.raises(DataError, match="no synset with forms"):
        WordTexts([CAR], CaptionWords(path=""))


def test_words_loss_counts_captions_of_every_picture():
    objective = CompanionObjective(word_information=torch.ones(3))
    image = torch.nn.functional.normalize(torch.randn(4, 5, generator=torch.manual_seed(0)), dim=1)
    samples = torch.full((4, 1 + MAX_WORDS), -1)
    samples[:, 0] = torch.tensor([2, -1, 0, 2])
    samples[0, 1:3], samples[2, 1:4], samples[3, 1] = torch.tensor([2, 2]), torch.tensor([0, 0, 2]), 2
    texts = torch.nn.functional.normalize(torch.randn(4, 5), dim=1)
    loss = objective._words_loss(image, texts, samples)
    # Pictures 0, 2, 3; words 2 (text of picture 0) and 0 (of picture 2).
    probabilities = torch.tensor([[1.0, 0.0], [0.5, 1.0], [0.5, 0.0]])
    expected = multi_label_loss(
        image[[0, 2, 3]], texts[[0, 2]], probabilities, torch.ones(2), objective.words_scale.exp()
    )
    assert torch.allclose(loss, expected)
    assert objective._words_loss(image, texts, torch.full((4, 1 + MAX_WORDS), -1)) == 0


def test_multi_label_loss_prefers_the_specific_name():
    # A picture of a corgi: both names are right, the specific one is told apart by its information.
    image = torch.eye(2)[:1]
    probabilities, information = torch.tensor([[1.0, 1.0]]), torch.tensor([7.0, 0.5])
    specific = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    losses = [
        multi_label_loss(image, text, probabilities, information, torch.tensor(10.0)).item()
        for text in (specific, specific.flip(0))
    ]
    assert losses[0] < losses[1]


def test_multi_label_loss_is_zero_for_the_targets():
    # Similarities log q: their softmax is q over the nodes, and over the pictures, as rows and columns of q
    # sum to one.
    q = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.3, 0.2, 0.5]])
    loss = multi_label_loss(q.log(), torch.eye(3), q, torch.ones(3), torch.tensor(1.0))
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert multi_label_loss(q.log().flip(0), torch.eye(3), q, torch.ones(3), torch.tensor(1.0)) > 0.1


def test_pictures_without_any_node_count_nothing():
    image = torch.nn.functional.normalize(torch.randn(3, 4), dim=1).requires_grad_()
    text = torch.nn.functional.normalize(torch.randn(2, 4), dim=1)
    loss = multi_label_loss(image, text, torch.zeros(3, 2), torch.ones(2), torch.tensor(10.0))
    loss.backward()
    assert loss == 0
    assert image.grad.abs().sum() == 0


def test_made_up_features_show_their_class():
    teacher = teacher_of()
    torch.manual_seed(2)
    features = torch.rand(40, FEATURES)
    nodes = torch.stack([torch.zeros(40), torch.arange(40) % 4, torch.full((40,), STRENGTHS // 2)], 1).long()
    nodes[:4, 1] = -1
    moved = teacher.synthetic_features(features, nodes)
    assert torch.equal(moved[:4], features[:4])
    assert (moved >= 0).all()
    probabilities = teacher.class_probabilities(moved[4:])
    assert torch.equal(probabilities.argmax(1), nodes[4:, 1])


def test_the_probability_of_a_node_is_that_of_its_classes():
    teacher = teacher_of()
    assert teacher.members.T.tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]]
    assert teacher.information.tolist() == pytest.approx([np.log(2), np.log(4), np.log(2)])
    images = torch.randn(2, 3, 32, 32)
    features = teacher.features(images)
    assert teacher.features(features, 1) is features
    assert teacher.class_probabilities(features).sum(1).tolist() == pytest.approx([1, 1])
    with pytest.raises(TrainingError, match="class 9"):
        teacher_of([dataclasses.replace(CAR, classes=(9,))])


KINDS = [kinds for kinds in itertools.product((None, 0.5), (False, True), (False, True)) if any(kinds)]


@pytest.mark.parametrize("hard", [None, 1.0])
@pytest.mark.parametrize(("pairs_weight", "with_tree", "with_words"), KINDS)
@pytest.mark.parametrize("pictures", [False, True])
def test_gradients_do_not_depend_on_the_chunks(hard, pairs_weight, with_tree, with_words, pictures):
    torch.manual_seed(3)
    tree = teacher_of() if with_tree else None
    after = with_tree + with_words
    count = 2 * (pairs_weight is not None) + after
    images = torch.randn(8, 3, 32, 32) if pictures else torch.rand(8, FEATURES)
    tokens = torch.randint(1, 900, (8, 1 + (hard is not None) + count, 6))
    tokens[:, :, -1] = 1023  # the end token
    if pairs_weight is not None:
        tokens[::3, -1 - after] = tokens[::3, -2 - after]  # visits without a text pair
    nodes = torch.stack([torch.arange(8) % 3, torch.arange(8) % 4 - 1, torch.arange(8) * 1000], 1)
    words = torch.full((8, 1 + MAX_WORDS), -1)
    words[:, 0] = torch.tensor([0, 1, -1, 1, 2, 0, 2, 1])
    words[:, 1:3] = words[:, :1]
    words[3, 3] = 0
    samples = torch.cat([nodes if with_tree else nodes[:, :0], words if with_words else words[:, :0]], 1)
    gradients, losses = [], []
    for size in (8, 3):
        model = build(LITE0, seed=0)
        for parameter in model.visual.parameters():
            parameter.requires_grad_(False)
        model.visual.head.requires_grad_(True)
        companions = CompanionObjective(
            pairs_weight=pairs_weight,
            tree=tree,
            word_information=torch.tensor([1.0, 2.0, 0.5]) if with_words else None,
        )
        unlocked = None if pictures else 1
        objective = Contrastive(model.eval(), negatives=hard, companions=companions, unlocked=unlocked)
        chunks = [
            lambda n=n, size=size: (images[n : n + size], tokens[n : n + size], samples[n : n + size])
            for n in range(0, 8, size)
        ]
        losses.append(cached_gradients(objective, chunks, seeds=range(8)).item())
        gradients.append({k: p.grad for k, p in objective.named_parameters() if p.requires_grad})
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-3, atol=1e-4), name
    assert gradients[0]["model.visual.head.proj.weight"].abs().sum() > 0


def test_a_run_learns_and_resumes(files, tmp_path):
    pairs = write_pairs(tmp_path / "p.tar", 32)
    whole = run_of(files, pairs, tmp_path / "whole", epochs=4, lr=3e-3)
    train(whole)
    losses = [loss for _, loss, _ in logged(tmp_path / "whole")]
    assert losses[-1] < losses[0]
    parts = run_of(files, pairs, tmp_path / "parts", epochs=4, lr=3e-3)
    train(dataclasses.replace(parts, max_minutes=1e-9))
    while not train(dataclasses.replace(parts, max_minutes=1e-9), resume=True).finished:
        pass
    assert same(tmp_path / "whole", tmp_path / "parts")


def test_text_pairs_alone_leave_the_picture_tower(files, tmp_path):
    pairs = write_pairs(tmp_path / "p.tar", 32)
    alone = TextPairs(path=str(files / "synsets.jsonl"), epochs_alone=1)
    for name, epochs in (("one", 1), ("two", 2)):
        train(run_of(files, pairs, tmp_path / name, text_pairs=alone, epochs=epochs, ema=0.0))
    start = build(LITE0, seed=0).state_dict()
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    head, text = "visual.head.proj.weight", "transformer.resblocks.0.mlp.c_fc.weight"
    assert torch.equal(one[head], start[head])
    assert not torch.equal(two[head], start[head])
    assert not torch.equal(one[text], start[text])


def test_on_pictures_the_teacher_runs_in_every_step(files, tmp_path):
    pairs = write_pairs(tmp_path / "p.tar", 32)
    options = {"lock": "", "lock_image_unlocked_groups": 0, "cache_features": 0, "epochs": 1}
    train(run_of(files, pairs, tmp_path / "run", **options))
    assert len(logged(tmp_path / "run")) == 2


@pytest.mark.parametrize("epochs_alone", [0, 1])
def test_two_processes(files, tmp_path, epochs_alone):
    pairs = write_pairs(tmp_path / "p.tar", 32)
    processes.run(
        2,
        "tests.training.objectives.test_training_companions:train_here",
        tmp_path,
        files,
        pairs,
        epochs_alone,
    )
    steps = logged(tmp_path / "two")
    assert len(steps) == 4
    assert all(np.isfinite(loss) for _, loss, _ in steps)


def train_here(folder, files, pairs, epochs_alone):
    alone = TextPairs(path=f"{files}/synsets.jsonl", epochs_alone=int(epochs_alone))
    train(run_of(Path(files), Path(pairs), Path(folder) / "two", text_pairs=alone, epochs=2))


def test_options_are_checked(files, tmp_path):
    for kind in (TextPairs(path=""), LabelTree(path="", classifier=""), CaptionWords(path="")):
        for field in dataclasses.fields(kind):
            if field.type == "float":
                with pytest.raises(DataError, match=field.name):
                    dataclasses.replace(kind, **{field.name: -0.1})
    with pytest.raises(InputError, match="objective=contrastive"):
        run_of(files, tmp_path / "p.tar", tmp_path / "r", objective="words", cache_features=0)
    with pytest.raises(InputError, match="label_tree needs parallel=ddp"):
        run_of(files, tmp_path / "p.tar", tmp_path / "r", parallel="fsdp", cache_features=0)
    with pytest.raises(InputError, match="two starts"):
        run_of(files, tmp_path / "p.tar", tmp_path / "r", start="default")
    with pytest.raises(InputError, match="which is locked"):
        run_of(files, tmp_path / "p.tar", tmp_path / "r", lock="both")
    assert run_of(files, tmp_path / "p.tar", tmp_path / "r").spec.preprocess.mean[0] == 127 / 255
    assert CompanionTexts.open(None, None) is None
