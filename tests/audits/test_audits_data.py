"""Audits of labelled data sets, with planted models and coloured pictures whose results are known by hand."""

from __future__ import annotations

import contextlib
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diptych.audits.labels.class_groups import (
    class_indices,
    group_similar_classes,
    load_groups,
    read_text_lists,
    write_groups,
)
from diptych.audits.labels.phrasings import neighbours, phrasings, with_typos
from diptych.audits.labels.wording import audit_wording
from diptych.audits.limits import annotated, digits, text_overlay, typographic
from diptych.audits.limits.digits import audit_digits
from diptych.audits.limits.domains import audit_domains
from diptych.audits.limits.fine_grained import audit_fine_grained
from diptych.audits.limits.typographic import audit_typographic
from diptych.datasets import load_labelled
from diptych.errors import DataError, InputError
from tests.audits.limit_toys import Planted, blind, noise, one_hot
from tests.toys import COLOURS, ToyEncoder, picture, picture_bytes, tar_bytes


def pack(tmp_path, files, name="pack"):
    path = tmp_path / f"{name}.tar"
    path.write_bytes(tar_bytes(files))
    return path


@pytest.fixture
def colours(tmp_path):
    """Twenty pictures of each of three colours, one of them broken."""
    files = {f"{name}/{i}.png": picture_bytes(name) for name in ("red", "green", "blue") for i in range(20)}
    files["red/3.png"] = b"broken"
    return load_labelled(pack(tmp_path, files))


# ---- digits ----


@pytest.fixture(autouse=True)
def one_font(monkeypatch):
    """Use only the font that is always installed: other fonts differ between machines."""
    monkeypatch.setattr(digits, "_FONTS", ())


def renders():
    """Every rendered picture and its digit."""
    return {way.draw(str(digit)).tobytes(): digit for way in digits.render_styles() for digit in range(10)}


def test_who_reads_print_but_no_handwriting(tmp_path) -> None:
    known = renders()
    rng = np.random.default_rng(0)
    files = {}
    for index in range(60):
        Image.fromarray(rng.integers(0, 255, (28, 28), dtype=np.uint8)).save(tmp_path / "x.png")
        files[f"{('zero', '1', '2')[index % 3]}/{index}.png"] = (tmp_path / "x.png").read_bytes()
    hand = load_labelled(pack(tmp_path, files))

    def see(image):
        content = image.tobytes()
        return one_hot(known[content], 10) if content in known else noise(content, 10)

    reader = Planted(10, see, lambda text: one_hot(int(re.findall("[0-9]", text)[0]), 10))
    result = audit_digits(reader, hand)
    assert result.rendered.value == 1.0
    assert result.handwritten is not None
    assert result.verdicts["handwritten"] in ("at", "not enough to say")
    assert result.handwritten.n == 60
    assert np.array_equal(result.confusion_rendered, np.eye(10))
    assert "Rendered ones are read better than" in result.report().sections[0].text[-1]
    assert {"plain font", "small", "upright", "dark", "light", "like MNIST"} <= set(result.ways)
    alone = audit_digits(blind())
    assert alone.handwritten is None
    assert alone.rendered.value == pytest.approx(0.1)
    assert "are not read" in alone.report().sections[0].text[0]


def test_other_fonts_and_words(tmp_path) -> None:
    (tmp_path / "no.ttf").write_bytes(b"no font")
    with pytest.raises(InputError, match=r"no\.ttf cannot be read as a font"):
        audit_digits(blind(), fonts=[tmp_path / "no.ttf"])
    requests = []
    encoder = Planted(
        4, lambda image: np.ones(4, np.float32), lambda text: requests.append(text) or np.ones(4)
    )
    audit_digits(encoder, words=True)
    assert 'a photo of the number: "three".' in requests
    files = {"0/0.png": picture_bytes("red"), "12/0.png": picture_bytes("red")}
    with pytest.raises(InputError, match="a class 12"):
        audit_digits(blind(), load_labelled(pack(tmp_path, files)))


def test_rendered_digits_differ_and_turn() -> None:
    assert len(renders()) == 10 * len(digits.render_styles())
    upright = np.asarray(text_overlay.text_image("6", 64, size=0.7)).astype(int)
    turned = np.asarray(text_overlay.text_image("6", 64, size=0.7, turn=90)).astype(int)
    assert abs(np.rot90(upright, -1) - turned).mean() < 8  # clockwise
    assert abs(upright - turned).mean() > 20
    light = np.asarray(text_overlay.text_image("6", 64, size=0.7, light=True)).astype(int)
    assert abs(255 - light - upright).mean() < 1


