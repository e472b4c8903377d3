"""The zero-shot classifier with the toy encoder: fitting, predictions, hierarchies, saved files."""

from __future__ import annotations

import errno
import io
import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import (
    ChecksumError,
    ImageError,
    InputError,
    NotFittedError,
    SaveError,
    TextError,
    WeightsError,
)
from diptych.zeroshot import ZeroShotClassifier, expand
from diptych.zeroshot.labels import read_labels
from tests.toys import COLOURS, ToyEncoder, picture, picture_bytes
from tests.zeroshot.toy_classifier import NAMES, fitted, shades


def test_pictures_in_every_form(tmp_path: Path) -> None:
    path = tmp_path / "blue.png"
    path.write_bytes(picture_bytes("blue"))
    classifier = fitted()
    for item in (path, str(path), picture_bytes("blue"), io.BytesIO(picture_bytes("blue")), picture("blue")):
        assert classifier.predict(item).tolist() == ["blue"]
    mixed = [path, picture("red"), picture_bytes("green")]
    assert classifier.predict(mixed).tolist() == ["blue", "red", "green"]
    assert classifier.predict(item for item in mixed).tolist() == ["blue", "red", "green"]
    vectors = ToyEncoder().encode_images([picture("red"), picture("blue")])
    for rows in (vectors, vectors.astype(np.float16), vectors.astype(np.float64) * 7):
        assert classifier.predict(rows).tolist() == ["red", "blue"]
    assert classifier.predict(vectors[1]).tolist() == ["blue"]
    assert classifier.scores([]).shape == (0, 3)
    assert classifier.predict([]).tolist() == []


def test_pictures_are_encoded_in_batches_in_order() -> None:
    classifier = fitted(batch_size=4)
    colours = NAMES * 3 + ["red"]
    assert classifier.predict([picture(name) for name in colours]).tolist() == colours
    assert [n for kind, n in classifier.encoder.calls if kind == "images"] == [4, 4, 2]


def test_scores_are_the_softmax_at_the_models_scale() -> None:
    classifier = fitted()
    rows = ToyEncoder().encode_images([picture("red"), picture((90, 20, 200))])
    cosines = rows @ ToyEncoder().encode_texts([f"a photo of a {name}." for name in NAMES]).T
    powers = np.exp(20.0 * cosines)
    np.testing.assert_allclose(classifier.cosines(rows), cosines, atol=1e-6)
    np.testing.assert_allclose(
        classifier.scores(rows), 100 * powers / powers.sum(1, keepdims=True), rtol=1e-4
    )
    np.testing.assert_allclose(classifier.predict_proba(rows).sum(1), 1, rtol=1e-5)
    assert classifier.top(rows, 2)[0][0] == ("red", pytest.approx(classifier.scores(rows)[0, 0]))
    assert [len(best) for best in classifier.top(rows, 9)] == [3, 3]


def test_all_prompts_go_in_one_call() -> None:
    classifier = fitted(templates=["a {}", "the {}", "one {}"])
    assert classifier.encoder.calls == [("texts", 9)]
    classifier.add("white")
    assert classifier.encoder.calls == [("texts", 9), ("texts", 3)]


def test_templates_are_averaged_on_the_sphere() -> None:
    templates = ["a {} red thing", "{}", "{} and nothing"]
    classifier = fitted(["blue"], templates=templates, multi_label=True)
    vectors = ToyEncoder().encode_texts(expand(["blue"], templates))
    mean = vectors.mean(0)
    np.testing.assert_allclose(classifier.weights_[0], mean / np.linalg.norm(mean), rtol=1e-5)


