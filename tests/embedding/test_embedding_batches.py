"""The embedding stream: order, failures, bounded prefetching, clean shutdown."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diptych.embedding import batches as embedding
from diptych.embedding.batches import Embedded, Failed, collect, embed_images, embed_texts
from diptych.encoder import Encoder
from diptych.errors import ImageError, InputError
from diptych.inputs import LongTextWarning, TokenizerConfig, load_tokenizer
from tests.toys import COLOURS, ToyEncoder, picture, picture_bytes
from tests.waiting import wait_until


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_the_toy_is_an_encoder_with_unit_rows() -> None:
    encoder = ToyEncoder()
    assert isinstance(encoder, Encoder)
    rows = np.concatenate([encoder.encode_images([picture("red")]), encoder.encode_texts(["a red car", "x"])])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    assert rows[0] @ rows[1] > 0.99
    assert encoder.encode_texts([]).shape == (0, encoder.dim)


class Reader(ToyEncoder):
    """A toy encoder with a context length of eight tokens."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        load_tokenizer(TokenizerConfig(context_length=8))(texts)
        return super().encode_texts(texts)


def test_long_texts_are_told_of_once_for_all_batches() -> None:
    texts = ["red", "a very long text about a red car and a road", "green", "blue " * 9, "white"]
    with pytest.warns(LongTextWarning, match=r"^2 of 5 texts .* the first is text 1 with 13") as caught:
        assert embed_texts(Reader(), texts, batch_size=2).shape == (5, 4)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_strict_raises_what_the_picture_raised() -> None:
    items = [("red", picture_bytes("red")), ("none", b"no picture"), ("blue", picture_bytes("blue"))]
    with pytest.raises(ImageError):
        list(embed_images(ToyEncoder(), items, strict=True))
    assert not decoders()


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("threads", [1, 4])
def test_one_result_per_item_in_order(batch_size: int, threads: int) -> None:
    names = list(COLOURS) * 3
    items = [(f"{i}", picture_bytes(name)) for i, name in enumerate(names)]
    items[4] = ("4", b"")
    items[9] = ("9", b"no picture at all")
    items[10] = ("10", picture_bytes("red")[:45])
    results = list(embed_images(ToyEncoder(), items, batch_size=batch_size, threads=threads))
    assert [result.key for result in results] == [key for key, _ in items]
    assert [result.key for result in results if isinstance(result, Failed)] == ["4", "9", "10"]
    assert all(result.reason for result in results if isinstance(result, Failed))
    expected = ToyEncoder().encode_images([picture(name) for name in names])
    for result, row in zip(results, expected, strict=True):
        if isinstance(result, Embedded):
            np.testing.assert_allclose(result.vector, row, atol=1e-6)


def test_a_stream_of_failures_only_and_an_empty_stream() -> None:
    encoder = ToyEncoder()
    result = collect(embed_images(encoder, [("a", b""), ("b", b"x")], batch_size=1), encoder.dim)
    assert result.vectors.shape == (0, 4)
    assert [failure.key for failure in result.failures] == ["a", "b"]
    assert not encoder.calls
    assert list(embed_images(encoder, [])) == []


def test_a_failing_encoder_stops_the_run() -> None:
    class Broken(ToyEncoder):
        def encode_images(self, images):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(embed_images(Broken(), [("a", picture("red"))] * 50, batch_size=4))
    assert not decoders()


def test_rows_lost_by_the_encoder_are_not_assigned_to_other_pictures() -> None:
    class Short(ToyEncoder):
        def encode_images(self, images):
            return super().encode_images(images[1:])

        def encode_texts(self, texts):
            return super().encode_texts(texts[1:])

    with pytest.raises(InputError, match="1 rows for 2 items"):
        list(embed_images(Short(), [("a", picture("red")), ("b", picture("blue"))]))
    with pytest.raises(InputError, match="0 rows for 1 items"):
        embed_texts(Short(), ["a"])


def test_items_are_taken_no_further_ahead_than_promised() -> None:
    taken = 0

    def items() -> Iterator[tuple[str, Image.Image]]:
        nonlocal taken
        for i in range(1000):
            taken += 1
            yield str(i), picture("red")

    stream = embed_images(ToyEncoder(), items(), batch_size=8, threads=2)
    next(stream)
    assert 8 <= taken <= 8 + 8 + 2
    stream.close()
    assert taken <= 18
    assert not decoders()


def test_large_pictures_are_held_by_pixels_not_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "PIXEL_BUDGET", 2500)
    taken = 0

    def items() -> Iterator[tuple[str, Image.Image]]:
        nonlocal taken
        for i in range(100):
            taken += 1
            yield str(i), picture("red", (100, 10))  # 1,000 pixels

    encoder = ToyEncoder()
    stream = embed_images(encoder, items(), batch_size=64, threads=1)
    next(stream)
    assert encoder.calls == [("images", 3)]
    assert taken <= 3 + 2 + 1
    stream.close()


def test_stopping_early_waits_for_no_more_than_what_runs() -> None:
    seen = []

    def items() -> Iterator[tuple[str, bytes]]:
        try:
            for i in range(10**6):
                yield str(i), picture_bytes("red")
        finally:
            seen.append("closed")

    source = items()
    for result in embed_images(ToyEncoder(), source, batch_size=2, threads=2):
        assert isinstance(result, Embedded)
        break
    source.close()
    wait_until(lambda: not decoders(), "the threads that decode have ended")
    assert seen == ["closed"]


def test_an_error_of_the_items_themselves_is_raised() -> None:
    def items() -> Iterator[tuple[str, Image.Image]]:
        yield "a", picture("red")
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(embed_images(ToyEncoder(), items()))
    assert not decoders()


def test_progress_counts_every_item_once() -> None:
    steps: list[int] = []
    items = [(str(i), b"" if i % 3 else picture_bytes("red")) for i in range(11)]
    list(embed_images(ToyEncoder(), items, batch_size=4, progress=steps.append))
    assert steps == [4, 4, 3]
    steps.clear()
    embed_texts(ToyEncoder(), map(str, range(5)), batch_size=2, progress=steps.append)
    assert steps == [2, 2, 1]


def test_exact_decides_what_the_encoder_sees() -> None:
    sizes: list[tuple[int, int]] = []

    class Sizes(ToyEncoder):
        def encode_images(self, images):
            sizes.extend(image.size for image in images)
            return super().encode_images(images)

    buffer = io.BytesIO()
    picture("red", (512, 256)).save(buffer, "JPEG")
    for exact in (True, False):
        list(embed_images(Sizes(), [("a", buffer.getvalue())], exact=exact))
    assert sizes[0] == (512, 256)
    assert 16 <= min(sizes[1]) < 256


def test_texts_in_order_and_none() -> None:
    texts = [f"a {name} thing" for name in COLOURS]
    np.testing.assert_array_equal(
        embed_texts(ToyEncoder(), iter(texts), batch_size=4), ToyEncoder().encode_texts(texts)
    )
    assert embed_texts(ToyEncoder(), []).shape == (0, 4)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"threads": 0}])
def test_settings_are_checked_when_called(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected 1 or more"):
        embed_images(ToyEncoder(), [], **wrong)
    with pytest.raises(InputError, match="batch_size"):
        embed_texts(ToyEncoder(), [], batch_size=0)
