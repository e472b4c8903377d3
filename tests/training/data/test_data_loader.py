"""The data loader: batches, groups, workers, cache, resuming, bad records."""

import io
import json
import threading
from itertools import chain, islice

import numpy as np
import pytest
import torch

from diptych.errors import DataError
from diptych.inputs import LongTextWarning, TokenizerConfig, load_tokenizer
from diptych.training.data.augment import AugmentConfig
from diptych.training.data.loader import Mixture, PairLoader
from diptych.training.data.reader import PairReader
from diptych.training.data.sources.sources import LabelledTar, TarPairs
from tests.training.data.make_pairs import caption_members, class_members, picture, toy_tokenizer, write_tar

AUGMENT = AugmentConfig(scale=(0.4, 1), flip=0.5, jitter=(0.3, 0.3, 0.3, 0.1), grayscale=0.2, erasing=0.3)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    write_tar(root / "a.tar", caption_members(range(90)))
    write_tar(root / "c.tar.gz", class_members(["ant", "owl", "sea_horse"], 10))
    labelled = LabelledTar(
        root / "c.tar.gz", ("a photo of {a}.", "the {}", "{}!"), exclude=frozenset({"owl"})
    )
    return Mixture(((TarPairs(root / "a.tar"), 1.0), (labelled, 2.5)))


def make(data, **options):
    options = {"batch_size": 16, "image_size": 12, "augment": AUGMENT, "seed": 3, "workers": 2, **options}
    return PairLoader(data, toy_tokenizer, **options)


def same(a, b):
    assert a.keys == b.keys
    assert a.captions == b.captions
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.tokens, b.tokens)
    assert torch.equal(a.groups, b.groups)


def test_labelled_and_captioned_pairs_are_distinguished(mixture):
    batch = next(iter(make(mixture, cache=False).batches(0)))
    is_labelled = [not text.startswith("caption") for text in batch.captions]
    assert {True, False} <= set(is_labelled)
    assert batch.is_labelled.tolist() == is_labelled
    assert torch.equal(batch.negative_groups(by_kind=False), batch.groups)
    assert batch.negative_groups(by_kind=True).tolist() == [
        [group, int(kind)] for group, kind in zip(batch.groups.tolist(), is_labelled, strict=True)
    ]


def test_an_epoch(mixture):
    loader = make(mixture, cache=False)
    batches = list(loader.batches(0))
    assert len(batches) == loader.steps(0) == len(loader.order.epoch(0)) // 16
    first = batches[0]
    assert first.images.shape == (16, 3, 12, 12)
    assert first.images.dtype == torch.float32
    assert first.tokens.shape == (16, 8)
    assert first.tokens.dtype == torch.int64
    assert np.array_equal(first.tokens, toy_tokenizer(first.captions))
    assert first.wait_seconds > 0
    captions = {caption for batch in batches for caption in batch.captions}
    assert any("caption 0" in text for text in captions)
    assert any("caption 2" in text for text in captions)
    assert {"a photo of an ant.", "the ant", "ant!", "the sea horse"} <= captions
    assert not any("owl" in text for text in captions)


def test_pairs_of_one_label_or_caption_share_a_group(mixture):
    for batch in make(mixture).batches(0):
        label = [
            text if "picture" in text else "ant" if "ant" in text else "horse" for text in batch.captions
        ]
        for n, text in enumerate(label):
            assert (batch.groups == batch.groups[n]).tolist() == [other == text for other in label]


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("cache", [True, False])
def test_workers_and_cache_change_nothing(mixture, workers, cache):
    expected = list(make(mixture, workers=1, cache=False).batches(1))
    loader = make(mixture, workers=workers, cache=cache)
    for _ in range(2):  # the second time from the cache
        for a, b in zip(expected, loader.batches(1), strict=True):
            same(a, b)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_going_on_from_any_step_gives_the_same(mixture, workers):
    whole = list(make(mixture).batches(2))
    for step in range(len(whole)):
        rest = make(mixture, workers=workers).batches(2, whole[step].positions)
        for a, b in zip(whole[step + 1 :], rest, strict=True):
            same(a, b)
            assert a.positions == b.positions


def test_the_seed_and_the_epoch_change_everything(mixture):
    first = next(make(mixture).batches(0))
    for other in (next(make(mixture, seed=4).batches(0)), next(make(mixture).batches(1))):
        assert other.keys != first.keys
        assert not torch.equal(other.images, first.images)


