"""TorchScript archives and pickles: valid ones load without torch.jit, malicious ones execute nothing."""

from __future__ import annotations

import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import WeightsError
from diptych.model.clip import CLIP
from diptych.model.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.model.initialise import build
from diptych.weights import load_checkpoint
from diptych.weights.openai.archive import is_torchscript, read_archive
from diptych.weights.openai.tensor_pickles import ArchiveReader

TEXT = TextConfig(context_length=16, vocab_size=520, width=64, heads=1, layers=1)
CONFIGS = {
    "vit": CLIPConfig(
        embed_dim=32,
        vision=ViTConfig(image_size=32, patch_size=16, width=64, layers=2),
        text=TEXT,
        activation="quick_gelu",
    ),
    "resnet": CLIPConfig(
        embed_dim=32,
        vision=ResNetConfig(image_size=64, layers=(1, 2, 1, 1), width=8),
        text=TEXT,
        activation="quick_gelu",
    ),
}


def openai_halves(model: CLIP) -> CLIP:
    """Half precision for the same weights as in OpenAI's files: convolutions, linear and attention layers."""
    for name, parameter in model.named_parameters():
        if not any(part in name for part in ("ln_", "bn", "downsample.1", "embedding", "logit_scale")):
            parameter.data = parameter.data.half()
    return model


def archive_of(kind: str, path: Path) -> dict[str, torch.Tensor]:
    """Write a file like those released by OpenAI, and return its contents."""
    # Traced in float32: half precision is only stored, and a traced module saves its current weights.
    model = build(CONFIGS[kind], seed=0).eval()
    for name, value in (("input_resolution", 32), ("context_length", 16), ("vocab_size", 520)):
        model.register_buffer(name, torch.tensor(value))
    side = CONFIGS[kind].vision.image_size
    example = {
        "encode_image": (torch.rand(1, 3, side, side),),
        "encode_text": (torch.tensor([[518, 5, 519]]),),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and tracing warns about shapes
        traced = torch.jit.trace_module(model, example, check_trace=False)
        openai_halves(traced)
        torch.jit.save(traced, str(path))
    return {name: tensor.detach().clone() for name, tensor in traced.state_dict().items()}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, torch.Tensor]]]:
    folder = tmp_path_factory.mktemp("archives")
    return {kind: (folder / f"{kind}.pt", archive_of(kind, folder / f"{kind}.pt")) for kind in CONFIGS}


