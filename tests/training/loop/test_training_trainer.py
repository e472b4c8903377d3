"""The training loop: convergence, determinism, resume after kills, early stopping, schedules."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from diptych.errors import SaveError, TrainingError, WeightsError
from diptych.training import Listener, Run, TrainConfig, train
from diptych.training.checkpoints.checkpoint import FILE
from diptych.training.data import Mixture, TarStream
from diptych.training.loop.optim import AveragedModel, optimizer, rate
from diptych.training.objectives.objective import Contrastive
from diptych.weights import load_checkpoint
from tests.forked import Forked
from tests.training.data.make_pairs import decode_in_threads
from tests.training.make_runs import TINY, TINY_VIT, config_of, same, weights, write_pairs
from tests.waiting import HANG, pause, wait_until


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tar", 64)


def test_it_learns_to_tell_colours(pairs: Path, tmp_path: Path) -> None:
    losses: list[float] = []

    class Watch(Listener):
        def step(self, report) -> None:  # type: ignore[no-untyped-def]
            losses.append(report.loss)

    summary = train(Run(config_of(pairs, tmp_path / "run", epochs=12, lr=3e-3)), listener=Watch())
    assert summary.finished
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


def test_two_runs_with_one_seed_give_the_same_weights(pairs: Path, tmp_path: Path) -> None:
    for name, seed, workers in (("a", 0, 1), ("b", 0, 3), ("c", 1, 1)):
        train(Run(config_of(pairs, tmp_path / name, seed=seed, workers=workers)))
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", tmp_path / "c")


def test_one_corrupt_record_in_ten_changes_nothing_but_the_report(tmp_path: Path) -> None:
    # The same name for both shards: record keys begin with it, and the order depends on the keys.
    (tmp_path / "clean").mkdir()
    (tmp_path / "dirty").mkdir()
    clean = write_pairs(tmp_path / "clean/pairs.tar", 64)
    dirty = write_pairs(tmp_path / "dirty/pairs.tar", 64, corrupt=9)
    notes: list[str] = []

    class Watch(Listener):
        def note(self, text: str) -> None:
            notes.append(text)

    train(Run(config_of(clean, tmp_path / "a")))
    train(Run(config_of(dirty, tmp_path / "b")), listener=Watch())
    assert same(tmp_path / "a", tmp_path / "b")
    assert any("8 records skipped" in text for text in notes)


def stopped_by_time(config: TrainConfig) -> None:
    summary = train(Run(dataclasses.replace(config, max_minutes=1e-9)))
    assert not summary.finished
    assert "time is up" in summary.reason


@pytest.mark.parametrize("legs", [1, 4])
def test_a_run_in_legs_gives_the_weights_of_one_that_never_stopped(
    pairs: Path, tmp_path: Path, legs: int
) -> None:
    train(Run(config_of(pairs, tmp_path / "whole")))
    config = config_of(pairs, tmp_path / "legs")
    stopped_by_time(config)
    for _ in range(legs - 1):
        train(Run(dataclasses.replace(config, max_minutes=1e-9)), resume=True)
    assert train(Run(config), resume=True).finished
    assert same(tmp_path / "whole", tmp_path / "legs")
    lines = [json.loads(line) for line in (tmp_path / "legs/log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == list(range(1, 13))


def trains(pairs: str, out: str) -> None:
    """In a separate process: start or resume a run."""
    train(Run(config_of(Path(pairs), Path(out))), resume=True)


def start(pairs: Path, out: Path) -> Forked:
    errors = out.with_name(f"{out.name}-errors")
    return Forked("tests.training.loop.test_training_trainer:trains", str(pairs), str(out), errors=errors)


def kill_at_random(pairs: Path, out: Path, draw: random.Random) -> None:
    """Start the run, then kill it at a random instant."""
    process = start(pairs, out)
    try:
        wait_until(lambda: (out / FILE).exists() or process.poll() is not None, "the run has begun")
        pause(draw.uniform(0, 0.3))
    finally:
        process.kill()
        process.wait(HANG)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.soak)])
def test_killed_and_resumed_gives_the_weights_of_never_killed(
    pairs: Path, tmp_path: Path, kills: int
) -> None:
    draw = random.Random(kills)
    for _ in range(kills):
        kill_at_random(pairs, tmp_path / "killed", draw)
    for name in ("killed", "whole"):
        process = start(pairs, tmp_path / name)
        assert process.wait(HANG) == 0, process.errors()
    assert same(tmp_path / "whole", tmp_path / "killed")


def test_the_best_model_on_validation_is_kept_and_a_run_stops_early(pairs: Path, tmp_path: Path) -> None:
    values = iter([0.1, 0.9, 0.3, 0.2, 0.8, 0.8])
    seen: list[int] = []

    def evaluator(model: torch.nn.Module, step: int) -> dict[str, float]:
        assert not model.training
        seen.append(step)
        return {"recall": next(values)}

    config = config_of(pairs, tmp_path / "run", epochs=6, monitor="val/recall", patience=2)
    summary = train(Run(config, {"val": evaluator}))
    assert summary.reason == "no better for a while"
    assert seen == [4, 8, 12, 16]
    training = load_checkpoint(tmp_path / "run").spec.training
    assert training["steps"] == 8
    assert training["metrics"] == {"val/recall": 0.9}


def test_the_best_model_survives_a_resumed_end(pairs: Path, tmp_path: Path) -> None:
    values = iter([0.9, 0.1, 0.2])
    evaluators = {"val": lambda model, step: {"recall": next(values)}}
    config = config_of(pairs, tmp_path / "run", monitor="val/recall")

    class Interrupt(Listener):
        def step(self, report) -> None:  # type: ignore[no-untyped-def]
            if report.step == 9:
                signal.raise_signal(signal.SIGINT)

    first = train(Run(config, evaluators), listener=Interrupt())
    assert (first.finished, first.step) == (False, 9)
    summary = train(Run(config, evaluators), resume=True)
    kept = load_checkpoint(tmp_path / "run")
    assert summary.finished
    assert kept.spec.training["steps"] == 4
    assert summary.identity == first.identity == kept.identity


def test_interrupt_saves_and_the_run_goes_on(pairs: Path, tmp_path: Path) -> None:
    class Interrupt(Listener):
        def step(self, report) -> None:  # type: ignore[no-untyped-def]
            if report.step == 2:
                signal.raise_signal(signal.SIGINT)

    config = config_of(pairs, tmp_path / "run")
    before = signal.getsignal(signal.SIGINT)
    summary = train(Run(config), listener=Interrupt())
    assert (summary.finished, summary.reason, summary.step) == (False, "interrupted", 2)
    assert signal.getsignal(signal.SIGINT) is before
    assert train(Run(config), resume=True).finished


def test_another_config_is_not_resumed(pairs: Path, tmp_path: Path) -> None:
    stopped_by_time(config_of(pairs, tmp_path / "run"))
    with pytest.raises(TrainingError, match=r"lr was 0\.001, is 0\.5"):
        train(Run(config_of(pairs, tmp_path / "run", lr=0.5)), resume=True)


@pytest.mark.parametrize("field", ["augment.drop_words", "same_caption"])
def test_a_field_that_came_later_counts_as_what_it_is_by_default(
    pairs: Path, tmp_path: Path, field: str
) -> None:
    config = config_of(pairs, tmp_path / "run")
    stopped_by_time(config)
    path = tmp_path / "run" / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    del content["config"][field]  # as an earlier version without this field wrote it
    torch.save(content, path)
    other = {"augment.drop_words": "0.5", "same_caption": "negative"}[field]
    with pytest.raises(TrainingError, match=f"another config.*{field}"):
        train(Run(config.override([f"{field}={other}"])), resume=True)
    assert train(Run(config), resume=True).finished


def test_another_number_of_threads_is_warned_about(pairs: Path, tmp_path: Path) -> None:
    stopped_by_time(config_of(pairs, tmp_path / "run"))
    with pytest.warns(UserWarning, match="threads was 1, is 2"):
        train(Run(config_of(pairs, tmp_path / "run", threads=2)), resume=True)


def test_a_run_is_not_overwritten(pairs: Path, tmp_path: Path) -> None:
    stopped_by_time(config_of(pairs, tmp_path / "run"))
    with pytest.raises(TrainingError, match="add --resume"):
        train(Run(config_of(pairs, tmp_path / "run")))


def test_a_broken_checkpoint_is_refused(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / FILE).write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match="cannot be read"):
        train(Run(config_of(pairs, tmp_path / "run")), resume=True)


def test_no_space_while_saving_is_said(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A real limit on file sizes: torch's writer turns it into its own RuntimeError.
    config = config_of(pairs, tmp_path / "run")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(SaveError, match="No space left"):
            train(Run(config))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not (tmp_path / "run" / FILE).exists()


def test_a_loss_that_is_no_number_ends_the_run(pairs: Path, tmp_path: Path) -> None:
    config = config_of(pairs, tmp_path / "run", lr=1e30, warmup=0, clip=0.0)
    with pytest.raises(TrainingError, match="diverged"):
        train(Run(config))


def test_fewer_pairs_than_a_batch_is_said(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="smaller batch_size"):
        train(Run(config_of(pairs, tmp_path / "run", batch_size=65)))


def test_the_sigmoid_loss_trains_a_model_with_a_bias(pairs: Path, tmp_path: Path) -> None:
    shape = dataclasses.replace(TINY, init_logit_bias=-5.0)
    assert train(Run(config_of(pairs, tmp_path / "run", loss="sigmoid", model=shape))).finished
    assert load_checkpoint(tmp_path / "run").state["logit_bias"] != -5.0


def test_the_sigmoid_loss_needs_a_bias(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="init_logit_bias"):
        train(Run(config_of(pairs, tmp_path / "run", loss="sigmoid")))


def test_the_scale_never_exceeds_its_limit(pairs: Path, tmp_path: Path) -> None:
    shape = dataclasses.replace(TINY, init_logit_scale=float(np.log(99.9)))
    train(Run(config_of(pairs, tmp_path / "run", model=shape, lr=0.1, ema=0.0)))
    assert weights(tmp_path / "run")["logit_scale"].exp() <= 100.001


def test_texts_padded_or_shared_train_alike(pairs: Path, tmp_path: Path) -> None:
    for share in (True, False):
        train(Run(config_of(pairs, tmp_path / str(share), share_text=share, epochs=1)))
    single, other = weights(tmp_path / "True"), weights(tmp_path / "False")
    for name in single:
        torch.testing.assert_close(single[name], other[name], atol=2e-3, rtol=1e-2)


def test_pictures_grow_over_the_epochs(pairs: Path, tmp_path: Path) -> None:
    config = config_of(pairs, tmp_path / "run", epochs=4, image_sizes=((0.5, 32), (0.25, 48), (0.25, 64)))
    assert [config.side(epoch) for epoch in range(4)] == [32, 32, 48, 64]
    assert train(Run(config)).finished


def test_weight_decay_leaves_gains_biases_and_scale_alone() -> None:
    from diptych.model.initialise import build

    model = build(TINY, seed=0)
    groups = optimizer(Contrastive(model), config_of(Path("x"), Path("y"))).param_groups
    names = {id(p): n for n, p in model.named_parameters()}
    decayed, free, numbers = ({names[id(p)] for p in group["params"]} for group in groups)
    assert [group["weight_decay"] for group in groups] == [0.2, 0.0, 0.0]
    assert numbers == {"logit_scale"}
    free |= numbers
    assert "visual.conv1.weight" in decayed
    assert {"logit_scale", "ln_final.weight", "ln_final.bias", "visual.bn1.weight"} <= free
    assert decayed | free == set(names.values())


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    rates = [rate(step, 50, max_rate=2.0, warmup=10) for step in range(50)]
    assert max(rates) == 2.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.01
    level = [rate(step, None, max_rate=2.0, warmup=10) for step in range(50)]
    assert level == rates[:10] + [2.0] * 40


def test_the_middle_of_a_run_at_one_rate_is_the_end_of_a_shorter_one(pairs: Path, tmp_path: Path) -> None:
    result: dict[int, list[torch.Tensor]] = {2: [], 3: []}
    for epochs, kept in result.items():

        def keep(model: torch.nn.Module, step: int, kept: list[torch.Tensor] = kept) -> dict[str, float]:
            kept.append(torch.cat([p.detach().flatten().clone() for p in model.parameters()]))
            return {}

        config = config_of(pairs, tmp_path / str(epochs), epochs=epochs, warmup=1, schedule="constant")
        train(Run(config, {"kept": keep}))
    assert torch.equal(result[2][-1], result[3][1])
    assert not torch.equal(result[2][-1], result[3][-1])


def test_a_run_at_one_rate_can_be_extended_and_is_then_what_a_longer_one_is(
    pairs: Path, tmp_path: Path
) -> None:
    # A warmup that the short run shortens stays that short: the first leg has used it.
    level = {"schedule": "constant", "warmup": 1}
    train(Run(config_of(pairs, tmp_path / "long", epochs=3, **level)))
    train(Run(config_of(pairs, tmp_path / "run", epochs=1, **level)))
    summary = train(Run(config_of(pairs, tmp_path / "run", epochs=3, **level)), resume=True)
    assert (summary.finished, summary.step) == (True, 12)
    assert same(tmp_path / "run", tmp_path / "long")
    train(Run(config_of(pairs, tmp_path / "cosine", epochs=1)))
    with pytest.raises(TrainingError, match=r"epochs was 1, is 3.*schedule=constant can be extended"):
        train(Run(config_of(pairs, tmp_path / "cosine", epochs=3)), resume=True)


def test_the_average_follows_weights_and_running_statistics() -> None:
    layer = torch.nn.BatchNorm1d(2)
    average = AveragedModel(copy.deepcopy(layer), decay=0.5)
    with torch.no_grad():
        layer.weight.fill_(3.0)
        layer.running_mean.fill_(4.0)
    average.update(layer, step=10_000)
    torch.testing.assert_close(average.model.weight, torch.full((2,), 2.0))
    torch.testing.assert_close(average.model.running_mean, torch.full((2,), 2.0))


def test_an_early_stop_stays_a_stop(pairs: Path, tmp_path: Path) -> None:
    values = iter([0.9, 0.1, 0.1, 0.1, 0.1])
    evaluators = {"val": lambda model, step: {"recall": next(values)}}
    config = config_of(pairs, tmp_path / "run", epochs=5, monitor="val/recall", patience=2)
    first = train(Run(config, evaluators))
    again = train(Run(config, evaluators), resume=True)
    assert (first.step, again.step) == (12, 12)
    assert again.reason == "no better for a while"
    assert again.metrics == {"val/recall": 0.9}


def test_a_failing_evaluator_loses_no_step(pairs: Path, tmp_path: Path) -> None:
    def broken(model: torch.nn.Module, step: int) -> dict[str, float]:
        raise ZeroDivisionError

    config = config_of(pairs, tmp_path / "run", checkpoint_every=1000)
    with pytest.raises(ZeroDivisionError):
        train(Run(config, {"val": broken}))
    steps: list[int] = []
    train(Run(config, {"val": lambda model, step: steps.append(step) or {}}), resume=True)
    assert steps == [4, 8, 12]
    train(Run(config_of(pairs, tmp_path / "whole")))
    assert same(tmp_path / "run", tmp_path / "whole")


def test_a_monitor_of_no_evaluator_is_refused_at_once(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="names no evaluator"):
        train(Run(config_of(pairs, tmp_path / "run", monitor="val/recall")))


def test_a_run_begins_with_the_weights_of_another(pairs: Path, tmp_path: Path) -> None:
    first = train(Run(config_of(pairs, tmp_path / "first")))
    # At rate 0 the result has the initial weights, and so has the averaged copy.
    settings = {"start": str(tmp_path / "first"), "lr": 1e-30, "weight_decay": 0.0, "seed": 5}
    train(Run(config_of(pairs, tmp_path / "more", **settings)))
    single, other = weights(tmp_path / "first"), weights(tmp_path / "more")
    for name in single:
        if "running" not in name and "batches" not in name:  # the running statistics still change
            torch.testing.assert_close(single[name], other[name])
    assert load_checkpoint(tmp_path / "more").spec.training["start"] == first.identity
    assert "start" not in load_checkpoint(tmp_path / "first").spec.training


def test_a_resumed_run_does_not_begin_again(pairs: Path, tmp_path: Path) -> None:
    train(Run(config_of(pairs, tmp_path / "first")))
    start = str(tmp_path / "first")
    train(Run(config_of(pairs, tmp_path / "whole", start=start, seed=5)))
    config = config_of(pairs, tmp_path / "legs", start=start, seed=5)
    stopped_by_time(config)
    assert train(Run(config), resume=True).finished
    assert same(tmp_path / "legs", tmp_path / "whole")


def test_weights_of_another_shape_or_other_ids_are_no_beginning(pairs: Path, tmp_path: Path) -> None:
    train(Run(config_of(pairs, tmp_path / "first")))
    wider = dataclasses.replace(TINY, embed_dim=32)
    with pytest.raises(WeightsError, match="does not fit the architecture"):
        train(Run(config_of(pairs, tmp_path / "wider", model=wider, start=str(tmp_path / "first"))))
    fewer = dataclasses.replace(TINY, text=dataclasses.replace(TINY.text, vocab_size=1000))
    with pytest.raises(TrainingError, match="another tokenizer"):
        train(Run(config_of(pairs, tmp_path / "fewer", model=fewer, start=str(tmp_path / "first"))))


@pytest.mark.parametrize("corrupt", [0, 4])
def test_the_rate_of_a_stream_falls_to_zero_at_its_end_and_a_run_off_its_plan_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corrupt: int
) -> None:
    decode_in_threads(monkeypatch)
    for number, size in enumerate((8, 48, 48)):
        write_pairs(tmp_path / f"{number}.tar", size, corrupt=corrupt)
    rates: list[float] = []
    notes: list[str] = []

    class Noted(Listener):
        def step(self, report) -> None:  # type: ignore[no-untyped-def]
            rates.append(report.lr)

        def note(self, text: str) -> None:
            notes.append(text)

    stream = TarStream(str(tmp_path / "{0..2}.tar"), block=16, wait=0.0)
    data = Mixture(((stream, 1.0),))
    config = config_of(tmp_path, tmp_path / "run", data=data, batch_size=8, epochs=1, model=TINY_VIT)
    summary = train(Run(config), listener=Noted())
    assert summary.step == len(rates) == 13
    off = [text for text in notes if "which was planned for step" in text]
    if corrupt:  # detected only by decoding
        (text,) = off
        assert text.startswith(
            "epoch 1 ended after step 13, which was planned for step 16 (26 records skipped: 26 x picture "
            "cannot be decoded (the first: 0/bad0000: "
        )
        assert text.endswith("): the schedule still ends at step 16")
    else:
        assert off == []
        assert rates[-1] == min(rates) == pytest.approx(rate(12, 13, max_rate=config.lr, warmup=2))