@settings(max_examples=25)
@given(st.lists(st.sampled_from(sorted(COLOURS)), min_size=2, max_size=6, unique=True), st.data())
def test_add_and_remove_equal_a_fresh_fit(names: list[str], data: st.DataObject) -> None:
    options = {
        "synonyms": data.draw(st.sampled_from(["mean", "max"])),
        "multi_label": data.draw(st.booleans()),
        "against": data.draw(st.sampled_from(["background", "negation"])),
    }
    cut = data.draw(st.integers(1, len(names) - 1))
    forms = {name: [name, f"{name} white"] if i % 2 else name for i, name in enumerate(names)}
    part = {name: forms[name] for name in names[:cut]}
    rest = {name: forms[name] for name in names[cut:]}
    whole = fitted(forms, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        grown = fitted(part, **options).add(rest)
        shrunk = fitted(forms, **options).remove(names[cut:])
        small = fitted(part, **options)
    rows = ToyEncoder().encode_images([picture("red"), picture((10, 200, 90))])
    np.testing.assert_allclose(grown.scores(rows), whole.scores(rows), atol=1e-3)
    np.testing.assert_allclose(grown.weights_, whole.weights_, atol=1e-6)
    np.testing.assert_allclose(shrunk.scores(rows), small.scores(rows), atol=1e-3)
    assert shrunk.classes_.tolist() == names[:cut]
    if cut > 1:  # removed from the front too: the others must keep their own rows
        part_of = fitted(forms, **options).remove(names[0])
        np.testing.assert_allclose(part_of.cosines(rows), whole.cosines(rows)[:, 1:], atol=1e-6)


def test_synonyms_mean_and_max() -> None:
    names = {"warm": ["red", "yellow"], "cold": "blue"}
    mean, best = fitted(names), fitted(names, synonyms="max")
    rows = ToyEncoder().encode_images([picture("yellow")])
    red, yellow, _ = ToyEncoder().encode_texts(["red", "yellow", "blue"])
    both = (red + yellow) / np.linalg.norm(red + yellow)
    assert mean.cosines(rows)[0, 0] == pytest.approx(float(rows[0] @ both), abs=1e-6)
    assert best.cosines(rows)[0, 0] == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(best.weights_, mean.weights_, atol=1e-6)
    assert best.classes_.tolist() == ["warm", "cold"]


def test_a_hierarchy_sums_over_its_leaves() -> None:
    tree = {"warm": {"red": None, "bright": {"yellow": ["yellow", "yellow light"]}}, "cold": {"blue": None}}
    classifier = fitted(tree)
    assert classifier.classes_.tolist() == ["red", "yellow", "blue"]
    assert classifier.groups_ == ("warm", "warm/bright", "cold")
    proba = classifier.predict_proba(picture("yellow"))
    groups = classifier.group_proba(picture("yellow"))
    np.testing.assert_allclose(groups[0], [proba[0, 0] + proba[0, 1], proba[0, 1], proba[0, 2]], rtol=1e-6)
    assert fitted().group_proba(picture("red")).shape == (1, 0)
    alone = fitted(tree, multi_label=True)
    largest = alone.predict_proba(picture("yellow"))[0, :2].max()
    assert alone.group_proba(picture("yellow"))[0, 0] == pytest.approx(float(largest))


def test_a_sigmoid_model_gives_sigmoids() -> None:
    encoder = ToyEncoder(logit_scale=10.0, logit_bias=-5.0)
    classifier = ZeroShotClassifier(encoder).fit(["red"])  # a single label is a valid question: no warning
    cosine = classifier.cosines(picture((200, 30, 60)))
    expected = 1 / (1 + np.exp(-(10.0 * cosine - 5.0)))
    np.testing.assert_allclose(classifier.predict_proba(picture((200, 30, 60))), expected, rtol=1e-5)
    soft = ZeroShotClassifier(encoder, activation="softmax").fit(NAMES)
    np.testing.assert_allclose(soft.predict_proba(picture("red")).sum(), 1, rtol=1e-5)


@pytest.mark.parametrize("against", ["background", "negation", ["nothing at all", "grey"]])
def test_labels_by_themselves(against) -> None:
    classifier = fitted(["red", "blue", "white"], multi_label=True, against=against, templates="bare")
    proba = classifier.predict_proba([picture("red"), picture("green")])
    grey = ToyEncoder().encode_texts(["grey"])
    opponent = grey if against != "negation" else ToyEncoder().encode_texts(["red", "blue", "white"])
    rows = ToyEncoder().encode_images([picture("red"), picture("green")])
    expected = 1 / (1 + np.exp(-20 * (classifier.cosines(rows) - rows @ opponent.T)))
    np.testing.assert_allclose(proba, expected, atol=1e-5)
    if against != "negation":  # the toy does not understand "without"
        assert classifier.predict([picture("red"), picture("green")]).tolist() == [("red",), ()]
    assert classifier.encoder.calls[0] > ("texts", 3)


def test_several_labels_come_best_first() -> None:
    classifier = fitted(["white", "red", "blue"], multi_label=True)
    assert classifier.predict(picture((255, 10, 60)), cutoff=0.0)[0][0] == "red"
    assert set(classifier.predict(picture("red"), cutoff=0.0)[0]) == {"white", "red", "blue"}


def test_order_survives_where_probabilities_run_into_their_ends() -> None:
    images = [picture((255, 60, 0))]
    names = ["blue", "white", "yellow", "red"]
    for options in ({"multi_label": True}, {}):
        encoder = ToyEncoder(logit_scale=10_000.0)
        classifier = ZeroShotClassifier(encoder, **options).fit(names)
        cosines = classifier.cosines(images)[0]
        best = [names[i] for i in np.argsort(-cosines)]
        assert [name for name, _ in classifier.top(images)[0]] == best
    certain = ZeroShotClassifier(ToyEncoder(logit_scale=10_000.0), multi_label=True).fit(names)
    assert certain.predict(images, cutoff=0.0)[0] == tuple(best)


def test_labels_that_repeat_or_stand_alone_are_warned_about() -> None:
    with pytest.warns(UserWarning, match=r"labels that come more than once \('red'\)"):
        twice = fitted(["red", "red", "blue"])
    np.testing.assert_allclose(twice.scores(picture("red"))[0, :2], 50, atol=0.5)
    with pytest.warns(UserWarning, match="always 100"):
        alone = fitted("red")
    assert alone.classes_.tolist() == ["red"]
    assert alone.scores(picture("blue")).tolist() == [[100.0]]
    with pytest.warns(UserWarning, match="more than once"):
        fitted().add("red")
    fitted(["red"], multi_label=True)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no labels"),
        ({}, "no labels"),
        ({"group": {}}, "no labels"),
        ([""], "blank"),
        (["dog", " \n"], "blank"),
        ([3], "int"),
        (7, "int"),
        (None, "NoneType"),
        ({"dog": []}, "'dog' has no texts"),
        ({"dog": [None]}, "NoneType"),
    ],
)
def test_labels_that_are_none(names, message: str) -> None:
    with pytest.raises(TextError, match=message):
        fitted(names)


