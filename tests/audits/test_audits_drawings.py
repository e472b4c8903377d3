"""Drawn scenes and the audits on them: a capable toy encoder passes, an incapable one is at chance level."""

from __future__ import annotations

import contextlib
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.audits.limits import abstract, count_scenes, distance, relations, scene_pairs, scenes
from diptych.audits.limits.abstract import audit_abstract
from diptych.audits.limits.counting import audit_counting
from diptych.audits.limits.distance import audit_distance
from diptych.audits.limits.relations import audit_relations
from diptych.datasets import load_labelled
from diptych.errors import DataError, InputError
from tests.audits.limit_toys import Planted, blind, counter, guesser, one_hot, patches
from tests.toys import ToyEncoder, picture_bytes, tar_bytes

COLOURS = list(scenes.COLOURS)


def colours_by_place(image, axis):
    """The colours in a picture from left to right (axis 1) or from top to bottom (axis 0)."""
    pixels = np.asarray(image).astype(int)
    results = []
    for name, colour in scenes.COLOURS.items():
        there = np.argwhere((abs(pixels - colour) < 12).all(axis=2))
        if len(there) > 30:
            results.append((there[:, axis].mean(), name))
    return [name for _, name in sorted(results)]


def colours_in(text):
    return [word for word in re.findall("[a-z]+", text) if word in COLOURS]


def ordered(names):
    row = np.zeros(36, np.float32)
    for first, second in zip(names, names[1:] or names, strict=False):
        row[COLOURS.index(first) * 6 + COLOURS.index(second)] += 1
    return row


def left_teller():
    """An encoder that knows the left-right order of colours."""

    def read(text):
        names = colours_in(text)
        return ordered(names[::-1] if "right" in text else names)

    return Planted(36, lambda image: ordered(colours_by_place(image, 1)), read)


def bag_of_colours():
    """An encoder that knows which colours occur, but not where: the relation audit must detect it."""

    def bag(names):
        return sum((one_hot(COLOURS.index(name), 6) for name in set(names)), np.zeros(6, np.float32))

    return Planted(6, lambda image: bag(colours_by_place(image, 1)), lambda text: bag(colours_in(text)))


# ---- scenes ----


def test_a_scene_is_a_pure_function_of_seed_and_index() -> None:
    for make in (lambda i, s: count_scenes.scene(i, 10, s), distance.scene):
        assert make(7, 3) == make(7, 3)
        assert make(7, 3) != make(7, 4)
        assert make(7, 3) != make(17, 3)
    scene = count_scenes.scene(63, 10, 0)
    assert scenes.draw(scene).tobytes() == scenes.draw(scene).tobytes()
    assert scenes.draw(scene, side=32).size == (32, 32)


@pytest.mark.parametrize("index", range(0, 480, 37))
def test_there_are_as_many_things_as_there_should_be(index: int) -> None:
    scene = count_scenes.scene(index, 10, seed=5)
    assert len(scene.objects) == index % 10 + 1
    assert patches(scenes.draw(scene)) == len(scene.objects)  # none touches another or is cut off
    for thing in scene.objects:
        assert thing.size / 2 <= min(thing.x, thing.y, 1 - thing.x, 1 - thing.y)


def test_in_half_of_the_pictures_colour_does_not_give_the_count_away() -> None:
    def area(index):
        return sum(thing.size**2 for thing in count_scenes.scene(index, 10, 0).objects)

    level = {
        round(area(index), 6)
        for index in range(480)
        if count_scenes.conditions(index, 10)[0] == count_scenes.SIZE_RULES[1]
    }
    assert len(level) == 1
    free = [
        index for index in range(480) if count_scenes.conditions(index, 10)[0] == count_scenes.SIZE_RULES[0]
    ]
    assert np.corrcoef([area(index) for index in free], [index % 10 for index in free])[0, 1] > 0.7