def forbid(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("this must not run")


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_an_archive_loads_without_torch_jit(
    archives: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, held = archives[kind]
    for name in ("load", "_load_for_lite_interpreter"):
        monkeypatch.setattr(torch.jit, name, forbid, raising=False)
    monkeypatch.setattr(torch, "load", forbid)
    monkeypatch.setattr(pickle, "Unpickler", forbid)
    checkpoint = load_checkpoint(path)
    assert checkpoint.spec.architecture == CONFIGS[kind]
    assert checkpoint.spec.preprocess.size == CONFIGS[kind].vision.image_size
    assert checkpoint.spec.tokenizer.vocab_size == 520
    for name, tensor in checkpoint.state.items():
        assert tensor.dtype == held[name].dtype, name
        assert torch.equal(tensor, held[name]), name
    assert {"input_resolution", "context_length", "vocab_size"} == set(held) - set(checkpoint.state)
    assert checkpoint.state["visual.conv1.weight"].dtype == torch.float16
    assert checkpoint.state["logit_scale"].dtype == torch.float32


def test_an_archive_of_another_architecture(archives: Any) -> None:
    with pytest.raises(WeightsError, match="does not fit the architecture"):
        load_checkpoint("ViT-B-32", archives["vit"][0])


def test_views_and_strides_are_kept(tmp_path: Path) -> None:
    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            base = torch.arange(24.0)
            self.register_buffer("whole", base)
            self.register_buffer("turned", base[4:16].reshape(3, 4).T)
            self.register_buffer("row", base[20:])
            self.register_buffer("brain", torch.ones(2, 2, dtype=torch.bfloat16))
            self.register_buffer("empty", torch.zeros(0, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.whole.sum()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Module(), torch.zeros(1))
        torch.jit.save(traced, str(tmp_path / "a.pt"))
    state = read_archive(tmp_path / "a.pt")
    expected = Module().state_dict()
    assert set(state) == set(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert state["brain"].dtype == torch.bfloat16


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    """A copy of an archive with all entries passed through `change`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            entry = change(info.filename, old.read(info))
            if entry is not None:
                new.writestr(zipfile.ZipInfo(entry[0]), entry[1])
    return target


def in_pickle(old: bytes, new: bytes) -> Callable[[str, bytes], tuple[str, bytes]]:
    def change(name: str, data: bytes) -> tuple[str, bytes]:
        if not name.endswith("/data.pkl"):
            return name, data
        assert old in data
        return name, data.replace(old, new, 1)

    return change


class Bomb:
    """An object whose pickle calls os.mkdir, like a malicious file."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_bomb_in_an_archive_is_refused_and_not_run(archives: Any, tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "ran"
    bomb = pickle.dumps(Bomb(target), protocol=protocol)

    def change(name: str, data: bytes) -> tuple[str, bytes]:
        return name, bomb if name.endswith("/data.pkl") else data

    path = rewritten(archives["vit"][0], tmp_path / "bomb.pt", change)
    assert is_torchscript(path)
    with pytest.raises(WeightsError, match="nothing in it was run"):
        load_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (b"ccollections\nOrderedDict\n", b"cos\nsystem\n", "os.system"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n", b"cbuiltins\neval\n", "builtins.eval"),
        (b"ctorch\nLongStorage\n", b"cnumpy\nLongStorage\n", "numpy.LongStorage"),
        (b"c__torch__.", b"c__nowhere__.", "__nowhere__"),
    ],
)
def test_other_names_are_refused_by_name(
    archives: Any, tmp_path: Path, old: bytes, new: bytes, named: str
) -> None:
    path = rewritten(archives["vit"][0], tmp_path / "a.pt", in_pickle(old, new))
    with pytest.raises(WeightsError, match=named):
        load_checkpoint(path)


def test_lying_counts_are_refused(archives: Any, tmp_path: Path) -> None:
    """The first storage claims more numbers than its record has; the first tensor more than its storage."""
    data = zipfile.ZipFile(archives["vit"][0]).read("vit/data.pkl")
    count = data.index(b"M", data.index(b"cpu"))
    assert data[count : count + 1] == b"M"
    lying = data[:count] + b"J" + struct.pack("<i", 2**31 - 1) + data[count + 3 :]
    path = rewritten(archives["vit"][0], tmp_path / "a.pt", in_pickle(data, lying))
    with pytest.raises(WeightsError, match=r"storage \d+ has \d+ bytes, the pickle claims"):
        load_checkpoint(path)


def test_a_tensor_larger_than_its_storage_is_refused() -> None:
    for size, stride in (((2**40,), (0,)), ((5,), (1,)), ((2, 2), (3, 1)), ((4,), (-1,))):
        with pytest.raises(WeightsError):
            ArchiveReader(tensor_pickle(size, stride, count=4), Path("a.pt")).read()
    assert ArchiveReader(tensor_pickle((2, 2), (2, 1), count=4), Path("a.pt")).read().size == (2, 2)


def tensor_pickle(size: tuple[int, ...], stride: tuple[int, ...], count: int) -> bytes:
    """The instructions for one tensor, as TorchScript writes them."""

    def numbers(values: tuple[int, ...]) -> bytes:
        packed = [value.to_bytes(8, "little", signed=True) for value in values]
        return b"(" + b"".join(b"\x8a\x08" + value for value in packed) + b"t"

    def text(value: bytes) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value

    storage = (
        b"("
        + text(b"storage")
        + b"ctorch\nFloatStorage\n"
        + text(b"0")
        + text(b"cpu")
        + numbers((count,))[1:-1]
    )
    hooks = b"ccollections\nOrderedDict\n)R"
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(("
        + storage[1:]
        + b"tQK\x00"
        + numbers(size)
        + numbers(stride)
        + b"\x89"
        + hooks
        + b"tR."
    )


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/x", "vit/../../x"])
def test_names_that_point_outside_are_refused(archives: Any, tmp_path: Path, name: str) -> None:
    def change(entry: str, data: bytes) -> tuple[str, bytes]:
        return (name, data) if entry.endswith("/version") else (entry, data)

    path = rewritten(archives["vit"][0], tmp_path / "a.pt", change)
    with pytest.raises(WeightsError, match="outside"):
        load_checkpoint(path)


def test_missing_and_endless_parts(archives: Any, tmp_path: Path) -> None:
    source = archives["vit"][0]

    def lose(name: str, data: bytes) -> tuple[str, bytes] | None:
        return None if name.endswith("/data/3") else (name, data)

    with pytest.raises(WeightsError, match="storage 3 is missing"):
        load_checkpoint(rewritten(source, tmp_path / "lost.pt", lose))
    # A module that contains itself: memo 1 is the module, and BINGET adds it to its own attributes.
    endless = b"\x80\x02c__torch__.A\nB\nq\x00)\x81q\x01}(X\x01\x00\x00\x00ah\x01ub."
    path = rewritten(source, tmp_path / "a.pt", lambda n, d: (n, endless if n.endswith("/data.pkl") else d))
    with pytest.raises(WeightsError, match="without end"):
        load_checkpoint(path)


@pytest.mark.parametrize("record", ["byteorder", "data.pkl"])
def test_packed_records_are_refused_before_they_are_unpacked(
    archives: Any, tmp_path: Path, record: str
) -> None:
    """A few kilobytes of a zip expand to megabytes: sizes are checked first, and nothing is decompressed."""
    data = b"little" + bytes(1 << 20) if record == "byteorder" else None
    for packed, item in ((zipfile.ZIP_DEFLATED, "compressed" if data is None else "claims 1048582 bytes"),):
        with (
            zipfile.ZipFile(archives["vit"][0]) as old,
            zipfile.ZipFile(tmp_path / "a.pt", "w") as new,
        ):
            for info in old.infolist():
                named = info.filename == f"vit/{record}"
                content = data if named and data is not None else old.read(info)
                new.writestr(zipfile.ZipInfo(info.filename), content, packed if named else None)
            if f"vit/{record}" not in new.namelist():
                new.writestr(zipfile.ZipInfo(f"vit/{record}"), data or b"", packed)
        with pytest.raises(WeightsError, match=f"{record}.*{item}"):
            read_archive(tmp_path / "a.pt")


def sharing(path: Path, names: int) -> Path:
    """A module of many tensors that share one storage of four numbers."""
    tensor = tensor_pickle((4,), (1,), count=4)[2:-1]
    items = b"".join(b"X\x01\x00\x00\x00" + bytes([97 + n]) + tensor for n in range(names))
    data = b"\x80\x02c__torch__.A\nB\n)\x81}(" + items + b"ub."
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (("data.pkl", data), ("constants.pkl", b""), ("data/0", bytes(16))):
            archive.writestr(zipfile.ZipInfo(f"a/{name}"), content)
    return path


def test_many_tensors_of_one_storage_are_refused(tmp_path: Path) -> None:
    assert set(read_archive(sharing(tmp_path / "a.pt", 2))) == {"a", "b"}
    with pytest.raises(WeightsError, match="claim 48 bytes of storages that have 16"):
        read_archive(sharing(tmp_path / "a.pt", 3))


def test_a_module_reached_twice_is_refused(tmp_path: Path) -> None:
    """Thirty levels that contain the next one twice each would give a thousand million names."""
    tensor = tensor_pickle((4,), (1,), count=4)[2:-1]
    inner = b"c__torch__.A\nB\n)\x81q\x07}(X\x01\x00\x00\x00w" + tensor + b"ub"
    data = b"\x80\x02c__torch__.A\nB\n)\x81}(X\x01\x00\x00\x00a" + inner + b"X\x01\x00\x00\x00bh\x07ub."
    sharing(tmp_path / "a.pt", 1)
    path = rewritten(
        tmp_path / "a.pt", tmp_path / "b.pt", lambda n, d: (n, data if n.endswith("/data.pkl") else d)
    )
    with pytest.raises(WeightsError, match="'b' is reached twice"):
        read_archive(path)


def test_a_truncated_archive(archives: Any, tmp_path: Path) -> None:
    data = archives["vit"][0].read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match=r"cut\.pt"):
        load_checkpoint("ViT-B-32", tmp_path / "cut.pt")


def test_a_flipped_bit_in_the_weights_is_noticed(archives: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(archives["vit"][0]) as archive:
        info = archive.getinfo("vit/data/0")
        start = info.header_offset + 200
    data = bytearray(archives["vit"][0].read_bytes())
    data[start] ^= 1
    (tmp_path / "flipped.pt").write_bytes(data)
    with pytest.raises(WeightsError):
        load_checkpoint(tmp_path / "flipped.pt")


@settings(max_examples=300)
@given(data=st.data())
def test_mutated_pickles_raise_weights_errors_only(archives: Any, data: st.DataObject) -> None:
    original = _pickle_of(archives["vit"][0])
    mutated = bytearray(original)
    for _ in range(data.draw(st.integers(1, 5))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(mutated)))
    try:
        ArchiveReader(bytes(mutated[cut:] if data.draw(st.booleans()) else mutated), Path("a.pt")).read()
    except WeightsError as error:
        assert len(str(error)) < 1000  # noqa: PT017 (no error is right too)


def _pickle_of(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(f"{path.stem}/data.pkl")


@settings(max_examples=100)
@given(data=st.data())
def test_mutated_archives_raise_weights_errors_only(archives: Any, data: st.DataObject) -> None:
    source = archives["vit"][0]
    mutated = bytearray(source.read_bytes())
    # The table of contents at the end of the file is the most sensitive part.
    lowest = data.draw(st.sampled_from([0, len(mutated) - 8000]))
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(lowest, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    path = source.with_name("mutated.pt")
    path.write_bytes(mutated)
    if is_torchscript(path):
        try:
            load_checkpoint(path)
        except WeightsError as error:
            assert str(path) in str(error)  # noqa: PT017


def test_a_bomb_in_a_torch_file_is_refused_and_not_run(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    for zipped in (True, False):
        torch.save({"state_dict": Bomb(target)}, tmp_path / "bomb.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(WeightsError, match=r"mkdir.*nothing in it was run"):
            load_checkpoint("ViT-B-32", tmp_path / "bomb.pt")
    (tmp_path / "plain.bin").write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(WeightsError):
        load_checkpoint("ViT-B-32", tmp_path / "plain.bin")
    assert not target.exists()
