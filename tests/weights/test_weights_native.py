"""Diptych's own weight format: round trips, tampering detected by name, atomic saves."""

from __future__ import annotations

import contextlib
import errno
import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import ChecksumError, SaveError, UnknownModelError, WeightsError
from diptych.files.disk import write_atomically
from diptych.inputs.config import PreprocessConfig, TokenizerConfig
from diptych.model.initialise import build
from diptych.model.presets.table import preset
from diptych.weights import ModelSpec, identity_of, load_checkpoint, native, save_checkpoint, to_diptych
from diptych.weights.fitting import fit

TINY = preset("diptych-tiny")
SPEC = ModelSpec(
    name="toy",
    architecture=TINY,
    preprocess=PreprocessConfig(size=32),
    tokenizer=TokenizerConfig(vocab_size=8192, context_length=32),
    licence="MIT",
    source="a test",
    training={"epochs": 3, "data": ["a", "b"]},
)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in build(TINY, seed=0).state_dict().items()}


@pytest.fixture
def saved(tmp_path: Path, state: dict[str, torch.Tensor]) -> Path:
    save_checkpoint(tmp_path / "run", SPEC, state)
    return tmp_path / "run"


def test_round_trip_is_bit_exact(saved: Path, state: dict[str, torch.Tensor]) -> None:
    loaded = load_checkpoint(saved)
    assert loaded.spec == SPEC
    assert loaded.folder == saved
    assert set(loaded.state) == set(state)
    assert all(torch.equal(loaded.state[name], state[name]) for name in state)
    assert loaded.identity == identity_of(SPEC, state)
    assert loaded.identity.startswith("sha256:")