def test_edges_are_smooth_and_backgrounds_grey() -> None:
    image = np.asarray(scenes.draw(scenes.Scene((scenes.SceneObject("circle", "red", 0.5, 0.5, 0.5),))))
    assert len(np.unique(image[:, :, 1])) > 5  # more than two levels
    for kind in scenes.BACKGROUNDS:
        pixels = np.asarray(scenes.draw(scenes.Scene((), kind, seed=3))).astype(int)
        assert (pixels.max(2) == pixels.min(2)).all()
        assert (len(np.unique(pixels)) > 1) == (kind != "plain")


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(InputError, match=r"pink circle.*red, green"):
        scenes.draw(scenes.Scene((scenes.SceneObject("circle", "pink", 0.5, 0.5, 0.5),)))
    with pytest.raises(InputError, match="clouds"):
        scenes.draw(scenes.Scene((), "tartan"))
    with pytest.raises(InputError, match="do not fit"):
        scenes.random_positions(np.random.default_rng(0), [0.6, 0.6])
    with pytest.raises(InputError, match="do not fit"):
        scenes.random_positions(np.random.default_rng(0), [1.2])


# ---- counting ----


def test_a_counter_counts() -> None:
    result = audit_counting(counter(), each=4)
    assert result.accuracy.value == 1.0
    assert result.error.value == 0.0
    assert result.correlation is not None
    assert result.correlation.value == pytest.approx(1.0)
    assert np.array_equal(result.confusion, np.eye(10))
    assert list(result.ranges) == ["1-3", "1-5", "1-10"]
    assert "Above chance" in result.report().sections[0].text[0]
    assert set(result.drawn) >= {*count_scenes.SIZE_RULES, "plain background", "circle"}
    assert "samples" not in result.to_dict()


def test_who_does_not_see_does_not_count() -> None:
    actual = audit_counting(blind(), each=4)
    assert actual.accuracy.value == pytest.approx(0.1)
    assert actual.error.value == pytest.approx(actual.error_chance) == pytest.approx(3.3)
    assert actual.correlation is None
    assert "this model does not count" in actual.report().sections[0].text[0]
    result = [audit_counting(guesser(f"{i}"), each=8, most=5, seed=i).verdicts for i in range(6)]
    assert sum({"above", "below"} & set(item.values()) != set() for item in result) <= 1
    few = audit_counting(counter(), each=1)
    assert set(few.verdicts.values()) == {"not enough to say"}
    assert "Not enough to say whether this model counts" in few.report().sections[0].text[0]


def test_who_answers_one_is_at_chance_and_the_heat_map_shows_it() -> None:
    always = Planted(21, lambda image: one_hot(1, 21), counter().read)
    result = audit_counting(always, each=4)
    assert result.accuracy.value == pytest.approx(0.1)
    assert [row[0] for row in result.confusion] == [1.0] * 10
    assert result.verdicts["accuracy"] == "at"
    assert result.verdicts["numbers 1-3"] == "not enough to say"  # 12 pictures


def test_fewer_numbers_are_easier_for_who_sees_few() -> None:
    def see(image):
        return one_hot(min(patches(image), 3), 21)  # counts of three and more look alike

    result = audit_counting(Planted(21, see, counter().read), each=4)
    assert result.ranges["1-3"][0].value == 1.0
    assert result.ranges["1-10"][0].value == pytest.approx(0.3)
    assert "rises" in result.report().sections[0].text[2]


def test_counts_from_folders(tmp_path) -> None:
    path = tmp_path / "counts.tar"
    shown = {"ten": 10, "3": 3, "two": 2}
    files = {}
    for name, number in shown.items():
        picture = tmp_path / f"{name}.png"
        scenes.draw(count_scenes.scene(number - 1, 10, 0)).save(picture)
        files[f"{name}/0.png"] = picture.read_bytes()
    files["3/1.png"] = b"broken"
    path.write_bytes(tar_bytes(files))
    result = audit_counting(counter(), load_labelled(path))
    assert (result.numbers, result.accuracy.value, result.accuracy.n) == ([2, 3, 10], 1.0, 3)
    assert [item.key for item in result.failures] == ["3/1.png"]
    assert result.report().sections[-1].title == "Left out"
    path.write_bytes(tar_bytes({"dog/0.png": picture_bytes("red"), "3/0.png": picture_bytes("red")}))
    with pytest.raises(DataError, match="'dog', which is not a number"):
        audit_counting(counter(), load_labelled(path))