TEXT = st.text(min_size=1, max_size=9).filter(str.strip)


@given(
    st.recursive(
        st.none() | TEXT | st.lists(TEXT, min_size=1, max_size=4),
        lambda inner: st.dictionaries(TEXT, inner, min_size=1, max_size=3),
        max_leaves=8,
    )
)
def test_any_nesting_reads_to_one_label_per_leaf(tree) -> None:
    def leaves(node) -> int:
        return sum(map(leaves, node.values())) if isinstance(node, dict) else 1

    names = tree if isinstance(tree, dict) else {"root": tree}
    labels = read_labels(names)
    assert len(labels) == leaves(names)
    assert all(label.texts and label.name for label in labels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "tanh"}, "auto, softmax, sigmoid"),
        ({"activation": "sigmoid"}, "has no logit_bias"),
        ({"synonyms": "min"}, "mean, max"),
        ({"none_method": "odin"}, "auto, mcm, cosine"),
        ({"against": []}, "against is empty"),
        ({"none_cutoff": "0.5"}, "expected a number"),
        ({"multi_label": True, "none_cutoff": 0.5}, "needs no cut-off for none"),
        ({"templates": "plainest"}, "did you mean plain"),
    ],
)
def test_settings_are_checked(settings, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fitted(**settings)


def test_misuse_is_told_apart() -> None:
    classifier = ZeroShotClassifier(ToyEncoder())
    for use in (
        lambda: classifier.predict(picture("red")),
        lambda: classifier.classes_,
        lambda: classifier.add("x"),
    ):
        with pytest.raises(NotFittedError, match="call fit"):
            use()
    classifier.fit(NAMES)
    with pytest.raises(TextError, match="no class is called 'gren'; there are 'green'"):
        classifier.remove("gren")
    with pytest.raises(TextError, match="no class"):
        classifier.remove(NAMES)
    assert classifier.classes_.tolist() == NAMES
    for wrong in (np.zeros((2, 3)), np.zeros((2, 2, 4)), np.zeros((8, 4), np.uint8)):
        with pytest.raises(InputError, match="expected vectors"):
            classifier.predict(wrong)
    with pytest.raises(InputError, match="NaN or infinity"):
        classifier.predict(np.full((1, 4), np.nan))
    with pytest.raises(InputError, match="int"):
        classifier.predict(3)
    with pytest.raises(ImageError):
        classifier.predict(["no such picture.png"])
    with pytest.raises(InputError, match="may answer with no label"):
        fitted(multi_label=True).calibrate(picture("red"))


# ---- saved files ----


@pytest.mark.parametrize("settings", [{}, {"synonyms": "max"}, {"multi_label": True, "against": "negation"}])
def test_saved_and_loaded_it_is_the_same(tmp_path: Path, settings) -> None:
    tree = {"warm": {"red": ["red", "red red"], "yellow": None}, "cold": {"blue": None}}
    classifier = fitted(tree, templates=["a {}", "the {}"], **settings)
    if not settings:
        classifier.calibrate(shades(COLOURS["red"]))
    path = tmp_path / "colours.safetensors"
    classifier.save(path)
    assert path.stat().st_size < 5000
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    again = ZeroShotClassifier.load(path, ToyEncoder())
    images = [picture("yellow"), picture((40, 90, 200))]
    np.testing.assert_array_equal(again.scores(images), classifier.scores(images))
    assert again.predict(images).tolist() == classifier.predict(images).tolist()
    assert again.groups_ == classifier.groups_
    assert again.none_cutoff_ == classifier.none_cutoff_
    again.none_cutoff_ = classifier.none_cutoff_ = None
    np.testing.assert_array_equal(again.add("black").scores(images), classifier.add("black").scores(images))


def test_another_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    fitted().save(tmp_path / "x")
    with pytest.raises(ChecksumError, match="made with the model toy:colours, and this one is toy:other"):
        ZeroShotClassifier.load(tmp_path / "x", ToyEncoder(identity="toy:other"))
    with pytest.raises(WeightsError, match="width 4, and the encoder's is 5"):
        ZeroShotClassifier.load(tmp_path / "x", ToyEncoder(dim=5))


def damaged(data: bytes, change) -> bytes:
    """The file with a changed JSON header."""
    length = int.from_bytes(data[:8], "little")
    outer = json.loads(data[8 : 8 + length])
    inner = json.loads(outer["__metadata__"]["diptych.classifier"])
    change(inner)
    outer["__metadata__"]["diptych.classifier"] = json.dumps(inner)
    header = json.dumps(outer).encode()
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.update(version=2),
        lambda header: header.update(labels=header["labels"][:2]),
        lambda header: header.update(counts=[1, 1, -1]),
        lambda header: header.update(counts=[1, 1, 2]),
        lambda header: header.pop("settings"),
        lambda header: header["settings"].update(activation="tanh"),
        lambda header: header["settings"].update(surprise=1),
        lambda header: header["labels"][0].pop("name"),
        lambda header: header.update(labels=3),
    ],
)
def test_a_changed_header_is_refused(tmp_path: Path, change) -> None:
    path = tmp_path / "x"
    fitted().save(path)
    path.write_bytes(damaged(path.read_bytes(), change))
    with pytest.raises(WeightsError, match="classifier"):
        ZeroShotClassifier.load(path, ToyEncoder())