def test_a_run_folder_may_hold_the_model_in_a_folder_of_its_own(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    identity = save_checkpoint(tmp_path / "mine" / "model", SPEC, state)
    assert load_checkpoint(tmp_path / "mine").identity == identity
    assert load_checkpoint(f"local-dir:{tmp_path / 'mine'}").identity == identity


def test_half_precision_on_disk_keeps_counters_whole(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_checkpoint(tmp_path, SPEC, state, dtype=torch.float16)
    loaded = load_checkpoint(tmp_path).state
    assert loaded["visual.conv1.weight"].dtype == torch.float16
    assert loaded["visual.bn1.num_batches_tracked"].dtype == torch.int64
    assert torch.equal(loaded["logit_scale"], state["logit_scale"].half())


def test_tied_and_strided_weights_can_be_saved(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    save_checkpoint(tmp_path, SPEC, {"a": base, "b": base, "c": base.T, "d": base[1]})
    loaded = native.read_safetensors(tmp_path / "model.safetensors")
    assert torch.equal(loaded["b"], base)
    assert torch.equal(loaded["c"], base.T)
    assert torch.equal(loaded["d"], base[1])


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("architecture", lambda c: c["architecture"].update(activation="quick_gelu")),
        ("preprocess", lambda c: c["preprocess"].update(mean=[0.5, 0.5, 0.5])),
        ("tokenizer", lambda c: c["tokenizer"].update(clean="none")),
        ("description", lambda c: c.update(licence="public domain")),
        ("description", lambda c: c["training"].update(epochs=30)),
    ],
)
def test_a_changed_part_is_refused_by_name(saved: Path, part: str, change: object) -> None:
    content = json.loads((saved / "diptych.json").read_text())
    change(content)  # type: ignore[operator]
    (saved / "diptych.json").write_text(json.dumps(content))
    with pytest.raises(ChecksumError, match=rf"{part} changed"):
        load_checkpoint(saved)


def test_changed_weights_are_refused_by_name(saved: Path) -> None:
    data = bytearray((saved / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (saved / "model.safetensors").write_bytes(data)
    with pytest.raises(ChecksumError, match="weights changed"):
        load_checkpoint(saved)


def test_a_changed_identity_is_refused(saved: Path) -> None:
    content = json.loads((saved / "diptych.json").read_text())
    content["identity"] = "sha256:" + "0" * 64
    (saved / "diptych.json").write_text(json.dumps(content))
    with pytest.raises(ChecksumError, match="identity"):
        load_checkpoint(saved)


def test_the_tokenizer_file_is_part_of_the_identity(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    table = tmp_path / "tokenizer.json"
    table.write_text('{"version": "1.0"}')
    spec = ModelSpec.from_dict(
        {
            **SPEC.to_dict(),
            "tokenizer": TokenizerConfig(
                kind="file", file="tokenizer.json", vocab_size=8192, context_length=32
            ).to_dict(),
        }
    )
    save_checkpoint(tmp_path / "run", spec, state, extra_files=[table])
    assert load_checkpoint(tmp_path / "run").spec.tokenizer.file == "tokenizer.json"
    (tmp_path / "run" / "tokenizer.json").write_text('{"version": "2.0"}')
    with pytest.raises(ChecksumError, match="tokenizer changed"):
        load_checkpoint(tmp_path / "run")
    (tmp_path / "run" / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match=r"tokenizer\.json"):
        load_checkpoint(tmp_path / "run")


def test_a_tokenizer_file_elsewhere_is_refused(saved: Path) -> None:
    content = json.loads((saved / "diptych.json").read_text())
    content["tokenizer"].update(kind="file", file="../../etc/passwd")
    (saved / "diptych.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError):
        load_checkpoint(saved)


def test_description_stays_out_of_the_identity(state: dict[str, torch.Tensor]) -> None:
    other = ModelSpec.from_dict({**SPEC.to_dict(), "source": "elsewhere"})
    assert identity_of(other, state) == identity_of(SPEC, state)


def test_a_diverged_loss_can_be_saved(tmp_path: Path) -> None:
    spec = ModelSpec.from_dict({**SPEC.to_dict(), "training": {"loss": float("nan")}})
    save_checkpoint(tmp_path, spec, {"a": torch.zeros(1)})
    assert native.read_checkpoint(tmp_path).spec.training == {"loss": None}


@pytest.mark.parametrize("when", ["weights", "spec"])
def test_killed_between_the_two_renames(
    saved: Path, state: dict[str, torch.Tensor], when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save killed at either rename leaves the complete old model or the complete new one."""
    old = load_checkpoint(saved).identity
    changed = {**state, "logit_scale": torch.tensor(4.0)}
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if Path(target).name == ("model.safetensors" if when == "weights" else "diptych.json"):
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(saved, SPEC, changed)
    monkeypatch.undo()
    expected = old if when == "weights" else identity_of(SPEC, changed)
    assert load_checkpoint(saved).identity == expected
    assert not list(saved.glob(".*.part"))


def test_no_space_while_saving(saved: Path, state: dict[str, torch.Tensor]) -> None:
    """A real limit on file sizes, which acts like a full device."""
    before = load_checkpoint(saved).identity
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(SaveError, match=r"cannot write .*model\.safetensors"):
            save_checkpoint(saved, SPEC, {**state, "logit_scale": torch.tensor(4.0)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert load_checkpoint(saved).identity == before
    assert sorted(p.name for p in saved.iterdir()) == ["diptych.json", "model.safetensors"]


def test_no_space_for_a_plain_file(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SaveError, match="No space left"):
        write_atomically(tmp_path / "a.json", full)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="cannot write"):
        save_checkpoint(tmp_path / "file" / "run", SPEC, {"a": torch.zeros(1)})


def test_truncated_weights(saved: Path) -> None:
    data = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match="safetensors"):
        load_checkpoint(saved)


def test_a_later_format_is_refused(saved: Path) -> None:
    content = json.loads((saved / "diptych.json").read_text())
    (saved / "diptych.json").write_text(json.dumps({**content, "format": 2}))
    with pytest.raises(WeightsError, match="format 2"):
        load_checkpoint(saved)


@settings(max_examples=60)
@given(data=st.data())
def test_a_broken_description_is_always_a_weights_error(data: st.DataObject) -> None:
    values = SPEC.to_dict()
    where = data.draw(
        st.sampled_from([values, values["architecture"], values["preprocess"], values["tokenizer"]])
    )
    key = data.draw(st.sampled_from([*where, "surprise"]))
    junk = st.one_of(
        st.none(), st.integers(), st.floats(), st.text(max_size=4), st.lists(st.integers(), max_size=3)
    )
    where[key] = data.draw(st.one_of(junk, st.dictionaries(st.text(max_size=3), junk, max_size=2)))
    with contextlib.suppress(WeightsError):
        ModelSpec.from_dict(values)


def test_the_default_model_or_a_clear_word() -> None:
    try:
        assert load_checkpoint().state
    except UnknownModelError as error:
        assert "default" in str(error)  # noqa: PT017 (either is right, depending on the installation)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            {"preprocess": PreprocessConfig(size=224)},
            "image size 224 in its preprocessing, its encoder takes 32",
        ),
        (
            {"tokenizer": TokenizerConfig(vocab_size=8192)},
            "context length 77 in its tokenizer, its encoder takes 32",
        ),
        ({"tokenizer": TokenizerConfig(context_length=32)}, "49408 ids, its encoder has embeddings for 8192"),
    ],
)
def test_parts_that_do_not_belong_together(part: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        ModelSpec(name="toy", architecture=TINY, **part)


def test_strict_fit(state: dict[str, torch.Tensor]) -> None:
    assert set(fit(TINY, state)) == set(state)
    counters = {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}
    assert set(fit(TINY, counters)) == set(state)
    vector = {**state, "logit_scale": state["logit_scale"].reshape(1)}
    assert fit(TINY, vector)["logit_scale"].shape == ()


def test_misfits_are_named(state: dict[str, torch.Tensor]) -> None:
    broken = {**state, "surprise": torch.zeros(1), "ln_final.weight": torch.zeros(3)}
    del broken["positional_embedding"]
    with pytest.raises(WeightsError) as caught:
        fit(TINY, broken, source="toy.pt")
    message = str(caught.value)
    assert "toy.pt" in message
    assert "1 missing positional_embedding" in message
    assert "1 unexpected surprise" in message
    assert "ln_final.weight is 3, expected 128" in message


def test_the_right_architecture_is_named(state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(WeightsError, match="fits diptych-tiny"):
        fit(preset("RN50"), state)


def test_absurd_depth_is_refused_without_building(state: dict[str, torch.Tensor]) -> None:
    values = TINY.to_dict()
    values["text"]["layers"] = 10**9
    with pytest.raises(WeightsError, match="too few"):
        fit(type(TINY).from_dict(values), state)


def test_files_may_be_read_by_whom_the_umask_lets(saved: Path) -> None:
    (saved / "usual").touch()
    for name in ("model.safetensors", "diptych.json"):
        assert (saved / name).stat().st_mode == (saved / "usual").stat().st_mode


def test_half_precision_is_half_the_size(saved: Path, tmp_path: Path) -> None:
    to_diptych(load_checkpoint(saved), tmp_path / "half", half=True)
    loaded = load_checkpoint(tmp_path / "half")
    assert loaded.state["token_embedding.weight"].dtype == torch.float16
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tmp_path / "half", saved)]
    assert sizes[0] < 0.55 * sizes[1]