def test_counting_refuses() -> None:
    with pytest.raises(InputError, match="where the number goes"):
        audit_counting(blind(), templates=["{things}"])
    with pytest.raises(InputError, match="counts up to 1"):
        audit_counting(blind(), most=1)


@given(st.text(max_size=12))
def test_whatever_a_folder_is_called(name: str) -> None:
    with contextlib.suppress(DataError):
        assert 0 <= count_scenes.parse_number(name) <= 20


# ---- relations ----


def test_who_tells_left_from_right_is_found_out() -> None:
    result = audit_relations(left_teller(), kinds=["left", "above"], each=30)
    assert result.judged["left"].both.value == 1.0
    assert result.judged["left"].sentence.value == result.judged["left"].picture.value == 1.0
    assert result.verdicts == {"left": "above", "above": "not enough to say"}
    message = result.report().sections[0].text
    assert message == ["Above chance: left and right.", "Not enough to say: above and below."]


def test_a_bag_of_words_passes_the_control_and_nothing_else() -> None:
    result = audit_relations(bag_of_colours(), each=8)
    assert result.judged["colour"].both.value == 1.0
    for kind in set(relations.SENTENCES) - {"colour"}:
        assert result.judged[kind].sentence.value == pytest.approx(0.5), kind
        assert result.judged[kind].both.value == pytest.approx(1 / 6), kind
    assert result.verdicts["shape"] == "not enough to say"  # 16 pictures
    assert "A control is undecided" in result.failed_controls[0]
    result = audit_relations(bag_of_colours(), kinds=["colour", "shape"], each=50)
    assert result.verdicts == {"colour": "above", "shape": "at"}
    first = result.report().sections[0]
    assert (first.title, len(first.text)) == ("Read this first", 1)
    assert first.text[0].startswith("A control fails: which shape an object has.")
    assert result.to_dict()["failed_controls"] == first.text


def test_blind_and_guessing_models_are_at_chance_in_every_relation() -> None:
    assert all(item.sentence.value == 0.5 for item in audit_relations(blind(), each=2).judged.values())
    for seed in range(3):
        result = audit_relations(guesser(f"{seed}"), each=15, seed=seed).verdicts
        assert not {"above", "below"} & set(result.values())


@pytest.mark.parametrize("kind", list(relations.SENTENCES))
def test_both_pictures_of_a_pair_hold_the_same_things(kind: str) -> None:
    for index in range(6):
        pair = relations.relation_pair(kind, index, seed=2)
        assert scenes.draw(pair.first).tobytes() != scenes.draw(pair.second).tobytes()
        assert set(pair.first_texts).isdisjoint(pair.second_texts)
        words = [
            sorted(re.findall("[a-z]+", text.replace("an ", "a ")))
            for text in (*pair.first_texts[:1], *pair.second_texts[:1])
        ]
        if kind not in relations.CONTROLS:
            assert words[0] == words[1]
            names = [sorted(thing.colour for thing in item.objects) for item in (pair.first, pair.second)]
            assert names[0] == names[1]
        for thing in (*pair.first.objects, *pair.second.objects):
            assert thing.x - thing.size / 2 >= -1e-9
            assert thing.x + thing.size / 2 <= 1


def test_what_is_inside_fits_inside() -> None:
    for index in range(40):
        scene = relations.relation_pair("inside", index, seed=0).first
        alone = scenes.draw(scenes.Scene(scene.objects[:1]))  # the outer object
        both = np.asarray(scenes.draw(scene)).astype(int)
        inner = np.argwhere((abs(both - scenes.COLOURS[scene.objects[1].colour]) < 12).all(axis=2))
        outside = np.asarray(alone)[tuple(inner.T)]
        assert (outside != 255).any(axis=1).all()


def test_unknown_relations() -> None:
    with pytest.raises(InputError, match=r"\['beside'\].*left"):
        audit_relations(blind(), kinds=["beside"])
    with pytest.raises(InputError, match="same, symmetric"):
        audit_abstract(blind(), tasks=[])


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4))
def test_both_right_is_the_share_of_orders(values: list[float]) -> None:
    from itertools import permutations

    a, b, c, d = np.round(values, 1).tolist()
    wanted = np.mean(
        [
            min((a, order[0]), (d, order[3])) > max((b, order[1]), (c, order[2]))
            for order in permutations(range(4))
        ]
    )
    assert scene_pairs.pair_accuracy(np.array([[[a, b], [c, d]]]))[0] == pytest.approx(wanted)


