"""Model cards and reports of results: all measured metrics, weak results named, other models refused."""

from __future__ import annotations

import pytest

from diptych.errors import DataError
from diptych.evaluation import Result
from diptych.evaluation.results.card import model_card
from diptych.evaluation.results.results_report import results_report

FACTS = {"name": "mine", "identity": "sha256:1", "licence": "MIT", "parameters": {"all": 1200}}


def result(value: float, low: float, high: float, **more: object) -> Result:
    fields: dict[str, object] = {
        "dataset": "toys|set",
        "task": "zeroshot_classification",
        "metrics": {"acc1": value},
        "chance": {"acc1": 0.25},
        "intervals": {"acc1": (low, high)},
        "n": 1000,
        "identity": "sha256:1",
        "data_fingerprint": "sha256:2",
        "command": "diptych evaluate zero-shot toys.tar",
    }
    return Result(**{**fields, **more})  # type: ignore[arg-type]


def test_a_card_has_figures_chance_and_open_questions() -> None:
    card = model_card(FACTS, [result(0.5, 0.4, 0.6)], notes={"Intended use": "Sorting toys."})
    assert "| toys\\|set | acc1 | 0.500 | 0.400 to 0.600 | 0.250 | 1,000 |" in card
    assert "`diptych evaluate zero-shot toys.tar`" in card
    assert "Sorting toys." in card
    assert card.count("*Not written yet.") == 2
    assert card.startswith('---\nlicense: "MIT"\n')
    assert "Not shown to be better than chance" not in card


def test_a_card_says_what_is_a_sample() -> None:
    card = model_card(FACTS, [result(0.5, 0.4, 0.6, n=200, sampled_from=5000)])
    assert "| 0.250 | 200 of 5,000 |" in card


def test_a_card_names_what_is_no_better_than_chance() -> None:
    assert "Not shown to be better than chance: toys\\|set" not in model_card(FACTS, [result(0.5, 0.4, 0.6)])
    assert "Not shown to be better than chance: toys|set (acc1)." in model_card(
        FACTS, [result(0.3, 0.2, 0.4)]
    )


def test_a_card_takes_no_result_of_another_model() -> None:
    with pytest.raises(DataError, match="sha256:9"):
        model_card(FACTS, [result(0.5, 0.4, 0.6, identity="sha256:9")])
    with pytest.raises(DataError, match="at least one"):
        model_card(FACTS, [])


def test_the_report_says_plainly_what_is_at_chance() -> None:
    weak, good = result(0.3, 0.2, 0.4), result(0.5, 0.4, 0.6, dataset="others")
    assert results_report([weak, good]).sections[0].text == [
        "Not shown to be better than chance in naming: toys|set."
    ]
    assert results_report([good]).sections[0].text == []
    assert [row[3].value for row in results_report([weak, good]).tables["results"].rows] == [0.3, 0.5]


def test_results_of_one_name_keep_files_of_their_own() -> None:
    single = result(0.5, 0.4, 0.6, per_class={"dog": 0.5})
    other = result(0.4, 0.3, 0.5, per_class={"dog": 0.4}, dataset="TOYS|SET")
    names = [name for name in results_report([single, single, other]).tables if name != "results"]
    assert len({name.casefold() for name in names}) == 3


def test_what_a_model_costs_stands_beside_its_figures() -> None:
    costs = {"parameters": 151_300_000, "image_flops": 8.8e9, "text_flops": None}
    single = result(0.5, 0.4, 0.6, model="mine", cost=costs)
    message = "151.3 million parameters, 8.8 GFLOPs a picture."
    assert f"Cost of mine: {message}" in results_report([single, single]).sections[0].text
    assert f"Cost: {message}" in model_card(FACTS, [single])
    assert "Cost" not in model_card(FACTS, [result(0.5, 0.4, 0.6)])
    assert Result.from_dict(single.to_dict()).cost == costs


def test_a_protocol_asks_the_encoder_what_it_costs() -> None:
    from diptych.encoder import EncoderCost
    from diptych.evaluation.protocols.settings import Setup
    from tests.toys import ToyEncoder

    class Costed(ToyEncoder):
        def cost(self) -> EncoderCost:
            return EncoderCost(12, 1e9, 2e9)

    assert (
        Setup()
        .facts(Costed())["Model cost"]
        .endswith("1.0 GFLOPs a picture, 2.0 GFLOPs a text of full length")
    )
    assert "Model cost" not in Setup().facts(ToyEncoder())


def test_many_results_are_not_better_than_chance_by_their_number() -> None:
    single = result(0.3, 0.255, 0.35, dataset="d0")  # above chance, 0.25, at level 0.05 but not at 0.05 / 20
    assert results_report([single]).sections[0].text == []
    many = [result(0.3, 0.255, 0.35, dataset=f"d{i}") for i in range(20)]
    assert "Not shown to be better than chance in naming: d0, d1" in results_report(many).sections[0].text[0]
    assert "Not shown to be better than chance: d0 (acc1), d1" in model_card(FACTS, many)