# ---- fine ----


def hue_encoder():
    """An encoder that reads the hue and ignores the brightness, in pictures and in texts."""

    def see(image):
        return one_hot(int(np.asarray(image).reshape(-1, 3).mean(0).argmax()), 3)

    return Planted(
        3, see, lambda text: one_hot(("red" in text, "green" in text, "blue" in text).index(True), 3)
    )


@pytest.fixture
def shades(tmp_path):
    """Two shades of each of three hues."""
    files = {
        f"{shade} {hue}/{i}.png": picture_bytes(tuple(value * (channel == place) for channel in range(3)))
        for place, hue in enumerate(("red", "green", "blue"))
        for shade, value in (("dark", 90), ("light", 230))
        for i in range(20)
    }
    return load_labelled(pack(tmp_path, files))


GROUPS = {hue: [f"dark {hue}", f"light {hue}"] for hue in ("red", "green", "blue")}


@pytest.mark.parametrize("groups", [GROUPS, None])
def test_near_classes_are_told_from_distant_ones_only(shades, groups) -> None:
    result = audit_fine_grained(hue_encoder(), shades, groups=groups, count=3)
    assert sorted(map(sorted, result.groups.values())) == sorted(GROUPS.values())
    assert result.everything.value == pytest.approx(0.5)
    assert result.group_right.value == pytest.approx(1.0)
    assert (result.near.value, result.near_chance) == (pytest.approx(0.5), 0.5)
    assert result.distant.value == pytest.approx(1.0)
    assert result.cost.value == pytest.approx(0.5)
    assert result.group_chance == pytest.approx(1 / 3)
    assert result.errors_inside is not None
    assert result.errors_inside.value == 1.0
    assert result.errors_inside_chance == pytest.approx(1 / 5)
    assert {item[:2] for item in result.confused} <= {
        ("light red", "dark red"),
        ("light green", "dark green"),
        ("light blue", "dark blue"),
    }
    message = " ".join(result.report().sections[0].text)
    assert "Similar classes cost 0.500" in message
    assert "does not distinguish the classes of these groups" in message
    assert ("this model's own" in message) == (groups is None)


def test_groups_that_hold_most_classes_get_as_many_distant_ones_as_there_are(shades) -> None:
    result = audit_fine_grained(hue_encoder(), shades, groups={"warm": [*GROUPS["red"], *GROUPS["green"]]})
    # Four classes in the group, two outside: each is compared among three, its own and two others.
    assert result.near_chance == pytest.approx(1 / 4)
    assert result.distant_chance == pytest.approx(1 / 3)
    assert result.distant.value == pytest.approx(1.0)
    assert 0.2 < result.cost.value < 0.5  # two of three draws contain the other shade: 1 - 2/3 on average
    assert result.near.n == 80
    assert result.everything.n == 120


def test_groups_are_checked(shades, tmp_path) -> None:
    with pytest.raises(DataError, match="'pink' of group 'warm' is not a class"):
        audit_fine_grained(hue_encoder(), shades, groups={"warm": ["pink"]})
    with pytest.raises(DataError, match="in two groups"):
        class_indices({"a": ["x", "y"], "b": ["y"]}, ["x", "y"])
    with pytest.raises(InputError, match="none that holds all"):
        audit_fine_grained(hue_encoder(), shades, groups={"all": list(shades.class_names)})
    with pytest.raises(InputError, match="0 groups of two or more"):
        audit_fine_grained(hue_encoder(), shades, groups={"one": ["dark red"]})
    write_groups(tmp_path / "g.json", GROUPS)
    assert load_groups(tmp_path / "g.json") == GROUPS


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    )
)
def test_whatever_json_holds(tmp_path_factory, told) -> None:
    path = tmp_path_factory.getbasetemp() / "told.json"
    path.write_text(json.dumps(told), encoding="utf-8")
    with contextlib.suppress(DataError):
        result = read_text_lists(path, "group -> classes")
        assert result
        assert all(isinstance(item, str) for texts in result.values() for item in texts)


def test_near_groups_on_planted_clusters() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 16))
    rows = np.concatenate([centre + 0.1 * rng.normal(size=(5, 16)) for centre in centres]).astype(np.float32)
    rows += 3.0  # what all classes have in common must not matter
    order = rng.permutation(20)
    result = group_similar_classes(rows[order], 4)
    assert sorted(sorted(order[group].tolist()) for group in result) == [
        list(range(i, i + 5)) for i in (0, 5, 10, 15)
    ]
    assert group_similar_classes(rows, 20) == [[i] for i in range(20)]
    with pytest.raises(InputError):
        group_similar_classes(rows, 21)