# ---- abstract, distance ----


def test_who_sees_mirrors_sees_symmetry_only() -> None:
    def see(image):
        pixels = np.asarray(image).astype(int)
        return one_hot(int(abs(pixels - pixels[:, ::-1]).mean() < 1), 2)

    def read(text):
        return one_hot(int(not re.search("asymm|without|differs", text)), 2)

    result = audit_abstract(Planted(2, see, read), each=60)
    assert result.judged["symmetric"].both.value == 1.0
    assert result.verdicts["symmetric"] == "above"
    assert result.verdicts["upright"] == result.verdicts["sorted"] == "at"
    assert "Symmetric or not: above chance" in result.report().sections[0].text[1]
    assert all(item.sentence.value == 0.5 for item in audit_abstract(blind(), each=2).judged.values())


def test_puzzles_have_the_property_and_lack_it() -> None:
    for index in range(10):
        sizes = [thing.size for thing in abstract.puzzle_pair("sorted", index, 1).second.objects]
        assert sizes != sorted(sizes)
        assert sizes != sorted(sizes, reverse=True)
        same = abstract.puzzle_pair("same", index, 1)
        assert [len({thing.shape for thing in item.objects}) for item in (same.first, same.second)] == [1, 2]
        turned = abstract.puzzle_pair("upright", index, 1)
        assert turned.first.objects[0].turn == 0 != turned.second.objects[0].turn


def test_distances_are_those_asked_for() -> None:
    for index in range(25):
        scene = distance.scene(index, seed=4)
        nearest = 0.6 / max(thing.size for thing in scene.objects)
        edges = (1.5, 2.4, 3.8, 6.0, 9.5, 15.0)
        assert edges[index % 5] <= nearest <= edges[index % 5 + 1]
        assert scene.objects[-1].size == max(thing.size for thing in scene.objects)  # drawn on top


def test_who_knows_the_distance_and_who_does_not() -> None:
    pictures = distance.draw_distances(3, seed=0)
    answers = {image.tobytes(): label for (_, image), label in zip(pictures, pictures.labels, strict=True)}

    def knowing(shift):
        return Planted(
            5,
            lambda image: one_hot(min(answers[image.tobytes()] + shift, 4), 5),
            lambda text: one_hot(next(i for i in (4, 3, 2, 0, 1) if distance.WORDS[i] in text), 5),
        )

    result = audit_distance(knowing(0), each=3)
    assert (result.accuracy.value, result.error.value) == (1.0, 0.0)
    late = audit_distance(knowing(1), each=3)
    assert late.accuracy.value == pytest.approx(0.2)  # only the last bin
    assert late.error.value == pytest.approx(0.8)
    assert late.correlation is not None
    assert late.correlation.low is not None
    assert late.correlation.low > 0
    assert late.verdicts == {"accuracy": "not enough to say"}  # 15 pictures
    nothing = audit_distance(blind(), each=20)
    assert nothing.error.value == pytest.approx(nothing.error_chance) == pytest.approx(1.6)
    assert "does not recognise distance" in nothing.report().sections[0].text[0]


def test_rows_of_drawn_pictures_are_kept(tmp_path) -> None:
    from diptych.evaluation import FeatureStore

    encoder, store = counter(), FeatureStore(tmp_path)
    first = audit_counting(encoder, each=1, store=store)
    again = audit_counting(encoder, each=1, store=store)
    assert encoder.pictures == 10
    assert again.to_dict() == first.to_dict()
    audit_counting(encoder, each=1, seed=1, store=store)
    assert encoder.pictures == 20


def test_a_report_is_written_whole(tmp_path) -> None:
    names = {path.name for path in audit_relations(ToyEncoder(), each=2).report().save(tmp_path)}
    assert {"index.html", "report.json", "relations.csv", "relations.svg", "samples.png"} <= names
