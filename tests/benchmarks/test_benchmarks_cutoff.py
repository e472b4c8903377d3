"""Queries of the cut-off benchmark: read as written, and labelled by the words of captions."""

from __future__ import annotations

import cutoff

CAPTIONS = [["A dog runs.", "Snow everywhere."], ["A dog in the snow.", "A whale-watching boat."], ["A bat."]]


def query(line: str, folder: object) -> cutoff.Query:
    path = folder / "queries.txt"  # type: ignore[operator]
    path.write_text(f"# a head\n\n{line}\n", encoding="utf-8")
    (only,) = cutoff.read_queries(path)
    return only


def test_a_picture_has_a_query_if_one_caption_has_every_word(tmp_path: object) -> None:
    both = query("+ a dog in snow | dog/dogs snow*", tmp_path)
    assert (both.text, both.present) == ("a dog in snow", True)
    assert both.pictures(CAPTIONS) == [1]


def test_words_are_whole_words(tmp_path: object) -> None:
    assert not query("- a whale | whale", tmp_path).mentioned(CAPTIONS)
    assert query("- a whale | whale*", tmp_path).mentioned(CAPTIONS)
    assert not query("- a ball | ba", tmp_path).mentioned(CAPTIONS)
    assert query("- a circuit or a bat | circuit bat/bats", tmp_path).mentioned(CAPTIONS)


def test_the_queries_that_ship_are_many_and_different() -> None:
    queries = cutoff.read_queries(cutoff.QUERIES)
    texts = [item.text for item in queries]
    assert len(set(texts)) == len(texts)
    assert sum(item.present for item in queries) > 80
    assert sum(not item.present for item in queries) > 200
    assert all(item.words for item in queries)