# ---- wording ----


def test_words_that_are_known_and_words_that_are_not(colours) -> None:
    encoder = ToyEncoder()
    result = audit_wording(
        encoder, colours, synonyms={"red": ["crimson"], "green": ["green"]}, misspellings=2
    )
    by_name = {item.name: item for item in result.worded}
    assert result.plain.value == 1.0
    assert by_name["ALL IN CAPITALS"].accuracy.value == 1.0
    assert result.verdicts["plural"] == "below"
    assert result.verdicts["ALL IN CAPITALS"] == "at"  # 59 answers are the same
    assert by_name["plural"].accuracy.value < 0.5  # the toy encoder does not know "reds" as a colour
    assert by_name["synonym 1"].example == "a photo of a blue."
    assert result.worst.accuracy.value <= by_name["plural"].accuracy.value
    assert result.spread.value == pytest.approx(1.0 - result.worst.accuracy.value)
    assert result.families["sentence"] == (1.0, 1.0, 1.0)
    # The plain phrasing is above chance, but it is not better than itself.
    assert result.verdicts["a photo of a {}."] == "above"
    assert "better than the plain one" not in " ".join(result._sections()[0].text)
    assert result.worded[0].moved == result.worded[0].change.value == 0.0
    assert result.failures[0].key == "red/3.png"
    assert sum(count for kind, count in encoder.calls if kind == "images") == 59  # exactly once
    assert len(by_name) == len(result.worded)
    with pytest.raises(DataError, match="'pink'"):
        audit_wording(encoder, colours, synonyms={"pink": ["rose"]})


def test_wording_of_a_blind_model_moves_nothing(colours) -> None:
    result = audit_wording(blind(), colours, misspellings=1)
    assert [item.accuracy.value for item in result.worded] == pytest.approx([1 / 3] * len(result.worded))
    assert result.report().sections[0].title == "Read this first"
    assert "plain phrasing is not above chance" in result.report().sections[0].text[0]
    assert result.to_dict()["failed_controls"] == result.failed_controls


def distance_of(a, b):
    """Edit distance with swaps (optimal string alignment)."""
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    table[:, 0], table[0] = range(len(a) + 1), range(len(b) + 1)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            table[i, j] = min(
                table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a[i - 1] != b[j - 1])
            )
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                table[i, j] = min(table[i, j], table[i - 2, j - 2] + 1)
    return table[-1, -1]


@given(st.text("abcdefgqzXYé -4", min_size=1, max_size=9), st.integers(1, 2), st.integers(0, 5))
def test_misspellings_are_that_many_slips_away(name: str, edits: int, seed: int) -> None:
    text = with_typos(name, edits, np.random.default_rng(seed))
    assert distance_of(name, text) <= edits + 1  # two misspellings at one position may count as three edits
    if edits == 1:
        assert distance_of(name, text) <= 1
    assert text == with_typos(name, edits, np.random.default_rng(seed))
    if sum(letter in "abcdefgqzXY" for letter in name) > 1:
        assert text != name


def test_neighbours_are_mutual() -> None:
    letters = "qwertyuiopasdfghjklzxcvbnm"
    for letter in letters:
        assert neighbours(letter)
        assert all(letter in neighbours(other) for other in neighbours(letter))
    assert neighbours("G") == "TYFHVB"


def test_phrasings_are_the_same_for_one_seed() -> None:
    names = ["airplane", "dog"]
    assert phrasings(names) == phrasings(names)
    assert phrasings(names) != phrasings(names, seed=1)
    assert all(len(item.texts) == 2 for item in phrasings(names))


# ---- domains ----