@settings(max_examples=80)
@given(st.binary(max_size=200), st.integers(0, 1500))
def test_a_damaged_file_is_refused_or_harmless(tmp_path_factory, noise: bytes, place: int) -> None:
    path = tmp_path_factory.mktemp("noise") / "x"
    fitted().save(path)
    data = path.read_bytes()
    path.write_bytes(data[:place] + noise + data[place + len(noise) :])
    try:
        loaded = ZeroShotClassifier.load(path, ToyEncoder())
    except WeightsError:
        return
    assert loaded.weights_.shape == (3, 4)


def test_what_is_no_classifier(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a classifier")
    (tmp_path / "empty").write_bytes(b"")
    for name in ("text", "empty", "missing"):
        with pytest.raises(WeightsError, match=name):
            ZeroShotClassifier.load(tmp_path / name, ToyEncoder())


def test_no_space_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    fitted().save(path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaveError, match="No space left on device"):
        fitted(["white", "black"]).save(path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["x"]
    with pytest.raises(SaveError):
        fitted().save(tmp_path / "no" / "folder")


@pytest.mark.parametrize("before", [True, False])
def test_multi_label_changed_after_fit_is_told(before: bool) -> None:
    classifier = fitted(multi_label=before)
    classifier.multi_label = not before
    for use in (lambda: classifier.predict(picture("red")), lambda: classifier.add("white")):
        with pytest.raises(InputError, match="changed after fit: call fit again"):
            use()
    assert classifier.fit(NAMES).top(picture("red"), 1)[0][0][0] == "red"


def test_classes_called_alike_in_two_groups_have_names_of_their_own() -> None:
    classifier = ZeroShotClassifier(ToyEncoder()).fit(
        {"warm": {"tone": ["red"]}, "cold": {"tone": ["blue"], "green": None}}
    )
    assert classifier.classes_.tolist() == ["warm/tone", "cold/tone", "green"]
    assert classifier.predict([picture("red"), picture("blue")]).tolist() == ["warm/tone", "cold/tone"]
    assert classifier.groups_ == ("warm", "cold")
    assert classifier.remove("warm/tone").classes_.tolist() == ["tone", "green"]