def corrupt(members, every=10):
    """Records of which one in ten is bad, in every possible way."""
    bad = [
        ("jpg", b""),
        ("jpg", b"words, not a picture"),
        ("png", picture(1)[:60]),
        ("jpg", picture(2, (60, 60), "JPEG")[:-300]),
        ("jpg", None),
    ]
    out = []
    for n, member in enumerate(members):
        out.append(member)
        if n % (2 * every) == 1:
            suffix, data = bad[(n // (2 * every)) % len(bad)]
            key = f"bad{n}"
            caption = {"captions": ["x"]} if data is not None else {"captions": []}
            out.append((f"{key}.{suffix}", picture(3, kind="JPEG") if data is None else data))
            out.append((f"{key}.json", json.dumps(caption).encode()))
    return out


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("scan", [False, True])
def test_bad_records_change_nothing_but_the_report(tmp_path, workers, scan):
    members = caption_members(range(100))
    (tmp_path / "good").mkdir()
    good = make(Mixture(((TarPairs(write_tar(tmp_path / "good" / "a.tar", members)), 1.5),)))
    loader = make(
        Mixture(((TarPairs(write_tar(tmp_path / "a.tar", corrupt(members))), 1.5),)), workers=workers
    )
    if scan:
        done = []
        loader.scan(done.append)
        assert sum(done) == 110
        assert [loader.steps(epoch) for epoch in range(5)] == [good.steps(epoch) for epoch in range(5)]
    for epoch in range(2):
        batches = list(loader.batches(epoch))
        for a, b in zip(good.batches(epoch), batches, strict=True):
            same(a, b)
        rest = make(loader_data(loader), workers=workers).batches(epoch, batches[2].positions)
        for a, b in zip(batches[3:], rest, strict=True):
            same(a, b)
    assert loader.report.skipped == {"picture cannot be decoded": 8, "no caption": 2}
    assert "bad" in loader.report.examples["no caption"]
    assert "10 records skipped" in str(loader.report)
    assert str(good.report) == "no record skipped"


def loader_data(loader):
    return list(zip(loader.sources, loader.order.repeats, strict=True))


def test_for_validation_everything_is_plain(mixture):
    loader = make(mixture, augment=None, drop_last=False)
    batches = list(loader.batches(0))
    assert len(batches) == loader.steps(0)
    assert sum(len(batch.keys) for batch in batches) == len(loader.order.epoch(0))
    assert all(
        "caption 0" in text or text.startswith("a photo") for batch in batches for text in batch.captions
    )


def test_a_full_cache_is_only_slower(mixture):
    loader = make(mixture, cache=True, cache_budget=5000)
    for a, b in zip(make(mixture).batches(0), loader.batches(0), strict=True):
        same(a, b)
    assert 0 < loader.reader.cache.used <= 5000


def test_automatic_caching_asks_for_room(mixture):
    assert make(mixture).cached
    assert not make(mixture, cache_budget=1000).cached
    with pytest.raises(DataError, match="cache is"):
        make(mixture, cache="yes")


def test_leaving_early_ends_the_threads(mixture):
    before = threading.active_count()
    for _ in islice(make(mixture, workers=4).batches(0), 2):
        pass
    batches = make(mixture, workers=4).batches(0)
    next(batches)
    with pytest.raises(KeyboardInterrupt):
        batches.throw(KeyboardInterrupt())
    assert threading.active_count() == before


def test_a_fault_in_a_worker_reaches_the_caller(mixture, monkeypatch):
    def fail(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(PairReader, "picture", fail)
    before = threading.active_count()
    with pytest.raises(MemoryError, match="no room"):
        list(make(mixture).batches(0))
    with pytest.raises(MemoryError, match="no room"):
        make(mixture).scan()
    assert threading.active_count() == before


def test_no_more_is_read_than_a_few_batches_ahead(tmp_path):
    write_tar(tmp_path / "a.tar", caption_members(range(600)))
    source = TarPairs(tmp_path / "a.tar").open()
    read = []
    source.image = lambda index, image=source.image: read.append(index) or image(index)
    batches = make([(source, 1.0)], cache=False).batches(0)
    next(batches)
    batches.close()
    assert len(read) <= 16 + 32 * 6


def test_too_little_for_a_batch_is_an_error_that_says_why(tmp_path):
    path = write_tar(
        tmp_path / "a.tar", [("a.png", b"bad"), ("a.txt", b"x"), ("b.png", picture(0)), ("b.txt", b"y")]
    )
    loader = make(Mixture(((TarPairs(path), 1.0),)))
    with pytest.raises(DataError, match=r"fewer usable pairs than one batch, 16 .*1 x picture cannot"):
        list(loader.batches(0))
    with pytest.raises(DataError, match="nothing to load"):
        make([])
    with pytest.raises(DataError, match="batch_size 0"):
        make(Mixture(((TarPairs(path), 1.0),)), batch_size=0)


def test_cut_texts_are_told_of_once(mixture):
    loader = make(mixture)
    loader.batcher.tokenizer = load_tokenizer(TokenizerConfig(context_length=4))
    with pytest.warns(LongTextWarning, match="were cut") as warned:
        list(chain(loader.batches(0), loader.batches(1)))
    assert len(warned) == 1


def test_a_real_shard(shared):
    data = Mixture(((TarPairs(shared / "data" / "flickr8k-train-000000.tar"), 1.0),))
    loader = make(data, batch_size=64, image_size=32)
    a, b = list(islice(loader.batches(0), 2))
    assert not loader.report.skipped
    same(b, next(make(data, batch_size=64, image_size=32, workers=1, cache=False).batches(0, a.positions)))
    assert 0.5 < a.images.std() < 1.5
    assert io.BytesIO(loader.sources[0].image(0)).read(2) == b"\xff\xd8"