def test_a_domain_that_is_not_seen(tmp_path) -> None:
    files = {}
    for name in ("red", "green"):
        for i in range(60):
            files[f"pacs/photo/{name}/{i}.png"] = picture_bytes(name)
            files[f"pacs/sketch/{name}/{i}.png"] = picture_bytes((127, 127, 127))
    files["pacs/sketch/red/x.png"] = b""
    path = pack(tmp_path, files)
    actual = audit_domains(
        ToyEncoder(), {item: load_labelled(path, domain=item) for item in ("photo", "sketch")}
    )
    photo, sketch = actual.domains["photo"], actual.domains["sketch"]
    assert (actual.best, photo.accuracy.value, sketch.accuracy.value) == ("photo", 1.0, pytest.approx(0.5))
    assert sketch.gap.value == pytest.approx(0.5)
    assert sketch.lower == actual.verdicts["gap sketch"] == "above"
    assert photo.recalls == {"green": 1.0, "red": 1.0}
    assert [item.key for item in actual.failures] == ["pacs/sketch/red/x.png"]
    first, result = actual.report().sections[:2]
    assert first.text == ["Not above chance, so the classes are not recognised there: sketch."]
    assert "Lower than the best: sketch." in result.text
    with pytest.raises(InputError, match="at least two"):
        audit_domains(ToyEncoder(), {"photo": load_labelled(path, domain="photo")})


# ---- typographic ----


