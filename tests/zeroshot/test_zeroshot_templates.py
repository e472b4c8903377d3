"""Prompt templates and class names: contents, expansion, errors."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import TextError
from diptych.zeroshot import TEMPLATES, class_names, class_texts, expand, folder_names


def test_every_set_of_the_paper_is_there() -> None:
    paper = set(TEMPLATES) - {"plain", "bare", "imagenet7", "imagenet80"}
    assert len(paper) == 27
    sizes = {"imagenet": (1000, 80), "cifar10": (10, 18), "caltech101": (102, 34), "ucf101": (101, 48)}
    for name, (classes, templates) in sizes.items():
        assert (len(class_names(name)), len(TEMPLATES[name])) == (classes, templates)
    assert TEMPLATES["imagenet80"] == TEMPLATES["imagenet"]
    assert set(TEMPLATES["imagenet7"]) <= set(TEMPLATES["imagenet80"])
    assert len(list(TEMPLATES)) == len(TEMPLATES)


def test_every_template_takes_a_name() -> None:
    for name, templates in TEMPLATES.items():
        assert all(template.count("{}") == 1 for template in templates), name


@pytest.mark.shared
def test_wording_is_the_papers(shared) -> None:
    source = json.loads((shared / "data/imagenet_classes_templates.json").read_text())
    assert list(TEMPLATES["imagenet"]) == source["templates"]
    assert list(class_names("imagenet")) == source["classes"]
    assert folder_names("imagenet") == dict(zip(source["wnids"], source["classes"], strict=True))
    prompts = (shared / "data/prompts.md").read_text()
    for name in set(TEMPLATES) - {"plain", "bare", "imagenet7", "imagenet80", "imagenet"}:
        for text in (*TEMPLATES[name], *(text for texts in class_texts(name) for text in texts)):
            assert repr(text) in prompts or f"'{text}'" in prompts or f'"{text}"' in prompts, (name, text)


def test_folders_without_a_table_are_named_like_the_class() -> None:
    assert folder_names("cifar10")["frog"] == "frog"
    assert folder_names("caltech101")["Faces"] == "off-center face"


@given(st.lists(st.text(max_size=12), max_size=5), st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_expansion_is_name_major_and_verbatim(names: list[str], frames: list[str]) -> None:
    templates = [frame.replace("{}", "") + "<{}>" for frame in frames]
    prompts = expand(names, templates)
    assert len(prompts) == len(names) * len(templates)
    for i, prompt in enumerate(prompts):
        name, template = names[i // len(templates)], templates[i % len(templates)]
        assert prompt == template.replace("{}", name)
        assert prompt.endswith(f"<{name}>")
    assert expand(names, None) == names


def test_braces_in_a_name_stay() -> None:
    assert expand(["a {0} {x} set"], "plain") == ["a photo of a a {0} {x} set."]
    assert expand(["dog"], "just one {}") == ["just one dog"]


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ("imagenet79", "did you mean imagenet"),
        ("nonsense", "there are plain"),
        ([], "no template"),
        (["x"], "{}"),
    ],
)
def test_templates_that_are_none(templates, message: str) -> None:
    with pytest.raises(TextError, match=message):
        expand(["dog"], templates)


def test_unknown_data_sets_list_the_known() -> None:
    with pytest.raises(TextError, match="did you mean cifar10"):
        class_names("cifar-10")


def test_a_set_of_templates_names_no_classes() -> None:
    with pytest.raises(
        TextError, match=r"'plain', which is a set of templates without class names"
    ) as caught:
        class_names("plain")
    assert "did you mean" not in str(caught.value)
    assert "imagenet80" not in str(caught.value)  # a name that has templates only