def victim(names, side=96):
    """An encoder that reads the text written on pictures of one colour; for others it reads the colour."""
    read = {}
    for colour in names:
        base = text_overlay.enlarge(picture(colour), side)
        for name in names:
            for size in typographic.SIZES:
                for place in text_overlay.POSITIONS:
                    read[text_overlay.draw_text(base, name, size=size, position=place).tobytes()] = name

    def see(image):
        if image.tobytes() in read:
            return one_hot(names.index(read[image.tobytes()]), len(names))
        corners = [image.getpixel((x, y)) for x in (0, -1 % image.width) for y in (0, image.height // 3)]
        return one_hot(next(i for i, name in enumerate(names) if COLOURS[name] in corners), len(names))

    return Planted(
        len(names), see, lambda text: one_hot(next(i for i, n in enumerate(names) if n in text), len(names))
    )


def test_a_victim_follows_the_word_and_not_the_letters(colours) -> None:
    result = audit_typographic(victim(["red", "green", "blue"]), colours)
    assert result.clean.value == 1.0
    assert result.clean.n == 59
    for size in typographic.SIZES:
        assert result.attacks["wrong name"][size].accuracy.value == 0.0
        assert result.attacks["wrong name"][size].follows.value == 1.0
        assert result.attacks["random letters"][size].accuracy.value == 1.0
        assert result.attacks["right name"][size].accuracy.value == 1.0
    assert result.report().sections[0].text[0].startswith("Vulnerable")
    assert {item.value for item in result.places.values()} == {1.0}
    assert set(result.places) == set(text_overlay.POSITIONS)
    assert [item.key for item in result.failures] == ["red/3.png"]


def test_who_sees_colours_only_is_no_victim(colours) -> None:
    result = audit_typographic(ToyEncoder(), colours, sizes=[0.1])
    assert result.attacks["wrong name"][0.1].accuracy.value == 1.0
    assert result.failed_controls == []
    assert result.report().sections[0].text[0].startswith("Not vulnerable")
    again = audit_typographic(ToyEncoder(), colours, sizes=[0.1])
    assert again.to_dict() == result.to_dict()
    assert len(result.samples) == 6
    with pytest.raises(InputError, match="sizes between 0 and 1"):
        audit_typographic(ToyEncoder(), colours, sizes=[16])


def test_letters_that_cover_are_no_words_that_are_followed(tmp_path) -> None:
    # Any text on the picture confuses it, in no particular direction: each answer gets a third.
    names = ["red", "green", "blue"]
    files = {
        f"{c}/{i}.png": picture_bytes(tuple(v - i for v in COLOURS[c])) for c in names for i in range(20)
    }
    clean = {}
    for c in names:
        for i in range(20):
            base = text_overlay.enlarge(picture(tuple(v - i for v in COLOURS[c])), 96)
            clean[base.tobytes()] = names.index(c)

    def see(image):
        content = image.tobytes()
        return one_hot(clean[content], 3) if content in clean else noise(content, 3)

    lost = Planted(3, see, lambda text: one_hot(next(i for i, n in enumerate(names) if n in text), 3))
    result = audit_typographic(lost, load_labelled(pack(tmp_path, files)), sizes=[0.3])
    assert result.clean.value == 1.0
    assert result.attacks["wrong name"][0.3].gained.low > 0  # more answers with the written name
    assert result.verdicts["a wrong name of 30% is followed"] != "above"
    assert "Vulnerable" not in result.report().sections[0].text[0]


def test_what_is_written_stays_inside_and_covers_little() -> None:
    base = Image.new("RGB", (120, 60), "red")
    for place in text_overlay.POSITIONS:
        written = np.asarray(
            text_overlay.draw_text(base, "a very long name of a class", size=0.3, position=place)
        )
        changed = (written != np.asarray(base)).any(axis=2)
        assert written.shape == (60, 120, 3)
        assert 0.02 < changed.mean() < 0.31
        rows = np.flatnonzero(changed.any(axis=1))
        assert (rows.min() == 0) == (place == "top")
        assert (rows.max() == 59) == (place == "bottom")
    with pytest.raises(InputError, match="top, middle, bottom"):
        text_overlay.draw_text(base, "x", size=0.1, position="left")


def test_small_pictures_are_enlarged_before_they_are_written_on() -> None:
    assert text_overlay.enlarge(picture("red", (16, 12)), 96).size == (128, 96)
    assert text_overlay.enlarge(picture("red", (200, 100)), 96).size == (200, 100)


# ---- CLEVR and KITTI ----


def clevr(tmp_path, scenes):
    home = tmp_path / "CLEVR_v1.0"
    (home / "scenes").mkdir(parents=True)
    (home / "images" / "val").mkdir(parents=True)
    messages = []
    for index, depths in enumerate(scenes):
        name = f"CLEVR_val_{index:06}.png"
        (home / "images" / "val" / name).write_bytes(picture_bytes((index, 0, 0)))
        messages.append(
            {"image_filename": name, "objects": [{"pixel_coords": [9, 9, depth]} for depth in depths]}
        )
    messages.append({"image_filename": "gone.png", "objects": [{"pixel_coords": [1, 1, 1]}]})
    (tmp_path / "outside.png").write_bytes(b"not to be read")
    outside = "../" * len((tmp_path / "x" / "images" / "val").relative_to(tmp_path).parts) + "outside.png"
    for name in (outside, str(tmp_path / "outside.png")):
        messages.append({"image_filename": name, "objects": [{"pixel_coords": [1, 1, 1]}]})
    (home / "scenes" / "CLEVR_val_scenes.json").write_text(json.dumps({"scenes": messages[::-1]}))
    return home


def test_clevr_as_it_is_handed_out(tmp_path) -> None:
    home = clevr(tmp_path, [[9.2, 12.0, 8.0], [10.5, 11.0, 12.0, 13.0], [8.4, 9.0, 9.0]])
    counted = annotated.clevr_counts(home)
    assert (counted.class_names, counted.labels.tolist()) == (("3", "4"), [0, 1, 0])
    assert [data for _, data in counted] == [picture_bytes((i, 0, 0)) for i in range(3)]  # labels by position
    far = annotated.clevr_distances(home)
    assert far.labels.tolist() == [0, 5, 1]  # (0, 8] is the first bin, as in the benchmark
    (home / "scenes" / "CLEVR_val_scenes.json").write_text('{"scenes": [{"objects": 3}]}')
    with pytest.raises(DataError, match="CLEVR"):
        annotated.clevr_counts(home)
    with pytest.raises(DataError, match=r"CLEVR_v1\.0 with"):
        annotated.clevr_counts(tmp_path)


def test_kitti_as_it_is_handed_out(tmp_path) -> None:
    line = "{} 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 {} -1.59"
    labels = [
        [("Car", 7.0), ("Car", 30.0)],
        [("Pedestrian", 3.0)],
        [("Van", 15.0)],
        [("Truck", 25.0), ("DontCare", -1)],
    ]
    for index, things in enumerate(labels):
        for folder, content in (
            ("label_2", "\n".join(line.format(*item) for item in things).encode()),
            ("image_2", picture_bytes("red")),
        ):
            path = tmp_path / "training" / folder / f"{index:06}.{'txt' if folder == 'label_2' else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    result = annotated.kitti_distances(tmp_path)
    assert result.labels.tolist() == [0, 3, 1, 2]
    assert len(result.class_names) == 4
    assert "no car" in result.class_names[3]
    assert len(list(result)) == 4
    (tmp_path / "training" / "label_2" / "000000.txt").write_text("Car 1 2 3")
    with pytest.raises(DataError, match="not a KITTI label line"):
        annotated.kitti_distances(tmp_path)
    with pytest.raises(DataError, match="holds no KITTI pictures"):
        annotated.kitti_distances(tmp_path / "training" / "image_2")


@given(st.text(max_size=40))
def test_whatever_a_label_file_holds(text: str) -> None:
    with contextlib.suppress(DataError):
        assert annotated.kitti_class("Car " + text) in range(4)
